"""Bundles: units of several offers that a viewer gets all of or none.

Owns the order of steps of a bundle: holds one offer after the other, in id order, then one
admission that decides about all lines, then the answer. Each line waits at its offer's counter as
any other buy does, so that nobody gains a place by bundling. Knows no sockets. Called by
`livecart`; built by selling.

What makes each step safe when the process stops after it is what makes a single buy safe: a hold
without a row is fenced and given back by the keeper, offer by offer, and as one fenced line refuses
the whole bundle, no part of it can be made afterwards (R1); rows without marks are marked by the
keeper. On a refusal this hub undoes only holds that are its own and that no other admission under
their rank is under way for.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import msgspec

from orders import failpoints, metrics
from orders.coalesce import Coalesced
from orders.deadline import within
from orders.held import Held, Holder, Part
from orders.ledger.bundles import BundleLedger, BundleLine, Judged
from orders.ledger.ledger import LedgerAway, LedgerBusy
from orders.records import (
    Accepted,
    Bundle,
    Bundled,
    BundleOutcome,
    Order,
    Refused,
    Why,
)

if TYPE_CHECKING:
    from orders.selling import Selling

log = logging.getLogger(__name__)

#: What a bundle is besides its key: sent twice at the same time, it is bought once.
Same = tuple[str, str, str, tuple[tuple[str, int], ...]]

#: Refusals that one line is the reason of, and that therefore name it.
_OF_A_LINE = {
    Why.NOT_FOUND, Why.FORBIDDEN, Why.NOT_LIVE, Why.NOT_OPEN, Why.CLOSED, Why.LIMIT_REACHED,
    Why.SOLD_OUT,
}  # fmt: skip
#: Words of admission that say nothing for good: the same key may be sent again.
_PASSING = ("epoch", "fenced")


class Deal:
    """One bundle under way, and whoever sent the same meanwhile."""

    __slots__ = ("answered", "copies", "first", "held", "same", "wanted")

    def __init__(self, same: Same, first: Bundle, wanted: dict[str, int]) -> None:
        self.same = same
        self.first = first
        self.copies: list[Bundle] = []
        self.wanted = wanted  # units by offer, in the order in which they are held
        self.held: list[Part] = []  # those that have a hold which is not resolved yet
        self.answered = False


class Bundles:
    """Takes bundles and answers each exactly once."""

    def __init__(self, selling: Selling) -> None:
        self._selling = selling
        self.ledger = BundleLedger(selling.ledger)
        self._reads: Coalesced[str, list[Order]] = Coalesced(self.ledger.orders)
        self._deals: dict[Same, Deal] = {}  # those not answered yet
        self._slots = asyncio.Semaphore(selling.limits.bundle_admissions_at_once)
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting = 0  # bundles without an answer

    @property
    def under_way(self) -> int:
        """How many are not answered, or have holds that are not resolved."""
        return len(self._tasks)

    def buy(self, bundle: Bundle) -> None:
        """Take a bundle; `bundle.done` is called exactly once, now or later. Never raises."""
        self._waiting += 1
        metrics.BUNDLES_WAITING.set(self._waiting)
        limits = self._selling.limits
        wanted = summed(bundle.lines, limits.line_qty_max)
        if isinstance(wanted, Refused):
            self._answer(bundle, wanted)
            return
        same = (bundle.stream, bundle.viewer, bundle.key, tuple(wanted.items()))
        deal = self._deals.get(same)
        well = all(self._selling.may_ask(offer, bundle.viewer) for offer in wanted)
        if not well or self._waiting > limits.bundles_max:
            self._answer(bundle, self._selling.retry())
        elif deal is not None:
            deal.copies.append(bundle)
        else:
            deal = self._deals[same] = Deal(same, bundle, wanted)
            task = asyncio.get_running_loop().create_task(self._run(deal))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _run(self, deal: Deal) -> None:
        until = asyncio.get_running_loop().time() + self._selling.limits.park_s
        try:
            if await self._hold(deal, until):
                await self._admit(deal, until)
        except Exception:
            log.exception("a bundle of %s failed", deal.first.viewer)
            self._end(deal, Refused(Why.INTERNAL), undo=False)

    # --- holds ---------------------------------------------------------------------------------

    async def _hold(self, deal: Deal, until: float) -> bool:
        """Hold what is wanted of one offer after the other; tell whether all of it is held.

        In id order, so that no two bundles wait for each other's holds. A line that is parked at
        its counter for others' unwritten holds waits until `until`, and is never told `sold_out`
        meanwhile (R6).
        """
        first, loop = deal.first, asyncio.get_running_loop()
        for offer, qty in deal.wanted.items():
            part = Part(offer, first.viewer, qty, first.key, first.tag, first.stream, first.ticket)
            self._selling.buy(part)
            if not await within(part.judged, until - loop.time()):
                part.left = True  # a hold that comes yet is given back where it comes
                self._end(deal, self._selling.retry(), undo=True)
                return False
            judged = part.judged.result()
            if isinstance(judged, Held):
                deal.held.append(part)
                continue
            if isinstance(judged, Accepted):
                await self._replay(deal, judged.order)
            else:
                self._end(deal, judged, undo=True, offer=offer)
            return False
        return True

    async def _replay(self, deal: Deal, order: Order) -> None:
        """Answer a bundle one line of which has a row with its key: all have, or it is another."""
        outcome: BundleOutcome = Refused(Why.KEY_REUSED)
        orders: list[Order] = []
        try:
            found = await self._selling.in_time(self._reads.get(order.bundle or ""))
            orders = found or []
        except Exception as error:  # noqa: BLE001 - told to the buyer
            outcome = self._selling.excuse(error)
        if orders and {o.offer: o.qty for o in orders} == deal.wanted:
            outcome = Bundled(cast(str, order.bundle), orders, replayed=True)
        self._end(deal, outcome, undo=True, orders=orders)

    # --- admission -----------------------------------------------------------------------------

    async def _admit(self, deal: Deal, until: float) -> None:
        """Put the whole bundle to the ledger; it is answered in time, whatever that does."""
        selling, loop = self._selling, asyncio.get_running_loop()
        try:
            async with asyncio.timeout(until - loop.time()):
                await self._slots.acquire()
        except TimeoutError:
            self._end(deal, selling.retry(), undo=True)  # sent to nobody yet
            return
        try:
            await failpoints.reach("bundle.held")
            lines = [_line(part) for part in deal.held]
            call = loop.create_task(self.ledger.admit(selling.new_bundle_id(), lines))
            if not await within(call, selling.limits.answer_s):
                selling.ledger_health.failed("no answer to a bundle's admission in time")
                self._conclude(deal, selling.retry())
            await self._see_through(deal, call)
        finally:
            self._slots.release()

    async def _see_through(self, deal: Deal, call: asyncio.Task[list[Judged]]) -> None:
        """Deal with an admission's answer, however late it comes."""
        try:
            judged = await call
        except LedgerAway as error:
            # Not known, unless it was told that it waited for too long: the same key admits the
            # same ids again, or the keeper fences them.
            busy = isinstance(error, LedgerBusy)
            if not busy:
                self._selling.ledger_health.failed(error)
            self._end(deal, self._selling.retry(), undo=busy)
        except Exception as error:  # noqa: BLE001 - told to the buyer
            log.error("admission of a bundle of %s failed: %r", deal.first.viewer, error)
            self._end(deal, Refused(Why.INTERNAL), undo=False)
        else:
            await failpoints.reach("bundle.committed")
            self._settle(deal, judged)

    def _settle(self, deal: Deal, judged: list[Judged]) -> None:
        """Answer a bundle that was decided, and remember to tell the gate."""
        orders = [line.order for line in judged if line.order is not None]
        words = [line.word for line in judged]
        if words[0] in ("ok", "again"):
            sales = list(zip(deal.held, judged, strict=True)) if words[0] == "ok" else []
            bundle, late = cast(str, orders[0].bundle), deal.answered
            self._end(deal, Bundled(bundle, orders, not sales), undo=True, orders=orders)
            self._tell(sales, late)
            return
        # Refused as a whole, and no other admission under these ranks is under way.
        n, word = next((n, word) for n, word in enumerate(words) if word is not None)
        part = deal.held[n]
        # A bucket that ran out says nothing of the offer: the next try borrows, or hears it.
        short = word == "sold_out" and cast(Holder, part.holder).home != part.offer
        refused = self._selling.retry() if short or word in _PASSING else Refused(Why(word))
        self._end(deal, refused, undo=True, offer=part.offer, orders=orders)

    def _tell(self, sales: Sequence[tuple[Part, Judged]], late: bool) -> None:
        """Tell the listener; a fault of his must not make a bundle look refused.

        `late`: the buyer was told `retry`, so that the news is for each of his connections.
        """
        listener = self._selling.listener
        try:
            for part, line in sales:
                order = cast(Order, line.order)
                figures = cast(Holder, part.holder).figures(line.left, line.version)
                if late:
                    listener.changed([order])
                    if figures is not None:
                        listener.figures(figures)
                else:
                    listener.sold([(part, order)], figures)
            if any(line.told for _, line in sales):
                listener.told(sales[0][0].stream or "")
        except Exception:
            log.exception("a bundle could not be told")

    # --- the end -------------------------------------------------------------------------------

    def _end(
        self,
        deal: Deal,
        outcome: BundleOutcome,
        *,
        undo: bool,
        offer: str | None = None,
        orders: Sequence[Order] = (),
    ) -> None:
        """Resolve the holds, then answer: `orders` are rows that have the key, `offer` is at fault.

        `undo`: fresh holds without a row go back at once, as no admission can make one any more.
        """
        rows = {order.offer: order for order in orders}
        parts, deal.held = deal.held, []
        for part in parts:
            held, order = cast(Held, part.judged.result()), rows.get(part.offer)
            if part.holder is not None:
                written = order is not None and order.id == held.line.id
                part.holder.resolve(held, written, undo)
            if isinstance(outcome, Bundled):
                self._selling.answer(part, Accepted(rows[part.offer], outcome.replayed))
            else:
                self._selling.answer(part, outcome)
        self._conclude(deal, outcome, offer)

    def _conclude(self, deal: Deal, outcome: BundleOutcome, offer: str | None = None) -> None:
        """Answer everybody who sent this bundle, once."""
        if deal.answered:
            return
        deal.answered = True
        del self._deals[deal.same]
        self._answer(deal.first, _told(deal.first, outcome, offer))
        for copy in deal.copies:
            again = outcome
            if isinstance(outcome, Bundled):
                again = Bundled(outcome.bundle, outcome.orders, replayed=True)
            self._answer(copy, _told(copy, again, offer))

    def _answer(self, bundle: Bundle, outcome: BundleOutcome) -> None:
        self._waiting -= 1
        metrics.BUNDLES_WAITING.set(self._waiting)
        try:
            bundle.done(bundle, outcome)
        except Exception:
            log.exception("an answer to %s could not be delivered", bundle.key)

    def close(self) -> None:
        """End what is under way; its outcome is unknown to who asked, as after a crash."""
        for task in list(self._tasks):
            task.cancel()


def summed(lines: Sequence[tuple[str, int]], qty_max: int) -> dict[str, int] | Refused:
    """Return the units wanted of each offer, by id: limits and stock see one sum, not its lines."""
    wanted: dict[str, int] = {}
    for n, (offer, qty) in enumerate(lines):
        wanted[offer] = wanted.get(offer, 0) + qty
        if wanted[offer] > qty_max:
            what = f"Expected at most {qty_max:,} of one offer, all its lines together"
            return Refused(Why.BAD_REQUEST, field=f"lines[{n}].qty", message=what)
    return dict(sorted(wanted.items()))


def _line(part: Part) -> BundleLine:
    held = cast(Held, part.judged.result())
    return BundleLine(cast(Holder, part.holder).home, held.epoch, held.line)


def _told(bundle: Bundle, outcome: BundleOutcome, offer: str | None) -> BundleOutcome:
    """Return an outcome in terms of the lines that this sender sent."""
    if isinstance(outcome, Bundled):
        by_offer = {order.offer: order for order in outcome.orders}
        named = dict.fromkeys(name for name, _ in bundle.lines)
        return Bundled(outcome.bundle, [by_offer[name] for name in named], outcome.replayed)
    if offer is None or outcome.why not in _OF_A_LINE:
        return outcome
    at = next(n for n, (name, _) in enumerate(bundle.lines) if name == offer)
    return msgspec.structs.replace(outcome, field=f"lines[{at}]")
