"""How much a drop for so many viewers needs, from unit costs: pure functions, nothing measured.

Owns the model's formulas, its assumptions in words, and the limits that no number of machines
lifts. All that is not from the calibration is in `Assumed`, each with its default. docs/capacity.md
tells the formulas. Called by the command line; the simulation starts from the same plan.
"""

from __future__ import annotations

import math
from typing import Final

import msgspec

from loadtest.assumptions import Assumption, assumptions
from loadtest.calibration import Calibration
from loadtest.tiers import Tier, network, tiers

BATCH: Final = 500  # buys of one call of Redis, and orders of one of Postgres, at the most
BUCKETS_MAX: Final = 64
CHAT_WRITES_PER_S: Final = 20.0
LEASES_SUMMED_PER_S: Final = 2.0
GROWTH_MAX: Final = 1e6


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for."""

    viewers: int
    units: int
    buys_per_viewer: float = 1.0
    window_s: float = 10.0  # in which the crowd taps
    queue_s: float = 0.4  # that an order may wait for its lock: at 0.8 s hubs answer `retry`
    announce_s: float = 0.5  # in which a hub's last viewer is to have the offer
    chat_per_s: float = 5.0
    headroom: float = 0.6  # of a core, of a link, of a lock: no more is planned for
    cores_per_hub: int = 1  # processes of one hub machine, a core each


class Assumed(msgspec.Struct, frozen=True, kw_only=True):
    """What no calibration on one machine can tell."""

    speed: float = 1.0  # of a production core, against one of the calibrated machine
    connections_max: int = 20_000  # of one process, as `LIVECART_CONNECTIONS_MAX`
    postgres_cores: int = 16
    wal_bytes_per_s: float = 200e6  # that the disk under Postgres writes and syncs
    link_bytes_per_s: float = 1.25e9  # 10 Gbit/s, of each machine
    note_decode_s: float = 2e-6  # a hub's, of another hub's order


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """Something that more machines do not lift."""

    name: str
    share: float  # of what it can do
    breaks_at_viewers: float  # with the units grown alike; inf: beyond all bounds
    text: str


class CapacityPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What the wish needs."""

    wish: Wish
    assumed: Assumed
    feasible: bool
    hubs: int
    hub_machines: int
    viewers_per_hub: int
    bound_by: str  # what a hub's number of viewers comes from
    buckets: int
    gate_nodes: int
    taps_per_s: float
    orders: int
    orders_per_s: float
    wal_bytes_per_s: float
    wal_bytes: float
    disk_bytes: float
    tiers: list[Tier]
    network: dict[str, float]  # bytes a second, by the way that they go
    to_last_delivery_s: float
    to_last_order_s: float
    news_late_s: float  # how far the stream's node lags behind its orders at the most
    lone_buy_s: float
    limits: list[Limit]
    breaks_first: str
    assumptions: list[Assumption]


class Model:
    """The formulas for one wish; `costs` are scaled to the speed of the cores."""

    def __init__(self, costs: Calibration, wish: Wish, assumed: Assumed) -> None:
        self.costs, self.wish, self.assumed = costs, wish, assumed
        self.taps_per_s = wish.viewers * wish.buys_per_viewer / wish.window_s
        self.orders = min(wish.units, int(wish.viewers * wish.buys_per_viewer))
        self.orders_per_s = self.orders / self.selling_s

    def core_s(self, name: str) -> float:
        """Return a cost of processor time, on the cores that are planned for."""
        return self.costs[name] / self.assumed.speed

    @property
    def selling_s(self) -> float:
        """Return the seconds in which the orders are made: as asked for, and a short queue."""
        asked_s = self.orders / self.taps_per_s if self.taps_per_s else 0.0
        return asked_s + self.wish.queue_s

    # --- a hub ---

    def chat_share(self) -> float:
        """Return what a second of chat takes of a hub's core, for each viewer.

        So many writes a second to each viewer at the most: more messages share them.
        """
        chat = self.wish.chat_per_s
        alone = chat * self.core_s("hub_delivery_s")
        shared = CHAT_WRITES_PER_S * self.core_s("hub_delivery_s")
        return min(alone, shared + chat * self.core_s("hub_chat_delivery_s"))

    def viewer_share(self) -> float:
        """Return what one viewer takes of a hub's core while the crowd taps."""
        wish = self.wish
        sale_s = self.core_s("hub_viewer_s") + wish.buys_per_viewer * self.core_s("hub_refusal_s")
        bought = self.orders / wish.viewers if wish.viewers else 0.0
        more_s = max(0.0, self.core_s("hub_order_s") - self.core_s("hub_refusal_s"))
        return (sale_s + bought * more_s) / wish.window_s + self.chat_share()

    def hub_fixed_share(self) -> float:
        """Return what a hub's core has to do however few its viewers are."""
        chat = self.wish.chat_per_s * self.core_s("hub_chat_event_s")
        notes = self.orders / self.wish.window_s * self.assumed.note_decode_s / self.assumed.speed
        return self.core_s("hub_idle_share") + chat + notes

    def viewers_per_hub(self) -> tuple[int, str]:
        """Return how many viewers a hub takes, and what they are bound by; 0 when none."""
        room = self.wish.headroom - self.hub_fixed_share()
        by_cpu = room / self.viewer_share() if room > 0 else 0.0
        by_announce = self.wish.announce_s / (self.costs["delivery_s"] / self.assumed.speed)
        bounds = {
            "its core while the crowd taps": by_cpu,
            "the time of an announcement": by_announce,
            "its bound of connections": float(self.assumed.connections_max),
        }
        name = min(bounds, key=lambda one: bounds[one])
        return max(0, int(bounds[name])), name

    def hubs(self) -> int:
        """Return how many hubs; 0 when a hub cannot take even one viewer."""
        each, _ = self.viewers_per_hub()
        return math.ceil(self.wish.viewers / each) if each else 0

    # --- the gate and Postgres ---

    def lock_orders_per_s(self) -> float:
        """Return the orders that one bucket's row lock lets through, full batches, one by one."""
        work_s = self.core_s("postgres_call_s") + BATCH * self.core_s("postgres_order_s")
        return BATCH / (self.costs["commit_s"] + work_s)

    def gate_share(self) -> float:
        """Return what the gate takes, in cores of Redis, while the crowd taps."""
        asked = self.taps_per_s * self.core_s("redis_refusal_s")
        more_s = max(0.0, self.core_s("redis_order_s") - self.core_s("redis_refusal_s"))
        return asked + self.orders_per_s * more_s

    def gate_nodes(self) -> int:
        """Return the nodes of the gate."""
        return max(1, math.ceil(self.gate_share() / self.wish.headroom))

    def buckets(self) -> int:
        """Return the buckets of the offer: for the lock, and some for each node."""
        lock = math.ceil(self.orders_per_s / (self.lock_orders_per_s() * self.wish.headroom))
        nodes = self.gate_nodes()
        spread = 1 if nodes == 1 else 4 * nodes
        return min(BUCKETS_MAX, max(1, lock, spread))

    def postgres_share(self) -> float:
        """Return the cores that Postgres needs for the orders."""
        each_s = self.core_s("postgres_order_s") + self.core_s("postgres_call_s") / BATCH
        return self.orders_per_s * each_s

    def wal_bytes_per_s(self) -> float:
        """Return the WAL that the orders make."""
        return self.orders_per_s * self.costs["wal_order_bytes"]

    # --- the log of the stream: one node, whatever is added ---

    def news_s(self, hubs: int) -> float:
        """Return the seconds of that node's core for the news of all orders to so many hubs."""
        told = self.orders * self.costs["redis_note_bytes"] * hubs
        return told * self.core_s("redis_sent_byte_s")

    def log_steady_share(self, hubs: int) -> float:
        """Return what that node does for so many hubs without any order, of its one core."""
        events = self.wish.chat_per_s * self.core_s("redis_event_s")
        counting = LEASES_SUMMED_PER_S * hubs * self.core_s("redis_lease_s")
        each = self.core_s("redis_hub_idle_share") + events + counting
        return self.core_s("redis_idle_share") + hubs * each

    def log_share(self, hubs: int) -> float:
        """Return the whole, orders told over the time in which the crowd taps."""
        over_s = max(self.wish.window_s, self.selling_s)
        return self.log_steady_share(hubs) + self.news_s(hubs) / over_s

    def log_out_bytes_per_s(self, hubs: int) -> float:
        """Return what that node sends to so many hubs, over the same time."""
        over_s = max(self.wish.window_s, self.selling_s)
        notes = self.orders * self.costs["redis_note_bytes"] / over_s
        return hubs * (self.wish.chat_per_s * self.costs["redis_event_bytes"] + notes)

    def news_late_s(self, hubs: int) -> float:
        """Return how late everything is that this node says once the last order is made.

        The news of orders are said as orders are made; chat, pins and stock wait behind them.
        """
        room = 1.0 - self.log_steady_share(hubs)
        if room <= 0:
            return math.inf
        core = self.news_s(hubs) / room
        sent = self.orders * self.costs["redis_note_bytes"] * hubs
        return max(0.0, max(core, sent / self.assumed.link_bytes_per_s) - self.selling_s)

    # --- times ---

    def to_last_delivery_s(self) -> float:
        """Return the seconds from the log to the last viewer of the last hub."""
        told = self.hubs() * self.core_s("redis_event_s")
        each = self.viewers_per_hub()[0]
        viewers = min(each, self.wish.viewers) * self.costs["delivery_s"] / self.assumed.speed
        return told + self.core_s("hub_chat_event_s") + viewers

    def to_last_order_s(self) -> float:
        """Return the seconds from the first tap to the last order, taps spread evenly."""
        asked = self.orders / self.taps_per_s if self.taps_per_s else 0.0
        locked = self.orders / (self.buckets() * self.lock_orders_per_s())
        each_s = self.core_s("postgres_order_s") + self.core_s("postgres_call_s") / BATCH
        cores = self.orders * each_s / self.assumed.postgres_cores
        written = self.orders * self.costs["wal_order_bytes"] / self.assumed.wal_bytes_per_s
        return max(asked, locked, cores, written) + self.costs["lone_buy_p50_s"]

    def shares(self) -> dict[str, float]:
        """Return how much of each thing that cannot be added to is used; 1 is all of it."""
        hubs, assumed = self.hubs(), self.assumed
        return {
            "row locks": self.orders_per_s / (BUCKETS_MAX * self.lock_orders_per_s()),
            "gate": self.gate_share() / BUCKETS_MAX,
            "Postgres cores": self.postgres_share() / assumed.postgres_cores,
            "WAL": self.wal_bytes_per_s() / assumed.wal_bytes_per_s,
            "log node, core": self.log_share(hubs) if hubs else math.inf,
            "log node, network": self.log_out_bytes_per_s(hubs) / assumed.link_bytes_per_s
            if hubs
            else math.inf,
            "a hub's fixed work": self.hub_fixed_share() / self.wish.headroom,
        }


_LIMITS: Final = {
    "row locks": "an offer is 1 row in Postgres, with buckets 64: each admission locks one",
    "gate": "an offer is 1 slot of Redis, with buckets 64: no more nodes than that serve it",
    "Postgres cores": "all orders are rows of one primary",
    "WAL": "all orders are in the WAL of one primary",
    "log node, core": "one stream is on one node of Redis: it tells every hub every event, and the"
    " news of every order; each hub adds up the leases of all, so that part grows by the square",
    "log node, network": "the same news, in bytes on that node's link",
    "a hub's fixed work": "every hub reads every event and the news of every order",
}


def plan(costs: Calibration, wish: Wish, assumed: Assumed | None = None) -> CapacityPlan:
    """Compute what a wish needs; `feasible` is false where a limit is passed."""
    assumed = assumed or Assumed()
    model = Model(costs, wish, assumed)
    hubs = model.hubs()
    each, bound_by = model.viewers_per_hub()
    each = min(each, wish.viewers)
    limits = [
        Limit(name=name, share=share, breaks_at_viewers=breaks_at(model, name), text=_LIMITS[name])
        for name, share in model.shares().items()
    ]
    first = min(limits, key=lambda limit: limit.breaks_at_viewers)
    return CapacityPlan(
        wish=wish,
        assumed=assumed,
        feasible=hubs > 0 and all(limit.share <= 1.0 for limit in limits),
        hubs=hubs,
        hub_machines=math.ceil(hubs / wish.cores_per_hub),
        viewers_per_hub=each,
        bound_by=bound_by,
        buckets=model.buckets(),
        gate_nodes=model.gate_nodes(),
        taps_per_s=model.taps_per_s,
        orders=model.orders,
        orders_per_s=model.orders_per_s,
        wal_bytes_per_s=model.wal_bytes_per_s(),
        wal_bytes=model.orders * costs["wal_order_bytes"],
        disk_bytes=model.orders * costs["disk_order_bytes"],
        tiers=tiers(model, hubs, each),
        network=network(model, hubs, CHAT_WRITES_PER_S),
        to_last_delivery_s=model.to_last_delivery_s(),
        to_last_order_s=model.to_last_order_s(),
        news_late_s=model.news_late_s(hubs),
        lone_buy_s=costs["lone_buy_p50_s"],
        limits=limits,
        breaks_first=first.name,
        assumptions=assumptions(model, hubs, BATCH, CHAT_WRITES_PER_S),
    )


def breaks_at(model: Model, name: str) -> float:
    """Return the viewers at which a limit is reached, units grown alike; inf when it is not."""

    def share(factor: float) -> float:
        wish = model.wish
        grown = msgspec.structs.replace(
            wish,
            viewers=max(1, round(wish.viewers * factor)),
            units=max(1, round(wish.units * factor)),
        )
        return Model(model.costs, grown, model.assumed).shares()[name]

    low, high = 0.0, 1.0
    while share(high) < 1.0:
        low, high = high, high * 2
        if high > GROWTH_MAX:
            return math.inf
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if share(middle) < 1.0 else (low, middle)
    return model.wish.viewers * high
