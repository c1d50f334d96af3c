"""One machine's flash sale, foretold from a calibration and then held against the real one.

Owns the prediction's file (format 1), its formulas, and the errors. A prediction is written down
before its run and read again for it; nothing is corrected in between. Called by the command line.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from loadtest.calibration import VIEWERS_MAX, Calibration
from loadtest.capacity import BATCH
from loadtest.costs import own_again
from loadtest.meters import metered
from loadtest.probes import SETTINGS, Stage, show
from loadtest.server import spawned
from loadtest.trial import Sale, Trial, play

FORMAT: Final = 1
ERROR_MAX: Final = 0.20
PINS: Final = 20
BURSTS: Final = 2


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One figure that is foretold."""

    value: float
    unit: str
    what: str


class Prediction(msgspec.Struct, frozen=True, kw_only=True):
    """What a sale on the calibrated machine will take, written down before it is played."""

    format: int = FORMAT
    when_ms: int
    sale: Sale
    calibrated_ms: int
    calibrated_viewers: int
    machine: dict[str, str]
    figures: dict[str, Figure]


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """One figure beside what was measured: the median of the runs, the least and the most."""

    name: str
    unit: str
    predicted: float
    measured: float
    least: float
    most: float

    @property
    def error(self) -> float:
        """Return by how much the prediction is off, as a share of what was measured."""
        if not self.measured:
            return math.inf if self.predicted else 0.0
        return self.predicted / self.measured - 1.0

    @property
    def passed(self) -> bool:
        """Tell whether it is within the bound."""
        return abs(self.error) <= ERROR_MAX


class PredictionUnreadable(Exception):
    """A file is no prediction; the message says which and why."""


def predict(costs: Calibration, sale: Sale, simulated_s: float | None = None) -> Prediction:
    """Foretell a sale of any size on the machine of the calibration.

    `simulated_s`: what its simulation says of the time to the last answer, to be held, too.
    """
    if costs.viewers_max > VIEWERS_MAX:
        raise ValueError(f"calibrated with more than {VIEWERS_MAX} viewers: no prediction")
    figures = {
        name: Figure(value=value, unit=unit, what=what)
        for name, (value, unit, what) in _foretold(costs, sale).items()
    }
    if simulated_s is not None:
        what = "first buy to last answer, simulated"
        figures["simulated_s"] = Figure(value=simulated_s, unit="s", what=what)
    return Prediction(
        when_ms=time.time_ns() // 1_000_000,
        sale=sale,
        calibrated_ms=costs.when_ms,
        calibrated_viewers=costs.viewers_max,
        machine=costs.machine,
        figures=figures,
    )


def again_of(costs: Calibration, sale: Sale) -> float:
    """Return how many buys ask the gate again: the viewers' own, and those near the end."""
    own = own_again(sale)
    return own + min(max(0, sale.refusals - own), costs["again_tail_count"])


def calls_of(sale: Sale) -> float:
    """Return the admissions: a batch of buys yields as many orders as its viewers may have."""
    sold = min(sale.per_viewer, sale.buys) / sale.buys
    return sale.orders / (BATCH * sold)


def _foretold(costs: Calibration, sale: Sale) -> dict[str, tuple[float, str, str]]:
    again = again_of(costs, sale)
    counts = {
        "sale": 1.0,
        "viewer": float(sale.viewers),
        "order": float(sale.orders),
        "refusal": float(sale.refusals),
        "again": again,
        "call": calls_of(sale),
    }

    def sum_of(part: str, names: Sequence[str], unit: str = "s") -> float:
        return sum(costs[f"{part}_{name}_{unit}"] * counts[name] for name in names)

    hub = sum_of("hub", ("viewer", "order", "refusal", "again"))
    redis = sum_of("redis", ("order", "refusal", "again"))
    postgres = sum_of("postgres", ("sale", "order", "call"))
    client = sum_of("client", ("viewer", "order", "refusal"))
    times = costs["elapsed_work_times"]
    turns = sum_of("elapsed", ("sale", "order")) + times * (hub + redis)
    # However well all overlap, nothing is done without a core.
    elapsed = max(turns, (hub + redis + postgres + client) / int(costs.machine.get("cores", "1")))
    # Once the units are gone, refusals are all that is left to do.
    refusal_s = costs["hub_refusal_s"] + costs["redis_refusal_s"]
    after = sale.refusals - own_again(sale)
    last_order = max(elapsed / 10, elapsed - times * after * refusal_s)
    n = sale.viewers
    return {
        "elapsed_s": (elapsed, "s", "first buy to last answer"),
        "orders_per_s": (sale.orders / last_order, "1/s", "orders, up to the last one"),
        "hub_cpu_s": (hub, "s", "hub, in the sale"),
        "redis_cpu_s": (redis, "s", "Redis, in the sale"),
        "postgres_cpu_s": (postgres, "s", "Postgres, in the sale"),
        "client_cpu_s": (client, "s", "load generator, in the sale"),
        "wal_bytes": (sum_of("wal", ("sale", "order"), "bytes"), "bytes", "WAL"),
        "disk_bytes": (sum_of("disk", ("sale", "order"), "bytes"), "bytes", "tables and indexes"),
        "redis_bytes": (
            sum_of("redis", ("order", "refusal"), "bytes"), "bytes", "network of Redis"
        ),
        "rest_bytes": (
            costs["hub_base_bytes"] + n * costs["hub_connection_bytes"],
            "bytes",
            "memory of the hub with all viewers at rest",
        ),
        "connect_cpu_s": (n * costs["hub_connect_s"], "s", "hub, to let all viewers in"),
        "pin_cpu_s": (
            costs["hub_event_s"] + n * costs["hub_delivery_s"], "s", "hub, one pin to all"
        ),
        "pin_skew_s": (n * costs["delivery_s"], "s", "a pin, from the first viewer to the last"),
        "pin_bytes": (n * costs["delivery_payload_bytes"], "bytes", "one pin to all, TCP payload"),
        "chat_cpu_s": (
            n * costs["hub_chat_delivery_s"], "s", "hub, one of 20 chat messages to all"
        ),
    }  # fmt: skip


def measured(trials: Sequence[Trial], stage: Stage) -> dict[str, list[float]]:
    """Return what was measured, under the names of what was foretold."""
    n = stage.viewers
    return {
        "elapsed_s": [one.elapsed_s for one in trials],
        "simulated_s": [one.elapsed_s for one in trials],
        "orders_per_s": [one.orders_per_s for one in trials],
        "hub_cpu_s": [one.hub_cpu_s for one in trials],
        "redis_cpu_s": [one.redis_cpu_s for one in trials],
        "postgres_cpu_s": [one.postgres_cpu_s for one in trials],
        "client_cpu_s": [one.client_cpu_s for one in trials],
        "wal_bytes": [one.wal_bytes for one in trials],
        "disk_bytes": [one.disk_bytes for one in trials],
        "redis_bytes": [one.redis_in_bytes + one.redis_out_bytes for one in trials],
        "rest_bytes": [stage.rest_rss_bytes],
        "connect_cpu_s": [stage.connecting.hub_cpu_s / stage.connected * n],
        "pin_cpu_s": [stage.pinning.hub_cpu_s / stage.pins],
        "pin_skew_s": [stage.skew_s],
        "pin_bytes": [stage.pin_traffic.in_bytes / stage.pins],
        "chat_cpu_s": [stage.chatting.hub_cpu_s / stage.chats],
    }


def hold(prediction: Prediction, found: Mapping[str, Sequence[float]]) -> list[Held]:
    """Put each figure beside the median of what was measured."""
    return [
        Held(
            name=name,
            unit=figure.unit,
            predicted=figure.value,
            measured=statistics.median(found[name]),
            least=min(found[name]),
            most=max(found[name]),
        )
        for name, figure in prediction.figures.items()
    ]


async def verify(
    prediction: Prediction, runs: int, announce: Callable[[str], None]
) -> tuple[list[Held], list[Trial]]:
    """Play the sale that was foretold so often, each on a server of its own; hold it against it."""
    sale = prediction.sale
    announce(f"{sale.viewers:,} onlookers: at rest, pins, chat")
    async with (
        spawned(settings=SETTINGS) as target,
        metered(target) as meters,
        show(target, meters) as one,
    ):
        await one.grow(10)
        stage = await one.stage(sale.viewers, PINS, BURSTS)
    trials = []
    for number in range(1, runs + 1):
        async with spawned(settings=SETTINGS) as target:
            # As in a calibration: the first sale of a server is not what is measured.
            await play(target, Sale(viewers=100, units=200), audited=False)
            announce(f"sale {number} of {runs}: {sale.viewers:,} viewers, {sale.units:,} units")
            trials.append(await play(target, sale))
    return hold(prediction, measured(trials, stage)), trials


def write(path: Path, prediction: Prediction) -> None:
    """Write it down."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(prediction), indent=1) + b"\n")


def read(path: Path) -> Prediction:
    """Read a file that `write` made; PredictionUnreadable when it is none."""
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Prediction)
    except (OSError, msgspec.DecodeError) as error:
        raise PredictionUnreadable(f"{path}: {error}") from error
    if found.format != FORMAT:
        raise PredictionUnreadable(f"{path}: format {found.format}, expected {FORMAT}")
    return found
