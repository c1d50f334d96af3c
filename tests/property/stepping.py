"""Real code, stepped: somebody else decides whose call is next, and how it fares.

Owns the point before each script call and each SQL call where a process
waits for its turn; knows no rule of selling. Called by the tests of every order of steps and by the
state machine. A process is one hub (or keeper, or host) with its own memory, as in production; all
of them run on one loop here, and their calls reach the real servers one at a time.

When nothing can go on by itself, `Steps.idle` returns: then `choices` says what may happen next
and `take` makes it happen. What may happen to a call that waits: it goes; it gets lost before its
effect or its answer after it (the caller is told that the server is away); the caller's patience
ends while it waits or while its answer does; its process dies. A call on its way when its process
dies needs no choice of its own: it is the same as a call that goes just before.
"""

from __future__ import annotations

import asyncio
import copy
import functools
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import asyncpg
import pytest
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from orders import deadline
from orders.ids import Ids
from orders.keeper import KeeperLimits
from orders.ledger import books, money, waitlist
from orders.ledger.ledger import OUTBOX, SQL, Ledger, LedgerAway
from orders.ledger.pool import open_pool
from orders.ledger.snapshot import Snapshot, snapshot
from orders.limits import SellingLimits
from orders.stock import gate
from orders.stock.gate import GateAway
from tests.property.choices import Choice
from tests.property.stepped_loop import SteppedLoop
from tests.shop import Hub

T = TypeVar("T")

#: Calls that change nothing: two of them may be swapped.
READS = {
    "probe", "inspect", "scan", "snapshot", "look",
    *SQL, *OUTBOX, *books.SQL, *waitlist.SQL, *money.SQL,
} - {
    "gate_told", "mark_published", "note_event", "give_up", "ask_return", "decide_return",
    "keep_contact", "erase_contact",
}  # fmt: skip

#: Sessions: a rebuild keeps one for its snapshot, everybody else's calls go one at a time.
SESSIONS = 4
SESSION = "set synchronous_commit = off; set idle_in_transaction_session_timeout = 0"

#: How far the clocks of processes are off, in turn: they decide nothing (R8).
CLOCKS_OFF_MS = (0, 3_600_000, -86_400_000)

#: A parked buy looks again seldom: each look is a step.
LIMITS = SellingLimits(poll_s=0.4, look_s=0.4)

_NAMED = {
    text: name for name, text in (SQL | OUTBOX | books.SQL | waitlist.SQL | money.SQL).items()
}
_FUNCTION = re.compile(r"(?:from|select) (\w+)\(")


class Call:
    """One call that waits for its turn, or whose answer does."""

    def __init__(self, process: Process, number: int, store: str, verb: str, offer: str) -> None:
        self.process = process
        self.number = number
        self.store = store
        self.verb = verb
        self.offer = offer
        self.task = asyncio.current_task()
        self.turn: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.answered = False

    def choice(self, kind: str) -> Choice:
        """Name what may happen to it."""
        reads = self.verb in READS
        name = self.process.name
        return Choice(kind, name, self.number, self.verb, self.store, self.offer, reads)

    def may(self, fault: str) -> bool:
        """Tell whether it may fare so; a lost answer to a question is a lost question."""
        if self.answered or fault == "die":
            return False
        if fault in ("slow", "late"):
            return self.task in self.process.patience
        return fault == "lost" or self.verb not in READS


class Process(Hub):
    """A hub of its own, every call of which waits for its turn while the steps are decided."""

    def __init__(self, name: str, steps: Steps, keeper_limits: KeeperLimits) -> None:
        client = copy.copy(steps.client)  # of the same pool
        super().__init__(steps.pool, client, LIMITS, keeper_limits)
        off_ms = CLOCKS_OFF_MS[len(steps.processes) % len(CLOCKS_OFF_MS)]
        self.selling._ids = Ids(lambda: int(time.time() * 1000) + off_ms)
        self.name = name
        self.alive = True
        self.tasks: set[asyncio.Task[Any]] = set()
        self.patience: dict[asyncio.Task[Any], asyncio.Future[None]] = {}
        self._steps = steps
        self._calls = 0
        script, scan, rows = self.gate._call, self.gate.scan, self.ledger.rows
        command = client.execute_command

        async def stepped_script(verb: str, *args: Any, **more: Any) -> list[Any]:
            def call() -> Awaitable[list[Any]]:
                return script(verb, *args, **more)

            return await self._step("redis", verb, args, call, GateAway)

        async def stepped_rows(sql: str, *args: object) -> list[asyncpg.Record]:
            verb = _NAMED.get(sql) or "".join(_FUNCTION.findall(sql)[:1])
            if not verb:  # a probe of health
                return await self._untold(rows, sql, *args)
            return await self._step("sql", verb, args, lambda: rows(sql, *args), LedgerAway)

        async def stepped_scan(*args: Any) -> Any:
            return await self._step("redis", "scan", args, lambda: scan(*args), GateAway)

        self.gate._call = stepped_script  # type: ignore[method-assign,assignment]
        self.ledger.rows = stepped_rows  # type: ignore[method-assign]
        self.gate.scan = stepped_scan  # type: ignore[method-assign,assignment]
        client.execute_command = lambda *a, **k: self._untold(command, *a, **k)

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Begin something in this process; all tasks that come of it are the process's."""
        token = _process.set(self)
        try:
            return asyncio.get_running_loop().create_task(work)
        finally:
            _process.reset(token)

    def die(self) -> None:
        """End as by kill -9: nothing that ran here does anything any more."""
        self.alive = False
        self.selling.close()
        for task in list(self.tasks):
            task.cancel()

    async def befall(self, what: str, call: Callable[[], Awaitable[object]]) -> None:
        """Let something happen to Redis, as a step of this process."""
        await self._step("redis", what, (), call, GateAway)

    async def _step(
        self,
        store: str,
        verb: str,
        args: tuple[object, ...],
        call: Callable[[], Awaitable[T]],
        away: type[Exception],
    ) -> T:
        steps = self._steps
        if not self.alive:
            await asyncio.get_running_loop().create_future()  # never
        if not steps.deciding:
            return await self._ask(verb, args, call)
        self._calls += 1
        # Offers are named anew in each run; which of the world's it is stays.
        offer = str(args[0])[-1:] if store == "redis" and args else ""
        waiting = Call(self, self._calls, store, verb, offer)
        how = await steps.turn_of(waiting)
        if how == "lost":
            raise away("lost on its way there")
        result = await self._ask(verb, args, call)
        if how == "deaf":
            raise away("lost on its way back")
        if how == "late":
            waiting.answered = True
            waiting.turn = asyncio.get_running_loop().create_future()
            await steps.turn_of(waiting)
        return result

    async def _ask(
        self, verb: str, args: tuple[object, ...], call: Callable[[], Awaitable[T]]
    ) -> T:
        with self._steps.loop.asking():
            result = await call()
            if self._steps.witness is not None:
                await self._steps.witness(self, verb, args, result)
            return result

    async def _untold(self, call: Callable[..., Awaitable[T]], *args: Any, **more: Any) -> T:
        """Make a call that is nobody's step: it changes nothing that others see."""
        with self._steps.loop.asking():
            return await call(*args, **more)


_process: ContextVar[Process | None] = ContextVar("process", default=None)


@contextmanager
def stepping() -> Iterator[asyncio.Runner]:
    """Give a loop that can be stepped, and have real code wait as the steps say."""
    with pytest.MonkeyPatch.context() as patch, asyncio.Runner(loop_factory=SteppedLoop) as runner:
        patch.setattr("orders.counter.within", _within)
        patch.setattr("orders.selling.within", _within)
        patch.setattr("orders.bundles.within", _within)
        patch.setattr("orders.borrowing.within", _within)
        patch.setattr("orders.rebuild.snapshot", _snapshot)
        # Thousands of processes begin here: each would read the same files.
        patch.setattr("orders.stock.gate._Script", functools.cache(gate._Script))
        yield runner


async def _within(call: asyncio.Future[Any], seconds: float) -> bool:
    """Wait as `orders.deadline.within` does; whether patience ends is somebody's choice."""
    process = _process.get()
    if process is None or not process._steps.deciding or not isinstance(call, asyncio.Task):
        return await deadline.within(call, seconds)
    over = process.patience[call] = asyncio.get_running_loop().create_future()
    await asyncio.wait({call, over}, return_when=asyncio.FIRST_COMPLETED)
    del process.patience[call]
    return call.done()


@asynccontextmanager
async def _snapshot(ledger: Ledger, offer: str) -> AsyncIterator[Snapshot | None]:
    """Do as `orders.ledger.snapshot`: its beginning is a step, what it reads is of that moment."""
    process, loop = _process.get(), asyncio.get_running_loop()
    assert isinstance(loop, SteppedLoop)
    asking, real = loop.asking, snapshot(ledger, offer)
    if process is None:  # nobody's: of the judgement
        with asking():
            state = await real.__aenter__()
    else:
        state = await process._step("sql", "snapshot", (), real.__aenter__, LedgerAway)
    try:
        yield None if state is None else _Pages(state, asking)
    except BaseException as error:
        with asking():
            await real.__aexit__(type(error), error, error.__traceback__)
        raise
    with asking():
        await real.__aexit__(None, None, None)


class _Pages(Snapshot):
    """A snapshot whose pages are nobody's steps."""

    def __init__(self, state: Snapshot, asking: Callable[[], Any]) -> None:
        vars(self).update(vars(state))
        self._asking = asking

    async def pages(self) -> AsyncIterator[list[asyncpg.Record]]:
        pages = super().pages()
        while True:
            with self._asking():
                page = await anext(pages, None)
            if page is None:
                return
            yield page


class Steps:
    """Decides who goes on. One a test; processes and offers come and go."""

    def __init__(self, loop: SteppedLoop, pool: asyncpg.Pool[Any], client: Any) -> None:
        self.loop = loop
        self.pool = pool
        self.client = client
        self.deciding = False
        self.witness: Callable[[Process, str, Any, Any], Awaitable[None]] | None = None
        self.processes: list[Process] = []
        self._waiting: list[Call] = []
        self._timer_s: float | None = None
        loop.set_task_factory(_owned_task)  # type: ignore[arg-type]

    @classmethod
    async def open(cls, database_url: str, redis_url: str) -> Steps:
        """Connect. No order of steps depends on the disk, nor on how long somebody waited."""
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SteppedLoop)
        with loop.asking():
            pool = await open_pool(database_url, SESSIONS)
            settle = pool._init  # type: ignore[attr-defined]

            async def settle_here(session: Any) -> None:
                await settle(session)
                await session.execute(SESSION)

            pool._init = settle_here  # type: ignore[attr-defined]
            await pool.expire_connections()
        client = redis.asyncio.Redis.from_url(redis_url, retry=Retry(NoBackoff(), 0))
        return cls(loop, pool, client)

    async def close(self) -> None:
        """Disconnect."""
        with self.loop.asking():
            await self.client.aclose()
            self.pool.terminate()

    def process(self, name: str, keeper_limits: KeeperLimits) -> Process:
        """Begin a process."""
        process = Process(name, self, keeper_limits)
        self.processes.append(process)
        return process

    async def turn_of(self, call: Call) -> str:
        """Wait until it is this call's turn; return how it goes."""
        self._waiting.append(call)
        try:
            return await call.turn
        finally:
            self._waiting.remove(call)

    async def idle(self) -> None:
        """Return when nothing goes on before a choice is made."""
        self._timer_s = await self.loop.everybody_waits()

    def choices(self, faults: Collection[str], waits: bool) -> list[Choice]:
        """Return what may happen next, in an order that is the same in each run."""
        calls = sorted(self._waiting, key=lambda c: (c.process.name, c.number))
        found = [call.choice("answer" if call.answered else "go") for call in calls]
        if self._timer_s is not None and waits:
            found.append(Choice("time", "all"))
        for call in calls:
            found += [call.choice(kind) for kind in faults if call.may(kind)]
        if "die" in faults:
            found += [Choice("die", p.name) for p in self.processes if p.alive and p.tasks]
        return found

    def take(self, choice: Choice) -> None:
        """Make it happen."""
        if choice.kind == "time":
            assert self._timer_s is not None
            self.loop.pass_time(self._timer_s)
            return
        process = next(p for p in self.processes if p.name == choice.process)
        if choice.kind == "die":
            process.die()
            return
        call = next(c for c in self._waiting if c.process is process and c.number == choice.number)
        if choice.kind in ("slow", "late"):
            assert call.task is not None
            process.patience[call.task].set_result(None)
        if choice.kind != "slow":
            call.turn.set_result(choice.kind)

    async def end(self) -> None:
        """End all processes; what waits is gone."""
        for process in self.processes:
            process.die()
        tasks = {task for process in self.processes for task in process.tasks}
        self.processes.clear()
        if tasks:
            await asyncio.wait(tasks)


def _owned_task(
    loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T], **more: Any
) -> asyncio.Task[T]:
    task = asyncio.Task(work, loop=loop, **more)
    process = _process.get()
    if process is not None:
        process.tasks.add(task)
        task.add_done_callback(process.tasks.discard)
    return task
