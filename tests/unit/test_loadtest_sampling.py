"""What the sampler makes of a server: its metrics, its processes, and its silence."""

from __future__ import annotations

import asyncio
import os
import sys

import pytest

from loadtest import sampling
from loadtest.sampling import Sampler, parts_of, read
from loadtest.server import Pids, spawned
from tests.unit.loadtest_door import served


def text(orders: int, seconds: float, frames: int, connections: int = 7) -> bytes:
    """Metrics as a server of one process gives them."""
    return f"""# HELP livecart_connections WebSocket connections now
# TYPE livecart_connections gauge
livecart_connections {connections}.0
# HELP livecart_waiting_bytes Bytes
# TYPE livecart_waiting_bytes gauge
livecart_waiting_bytes 1.048576e+06
# HELP livecart_messages_out_total Frames
# TYPE livecart_messages_out_total counter
livecart_messages_out_total {frames}.0
# HELP livecart_admission_batch_orders Lines
# TYPE livecart_admission_batch_orders histogram
livecart_admission_batch_orders_bucket{{le="+Inf"}} {orders // 10}.0
livecart_admission_batch_orders_count {orders // 10}.0
livecart_admission_batch_orders_sum {orders}.0
# HELP livecart_admission_seconds Time
# TYPE livecart_admission_seconds histogram
livecart_admission_seconds_count {orders // 10}.0
livecart_admission_seconds_sum {seconds}
# HELP process_cpu_seconds_total Total
# TYPE process_cpu_seconds_total counter
process_cpu_seconds_total {seconds}
# HELP something_else_total That nobody draws
# TYPE something_else_total counter
something_else_total{{what="a b"}} 5.0
""".encode()


async def test_metrics_become_gauges() -> None:
    """Levels as they are, totals by the second, histograms as the mean since the last sample."""
    told = [text(1000, 1.0, 500), text(3000, 2.0, 4500, 9)]
    clock = iter((10.0, 12.0))
    async with served(lambda n, key: (200, told[n - 1])) as (_, url):
        sampler = Sampler(url, clock=lambda: next(clock))
        first, second = await sampler.sample(), await sampler.sample()
    assert first == {"server:connections": 7, "server:unsent MiB": 1}
    assert second == {
        "server:connections": 9,
        "server:unsent MiB": 1,
        "server:orders per second": 1000,
        "server:frames out per second": 2000,
        "server:commit ms": 5,
        "server:orders a commit": 10,
        "cpu:server": 0.5,
    }
    assert sampler.troubles == []


async def test_a_server_that_began_anew_has_no_rates() -> None:
    """Totals that fell say nothing about the time between."""
    told = [text(1000, 1.0, 500), text(10, 0.1, 20)]
    clock = iter((10.0, 12.0))
    async with served(lambda n, key: (200, told[n - 1])) as (_, url):
        sampler = Sampler(url, clock=lambda: next(clock))
        await sampler.sample()
        assert set(await sampler.sample()) == {"server:connections", "server:unsent MiB"}


async def test_a_server_is_asked_once_a_second_at_most() -> None:
    """Samples between two answers repeat the last one."""
    clock = iter((10.0, 10.4, 10.9, 11.1))
    async with served(lambda n, key: (200, text(0, 0, 0, n))) as (door, url):
        sampler = Sampler(url, clock=lambda: next(clock))
        seen = [(await sampler.sample())["server:connections"] for _ in range(4)]
    assert seen == [1, 1, 1, 2]
    assert len(door.seen[""]) == 2


async def test_silence_is_said_once_and_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that hangs up, hangs or talks rubbish costs a sample, and one line for each."""
    monkeypatch.setattr(sampling, "TIMEOUT_S", 1.0)
    answers = [None, None, (0, None), (200, b"livecart_connections x\n"), (200, text(0, 0, 0))]
    clock = iter(range(100))
    async with served(lambda n, key: answers[n - 1]) as (_, url):
        sampler = Sampler(url, clock=lambda: float(next(clock)))
        seen = [await sampler.sample() for _ in answers]
    assert seen[:-1] == [{}, {}, {}, {}]
    assert seen[-1]["server:connections"] == 7
    kinds = [trouble.split(": ")[1] for trouble in sampler.troubles]
    assert kinds == ["ConnectionError", "TimeoutError", "ValueError"]


async def test_a_server_without_metrics_is_not_asked_again() -> None:
    """Whoever has no metrics is told so once, and left alone."""
    clock = iter(range(100))
    async with served(lambda n, key: (404, b"nothing here")) as (door, url):
        sampler = Sampler(url, clock=lambda: float(next(clock)))
        assert [await sampler.sample() for _ in range(3)] == [{}, {}, {}]
    assert len(door.seen[""]) == 1
    assert "404" in sampler.troubles[0]


def test_labels_are_summed() -> None:
    """Processes and labels of one name are one figure."""
    lines = b'livecart_connections{pid="1"} 2\nlivecart_connections{pid="2"} 3\n'
    assert read(lines) == {"livecart_connections": 5}


def test_an_endless_answer_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """No server can fill the client's time with its metrics."""
    monkeypatch.setattr(sampling, "BYTES_MAX", 10)
    with pytest.raises(ValueError, match="11 bytes"):
        read(b"x" * 11)


async def test_processes_are_seen_with_their_children() -> None:
    """A part is its whole tree; one that is gone has no gauge, and stops nothing."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", "import sys; sys.stdin.read()"), stdin=asyncio.subprocess.PIPE
    )
    try:
        parts = parts_of(Pids(workers=[os.getpid()], keeper=child.pid, redis=2**22 + 1))
        assert set(parts) == {"worker 1", "keeper"}
        assert parts["worker 1"][1] > parts["keeper"][1] > 0
        assert parts["worker 1"][0] >= parts["keeper"][0]
    finally:
        await child.communicate(b"")  # its input ends, and so does it


async def test_shares_are_of_the_time_between_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processor time by the second; a part that was started anew waits for its next sample."""
    looks = [
        {"worker 1": (5.0, 100.04), "redis": (1.0, 10.0)},
        {"worker 1": (6.5, 101.0), "redis": (0.2, 9.0)},
    ]
    monkeypatch.setattr(sampling, "parts_of", lambda pids: looks.pop(0))
    clock = iter((1.0, 1.0, 3.0, 3.0))
    async with served(lambda n, key: (404, b"")) as (_, url):
        sampler = Sampler(url, lambda: Pids(), clock=lambda: next(clock))
        assert await sampler.sample() == {"memory:worker 1": 100.0, "memory:redis": 10.0}
        assert await sampler.sample() == {
            "memory:worker 1": 101.0,
            "cpu:worker 1": 0.75,
            "memory:redis": 9.0,
        }


async def test_a_real_server_is_seen_whole() -> None:
    """Every part of a spawned server has processor and memory, and its metrics are known."""
    clock = iter(range(100))
    async with spawned() as target:
        sampler = Sampler(target.http, target.pids_now, clock=lambda: float(next(clock)))
        await sampler.sample()
        found = await sampler.sample()
    parts = {"worker 1", "keeper", "redis", "postgres"}
    assert {name.partition(":")[2] for name in found if name.startswith("memory:")} == parts
    assert {name.partition(":")[2] for name in found if name.startswith("cpu:")} == parts
    assert all(found[f"memory:{part}"] > 1 for part in parts)
    for name in (
        "connections",
        "holds without a row",
        "orders per second",
        "frames out per second",
    ):
        assert found[f"server:{name}"] == 0
    assert sampler.troubles == []
