"""Selling: where a buy comes in, and the order of steps between the gate and the ledger.

Owns the counters (one an offer), the bundles, the cache of offers, the health of the two
dependencies, and the cold path for offers that the gate does not decide about (drafts and closed
ones). Knows no sockets and no wire. Built once a process by `livecart`.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TypeVar

from orders import metrics
from orders.bundles import Bundles
from orders.coalesce import Coalesced
from orders.counter import Counter
from orders.deadline import within
from orders.health import GateHealth, Health
from orders.held import Part
from orders.ids import Ids
from orders.ledger.ledger import Ledger, LedgerAway, LedgerBusy, LedgerSlow
from orders.lending import Lending
from orders.limits import SellingLimits
from orders.rebuild import Rebuilder
from orders.records import Accepted, Buy, Listener, Offer, Order, Outcome, Refused, Screen, Why
from orders.stock.gate import Gate
from orders.waitlist import Waitlist
from orders.whole import Wholes

log = logging.getLogger(__name__)

KeyOf = tuple[str, str, str]
T = TypeVar("T")


class Selling:
    """Takes buys and answers each exactly once."""

    def __init__(
        self, gate: Gate, ledger: Ledger, listener: Listener, ids: Ids, limits: SellingLimits,
        rebuilder: Rebuilder, screen: Screen | None = None,
    ) -> None:  # fmt: skip
        self.gate = gate
        self.ledger = ledger
        self.listener = listener
        self.limits = limits
        self._screen = screen
        self._ids = ids
        self.gate_health = GateHealth(gate)
        self.lending = Lending(gate, ledger, rebuilder, self.gate_health)
        self.ledger_health = Health("Postgres", ledger.ping)
        self._counters: dict[str, Counter] = {}
        self.wholes = Wholes(ledger, listener)
        self.free_reads: Coalesced[str, dict[str, int]] = Coalesced(ledger.free_in_buckets)
        self._offers: dict[str, Offer] = {}
        self._offer_reads: Coalesced[str, Offer] = Coalesced(self._load_offers)
        self._key_reads: Coalesced[KeyOf, Order] = Coalesced(self._load_by_key)
        self._cold: dict[tuple[str, bool], list[Buy]] = {}  # by (offer, frozen), being looked up
        self._tasks: set[asyncio.Task[None]] = set()
        self._open = 0  # buys without an answer
        self._retries = 0  # said in the present second,
        self._retries_before = 0  # in the one before,
        self._retries_since = 0.0  # and when the present one began
        self.counted: Callable[[Mapping[tuple[str | None, str], int]], None] | None = None
        self._tally: dict[tuple[str | None, str], int] = {}  # by stream and outcome
        self._tally_due = False
        self._closing = False
        self.bundles = Bundles(self)
        self.waitlist = Waitlist(self)

    def may_ask(self, offer: str, viewer: str) -> bool:
        """Tell whether a viewer's buy of an offer may be looked at now.

        Where he is at home in one that is not known yet is not known either: its row is asked
        for first, and the counter looks at the gate's health again.
        """
        known = self._offers.get(offer)
        return self.ledger_health.well if known is None else self.well_for(known.home(viewer))

    def well_for(self, home: str) -> bool:
        """Tell whether holds of an offer, or of a bucket, may be taken now."""
        return self.ledger_health.well and self.gate_health.well(home)

    def new_order_id(self) -> str:
        """Return a fresh order id."""
        return self._ids.new("or")

    def new_bundle_id(self) -> str:
        """Return a fresh bundle id."""
        return self._ids.new("bu")

    def retry(self) -> Refused:
        """Return a `retry` that spreads the crowd: the more of them lately, the later to return."""
        now = asyncio.get_running_loop().time()
        if now - self._retries_since > 1.0:
            self._retries_before = self._retries if now - self._retries_since < 2.0 else 0
            self._retries, self._retries_since = 0, now
        self._retries += 1
        crowd = max(self._retries, self._retries_before) / self.limits.retries_per_s
        after_ms = self.limits.retry_after_ms * (1 + crowd) * (0.5 + random.random())
        return Refused(Why.RETRY, min(int(after_ms), self.limits.retry_after_max_ms))

    # --- buys ----------------------------------------------------------------------------------

    def buy(self, buy: Buy) -> None:
        """Take a buy; `buy.done` is called exactly once, now or later. Never raises."""
        buy.at = asyncio.get_running_loop().time()
        self._open += 1
        offer = self._offers.get(buy.offer)
        well = self.may_ask(buy.offer, buy.viewer)
        if self._closing or not well or self._open > self.limits.waiting_max:
            self.answer(buy, self.retry())
        elif offer is None:
            self._judge_cold([buy], frozen=False)
        elif buy.stream is not None and buy.stream != offer.stream:
            self.answer(buy, Refused(Why.NOT_FOUND))
        else:
            self._let_in(offer, buy)

    def _let_in(self, offer: Offer, buy: Buy) -> None:
        """Let a buy join the line of its offer, once it is known that the viewer may buy."""
        if self._screen is None or not self._screen.concerns(offer):
            self._counter(offer, buy.viewer).put(buy)
        else:
            self._spawn(self._screened(self._screen, offer, buy))

    async def _screened(self, screen: Screen, offer: Offer, buy: Buy) -> None:
        """Judge the viewer; one who may not buy is still told of the order that has his key."""
        outcome: Outcome
        try:
            refused = await self.in_time(screen.judge(offer, buy.viewer, buy.ticket))
            if refused is None:
                self._counter(offer, buy.viewer).put(buy)
                return
            order = await self.in_time(self._key_reads.get((buy.offer, buy.viewer, buy.key)))
            outcome = refused if order is None else self._replayed(buy, order)
        except Exception as error:  # noqa: BLE001 - told to the buyer
            outcome = self.excuse(error)
        self.answer(buy, outcome)

    def _counter(self, offer: Offer, viewer: str) -> Counter:
        home = offer.home(viewer)
        counter = self._counters.get(home)
        if counter is None:
            counter = self._counters[home] = Counter(offer, home, self)
        return counter

    def answer(self, buy: Buy, outcome: Outcome) -> None:
        """Answer one buy. A fault of the one who is told must not reach the rest of a batch."""
        self._open -= 1
        if type(outcome) is Refused:  # isinstance costs ten times as much on a struct
            word = outcome.why.value
        else:
            assert type(outcome) is Accepted
            word = "replayed" if outcome.replayed else outcome.order.status
        if not (buy.asks_first and type(outcome) is Refused):
            counted = buy.stream, word
            self._tally[counted] = self._tally.get(counted, 0) + 1
        if not self._tally_due:
            self._tally_due = True
            loop = asyncio.get_running_loop()
            loop.call_later(0.25, self._count, loop.time() - buy.at)
        try:
            buy.done(buy, outcome)
        except Exception:
            log.exception("an answer to %s could not be delivered", buy.key)

    def _count(self, first_s: float) -> None:
        """Bring the figures of the last moment to the metrics, once for many answers."""
        self._tally_due = False
        metrics.BUY_S.observe(first_s)
        metrics.WAITING.set(self._open)
        self._hand_over()

    def _hand_over(self) -> None:
        """Tell the metrics and `counted` what buys came to; what they are given is emptied then."""
        for (_, word), n in self._tally.items():
            metrics.OUTCOMES.labels(word).inc(n)
        if self.counted is not None:
            self.counted(self._tally)
        self._tally.clear()

    def replay(
        self,
        buys: Sequence[Buy],
        answered: bool = False,
        found: Callable[[Buy, Order], None] | None = None,
    ) -> None:
        """Answer buys whose key has a row; `found` is told each row."""
        for buy in buys:
            self._spawn(self._replay(buy, answered, found))

    async def _replay(
        self, buy: Buy, answered: bool, found: Callable[[Buy, Order], None] | None
    ) -> None:
        order: Order | None = None
        outcome: Outcome
        try:
            order = await self.in_time(self._key_reads.get((buy.offer, buy.viewer, buy.key)))
            outcome = self._replayed(buy, order)
        except Exception as error:  # noqa: BLE001 - told to the buyer
            outcome = self.excuse(error)
        if order is not None and found is not None:
            found(buy, order)
        if not answered:
            self.answer(buy, outcome)

    def excuse(self, error: Exception) -> Refused:
        """Return what a buyer is told when a read for him failed."""
        if isinstance(error, LedgerAway | OverflowError):
            if isinstance(error, LedgerAway) and not isinstance(error, LedgerBusy | LedgerSlow):
                self.ledger_health.failed(error)
            return self.retry()
        log.error("a read for a buyer failed", exc_info=error)
        return Refused(Why.INTERNAL)

    def _replayed(self, buy: Buy, order: Order | None) -> Outcome:
        if order is None:
            return self.retry()
        if order.qty != buy.qty or (order.bundle is not None) is not isinstance(buy, Part):
            return Refused(Why.KEY_REUSED)  # alone and in a bundle are different requests
        return Accepted(order, replayed=True)

    # --- the cold path -------------------------------------------------------------------------

    def frozen(self, offer: str, buys: Sequence[Buy]) -> None:
        """Answer buys of an offer that the gate has no state of: by its rows, if it is closed."""
        self._offers.pop(offer, None)
        self._judge_cold(buys, frozen=True)

    def _judge_cold(self, buys: Sequence[Buy], frozen: bool) -> None:
        """Look the offer up, once for all who ask meanwhile."""
        for buy in buys:
            waiting = self._cold.get((buy.offer, frozen))
            if waiting is not None:
                waiting.append(buy)
            else:
                self._cold[buy.offer, frozen] = [buy]
                self._spawn(self._judge_offer(buy.offer, frozen))

    async def _judge_offer(self, offer_id: str, frozen: bool) -> None:
        offer: Offer | None = None
        outcome = Refused(Why.NOT_FOUND)
        try:
            offer = await self.in_time(self._offer_reads.get(offer_id))
        except Exception as error:  # noqa: BLE001 - told to each buyer
            outcome = self.excuse(error)
        buys = self._cold.pop((offer_id, frozen))
        if offer is not None and offer.active:
            self._remember(offer)
        for buy in buys:
            if offer is None:
                self.answer(buy, outcome)
            elif buy.stream is not None and buy.stream != offer.stream:
                self.answer(buy, Refused(Why.NOT_FOUND))
            elif offer.active and frozen:
                self.answer(buy, self.retry())
            elif offer.active:
                self._let_in(offer, buy)
            else:
                self._spawn(self._judge_shut(buy, offer))

    async def _judge_shut(self, buy: Buy, offer: Offer) -> None:
        """Answer a buy of a draft or a closed offer: its key first, then why it is not sold.

        What never left its draft is its shop's alone: for buyers there is no such offer.
        """
        outcome: Outcome
        try:
            order = await self.in_time(self._key_reads.get((buy.offer, buy.viewer, buy.key)))
        except Exception as error:  # noqa: BLE001 - told to the buyer
            outcome = self.excuse(error)
        else:
            if order is not None:
                outcome = self._replayed(buy, order)
            elif not offer.announced:
                outcome = Refused(Why.NOT_FOUND)
            else:
                outcome = Refused(
                    Why.NOT_LIVE if offer.stream_status == "scheduled" else Why.CLOSED
                )
        self.answer(buy, outcome)

    async def in_time(self, read: Coroutine[object, object, T]) -> T:
        """Return what is read; raise `LedgerSlow` when that takes longer than a buyer waits.

        The time may have gone by in our own queue of reads: a crowd that sends its keys again is
        no outage, and to take it for one would send everybody away and have them come back.
        """
        call = asyncio.get_running_loop().create_task(read)
        if not await within(call, self.limits.answer_s):
            call.cancel()
            raise LedgerSlow("no answer to a read in time")
        return call.result()

    async def offer(self, offer: str) -> Offer | None:
        """Return an offer as it is now, or None; raises `LedgerAway`."""
        return await self._offer_reads.get(offer)

    def home(self, offer: str, viewer: str) -> str:
        """Return where a viewer's orders of an offer are, as far as the offer is known here."""
        known = self._offers.get(offer)
        return offer if known is None else known.home(viewer)

    def known(self, offer: str) -> Offer | None:
        """Return what is kept of an offer that buys came for: of it, what never changes holds."""
        return self._offers.get(offer)

    def _remember(self, offer: Offer) -> None:
        """Keep what never changes of an offer that left its draft."""
        if len(self._offers) >= self.limits.offers_cached_max:
            self._offers.clear()
            self._counters = {k: c for k, c in self._counters.items() if not c.idle}
        self._offers[offer.id] = offer

    async def _load_offers(self, ids: Sequence[str]) -> Mapping[str, Offer]:
        found = await self.ledger.offers(ids)
        return {offer.id: offer for offer in found if offer.parent is None}

    async def _load_by_key(self, keys: Sequence[KeyOf]) -> Mapping[KeyOf, Order]:
        return {(o.offer, o.viewer, o.key): o for o in await self.ledger.orders_by_key(keys)}

    # --- life ------------------------------------------------------------------------------------

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a buy's task failed", exc_info=task.exception())

    async def drain(self, timeout_s: float) -> bool:
        """Take no more buys and wait until all are answered and marked; tell whether they are.

        Of what buckets lent each other, too, the gates are told before it is over.
        """
        self._closing = True
        deadline = asyncio.get_running_loop().time() + timeout_s
        while (
            self._open
            or self.bundles.under_way
            or self.lending.under_way
            or any(not counter.idle for counter in self._counters.values())
        ):
            if asyncio.get_running_loop().time() > deadline:
                return False
            await asyncio.sleep(0.01)
        return True

    def close(self) -> None:
        """End what runs in the background."""
        self._hand_over()
        self.gate_health.close()
        self.ledger_health.close()
        self.bundles.close()
        self.lending.close()
        for task in list(self._tasks):
            task.cancel()
