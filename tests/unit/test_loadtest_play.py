"""Plays on a real server: right verdicts, whole results, and a slow client that says so."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from loadtest import thresholds
from loadtest.cli_audit import Place, judge
from loadtest.crew import CrewFailed
from loadtest.history_file import Kept, read_file, write_file
from loadtest.play import Manner, Play
from loadtest.result import EXIT, Result, encode, read, write
from loadtest.sampling import Sampler
from loadtest.scenarios import SCENARIOS, Scenario
from loadtest.scenarios.fanout import Fanout
from loadtest.server import Ready, Target, state_of
from loadtest.verdicts import verdicts
from tests.integration.up_rig import Up

MANNER = Manner(seed=5, step_s=0.4, connect_s=20.0, answer_s=20.0, rest_s=20.0)
ATTEMPTS_MAX = 3


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    """One real server for all tests of this file."""
    with tempfile.TemporaryDirectory(prefix="lc-play-") as folder:
        up = Up(Path(folder) / "data", "--no-demo")
        try:
            secret = (up.data_dir / "secret").read_text().strip()
            yield msgspec.convert(up.ready, Ready).target(secret)
        finally:
            up.stop()


async def played(target: Target, name: str, manner: Manner = MANNER, **options: Any) -> Play:
    """Play a scenario, and read its result as a file's reader would."""
    play = Play(SCENARIOS[name].with_options(options), target, manner)
    await play.run()
    assert msgspec.json.decode(encode(play.result), type=Result) == play.result
    return play


def sound(result: Result) -> None:
    """Nothing is wrong in what was sold and sent; how fast it was is not looked at here."""
    assert result.faults == []
    assert (result.missing, result.unexpected) == (0, {})
    assert [one for audit in result.audits for one in audit.findings if one.broken] == []
    assert result.audits
    assert result.verdict in ("passed", "overloaded")


async def test_a_flash_sale_of_two_processes_sells_what_there_is(
    target: Target, tmp_path: Path
) -> None:
    """Over MessagePack every buy has its answer, every unit is sold once, and it can be read."""
    manner = replace(MANNER, processes=2, subprotocol="msgpack")
    play = await played(target, "flash", manner, viewers=21, units=40, per_viewer=2, buys=3)
    result = play.result
    sound(result)
    assert result.outcomes["order.reserved"] == 40
    assert sum(result.outcomes.values()) == 63
    assert result.figures["units"] == 40
    assert result.client.processes == 2
    assert result.configuration["processes"] == 2
    answers = {kind: result.timings[kind].count for kind in ("order", "refusal")}
    assert answers == {"order": 40, "refusal": 23}
    assert {line.group for line in result.lines} >= {"throughput", "latency", "stock", "cpu"}
    stock = next(line for line in result.lines if line.group == "stock")
    assert [left for left in stock.values if left is not None][-1] == 0

    write(tmp_path / "run.json", result)
    assert read(tmp_path / "run.json") == result
    history = tmp_path / "run.history"
    write_file(history, Kept(stream=play.stream, offers=play.histories, deliveries=play.deliveries))
    (kept,) = read_file(history).offers.values()
    assert kept.tally == result.outcomes
    assert await audited(target, history) == "holds"
    sold = kept.outcome.index("order.reserved")
    kept.order[sold] = "or_of_nobody"
    kept.answers = [
        (buy, at_ns, what, "or_of_nobody" if buy == sold else order, rank)
        for buy, at_ns, what, order, rank in kept.answers
    ]
    write_file(history, Kept(stream=play.stream, offers={next(iter(play.histories)): kept}))
    assert await audited(target, history) == "broken"


async def audited(target: Target, history: Path) -> str:
    """Verdict of `audit --history` over what was written down."""
    place = Place(target.database_url, target.gate_url, target.http, MANNER.rest_s)
    found = verdicts((await judge(place, [], "", history)).found)
    assert {one.word for one in found} >= {"holds"}
    return "broken" if any(one.word == "BROKEN" for one in found) else "holds"


async def test_everybody_comes_back_from_a_storm(target: Target) -> None:
    """Every connection is cut twice; all are back, and nobody misses an event."""
    play = await played(target, "storm", viewers=20, storms=2, pins=2, within_s=20.0)
    sound(play.result)
    assert play.result.counts["not_back"] == 0
    assert play.result.counts["reconnects"] == 40
    timings = {kind: play.result.timings[kind].count for kind in ("connect", "reconnect")}
    assert timings == {"connect": 20, "reconnect": 40}
    assert play.result.counts["recovered"] == 40  # what was pinned while they were away, too


async def test_a_room_on_bad_networks_talks_and_buys(target: Target) -> None:
    """Chat, reactions and pings over delays, losses and pockets: all in order, all answered."""
    manner = replace(MANNER, network="wifi:0.4,train:0.3,slow:0.3")
    options: dict[str, Any] = {
        "viewers": 20,
        "units": 10,
        "chats_per_s": 10.0,
        "reacts_per_s": 10.0,
    }
    play = await played(target, "chat", manner, seconds=1.5, pings_per_s=10.0, **options)
    sound(play.result)
    assert play.result.outcomes == {"order.reserved": 10, "sold_out": 10}
    assert play.result.timings["ping"].count > 0
    assert play.result.timings["chat delivery"].count > 0
    assert play.result.timings["order"].percentiles_ms["p50"] > 5


async def test_an_evening_ends_with_its_stream(target: Target) -> None:
    """Three drops, leavers and a goodbye: each drop is audited, and each sells what it had."""
    options: dict[str, Any] = {"viewers": 20, "units": 8, "pins": 1, "leavers": 0.2}
    play = await played(target, "mixed", seconds=3.0, per_viewer=1, buys=1, **options)
    sound(play.result)
    assert play.result.outcomes["order.reserved"] == 24
    assert len([audit for audit in play.result.audits if audit.rows == 8]) == 3
    moments = [moment.what for moment in play.result.moments]
    assert [what for what in moments if "leave" in what] == [
        "4 viewers leave", "3 viewers leave", "3 viewers leave",
    ]  # fmt: skip


async def test_a_soak_has_one_audit_for_each_drop(target: Target) -> None:
    """Drop after drop, also without any chat: each is bought empty and holds."""
    play = await played(
        target, "soak", viewers=12, units=6, seconds=2.0, every_s=1.0, chats_per_s=0.0
    )
    sound(play.result)
    assert play.result.outcomes["order.reserved"] == 12
    assert len([audit for audit in play.result.audits if audit.rows == 6]) == 2


async def test_no_process_is_gathered_without_viewers(target: Target) -> None:
    """More processes than viewers are not started: one with nobody would wait for ever."""
    manner = replace(MANNER, processes=5)
    play = await played(target, "fanout", manner, viewers=2, pins=2, every_s=0.1)
    sound(play.result)
    assert play.result.configuration["processes"] == 2
    assert play.result.timings["reach"].count == 2


async def test_what_the_crowd_tells_in_the_last_beat_is_kept(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A story that ends in the middle of a beat loses none of its latencies."""
    beats = asyncio.Event()

    async def sample(sampler: Sampler) -> dict[str, float]:
        beats.set()
        await asyncio.sleep(0.05)  # the story ends here; the crowd has told already
        return {}

    class Ending(Fanout):
        async def play(self, play: Play) -> None:
            crowd = await play.crowd(await play.show("Ending"), self.viewers)
            play.figure("said", await crowd.speak("ping", 100.0, 0.6))
            beats.clear()
            await beats.wait()

    monkeypatch.setattr(Sampler, "sample", sample)
    result = await Play(Ending(viewers=5), target, MANNER).run()
    sound(result)
    assert result.timings["ping"].count == result.figures["said"] > 20


async def stopped(pid: int, for_s: float) -> None:
    """Have a process stand still for a while."""
    os.kill(pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(for_s)
        assert state_of(pid) == "T"
    finally:
        os.kill(pid, signal.SIGCONT)


@dataclass(slots=True, frozen=True, kw_only=True)
class Stopping(Scenario):
    """Viewers tap for a while, and in the middle of it somebody stands still."""

    name = "stopping"
    title = "somebody stands still"

    viewers: int = 40
    whom: str = "client"

    async def play(self, play: Play) -> None:
        show = await play.show("Stopping")
        drop = await play.offer(show, 1_000)
        crowd = await play.crowd(show, self.viewers, buys=1)
        await crowd.prepare(drop, 1)
        await crowd.calm()
        await drop.open()
        await crowd.buy(drop, over_s=1.0)
        assert play.crew is not None
        assert play.target.pids is not None
        clients = [member.pid for member in play.crew.members]
        await stopped(clients[0] if self.whom == "client" else play.target.pids.workers[0], 0.8)
        await crowd.answered(drop)
        await play.audit(drop, crowd)


LIMITS = {
    "timings.order.p99": "<= 0.001",
    "figures.to_last_order_s": "<= 0.001",
    "missing": "== 0",
    "outcomes.order.reserved": "== 40",
}


async def test_a_client_that_stood_still_blames_itself(target: Target) -> None:
    """Stopped in the middle of a run, the harness calls itself overloaded, and judges no speed."""
    play = Play(Stopping(), target, MANNER)
    result = await play.run()
    result.limits = thresholds.judge(result, LIMITS)
    sound(result)
    assert result.client.overloads
    assert [limit.passed for limit in result.limits] == [None, None, True, True]
    assert "overloaded" in result.limits[0].why
    assert (result.verdict, EXIT[result.verdict]) == ("overloaded", 3)


async def test_a_server_that_stood_still_is_slow_itself(target: Target) -> None:
    """With the server stopped instead, its speed is judged, and found wanting.

    Where the crowd itself was kept waiting by what else runs here, nothing is judged: played again.
    """
    for _ in range(ATTEMPTS_MAX):
        result = await Play(Stopping(whom="server"), target, MANNER).run()
        if "order" not in result.client.spoilt:
            break
    result.limits = thresholds.judge(result, LIMITS)
    assert "order" not in result.client.spoilt
    assert (result.missing, result.faults) == (0, [])
    assert [limit.passed for limit in result.limits] == [False, False, True, True]
    assert (result.verdict, EXIT[result.verdict]) == ("failed", 1)
    assert result.timings["order"].percentiles_ms["max"] > 500


@dataclass(slots=True, frozen=True, kw_only=True)
class Killing(Scenario):
    """The crowd dies while the room talks."""

    name = "killing"
    title = "the crowd dies"

    viewers: int = 4

    async def play(self, play: Play) -> None:
        crowd = await play.crowd(await play.show("Killing"), self.viewers)
        play.beside(crowd.speak("chat", 5.0, 60.0))
        assert play.crew is not None
        os.kill(play.crew.members[0].pid, signal.SIGKILL)
        await asyncio.sleep(60.0)


async def test_a_crowd_that_dies_ends_the_play(target: Target) -> None:
    """The next beat finds it: the story does not go on to its end, and nothing is left of it."""
    faults: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: faults.append(context))
    play = Play(Killing(), target, MANNER)
    async with asyncio.timeout(20.0):
        with pytest.raises(CrewFailed, match="process 1 of the crowd"):
            await play.run()
    assert faults == []
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_the_command_writes_all_that_it_is_asked_for(target: Target, tmp_path: Path) -> None:
    """One line of JSON, a result, a report and a history; a limit that is broken is status 1.

    None of it holds a secret.
    """
    limits = tmp_path / "limits.toml"
    limits.write_text('[limits]\n"outcomes.sold_out" = ">= 1000"\n"missing" = "== 0"\n')
    files = {name: tmp_path / f"run.{name}" for name in ("out", "report", "history")}
    options = [f"--{name}={path}" for name, path in files.items()]
    options += ["--viewers=5", "--units=6", "--set", "buys=2", "--seed=11", "--json"]
    options += [f"--thresholds={limits}", "--target", target.http]
    secrets = {"LIVECART_SECRET": target.secret, "LIVECART_DATABASE_URL": target.database_url}
    run = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "loadtest.cli", "run", "flash", *options),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **secrets, "LIVECART_REDIS_URL": target.gate_url},
    )
    out, errors = await run.communicate()
    assert run.returncode == 1, errors.decode()
    assert out.count(b"\n") == 1
    result = msgspec.json.decode(out, type=Result)
    assert result == read(files["out"])
    assert msgspec.json.decode(out)["verdict"] == "failed"
    assert [limit.passed for limit in result.limits] == [False, True]
    sound(msgspec.structs.replace(result, limits=[]))
    assert (result.seed, result.outcomes) == (11, {"order.reserved": 6, "sold_out": 4})
    assert files["report"].read_text().startswith("<!doctype html>")
    assert await audited(target, files["history"]) == "holds"
    for told in (out, errors, *(path.read_bytes() for path in files.values())):
        assert target.secret.encode() not in told
        assert b"Traceback" not in told
