"""The server seen from beside the client: processor, memory and its own metrics, once a step.

Owns how the parts of a spawned server and the Prometheus text of any server become gauges (named
as loadtest/pulse.py says). What a server does not give is left out; one that does not answer is
said once, and never stops a run. Called by the process that leads a run.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

from loadtest.server import Pids
from loadtest.web import Api

METRICS: Final = "/metrics"
#: The server collects its metrics from files; asking more often would load it.
ASK_EVERY_S: Final = 1.0
TIMEOUT_S: Final = 1.0
BYTES_MAX: Final = 4 * 2**20
PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")

#: Samples as they are: name here, and what to multiply by.
LEVELS: Final = {
    "livecart_connections": ("connections", 1.0),
    "livecart_holds_unwritten": ("holds without a row", 1.0),
    "livecart_buys_waiting": ("buys waiting", 1.0),
    "livecart_waiting_bytes": ("unsent MiB", 2.0**-20),
    "livecart_keeper_lag_seconds": ("keeper lag ms", 1000.0),
}
#: Samples that only grow: shown by the second.
RATES: Final = {
    "livecart_admission_batch_orders_sum": "orders per second",
    "livecart_messages_in_total": "messages in per second",
    "livecart_messages_out_total": "frames out per second",
}
#: Histograms: the mean since the last sample, and what to multiply by.
MEANS: Final = {
    "livecart_hold_seconds": ("hold ms", 1000.0),
    "livecart_admission_seconds": ("commit ms", 1000.0),
    "livecart_admission_batch_orders": ("orders a commit", 1.0),
    "livecart_fan_out_seconds": ("fan-out ms", 1000.0),
}
#: A server that is one process says of itself what /proc says of a spawned one.
CPU, MEMORY = "process_cpu_seconds_total", "process_resident_memory_bytes"
_WANTED: Final = frozenset({
    *LEVELS, *RATES, CPU, MEMORY, *(f"{name}_{end}" for name in MEANS for end in ("sum", "count")),
})  # fmt: skip

Part = tuple[float, float]  # processor seconds used, MiB


class Sampler:
    """Samples one server; `pids` of a spawned one, or what returns them as they are by now."""

    def __init__(
        self,
        http_url: str,
        pids: Pids | Callable[[], Pids] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.troubles: list[str] = []  # each said once
        self._api: Api | None = Api(http_url)  # None: it has no metrics, and is not asked again
        self._pids = pids
        self._clock = clock
        self._parts: dict[str, Part] = {}  # of the last sample, which was taken at
        self._parts_at_s = 0.0
        self._asked_at_s = float("-inf")
        self._totals: dict[str, float] = {}  # of the last answer, which was asked for at
        self._totals_at_s = 0.0
        self._served: dict[str, float] = {}  # gauges of the last answer

    async def sample(self) -> dict[str, float]:
        """Return what can be seen now; takes at most TIMEOUT_S, and raises nothing of a server's.

        Rates and processor shares are since the last sample, so the first has none.
        """
        found, now_s = self._of_parts(), self._clock()
        if self._api is not None and now_s - self._asked_at_s >= ASK_EVERY_S:
            self._served = await self._ask(self._api, now_s)
        return {**found, **self._served}

    def _of_parts(self) -> dict[str, float]:
        """Share of a core and memory of each part of a spawned server."""
        if self._pids is None:
            return {}
        pids = self._pids if isinstance(self._pids, Pids) else self._pids()
        parts, now_s = parts_of(pids), self._clock()
        passed_s = now_s - self._parts_at_s
        gauges = {}
        for name, (used_s, mib) in parts.items():
            gauges[f"memory:{name}"] = round(mib, 1)
            before_s = self._parts[name][0] if name in self._parts else None
            # Less than before: it was killed and started again.
            if before_s is not None and used_s >= before_s and passed_s > 0:
                gauges[f"cpu:{name}"] = round((used_s - before_s) / passed_s, 3)
        self._parts, self._parts_at_s = parts, now_s
        return gauges

    async def _ask(self, api: Api, now_s: float) -> dict[str, float]:
        self._asked_at_s = now_s
        try:
            status, body = await api.fetch(METRICS, TIMEOUT_S)
            totals = read(body) if status == 200 else {}
        except (OSError, TimeoutError, ValueError) as error:
            self._say(f"{METRICS} gives nothing: {type(error).__name__}: {error}".rstrip(": "))
            return {}
        if status != 200 or not totals:
            self._say(f"{METRICS} is no livecart's (status {status}): the server's side is unseen")
            if 400 <= status < 500:
                self._api = None
            return {}
        gauges = dict(_gauges(self._totals, totals, now_s - self._totals_at_s))
        self._totals, self._totals_at_s = totals, now_s
        return gauges

    def _say(self, trouble: str) -> None:
        if trouble not in self.troubles:
            self.troubles.append(trouble)


def read(text: bytes) -> dict[str, float]:
    """Return the samples that are known here, summed over their labels; ValueError for rubbish."""
    if len(text) > BYTES_MAX:
        raise ValueError(f"{len(text):,} bytes of metrics")
    # The parser is slow, and most lines are buckets that nobody draws.
    lines = [line for line in text.decode(errors="replace").splitlines() if _name(line) in _WANTED]
    totals: dict[str, float] = {}
    for family in text_string_to_metric_families("\n".join(lines) + "\n"):
        for sample in family.samples:
            totals[sample.name] = totals.get(sample.name, 0.0) + sample.value
    return totals


def _name(line: str) -> str:
    return line.split(" ", 1)[0].split("{", 1)[0]


def _gauges(
    before: dict[str, float], totals: dict[str, float], passed_s: float
) -> Iterator[tuple[str, float]]:
    def gained(name: str) -> float | None:
        """How much it grew; None when it is new, or began anew with its process."""
        if name not in before or name not in totals or totals[name] < before[name]:
            return None
        return totals[name] - before[name]

    for name, (shown, factor) in LEVELS.items():
        if name in totals:
            yield f"server:{shown}", round(totals[name] * factor, 3)
    for name, shown in RATES.items():
        if (more := gained(name)) is not None:
            yield f"server:{shown}", round(more / passed_s, 1)
    for name, (shown, factor) in MEANS.items():
        more, times = gained(f"{name}_sum"), gained(f"{name}_count")
        if more is not None and times:
            yield f"server:{shown}", round(more / times * factor, 3)
    if (used_s := gained(CPU)) is not None:
        yield "cpu:server", round(used_s / passed_s, 3)
    if MEMORY in totals:
        yield "memory:server", round(totals[MEMORY] / 2**20, 1)


def parts_of(pids: Pids) -> dict[str, Part]:
    """Return processor time and memory of each part with its descendants, from one look (Linux).

    Memory is resident, with the largest shared part counted once: Postgres' processes share
    almost all that they have. Empty where there is no /proc.
    """
    roots = {f"worker {n}": pid for n, pid in enumerate(pids.workers, 1)}
    others = (("keeper", pids.keeper), ("redis", pids.redis), ("postgres", pids.postgres))
    roots |= {name: pid for name, pid in others if pid is not None}
    children: dict[int, list[int]] = {}
    used_s: dict[int, float] = {}
    for pid, fields in _stats():
        children.setdefault(int(fields[1]), []).append(pid)
        used_s[pid] = (int(fields[11]) + int(fields[12])) / TICKS_PER_S
    parts = {}
    for name, root in roots.items():
        members = [root] if root in used_s else []
        for member in members:  # grows while it is walked
            members += children.get(member, [])
        pages = [_pages(member) for member in members]
        if pages:
            own = sum(resident - shared for resident, shared in pages)
            whole = own + max(shared for _, shared in pages)
            total_s = sum(used_s[member] for member in members)
            parts[name] = (total_s, whole * PAGE_BYTES / 2**20)
    return parts


def _stats() -> Iterator[tuple[int, list[bytes]]]:
    """Each process with its fields of /proc/<pid>/stat behind the name, from the state on."""
    proc = Path("/proc")
    for entry in os.listdir(proc) if proc.exists() else ():
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/stat", "rb") as file:
                text = file.read()
        except OSError:
            continue  # gone since the folder was listed
        yield int(entry), text.rpartition(b")")[2].split()


def _pages(pid: int) -> tuple[int, int]:
    """Resident and shared pages; none of a process that is gone."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            fields = file.read().split()
    except OSError:
        return 0, 0
    return int(fields[1]), int(fields[2])
