"""The counter of one offer on this hub: holds and admissions in batches, parked buys between.

Owns the order of steps of a buy (hold, admission, answer, mark) and what is kept between them;
knows no sockets. Called by selling alone. Batching is natural: while a hold call or an admission
is under way, the next batch gathers; a lone buy goes at once.

What makes each step safe when the process stops after it: a hold without a row is found by the
keeper, who fences before he releases (R1); a row without a mark is marked by the keeper, or found
by the next buy with its key; an answer that never left is given again for the same key.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from orders import metrics
from orders.deadline import within
from orders.ledger.ledger import Admitted, LedgerAway, Line
from orders.records import Accepted, Buy, Figures, Offer, Order, Refused, Why
from orders.stock.gate import CALL_MAX, Decided, Frozen, GateAway, GateBroken
from orders.stock.keys import key_field

if TYPE_CHECKING:
    from orders.selling import Selling

log = logging.getLogger(__name__)

_REFUSED = {why.value: Refused(why) for why in Why}
_HELD = ("held", "adopted")


class Counter:
    """Takes the buys of one offer; lives as long as it has work, then rests."""

    def __init__(self, offer: Offer, selling: Selling) -> None:
        self.offer = offer
        self._selling = selling
        self._limits = selling.limits
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Buy] = deque()  # to be asked of the gate next
        self._parked: deque[Buy] = deque()  # waiting for anybody's hold to be written (stock)
        self._limited: dict[str, list[Buy]] = {}  # by viewer, waiting for his own holds
        self._written: list[tuple[str, str]] = []  # (id, viewer) of rows the gate is not told of
        self._held: deque[tuple[Buy, Line, int]] = deque()  # (buy, line, epoch) to be admitted
        self._unresolved = 0  # holds taken here whose admission has no answer yet
        self._admitting = 0  # admission calls under way
        self._polled_at = 0.0
        self._looked_at = 0.0
        self._news = asyncio.Event()
        self._pump: asyncio.Task[None] | None = None
        self._admissions: set[asyncio.Task[None]] = set()

    @property
    def idle(self) -> bool:
        """Tell whether nothing is under way or waiting."""
        return self._pump is None and not self._admissions

    def put(self, buy: Buy) -> None:
        """Take a buy; it is answered exactly once."""
        self._waiting.append(buy)
        self._wake()

    def _wake(self) -> None:
        self._news.set()
        if self._pump is None:
            self._pump = self._loop.create_task(self._run())

    # --- the pump: one hold call after the other ---------------------------------------------

    async def _run(self) -> None:
        try:
            while self._waiting or self._written or self._parked or self._limited:
                self._news.clear()
                if not self._selling.well:
                    self._answer_all_retry()
                    if not self._written:
                        break
                self._give_up_parked()
                room = self._limits.unwritten_hub_max - self._unresolved
                poll = self._loop.time() - self._polled_at >= self._limits.poll_s
                parked = bool(self._parked or self._limited)
                if (self._waiting and room > 0) or self._written or (parked and poll):
                    await self._ask(min(room, self._limits.hold_batch_max))
                else:
                    await self._rest()
        finally:
            self._pump = None

    async def _rest(self) -> None:
        """Wait for news, or until parked buys look again."""
        try:
            async with asyncio.timeout(self._limits.poll_s):
                await self._news.wait()
        except TimeoutError:
            return

    async def _ask(self, buys_max: int) -> None:
        """Make one hold call and deal with what it says."""
        limits, selling = self._limits, self._selling
        taken = min(buys_max, len(self._waiting)) if selling.well else 0
        batch = [self._waiting.popleft() for _ in range(taken)]
        written = self._written[: CALL_MAX - taken]
        del self._written[: len(written)]
        for buy in batch:
            if not buy.id:
                buy.id = selling.new_order_id()
        started = self._loop.time()
        self._polled_at = started
        call = self._loop.create_task(
            selling.gate.hold(
                self.offer.id,
                written,
                [(b.viewer, b.qty, b.id, key_field(b.viewer, b.key)) for b in batch],
            )
        )
        if not await within(call, limits.answer_s):
            selling.gate_health.failed("no answer to a hold call in time")
            self._answer_retry(batch)
            self._answer_all_retry()
            await self._undo_late(call, batch, written)
            return
        try:
            decided = call.result()
        except (GateAway, GateBroken) as error:
            # Whether the holds were taken is not known: the same key finds out, or the keeper.
            if isinstance(error, GateAway):
                selling.gate_health.failed(error)
            self._written = written + self._written
            self._answer_retry(batch)
            self._answer_all_retry()
            await asyncio.sleep(limits.poll_s * 5)
            return
        metrics.HOLD_S.observe(self._loop.time() - started)
        if isinstance(decided, Frozen):
            selling.frozen(self.offer.id, batch)
            return
        if batch:
            metrics.HOLD_BATCH.observe(len(batch))
        self._sort(batch, decided)
        self._unpark(decided)

    async def _undo_late(
        self,
        call: asyncio.Task[Decided | Frozen],
        batch: Sequence[Buy],
        written: list[tuple[str, str]],
    ) -> None:
        """Wait for an answer that nobody waits for any more, and give its holds back.

        They were never sent to admission, so (id, rank) is enough (R1); a buyer who came again
        with his key has moved the rank, and keeps his hold.
        """
        try:
            decided = await call
            if isinstance(decided, Decided):
                holds = [(i, rank) for word, rank, i in decided.lines if word in _HELD]
                await self._selling.gate.release(self.offer.id, decided.epoch, holds)
                return
        except (GateAway, GateBroken) as error:
            log.warning("late holds of %s are left to the keeper: %s", self.offer.id, error)
        self._written = written + self._written

    def _sort(self, batch: Sequence[Buy], decided: Decided) -> None:
        """Send each buy of a hold call its way."""
        replays: list[Buy] = []
        now = self._loop.time()
        for buy, (word, rank, id_) in zip(batch, decided.lines, strict=True):
            if word in _HELD:
                buy.id = id_
                line = Line(id_, buy.viewer, buy.key, buy.qty, rank)
                self._held.append((buy, line, decided.epoch))
                self._unresolved += 1
            elif word == "replay":
                buy.id = id_
                replays.append(buy)
            elif word in ("park_limit", "park_stock"):
                buy.parked_at = buy.parked_at or now
                if word == "park_limit":
                    self._limited.setdefault(buy.viewer, []).append(buy)
                else:
                    self._parked.append(buy)
            else:
                self._selling.answer(buy, _REFUSED[word])
        if replays:
            self._selling.replay(replays)
        self._admit_next()

    # --- parked buys ---------------------------------------------------------------------------

    def _unpark(self, decided: Decided) -> None:
        """Ask again for those whose answer may be final now."""
        room = len(self._parked) if decided.unwritten == 0 else max(0, decided.left)
        for _ in range(min(room, len(self._parked))):
            self._waiting.append(self._parked.popleft())
        if decided.unwritten == 0:
            for buys in self._limited.values():
                self._waiting.extend(buys)
            self._limited.clear()

    def _give_up_parked(self) -> None:
        """Answer `retry` to whom has been parked too long, and let the limited look again."""
        too_long = self._loop.time() - self._limits.park_s
        for _ in range(len(self._parked)):
            buy = self._parked.popleft()
            if buy.parked_at < too_long:
                self._selling.answer(buy, self._selling.retry())
            else:
                self._parked.append(buy)
        again = self._loop.time() - self._looked_at >= self._limits.look_s
        if again:
            self._looked_at = self._loop.time()
        for n, (viewer, buys) in enumerate(list(self._limited.items())):
            if buys[0].parked_at < too_long:
                del self._limited[viewer]
                self._answer_retry(buys)
            elif again and n < self._limits.look_max:  # his holds may be another hub's
                del self._limited[viewer]
                self._waiting.extend(buys)

    def _answer_all_retry(self) -> None:
        """Fail closed and fast: nothing waits for a dependency that is away."""
        gone = [*self._waiting, *self._parked, *(b for bs in self._limited.values() for b in bs)]
        self._waiting.clear()
        self._parked.clear()
        self._limited.clear()
        self._answer_retry(gone)

    def _answer_retry(self, buys: Sequence[Buy]) -> None:
        for buy in buys:
            self._selling.answer(buy, self._selling.retry())

    # --- admissions ----------------------------------------------------------------------------

    def _admit_next(self) -> None:
        """Start admissions while there are held buys and room for a call."""
        while self._held and self._admitting < self._limits.admissions_at_once:
            epoch = self._held[0][2]
            batch: list[tuple[Buy, Line]] = []
            seen: set[str] = set()
            while self._held and len(batch) < self._limits.admit_batch_max:
                buy, line, line_epoch = self._held[0]
                if line_epoch != epoch or line.id in seen:
                    break
                seen.add(line.id)
                batch.append((buy, line))
                self._held.popleft()
            self._admitting += 1
            task = self._loop.create_task(self._admit(batch, epoch))
            self._admissions.add(task)
            task.add_done_callback(self._admissions.discard)

    async def _admit(
        self, batch: list[tuple[Buy, Line]], epoch: int, answered: bool = False
    ) -> None:
        """Put one batch to the ledger and see it through, however late the answer comes.

        `answered`: its buyers were told `retry` already.
        """
        try:
            call = self._loop.create_task(
                self._selling.ledger.admit(self.offer.id, epoch, [line for _, line in batch])
            )
            started = self._loop.time()
            if not await within(call, self._limits.answer_s) and not answered:
                self._selling.ledger_health.failed("no answer to an admission in time")
                self._answer_retry([buy for buy, _ in batch])
                answered = True
            admitted = await call
            metrics.ADMIT_S.observe(self._loop.time() - started)
            metrics.ADMIT_BATCH.observe(len(batch))
            self._settle(batch, admitted, answered)
        except LedgerAway as error:
            # Not known: the same ids are admitted again by the same key, or fenced by the keeper.
            self._selling.ledger_health.failed(error)
            if not answered:
                self._answer_retry([buy for buy, _ in batch])
        except Exception as error:  # noqa: BLE001 - told to the buyers, one by one
            await self._bisect(batch, epoch, error, answered)
            return
        finally:
            self._admitting -= 1
        self._unresolved -= len(batch)
        self._admit_next()
        self._wake()

    async def _bisect(
        self, batch: list[tuple[Buy, Line]], epoch: int, error: Exception, answered: bool
    ) -> None:
        """Find the line that poisons a batch, so that the others sell on (R5)."""
        if len(batch) == 1:
            log.error("admission of %s failed: %r", batch[0][1].id, error)
            self._unresolved -= 1
            if not answered:
                self._selling.answer(batch[0][0], Refused(Why.INTERNAL))
            self._admit_next()
            self._wake()
            return
        log.warning("an admission of %d lines failed, halving it: %r", len(batch), error)
        middle = len(batch) // 2
        for half in (batch[:middle], batch[middle:]):
            self._admitting += 1
            await self._admit(half, epoch, answered)

    def _settle(self, batch: list[tuple[Buy, Line]], admitted: Admitted, answered: bool) -> None:
        """Answer a committed batch, then remember to tell the gate."""
        selling, offer = self._selling, self.offer
        sales: list[tuple[Buy, Order]] = []
        replays: list[Buy] = []
        for i, (buy, line) in enumerate(batch):
            word = "ok" if admitted.outcomes is None else admitted.outcomes[i]
            if word == "ok":
                order = self._order(line, admitted)
                sales.append((buy, order))
                self._written.append((line.id, line.viewer))
                if not answered:
                    selling.answer(buy, Accepted(order))
            elif word == "again":
                replays.append(buy)
            elif answered:
                continue
            elif word == "fenced":
                self._waiting.append(buy)  # adopts its own hold anew, if that still stands (R1)
            elif word == "epoch":
                selling.answer(buy, selling.retry())
            else:
                selling.answer(buy, _REFUSED[word])
        for buy, _ in sales:
            mine = self._limited.pop(buy.viewer, None)
            if mine:
                self._waiting.extend(mine)
        if replays:
            selling.replay(replays, answered, self._mark)
        if sales:
            figures = Figures(offer.id, offer.stream, admitted.left, admitted.version)
            if answered:  # they were told `retry`: the news is for each of their connections
                selling.listener.changed([order for _, order in sales])
                selling.listener.figures(figures)
            else:
                selling.listener.sold(sales, figures)
        if admitted.told:
            selling.listener.told(offer.stream)

    def _mark(self, order: Order) -> None:
        """Remember that a hold's row was found, so that the gate is told."""
        self._written.append((order.id, order.viewer))
        self._wake()

    def _order(self, line: Line, admitted: Admitted) -> Order:
        offer = self.offer
        confirmed = admitted.status == "confirmed"
        return Order(
            id=line.id,
            stream=offer.stream,
            offer=offer.id,
            product=offer.product,
            viewer=line.viewer,
            key=line.key,
            qty=line.qty,
            unit_price_minor=offer.price_minor,
            currency=offer.currency,
            status=admitted.status,
            rank=line.rank,
            version=1,
            reserved_at=admitted.reserved_ms,
            expires_at=None if confirmed else admitted.expires_ms,
            confirmed_at=admitted.reserved_ms if confirmed else None,
        )
