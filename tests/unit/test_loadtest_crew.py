"""Processes of a crowd: what goes wrong in one is told, and none is ever left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from loadtest import crew as crew_module
from loadtest.asks import Buy, Gather, Leave, Settle, Tell
from loadtest.crew import Crew, CrewFailed, gathered, processes_for
from loadtest.server import state_of, until
from loadtest.trivial import Connection, Trivial

ENDS_S = 20.0
ROOT = Path(__file__).parents[2]

#: A station in which something of ours goes wrong where nobody awaits it.
FAILING = """#!/bin/sh
exec {python} -c '
import loadtest.audience, loadtest.station
def fail(self, buy, due_ns):
    raise KeyError("of ours")
loadtest.audience.Audience._tap = fail
loadtest.station.main()
'
"""
#: One that says what is no reply.
BABBLING = """#!/bin/sh
echo 'out of my mind' >&2
printf '\\377\\377\\377\\377 hello'
exec cat
"""
#: A play of its own that gathers a crowd and then waits to be ended.
PLAY = """
import asyncio, sys
from loadtest.crew import gathered

async def main():
    async with gathered(2) as crew:
        print(*(member.pid for member in crew.members), flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""


def gather(url: str = "ws://127.0.0.1:9/v1/streams/st_1/ws", viewers: int = 2) -> Gather:
    return Gather(
        url=url, secret="", names="v", first=0, viewers=viewers, of=viewers, buys_each=1, qty=1,
        key_prefix="k", deadline_s=0.2,
    )  # fmt: skip


def gone(pids: list[int]) -> Callable[[], bool]:
    return lambda: all(state_of(pid) in ("", "Z") for pid in pids)


@asynccontextmanager
async def crewed(processes: int) -> AsyncIterator[Crew]:
    """A crew; no process of it is left at the end, however that came."""
    pids: list[int] = []
    try:
        async with asyncio.timeout(ENDS_S), gathered(processes) as crew:
            pids += [member.pid for member in crew.members]
            yield crew
    finally:
        assert gone(pids)()


async def told() -> None:
    """Ask something of a crew of one."""
    async with crewed(1) as crew:
        await crew.all(Tell())


def stand_in(monkeypatch: pytest.MonkeyPatch, folder: Path, text: str) -> None:
    """Have another program started as a station."""
    program = folder / "station"
    program.write_text(text.format(python=sys.executable))
    program.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(program))


async def test_a_killed_process_ends_the_play() -> None:
    """Whoever waits for it is told at once which process it was, and who asks it later too."""
    pids: list[int] = []

    async def play() -> None:
        async with crewed(2) as crew:
            first, second = crew.members
            pids.append(first.pid)
            with pytest.raises(CrewFailed, match="nobody is gathered yet"):
                await second.ask(Tell())
            waiting = asyncio.ensure_future(first.ask(gather(viewers=1)))
            await asyncio.sleep(0)
            os.kill(first.pid, signal.SIGKILL)
            with pytest.raises(CrewFailed, match=rf"process 1 of the crowd \(pid {first.pid}\)"):
                await waiting
            await crew.all(Tell())

    with pytest.raises(CrewFailed) as failed:
        await play()
    assert f"pid {pids[0]}" in str(failed.value)


async def test_what_a_process_said_before_it_ended_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The last words of a process that could not start are in the error."""
    stand_in(monkeypatch, tmp_path, "#!/bin/sh\necho 'no module named sense' >&2\nexit 3\n")
    with pytest.raises(CrewFailed, match="no module named sense"):
        await told()


async def test_a_process_that_makes_no_sense_ends_the_play(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Bytes in the pipe that are no reply: nobody waits for ever for the right ones."""
    stand_in(monkeypatch, tmp_path, BABBLING)
    with pytest.raises(CrewFailed, match="out of my mind"):
        await told()


async def test_what_goes_wrong_in_an_ask_is_told() -> None:
    """A viewer nobody lets in, an ask out of turn, and a fault of ours each have their words."""

    async def play() -> None:
        async with crewed(1) as crew:
            (member,) = crew.members
            with pytest.raises(CrewFailed, match="nobody is gathered yet"):
                await member.ask(Leave(share=1.0))
            with pytest.raises(CrewFailed, match="KeyError: 'morse'") as failed:
                await member.ask(replace(gather(), subprotocol="morse"))
            assert "Traceback" in str(failed.value)
            await member.ask(gather())

    with pytest.raises(CrewFailed, match="TimeoutError"):
        await play()


async def test_a_fault_that_nobody_awaits_ends_the_play(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What raises in a callback of the crowd's own is told; it is no server's missing answer."""
    server = Trivial()
    listening = await asyncio.get_running_loop().create_server(
        lambda: Connection(server), "127.0.0.1", 0
    )
    url = "ws://127.0.0.1:{}/v1/streams/st_1/ws".format(*listening.sockets[0].getsockname()[1:])
    stand_in(monkeypatch, tmp_path, FAILING)

    async def play() -> None:
        async with crewed(1) as crew:
            (member,) = crew.members
            await member.ask(replace(gather(url), deadline_s=ENDS_S))
            await member.ask(Buy(first=0, buys=1, over_s=0.01))
            await member.ask(Settle(first=0, buys=1, deadline_s=ENDS_S))

    async with listening:
        with pytest.raises(CrewFailed, match="of ours"):
            await play()


async def test_a_cancelled_play_leaves_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cancelled in the middle, also while a process is stopped, all of them are ended."""
    monkeypatch.setattr(crew_module, "END_TIMEOUT_S", 0.2)
    pids: list[int] = []
    ready = asyncio.Event()

    async def play() -> None:
        async with gathered(2) as crew:
            pids.extend(member.pid for member in crew.members)
            ready.set()
            await crew.all(gather())

    playing = asyncio.ensure_future(play())
    await ready.wait()
    os.kill(pids[0], signal.SIGSTOP)
    playing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await playing
    assert gone(pids)()


async def test_processes_end_with_the_play_that_was_killed() -> None:
    """A play that is killed outright takes its crowd along: it ends with its pipes."""
    play = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PLAY),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert play.stdout is not None
    pids = [int(pid) for pid in (await play.stdout.readline()).split()]
    assert [state_of(pid) in ("", "Z") for pid in pids] == [False, False]
    play.kill()
    await play.wait()
    assert await until(gone(pids), ENDS_S)


async def test_viewers_are_shared_out_evenly() -> None:
    """Every viewer is in one process, in order, and no process has two more than another."""
    crew = Crew([None] * 3)  # type: ignore[list-item]
    for whole in (0, 1, 2, 3, 10, 11):
        shares = crew.shares(whole)
        assert [n for share in shares for n in share] == list(range(whole))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_large_crowds_have_several_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """One process for each so many viewers, as long as there are cores."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1}, raising=False)
    each = crew_module.VIEWERS_A_PROCESS
    assert [processes_for(n) for n in (1, each, each + 1, 9 * each)] == [1, 1, 2, 2]
