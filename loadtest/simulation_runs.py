"""The drop for 10⁵, 10⁶ and 10⁷ viewers over trees of one to three levels, and where it breaks.

Owns which scenes are simulated, what is summed up of each, and what counts as broken. The entities
are simulation's. Called by `plan --simulate`.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from loadtest.calibration import Calibration
from loadtest.capacity import LEASES_SUMMED_PER_S, Assumed, Model, Wish
from loadtest.simulation import Core, Scene, Seen, World, drawn, shared_out
from loadtest.trial import Sale

SIZES: Final = (100_000, 1_000_000, 10_000_000)
DEPTHS: Final = (1, 2, 3)
STEPS: Final = 100  # bins of the window
ANSWER_MAX_S: Final = 0.8  # past this a hub answers `retry`
LATE_S: Final = 1.0  # after which news count as late
POINTS: Final = 100  # of a curve
#: Viewers of a hub where the formulas leave none: the fixed work of each hub is more than its core.
CROWDED: Final = 10_000
COME_BACK_S: Final = 3.0  # within which a crowd that was dropped dials again (assumed, evenly)


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """One simulated drop, summed up."""

    viewers: int
    depth: int
    hubs: int
    relays: int
    viewers_per_hub: int
    buckets: int
    gate_nodes: int
    taps: int
    sold: int
    refused: int
    announce_p50_s: float
    announce_p99_s: float
    announce_last_s: float
    answer_p50_s: float
    answer_p99_s: float
    answer_last_s: float
    to_last_order_s: float  # first tap to last order
    end_told_s: float  # the last order written, to the last viewer's hearing of it
    shares: dict[str, float]  # of each resource, while the crowd taps
    storm_one_s: float  # one hub dies: until its last viewer is back
    storm_tenth_s: float  # one hub in ten
    storm_all_s: float  # everybody at once
    breaks: list[str]
    curves: dict[str, list[tuple[float, float]]]  # (seconds, how many so far)


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """All of them."""

    note: str
    seed: int
    outcomes: list[Outcome]


NOTE: Final = (
    "livecart has no tree: today every hub is told by Redis itself, which is depth 1."
    " Depths 2 and 3 are a model of relays that could be built."
)


def table(
    costs: Calibration,
    wish: Wish,
    assumed: Assumed,
    seed: int,
    announce: Callable[[str], None] = lambda line: None,
    sizes: Sequence[int] = SIZES,
    depths: Sequence[int] = DEPTHS,
) -> Table:
    """Simulate the wish for every size and depth."""
    found = []
    for viewers in sizes:
        for depth in depths:
            announce(f"{viewers:,} viewers, depth {depth}")
            sized = msgspec.structs.replace(wish, viewers=viewers)
            found.append(outcome(costs, sized, assumed, depth, seed))
    return Table(note=NOTE, seed=seed, outcomes=found)


def scene_of(model: Model, depth: int, seed: int) -> Scene:
    """Return the scene of a plan; where it has no hubs, of crowded ones."""
    wish = model.wish
    hubs = model.hubs() or math.ceil(wish.viewers / CROWDED)
    return Scene(
        viewers=wish.viewers,
        units=wish.units,
        hubs=hubs,
        depth=depth,
        buckets=model.buckets(),
        gate_nodes=min(model.gate_nodes(), model.buckets()),
        buys=wish.buys_per_viewer,
        window_s=wish.window_s,
        step_s=wish.window_s / STEPS,
        postgres_cores=model.assumed.postgres_cores,
        seed=seed,
    )


def one_machine(costs: Calibration, sale: Sale, seed: int) -> float:
    """Simulate a flash sale on the calibrated machine; return the seconds to the last answer.

    Whoever else was at work there while it was calibrated is taken to be so again: cores are as
    much slower as elapsed times were longer.
    """
    each = min(sale.per_viewer, sale.buys)
    scene = Scene(
        viewers=sale.viewers,
        units=sale.orders,
        hubs=1,
        buys=sale.buys,
        sold_share=each / sale.buys,
        window_s=0.0,
        step_s=0.005,
        one_machine=True,
        seed=seed,
    )
    seen = World(costs, scene, speed=1.0 / max(1.0, costs["elapsed_work_times"])).run()
    return max(at for at, _ in seen.sold + seen.refused) - seen.tapped_from


def outcome(costs: Calibration, wish: Wish, assumed: Assumed, depth: int, seed: int) -> Outcome:
    """Simulate one drop and sum it up."""
    model = Model(costs, wish, assumed)
    scene = scene_of(model, depth, seed)
    world = World(costs, scene, assumed.speed)
    seen = world.run()
    return summed(world, seen, model)


def summed(world: World, seen: Seen, model: Model) -> Outcome:
    """Sum a simulated drop up."""
    scene = world.scene
    announced = percentiles(seen.announced, (0.5, 0.99, 1.0))
    last_order = max((at for at, _ in seen.sold), default=0.0)
    # The end is told once the last order is written, and known when the last viewer hears of it.
    told_s = max(seen.ended) - (seen.sold_out_at or 0.0) if seen.ended else 0.0
    shares = shares_of(world, seen, model)
    one, tenth, everybody = (storm(world, share) for share in (0.0, 0.1, 1.0))
    answers = seen.answers
    answer_p99_s = answers.percentile_ms(99) / 1000
    return Outcome(
        viewers=scene.viewers,
        depth=scene.depth,
        hubs=len(world.hubs),
        relays=len(world.relays),
        viewers_per_hub=max(hub.viewers for hub in world.hubs),
        buckets=scene.buckets,
        gate_nodes=scene.gate_nodes,
        taps=seen.taps,
        sold=sum(n for _, n in seen.sold),
        refused=sum(n for _, n in seen.refused),
        announce_p50_s=announced[0],
        announce_p99_s=announced[1],
        announce_last_s=announced[2],
        answer_p50_s=answers.percentile_ms(50) / 1000,
        answer_p99_s=answer_p99_s,
        answer_last_s=answers.percentile_ms(100) / 1000,
        to_last_order_s=max(0.0, last_order - seen.tapped_from) if seen.sold else 0.0,
        end_told_s=told_s,
        shares=shares,
        storm_one_s=one,
        storm_tenth_s=tenth,
        storm_all_s=everybody,
        breaks=breaks_of(shares, announced[2], answer_p99_s, told_s, everybody),
        curves={
            "delivered": delivered(seen.announced),
            "sold": so_far(seen.sold),
            "refused": so_far(seen.refused),
        },
    )


def shares_of(world: World, seen: Seen, model: Model) -> dict[str, float]:
    """Return how much of each resource was used while orders, or taps, came."""
    scene = world.scene
    ends = max([at for at, _ in seen.refused] + [at for at, _ in seen.sold], default=1.0)
    span_s = max(1e-9, ends - min(seen.tapped_from, ends))
    selling_s = max((at for at, _ in seen.sold), default=span_s) - seen.tapped_from
    children = world.root_children
    told = sum(n for _, n in seen.sold) * model.costs["redis_note_bytes"] * children
    chat = model.wish.chat_per_s
    steady = children * (chat * world.cost("redis_event_s") + world.cost("redis_idle_share"))
    counting = LEASES_SUMMED_PER_S * children**2 * world.cost("redis_lease_s")
    out = told / max(selling_s, 1e-9) + children * chat * model.costs["redis_event_bytes"]
    notes_s = told * world.cost("redis_sent_byte_s")
    # A relay passes the news on at what Redis takes to send them (assumed: there are no relays).
    passed_on = world.relay_children / max(children, 1)
    hub = max(world.hubs, key=lambda one: one.core.busy_s)
    each = hub.viewers * model.chat_share() + model.hub_fixed_share()
    return {
        "log node, news of orders": notes_s / max(selling_s, 1e-9),
        "busiest relay, news of orders": notes_s * passed_on / max(selling_s, 1e-9),
        "log node, chat and leases": steady + counting,
        "log node, network": out / model.assumed.link_bytes_per_s,
        "busiest hub": hub.core.busy_s / (span_s + 1e-9) + each,
        "busiest gate node": world.gate.busy_s / span_s,
        "busiest row lock": max(lock.busy_s for lock in world.locks) / max(selling_s, 1e-9),
        "Postgres cores": sum(one.busy_s for one in world.postgres)
        / len(world.postgres)
        / max(selling_s, 1e-9),
        "WAL": sum(n for _, n in seen.sold)
        * model.costs["wal_order_bytes"]
        / max(selling_s, 1e-9)
        / model.assumed.wal_bytes_per_s,
        "buckets at their most": scene.buckets / 64,
    }


def breaks_of(
    shares: dict[str, float], announce_s: float, answer_p99_s: float, end_s: float, storm_s: float
) -> list[str]:
    """Return in words what is past its bound, the worst first."""
    over = sorted(
        ((share, name) for name, share in shares.items() if share > 1.0 and "most" not in name),
        reverse=True,
    )
    found = [f"{name}: {share:.1f} times what it can do" for share, name in over]
    if announce_s > LATE_S:
        found.append(f"the offer reaches the last viewer after {announce_s:.1f} s")
    if answer_p99_s > ANSWER_MAX_S:
        found.append(f"one answer in 100 takes over {ANSWER_MAX_S} s: buys are told `retry`")
    if end_s > LATE_S:
        found.append(f"the end is known {end_s:.1f} s late")
    if storm_s > 2 * COME_BACK_S:
        found.append(f"when all are dropped at once the last is back after {storm_s:.0f} s")
    return found


def storm(world: World, share: float) -> float:
    """Drop the viewers of this share of the hubs, one at least; return when the last is back.

    They dial within COME_BACK_S and are spread over the hubs that are left; when none is, over all
    of them, started again.
    """
    hubs = len(world.hubs)
    lost = min(hubs, max(1, round(hubs * share)))
    left = hubs - lost or hubs
    coming = sum(hub.viewers for hub in world.hubs[:lost])
    rng = random.Random(world.scene.seed)
    last, step_s = 0.0, COME_BACK_S / STEPS
    # The fullest of those left is what is waited for; ten of them show its chance.
    for count in shared_out(coming, left)[:10]:
        core, waiting = Core(), count
        for step in range(STEPS):
            came = drawn(rng, waiting, 1.0 / (STEPS - step))
            waiting -= came
            if came:
                last = max(last, core.take(step * step_s, came * world.cost("hub_connect_s")))
    return last


def percentiles(spans: Sequence[tuple[float, float, int]], shares: Sequence[float]) -> list[float]:
    """Return the times by which these shares of all were reached, each span evenly."""
    total = sum(count for _, _, count in spans)
    ends = max((to for _, to, _ in spans), default=0.0)
    found = []
    for share in shares:
        if share >= 1.0:
            found.append(ends)
            continue
        low, high = 0.0, ends
        for _ in range(40):
            middle = (low + high) / 2
            if reached(spans, middle) < share * total:
                low = middle
            else:
                high = middle
        found.append(high)
    return found


def reached(spans: Sequence[tuple[float, float, int]], at: float) -> float:
    """Return how many were reached by a time."""
    return sum(
        count * min(1.0, max(0.0, (at - since) / (to - since) if to > since else float(at >= to)))
        for since, to, count in spans
    )


def delivered(spans: Sequence[tuple[float, float, int]]) -> list[tuple[float, float]]:
    """Return the curve of who has the offer."""
    ends = max((to for _, to, _ in spans), default=0.0)
    times = [ends * point / POINTS for point in range(POINTS + 1)]
    return [(round(at, 6), round(reached(spans, at), 1)) for at in times]


def so_far(moments: Sequence[tuple[float, int]]) -> list[tuple[float, float]]:
    """Return the curve of a count, thinned."""
    ordered, total, points = sorted(moments), 0, []
    every = max(1, len(ordered) // POINTS)
    for number, (at, count) in enumerate(ordered, 1):
        total += count
        if number % every == 0 or number == len(ordered):
            points.append((round(at, 6), float(total)))
    return points
