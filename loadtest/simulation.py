"""A drop in simulated time: hubs in a tree, nodes of Redis, row locks, and viewers by the count.

Owns the entities and what they do, one event after the other (simpy); every duration is a unit cost
of a calibration. Viewers are no entities: a hub knows how many have seen the offer, tap and wait,
in bins of time, drawn from a seed. **A tree of hubs is a model of what could be built: livecart has
none, each of its hubs is told by Redis itself, which is depth 1 here.** Called by the command line
through `simulation_runs`, and by tests.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Final

import simpy

from loadtest.calibration import Calibration
from loadtest.capacity import BATCH
from loadtest.timings import Timer

HOP_S: Final = 0.0005  # of a network between two machines (assumed)
UNWRITTEN_MAX: Final = 2_000  # orders of a hub that are held and have no row yet
READ_SHARE: Final = 0.5  # of a buy's cost for a hub that is spent before the gate is asked
Steps = Generator[simpy.Event, None, None]


@dataclass(slots=True, frozen=True)
class Scene:
    """What is simulated."""

    viewers: int
    units: int
    hubs: int
    depth: int = 1
    buckets: int = 1
    gate_nodes: int = 1
    buys: float = 1.0  # of each viewer, together
    sold_share: float = 1.0  # of the buys of a batch that may become orders, while there are units
    window_s: float = 10.0  # from seeing the offer to the tap, evenly; 0: all at once
    step_s: float = 0.02  # bin of time in which taps are counted: they come at its end
    postgres_cores: int = 16
    one_machine: bool = False  # of two cores: a hub on one, all else and the client on the other
    seed: int = 1


@dataclass(slots=True)
class Core:
    """Something that does one thing after the other, in the order in which it is asked."""

    free_at: float = 0.0
    busy_s: float = 0.0
    waited_s: float = 0.0  # the longest that anything had to

    def take(self, now: float, work_s: float) -> float:
        """Queue some work; return when it is done."""
        starts = max(now, self.free_at)
        self.waited_s = max(self.waited_s, starts - now)
        self.free_at = starts + work_s
        self.busy_s += work_s
        return self.free_at


@dataclass(slots=True)
class Seen:
    """What came out."""

    announced: list[tuple[float, float, int]] = field(default_factory=list)  # from, to, viewers
    ended: list[float] = field(default_factory=list)  # when each hub's last viewer knew of the end
    answers: Timer = field(default_factory=Timer)
    sold: list[tuple[float, int]] = field(default_factory=list)
    refused: list[tuple[float, int]] = field(default_factory=list)
    taps: int = 0
    tapped_from: float = math.inf
    impossible: int = 0  # what came before its cause: never
    sold_out_at: float | None = None


class Hub:
    """A hub with so many viewers; `taps` is what came and was not looked at yet."""

    __slots__ = ("core", "held", "news", "taps", "unwritten", "viewers")

    def __init__(self, env: simpy.Environment, viewers: int) -> None:
        self.viewers = viewers
        self.core = Core()
        self.taps: deque[tuple[float, int]] = deque()
        self.held: deque[tuple[float, int]] = deque()
        self.unwritten = 0
        self.news = env.event()


class World:
    """One simulated drop."""

    def __init__(self, costs: Calibration, scene: Scene, speed: float = 1.0) -> None:
        self.scene, self.costs, self.speed = scene, costs, speed
        self._scaled = {name: one.value / speed for name, one in costs.costs.items()}
        self.env = simpy.Environment()
        self.random = random.Random(scene.seed)
        self.seen = Seen()
        self.left = scene.units
        other = Core()
        self.other = other if scene.one_machine else None
        self.log = other if scene.one_machine else Core()
        # Each batch is spread over all nodes alike, so that one of them is as busy as any.
        self.gate = other if scene.one_machine else Core()
        self.locks = [Core() for _ in range(scene.buckets)]
        self.postgres = [other if scene.one_machine else Core() for _ in range(self._servers())]
        self.relays: list[Core] = []
        self.root_children = 0
        self.relay_children = 0  # of the relay that has the most
        self.hubs = [Hub(self.env, count) for count in shared_out(scene.viewers, scene.hubs)]
        self.written = 0  # orders
        self._next_lock = 0
        self.step_s = scene.step_s

    def _servers(self) -> int:
        return 1 if self.scene.one_machine else self.scene.postgres_cores

    def cost(self, name: str) -> float:
        """Return a processor's cost on the simulated cores."""
        return self._scaled[name]

    def run(self) -> Seen:
        """Open the offer at 0, and go on until everybody has an answer."""
        for hub, told_at in zip(self.hubs, self._tell(0.0), strict=True):
            self.env.process(self._announce(hub, told_at))
        self.env.run()
        return self.seen

    # --- the tree ---

    def _tell(self, now: float) -> list[float]:
        """Send one event from the root; return when each hub has it."""
        hubs, depth = len(self.hubs), self.scene.depth
        fan = max(2, math.ceil(hubs ** (1 / depth)))
        level = hubs if depth == 1 else min(hubs, fan)
        self.root_children = level
        event_s, child_s = self.cost("redis_event_s"), self.cost("hub_delivery_s")
        times = [self.log.take(now, event_s) + self._hop_s() for _ in range(level)]
        used = 0
        for below in range(1, depth):
            size = hubs if below == depth - 1 else min(hubs, level * fan)
            children = shared_out(size, len(times))
            self.relay_children = max(self.relay_children, *children)
            following: list[float] = []
            for at, count in zip(times, children, strict=True):
                if len(self.relays) <= used:
                    self.relays.append(Core())
                relay, used = self.relays[used], used + 1
                # A relay reads an event as a hub does, and writes it to hubs as to viewers.
                relay.take(at, self.cost("hub_chat_event_s"))
                following += [relay.take(at, child_s) + self._hop_s() for _ in range(count)]
            times, level = following, size
        return times

    def _hop_s(self) -> float:
        return 0.0 if self.scene.one_machine else HOP_S

    def _announce(self, hub: Hub, told_at: float) -> Steps:
        yield self.env.timeout(told_at)
        ready = hub.core.take(self.env.now, self.cost("hub_chat_event_s"))
        # The hub's processor is free again only when the last viewer has it, as with its loop.
        # What a sale on one machine is measured to cost a viewer has this fan-out in it already.
        each_s = 0.0 if self.scene.one_machine else self.cost("delivery_s")
        done = hub.core.take(ready, hub.viewers * each_s)
        self.seen.announced.append((ready, done, hub.viewers))
        self.seen.impossible += ready < told_at
        if hub.viewers:
            self.env.process(self._tap(hub, ready, done))
            self.env.process(self._sell(hub))

    # --- viewers, by the count ---

    def _tap(self, hub: Hub, first: float, last: float) -> Steps:
        """Have the viewers of a hub tap, each some time after he saw the offer."""
        left, mass = round(hub.viewers * self.scene.buys), 1.0
        at, before = first + self.random.random() * self.step_s, 0.0
        window = self.scene.window_s
        while left:
            after = share_before(at - first, last - first, window)
            share = 1.0 if after >= 1.0 else min(1.0, (after - before) / mass)
            count = drawn(self.random, left, share)
            if at > self.env.now:
                yield self.env.timeout(at - self.env.now)
            if count:
                self.seen.taps += count
                self.seen.tapped_from = min(self.seen.tapped_from, self.env.now)
                hub.taps.append((self.env.now, count))
                self._wake(hub)
            left, mass, before = left - count, max(1e-12, 1.0 - after), after
            at += self.step_s

    # --- a hub's two loops: asking the gate, and writing orders ---

    def _wake(self, hub: Hub) -> None:
        if not hub.news.triggered:
            hub.news.succeed()

    def _news(self, hub: Hub) -> simpy.Event:
        """Return what happens next at a hub; whoever waits for it is told together."""
        if hub.news.triggered:
            hub.news = self.env.event()
        return hub.news

    def _sell(self, hub: Hub) -> Steps:
        """Ask the gate, one batch after the other; a batch is what came meanwhile."""
        waiting = round(hub.viewers * self.scene.buys)
        self.env.process(self._admit(hub))
        while waiting:
            room = UNWRITTEN_MAX - hub.unwritten
            if not hub.taps or room <= 0:
                yield self._news(hub)
                continue
            batch = taken(hub.taps, min(room, BATCH * len(self.locks)))
            count = sum(n for _, n in batch)
            waiting -= count
            read_at = hub.core.take(self.env.now, self._reading_s(hub, count))
            granted = min(self.left, math.ceil(count * self.scene.sold_share))
            again = count - granted if self.left else 0
            self.left -= granted
            yield self.env.timeout(self._asked_at(read_at, count, granted, again) - self.env.now)
            gone, kept = split(batch, granted)
            hub.held.extend(gone)
            hub.unwritten += granted
            if granted:
                self._wake(hub)
            if kept:
                refused = sum(n for _, n in kept)
                after_s = (1 - READ_SHARE) * refused * self.cost("hub_refusal_s")
                told_at = hub.core.take(self.env.now, after_s + again * self.cost("hub_again_s"))
                if hub.taps:  # what came meanwhile is looked at when these are answered
                    yield self.env.timeout(told_at - self.env.now)
                self._answered(told_at, kept, "refusal")

    def _reading_s(self, hub: Hub, count: int) -> float:
        each = self.cost("hub_viewer_s") / max(self.scene.buys, 1e-9)
        return count * (each + READ_SHARE * self.cost("hub_refusal_s"))

    def _asked_at(self, at: float, count: int, granted: int, again: int) -> float:
        """Ask every node for its share of a batch; return when they have answered."""
        work_s = (
            (count - granted) * self.cost("redis_refusal_s")
            + granted * self.cost("redis_order_s")
            + again * self.cost("redis_again_s")
        ) / self.scene.gate_nodes
        return self.gate.take(at, work_s) + 2 * self._hop_s()

    def _admit(self, hub: Hub) -> Steps:
        """Write held orders in batches, each under the lock of a bucket."""
        while True:
            if not hub.held:
                yield self._news(hub)
                continue
            lines = taken(hub.held, BATCH)
            count = sum(n for _, n in lines)
            yield self.env.timeout(self._written_at(count) - self.env.now)
            told_at = hub.core.take(self.env.now, self._telling_s(count))
            yield self.env.timeout(told_at - self.env.now)
            hub.unwritten -= count
            self._tell_order(count)
            self._answered(told_at, lines, "order")
            self.written += count
            if self.written == self.scene.units:
                self.seen.sold_out_at = self.env.now
                self.env.process(self._end())
            self._wake(hub)

    def _written_at(self, count: int) -> float:
        """Admit so many lines in one call; return when it is committed."""
        now = self.env.now
        work_s = self.cost("postgres_call_s") + count * self.cost("postgres_order_s")
        lock = self.locks[self._next_lock % len(self.locks)]
        self._next_lock += 1
        core = min(self.postgres, key=lambda one: one.free_at)
        # The lock is kept while its transaction works and is synced.
        worked = core.take(max(now, lock.free_at), work_s)
        starts = max(now, lock.free_at)
        return lock.take(now, worked - starts + self.costs["commit_s"]) + 2 * self._hop_s()

    def _telling_s(self, count: int) -> float:
        each = self.cost("hub_order_s") - READ_SHARE * self.cost("hub_refusal_s")
        return count * max(0.0, each)

    def _tell_order(self, count: int) -> None:
        """Tell the news of orders to all hubs, as livecart does whoever bought."""
        if self.scene.one_machine:
            return  # one hub: it is told of nothing by itself, and what it says is in its costs
        each_s = self.costs["redis_note_bytes"] * self.cost("redis_sent_byte_s")
        self.log.take(self.env.now, count * each_s * self.root_children)

    def _answered(self, at: float, lines: list[tuple[float, int]], what: str) -> None:
        """Note answers; on one machine the client has read them only when it had its turn."""
        count = sum(n for _, n in lines)
        if self.other is not None:
            each_s = self.cost(f"client_{what}_s")
            each_s += self.cost("client_viewer_s") / max(self.scene.buys, 1e-9)
            at = self.other.take(at, count * each_s)
        at += self._hop_s()
        (self.seen.sold if what == "order" else self.seen.refused).append((at, count))
        for since, n in lines:
            self.seen.impossible += at < since
            self.seen.answers.note_us((at - since) * 1e6, n)

    def _end(self) -> Steps:
        """Tell everybody that it is sold out, behind the news of the orders on the same node."""
        yield self.env.timeout(0)
        for hub, at in zip(self.hubs, self._tell(self.env.now), strict=True):
            # What its fan-out costs a hub is within its viewers' part in a sale.
            last_s = hub.viewers * self.cost("delivery_s")
            self.seen.ended.append(at + last_s)


# --- small arithmetic ------------------------------------------------------------------------


def shared_out(total: int, parts: int) -> list[int]:
    """Split a number into parts that differ by one at the most; their sum is the number."""
    each, rest = divmod(total, parts)
    return [each + (at < rest) for at in range(parts)]


def share_before(after_s: float, spread_s: float, window_s: float) -> float:
    """Return the share of taps within so many seconds of a hub's first delivery.

    Seen evenly over `spread_s`, tapped evenly within `window_s` of that: two even spreads added.
    """
    short, long = sorted((max(spread_s, 0.0), max(window_s, 0.0)))
    if after_s <= 0:
        return 1.0 if long == 0 and after_s == 0 else 0.0
    if after_s >= short + long:
        return 1.0
    if short == 0:
        return after_s / long
    if after_s < short:
        return (after_s / short) * (after_s / long) / 2  # the product of both could be too small
    if after_s <= long:
        return (after_s - short / 2) / long
    rest = short + long - after_s
    return 1.0 - (rest / short) * (rest / long) / 2


def drawn(rng: random.Random, count: int, share: float) -> int:
    """Draw how many of a count it is, each with this chance: exactly, or by the normal law."""
    if share >= 1.0:
        return count
    middle = count * share
    if middle < 1e-9:
        return 0
    if min(middle, count - middle) > 30:
        found = round(rng.gauss(middle, math.sqrt(middle * (1 - share))))
        return min(count, max(0, found))
    if count * share > 30:
        return count - drawn(rng, count, 1 - share)
    # Skip from one that is to the next.
    found, at = 0, 0
    scale = math.log1p(-share)
    while True:
        at += int(math.log(1.0 - rng.random()) / scale) + 1
        if at > count:
            return found
        found += 1


def taken(queue: deque[tuple[float, int]], most: int) -> list[tuple[float, int]]:
    """Take so many off the front of a queue of (since, how many)."""
    found: list[tuple[float, int]] = []
    while queue and most:
        since, count = queue.popleft()
        part = min(count, most)
        if part < count:
            queue.appendleft((since, count - part))
        found.append((since, part))
        most -= part
    return found


def split(
    lines: list[tuple[float, int]], first: int
) -> tuple[list[tuple[float, int]], list[tuple[float, int]]]:
    """Split lines into the first so many, and the rest."""
    rest = deque(lines)
    return taken(rest, first), list(rest)


def simulate(costs: Calibration, scene: Scene, speed: float = 1.0) -> tuple[World, Seen]:
    """Simulate one drop."""
    world = World(costs, scene, speed)
    return world, world.run()
