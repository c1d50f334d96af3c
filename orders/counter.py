"""The counter of an offer, or a bucket of it, on this hub: holds and admissions in batches.

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
from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING

from orders import failpoints, metrics
from orders.borrowing import Borrowing
from orders.deadline import within
from orders.held import Held, Part, order_of
from orders.ledger.ledger import Admitted, LedgerAway, LedgerBusy, Line
from orders.parking import Parking
from orders.records import Accepted, Buy, Figures, Offer, Order, Refused, Why
from orders.stock.gate import CALL_MAX, Decided, Frozen, GateAway, GateBroken
from orders.stock.keys import key_field
from orders.undo import Undo

if TYPE_CHECKING:
    from orders.selling import Selling

log = logging.getLogger(__name__)

_REFUSED = {why.value: Refused(why) for why in Why}


class Counter:
    """Takes the buys of one offer; lives as long as it has work, then rests."""

    def __init__(self, offer: Offer, home: str, selling: Selling) -> None:
        self.offer = offer
        self.home = home  # whose lock and gate it is: the offer, or a bucket of it
        self._bucket = offer.homes.index(home) + 1 if offer.spread else 0
        self._selling = selling
        self._limits = selling.limits
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Buy] = deque()  # to be asked of the gate next
        self._parking = Parking()
        self._written: dict[str, str] = {}  # id to viewer, of rows that the gate is not told of
        self._held: deque[Held] = deque()  # to be admitted next
        self._undo = Undo(home, selling.gate, self._limits.hold_batch_max)
        self._borrowing: Borrowing | None = None
        if offer.spread:
            self._borrowing = Borrowing(offer, home, selling, self._ask_again)
        self._unresolved = 0  # holds taken here whose admission has no answer yet
        self._admitting = 0  # admission calls under way that somebody waits for
        self._polled_at = 0.0
        self._looked_at = 0.0
        self._news = asyncio.Event()
        self._pump: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def idle(self) -> bool:
        """Tell whether nothing is under way or waiting."""
        return not (
            self._pump or self._tasks or self._unresolved or self._undo.busy
            or (self._borrowing is not None and self._borrowing.busy)
        )  # fmt: skip

    def put(self, buy: Buy) -> None:
        """Take a buy; it is answered exactly once."""
        self._waiting.append(buy)
        self._wake()

    def _ask_again(self, buys: Sequence[Buy]) -> None:
        self._waiting.extend(buys)
        self._wake()

    def _wake(self) -> None:
        self._news.set()
        if self._pump is None:
            self._pump = self._loop.create_task(self._run())

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- the pump: one hold call after the other ---------------------------------------------

    async def _run(self) -> None:
        try:
            while self._waiting or self._written or self._parking:
                self._news.clear()
                if not self._selling.well_for(self.home):
                    self._answer_all_retry()
                    if not self._written:
                        break
                poll = self._loop.time() - self._polled_at >= self._limits.poll_s
                if poll:
                    self._look_after_parked()
                room = self._limits.unwritten_hub_max - self._unresolved
                if (self._waiting and room > 0) or self._written or (self._parking and poll):
                    await self._ask(max(0, min(room, self._limits.hold_batch_max)))
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
        taken = min(buys_max, len(self._waiting)) if selling.well_for(self.home) else 0
        batch = [self._waiting.popleft() for _ in range(taken)]
        written = list(self._written.items())[: CALL_MAX - taken]
        for id_, _ in written:
            del self._written[id_]
        for buy in batch:
            if not buy.id:
                buy.id = selling.new_order_id()
        if written:
            await failpoints.reach("mark.due")
        started = self._loop.time()
        poll = started - self._polled_at >= limits.poll_s
        if poll:
            self._polled_at = started
        call = self._loop.create_task(
            selling.gate.hold(
                self.home,
                written,
                [(b.viewer, b.qty, b.id, key_field(b.viewer, b.key)) for b in batch],
            )
        )
        await failpoints.reach("hold.sent")
        if not await within(call, limits.answer_s):
            selling.gate_health.failed(self.home, "no answer to a hold call in time")
            self._answer_retry(batch)
            self._answer_all_retry()
            self._spawn(self._undo_late(call, written))
            return
        try:
            decided = call.result()
        except Exception as error:
            # Whether the holds were taken is not known: the same key finds out, or the keeper.
            if isinstance(error, GateAway):
                selling.gate_health.failed(self.home, error)
            elif not isinstance(error, GateBroken):
                log.error("a hold call of %s failed", self.home, exc_info=error)
            self._written.update(written)
            self._answer_retry(batch)
            self._answer_all_retry()
            await asyncio.sleep(limits.poll_s * 5)
            return
        await failpoints.reach("hold.replied")
        metrics.HOLD_S.observe(self._loop.time() - started)
        if isinstance(decided, Frozen):
            selling.frozen(self.offer.id, batch)
            return
        if batch:
            metrics.HOLD_BATCH.observe(len(batch))
        self._sort(batch, decided)
        if decided.unwritten == 0:
            self._waiting.extend(self._parking.all())
        elif poll and decided.left > 0:
            self._waiting.extend(self._parking.fitting(decided.left))

    async def _undo_late(
        self, call: asyncio.Task[Decided | Frozen], written: list[tuple[str, str]]
    ) -> None:
        """Wait for an answer that nobody waits for any more, and give its new holds back.

        They were never sent to admission, so (id, rank) is enough (R1); a buyer who came again
        with his key has moved the rank, and keeps his hold.
        """
        try:
            decided = await call
        except Exception as error:  # noqa: BLE001 - its holds are found by key, or by the keeper
            log.warning("a late hold call of %s failed: %r", self.home, error)
            if written:
                self._written.update(written)
                self._wake()
            return
        if isinstance(decided, Decided):
            for word, rank, id_ in decided.lines:
                if word == "held":
                    self._undo.add(decided.epoch, id_, rank)

    def _sort(self, batch: Sequence[Buy], decided: Decided) -> None:
        """Send each buy of a hold call its way."""
        replays: list[Buy] = []
        now = self._loop.time()
        for buy, (word, rank, id_) in zip(batch, decided.lines, strict=True):
            if word in ("held", "adopted"):
                buy.id = id_
                line = Line(id_, buy.viewer, buy.key, buy.qty, rank)
                held = Held(buy, line, decided.epoch, word == "held")
                self._unresolved += 1
                if not isinstance(buy, Part):
                    self._held.append(held)
                elif not buy.take(self, held):  # nobody waits for it any more
                    self.resolve(held, written=False, undo=True)
                    self._selling.answer(buy, self._selling.retry())
            elif word == "replay":
                buy.id = id_
                replays.append(buy)
            elif self._borrowing is not None and (
                word == "sold_out" or (word == "park_stock" and decided.left < buy.qty)
            ):
                self._borrowing.put(buy)
            elif word in ("park_own", "park_stock"):
                if buy.parked_at and buy.parked_at < now - self._limits.park_s:
                    self._selling.answer(buy, self._selling.retry())
                else:
                    self._parking.park(buy, word == "park_own", now)
            else:
                self._selling.answer(buy, _REFUSED[word])
        if replays:
            self._selling.replay(replays)
        self._admit_next()

    def _look_after_parked(self) -> None:
        """Answer `retry` to whom has been parked too long, and let some look again."""
        now, limits = self._loop.time(), self._limits
        self._answer_retry(self._parking.overdue(now - limits.park_s))
        if now - self._looked_at >= limits.look_s:
            self._looked_at = now
            self._waiting.extend(self._parking.some(limits.look_max))

    def _answer_all_retry(self) -> None:
        """Fail closed and fast: nothing waits for a dependency that is away."""
        short = [] if self._borrowing is None else self._borrowing.all()
        gone = [*self._waiting, *self._parking.all(), *short]
        self._waiting.clear()
        self._answer_retry(gone)

    def _answer_retry(self, buys: Sequence[Buy]) -> None:
        for buy in buys:
            self._selling.answer(buy, self._selling.retry())

    def resolve(self, held: Held, written: bool, undo: bool) -> None:
        """Take note of what became of a part's hold: it has a row, is to go back, or neither.

        Neither: its outcome is not known, or it was adopted. The same key finds out, or the keeper.
        """
        self._unresolved -= 1
        if written:
            self._written[held.line.id] = held.line.viewer
            self._waiting.extend(self._parking.of(held.line.viewer))
        elif undo and held.fresh:
            self._undo.add(held.epoch, held.line.id, held.line.rank)
        self._wake()

    # --- admissions ----------------------------------------------------------------------------

    def _admit_next(self) -> None:
        """Start admissions while there are held buys and room for a call."""
        while self._held and self._admitting < self._limits.admissions_at_once:
            epoch = self._held[0].epoch
            batch: list[Held] = []
            seen: set[str] = set()
            while self._held and len(batch) < self._limits.admit_batch_max:
                held = self._held[0]
                if held.epoch != epoch or held.line.id in seen:
                    break
                seen.add(held.line.id)
                batch.append(held)
                self._held.popleft()
            self._admitting += 1
            self._spawn(self._admit(batch))

    async def _admit(self, batch: list[Held]) -> None:
        """Put one batch to the ledger; its buyers are answered in time, whatever it does."""
        await failpoints.reach("admit.due")
        started = self._loop.time()
        call = self._call(batch)
        await failpoints.reach("admit.sent")
        answered = not await within(call, self._limits.answer_s)
        metrics.ADMIT_S.observe(self._loop.time() - started)
        self._admitting -= 1
        if answered:
            self._selling.ledger_health.failed("no answer to an admission in time")
            self._answer_retry([held.buy for held in batch])
            self._drop_held()
        await self._see_through(batch, call, answered)
        self._unresolved -= len(batch)
        self._admit_next()
        self._wake()

    def _call(self, batch: list[Held]) -> asyncio.Task[Admitted]:
        lines = [held.line for held in batch]
        return self._loop.create_task(self._selling.ledger.admit(self.home, batch[0].epoch, lines))

    def _drop_held(self) -> None:
        """Answer those whose admission did not begin; nothing waits for a ledger that is away."""
        held, self._held = list(self._held), deque()
        self._unresolved -= len(held)
        self._answer_retry([one.buy for one in held])
        for one in held:
            if one.fresh:
                self._undo.add(one.epoch, one.line.id, one.line.rank)

    async def _see_through(
        self, batch: list[Held], call: asyncio.Task[Admitted], answered: bool
    ) -> None:
        """Deal with an admission's answer, however late it comes.

        `answered`: its buyers were told `retry` already.
        """
        try:
            admitted = await call
        except LedgerAway as error:
            # Not known: the same ids are admitted again by the same key, or fenced by the keeper.
            if not isinstance(error, LedgerBusy):
                self._selling.ledger_health.failed(error)
            if not answered:
                self._answer_retry([held.buy for held in batch])
        except Exception as error:  # noqa: BLE001 - told to the buyers, one by one
            await self._bisect(batch, error, answered)
        else:
            await failpoints.reach("admit.committed")
            metrics.ADMIT_BATCH.observe(len(batch))
            self._settle(batch, admitted, answered)

    async def _bisect(self, batch: list[Held], error: Exception, answered: bool) -> None:
        """Find the line that poisons a batch, so that the others sell on (R5)."""
        if len(batch) == 1:
            log.error("admission of %s failed: %r", batch[0].line.id, error)
            if not answered:
                self._selling.answer(batch[0].buy, Refused(Why.INTERNAL))
            return
        log.warning("an admission of %d lines failed, halving it: %r", len(batch), error)
        middle = len(batch) // 2
        for half in (batch[:middle], batch[middle:]):
            await self._see_through(half, self._call(half), answered)

    def _settle(self, batch: list[Held], admitted: Admitted, answered: bool) -> None:
        """Answer a committed batch, and remember to tell the gate."""
        selling = self._selling
        sales: list[tuple[Buy, Order]] = []
        replays: dict[Buy, Held] = {}
        for i, (buy, line, _, fresh) in enumerate(batch):
            word = "ok" if admitted.outcomes is None else admitted.outcomes[i]
            if word == "ok":
                order = order_of(self.offer, self._bucket, line, admitted)
                sales.append((buy, order))
                self._written[line.id] = line.viewer
                if not answered:
                    selling.answer(buy, Accepted(order))
            elif word == "again":
                replays[buy] = batch[i]
            elif word == "epoch":
                if not answered:
                    selling.answer(buy, selling.retry())
            elif word == "fenced":
                if not answered:
                    self._waiting.append(buy)  # adopts its own hold anew, if that stands (R1)
            else:
                # Refused for good, and no other admission under this rank is under way: a fresh
                # hold may go at once, so that nobody is parked behind it.
                if fresh:
                    self._undo.add(batch[0].epoch, line.id, line.rank)
                if not answered and word == "sold_out" and self._borrowing is not None:
                    self._borrowing.put(buy)  # in this bucket; the others may have some
                elif not answered:
                    selling.answer(buy, _REFUSED[word])
        for buy, _ in sales:
            self._waiting.extend(self._parking.of(buy.viewer))
        if replays:
            selling.replay(list(replays), answered, lambda buy, row: self._found(replays[buy], row))
        self._tell(sales, admitted, answered)

    def _tell(self, sales: list[tuple[Buy, Order]], admitted: Admitted, answered: bool) -> None:
        """Tell the listener; a fault of his must not make a batch look refused."""
        listener, offer = self._selling.listener, self.offer
        try:
            if sales:
                figures = self.figures(admitted.left, admitted.version)
                if answered:  # they were told `retry`: the news is for each of their connections
                    listener.changed([order for _, order in sales])
                    if figures is not None:
                        listener.figures(figures)
                else:
                    listener.sold(sales, figures)
            if admitted.told:
                listener.told(offer.stream)
        except Exception:
            log.exception("what was sold of %s could not be told", offer.id)

    def figures(self, left: int, version: int) -> Figures | None:
        """Return the offer's figures after an admission; of a bucket's, have them summed up."""
        if self.offer.spread:
            self._selling.wholes.changed(self.offer.id)
            return None
        return Figures(self.offer.id, self.offer.stream, left, version)

    def _found(self, held: Held, order: Order) -> None:
        """Deal with a hold whose key has a row: it is written, or the key is another order's.

        The waitlist may have made that one meanwhile: no row can come of this hold any more.
        """
        if order.id == held.line.id:
            self._written[order.id] = order.viewer
        elif held.fresh:
            self._undo.add(held.epoch, held.line.id, held.line.rank)
        self._wake()
