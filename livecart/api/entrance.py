"""Codes and tokens of pages: `/v1/page-codes`, `/v1/page-tokens` and their renewal.

Owns who may give what: nobody more than he has himself. The answers are nobody else's to keep.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from livecart.api.calls import Call, answer_json, bearer
from livecart.api.operations import Operation
from livecart.api.problems import Answer
from livecart.auth import NAME_CHARS_MAX, SUB_BYTES_MAX, identity_of
from livecart.entrance import CODE_TTL_S, TOKEN_TTL_S, Grant
from streams.codes import Code
from streams.ports import Identity, Refused
from streams.protocol import LINE, Id, Key

DAY_S = 86_400
CODE_TTL_MAX_S = 3_600
STREAMS_MAX = 50

Sub = Annotated[str, Meta(min_length=1, max_length=SUB_BYTES_MAX, pattern=LINE)]
Name = Annotated[str, Meta(min_length=1, max_length=NAME_CHARS_MAX, pattern=LINE)]
TtlS = Annotated[int, Meta(ge=60, le=DAY_S)]
CodeTtlS = Annotated[int, Meta(ge=1, le=CODE_TTL_MAX_S)]
PageCode = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}\Z")]
#: That so many of ours still fit into a token of 4,096 bytes.
Streams = Annotated[list[Id], Meta(max_length=STREAMS_MAX)]


class NewPageCode(msgspec.Struct, kw_only=True):
    """Whom a page is to speak for."""

    sub: Sub
    role: Literal["viewer", "host"]
    name: Name | None = None
    shop: Id | None = None
    streams: Streams | None = None  # null: every stream
    ttl_s: TtlS | None = None  # of each token; pages renew them
    code_ttl_s: CodeTtlS | None = None  # more than a minute from a service alone


class MadePageCode(msgspec.Struct, kw_only=True):
    """Good once: `#code=` of a page's address."""

    code: str
    expires_at: int


class UsedPageCode(msgspec.Struct, kw_only=True):
    """What stood behind `#code=`."""

    code: PageCode
    once: Key | None = None  # the same again within a minute is answered again


class PageToken(msgspec.Struct, kw_only=True):
    """What a page calls with, until it is renewed."""

    token: str
    expires_at: int


async def make(call: Call, body: NewPageCode) -> Answer:
    """Make a code that a page trades for its token, once.

    A service gives as it likes; a host gives himself alone: his own `sub` and shop, no stream that
    his token is not good for, and nothing for longer than that token.
    """
    caller = call.caller
    if caller.role == "host":
        _own(caller, body)
    streams = _streams(caller, body.streams)
    grant = Grant(
        sub=body.sub,
        role=body.role,
        name=body.name or (caller.name if body.sub == caller.sub else None),
        shop=_shop(caller, body),
        streams=streams,
        ttl_s=body.ttl_s or TOKEN_TTL_S,
        until_s=None if caller.role != "host" else (caller.exp_ms or 0) // 1000,
    )
    identity_of({**msgspec.structs.asdict(grant), "exp": 0})  # what no token may say is refused
    life_s = body.code_ttl_s or CODE_TTL_S
    if caller.role == "host":
        life_s = min(life_s, CODE_TTL_S)
    code, expires_at = await call.services.entrance.make(grant, life_s)
    return _unkept(MadePageCode(code=code, expires_at=expires_at), 201)


def _own(caller: Identity, body: NewPageCode) -> None:
    if body.sub != caller.sub:
        raise Refused(Code.FORBIDDEN, "A host makes codes for himself alone.")
    if body.shop not in (None, caller.shop):
        raise Refused(Code.FORBIDDEN, "That is another shop.")


def _shop(caller: Identity, body: NewPageCode) -> str | None:
    """Return whom a host is to act for; a viewer acts for nobody."""
    if body.role == "viewer":
        return None
    return body.shop or (caller.shop if caller.role == "host" else None)


def _streams(caller: Identity, wanted: list[str] | None) -> list[str] | None:
    """Return what streams a token will be good for, within the caller's."""
    if caller.streams is None:
        return wanted
    if wanted is None:
        return sorted(caller.streams)
    if not caller.streams.issuperset(wanted):
        raise Refused(Code.FORBIDDEN, "This token is limited to other streams.")
    return wanted


async def trade(call: Call, body: UsedPageCode) -> Answer:
    """Trade a code for a token; the same code again is refused, but to who says the same `once`."""
    token, expires_at = await call.services.entrance.trade(body.code, body.once)
    return _unkept(PageToken(token=token, expires_at=expires_at), 201)


async def renew(call: Call) -> Answer:
    """Trade a page's token for one that ends later, as long as its session goes on."""
    caller, token = call.caller, bearer(call.headers)
    assert token is not None
    fresh, expires_at = call.services.entrance.renew(token, caller)
    return _unkept(PageToken(token=fresh, expires_at=expires_at), 201)


def _unkept(value: msgspec.Struct, status: int) -> Answer:
    answer = answer_json(value, status)
    return Answer(status, answer.body, [*answer.headers, (b"cache-control", b"no-store")])


OPERATIONS = (
    Operation(
        method="POST", path="/v1/page-codes", handle=make, who="host", status=201,
        summary="Make a code for a page", body=NewPageCode, result=MadePageCode,
        refusals=(Code.CONFLICT,),
    ),
    Operation(
        method="POST", path="/v1/page-tokens", handle=trade, who="anyone", status=201,
        summary="Trade a code for a token", body=UsedPageCode, result=PageToken,
        refusals=(Code.CONFLICT,),
    ),
    Operation(
        method="POST", path="/v1/page-tokens/renew", handle=renew, who="member", status=201,
        summary="Renew a page's token", result=PageToken, refusals=(Code.CONFLICT,),
    ),
)  # fmt: skip
