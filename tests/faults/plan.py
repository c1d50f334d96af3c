"""A sale and what will go wrong in it, drawn from one number.

Owns the drawing: the same seed is the same plan. Knows no server. `sale` plays it. A seed's kind of
fault goes round, so that any stretch of seeds as long as KINDS has each kind once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from random import Random
from typing import Literal

from loadtest.customers import Choice
from loadtest.faults import FaultName
from orders.failpoints import POINTS

#: Faults that are the clients' own.
TWICE, NEVER_READS = "twice", "never-reads"
#: Points that no sale of buys and bundles reaches; tests of their own do.
NOT_OF_A_SALE = ("comment.", "payment.", "notice.", "move.", "replace.", "hook")
SALE_POINTS = tuple(point for point in POINTS if not point.startswith(NOT_OF_A_SALE))
#: Each kind once: from outside, by the clients, and at each named point.
KINDS: tuple[str, ...] = (*FaultName, TWICE, NEVER_READS, *SALE_POINTS)
ACTIONS = ("kill", "kill", "stop", "drop:redis", "drop:postgres", "sleep:2600")
STEADY_S = 0.08  # between two buys of a viewer in a steady crowd
SEEDS_A_TREE = 8  # how many seeds in a row share one server


@dataclass(frozen=True, slots=True)
class Strike:
    """One fault, by its name or as `point=action@n`, and when."""

    what: str
    burst: int = 0  # a point is armed when it begins, other faults strike in its middle:
    share: float = 0.0  # when this share of its buys has a final answer
    seconds: float = 0.0  # how long a stop lasts; the age of a stale copy
    bytes_cut: int = 0
    which: int = 0  # of the workers

    @property
    def point(self) -> str:
        """The named point, or ''."""
        return self.what.partition("=")[0] if "=" in self.what else ""

    @property
    def kind(self) -> str:
        """What the table counts it as."""
        return self.point or self.what


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that is chosen about one run."""

    seed: int
    kind: str
    workers: int
    viewers: int
    bursts: tuple[tuple[float, int], ...]  # seconds after the opening, buys of each viewer
    units: int
    per_viewer: int
    qty_max: int
    payment: Literal["required", "none"]
    hold_s: int
    pay: float  # share of the orders that are paid
    cancel: float  # share that is cancelled
    react_s: float  # at the most, after the order was got
    strikes: tuple[Strike, ...]
    leavers: float = 0.0  # share of the viewers who vanish when the first fault strikes
    deaf: float = 0.0  # share who never read
    copies: int = 1  # of each command
    restock: tuple[float, int] | None = None  # seconds after the opening, units
    lower: tuple[float, int] | None = None  # seconds after the opening, the new quantity
    pause: tuple[float, float] | None = None  # seconds after the opening, and for how long
    close: float | None = None  # seconds after the opening; None: it stays open
    bundlers: int = 20  # viewers beside the others, who send bundles of both offers
    bundles: int = 2  # of each in each burst
    beside: int = 100  # units of the other offer
    buckets: int = 1  # that the first offer's units are spread over

    @property
    def buys_each(self) -> int:
        return sum(buys for _, buys in self.bursts)

    def line(self) -> str:
        """The whole plan in one line."""
        shown = {name: value for name, value in asdict(self).items() if name != "strikes"}
        strikes = " + ".join(_strike_text(strike) for strike in self.strikes)
        return " ".join(f"{name}={_short(value)}" for name, value in shown.items()) + f": {strikes}"

    def qtys(self) -> list[int]:
        """Units of each buy; who sends bundles sends no others."""
        random = Random(f"qty {self.seed}")
        buys = self.viewers * self.buys_each
        return [random.randint(1, self.qty_max) for _ in range(buys)] + [1] * (
            self.bundlers * self.buys_each
        )

    @property
    def bundles_each(self) -> int:
        return self.bundles * len(self.bursts)

    def lines(self, offers: Sequence[str]) -> list[dict[str, int]]:
        """Units by offer of each bundle."""
        random = Random(f"lines {self.seed}")
        return [
            {offer: random.randint(1, self.qty_max) for offer in offers}
            for _ in range(self.bundlers * self.bundles_each)
        ]

    def chooser(self) -> Callable[[int], Choice]:
        """What happens to the order of each buy."""
        random = Random(f"choice {self.seed}")
        chosen: list[Choice] = []
        for _ in range(self.viewers * self.buys_each):
            draw, delay_s = random.random(), random.random() * self.react_s
            pays: Choice = ("pay", delay_s) if draw < self.pay else None
            chosen.append(
                ("cancel", delay_s) if self.pay <= draw < self.pay + self.cancel else pays
            )
        return chosen.__getitem__


def _short(value: object) -> str:
    return str(value).replace(" ", "") if not isinstance(value, float) else f"{value:.2f}"


def _strike_text(strike: Strike) -> str:
    more = f" for {strike.seconds:.2f} s" if strike.seconds else ""
    more += f" by {strike.bytes_cut} bytes" if strike.bytes_cut else ""
    return f"{strike.what}{more} in burst {strike.burst} at {strike.share:.2f}"


def plan_of(seed: int) -> Plan:
    """Draw the plan of a seed."""
    random = Random(seed)
    kind = KINDS[seed % len(KINDS)]
    per_viewer = random.randint(2, 6)
    bursts = ((0.0, random.randint(3, 5)), (round(random.uniform(0.3, 0.9), 2), 2))
    qty_max = random.choice((1, 1, 2, 3))
    viewers = random.randint(350, 500)
    asked = viewers * sum(buys for _, buys in bursts) * (1 + qty_max) / 2
    required = random.random() < 0.75
    plan = Plan(
        seed=seed,
        kind=kind,
        workers=1 + seed // SEEDS_A_TREE % 2,
        viewers=viewers,
        bursts=bursts,
        units=int(min(asked, viewers * per_viewer) * random.uniform(0.4, 1.3)),
        per_viewer=per_viewer,
        qty_max=qty_max,
        payment="required" if required else "none",
        hold_s=random.choice((1, 1, 2, 600)),
        pay=random.uniform(0.0, 0.25),
        cancel=random.uniform(0.0, 0.15),
        react_s=random.uniform(0.1, 1.3),
        strikes=(),
        leavers=random.choice((0.0, 0.0, 0.1)),
        restock=(round(random.uniform(0.0, 1.0), 2), random.randint(1, 300))
        if random.random() < 0.5
        else None,
        close=round(random.uniform(0.4, 1.5), 2) if random.random() < 0.15 else None,
    )
    if random.random() < 0.2:
        lowered = int(plan.units * random.uniform(0.5, 1.0))
        plan = replace(plan, lower=(round(random.uniform(0.1, 1.0), 2), lowered))
    bundles, pauses = plan.bundlers * plan.bundles_each, random.random() < 0.15
    plan = replace(plan, beside=int(bundles * (1 + qty_max) / 2 * random.uniform(0.3, 1.2)))
    if pauses and kind not in SALE_POINTS:
        paused = round(random.uniform(0.05, 0.6), 2), round(random.uniform(0.05, 0.25), 2)
        plan = replace(plan, pause=paused)
    plan = _at_point(plan, random) if kind in SALE_POINTS else _from_outside(plan, random)
    if random.random() < 0.25:
        second = drawn(random.choice([*FaultName]), random, burst=len(plan.bursts) - 1)
        plan = replace(plan, strikes=(*plan.strikes, second))
    spread = Random(f"buckets {seed}")
    if plan.buckets == 1 and spread.random() < 0.3:
        plan = replace(plan, buckets=spread.choice((2, 3, 5)))
    return plan


def drawn(what: str, random: Random, burst: int, share: float | None = None) -> Strike:
    """A fault from outside, with what it needs to know."""
    if share is None:
        share = random.choice((0.0, random.uniform(0.0, 0.6)))
    return Strike(
        what,
        burst,
        round(share, 2),
        seconds=round(random.uniform(0.5, 3.0), 2) if what.startswith("stop") else
        round(random.uniform(0.05, 0.4), 2) if what == FaultName.STALE_AOF else 0.0,
        bytes_cut=random.choice((1, 100, 5_000, 100_000)) if what == FaultName.TRUNCATE_AOF else 0,
    )  # fmt: skip


def _from_outside(plan: Plan, random: Random) -> Plan:
    if plan.kind not in (TWICE, NEVER_READS):
        return replace(plan, strikes=(drawn(plan.kind, random, random.choice((0, 0, 1))),))
    beside = drawn(random.choice([*FaultName]), random, 0)
    if plan.kind == TWICE:
        return replace(plan, copies=2, strikes=(Strike(TWICE), beside))
    return replace(plan, deaf=0.1, strikes=(Strike(NEVER_READS), beside))


def _at_point(plan: Plan, random: Random) -> Plan:
    """A fault at the plan's point, in a sale that gets there while a crowd waits."""
    point = plan.kind
    action = random.choice(ACTIONS)
    seconds = round(random.uniform(0.5, 3.0), 2) if action == "stop" else 0.0
    nth = random.choice((1, 1, 2)) if point in _OFTEN else 1
    shot = Strike(f"{point}={action}@{nth}", 0, 0.0, seconds)
    arrange = _ARRANGED.get(point.partition(".")[0]) or _ARRANGED.get(point)
    return arrange(plan, shot, random) if arrange else replace(plan, strikes=(shot,))


def _bundled(plan: Plan, shot: Strike, random: Random) -> Plan:
    """Many bundles in the middle of single buys, and enough for most of them."""
    return replace(
        plan, bundlers=60, bundles=1, beside=int(240 * random.uniform(0.5, 1.5)), strikes=(shot,),
        units=plan.viewers * 12, lower=None, close=None,
        bursts=((0.0, 2), *_stream(0.1, 6)),
    )  # fmt: skip


#: Points that each burst reaches several times.
_OFTEN = (
    "bundle.held",
    "bundle.committed",
    "hold.sent",
    "hold.replied",
    "admit.due",
    "admit.sent",
    "admit.committed",
)


def _stream(start_s: float, buys: int) -> tuple[tuple[float, int], ...]:
    """A steady crowd: one buy of each viewer after the other, some of them always in flight."""
    return tuple((round(start_s + n * STEADY_S, 2), 1) for n in range(buys))


def _paid_soon(plan: Plan, shot: Strike, random: Random) -> Plan:
    """Orders of the first crowd are paid and cancelled while others buy."""
    return replace(
        plan, payment="required", pay=0.2, cancel=0.4, react_s=0.9, close=None,
        bundles=1, bursts=((0.0, 2), *_stream(0.3, 8)), strikes=(replace(shot, burst=1),),
    )  # fmt: skip


def _restocked(plan: Plan, shot: Strike, random: Random) -> Plan:
    """The host acts while the crowd buys, so that there are facts to tell."""
    return replace(plan, restock=(0.01, random.randint(1, 300)), lower=None, strikes=(shot,))


def _expiring(plan: Plan, shot: Strike, random: Random) -> Plan:
    """The first orders' time is over when the second crowd comes."""
    second = round(1.0 + random.uniform(0.02, 0.15), 2)
    return replace(
        plan, payment="required", hold_s=1, pay=0.1, cancel=0.0, close=None,
        bundles=1, bursts=((0.0, 2), *_stream(second, 8)), strikes=(replace(shot, burst=1),),
    )  # fmt: skip


def _orphaned(plan: Plan, shot: Strike, random: Random) -> Plan:
    """A worker dies with holds whose buyers never return; the keeper resolves them in a crowd.

    Orders live on until then: one that has expired has no hold that could be marked.
    """
    died_at = "admit.committed" if shot.point == "fence.marked" else "hold.replied"
    first = Strike(f"{died_at}=kill@{2 if shot.point == 'fence.marked' else 1}", 0)
    second = round(2.0 + random.uniform(0.0, 0.1), 2)
    return replace(
        plan, leavers=0.35, close=None, hold_s=600, strikes=(first, shot),
        bundles=1, bursts=((0.0, 2), *_stream(second, 6)),
    )  # fmt: skip


def _lagging(plan: Plan, shot: Strike, random: Random) -> Plan:
    """A worker dies between a change's COMMIT and the gate, while a crowd waits for it."""
    first, shot = Strike("gate.due=kill@1", 1), replace(shot, burst=1)
    return replace(
        plan, workers=1, payment="required", pay=0.0, cancel=0.4, react_s=0.6, hold_s=600,
        restock=None, lower=None, close=None, strikes=(first, shot),
        bundles=1, bursts=((0.0, 2), (0.3, 4), *_stream(0.4, 6)),
    )  # fmt: skip


def _rebuilt(plan: Plan, shot: Strike, random: Random) -> Plan:
    """Redis forgets, and the gate is made anew while others come and come."""
    lost = drawn(random.choice((FaultName.FLUSHALL, FaultName.KILL_REDIS)), random, 0, 0.2)
    bursts = ((0.0, 2), *_stream(0.1, 8))
    return replace(plan, close=None, bursts=bursts, bundles=1, strikes=(shot, lost))


def _late(plan: Plan, shot: Strike, random: Random) -> Plan:
    """Postgres hangs for longer than a buyer waits: holds that were not sent to it go back."""
    hang = Strike(FaultName.STOP_POSTGRES, 0, 0.02, seconds=round(random.uniform(1.1, 1.6), 2))
    return replace(
        plan, workers=1, close=None, units=plan.viewers * 12, per_viewer=6, qty_max=2,
        bursts=((0.0, 6), plan.bursts[1]), strikes=(shot, hang),
    )  # fmt: skip


def _lent(plan: Plan, shot: Strike, random: Random) -> Plan:
    """The second crowd, when the shot lies ready, wants nearly all there is: who is at home in a
    bucket with more viewers than others borrows in its middle.
    """
    return replace(
        plan, buckets=random.choice((16, 32, 48)), qty_max=1, per_viewer=10, beside=2_000,
        units=int(plan.viewers * 8 * random.uniform(0.98, 1.04)), lower=None, close=None,
        pause=None, restock=None, hold_s=600, cancel=0.0, bundles=1, strikes=(shot,),
        bursts=((0.0, 2), (0.4, 6), *_stream(0.6, 2)),
    )  # fmt: skip


_ARRANGED: dict[str, Callable[[Plan, Strike, Random], Plan]] = {
    "undo": _late,
    "change": _paid_soon,
    "lend": _lent,
    "transfer": _lent,
    "gate": _paid_soon,
    "follow": _paid_soon,
    "host": _restocked,
    "publish": _restocked,
    "expire": _expiring,
    "fence": _orphaned,
    "catch_up": _lagging,
    "rebuild": _rebuilt,
    "bundle": _bundled,
}
