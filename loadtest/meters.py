"""What a spawned server has used so far: processors, memory, WAL, disk, Redis, its own counters.

Owns the reading of counters, all at one moment; two readings are subtracted. It reads from outside:
/proc, the databases with its own queries, and the public `/metrics`. Knows no scenario. Called by
the calibration and by what holds a prediction against a run.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields
from pathlib import Path

import asyncpg
from redis.asyncio import Redis

from loadtest.server import Target, cpu_by_part, families, tree
from loadtest.web import Address

METRICS_TIMEOUT_S = 5.0
_SIZES = """
select pg_current_wal_insert_lsn() - '0/0'::pg_lsn as wal,
       (select coalesce(sum(pg_total_relation_size(c.oid)), 0) from pg_class c
         join pg_namespace n on n.oid = c.relnamespace
        where c.relkind = 'r' and n.nspname not in ('pg_catalog', 'information_schema')) as disk
"""
#: Sums of the server's histograms, by the field that they fill.
_COUNTED = {
    b"livecart_hold_batch_buys_sum": "asks",
    b"livecart_hold_batch_buys_count": "hold_calls",
    b"livecart_admission_batch_orders_count": "admissions",
}


@dataclass(slots=True, frozen=True)
class Reading:
    """Counters at one moment; a difference of two is what happened in between."""

    at_s: float = 0.0
    hub_cpu_s: float = 0.0  # all workers
    redis_cpu_s: float = 0.0
    postgres_cpu_s: float = 0.0
    keeper_cpu_s: float = 0.0
    client_cpu_s: float = 0.0
    machine_cpu_s: float = 0.0  # of all cores, whoever used them
    hub_rss_bytes: float = 0.0
    redis_memory_bytes: float = 0.0
    redis_in_bytes: float = 0.0
    redis_out_bytes: float = 0.0
    wal_bytes: float = 0.0
    disk_bytes: float = 0.0  # of tables with their indexes
    asks: float = 0.0  # buys put to the gate, those that asked again counted again
    hold_calls: float = 0.0
    admissions: float = 0.0

    @property
    def others_share(self) -> float:
        """Return what others used of a core meanwhile: a calibration among them is of them, too."""
        ours = self.hub_cpu_s + self.redis_cpu_s + self.postgres_cpu_s + self.keeper_cpu_s
        return max(0.0, self.machine_cpu_s - ours - self.client_cpu_s) / max(self.at_s, 1e-9)

    def since(self, before: Reading) -> Reading:
        """What happened between an earlier reading and this one."""
        return Reading(
            **{
                one.name: getattr(self, one.name) - getattr(before, one.name)
                for one in fields(Reading)
            }
        )


class Meters:
    """Reads all counters of one spawned server."""

    def __init__(self, target: Target, database: asyncpg.Connection, redis: Redis) -> None:
        self.target = target
        self.database = database
        self.redis = redis

    async def read(self) -> Reading:
        """Read them; processors last, so that the reading itself is not in what follows."""
        counted = await self._counted()
        return Reading(**counted, **self._processors())

    async def used_since(self, before: Reading) -> Reading:
        """Return what happened since then; processors are read first, for the same reason."""
        processors = self._processors()
        return Reading(**await self._counted(), **processors).since(before)

    def _processors(self) -> dict[str, float]:
        cpu = cpu_by_part(self.target.pids)
        return {
            "at_s": time.perf_counter(),
            "hub_cpu_s": sum(used for name, used in cpu.items() if name.startswith("worker")),
            "redis_cpu_s": cpu.get("redis", 0.0),
            "postgres_cpu_s": cpu.get("postgres", 0.0),
            "keeper_cpu_s": cpu.get("keeper", 0.0),
            "client_cpu_s": time.process_time(),
            "machine_cpu_s": machine_cpu_s(),
        }

    async def _counted(self) -> dict[str, float]:
        pids = self.target.pids
        assert pids is not None
        sizes = await self.database.fetchrow(_SIZES)
        assert sizes is not None
        memory, stats = await self.redis.info("memory"), await self.redis.info("stats")
        return {
            "hub_rss_bytes": rss_bytes(pids.workers),
            "redis_memory_bytes": float(memory["used_memory"]),
            "redis_in_bytes": float(stats["total_net_input_bytes"]),
            "redis_out_bytes": float(stats["total_net_output_bytes"]),
            "wal_bytes": float(sizes["wal"]),
            "disk_bytes": float(sizes["disk"]),
            **parse_metrics(await _fetch(self.target.http, "/metrics")),
        }

    async def commit_s(self, times: int = 50) -> list[float]:
        """Return how long each of so many transactions took that write one short WAL record."""
        found = []
        for _ in range(times):
            began = time.perf_counter()
            await self.database.execute("select pg_logical_emit_message(true, 'loadtest', 'x')")
            found.append(time.perf_counter() - began)
        return found


@asynccontextmanager
async def metered(target: Target) -> AsyncIterator[Meters]:
    """Connect to what is read; ValueError when the server was not spawned for the run."""
    if target.pids is None or not target.database_url or not target.redis_url:
        raise ValueError("only a server that was spawned for the run can be metered")
    if not cpu_by_part(target.pids):
        raise OSError("processor time by process is read from /proc, which is not there")
    database = await asyncpg.connect(target.database_url)
    redis = Redis.from_url(target.redis_url)
    try:
        yield Meters(target, database, redis)
    finally:
        await redis.aclose()
        await database.close()


def machine_cpu_s() -> float:
    """Return the processor time that the whole machine has used; 0 where /proc does not say."""
    try:
        first = Path("/proc/stat").read_text().partition("\n")[0].split()
    except OSError:
        return 0.0
    user, nice, system, _, _, irq, softirq, steal = map(int, first[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def parse_metrics(text: bytes) -> dict[str, float]:
    """Return the counters of a Prometheus page that a reading has; 0 for those not there yet."""
    found = dict.fromkeys(_COUNTED.values(), 0.0)
    for line in text.splitlines():
        name, _, value = line.partition(b" ")
        if field := _COUNTED.get(name):
            found[field] += float(value)
    return found


def rss_bytes(pids: Sequence[int]) -> float:
    """Return the resident memory of processes and their descendants."""
    children, total = families(), 0
    for member in {member for pid in pids for member in tree(pid, children)}:
        try:
            total += int(Path(f"/proc/{member}/statm").read_text().split()[1])
        except (OSError, IndexError):
            continue  # it has ended meanwhile, and holds nothing any more
    return float(total * os.sysconf("SC_PAGE_SIZE"))


async def _fetch(url: str, path: str) -> bytes:
    """Return the body of a page that is text, which `Api` does not read."""
    address = Address.of(url)
    async with asyncio.timeout(METRICS_TIMEOUT_S):
        reader, writer = await asyncio.open_connection(address.host, address.port)
        try:
            request = address.request("GET", path)
            writer.write(request.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n", 1))
            head = await reader.readuntil(b"\r\n\r\n")
            if head[9:12] != b"200":
                raise ConnectionError(f"{path} was answered {head[9:12].decode()}")
            return await reader.read(-1)
        finally:
            writer.close()
