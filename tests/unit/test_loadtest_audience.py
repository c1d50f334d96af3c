"""Viewers against the trivial server: what it does wrong is found, where it is slow is measured."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import perf_counter_ns
from types import SimpleNamespace
from typing import Any

import pytest

from loadtest import audience as audience_module
from loadtest import overhead as overhead_module
from loadtest.asks import Buy, Collect, Cut, Gather, Reply, Settle, Speak
from loadtest.audience import Audience
from loadtest.history import History
from loadtest.overhead import overhead, trivial
from loadtest.pulse import Pulse
from loadtest.server import tree, until
from loadtest.timings import Timer
from loadtest.trivial import Connection, Trivial

ENDS_S = 10.0
MS = 1_000_000


@pytest.fixture(autouse=True)
def _own_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process of the crowd sets up its garbage collector; this one keeps its own."""
    quiet = SimpleNamespace(
        collect=lambda: 0, freeze=lambda: None, set_threshold=lambda *steps: None
    )
    monkeypatch.setattr(audience_module, "gc", quiet)


def gather(url: str, **more: Any) -> Gather:
    asked = {"viewers": 10, "buys_each": 3, "of": 10, "deadline_s": ENDS_S} | more
    return Gather(
        url=f"{url.replace('http', 'ws')}/v1/streams/st_1/ws",
        secret="s" * 32, names="v", first=0, qty=1, key_prefix="k", **asked,
    )  # fmt: skip


@asynccontextmanager
async def crowd(url: str, **more: Any) -> AsyncIterator[Audience]:
    """An audience of this process, welcome and with its frames built."""
    found = Audience(gather(url, **more))
    try:
        async with asyncio.timeout(ENDS_S):
            await found.connect()
            found.swarm.build("of_1")
            yield found
    finally:
        await found.close()


@asynccontextmanager
async def served(
    connection: type[Connection] = Connection, server: Trivial | None = None
) -> AsyncIterator[tuple[str, Trivial]]:
    """The trivial server on this loop, or one that does something wrong."""
    shared = server or Trivial()
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(lambda: connection(shared), "127.0.0.1", 0)
    async with listening:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}", shared
        for one in list(shared.connections):
            one.transport.abort()


def pulse(reply: Reply) -> Pulse:
    assert reply.pulse is not None
    return reply.pulse


async def bought(found: Audience, deadline_s: float = 1.0) -> int:
    """Have everybody send all his buys; returns how many are not answered by the deadline."""
    await found.buy(Buy(first=0, buys=3))
    return (await found.settle(Settle(first=0, buys=3, deadline_s=deadline_s))).n


async def test_every_answer_is_matched_and_every_event_is_counted() -> None:
    """A server that does all right: no answer missing, no fault, each event to each viewer."""
    async with served() as (url, server), crowd(url) as found:
        before = pulse(found.beat(0.5)).counts["commands"]  # pings that compare clocks
        assert await bought(found) == 0
        for burst in (1, 1, 20, 5):
            server.broadcast(server.pinned(burst))
        assert await until(lambda: all(viewer.seq >= 27 for viewer in found.swarm.viewers), ENDS_S)
        told = found.tell()
        assert told.faults == []
        assert [(one.number, one.count) for one in told.seen] == [(n, 10) for n in range(1, 28)]
        beat = pulse(found.beat(1.0))
    assert beat.counts["commands"] - before == beat.counts["answers"] == 30
    assert beat.outcomes == {"order.reserved": 30}
    counts = {kind: timing.count for kind, timing in beat.timings.items()}
    assert counts.pop("client lag") > 0
    assert counts == {"order": 30, "delivery": 270}


class Skips(Trivial):
    """Leaves a number out."""

    def pinned(self, events: int) -> bytes:
        self.seq += self.seq == 3
        return super().pinned(events)


class Repeats(Trivial):
    """Says one number twice."""

    said = 0

    def pinned(self, events: int) -> bytes:
        self.said += 1
        self.seq -= self.said == 4
        return super().pinned(events)


@pytest.mark.parametrize(("server", "fault"), [(Skips(), "5 after 3"), (Repeats(), "3 after 3")])
async def test_an_event_out_of_its_order_is_found(server: Trivial, fault: str) -> None:
    """One number left out, or said twice, to everybody: a fault for each viewer who was told."""
    async with served(server=server) as (url, _), crowd(url) as found:
        for _ in range(5):
            server.broadcast(server.pinned(1))
            await asyncio.sleep(0)
        assert await until(lambda: found.swarm.received >= 60, ENDS_S)
        assert found.tell().faults == [f"I7: seq {fault} (pinned)"] * 10
        assert found.swarm.tally["protocol_faults"] == 10


class Wrong(Connection):
    """Does something else with the answer to one command."""

    numbers: Iterator[int] = itertools.count(1)
    which = 7 + audience_module.CLOCK_PINGS
    twist: Callable[[bytes], bytes]

    def _answer(self, payload: bytes) -> bytes:
        answer = super()._answer(payload)
        if not payload.startswith((b'{"type":"buy"', b'{"type":"ping"')):
            return answer
        return type(self).twist(answer) if next(self.numbers) == self.which else answer


def wrong(twist: Callable[[bytes], bytes]) -> type[Connection]:
    return type("Twisted", (Wrong,), {"twist": staticmethod(twist), "numbers": itertools.count(1)})


def to_another(answer: bytes) -> bytes:
    """The same answer under the number of a buy of somebody else."""
    number = int(answer.split(b'"re":')[1].split(b",")[0])
    other = number - 3 if number > 12 or 3 < number < 10 else number + 3  # of as many digits
    return answer.replace(b'"re":%d' % number, b'"re":%d' % other)


@pytest.mark.parametrize(
    ("twist", "missing", "fault"),
    [
        pytest.param(lambda answer: b"", 1, "", id="none"),
        pytest.param(lambda answer: answer * 2, 0, "answered again", id="twice"),
        pytest.param(to_another, 1, "another viewer's buy", id="another viewer's"),
        pytest.param(
            lambda answer: answer.replace(b"order.reserved", b"order.reversed")[:-1] + b"]",
            1, "JSON is malformed", id="rubbish",
        ),
    ],
)  # fmt: skip
async def test_an_answer_that_is_not_right_is_found(
    twist: Callable[[bytes], bytes], missing: int, fault: str
) -> None:
    """One buy that is not answered, is answered twice, in another's name, or in no JSON."""
    async with served(wrong(twist)) as (url, _), crowd(url) as found:
        assert await bought(found, 0.3) == missing
        faults = found.tell().faults
        assert len(faults) == bool(fault)
        assert fault in "".join(faults)
        assert pulse(found.beat(1.0)).outcomes == {"order.reserved": 30 - missing}


@pytest.mark.parametrize(("times", "missing", "faults"), [(0, 1, 0), (1, 0, 0), (2, 0, 1)])
async def test_a_ping_is_answered_once(times: int, missing: int, faults: int) -> None:
    """A ping without an answer is missing, one with two is a fault."""
    async with served(wrong(lambda answer: answer * times)) as (url, _), crowd(url) as found:
        said = await found.speak(Speak(what="ping", per_s=400, seconds=0.2, deadline_s=0.3))
        assert said.n > 20
        told = found.tell()
        assert told.tally.get("ping without an answer", 0) == missing
        assert len(told.faults) == faults
        timings = pulse(found.beat(1.0)).timings
        assert timings["ping"].count == said.n - missing


async def test_a_server_that_answers_no_ping_is_not_waited_for_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Clocks cannot be compared then: the crowd comes all the same, and the ping is missing."""
    monkeypatch.setattr(audience_module, "CLOCK_TIMEOUT_S", 0.1)

    class Mute(Connection):
        def _answer(self, payload: bytes) -> bytes:
            return b"" if b'"ping"' in payload else super()._answer(payload)

    async with served(Mute) as (url, _), crowd(url) as found:
        assert await bought(found) == 0
        assert found.tell().tally["ping without an answer"] == 1


async def test_no_upgrade_at_all_is_no_exception() -> None:
    """A server that speaks no HTTP is dialled again and counted, and raises nothing of ours."""

    async def rubbish(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n\r\n")
        await reader.read(10_000)
        writer.close()

    faults: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: faults.append(context))
    async with await asyncio.start_server(rubbish, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        found = Audience(gather(url, viewers=2, deadline_s=0.3))
        with pytest.raises(TimeoutError):
            await found.connect()
        await found.close()
    assert found.swarm.tally["upgrade_0"] >= 2
    assert faults == []


async def test_what_an_earlier_drop_left_open_does_not_end_the_next_one() -> None:
    """Buys given up in one drop are not taken for answers in another."""
    async with served() as (url, _), crowd(url, buys_each=2) as found:
        found.history.give_up(0, "retry")
        found.history.give_up(2, "retry")
        settling = asyncio.ensure_future(found.settle(Settle(first=1, buys=1, deadline_s=ENDS_S)))
        for viewer in found.swarm.viewers[:-1]:
            found.swarm.send(viewer, (2 * viewer.number + 1,))
        assert await until(lambda: found.history.unanswered <= 9, ENDS_S)
        await asyncio.sleep(2 * audience_module.POLL_S)
        assert not settling.done()
        found.swarm.send(found.swarm.viewers[-1], (19,))
        assert (await settling).n == 0


async def test_nobody_is_waited_for_who_does_not_come() -> None:
    """Nobody waits for who left, nor for what was to follow a buy given up, which is missing."""
    async with served() as (url, _), crowd(url) as found:
        found.leave(0.5)
        await asyncio.sleep(0)
        await found.buy(Buy(first=0, buys=1))
        assert (await found.settle(Settle(first=0, buys=1, deadline_s=ENDS_S))).n == 0
        await found.buy(Buy(first=1, buys=2, over_s=0.1, think_s=0.01))
        for viewer in found.swarm.viewers:
            found.history.give_up(3 * viewer.number + 1, "retry")
        assert (await found.settle(Settle(first=1, buys=2, deadline_s=ENDS_S))).n == len(
            [viewer for viewer in found.swarm.viewers if not viewer.gone]
        )
        assert {viewer.gone for viewer in found.swarm.viewers} == {"", "left"}


async def test_a_buy_that_is_still_planned_at_the_deadline_is_not_made() -> None:
    """The story goes on: nobody taps into a sale that is over, and who did not is missing."""
    async with served() as (url, _), crowd(url, buys_each=2) as found:
        await found.buy(Buy(first=0, buys=2, over_s=0.01, think_s=0.2))
        assert await until(lambda: found.history.unanswered <= 10, ENDS_S)
        missing = (await found.settle(Settle(first=0, buys=2, deadline_s=0.0))).n
        before = sum(map(bool, found.history.sent_ns))
        assert 20 - before <= missing <= found.history.unanswered
        assert before < 20
        await asyncio.sleep(0.5)
        assert sum(map(bool, found.history.sent_ns)) == before


async def test_lost_connections_come_back_and_are_welcome() -> None:
    """Everybody whose connection is cut is back, and what comes after it is in order."""
    async with served() as (url, server), crowd(url, patience={"back_off_min_s": 0.01}) as found:
        server.broadcast(server.pinned(1))
        cut = await found.cut(Cut(share=0.5, deadline_s=ENDS_S))
        assert (cut.n, cut.tally) == (5, {"away": 0})
        assert await bought(found) == 0
        server.broadcast(server.pinned(1))
        assert await until(lambda: all(viewer.seq >= 2 for viewer in found.swarm.viewers), ENDS_S)
        assert found.tell().faults == []
        timings = pulse(found.beat(1.0)).timings
        assert (timings["connect"].count, timings["reconnect"].count) == (10, 5)


@pytest.mark.parametrize("network", ["none", "4g:0.5,pocket:0.5"])
async def test_the_same_seed_draws_the_same_networks_and_taps(network: str) -> None:
    """Who is on which network, taps when, and thinks how long is drawn from the seed alone."""
    plans = []
    for seed, talks in ((7, False), (7, True), (8, False)):
        async with served() as (url, _), crowd(url, seed=seed, network=network) as found:
            if talks:  # draws in between change nothing
                await found.speak(Speak(what="react", per_s=1_000, seconds=0.02))
                found.leave(0.1)
            await found.buy(Buy(first=0, buys=3, over_s=1_000.0, think_s=5.0, at_ns=1 << 62))
            due = sorted((buy, due_ns) for due_ns, _, _, buy in found._agenda._heap)
            plans.append(([one.name for one in found._networks], due, found._thinks_s))
    assert plans[0] == plans[1]
    assert plans[0][1:] != plans[2][1:]


def stand_still(for_s: float) -> None:
    """Do nothing at all, as a busy client does for its viewers."""
    time.sleep(for_s)


async def test_a_late_client_measures_from_when_things_were_due() -> None:
    """Whatever the client was late by is in every latency: none is measured from the sending."""
    async with served() as (url, _), crowd(url, buys_each=1) as found:
        await found.buy(Buy(first=0, buys=1, over_s=0.001))
        stand_still(0.15)
        assert (await found.settle(Settle(first=0, buys=1, deadline_s=ENDS_S))).n == 0
        speaking = asyncio.ensure_future(found.speak(Speak(what="ping", per_s=200, seconds=0.3)))
        await asyncio.sleep(0)
        stand_still(0.15)
        await speaking
        timings = pulse(found.beat(1.0)).timings
        assert Timer(timings["order"]).percentile_ms(0) >= 140
        assert timings["ping"].percentiles_ms["max"] >= 100


async def test_a_part_of_a_history_is_the_buys_of_one_offer() -> None:
    """What is collected of each viewer's later buys is what those saw, numbered anew."""
    async with served() as (url, _), crowd(url) as found:
        await bought(found)
        part = History.from_bytes(found.collect(Collect(first=1, buys=2)).history)
        wanted = [n for n in range(30) if n % 3]
        assert part.keys == [found.history.keys[n] for n in wanted]
        assert part.order == [found.history.order[n] for n in wanted]
        assert sorted(answer[0] for answer in part.answers) == list(range(20))
        assert all(part.order[answer[0]] == answer[3] for answer in part.answers)
        assert part.tally == {"order.reserved": 20}


def pid_of_trivial() -> int:
    """The trivial server that this process started."""
    (pid,) = [
        pid
        for pid in tree(os.getpid())[1:]
        if b"loadtest.trivial" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    return pid


async def test_a_server_that_stops_is_slow_to_all_who_were_due() -> None:
    """Every command that was due while the server stood still shows how long it had to wait.

    A client that waited for an answer before it sent the next command would show one.
    """
    over_s, stop_s = 1.2, 0.5
    async with trivial() as url, crowd(url, viewers=200, of=200, buys_each=1) as found:
        plan = found._chance_of("buys 0")
        began_ns = perf_counter_ns() + 50 * MS
        due_ns = [began_ns + int(over_s * plan.random() ** 2 * 1e9) for _ in range(200)]
        await found.buy(Buy(first=0, buys=1, over_s=over_s, at_ns=began_ns))
        assert await until(lambda: sum(map(bool, found.history.final_ns)) >= 50, ENDS_S)
        pid = pid_of_trivial()
        os.kill(pid, signal.SIGSTOP)
        try:
            stopped_ns = perf_counter_ns()
            await asyncio.sleep(stop_s)
            goes_on_ns = perf_counter_ns()
        finally:
            os.kill(pid, signal.SIGCONT)
        assert (await found.settle(Settle(first=0, buys=1, deadline_s=ENDS_S))).n == 0
        orders = Timer(pulse(found.beat(1.0)).timings["order"])
        assert len(orders) == 200
        hit = [due for due in due_ns if stopped_ns < due < goes_on_ns]
        assert len(hit) > 20, "hardly anybody was due in that time: nothing was tried"
        for wait_ms in (100, 250, 400):
            due = sum(goes_on_ns - one > wait_ms * MS for one in hit)
            share = 100 * (1 - (due - 1) / 200)
            assert orders.percentile_ms(share) >= wait_ms * 0.99  # of the histogram's digits


async def test_the_harness_measures_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """`overhead` against the trivial server: every answer matched, every event's number right."""
    monkeypatch.setattr(overhead_module, "FLOODS", ((1, 20), (20, 200)))
    found = await overhead(50, 3)
    assert (found.missing, found.faults) == (0, [])
    assert [cost.what for cost in found.costs] == [
        "connections",
        "commands, a volley each",
        "commands, one at a time",
        "events, one at a time",
        "events, 20 in a write",
    ]
    assert all(cost.per_s > 0 for cost in found.costs)
    assert [cost.latency.count for cost in found.costs if cost.latency] == [150, 150]


class Bouncer(Connection):
    """Lets nobody buy: every second command ends the connection for good."""

    commands = itertools.count(1)

    def _answer(self, payload: bytes) -> bytes:
        if b'"buy"' in payload and next(Bouncer.commands) % 2 == 0:
            self.transport.write(b"\x88\x02" + (4403).to_bytes(2, "big"))
            self.transport.close()
            return b""
        return super()._answer(payload)


async def test_viewers_who_are_turned_away_are_missed() -> None:
    """A server that sends buyers away for good is told on: their buys, them, and their absence."""
    async with served(Bouncer) as (url, _), crowd(url) as found:
        missing = await bought(found)
        sent_away = sum(viewer.gone == "close_4403" for viewer in found.swarm.viewers)
        assert sent_away > 0
        assert missing > 0
        assert found.tell().tally["turned_away close_4403"] == sent_away
        back = await found.cut(Cut(share=1.0, deadline_s=ENDS_S))
        assert back.n == 10 - sent_away


async def test_a_volley_is_as_late_as_its_last_buy() -> None:
    """What a client needs to send all its buys is its own lateness, and counted as that."""
    async with served() as (url, _), crowd(url) as found:
        found.beat(0.5)
        found.lags.note_us(1.0)  # the timer since the beat
        await found.buy(Buy(first=0, buys=3, at_ns=perf_counter_ns() - 300 * MS))
        assert found.lags.percentile_ms(100) >= 300
        assert (await found.settle(Settle(first=0, buys=3, deadline_s=ENDS_S))).n == 0
