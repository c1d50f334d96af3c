"""Measures what one thing costs on this machine, with a thousand viewers at the most.

Owns the order of a calibration and the making of unit costs from its samples: each round has a
server of its own, probes and sales of several sizes, and yields every cost once; the calibration
has the median of the rounds. Several sizes tell what is fixed from what each viewer, order and
refusal adds. Called by the command line.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from loadtest.calibration import COSTS, VIEWERS_MAX, Calibration, Cost
from loadtest.fitting import fit, middle
from loadtest.machine import machine
from loadtest.meters import Reading, metered
from loadtest.probes import SETTINGS, SETTLE_S, Hubs, LoneBuys, Stage, overheard, show
from loadtest.server import Target, spawned
from loadtest.trial import Sale, Trial, play

#: Ethernet, IPv4, TCP with time stamps; a segment on a network has these beside its payload.
SEGMENT_BYTES: Final = 14 + 20 + 32
ROUNDS: Final = 5
HUBS: Final = 3  # of the server that tells what a hub more costs Redis at rest


@dataclass(slots=True, frozen=True)
class Plan:
    """The sizes of a calibration."""

    viewers: int = VIEWERS_MAX
    rounds: int = ROUNDS
    pins: int = 20
    bursts: int = 3
    lone_buys: int = 60
    listeners: int = 24
    leases: int = 4_000
    idle_s: float = 2.0
    commits: int = 50
    settle_s: float = SETTLE_S  # of a crowd, after its coming
    warmed: bool = True  # by a sale that does not count
    audited: bool = True  # a server that sells wrongly has no costs
    sales: tuple[Sale, ...] = ()  # of a round; those of `viewers` when there are none

    def __post_init__(self) -> None:
        if not 40 <= self.viewers <= VIEWERS_MAX:
            raise ValueError(f"a calibration has 40 to {VIEWERS_MAX} viewers, not {self.viewers}")
        if any(sale.viewers > VIEWERS_MAX for sale in self.sales):
            raise ValueError(f"a sale of a calibration has at most {VIEWERS_MAX} viewers")

    @property
    def crowds(self) -> tuple[int, ...]:
        """Return the sizes that a crowd grows to."""
        return self.viewers // 4, self.viewers // 2, self.viewers

    @property
    def all_sales(self) -> tuple[Sale, ...]:
        """Return the sales of a round: all refused, all sold, and mixed, each in several sizes."""
        if self.sales:
            return self.sales
        n = self.viewers
        few, more = n // 4, n * 6 // 10
        return (
            Sale(viewers=few, units=1),
            Sale(viewers=n, units=1),
            Sale(viewers=n, units=1, buys=10),
            Sale(viewers=n, units=1, buys=20),
            Sale(viewers=few, units=few * 5, per_viewer=5),
            Sale(viewers=more, units=more * 5, per_viewer=5),
            Sale(viewers=few, units=few * 12, per_viewer=12, buys=12),
            Sale(viewers=n, units=n * 3 // 2),
            Sale(viewers=n, units=n * 3),
            Sale(viewers=n, units=n * 3 // 2, buys=20),
        )


@dataclass(slots=True, frozen=True)
class Samples:
    """All that one round measured."""

    base_rss_bytes: float
    stages: Sequence[Stage]
    lone: LoneBuys
    hubs: Hubs
    commits_s: Sequence[float]
    trials: Sequence[Trial]
    note_bytes: float  # of one order, to one more hub
    three_idle: Reading  # of a server of three hubs, while nothing is said


async def calibrate(plan: Plan, announce: Callable[[str], None]) -> Calibration:
    """Measure every cost so many times; refuses a server that sells wrongly."""
    rounds = []
    for number in range(1, plan.rounds + 1):
        announce(f"round {number} of {plan.rounds}")
        three = await idle_of(HUBS, plan)
        async with spawned(settings=SETTINGS) as target:
            rounds.append(await measure(target, plan, three, announce))
    return calibration_of(rounds, plan)


def calibration_of(rounds: Sequence[Samples], plan: Plan) -> Calibration:
    """Make unit costs of the medians of all rounds, with their spread over the rounds."""
    each = [costs_of(samples) for samples in rounds]
    return Calibration(
        machine=machine(),
        when_ms=time.time_ns() // 1_000_000,
        rounds=len(rounds),
        viewers_max=plan.viewers,
        costs={
            name: _cost(name, value, [one[name] for one in each])
            for name, value in costs_of(middle(rounds)).items()
        },
    )


async def idle_of(hubs: int, plan: Plan) -> Reading:
    """Return what a server of so many hubs uses while nothing is said, some viewers on each."""
    async with (
        spawned(hubs, settings=SETTINGS) as target,
        metered(target) as meters,
        show(target, meters, plan.settle_s) as one,
    ):
        await one.grow(10 * hubs)
        return await one.be_still(plan.idle_s)


async def measure(
    target: Target,
    plan: Plan,
    three_idle: Reading,
    announce: Callable[[str], None] = lambda line: None,
) -> Samples:
    """Take one round's samples from a server that was spawned for it."""
    async with metered(target) as meters, show(target, meters, plan.settle_s) as one:
        await one.grow(10)  # what is made once is made
        base = (await meters.read()).hub_rss_bytes
        stages = []
        for viewers in plan.crowds:
            announce(f"  {viewers:,} onlookers: connections, pins, chat")
            stages.append(await one.stage(viewers, plan.pins, plan.bursts))
        announce("  lone buys, commits, stand-ins of further hubs")
        lone = await one.lone_buys(plan.lone_buys)
        commits = await meters.commit_s(plan.commits)
        one.crowd.close()
        hubs = await one.hubs(plan.listeners, 40, plan.leases, plan.idle_s)
    if plan.warmed:
        warming = Sale(viewers=plan.viewers // 10, units=plan.viewers // 5, settle_s=0.0)
        await play(target, warming, audited=False)
    trials = []
    for sale in plan.all_sales:
        announce(f"  {sale.viewers:,} viewers, {sale.units:,} units, {sale.buys} buys each")
        trials.append(await play(target, sale, audited=plan.audited))
    async with overheard(target.redis_url) as notes:
        few = plan.crowds[0]
        listened = await play(target, Sale(viewers=few, units=few * 5, per_viewer=5, settle_s=0.0))
    note_bytes = notes.bytes / listened.orders
    return Samples(base, stages, lone, hubs, commits, trials, note_bytes, three_idle)


def costs_of(samples: Samples) -> dict[str, float]:
    """Make unit costs of one round's samples."""
    return {
        **_crowd_costs(samples),
        **_lone_costs(samples.lone),
        **_hubs_costs(samples.hubs, samples.three_idle),
        **_sale_costs(samples.trials),
        "redis_note_bytes": samples.note_bytes,
        "commit_s": statistics.median(samples.commits_s),
        "segment_bytes": float(SEGMENT_BYTES),
    }


def _crowd_costs(samples: Samples) -> dict[str, float]:
    stages = samples.stages
    pin = fit(
        [{"event": s.pins, "delivery": s.pins * s.viewers} for s in stages],
        [s.pinning.hub_cpu_s for s in stages],
    )
    chat = fit(
        [{"event": s.chats, "delivery": s.chats * s.viewers} for s in stages],
        [s.chatting.hub_cpu_s for s in stages],
    )
    connect = fit(
        [{"connection": s.connected} for s in stages], [s.connecting.hub_cpu_s for s in stages]
    )
    rss = fit(
        [{"base": 1.0, "viewer": s.viewers} for s in stages], [s.rest_rss_bytes for s in stages]
    )
    skew = fit([{"start": 1.0, "viewer": s.viewers} for s in stages], [s.skew_s for s in stages])
    pins = sum(s.pins * s.viewers for s in stages)
    chats = sum(s.chats * s.viewers for s in stages)
    payload = sum(s.pin_traffic.in_bytes for s in stages) / pins
    segments = sum(s.pin_traffic.in_segments + s.pin_traffic.out_segments for s in stages) / pins
    still = samples.hubs.idle
    return {
        "hub_connect_s": connect["connection"],
        "hub_connection_bytes": rss["viewer"],
        "hub_base_bytes": rss["base"],
        "hub_idle_share": still.hub_cpu_s / still.at_s,
        "hub_event_s": pin["event"],
        "hub_chat_event_s": chat["event"],
        "hub_delivery_s": pin["delivery"],
        "hub_chat_delivery_s": chat["delivery"],
        "delivery_s": skew["viewer"],
        "delivery_payload_bytes": payload,
        "delivery_wire_bytes": payload + segments * SEGMENT_BYTES,
        "chat_payload_bytes": sum(s.chat_traffic.in_bytes for s in stages) / chats,
    }


def _lone_costs(lone: LoneBuys) -> dict[str, float]:
    waits = sorted(lone.waits_s)
    return {
        "lone_buy_p50_s": statistics.median(waits),
        "lone_buy_p99_s": waits[min(len(waits) - 1, int(len(waits) * 0.99))],
        "buy_up_bytes": lone.traffic.out_bytes / len(waits),
        "buy_down_bytes": lone.traffic.in_bytes / len(waits),
    }


def _hubs_costs(hubs: Hubs, three: Reading) -> dict[str, float]:
    heard = hubs.listeners * hubs.events
    sent = hubs.published_bytes * hubs.listeners
    with_, without = hubs.events_with, hubs.events_without
    summed = hubs.leases * hubs.sums_per_s * hubs.idle_with_leases.at_s
    idle = hubs.idle.redis_cpu_s / hubs.idle.at_s * hubs.idle_with_leases.at_s
    alone = hubs.idle.redis_cpu_s / hubs.idle.at_s
    more = max(0.0, three.redis_cpu_s / three.at_s - alone) / (HUBS - 1)
    return {
        "redis_event_s": max(0.0, with_.redis_cpu_s - without.redis_cpu_s) / heard,
        "redis_event_bytes": (with_.redis_out_bytes - without.redis_out_bytes) / heard,
        "redis_sent_byte_s": max(
            0.0, hubs.publishing.redis_cpu_s - hubs.publishing_without.redis_cpu_s
        )
        / sent,
        "redis_lease_s": max(0.0, hubs.idle_with_leases.redis_cpu_s - idle) / max(summed, 1.0),
        "redis_idle_share": max(0.0, alone - more),
        "redis_hub_idle_share": more,
    }


def _sale_costs(trials: Sequence[Trial]) -> dict[str, float]:
    def columns(*names: str) -> list[dict[str, float]]:
        return [{name: _COLUMNS[name](trial) for name in names} for trial in trials]

    hub = fit(
        columns("viewer", "order", "refusal", "again"),
        [trial.hub_cpu_s for trial in trials],
        small="again",
    )
    redis = fit(
        columns("order", "refusal", "again"),
        [trial.redis_cpu_s for trial in trials],
        small="again",
    )
    postgres = fit(
        columns("sale", "order", "call"),
        [trial.postgres_cpu_s for trial in trials],
        small="call",
    )
    client = fit(columns("viewer", "order", "refusal"), [trial.client_cpu_s for trial in trials])
    # A hub waits for its gate, and the gate for the hub: their times add up, not overlap. Orders
    # wait for Postgres besides, and everything for a core that something else has.
    elapsed = fit(
        [
            {"sale": 1.0, "work": one.hub_cpu_s + one.redis_cpu_s, "order": one.orders}
            for one in trials
        ],
        [trial.elapsed_s for trial in trials],
    )
    wal = fit(columns("sale", "order"), [trial.wal_bytes for trial in trials])
    disk = fit(columns("sale", "order"), [trial.disk_bytes for trial in trials])
    traffic = fit(
        columns("sale", "order", "refusal"),
        [trial.redis_in_bytes + trial.redis_out_bytes for trial in trials],
    )
    memory = fit(columns("sale", "order"), [max(0.0, t.redis_memory_bytes) for t in trials])
    late = [trial.again - own_again(trial.sale) for trial in trials if trial.refusals]
    return {
        **{f"hub_{name}_s": value for name, value in hub.items()},
        **{f"redis_{name}_s": value for name, value in redis.items()},
        **{f"postgres_{name}_s": value for name, value in postgres.items()},
        **{f"client_{name}_s": value for name, value in client.items()},
        "elapsed_sale_s": elapsed["sale"],
        "elapsed_order_s": elapsed["order"],
        "elapsed_work_times": elapsed["work"],
        "again_tail_count": max(0.0, statistics.median(late)),
        "others_share": statistics.median(trial.others_share for trial in trials),
        "wal_order_bytes": wal["order"],
        "wal_sale_bytes": wal["sale"],
        "disk_order_bytes": disk["order"],
        "disk_sale_bytes": disk["sale"],
        "redis_order_bytes": traffic["order"],
        "redis_refusal_bytes": traffic["refusal"],
        "redis_hold_bytes": memory["order"],
    }


_COLUMNS: Final[dict[str, Callable[[Trial], float]]] = {
    "sale": lambda trial: 1.0,
    "viewer": lambda trial: trial.sale.viewers,
    "order": lambda trial: trial.orders,
    "refusal": lambda trial: trial.refusals,
    "again": lambda trial: trial.again,
    "call": lambda trial: trial.admissions,
}


def own_again(sale: Sale) -> int:
    """Return how many buys ask again because their viewer's own orders are not written yet.

    Who has all that one viewer may have is refused for good only once these have rows.
    """
    each = min(sale.per_viewer, sale.buys)
    return (sale.orders // each) * (sale.buys - each)


def _cost(name: str, value: float, values: Sequence[float]) -> Cost:
    what = COSTS[name]
    unit = next(
        unit
        for end, unit in (
            ("_bytes", "bytes"),
            ("_share", "of a core"),
            ("_count", "buys"),
            ("_times", "times"),
            ("_s", "s"),
        )
        if name.endswith(end)
    )
    return Cost(value=value, unit=unit, least=min(values), most=max(values), how=what)
