"""How a page comes by its token: a code that is good once, and a token that can be renewed.

Owns codes (in Redis, by their hash, gone after a minute or with that Redis) and the tokens that
pages have, which end with their session. Only where this server signs tokens itself. Knows no
route. Called by `livecart.api.entrance`; `link` by `up` and the command line.
"""

from __future__ import annotations

import hashlib
import http.client
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast
from urllib.parse import urlsplit

import jwt
import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from livecart.auth import NOT_A_TOKEN
from livecart.settings import AuthSettings
from orders.stock.cluster import ClusterClient
from streams.calls import command
from streams.codes import Code
from streams.ports import Identity, Refused
from streams.protocol import TOKEN_BYTES_MAX

CODE_TTL_S = 60
CODE_BYTES = 16
AGAIN_S = 60  # for which who traded a code may trade it again: the answer may have been lost
TOKEN_TTL_S = 4 * 3600
SESSION = "ses"  # the claim that makes a token a page's: when its session ends, in seconds
CALL_TIMEOUT_S = 10.0


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """What a code is traded for."""

    sub: str
    role: str
    name: str | None
    shop: str | None
    streams: list[str] | None
    ttl_s: int  # of a token
    until_s: int | None  # no session outlasts who gave it; None: he may give as he likes


#: A code's grant, to whom it has come first: `once`, a space and the grant are kept after that, and
#: nothing where there is no such word.
_TRADE = """
local kept = redis.call('GET', KEYS[1])
if not kept then return nil end
local once, grant = string.match(kept, '^([^ {]+) (.*)$')
if not once then
    if ARGV[1] == '' then
        redis.call('DEL', KEYS[1])
    else
        redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. kept, 'PX', ARGV[2])
    end
    return kept
end
if once == ARGV[1] then return grant end
return nil
"""


class Entrance:
    """Makes codes and takes them, makes tokens and renews them; raises `Refused`."""

    def __init__(
        self, settings: AuthSettings, redis: Redis | ClusterClient, now_ms: Callable[[], int]
    ) -> None:
        self._settings = settings
        self._redis = redis
        self._now_ms = now_ms

    def signs(self) -> str:
        """Return the key that tokens are signed with here."""
        if self._settings.jwks_url is not None or self._settings.secret is None:
            what = "This server signs no tokens: they come from whom LIVECART_JWKS_URL names."
            raise Refused(Code.CONFLICT, what)
        return self._settings.secret

    async def make(self, grant: Grant, life_s: int) -> tuple[str, int]:
        """Return a fresh code, and when it ends in ms."""
        self._token(grant, self._session_end_s(grant))  # what could not be traded is not made
        code = secrets.token_urlsafe(CODE_BYTES)
        expires_at = self._now_ms() + 1000 * life_s
        try:
            await self._redis.set(_key(code), msgspec.json.encode(grant), ex=life_s)
        except (RedisError, OSError) as error:
            raise Refused(Code.RETRY) from error
        return code, expires_at

    async def trade(self, code: str, once: str | None = None) -> tuple[str, int]:
        """Return a token for a code, which is good no more, and when that ends in ms.

        `once`: a word of who trades; with the same he may do it again, for `AGAIN_S`.
        """
        self.signs()
        try:
            kept = await command(
                self._redis, "EVAL", _TRADE, 1, _key(code), once or "", AGAIN_S * 1000
            )
        except (RedisError, OSError) as error:
            raise Refused(Code.RETRY) from error
        if kept is None:
            raise Refused(Code.UNAUTHENTICATED, "The code was used, or is over.")
        grant = msgspec.json.decode(cast("bytes", kept), type=Grant)
        return self._token(grant, self._session_end_s(grant))

    def renew(self, token: str, caller: Identity) -> tuple[str, int]:
        """Return a token that ends later than this good one, but never after its session."""
        claims = self._claims(token)
        end_s = claims.get(SESSION)
        if not isinstance(end_s, int):
            raise Refused(Code.FORBIDDEN, "Only a token that a page traded a code for is renewed.")
        streams = None if caller.streams is None else sorted(caller.streams)
        grant = Grant(
            sub=caller.sub, role=caller.role, name=claims.get("name"), shop=claims.get("shop"),
            streams=streams, ttl_s=int(claims["ttl"]), until_s=None,
        )  # fmt: skip
        return self._token(grant, end_s)

    def _session_end_s(self, grant: Grant) -> int:
        end_s = self._now_ms() // 1000 + self._settings.page_session_s
        return end_s if grant.until_s is None else min(end_s, grant.until_s)

    def _token(self, grant: Grant, end_s: int) -> tuple[str, int]:
        exp_s = min(self._now_ms() // 1000 + grant.ttl_s, end_s)
        optional: dict[str, object] = {
            "name": grant.name, "shop": grant.shop, "streams": grant.streams,
            "aud": self._settings.audience, "iss": self._settings.issuer,
        }  # fmt: skip
        claims = {"sub": grant.sub, "role": grant.role, "exp": exp_s, SESSION: end_s}
        claims |= {"ttl": grant.ttl_s, "jti": secrets.token_urlsafe(6)}
        claims |= {name: value for name, value in optional.items() if value is not None}
        token = jwt.encode(claims, self.signs(), algorithm="HS256")
        if len(token) > TOKEN_BYTES_MAX:
            raise Refused(Code.BAD_REQUEST, "Fewer, or it would be too long", field="streams")
        return token, exp_s * 1000

    def _claims(self, token: str) -> dict[str, Any]:
        """Return the claims of a token that was verified just now."""
        try:
            claims: dict[str, Any] = jwt.decode(
                token, self.signs(), algorithms=["HS256"],
                options={"verify_aud": False, "verify_exp": False, "verify_nbf": False,
                         "verify_iat": False},
            )  # fmt: skip
        except NOT_A_TOKEN as error:
            raise Refused(Code.UNAUTHENTICATED, "The token is not valid.") from error
        return claims


def _key(code: str) -> str:
    digest = hashlib.sha256(code.encode(errors="surrogatepass")).hexdigest()
    return f"page-code:{digest}"


def link(
    base: str, token: str, path: str, body: Mapping[str, object], more: Sequence[str] = ()
) -> str:
    """Return a link to a page of a running server, with a fresh code in it.

    `base`: `http://host:port`; `token`: of a service; `more`: what else stands behind `#`. Raises
    OSError or ValueError when the server does not give one.
    """
    parts = urlsplit(base)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.netloc, timeout=CALL_TIMEOUT_S)
    try:
        headers = {"Authorization": f"Bearer {token}"}
        connection.request("POST", "/v1/page-codes", msgspec.json.encode(body), headers)
        answer = connection.getresponse()
        found = msgspec.json.decode(answer.read(), type=dict[str, Any])
        if answer.status != 201:
            wrong = [f"{error['path']}: {error['message']}" for error in found.get("errors", [])]
            raise ValueError(" ".join([str(found.get("detail", answer.status)), *wrong]))
    except http.client.HTTPException as error:
        raise ValueError(repr(error)) from error
    finally:
        connection.close()
    return f"{base}{path}#" + "&".join([f"code={found['code']}", *more])
