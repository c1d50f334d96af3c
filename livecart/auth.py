"""Tokens: who is calling, judged by the service's clock; and, for development, making one.

Owns what a claim must look like. The algorithm is pinned by configuration (the secret: HS256; a
JWKS URL: RS256 or ES256), never by a token's header. Must never know a route, a socket or a table.
Called by the hub (as `streams.ports.Doorkeeper`), by the HTTP routes and by the command line.
"""

from __future__ import annotations

import asyncio
import logging
import math
import re
import time
from collections.abc import Callable, Iterable
from http.client import HTTPException
from typing import Any, Protocol

import jwt

from livecart.settings import AuthSettings, SettingsError
from streams.codes import Code
from streams.ports import Identity, Refused
from streams.protocol import INT_MAX, TOKEN_BYTES_MAX

ROLES = ("viewer", "host", "admin", "service")
NAME_CHARS_MAX = 40
SUB_BYTES_MAX = 128
CACHED_TOKENS_MAX = 20_000
KEYS_REFRESH_S = 300.0  # how old the published keys may be
KEYS_COOLDOWN_S = 10.0  # between two fetches, whatever asks for them
KEYS_TIMEOUT_S = 2.0

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
#: PyJWT decodes JSON of strangers before it looks at the signature; these are what odd input makes
#: of that. All of them mean: not a token.
NOT_A_TOKEN = (
    jwt.PyJWTError, ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError,
)  # fmt: skip
#: What comes of a key server that is away, breaks off, or publishes something else than keys.
_NO_KEYS = (OSError, HTTPException, *NOT_A_TOKEN)

log = logging.getLogger("livecart.auth")


class Keys(Protocol):
    """Where the key of a token comes from."""

    algorithms: tuple[str, ...]
    edition: int  # another one each time the keys change

    def due(self) -> bool:
        """Tell whether it is time to look at the keys again."""

    async def refresh(self) -> None:
        """Look at the keys again; what cannot be read stays as it is."""

    async def key(self, token: str) -> Any:
        """Return the key to verify a token with; raise `Refused`."""


class TokenVerifier:
    """Verifies tokens; remembers a bounded number of them, and judges `exp` each time."""

    def __init__(self, settings: AuthSettings, now_ms: Callable[[], int]) -> None:
        self._settings = settings
        self._now_ms = now_ms
        self._keys = _keys_of(settings)
        self._known: dict[str, tuple[Identity, int]] = {}  # token: whom it is for, not before
        self._edition = self._keys.edition  # of the keys that those were verified with

    async def verify(self, token: str) -> Identity:
        """Return whom `token` speaks for; raise `Refused`: `unauthenticated`, or `bad_request`."""
        if self._keys.due():
            await self._keys.refresh()
        known = self._remembered(token)
        if known is None:
            known = await self._verify(token)
            if len(self._known) >= CACHED_TOKENS_MAX:
                del self._known[next(iter(self._known))]  # the oldest
            self._known[token] = known
        return self._judge(known)

    def known(self, token: str) -> Identity | None:
        """Return whom an already verified token speaks for; raise as `verify`.

        None: it is to be verified first, or the keys are to be looked at.
        """
        known = None if self._keys.due() else self._remembered(token)
        return None if known is None else self._judge(known)

    def _remembered(self, token: str) -> tuple[Identity, int] | None:
        if self._edition != self._keys.edition:
            self._known.clear()  # the key that one was signed with may be withdrawn
            self._edition = self._keys.edition
        return self._known.get(token)

    def _judge(self, known: tuple[Identity, int]) -> Identity:
        identity, not_before_ms = known
        now_ms = self._now_ms()
        if identity.exp_ms is not None and identity.exp_ms <= now_ms:
            raise Refused(Code.UNAUTHENTICATED, "The token has expired.")
        if not_before_ms > now_ms:
            raise Refused(Code.UNAUTHENTICATED, "The token is not valid yet.")
        return identity

    async def _verify(self, token: str) -> tuple[Identity, int]:
        if len(token.encode(errors="surrogatepass")) > TOKEN_BYTES_MAX:
            raise _beyond("The token is longer than 4,096 bytes.")
        if not token.isascii():
            raise _bad("The token is not a JWT.")
        key = await self._keys.key(token)
        settings = self._settings
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=list(self._keys.algorithms),
                audience=settings.audience,
                issuer=settings.issuer,
                # Times are judged here, by the clock of the service (R8); shapes too.
                options={
                    "require": [],
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                    "verify_sub": False,
                    "verify_jti": False,
                    "verify_aud": settings.audience is not None,
                    "verify_iss": settings.issuer is not None,
                },
            )
        except NOT_A_TOKEN as error:
            log.debug("a token was refused: %r", error)
            raise _bad("The token is not valid.") from error
        return identity_of(claims)


def identity_of(claims: dict[str, Any]) -> tuple[Identity, int]:
    """Return whom verified claims speak for, and not before which ms; raise `Refused`."""
    sub = _line(claims, "sub", SUB_BYTES_MAX)
    role = claims.get("role")
    exp_ms = _time_ms(claims, "exp")
    if sub is None:
        raise _bad("The token has no `sub`.")
    if not isinstance(role, str) or role not in ROLES:
        raise _bad("The token's `role` is not one of viewer, host, admin, service.")
    if exp_ms is None:
        raise _bad("The token has no `exp`.")
    name = _line(claims, "name", 4 * NAME_CHARS_MAX) or sub
    if name is not sub and len(name) > NAME_CHARS_MAX:
        raise _beyond("The token's `name` is longer than 40 characters.")
    identity = Identity(
        sub=sub,
        role=role,
        name=name,
        shop=_line(claims, "shop", SUB_BYTES_MAX) or sub,
        exp_ms=exp_ms,
        streams=_streams(claims.get("streams")),
    )
    return identity, _time_ms(claims, "nbf") or 0


def issue(
    secret: str,
    *,
    role: str,
    sub: str,
    shop: str | None = None,
    streams: Iterable[str] | None = None,
    ttl_s: float = 12 * 3600.0,
    name: str | None = None,
    now_s: float | None = None,
) -> str:
    """Return a token signed with the secret (HS256); raise `SettingsError` on claims of no use.

    For the command line, the demo and tests; `now_s` is this machine's clock when not given.
    """
    claims: dict[str, Any] = {
        "sub": sub,
        "role": role,
        "exp": int((time.time() if now_s is None else now_s) + ttl_s),
    }
    if shop is not None:
        claims["shop"] = shop
    if name is not None:
        claims["name"] = name
    if streams is not None:
        claims["streams"] = list(streams)
    try:
        identity_of(claims)
    except Refused as refused:
        raise SettingsError(refused.message) from refused
    token = jwt.encode(claims, secret, algorithm="HS256")
    if len(token) > TOKEN_BYTES_MAX:
        raise SettingsError("The token would be longer than 4,096 bytes; name fewer streams.")
    return token


# --- claims -------------------------------------------------------------------------------------


def _bad(why: str) -> Refused:
    return Refused(Code.UNAUTHENTICATED, why)


def _beyond(why: str) -> Refused:
    """Refuse what passes a limit of the protocol, however well it is signed."""
    return Refused(Code.BAD_REQUEST, why, field="token")


def _line(claims: dict[str, Any], name: str, bytes_max: int) -> str | None:
    """Return a claim of text, None when it is absent or null."""
    value = claims.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise _bad(f"The token's `{name}` is not text.")
    if not value or _CONTROL.search(value):
        raise _beyond(f"The token's `{name}` is empty, or has control characters.")
    try:
        size = len(value.encode())
    except UnicodeEncodeError as error:  # half of a surrogate pair
        raise _bad(f"The token's `{name}` is not text.") from error
    if size > bytes_max:
        raise _beyond(f"The token's `{name}` is longer than {bytes_max} bytes.")
    return value


def _time_ms(claims: dict[str, Any], name: str) -> int | None:
    """Return a claim of seconds, as ms within what the wire can carry; None when absent."""
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not _finite(value):
        raise _bad(f"The token's `{name}` is not a time.")
    return int(min(max(value, 0), INT_MAX // 1000) * 1000)


def _finite(value: int | float) -> bool:
    return isinstance(value, int) or math.isfinite(value)


def _streams(value: object) -> frozenset[str] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise _bad("The token's `streams` is not a list of ids.")
    return frozenset(value)


# --- keys ---------------------------------------------------------------------------------------


def _keys_of(settings: AuthSettings) -> Keys:
    if settings.jwks_url is not None:
        return PublishedKeys(settings.jwks_url)
    if settings.secret is not None:
        return SharedSecret(settings.secret)
    raise SettingsError("neither LIVECART_SECRET nor LIVECART_JWKS_URL is set")


class SharedSecret:
    """One key that signs and verifies."""

    algorithms: tuple[str, ...] = ("HS256",)
    edition = 0

    def __init__(self, secret: str) -> None:
        self._secret = secret

    def due(self) -> bool:
        """Answer no: there is nothing to look at."""
        return False

    async def refresh(self) -> None:
        """Do nothing."""

    async def key(self, token: str) -> str:
        """Return the secret."""
        return self._secret


class PublishedKeys:
    """Public keys from a JWKS URL, fetched in a thread, never more often than the cool-down."""

    algorithms: tuple[str, ...] = ("RS256", "ES256")

    def __init__(self, url: str) -> None:
        self._client = jwt.PyJWKClient(url, cache_jwk_set=False, timeout=KEYS_TIMEOUT_S)
        self._keys: dict[str | None, Any] = {}  # by key id, None for the one without
        self._read_at = -math.inf  # monotonic time at which they were read
        self._tried_at = -math.inf  # of the last try
        self._lock = asyncio.Lock()
        self.edition = 0

    def due(self) -> bool:
        """Tell whether the keys are older than they may be; no more once somebody looks at them."""
        now = time.monotonic()
        return now - self._read_at > KEYS_REFRESH_S and now - self._tried_at > KEYS_COOLDOWN_S

    async def key(self, token: str) -> Any:
        """Return the key that the token names; raise `Refused`."""
        try:
            kid = jwt.get_unverified_header(token).get("kid")
        except NOT_A_TOKEN as error:
            raise _bad("The token is not valid.") from error
        if kid is not None and not isinstance(kid, str):
            raise _bad("The token's `kid` is not text.")
        if kid not in self._keys:
            await self.refresh()
        found = self._keys.get(kid)
        if found is None and kid is None and len(self._keys) == 1:
            found = next(iter(self._keys.values()))
        if found is None:
            if not self._keys:
                raise Refused(Code.RETRY, "The keys to check tokens with cannot be read now.")
            raise _bad("The token is signed with a key that is not published.")
        return found

    async def refresh(self) -> None:
        """Fetch the keys; those held so far stay good while that fails."""
        async with self._lock:  # a crowd waits for one fetch
            if time.monotonic() - self._tried_at < KEYS_COOLDOWN_S:
                return
            self._tried_at = time.monotonic()
            try:
                published = await asyncio.to_thread(self._client.get_jwk_set)
                keys = {
                    key.key_id: key.key
                    for key in published.keys
                    if key.public_key_use in ("sig", None)
                }
            except _NO_KEYS as error:
                log.warning("the keys to check tokens with cannot be read: %s", error)
                return
            self._read_at = time.monotonic()
            if keys != self._keys:
                self._keys = keys
                self.edition += 1
