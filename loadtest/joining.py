"""How what the workers of a Locust run saw becomes one result.

Owns the joining of histories, counts and timings of workers on any machine, also of those that were
lost. It knows no Locust and asks nobody: pure functions, and the steps of a run. Used by desk.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from loadtest.asks import Seen
from loadtest.deliveries import Deliveries
from loadtest.figures import Spoilt, client_of, figures_of, reach_of
from loadtest.history import History, this_machine
from loadtest.hosting import Act
from loadtest.pulse import LAG, Pulse, add
from loadtest.result import DUE, Result
from loadtest.shares import Share, Stage
from loadtest.timings import Timer


class Pulses:
    """The pulses of all workers, each of which beats when it likes, as one a step."""

    def __init__(self) -> None:
        self.latest: dict[str, Pulse] = {}  # of each worker
        self._fresh: list[Pulse] = []  # timings since the last step

    def note(self, worker: str, pulse: Pulse) -> None:
        """Take a worker's pulse; its totals replace those before, its timings add up."""
        self.latest[worker] = pulse
        self._fresh.append(Pulse(timings=pulse.timings))

    def lost(self, worker: str) -> None:
        """Forget what a worker held; what it had counted stays counted."""
        if (pulse := self.latest.get(worker)) is not None:
            self.latest[worker] = msgspec.structs.replace(pulse, gauges={})

    def step(self, at_s: float, gauges: Mapping[str, float]) -> Pulse:
        """Return the pulse of all since the last step."""
        totals = [msgspec.structs.replace(one, timings={}) for one in self.latest.values()]
        fresh, self._fresh = self._fresh, []
        whole = add([*totals, *fresh, Pulse(gauges=dict(gauges))])
        whole.at_s = at_s
        return whole


class Hours:
    """What the steps of a run add up to."""

    def __init__(self) -> None:
        self.timers: dict[str, Timer] = {}
        self.processors: dict[str, list[float]] = {}  # share of a core, of each station, a step
        self.spoilt = Spoilt()

    def note(self, pulse: Pulse) -> None:
        """Take a step."""
        for kind, timing in pulse.timings.items():
            self.timers.setdefault(kind, Timer()).add(timing)
        for gauge, value in pulse.gauges.items():
            if gauge.startswith("cpu:client"):
                self.processors.setdefault(gauge, []).append(value)
        self.spoilt.note(pulse.timings)


def join_histories(shares: Iterable[Share]) -> dict[str, History]:
    """Return what buyers of all workers saw, by offer; HistoryUnreadable for what is none."""
    found: dict[str, list[History]] = {}
    for share in shares:
        for offer, data in share.histories.items():
            found.setdefault(offer, []).append(History.from_bytes(data))
    return {offer: History.joined(histories) for offer, histories in found.items()}


def join_deliveries(shares: Iterable[Share]) -> Deliveries:
    """Return what the viewers of all workers were sent."""
    return Deliveries.joined([
        Deliveries.of(share.deliveries) for share in shares if share.deliveries is not None
    ])  # fmt: skip


def unknown_history(stage: Stage, offer: str, since_ns: int) -> History:
    """Return the buys that a lost worker may have sent of an offer, none with an answer.

    Its viewers' orders are nobody's mistake, so the audit must know their keys. `since_ns`: when
    it was given its stage, on this machine's monotonic clock.
    """
    gather = stage.gather
    names = [f"{gather.names}{gather.first + n}" for n in range(gather.viewers)]
    whole = History(names, gather.buys_each, gather.qty, f"{gather.key_prefix}.{gather.first}")
    first = stage.offers.index(offer) * stage.buys
    keys = [
        whole.keys[viewer * gather.buys_each + first + n]
        for viewer in range(gather.viewers)
        for n in range(stage.buys)
    ]
    part = History(names, stage.buys, gather.qty, "")
    part.keys = keys
    part.sent_ns = [since_ns] * len(keys)
    part.attempts = [1] * len(keys)
    return part


def missing_of(history: History) -> int:
    """Count the buys that were sent and have no final answer."""
    pairs = zip(history.sent_ns, history.final_ns, strict=True)
    return sum(bool(sent) and final <= 0 for sent, final in pairs)


def draw_up(
    result: Result,
    shares: Sequence[Share],
    histories: Mapping[str, History],
    last: Pulse,
    hours: Hours,
    acts: Sequence[Act],
) -> None:
    """Fill in what came of a run.

    `last`: the totals of all workers, lost ones as far as they told; `acts`: the host's.
    """
    timers = hours.timers
    seen: dict[tuple[str, int], list[Seen]] = {}
    for share in shares:
        result.faults += share.faults
        for name, n in share.tally.items():
            result.counts[name] = result.counts.get(name, 0) + n
        if share.machine == this_machine():  # another's moments are of another clock
            for one in share.seen:
                seen.setdefault((one.kind, one.number), []).append(one)
    result.figures |= rounded(reach_of(acts, seen, timers))
    for name, n in last.counts.items():
        result.counts[name] = result.counts.get(name, 0) + n
    result.outcomes = dict(sorted(last.outcomes.items()))
    lag = timers.pop(LAG, Timer())
    result.timings = {kind: timer.written() for kind, timer in sorted(timers.items())}
    result.client = client_of(hours.processors, lag, hours.spoilt, result.step_s)
    result.missing += sum(map(missing_of, histories.values()))
    result.missing += sum(
        n for name, n in result.counts.items() if name.endswith("without an answer")
    )
    result.unexpected = {
        code: n
        for code, n in result.outcomes.items()
        if not code.startswith("order.") and code not in DUE
    }
    result.figures |= rounded(figures_of(histories))


def rounded(figures: Mapping[str, float]) -> dict[str, float]:
    """Return figures with the places that they are kept with."""
    return {name: round(value, 4) for name, value in figures.items()}
