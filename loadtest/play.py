"""A play: a scenario with its host, its crowd and what is seen of both.

Owns the order of a run and its Result: processes are started, the scenario's story is told, beats
are gathered beside it, the crowd leaves, figures are drawn up. The story itself is the scenario's,
verdicts over orders are the audit's. Called by the command `run`, by calibrations and by tests.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from loadtest.asks import Beat, Seen, Tell
from loadtest.audit import audit, audit_deliveries
from loadtest.crew import Crew, gathered, processes_for
from loadtest.crowd import Crowd
from loadtest.deliveries import Deliveries
from loadtest.figures import Spoilt, client_of, figures_of, reach_of
from loadtest.history import History
from loadtest.hosting import Drop, Show, host_api
from loadtest.judge import Audit
from loadtest.machine import machine
from loadtest.pulse import LAG, Pulse, Trace, add
from loadtest.result import DUE, Moment, Result
from loadtest.sampling import Sampler
from loadtest.scenarios.scenario import Scenario
from loadtest.server import Target, cpu_by_part
from loadtest.timings import Timer

#: What is said, and answers that it may have: the bounds of a server are its own affair, and who
#: loses his connection has no answer.
SPOKEN: Final = frozenset({"chat", "ping"})
SPOKEN_DUE: Final = frozenset({"ok", "pong", "rate_limited", "lost"})
TURNED_AWAY: Final = "turned_away"
BEAT_TIMEOUT_S: Final = 30.0

T = TypeVar("T")


@dataclass(slots=True, frozen=True, kw_only=True)
class Manner:
    """How a play is played, whatever its story."""

    seed: int
    processes: int = 0  # 0: as many as the crowd needs
    subprotocol: str = "json"
    network: str = "none"
    step_s: float = 1.0
    connect_s: float = 120.0  # for everybody to be welcome, beyond the ramp
    answer_s: float = 60.0  # for every final answer
    rest_s: float = 30.0  # for Redis, Postgres and HTTP to agree
    patience: dict[str, Any] = field(default_factory=dict)


class Play:
    """One run of one scenario."""

    def __init__(
        self,
        scenario: Scenario,
        target: Target,
        manner: Manner,
        on_pulse: Callable[[Pulse], None] = lambda pulse: None,
        on_moment: Callable[[Moment], None] = lambda moment: None,
    ) -> None:
        self.target = target
        self.manner = manner
        self.host = host_api(target)
        self.histories: dict[str, History] = {}  # by offer, once its crowd was asked
        self.result = Result(scenario=scenario.name, title=scenario.title, seed=manner.seed)
        self.deliveries: Deliveries | None = None  # once the crowd has told
        self.crew: Crew | None = None
        self._scenario = scenario
        self._on_pulse, self._on_moment = on_pulse, on_moment
        self._began_s = 0.0
        self._shows: list[Show] = []
        self._drops: list[Drop] = []
        self._crowds: list[Crowd] = []
        self._trace = Trace(manner.step_s)
        self._sampler = Sampler(target.http, target.pids_now if target.data_dir else target.pids)
        self._last = Pulse()
        self._timers: dict[str, Timer] = {}
        self._spoilt = Spoilt()
        self._silences = 0  # beats that a process of the crowd did not answer
        self._shares: dict[str, list[float]] = {}  # processor share of each client, a beat each
        self._beside: set[asyncio.Task[Any]] = set()

    # --- what a story is told with -----------------------------------------------------------

    async def show(self, title: str) -> Show:
        """Have a host go live."""
        show = await Show.announce(self.host, title)
        await show.start()
        self._shows.append(show)
        return show

    async def offer(self, show: Show, units: int, **terms: Any) -> Drop:
        """Draft an offer in a show; its stock is watched from now on."""
        drop = await show.offer(units, **terms)
        self._drops.append(drop)
        return drop

    async def crowd(
        self, show: Show, viewers: int, *, buys: int = 0, qty: int = 1, ramp_s: float = 0.0
    ) -> Crowd:
        """Bring viewers; `buys`: that each will make, over all offers of the show."""
        assert self.crew is not None
        assert not self._crowds, "a play has one crowd"
        crowd = Crowd(self.crew, self.target, self.manner, show, viewers, buys, qty)
        self._crowds.append(crowd)
        self.moment(f"{viewers:,} viewers come")
        patience = {**self._scenario.patience, **self.manner.patience}
        took_s = await crowd.connect(ramp_s, patience)
        self.figure("connects_per_s", viewers / max(took_s, 1e-9))
        self.moment(f"{crowd.welcome:,} are welcome")
        return crowd

    def beside(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Have something go on beside the story; it ends with it, however that ends."""
        task = asyncio.get_running_loop().create_task(work)
        self._beside.add(task)
        return task

    @property
    def stream(self) -> str:
        """Id of the last show's stream; empty before there was one."""
        return self._shows[-1].stream if self._shows else ""

    def moment(self, what: str) -> None:
        """Say that something happens now."""
        moment = Moment(at_s=round(self._now_s(), 3), what=what)
        self.result.moments.append(moment)
        self._on_moment(moment)

    def figure(self, name: str, value: float) -> None:
        """Note a headline number of this scenario; its name ends in its unit."""
        self.result.figures[name] = round(value, 4)

    def count(self, name: str, times: int) -> None:
        """Count something of this scenario; a limit on a count is judged in any case."""
        self.result.counts[name] = self.result.counts.get(name, 0) + times

    async def audit(self, drop: Drop, crowd: Crowd | None = None) -> None:
        """Judge an offer, with what its crowd saw; not without a database address."""
        history = await crowd.history(drop) if crowd is not None else None
        if history is not None:
            history.endings.payment = drop.endings.payment
            history.endings.quantity = drop.endings.quantity
            history.endings.acts += drop.endings.acts
            self.histories[drop.offer] = history
        if not self.target.database_url:
            return
        self.moment("the audit begins")
        self.result.audits.append(
            await audit(
                self.target.database_url,
                drop.offer,
                history,
                http_url=self.target.http,
                gate_url=self.target.gate_url,
                rest_wait_s=self.manner.rest_s,
            )
        )

    # --- the run -----------------------------------------------------------------------------

    async def run(self) -> Result:
        """Tell the story; CrewFailed, ApiError or OSError when it could not be told to its end."""
        viewers = self._scenario.viewers
        # One without viewers would wait for ever for the last of them.
        processes = min(self.manner.processes or processes_for(viewers), viewers)
        self.result.configuration = {
            **self._scenario.options(),
            "processes": processes,
            "subprotocol": self.manner.subprotocol,
            "network": self.manner.network,
            "server": "spawned for the run" if self.target.pids else self.target.http,
        }
        if self.target.pids is not None:
            self.result.configuration["workers"] = len(self.target.pids.workers)
        self.result.machine = machine()
        self.result.began_ms = int(time.time() * 1000)
        self._began_s = time.perf_counter()
        before = cpu_by_part(self.target.pids)
        async with gathered(processes) as crew:
            self.crew = crew
            await self._tell()
            await self._beat()
            await self._told(crew)
        for part, used_s in cpu_by_part(self.target.pids).items():
            if used_s >= before.get(part, 0.0):  # less: it was killed and started again
                self.figure(f"cpu_s.{part}", used_s - before.get(part, 0.0))
        self._draw_up()
        return self.result

    async def _tell(self) -> None:
        """Tell the story with a beat beside it, to the end of either: a beat ends by failing."""
        over = asyncio.Event()
        story, beating = self.beside(self._scenario.play(self)), self.beside(self._beat_on(over))
        try:
            await asyncio.wait({story, beating}, return_when=asyncio.FIRST_COMPLETED)
            if story.done():
                await story
                over.set()
            await beating
        finally:
            for task in self._beside:
                task.cancel()
            # What those beside it failed with, they failed with because of what ended it.
            await asyncio.gather(*self._beside, return_exceptions=True)

    async def _beat_on(self, over: asyncio.Event) -> None:
        """Beat until it is over, the last one to its end: what the crowd told is told but once."""
        while True:
            due_s = (int(self._now_s() / self.manner.step_s) + 1) * self.manner.step_s
            with suppress(TimeoutError):
                async with asyncio.timeout(due_s - self._now_s()):
                    await over.wait()
                return
            await self._beat()

    async def _beat(self) -> None:
        """Gather one step of everybody."""
        assert self.crew is not None
        at_s = self._now_s()
        pulses = []
        if any(crowd.gathered for crowd in self._crowds):
            replies = []
            try:
                async with asyncio.timeout(BEAT_TIMEOUT_S):
                    replies = await self.crew.all(Beat(at_s=at_s))
            except TimeoutError:
                self._silences += 1
            pulses = [reply.pulse for reply in replies if reply.pulse is not None]
        gauges = await self._sampler.sample()
        gauges |= await self._stock()
        pulse = add([*pulses, Pulse(at_s=at_s, gauges=gauges)])
        for kind, timing in pulse.timings.items():
            self._timers.setdefault(kind, Timer()).add(timing)
        for gauge, value in pulse.gauges.items():
            if gauge.startswith("cpu:client"):
                self._shares.setdefault(gauge, []).append(value)
        self._spoilt.note(pulse.timings)
        if pulses:  # a crowd that was silent in this beat has still sold what it had told before
            self._last = pulse
        self._trace.note(pulse)
        self._on_pulse(pulse)

    async def _stock(self) -> dict[str, float]:
        """What anybody is told is left of the newest offers; not while the server is away."""
        found = {}
        for number, drop in list(enumerate(self._drops, 1))[-3:]:
            with suppress(OSError, TimeoutError):
                status, answer = await self.host.send(
                    "GET", f"/v1/offers/{drop.offer}", timeout_s=self.manner.step_s
                )
                if status == 200:
                    found[f"stock:left of {number}"] = float(answer["left"])
        return found

    async def _told(self, crew: Crew) -> None:
        if not any(crowd.gathered for crowd in self._crowds):
            return
        seen: dict[tuple[str, int], list[Seen]] = {}
        await asyncio.gather(*(crowd.calm() for crowd in self._crowds))
        parts = []
        for reply in await crew.all(Tell()):
            if reply.deliveries is not None:
                parts.append(Deliveries.of(reply.deliveries))
            self.result.faults += reply.faults
            for name, n in reply.tally.items():
                self.result.counts[name] = self.result.counts.get(name, 0) + n
            for one in reply.seen:
                seen.setdefault((one.kind, one.number), []).append(one)
        self.deliveries = Deliveries.joined(parts)
        await self._judge_deliveries()
        acts = [act for show in self._shows for act in show.acts]
        for name, value in reach_of(acts, seen, self._timers).items():
            self.figure(name, value)

    async def _judge_deliveries(self) -> None:
        """Hold what everybody was sent against each other, and against what Postgres keeps."""
        assert self.deliveries is not None
        if not self.target.database_url:
            return
        began_ms = self.result.began_ms
        url = self.target.database_url
        found = await audit_deliveries(url, self.stream, self.deliveries, began_ms)
        self.result.audits.append(Audit(self.stream, findings=found))

    def _draw_up(self) -> None:
        result = self.result
        result.duration_s = round(self._now_s(), 3)
        result.step_s, result.lines = self._trace.step_s, self._trace.lines()
        for name, n in self._last.counts.items():
            result.counts[name] = result.counts.get(name, 0) + n
        result.outcomes = dict(sorted(self._last.outcomes.items()))
        lag = self._timers.pop(LAG, Timer())
        result.timings = {kind: timer.written() for kind, timer in sorted(self._timers.items())}
        result.client = client_of(self._shares, lag, self._spoilt, self.manner.step_s)
        if self._silences:
            result.client.overloads.append(
                f"a process of the crowd was silent for {BEAT_TIMEOUT_S:g} s,"
                f" {self._silences} times"
            )
            result.client.spoilt = []  # all kinds
        result.missing = sum(crowd.missing for crowd in self._crowds)
        result.missing += sum(
            n for name, n in result.counts.items() if name.endswith("without an answer")
        )
        result.unexpected = {
            code: n
            for code, n in result.outcomes.items()
            if not code.startswith("order.") and code not in DUE
        }
        for what, n in result.counts.items():
            kind, _, code = what.partition(" ")
            if (kind in SPOKEN and code not in SPOKEN_DUE) or kind == TURNED_AWAY:
                result.unexpected[what] = n
        for name, value in figures_of(self.histories).items():
            self.figure(name, value)
        self._note()

    def _note(self) -> None:
        """Say what else must be known of this run."""
        notes = self.result.notes
        if not self.target.database_url:
            notes.append("nothing was audited: no address of the database was given")
        notes += self._sampler.troubles
        if restless := sum(crowd.restless for crowd in self._crowds):
            notes.append(f"it was not quiet when it should have been, {restless} times")

    def _now_s(self) -> float:
        return time.perf_counter() - self._began_s
