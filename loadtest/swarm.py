"""Thousands of WebSocket viewers in one process, cheap enough to embarrass the server.

Owns the crowd: dialling, hello, buys, reconnection, and sending again what has no final answer,
under the same key. It writes what it saw into a History and judges nothing. Frames are built
before the sale and answers are decoded narrowly, since every microsecond spent here is taken from
the server on the same machine. Called by the scenarios and the demo.
"""

from __future__ import annotations

import asyncio
import resource
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import zip_longest
from time import perf_counter_ns
from typing import Any, Final

from loadtest.arrivals import Arrivals, Fact
from loadtest.deliveries import Deliveries
from loadtest.endings import Endings
from loadtest.frames import Dialect, Handshake, Heard, OrderHeard, handshake, masked
from loadtest.history import PASSING, History
from loadtest.patience import Patience
from loadtest.pump import POSSIBLE, Pump, resolved, source_of
from loadtest.viewer import READY, Viewer

HELLO_ID: Final = 0  # buys are numbered from 1 on, other commands from behind the last buy
SWEEP_S: Final = 0.25
LEFT: Final = "left"  # why a viewer is gone who went by himself
FAULTS_KEPT_MAX: Final = 20


class Swarm:
    """All viewers of one stream; `history` is what they live to write."""

    def __init__(
        self,
        url: str,
        tokens: Sequence[str],
        history: History,
        dialect: Dialect,
        patience: Patience | None = None,
    ) -> None:
        """`url` is the stream's WebSocket address; `tokens` one for each viewer of `history`."""
        self.handshake: Handshake = handshake(url, dialect)
        self.tokens = tokens
        self.history = history
        self.dialect = dialect
        self.patience = patience or Patience()
        self.viewers = [Viewer(self, number) for number in range(len(history.viewers))]
        self.frames: list[bytes] = []
        self.volleys: list[bytes] = []
        self.tally: Counter[str] = Counter()
        self.slowest_ns = 0  # from a buy's last sending to its answer, `retry` too
        self.faults: list[str] = []  # the server broke the protocol; the first few
        self.copies = 1  # how often each command is written; 2: a client that sends all twice
        self.deaf: frozenset[int] = frozenset()  # viewers who never read once they are welcome
        self.beside: dict[str, Endings] = {}  # where news of other offers' orders go, by offer
        #: Called with the buy and its order when a buy is first answered with one.
        self.on_order: Callable[[int, OrderHeard], None] = lambda buy, order: None
        #: Called with a buy and its moment when a buy has its final answer.
        self.on_final: Callable[[int, int], None] = lambda buy, at_ns: None
        #: Called with a viewer who is welcome for the first time, or gone without ever being so.
        self.on_settled: Callable[[Viewer], None] = lambda viewer: None
        #: What a viewer's connection is made of, where something stands between.
        self.between: Callable[[Viewer], asyncio.Protocol] = lambda viewer: viewer
        self.arrivals = Arrivals()
        self.deliveries = Deliveries(history.viewers)
        self.received = 0  # messages, of any kind
        self.sent = 0  # commands
        self.place = 0  # of the first viewer in the whole crowd,
        self.of = len(self.viewers)  # which has so many
        self.welcomes: list[tuple[bool, int]] = []  # (for the first time, ns that it took)
        self._asked: dict[int, tuple[Viewer, Callable[[Heard | None], None]]] = {}
        self._next_id = len(history) + 1
        self._coming_back: dict[int, int] = {}  # buys that a timer sends again, on which connection
        self.ready = 0
        self.all_settled = asyncio.Event()  # each viewer is welcome, or gone for good
        self.closing = False
        self._gate = asyncio.Semaphore(self.patience.dials_at_once_max)
        self._dials: set[asyncio.Task[None]] = set()
        self._sweeper: asyncio.TimerHandle | None = None
        self._pump: Pump | None = None  # plain connections go by it
        self._address: tuple[object, ...] = ()

    # --- connections ---

    async def connect(self, deadline_s: float, delays_s: Sequence[float] = ()) -> None:
        """Dial every viewer; TimeoutError when some are still not welcome at the deadline.

        `delays_s`: when each is due, from now on; without it all are dialled as fast as may be.
        """
        await self.start()
        began_ns = perf_counter_ns()
        for viewer, delay_s in zip_longest(self.viewers, delays_s, fillvalue=0.0):
            assert isinstance(viewer, Viewer)
            viewer.left_ns = began_ns + int(delay_s * 1e9) if delays_s else 0
            self._dial_later(viewer, delay_s)
        async with asyncio.timeout(deadline_s):
            await self.all_settled.wait()
        self._sweep()

    async def start(self) -> None:
        """Make ready to dial; OSError when the host has no address, or files are too few."""
        raise_file_limit(len(self.viewers) + 200)
        if POSSIBLE and not self.handshake.tls:
            self._pump = Pump()
            self._address = await resolved(self.handshake.host, self.handshake.port)

    def dial(self, viewer: Viewer, due_ns: int = 0) -> None:
        """Dial one who was due at a moment (0: now), after `start`; `on_settled` says the rest."""
        viewer.left_ns = due_ns
        self._dial_later(viewer, 0.0)
        if self._sweeper is None:
            self._sweep()

    async def close(self) -> None:
        """Leave without a word, as a crowd does; nothing reconnects after it."""
        self.closing = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        for dial in list(self._dials):
            dial.cancel()
        await asyncio.gather(*self._dials, return_exceptions=True)
        for viewer in self.viewers:
            viewer.abort()
        if self._pump is not None:
            self._pump.close()

    def _dial_later(self, viewer: Viewer, delay_s: float) -> None:
        if viewer.dialling or self.closing:
            return
        viewer.dialling = True
        task = asyncio.get_running_loop().create_task(self._dial(viewer, delay_s))
        self._dials.add(task)
        task.add_done_callback(self._dials.discard)

    async def _dial(self, viewer: Viewer, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        loop = asyncio.get_running_loop()
        shake = self.handshake
        async with self._gate:
            if viewer.gone:  # before it came
                viewer.dialling = False
                return
            viewer.settled = loop.create_future()
            viewer.left_ns = viewer.left_ns or perf_counter_ns()
            protocol = self.between(viewer)
            try:
                async with asyncio.timeout(self.patience.handshake_timeout_s):
                    if self._pump is not None:
                        source = source_of(self._address, self.place + viewer.number, self.of)
                        await self._pump.dial(self._address, protocol, source)
                    else:
                        await loop.create_connection(
                            lambda: protocol, shake.host, shake.port, ssl=shake.tls or None
                        )
                    await viewer.settled
            except (OSError, TimeoutError) as error:
                self.tally[f"dial_{type(error).__name__}"] += 1
                viewer.abort()
        viewer.dialling = False
        if viewer.phase != READY:
            self.lost(viewer)

    def lost(self, viewer: Viewer) -> None:
        """A connection ended, or never came about."""
        for re in [re for re, (asker, _) in self._asked.items() if asker is viewer]:
            self._asked.pop(re)[1](None)
        if self.closing or viewer.dialling:
            return
        if viewer.gone:
            self._give_up(viewer)
            if not viewer.epoch:
                self._settled_one(viewer)
            return
        self.tally["reconnects"] += 1
        self._dial_later(viewer, self.patience.back_off_s(viewer.failures))
        viewer.failures += 1

    def _give_up(self, viewer: Viewer) -> None:
        """A viewer will not come back: what became of its open buys it will never know."""
        for buy in self.history.of_viewer(viewer.number):
            if self.history.sent_ns[buy]:
                self.history.give_up(buy, viewer.gone)
        viewer.open_buys = 0

    def leave(self, viewers: Iterable[int]) -> None:
        """Have these viewers vanish for good, whatever they are waiting for."""
        for number in viewers:
            viewer = self.viewers[number]
            viewer.gone = viewer.gone or LEFT
            if viewer.transport is None:
                self._give_up(viewer)
            else:
                viewer.abort()

    def hello(self, viewer: Viewer) -> bytes:
        """The first frame of a connection, with the last position that was seen."""
        command: dict[str, object] = {
            "type": "hello",
            "id": HELLO_ID,
            "token": self.tokens[viewer.number],
        }
        if viewer.epoch:
            command["since"] = {"epoch": viewer.epoch, "seq": viewer.seq, "cseq": viewer.cseq}
        return masked(self.dialect.opcode, self.dialect.encode(command))

    def _settled_one(self, viewer: Viewer) -> None:
        self.ready += 1
        self.on_settled(viewer)
        if self.ready >= len(self.viewers):
            self.all_settled.set()

    # --- what comes in ---

    def heard(self, viewer: Viewer, heard: Heard, now_ns: int) -> None:
        """Take one decoded message; answers to buys are by far the most frequent."""
        if not heard.re:
            if heard.re is None:
                self._event(viewer, heard)
            else:
                self._greeted(viewer, heard, now_ns)
            return
        buy = heard.re - 1
        viewer.last_ns = now_ns
        if buy >= len(self.history):
            for of_bundle in heard.orders or ():
                self._news(of_bundle)
            if heard.order is not None:
                self._news(heard.order)
            if (asked := self._asked.get(heard.re)) is not None and asked[0] is viewer:
                del self._asked[heard.re]
                asked[1](heard)
            elif self.copies == 1 and heard.type != "reject":  # what has no answer may be refused
                self.fault(f"an answer to nothing: {heard.type}")
            return
        if buy // self.history.buys_each != viewer.number:
            self.fault(f"an answer to another viewer's buy: {heard.type}")
            return
        self.slowest_ns = max(self.slowest_ns, now_ns - self.history.asked_ns[buy])
        order = heard.order
        if order is not None:
            final = self.history.note(
                buy, now_ns, heard.type, order.id, order.rank, order.expires_at
            )
            self._news(order)
            if final:
                self.on_order(buy, order)
        elif heard.type == "reject":
            final = self.history.note(buy, now_ns, heard.code, "", 0)
            if heard.code in PASSING:
                self._retry(viewer, buy, heard)
        else:
            self.fault(f"a buy answered with {heard.type}")
            return
        if not final and self.history.attempts[buy] == 1 and heard.code not in PASSING:
            self.fault(f"a buy that was sent once is answered again: {heard.code or heard.type}")
        if final:
            viewer.open_buys -= 1
            self.on_final(buy, now_ns)

    def told(self, viewer: Viewer, fact: Fact, now_ns: int) -> bool:
        """Hold the two sequences of every viewer to I7: contiguous, no gap, no repeat."""
        if fact.number > (viewer.past_cseq if fact.chat else viewer.past_seq):
            fact.seen_ns.append(now_ns)
        if viewer.phase != READY:
            self.fault(f"{fact.kind} before welcome")
            return False
        if fact.chat:
            before, viewer.cseq = viewer.cseq, fact.number
        else:
            before, viewer.seq = viewer.seq, fact.number
        if fact.number == before + 1:
            return True
        name = "cseq" if fact.chat else "seq"
        at = (viewer.seq, before) if fact.chat else (before, viewer.cseq)
        self.deliveries.place(viewer.number, *at)
        jump = self.deliveries.chat if fact.chat else self.deliveries.main
        jump(viewer.number, fact.number)
        self.fault(f"I7: {name} {fact.number} after {before} ({fact.kind})")
        return False

    def _greeted(self, viewer: Viewer, heard: Heard, now_ns: int) -> None:
        if heard.type != "welcome":
            # The close that follows says whether to come back.
            self.tally[f"hello_{heard.code}"] += 1
            return
        first = not viewer.epoch
        self.deliveries.place(viewer.number, viewer.seq, viewer.cseq)
        self.deliveries.welcome(viewer.number, heard.epoch, heard.seq, heard.cseq, heard.recovered)
        if heard.recovered is not True:
            viewer.seq, viewer.cseq = heard.seq, heard.cseq
        elif heard.epoch != viewer.epoch:
            self.fault("recovered into another epoch")
        if not first:
            self.tally["recovered" if heard.recovered else "not_recovered"] += 1
        viewer.epoch = heard.epoch
        viewer.past_seq, viewer.past_cseq = heard.seq, heard.cseq
        viewer.phase = READY
        self.welcomes.append((first, now_ns - viewer.left_ns))
        for order in heard.orders or ():
            self._news(order)
        viewer.failures = 0
        viewer.settle(True)
        if first:
            self._settled_one(viewer)
        if viewer.number in self.deaf and viewer.transport is not None:
            viewer.transport.pause_reading()
            self.tally["deaf"] += 1
        history = self.history
        wanted = [
            buy
            for buy in history.of_viewer(viewer.number)
            if history.sent_ns[buy] and not history.final_ns[buy]
        ]
        if wanted:
            self.tally["sent_again"] += len(wanted)
            self.send(viewer, wanted)

    def _event(self, viewer: Viewer, heard: Heard) -> None:
        """Take what has no number of its own."""
        if heard.type in ("resync", "chat.skipped"):
            self.deliveries.place(viewer.number, viewer.seq, viewer.cseq)
        if heard.type == "resync":
            self.deliveries.resync(viewer.number, heard.epoch, heard.seq, heard.cseq)
            viewer.epoch, viewer.seq, viewer.cseq = heard.epoch, heard.seq, heard.cseq
            for order in heard.orders or ():
                self._news(order)
        elif heard.type == "chat.skipped":
            self.deliveries.skipped(viewer.number, heard.cseq)
            viewer.cseq = heard.cseq
        elif heard.order is not None:
            self._news(heard.order)
        elif heard.type == "reject":
            self.fault(f"an answer to nothing: {heard.code}")

    def rested(self, viewers: Iterable[Viewer]) -> None:
        """Note that nothing is under way to these: what they lack now, they were never sent."""
        numbers = []
        for viewer in viewers:
            self.deliveries.place(viewer.number, viewer.seq, viewer.cseq)
            numbers.append(viewer.number)
        self.deliveries.rested(numbers)

    def _news(self, order: OrderHeard) -> None:
        self.endings_of(order.offer).told(order.id, order.status, order.version)

    def endings_of(self, offer: str) -> Endings:
        """Where it is noted how orders of this offer end."""
        return self.beside.get(offer, self.history.endings)

    def fault(self, what: str) -> None:
        """The server broke the protocol: counted all, kept the first few."""
        self.tally["protocol_faults"] += 1
        if len(self.faults) < FAULTS_KEPT_MAX:
            self.faults.append(what)

    # --- what goes out ---

    def build(self, offer: str, first: int = 0, buys: int | None = None) -> None:
        """Build every frame of the sale, so that selling time is spent on sockets alone.

        `first`, `buys`: of each viewer's buys those that are of this offer; without them all.
        """
        history, dialect = self.history, self.dialect
        each = history.buys_each if buys is None else buys
        if not self.frames:
            self.frames = [b""] * len(history)
        for viewer in self.viewers:
            start = viewer.number * history.buys_each + first
            for n in range(start, start + each):
                buy = {"type": "buy", "id": n + 1, "offer": offer}
                buy |= {"qty": history.qtys[n], "key": history.keys[n]}
                self.frames[n] = masked(dialect.opcode, dialect.encode(buy))
        if each == history.buys_each:
            self.volleys = [
                b"".join(self.frames[of.start : of.stop])
                for of in map(history.of_viewer, range(len(self.viewers)))
            ]

    async def volley(self, viewers_a_turn: int = 200) -> None:
        """Every viewer sends all its buys in one write; answers are read between turns."""
        for start in range(0, len(self.viewers), viewers_a_turn):
            for viewer in self.viewers[start : start + viewers_a_turn]:
                self.send(viewer, self.history.of_viewer(viewer.number))
            await asyncio.sleep(0)

    def send(self, viewer: Viewer, buys: Sequence[int]) -> None:
        """Send these buys, or once the viewer is connected again."""
        history = self.history
        now_ns = perf_counter_ns()
        whole = len(buys) == history.buys_each and bool(self.volleys)
        viewer.last_ns = now_ns
        for buy in buys:
            if not history.sent_ns[buy]:
                history.sent_ns[buy] = now_ns
                viewer.open_buys += 1
        if viewer.phase != READY or viewer.transport is None:
            if viewer.gone:
                self._give_up(viewer)
            return
        for buy in buys:
            history.attempts[buy] += self.copies
            history.written_ns[buy] = history.written_ns[buy] or now_ns
            history.asked_ns[buy] = now_ns
        frames = (
            self.volleys[viewer.number] if whole else b"".join(map(self.frames.__getitem__, buys))
        )
        self.sent += len(buys) * self.copies
        viewer.transport.write(frames * self.copies)

    def tell(self, viewer: Viewer, command: dict[str, Any]) -> None:
        """Send a command that has no answer."""
        if viewer.phase == READY and viewer.transport is not None:
            self.sent += 1
            numbered = {**command, "id": self._next_id}
            self._next_id += 1
            viewer.transport.write(masked(self.dialect.opcode, self.dialect.encode(numbered)))

    def ask(
        self, viewer: Viewer, command: dict[str, Any], done: Callable[[Heard | None], None]
    ) -> None:
        """Send any other command once; `done` gets its answer, or None when there will be none."""
        if viewer.phase != READY or viewer.transport is None:
            done(None)
            return
        re, self._next_id = self._next_id, self._next_id + 1
        self._asked[re] = viewer, done
        frame = masked(self.dialect.opcode, self.dialect.encode({**command, "id": re}))
        self.sent += 1
        viewer.transport.write(frame * self.copies)

    def _retry(self, viewer: Viewer, buy: int, heard: Heard) -> None:
        attempts = self.history.attempts[buy]
        self.tally[f"passing_{heard.code}"] += 1
        if self.history.final_ns[buy] or self._coming_back.get(buy) == viewer.generation:
            return
        if attempts >= self.patience.attempts_max:
            self.history.give_up(buy, heard.code)
            viewer.open_buys -= 1
            return
        self._coming_back[buy] = viewer.generation
        asyncio.get_running_loop().call_later(
            self.patience.retry_s(attempts, heard.retry_after_ms),
            self._again,
            viewer,
            buy,
            viewer.generation,
        )

    def _again(self, viewer: Viewer, buy: int, generation: int) -> None:
        if self._coming_back.get(buy) == generation:
            del self._coming_back[buy]
        # A newer connection has already sent everything that was open.
        if viewer.generation == generation and not self.history.final_ns[buy]:
            self.send(viewer, (buy,))

    def _sweep(self) -> None:
        """Leave connections that are open and silent, as when their server is stopped."""
        deadline_ns = perf_counter_ns() - int(self.patience.answer_timeout_s * 1e9)
        for viewer in self._silent(deadline_ns):
            self.tally["silent"] += 1
            viewer.abort()
        self._sweeper = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)

    def _silent(self, deadline_ns: int) -> Iterable[Viewer]:
        for viewer in self.viewers:
            waits = viewer.open_buys and viewer.number not in self.deaf
            if waits and viewer.last_ns < deadline_ns and viewer.phase == READY:
                yield viewer


def raise_file_limit(files: int) -> None:
    """Let this process hold `files` sockets; OSError that says what to do when it may not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= files:
        return
    if hard != resource.RLIM_INFINITY and hard < files:
        raise OSError(f"{files} open files are needed, {hard} allowed: raise `ulimit -Hn`")
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
