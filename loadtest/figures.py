"""Headline numbers of a play, drawn from what its crowd saw: pure functions.

Owns what `to_last_order_s`, `reach_p99_ms` and their kin mean, and when a client must be said to
have been its own bottleneck. Reads no server. Called by the play.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from statistics import median
from typing import Final

from loadtest.arrivals import GRAIN_NS
from loadtest.asks import Seen
from loadtest.history import History
from loadtest.hosting import Act
from loadtest.pulse import LAG
from loadtest.report import measure
from loadtest.result import Client
from loadtest.timings import Timer, Timing

#: A process that uses this much of a core for so many steps on end has nothing left to give.
BUSY_SHARE: Final = 0.9
BUSY_STEPS: Final = 3
#: Lateness of the client's own timers (p99 of a step), beyond which the step is looked at …
LAG_P99_MS_MAX: Final = 20.0
#: … and as a share of the p99 that was measured in it, beyond which that is the client's own.
LAG_SHARE_MAX: Final = 0.25
#: A run is spoilt when more than this share of what it measured lies in such steps.
SPOILT_SHARE_MAX: Final = 0.1
#: Kinds that are measured from a due moment to an answer, or an arrival.
JUDGED: Final = (
    *("order", "refusal", "chat", "ping", "delivery", "chat delivery", "connect", "reconnect"),
)


def figures_of(histories: Mapping[str, History]) -> dict[str, float]:
    """Sum the buys of each offer up; of several offers, the worst of each number."""
    sales = [sale for sale in map(measure, histories.values()) if sale.buys]
    if not sales:
        return {}
    return {
        "to_last_order_s": max(sale.to_last_order_s for sale in sales),
        "to_last_answer_s": max(sale.to_last_answer_s for sale in sales),
        "orders_per_s": min(sale.orders_per_s for sale in sales),
        "answers_per_s": min(sale.answers_per_s for sale in sales),
        "units": float(sum(sale.units for sale in sales)),
    }


def reach_of(
    acts: Sequence[Act],
    seen: Mapping[tuple[str, int], Sequence[Seen]],
    timers: dict[str, Timer],
) -> dict[str, float]:
    """Measure from the host's asking until the last viewer knew; adds the timing `reach`.

    Events of a type are those of its acts, in their order: one host acts, one after the other. Acts
    whose events nobody saw are left out, most often those before the crowd came: matched from the
    end, an event is of the last act that is left and came before it.
    """
    by_kind: dict[str, list[Act]] = {}
    for act in acts:
        by_kind.setdefault(act.kind, []).append(act)
    skews_ms, rates = [], []
    for kind, of_kind in groupby(sorted(seen), key=lambda key: key[0]):
        left = by_kind.get(kind, [])
        for key in reversed(list(of_kind)):
            parts = [one for one in seen[key] if one.count]
            if not parts:
                continue
            first_ns, last_ns = min(p.first_ns for p in parts), max(p.last_ns for p in parts)
            while left and left[-1].due_ns > first_ns + GRAIN_NS:
                left.pop()
            if not left:
                break
            act = left.pop()
            count = sum(part.count for part in parts)
            skew_ms = (last_ns - first_ns) / 1e6
            skews_ms.append(skew_ms)
            rates.append(count / max(skew_ms / 1000, 1e-4))
            timer = timers.setdefault("reach", Timer())
            timer.note_us((last_ns - act.due_ns) / 1000)
    if not skews_ms:
        return {}
    return {
        "reach_skew_ms": median(skews_ms),
        "deliveries_per_s": median(rates),
    }


class Spoilt:
    """How much of what was measured, by kind, was measured by a client that was late itself."""

    def __init__(self) -> None:
        self._counts: dict[str, list[int]] = {}  # of all, of spoilt ones
        self._worst_ms = 0.0
        self._before_ms = 0.0  # the lag of the step before

    def note(self, timings: Mapping[str, Timing]) -> None:
        """Take the timings of one step, the client's lag among them."""
        own_ms = timings.get(LAG, Timing()).percentiles_ms.get("p99", 0.0)
        before_ms, self._before_ms = self._before_ms, own_ms
        for kind in JUDGED:
            if (timing := timings.get(kind)) is None or not timing.count:
                continue
            counts = self._counts.setdefault(kind, [0, 0])
            counts[0] += timing.count
            p99_ms = timing.percentiles_ms["p99"]
            # What a lag held up may be told in the next step; it took at least as long.
            lag_ms = max(own_ms, before_ms if before_ms <= p99_ms else 0.0)
            if lag_ms > LAG_P99_MS_MAX and lag_ms > p99_ms * LAG_SHARE_MAX:
                counts[1] += timing.count
                self._worst_ms = max(self._worst_ms, lag_ms)

    def kinds(self) -> list[str]:
        """Name the kinds of which too much is the client's own."""
        return [
            kind
            for kind, (total, spoilt) in self._counts.items()
            if spoilt > total * SPOILT_SHARE_MAX
        ]

    def reasons(self) -> list[str]:
        """Say what of the run is the client's own, if much is."""
        return [
            f"{spoilt / total:.0%} of {kind} was measured while the client's own timers were late"
            f" by more than {LAG_SHARE_MAX:.0%} of it (p99 up to {self._worst_ms:,.0f} ms)"
            for kind, (total, spoilt) in self._counts.items()
            if spoilt > total * SPOILT_SHARE_MAX
        ]


def client_of(
    shares: Mapping[str, Sequence[float]], lag: Timer, spoilt: Spoilt, step_s: float
) -> Client:
    """Say how the client fared, and whether it was its own bottleneck."""
    client = Client(
        processes=len(shares),
        cpu_share=[round(max(of), 3) for of in shares.values()],
        cpu_s=round(sum(sum(of) for of in shares.values()) * step_s, 2),
        lag=lag.written(),
        overloads=spoilt.reasons(),
        spoilt=spoilt.kinds(),
    )
    for name, of in shares.items():
        busy = max((len(list(run)) for high, run in groupby(of, _is_busy) if high), default=0)
        if busy >= BUSY_STEPS:
            seconds = busy * step_s
            client.overloads.append(
                f"{name.partition(':')[2]} used a whole core for {seconds:g} s:"
                " give it more processes, or fewer viewers"
            )
            client.spoilt = []  # all of them
    return client


def _is_busy(share: float) -> bool:
    return share >= BUSY_SHARE
