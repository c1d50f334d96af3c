"""Wire commands that sell or host: command, call, reply.

Implements `streams.ports.Handler`; every command is answered exactly once. Owns who may act on
what (the session has checked the role). A buy joins the present batch without a task of its own;
the others run in tasks, a bounded number at once. Knows no SQL and no Redis. Called by sessions.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Protocol, TypeVar

from livecart import views
from livecart.announce import asked_by
from livecart.auth import SUB_BYTES_MAX
from livecart.catalog.store import Catalog
from livecart.patience import ANSWER_S, CHANGE_S, bounded, go_on
from livecart.pins import new_pin
from orders import records
from orders.changes import Changes
from orders.deadline import within
from orders.ids import Ids
from orders.ledger.ledger import Ledger, LedgerAway
from orders.selling import Selling
from streams.codes import Code
from streams.notes import ControlKind
from streams.permits import TOLD_TO_ALL
from streams.ports import Caller, Identity, Refused
from streams.protocol import (
    PINS_MAX,
    AnyCommand,
    Ban,
    Bundle,
    Buy,
    Cancel,
    ChatSlow,
    Event,
    Extend,
    Mute,
    OfferClose,
    OfferOpen,
    OfferPause,
    OfferRestock,
    OfferResume,
    Ok,
    PinCommand,
    Unmute,
    Unpin,
    Waitlist,
    Waitlisted,
    WaitlistLeave,
)
from streams.tasks import Tasks

UNDER_WAY_MAX = 1_000  # commands in tasks, two each
RETRY_AFTER_MS = 500

T = TypeVar("T", records.Order, records.Offer)
#: Makes a change and returns the answer; raises `Refused`.
Way = Callable[[Caller, Any], Coroutine[Any, Any, Event]]

log = logging.getLogger("livecart.commands")


class Crowd(Protocol):
    """Who carries out a host's word about a user (`streams.hub.Hub`)."""

    def control(
        self, stream_id: str, kind: ControlKind, user: str, until_ms: int | None = None
    ) -> None:
        """Mute, unmute or ban on all connections."""

    def slow(self, stream_id: str, every_s: int) -> None:
        """Let each user speak once in so many seconds."""

    def relent(self, stream_id: str) -> None:
        """Let the chat go on that waits for what a host does."""


class WireBuy(records.Buy):
    """A buy that came by a socket; `tag` is the connection."""

    __slots__ = ("re",)

    def __init__(self, caller: Caller, command: Buy) -> None:
        assert command.offer is not None  # the shape has seen to both
        assert command.qty is not None
        super().__init__(
            command.offer,
            caller.identity.sub,
            command.qty,
            command.key,
            answer_buy,
            caller,
            caller.stream_id,
            command.ticket,
        )
        self.re = command.id


class WireBundle(records.Bundle):
    """A bundle that came by a socket; `tag` is the connection."""

    __slots__ = ("re",)

    def __init__(self, caller: Caller, command: Buy) -> None:
        super().__init__(
            caller.stream_id,
            caller.identity.sub,
            [(line.offer, line.qty) for line in command.lines or ()],
            command.key,
            answer_bundle,
            caller,
            command.ticket,
        )
        self.re = command.id


#: Made once, since a sold-out sale refuses tens of thousands; sent, never raised.
_REFUSED = {why: Refused(Code(why.value)) for why in records.Why}


def refusal(refused: records.Refused) -> Refused:
    """Return selling's refusal in the words of the wire."""
    return Refused(
        Code(refused.why.value),
        refused.message,
        field=refused.field,
        retry_after_ms=refused.retry_after_ms,
    )


def answer_buy(buy: records.Buy, outcome: records.Outcome) -> None:
    """Answer a `WireBuy`."""
    assert isinstance(buy, WireBuy)
    caller: Caller = buy.tag
    if caller.closed:
        return
    if isinstance(outcome, records.Accepted):
        caller.send(views.order_event(outcome.order, buy.re, outcome.replayed))
    elif outcome.retry_after_ms is None and not outcome.message:
        caller.reject(buy.re, _REFUSED[outcome.why])
    else:
        caller.reject(buy.re, refusal(outcome))


def answer_bundle(bundle: records.Bundle, outcome: records.BundleOutcome) -> None:
    """Answer a `WireBundle`."""
    assert isinstance(bundle, WireBundle)
    caller: Caller = bundle.tag
    if isinstance(outcome, records.Bundled):
        orders = [views.order(order) for order in outcome.orders]
        replayed = True if outcome.replayed else None
        caller.send(Bundle(re=bundle.re, bundle=outcome.bundle, orders=orders, replayed=replayed))
    else:
        caller.reject(bundle.re, refusal(outcome))


class Commands:
    """Handles commands."""

    def __init__(self, selling: Selling, changes: Changes, catalog: Catalog, ids: Ids) -> None:
        self._selling = selling
        self._changes = changes
        self._catalog = catalog
        self._ids = ids
        self._crowd: Crowd | None = None  # set by `attach`, before anybody connects
        self._tasks = Tasks("commands")
        self._ways: dict[type[AnyCommand], Way] = {
            Cancel: self._cancel,
            Extend: self._extend,
            Waitlist: self._wait,
            WaitlistLeave: self._leave,
            PinCommand: self._pin,
            Unpin: self._unpin,
            OfferOpen: self._open,
            OfferClose: self._close,
            OfferPause: self._pause,
            OfferResume: self._resume,
            OfferRestock: self._restock,
            ChatSlow: self._slow,
            Mute: self._mute,
            Unmute: self._unmute,
            Ban: self._ban,
        }

    def attach(self, crowd: Crowd) -> None:
        """Carry out words about users through this; the hub is built after its handler."""
        self._crowd = crowd

    def handle(self, caller: Caller, command: AnyCommand) -> None:
        """Start the work and return at once."""
        if type(command) is Buy:
            if command.lines is None:
                self._selling.buy(WireBuy(caller, command))
            else:
                self._selling.bundles.buy(WireBundle(caller, command))
            return
        way = self._ways.get(type(command))
        if way is None:
            caller.reject(command.id, Refused(Code.UNKNOWN_TYPE, field="type"))
        elif len(self._tasks) >= 2 * UNDER_WAY_MAX or not self._selling.ledger_health.well:
            self._refuse(caller, command, Refused(Code.RETRY, retry_after_ms=RETRY_AFTER_MS))
        else:
            self._tasks.spawn(self._run(way, caller, command), type(command).__name__)

    async def close(self) -> None:
        """End what is under way; its outcome is unknown to who asked, as after a crash."""
        await self._tasks.close()

    async def _run(self, way: Way, caller: Caller, command: AnyCommand) -> None:
        """Answer in time; what takes longer goes on, so that what it commits is still told."""
        with asked_by(caller) as asker:
            change = self._tasks.spawn(
                bounded(partial(way, caller, command), CHANGE_S), "change", expected=Exception
            )
        if not await within(change, ANSWER_S):
            go_on(change)
            caller.reject(command.id, Refused(Code.RETRY, retry_after_ms=RETRY_AFTER_MS))
            asker.give_up()
            return
        try:
            caller.send(change.result())
        except Refused as refused:
            self._refuse(caller, command, refused)
        except (LedgerAway, OverflowError):
            self._refuse(caller, command, Refused(Code.RETRY, retry_after_ms=RETRY_AFTER_MS))
        except Exception:
            log.exception("%s failed", type(command).__name__)
            self._refuse(caller, command, Refused(Code.INTERNAL))

    def _refuse(self, caller: Caller, command: AnyCommand, refused: Refused) -> None:
        caller.reject(command.id, refused)
        if self._crowd is not None and type(command) in TOLD_TO_ALL:
            self._crowd.relent(caller.stream_id)

    # --- a viewer's ------------------------------------------------------------------------------

    async def _cancel(self, caller: Caller, command: Cancel) -> Event:
        await self._own_order(caller, command.order)
        order = done(await self._changes.cancel(command.order, False, None))
        return views.order_event(order, command.id)

    async def _extend(self, caller: Caller, command: Extend) -> Event:
        await self._own_order(caller, command.order)
        order = done(await self._changes.extend(command.order, command.version))
        return views.order_event(order, command.id)

    async def _wait(self, caller: Caller, command: Waitlist) -> Event:
        outcome = await self._selling.waitlist.join(
            command.offer, caller.identity.sub, command.qty, command.key,
            tag=caller, stream=caller.stream_id, ticket=command.ticket,
        )  # fmt: skip
        if isinstance(outcome, records.Waitlisted):
            return Waitlisted(re=command.id, offer=outcome.offer, position=outcome.position)
        if isinstance(outcome, records.Refused):
            raise refusal(outcome)
        return views.order_event(outcome.order, command.id, outcome.replayed)

    async def _leave(self, caller: Caller, command: WaitlistLeave) -> Event:
        found = await self._selling.offer(command.offer)
        if found is None or found.stream != caller.stream_id or not found.announced:
            raise Refused(Code.NOT_FOUND, field="offer")
        if (
            refused := await self._selling.waitlist.leave(found.id, caller.identity.sub)
        ) is not None:
            raise refusal(refused)
        return Ok(re=command.id)

    async def _own_order(self, caller: Caller, order: str) -> None:
        """Raise `Refused` for an order that is not the caller's own, nor of his shop."""
        await own_order(self._selling.ledger, self._catalog, caller.identity, order, "order")

    # --- a host's --------------------------------------------------------------------------------

    async def _hosted(self, caller: Caller) -> str:
        """Return the shop of the caller's stream; raise `Refused` when he may not act for it."""
        shop = await self._catalog.shop_of(caller.stream_id)
        if shop is None:
            raise Refused(Code.NOT_FOUND)
        if not caller.identity.may_host(shop):
            raise Refused(Code.FORBIDDEN)
        return shop

    async def _offer(self, caller: Caller, offer: str) -> records.Offer:
        """Return an offer of the caller's stream; raise `Refused`."""
        await self._hosted(caller)
        found = await self._catalog.offer(offer)
        if found is None or found.stream != caller.stream_id:
            raise Refused(Code.NOT_FOUND, field="offer")
        return found

    async def _pin(self, caller: Caller, command: PinCommand) -> Event:
        shop = await self._hosted(caller)
        pin = await new_pin(
            self._catalog, self._ids, caller.stream_id, shop, command.product, command.offer,
            command.media_at,
        )  # fmt: skip
        refused = await self._changes.pin(
            caller.stream_id, pin.id, pin.product.id, pin.offer, pin.media_at, PINS_MAX
        )
        if refused is not None:
            raise refusal(refused)
        return Ok(re=command.id, pin=pin)

    async def _unpin(self, caller: Caller, command: Unpin) -> Event:
        await self._hosted(caller)
        refused = await self._changes.unpin(caller.stream_id, command.pin)
        if refused is not None:
            raise refusal(refused)
        return Ok(re=command.id)

    async def _open(self, caller: Caller, command: OfferOpen) -> Event:
        offer = await self._offer(caller, command.offer)
        done(await self._changes.open_offer(offer.id))
        return Ok(re=command.id)

    async def _close(self, caller: Caller, command: OfferClose) -> Event:
        offer = await self._offer(caller, command.offer)
        done(await self._changes.close_offer(offer.id))
        return Ok(re=command.id)

    async def _pause(self, caller: Caller, command: OfferPause) -> Event:
        offer = await self._offer(caller, command.offer)
        done(await self._changes.pause_offer(offer.id))
        return Ok(re=command.id)

    async def _resume(self, caller: Caller, command: OfferResume) -> Event:
        offer = await self._offer(caller, command.offer)
        done(await self._changes.resume_offer(offer.id))
        return Ok(re=command.id)

    async def _restock(self, caller: Caller, command: OfferRestock) -> Event:
        offer = await self._offer(caller, command.offer)
        done(await self._changes.restock(offer.id, command.key, command.add))
        return Ok(re=command.id)

    async def _slow(self, caller: Caller, command: ChatSlow) -> Event:
        await self._hosted(caller)
        await self.slow_chat(caller.stream_id, command.every_s)
        return Ok(re=command.id)

    async def slow_chat(self, stream: str, every_s: int) -> None:
        """Let each user of a stream speak once in so many seconds; 0: as they like."""
        await self._catalog.slow_chat(stream, every_s)
        if self._crowd is not None:
            self._crowd.slow(stream, every_s)

    async def _mute(self, caller: Caller, command: Mute) -> Event:
        await self._hosted(caller)
        _other(caller, command.user)
        await self._catalog.mute(caller.stream_id, command.user)
        return self._controlled(caller, command.id, "mute", command.user)

    async def _unmute(self, caller: Caller, command: Unmute) -> Event:
        await self._hosted(caller)
        _user(command.user)
        await self._catalog.unmute(caller.stream_id, command.user)
        return self._controlled(caller, command.id, "unmute", command.user)

    async def _ban(self, caller: Caller, command: Ban) -> Event:
        await self._hosted(caller)
        _other(caller, command.user)
        await self._catalog.ban(caller.stream_id, command.user)
        answer = self._controlled(caller, command.id, "ban", command.user)
        await self._selling.waitlist.drop(caller.stream_id, command.user)
        return answer

    def _controlled(self, caller: Caller, re: int, kind: ControlKind, user: str) -> Event:
        if self._crowd is not None:
            self._crowd.control(caller.stream_id, kind, user)
        return Ok(re=re)


def _user(user: str) -> None:
    """Raise `Refused` for what no token's `sub` can be; the shape judged its characters."""
    if len(user.encode()) > SUB_BYTES_MAX:
        raise Refused(Code.BAD_REQUEST, f"Expected at most {SUB_BYTES_MAX} bytes", field="user")


def _other(caller: Caller, user: str) -> None:
    """Raise `Refused` unless it is another user: who puts himself out could not come back."""
    _user(user)
    if user == caller.identity.sub:
        raise Refused(Code.BAD_REQUEST, "That is yourself", field="user")


async def own_order(
    ledger: Ledger, catalog: Catalog, identity: Identity, order: str, field: str | None = None
) -> tuple[records.Order, bool]:
    """Return an order, and whether the caller hosts it; another's is `Refused(NOT_FOUND)`."""
    found = await ledger.orders([order])
    if found and identity.may_enter(found[0].stream):
        if identity.role == "viewer":
            if found[0].viewer == identity.sub:
                return found[0], False
        else:
            shop = await catalog.shop_of(found[0].stream)
            if shop is not None and identity.may_host(shop):
                return found[0], True
    raise Refused(Code.NOT_FOUND, field=field)


def done(result: T | records.Refused) -> T:
    """Return what a change made of it; raise `Refused` when it was refused."""
    if isinstance(result, records.Refused):
        raise refusal(result)
    return result
