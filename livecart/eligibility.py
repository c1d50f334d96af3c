"""Who may buy at all: a shop's signed tickets, and a callable of the operator's own.

Owns what a ticket must say, and the calling of the operator's hook. Implements
`orders.records.Screen`; selling asks before a buy joins its line, for offers that are concerned
alone. Knows no stock, no sockets and no routes. Whatever goes wrong here lets nobody in.

A ticket is a JWT (HS256, `LIVECART_TICKET_SECRET`) that the shop's own backend hands out to whom it
takes for a person: `sub` is the viewer, `for` one id or a list of ids of offers or streams, `exp`
its end on the service's clock. It may be used for as many buys as the offer's limit allows.
"""

from __future__ import annotations

import importlib
import inspect
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import jwt
import msgspec

from livecart.auth import NOT_A_TOKEN
from livecart.settings import SettingsError
from orders.records import Offer, Refused, Why
from streams.protocol import TOKEN_BYTES_MAX

log = logging.getLogger("livecart.eligibility")


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """Whom an operator's hook is asked about; ids as on the wire."""

    viewer: str
    offer: str
    stream: str
    shop: str
    ticket: str | None  # as it came; a ticket that the offer needs was found good before


#: An operator's hook: None or True lets the viewer in, False refuses him, text says why. It is
#: called for every buy and has `answer_s` (0.8 s); what it raises, and its silence, is `retry`.
Hook = Callable[[Candidate], Awaitable[bool | str | None]]


class Eligibility:
    """Judges viewers by the offer's terms, then by the operator's hook."""

    def __init__(
        self, secret: str | None, now_ms: Callable[[], int], hook: Hook | None = None
    ) -> None:
        self._secret = secret
        self._now_ms = now_ms
        self._hook = hook

    def concerns(self, offer: Offer) -> bool:
        """Tell whether buys of this offer are to be judged."""
        return self._hook is not None or offer.eligibility != "anyone"

    async def judge(self, offer: Offer, viewer: str, ticket: str | None) -> Refused | None:
        """Return why the viewer may not buy, None when he may."""
        if offer.eligibility == "ticket":
            wrong = self._wrong_with(offer, viewer, ticket)
            if wrong is not None:
                return _refused(wrong, "ticket")
        if self._hook is None:
            return None
        said = await self._hook(
            Candidate(
                viewer=viewer, offer=offer.id, stream=offer.stream, shop=offer.shop, ticket=ticket
            )
        )
        if said is None or said is True:
            return None
        return _refused(said if isinstance(said, str) else "You may not buy this.", None)

    def _wrong_with(self, offer: Offer, viewer: str, ticket: str | None) -> str | None:
        if ticket is None:
            return "This offer needs a ticket."
        if self._secret is None:
            log.error("%s needs tickets, and LIVECART_TICKET_SECRET is not set", offer.id)
            return "Tickets cannot be checked here."
        if not ticket.isascii() or len(ticket) > TOKEN_BYTES_MAX:
            return "The ticket is not valid."
        try:
            claims = jwt.decode(ticket, self._secret, algorithms=["HS256"], options=_OURS)
        except NOT_A_TOKEN:
            return "The ticket is not valid."
        if claims.get("sub") != viewer:
            return "The ticket is another viewer's."
        good_for = claims.get("for")
        if offer.id not in (ids := _ids(good_for)) and offer.stream not in ids:
            return "The ticket is for something else."
        exp_s = claims.get("exp")
        if not isinstance(exp_s, int) or isinstance(exp_s, bool):
            return "The ticket has no `exp`."
        return None if self._now_ms() < exp_s * 1000 else "The ticket has expired."


#: Claims are judged here, `exp` by the clock of the service (R8).
_OURS: Any = {
    "verify_exp": False, "verify_nbf": False, "verify_iat": False, "verify_aud": False,
    "verify_iss": False, "verify_sub": False, "verify_jti": False,
}  # fmt: skip


def _ids(value: object) -> Sequence[object]:
    if isinstance(value, str):
        return (value,)
    return value if isinstance(value, list) else ()


def _refused(message: str, field: str | None) -> Refused:
    return Refused(Why.FORBIDDEN, field=field, message=message)


def issue(secret: str, *, sub: str, good_for: Sequence[str], exp_s: int) -> str:
    """Return a ticket, for shops in Python, the command line and tests; `exp_s`: Unix seconds."""
    ticket = jwt.encode({"sub": sub, "for": list(good_for), "exp": exp_s}, secret, "HS256")
    if len(ticket) > TOKEN_BYTES_MAX:
        raise SettingsError("The ticket would be longer than 4,096 bytes; name fewer ids.")
    return ticket


def hook_of(path: str | None) -> Hook | None:
    """Return what `package.module:function` names; raise `SettingsError` when it is no hook."""
    if path is None:
        return None
    module, _, name = path.partition(":")
    try:
        hook = getattr(importlib.import_module(module), name)
    except (ImportError, ValueError, AttributeError) as error:
        raise SettingsError(f"LIVECART_ELIGIBILITY={path} cannot be loaded: {error}") from error
    if not inspect.iscoroutinefunction(hook):
        raise SettingsError(f"LIVECART_ELIGIBILITY={path} is not an async function")
    found: Hook = hook
    return found
