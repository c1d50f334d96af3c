"""The waitlist: who waits for units of a sold-out offer, and who of them is first (R12).

Owns the order of steps of a join: the entry that is there, a buy like any other, and only when that
finds the offer sold out for good, a rank from the gate and an entry in Postgres. Knows no sockets.
Called by `livecart`; built by selling. Who gets what comes back is decided where it comes back, in
Postgres (`promote`), and this process need not be there then. The entries of a draw are such
entries: until it is held, a buy finds the offer not open, and the ledger takes the entry.

What makes each step safe when the process stops after it: a buy is what it always is; a rank that
was drawn and not used is a gap; the entry is inserted under the offer's lock, where a unit that
came back since the buy is seen, and nobody joins for it. After a lost answer the same key finds the
entry, or the order that it became. Joins of one offer gather while the last ones are under way, as
buys do.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from orders import metrics
from orders.coalesce import Coalesced
from orders.ledger.waitlist import Ask, Entered, WaitlistLedger
from orders.records import Buy, Entry, Outcome, Refused, Waitlisted, Why
from orders.stock.gate import Frozen, GateAway, GateBroken

if TYPE_CHECKING:
    from orders.selling import Selling

log = logging.getLogger(__name__)

#: Words of the ledger after which the viewer asks for stock once more.
_ANEW = ("free", "again", "epoch", "due")


class _Try(Buy):
    """The buy that a join begins with; `judged` is its outcome, `tag` the caller's own."""

    __slots__ = ("judged",)
    asks_first = True

    def __init__(
        self, offer: str, ask: Ask, tag: object, stream: str | None, ticket: str | None
    ) -> None:
        super().__init__(offer, ask.viewer, ask.qty, ask.key, _judged, tag, stream, ticket)
        self.judged: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()


def _judged(buy: Buy, outcome: Outcome) -> None:
    assert isinstance(buy, _Try)
    if not buy.judged.done():
        buy.judged.set_result(outcome)


class Waitlist:
    """Takes joins, each answered once it is known what it came to."""

    def __init__(self, selling: Selling) -> None:
        self.ledger = WaitlistLedger(selling.ledger)
        self._selling = selling
        self._entries: Coalesced[tuple[str, str], Entry] = Coalesced(self._load)
        self._joins: dict[str, Coalesced[Ask, Entered]] = {}  # by offer

    async def join(
        self,
        offer: str,
        viewer: str,
        qty: int,
        key: str,
        *,
        tag: Any = None,
        stream: str | None = None,
        ticket: str | None = None,
    ) -> Waitlisted | Outcome:
        """Wait for units, or buy them when they are there; never raises.

        `tag`, `stream` and `ticket` are those of `Buy`: should it buy, this is the buyer.
        """
        ask = Ask(viewer, key, qty)
        outcome: Waitlisted | Outcome
        try:
            outcome = await self._join(offer, ask, tag, stream, ticket)
        except (GateAway, GateBroken) as error:
            if isinstance(error, GateAway):
                self._selling.gate_health.failed(self._selling.home(offer, viewer), error)
            outcome = self._selling.retry()
        except Exception as error:  # noqa: BLE001 - told to the caller
            outcome = self._selling.excuse(error)
        metrics.JOINS.labels(_word(outcome)).inc()
        return outcome

    async def _join(
        self, offer: str, ask: Ask, tag: object, stream: str | None, ticket: str | None
    ) -> Waitlisted | Outcome:
        selling = self._selling
        if not selling.may_ask(offer, ask.viewer):
            return selling.retry()
        entry = await selling.in_time(self._entries.get((offer, ask.viewer)))
        if entry is not None:
            return _as_it_stands(entry, ask, stream)
        for _ in range(selling.limits.wait_tries_max):
            bought = await self._buy(_Try(offer, ask, tag, stream, ticket))
            if not (isinstance(bought, Refused) and self._may_wait(offer, bought.why)):
                return bought
            home = selling.home(offer, ask.viewer)
            entered = await selling.in_time(self._line(home).get(ask))
            if entered is None or entered.word not in _ANEW:
                return _answer(offer, entered)
            await asyncio.sleep(selling.limits.poll_s)  # the gate learns of it, or is rebuilt
        return selling.retry()

    def _may_wait(self, offer: str, why: Why) -> bool:
        """Tell whether who was refused so may be on the list; the ledger knows, under its lock.

        Who comes before the opening is asked for only where a draw's entries gather meanwhile: a
        crowd that is early for a sale must not reach the ledger.
        """
        if why is Why.NOT_OPEN:
            known = self._selling.known(offer)
            return known is None or known.mode == "draw"
        return why is Why.SOLD_OUT

    async def _buy(self, buy: _Try) -> Outcome:
        self._selling.buy(buy)
        return await buy.judged

    def _line(self, offer: str) -> Coalesced[Ask, Entered]:
        """Return where the joins of an offer gather."""
        line = self._joins.get(offer)
        if line is None:
            if len(self._joins) >= self._selling.limits.offers_cached_max:
                self._joins.clear()  # whoever waits in one still has it
            enter: Callable[[Sequence[Ask]], Any] = partial(self._enter, offer)
            line = Coalesced(enter, self._selling.limits.wait_batch_max)
            self._joins[offer] = line
        return line

    async def _enter(self, offer: str, asks: Sequence[Ask]) -> Mapping[Ask, Entered]:
        """Draw ranks in the order of arrival, then put all on the list with one call."""
        drawn = await self._selling.gate.draw(offer, len(asks))
        if isinstance(drawn, Frozen):
            return dict.fromkeys(asks, Entered("epoch", 0))
        found = await self.ledger.join(offer, *drawn, asks)
        return dict(zip(asks, found, strict=True))

    async def _load(self, of: Sequence[tuple[str, str]]) -> Mapping[tuple[str, str], Entry]:
        return {(e.offer, e.viewer): e for e in await self.ledger.entries(of)}

    async def leave(self, offer: str, viewer: str) -> Refused | None:
        """Wait no more; None when he does not, whether or not he did. Raises `LedgerAway`."""
        word = await self.ledger.leave(offer, viewer)
        return Refused(Why.NOT_FOUND) if word == "not_found" else None

    async def drop(self, stream: str, viewer: str) -> None:
        """Take somebody who is banned off all lists of a stream. Raises `LedgerAway`.

        What is left of him should this fail is never served: `promote` drops it.
        """
        await self.ledger.drop(stream, viewer)


def _as_it_stands(entry: Entry, ask: Ask, stream: str | None) -> Waitlisted | Refused:
    """Answer who waits already: once per viewer and offer, whatever key he comes with."""
    if stream is not None and stream != entry.stream:
        return Refused(Why.NOT_FOUND)
    if entry.qty == ask.qty:
        return Waitlisted(entry.offer, entry.position, replayed=True)
    if entry.key == ask.key:
        return Refused(Why.KEY_REUSED)
    return Refused(Why.CONFLICT, message=f"You wait for {entry.qty} of it already.")


def _answer(offer: str, entered: Entered | None) -> Waitlisted | Refused:
    if entered is None:
        return Refused(Why.INTERNAL)
    match entered.word:
        case "waiting" | "waits":
            return Waitlisted(offer, entered.place, replayed=entered.word == "waits")
        case "full":
            return Refused(Why.SOLD_OUT, message="The list of who waits is full.")
        case "conflict":
            what = "You wait for another number of it, or left the list: take a new key."
            return Refused(Why.CONFLICT, message=what)
        case word:
            return Refused(Why(word))


def _word(outcome: Waitlisted | Outcome) -> str:
    if isinstance(outcome, Waitlisted):
        return "waits" if outcome.replayed else "joined"
    return outcome.why.value if isinstance(outcome, Refused) else "bought"
