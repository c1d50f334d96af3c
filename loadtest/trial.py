"""One measured sale: the only place where the capacity model touches the flash scenario.

Owns the turning of a flash run and two readings of the meters into one flat record. Whatever plays
sales can be exchanged here. Called by the calibration and by the check of a prediction.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import msgspec

from loadtest.meters import metered
from loadtest.sale import Flash, run_flash
from loadtest.server import Target


class Sale(msgspec.Struct, frozen=True, kw_only=True):
    """What is played: everybody sends all buys at once, as soon as the offer is open."""

    viewers: int
    units: int
    per_viewer: int = 4
    buys: int = 5  # of each viewer, one unit each
    buckets: int = 1
    settle_s: float = 1.0  # between the last welcome and the opening

    @property
    def orders(self) -> int:
        """Return how many orders it must come to."""
        return min(self.units, self.viewers * min(self.per_viewer, self.buys))

    @property
    def refusals(self) -> int:
        """Return how many buys go without."""
        return self.viewers * self.buys - self.orders


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """What a sale took: processors from the first buy to the last answer, the rest as a whole."""

    sale: Sale
    orders: int
    refusals: int
    elapsed_s: float  # first buy to last answer
    to_last_order_s: float
    connect_s: float
    hub_cpu_s: float
    redis_cpu_s: float
    postgres_cpu_s: float
    client_cpu_s: float
    again: float  # questions to the gate beyond one a buy: buys that had to wait for others
    admissions: float  # calls of Postgres that the orders came in
    wal_bytes: float
    disk_bytes: float
    redis_memory_bytes: float
    redis_in_bytes: float
    redis_out_bytes: float
    others_share: float = 0.0  # of a core, that others used on this machine meanwhile

    @property
    def orders_per_s(self) -> float:
        """Return the rate up to the last order."""
        return self.orders / self.to_last_order_s if self.to_last_order_s else 0.0


class TrialFailed(Exception):
    """A sale was not what it has to be; a cost that comes of it would be of something else."""


async def play(
    target: Target,
    sale: Sale,
    announce: Callable[[str], None] = lambda line: None,
    audited: bool = True,
) -> Trial:
    """Play one sale against a spawned server; TrialFailed when it was not exact.

    `audited`: its books are judged, too, which takes as long again.
    """
    flash = Flash(
        viewers=sale.viewers,
        units=sale.units,
        per_viewer=sale.per_viewer,
        buys=sale.buys,
        buckets=sale.buckets,
        settle_s=sale.settle_s,
    )
    async with metered(target) as meters:
        before = await meters.read()
        played = target if audited else replace(target, database_url="")
        run = await run_flash(flash, played, announce)
        used = await meters.used_since(before)
    cpu = run.server_cpu_s
    sold = run.sale
    problems = list(run.faults)
    if sold.missing or run.unexpected:
        problems.append(f"{sold.missing} answers missing, {run.unexpected} not due")
    if sold.sold != sale.orders:
        problems.append(f"{sold.sold} orders in place of {sale.orders}")
    if run.audit is not None and not run.audit.passed:
        problems.append("the audit found an invariant broken")
    if problems:
        raise TrialFailed(f"{sale}: {'; '.join(problems)}")
    return Trial(
        sale=sale,
        orders=sold.sold,
        refusals=sum(sold.refused.values()),
        elapsed_s=sold.to_last_answer_s,
        to_last_order_s=sold.to_last_order_s,
        connect_s=run.connect_s,
        hub_cpu_s=sum(used_s for name, used_s in cpu.items() if name.startswith("worker")),
        redis_cpu_s=cpu.get("redis", 0.0),
        postgres_cpu_s=cpu.get("postgres", 0.0),
        client_cpu_s=run.client_cpu_s,
        again=max(0.0, used.asks - sold.buys),
        admissions=used.admissions,
        wal_bytes=used.wal_bytes,
        disk_bytes=used.disk_bytes,
        redis_memory_bytes=used.redis_memory_bytes,
        redis_in_bytes=used.redis_in_bytes,
        redis_out_bytes=used.redis_out_bytes,
        others_share=used.others_share,
    )
