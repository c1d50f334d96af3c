"""The same buys through `POST /v1/offers/{id}/orders`, over pooled keep-alive connections.

Owns the pool and sending again under the same Idempotency-Key; writes into a History, as swarm
does, and offers the scenarios the same methods. Knows nothing of WebSockets.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Sequence
from time import perf_counter_ns
from typing import Final

import msgspec

from loadtest.frames import OrderHeard
from loadtest.history import PASSING, History
from loadtest.patience import Patience
from loadtest.swarm import FAULTS_KEPT_MAX, SWEEP_S
from loadtest.web import Address, Connection

IDLE: Final = -1


class Problem(msgspec.Struct, gc=False):
    """Of a problem document, what a buyer acts on."""

    code: str = ""
    retry_after_ms: int | None = None


_order = msgspec.json.Decoder(OrderHeard).decode
_problem = msgspec.json.Decoder(Problem).decode


class Buyer(Connection):
    """One connection of the pool, with the buy that it is waiting for."""

    __slots__ = ("buy", "closes", "crowd", "failures", "sent_ns")

    def __init__(self, crowd: HttpCrowd) -> None:
        super().__init__()
        self.crowd = crowd
        self.buy = IDLE
        self.sent_ns = 0
        self.failures = 0
        self.closes = False  # the server said that it will close after this answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.failures = 0
        self.closes = False
        self.crowd.feed(self)

    def answered(self, status: int, head: bytes, body: bytes) -> None:
        self.closes = b"\r\nconnection: close" in head
        self.crowd.answered(self, status, body)

    def lost(self) -> None:
        self.crowd.lost(self)


class HttpCrowd:
    """Viewers that buy over HTTP; `connections` requests are in flight at once."""

    def __init__(
        self,
        url: str,
        tokens: Sequence[str],
        history: History,
        connections: int = 256,
        patience: Patience | None = None,
    ) -> None:
        self.address = Address.of(url)
        self.tokens = tokens
        self.history = history
        self.patience = patience or Patience()
        self.buyers = [Buyer(self) for _ in range(connections)]
        self.tally: Counter[str] = Counter()
        self.faults: list[str] = []
        self.requests: list[bytes] = []
        self.waiting: deque[int] = deque()
        self.closing = False
        self._idle: list[Buyer] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._sweeper: asyncio.TimerHandle | None = None

    async def connect(self, deadline_s: float) -> None:
        """Open the pool; TimeoutError when it is not whole at the deadline."""
        async with asyncio.timeout(deadline_s):
            await asyncio.gather(*(self._dial(buyer, 0.0) for buyer in self.buyers))
        self._sweep()

    async def close(self) -> None:
        """End every connection; nothing reconnects after it."""
        self.closing = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for buyer in self.buyers:
            buyer.abort()

    def build(self, offer: str) -> None:
        """Build every request of the sale."""
        history = self.history
        bodies = {qty: msgspec.json.encode({"qty": qty}) for qty in set(history.qtys)}
        self.requests = [
            self.address.request(
                "POST",
                f"/v1/offers/{offer}/orders",
                self.tokens[n // history.buys_each],
                bodies[history.qtys[n]],
                key,
            )
            for n, key in enumerate(history.keys)
        ]

    async def volley(self) -> None:
        """Queue every buy, a viewer's own next to each other, and let the pool work."""
        self.waiting.extend(range(len(self.history)))
        self._wake()

    def feed(self, buyer: Buyer) -> None:
        """Give a free connection the next buy."""
        history = self.history
        while self.waiting:
            buy = self.waiting.popleft()
            if history.final_ns[buy]:
                continue
            if history.attempts[buy] >= self.patience.attempts_max:
                history.give_up(buy, "attempts")
                continue
            buyer.buy = buy
            buyer.sent_ns = perf_counter_ns()
            if not history.sent_ns[buy]:
                history.sent_ns[buy] = buyer.sent_ns
            history.written_ns[buy] = history.written_ns[buy] or buyer.sent_ns
            history.attempts[buy] += 1
            assert buyer.transport is not None
            buyer.transport.write(self.requests[buy])
            return
        buyer.buy = IDLE
        self._idle.append(buyer)

    def answered(self, buyer: Buyer, status: int, body: bytes) -> None:
        """Take an answer and go on."""
        buy, now_ns = buyer.buy, perf_counter_ns()
        buyer.buy = IDLE
        if buy == IDLE:
            self.fault(f"an answer to nothing: {status}")
        else:
            try:
                self._take(buy, status, body, now_ns)
            except msgspec.DecodeError as error:
                self.fault(f"{status}: {error}: {body[:200]!r}")
                self._again_later(buy, None)
        if not buyer.closes:
            self.feed(buyer)

    def _take(self, buy: int, status: int, body: bytes, now_ns: int) -> None:
        if status in (200, 201):
            order = _order(body)
            self.history.note(
                buy, now_ns, f"order.{order.status}", order.id, order.rank, order.expires_at
            )
            return
        problem = _problem(body)
        # A proxy's or a crash's answer carries no code: it says nothing about the order.
        code = problem.code or "internal"
        self.history.note(buy, now_ns, code, "", 0)
        if code in PASSING:
            self.tally[f"passing_{code}"] += 1
            self._again_later(buy, problem.retry_after_ms)

    def _again_later(self, buy: int, retry_after_ms: int | None) -> None:
        delay_s = self.patience.retry_s(self.history.attempts[buy], retry_after_ms)
        asyncio.get_running_loop().call_later(delay_s, self._again, buy)

    def _again(self, buy: int) -> None:
        self.waiting.append(buy)
        self._wake()

    def _wake(self) -> None:
        while self._idle and self.waiting:
            buyer = self._idle.pop()
            if buyer.transport is not None and buyer.buy == IDLE:
                self.feed(buyer)

    def lost(self, buyer: Buyer) -> None:
        """A connection ended: what it was waiting for is sent again by another."""
        if self.closing:
            return
        if buyer in self._idle:
            self._idle.remove(buyer)
        if buyer.buy != IDLE:
            self.tally["sent_again"] += 1
            self.waiting.appendleft(buyer.buy)
            buyer.buy = IDLE
        self.tally["reconnects"] += 1
        delay_s = self.patience.back_off_s(buyer.failures)
        task = asyncio.get_running_loop().create_task(self._dial(buyer, delay_s))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._wake()

    async def _dial(self, buyer: Buyer, delay_s: float) -> None:
        loop = asyncio.get_running_loop()
        address = self.address
        while not self.closing:
            await asyncio.sleep(delay_s)
            try:
                async with asyncio.timeout(self.patience.handshake_timeout_s):
                    await loop.create_connection(
                        lambda: buyer, address.host, address.port, ssl=address.tls or None
                    )
                return
            except (OSError, TimeoutError) as error:
                self.tally[f"dial_{type(error).__name__}"] += 1
                buyer.failures += 1
                delay_s = self.patience.back_off_s(buyer.failures)

    def fault(self, what: str) -> None:
        """The server broke the protocol: counted all, kept the first few."""
        self.tally["protocol_faults"] += 1
        if len(self.faults) < FAULTS_KEPT_MAX:
            self.faults.append(what)

    def _sweep(self) -> None:
        deadline_ns = perf_counter_ns() - int(self.patience.answer_timeout_s * 1e9)
        for buyer in self.buyers:
            if buyer.buy != IDLE and buyer.sent_ns < deadline_ns:
                self.tally["silent"] += 1
                buyer.abort()
        self._sweeper = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)
