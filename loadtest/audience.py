"""The viewers of one process, and all that they can be asked to do.

Owns when each does what: ramps, taps with think times, chat, lost connections, leaving. All of it
is planned ahead, and measured from the moment that was planned, however late the process came.
How a viewer speaks with the server is the swarm's; what a run is for, the play's. Used by station.
"""

from __future__ import annotations

import asyncio
import gc
import random
import time
from collections import Counter
from contextlib import suppress
from time import perf_counter_ns
from typing import Final

from loadtest.agenda import Agenda
from loadtest.arrivals import GRAIN_NS
from loadtest.asks import Buy, Collect, Cut, Gather, Quiet, Reply, Seen, Settle, Speak
from loadtest.frames import DIALECTS, Heard
from loadtest.history import History
from loadtest.history_file import part_of
from loadtest.network import Between, Network, mix
from loadtest.patience import Patience
from loadtest.pulse import LAG, Pulse
from loadtest.speaking import Spoken
from loadtest.swarm import LEFT, Swarm
from loadtest.timings import Timer
from loadtest.viewer import READY, Viewer
from loadtest.web import make_token

POLL_S: Final = 0.02
CLOCK_PINGS: Final = 5
CLOCK_TIMEOUT_S: Final = 5.0
CLOCK_GRAIN_NS: Final = 2_000_000  # the protocol's clocks are of milliseconds
#: Buys sent before answers are read, and the loop's timers have their turn.
VIEWERS_A_TURN: Final = 200


class Audience:
    """All viewers of one process; one stream, one history."""

    def __init__(self, gather: Gather) -> None:
        self._ask = gather
        numbers = range(gather.first, gather.first + gather.viewers)
        names = [f"{gather.names}{n}" for n in numbers]
        self.history = History(
            names, gather.buys_each, gather.qty, f"{gather.key_prefix}.{gather.first}"
        )
        guests = not gather.secret
        tokens = ["" if guests else make_token(gather.secret, name, "viewer") for name in names]
        self.swarm = Swarm(
            gather.url,
            tokens,
            self.history,
            DIALECTS[gather.subprotocol],
            Patience(**gather.patience),
        )
        self.swarm.on_final = self._final
        self.swarm.place, self.swarm.of = gather.first, gather.of
        # What is drawn for one thing must not depend on when another was: each has its own.
        self._chance = self._chance_of("crowd")
        self._weather = self._chance_of("network")
        self.words = self._chance_of("words")  # of single deeds
        self._networks = self._drawn_networks()
        if any(not network.perfect for network in self._networks):
            self.swarm.between = self._between
        self._due_ns = [0] * len(self.history)
        self._thinks_s: dict[int, tuple[int, float]] = {}  # next buy of a viewer: (last, think)
        self._finals: list[int] = []  # buys since the last beat
        self._skipped: set[int] = set()  # buys that were planned and will not be made
        self._stretches = 0  # of speaking
        self._timers: dict[str, Timer] = {}
        self._missing: Counter[str] = Counter()  # chats and pings that nobody answered
        self._answered: Counter[str] = Counter()  # and what the others were answered with
        self._agenda = Agenda()
        self._beat = (time.perf_counter(), time.process_time())
        self.lags = self._agenda.lags

    def _chance_of(self, what: str) -> random.Random:
        """A source of its own for one purpose; the same seed and viewers draw the same."""
        return random.Random(f"{self._ask.seed}.{self._ask.first}.{what}")

    def _drawn_networks(self) -> list[Network]:
        shares = mix(self._ask.network)
        networks, weights = [one for one, _ in shares], [weight for _, weight in shares]
        return self._weather.choices(networks, weights, k=self._ask.viewers)

    def _between(self, viewer: Viewer) -> asyncio.Protocol:
        network = self._networks[viewer.number]
        return viewer if network.perfect else Between(network, viewer, self._weather)

    # --- coming and going --------------------------------------------------------------------

    async def connect(self) -> Reply:
        """Bring everybody, each when he is due; later, only make ready for them."""
        ask, began = self._ask, time.perf_counter()
        delays_s: list[float] = []
        if ask.ramp_s:
            step_s = ask.ramp_s / ask.of
            places = range(ask.first, ask.first + ask.viewers)
            delays_s = [(place + self._chance.random()) * step_s for place in places]
        try:
            if ask.later:
                await self.swarm.start()
            else:
                await self.swarm.connect(ask.deadline_s, delays_s)
        except TimeoutError as error:
            here = sum(viewer.phase == READY for viewer in self.swarm.viewers)
            raise TimeoutError(
                f"{here} of {ask.viewers} viewers were welcome within {ask.deadline_s:g} s"
            ) from error
        took_s = time.perf_counter() - began
        if (ahead_ns := await self._clock_ahead_ns()) is not None:
            self.swarm.arrivals.set_clock(ahead_ns)
        # What is here now stays; a full pass over it in the hot phase costs tens of ms.
        gc.collect()
        gc.freeze()
        gc.set_threshold(200_000, 50, 1_000)
        here = sum(viewer.phase == READY for viewer in self.swarm.viewers)
        return Reply(n=here, seconds=took_s)

    async def _clock_ahead_ns(self) -> int | None:
        """Estimate how far the server's clock is ahead, by the quickest of some pings.

        None when nobody answered, and when it cannot be told from none at all.
        """
        speaker = next((v for v in self.swarm.viewers if v.phase == READY), None)
        best: tuple[int, int] | None = None
        if speaker is None:
            return None
        for _ in range(CLOCK_PINGS):
            heard: asyncio.Future[Heard | None] = asyncio.get_running_loop().create_future()

            def done(pong: Heard | None, heard: asyncio.Future[Heard | None] = heard) -> None:
                if not heard.done():
                    heard.set_result(pong)

            sent_ns = time.time_ns()
            self.swarm.ask(speaker, {"type": "ping", "t0": 0}, done)
            try:
                async with asyncio.timeout(CLOCK_TIMEOUT_S):
                    pong = await heard
            except TimeoutError:
                self._missing["ping"] += 1
                return None
            trip_ns = time.time_ns() - sent_ns
            if pong is None or not pong.now:
                return None
            ahead_ns = pong.now * 1_000_000 - sent_ns - trip_ns // 2
            best = min(best or (trip_ns, ahead_ns), (trip_ns, ahead_ns))
        if best is None or abs(best[1]) <= best[0] // 2 + CLOCK_GRAIN_NS:
            return None
        return best[1]

    async def cut(self, ask: Cut) -> Reply:
        """Lose connections, and wait until those viewers are welcome again."""
        here = [viewer for viewer in self.swarm.viewers if viewer.phase == READY]
        cut = self._chance.sample(here, round(len(here) * ask.share))
        began = time.perf_counter()
        for viewer in cut:
            viewer.abort()
        away = cut
        while time.perf_counter() - began < ask.deadline_s:
            # A viewer that was aborted is told so on the loop's next turn, hence the pause first.
            await asyncio.sleep(POLL_S)
            away = [viewer for viewer in away if viewer.phase != READY and not viewer.gone]
            if not away:
                break
        seconds = time.perf_counter() - began
        # Who was turned away for good is not back either.
        lost = sum(viewer.phase != READY and viewer.gone != LEFT for viewer in cut)
        return Reply(n=len(cut), seconds=seconds, tally={"away": lost})

    async def quiet(self, ask: Quiet) -> Reply:
        """Wait until nothing has come for a while."""
        ends, told = time.monotonic() + ask.deadline_s, -1
        while told != self.swarm.received:
            if time.monotonic() > ends:
                return Reply(n=0)
            told = self.swarm.received
            await asyncio.sleep(ask.for_s)
        # On a network that delays, something may still be under way to a viewer who is quiet.
        here = [
            viewer
            for viewer, network in zip(self.swarm.viewers, self._networks, strict=True)
            if network.perfect and viewer.phase == READY
        ]
        self.swarm.rested(here)
        return Reply(n=1)

    def leave(self, share: float) -> Reply:
        """Have some go for good."""
        here = [viewer.number for viewer in self.swarm.viewers if not viewer.gone]
        gone = self._chance.sample(here, round(len(here) * share))
        self.swarm.leave(gone)
        return Reply(n=len(gone))

    async def close(self) -> None:
        """Leave without a word."""
        self._agenda.close()
        await self.swarm.close()

    # --- buying ------------------------------------------------------------------------------

    async def buy(self, ask: Buy) -> Reply:
        """Send, or plan to."""
        if ask.over_s or ask.think_s:
            self._plan(ask)
            return Reply(n=len(self.swarm.viewers) * ask.buys)
        if (early_ns := ask.at_ns - perf_counter_ns()) > 0:
            await asyncio.sleep(early_ns / 1e9)
        due_ns = ask.at_ns or perf_counter_ns()
        for number, viewer in enumerate(self.swarm.viewers):
            buys = self._of(viewer.number, ask.first, ask.buys)
            if viewer.gone:
                self._skipped.update(buys)
                continue
            self._due_ns[buys.start : buys.stop] = [due_ns] * ask.buys
            self.swarm.send(viewer, buys)
            self.lags.note_us((perf_counter_ns() - due_ns) / 1000)
            if number % VIEWERS_A_TURN == VIEWERS_A_TURN - 1:
                await asyncio.sleep(0)
        return Reply(n=len(self.swarm.viewers) * ask.buys)

    def _plan(self, ask: Buy) -> None:
        """Plan each viewer's first buy; most come early, as after a host's word."""
        now_ns = ask.at_ns or perf_counter_ns()
        chance = self._chance_of(f"buys {ask.first}")
        for viewer in self.swarm.viewers:
            buys = self._of(viewer.number, ask.first, ask.buys)
            after_s = ask.over_s * chance.random() ** 2
            for buy in buys[:-1]:
                think_s = chance.expovariate(1 / ask.think_s) if ask.think_s else 0.0
                self._thinks_s[buy] = buy + 1, think_s
            self._agenda.at(now_ns + int(after_s * 1e9), self._tap, buys.start)

    def _tap(self, buy: int, due_ns: int) -> None:
        viewer = self.swarm.viewers[buy // self.history.buys_each]
        if buy in self._skipped:
            return
        if viewer.gone:
            self._skip(buy)
            return
        self.tap(viewer, buy, due_ns)

    def tap(self, viewer: Viewer, buy: int, due_ns: int) -> None:
        """Send one buy, which was due at a moment."""
        self._due_ns[buy] = due_ns
        self.swarm.send(viewer, (buy,))

    def _skip(self, buy: int) -> None:
        """Have a buy and those that were to follow it never be made."""
        following: int | None = buy
        while following is not None:
            self._skipped.add(following)
            following = self._thinks_s.pop(following, (None, 0.0))[0]

    def _final(self, buy: int, at_ns: int) -> None:
        self._finals.append(buy)
        if self._thinks_s and (found := self._thinks_s.pop(buy, None)) is not None:
            following, think_s = found
            if think_s:
                self._agenda.at(at_ns + int(think_s * 1e9), self._tap, following)
            else:
                self._tap(following, at_ns)

    async def settle(self, ask: Settle) -> Reply:
        """Wait for the last final answer, or for who gave up."""
        ends = time.monotonic() + ask.deadline_s
        waiting = [
            buy
            for viewer in self.swarm.viewers
            for buy in self._of(viewer.number, ask.first, ask.buys)
        ]
        waiting.reverse()  # each viewer's first buy is looked at first: the others wait for it
        while True:
            while waiting and self._is_settled(waiting[-1]):
                waiting.pop()
            if not waiting or time.monotonic() >= ends:
                break
            await asyncio.sleep(POLL_S)
        left = [buy for buy in waiting if not self._is_settled(buy)]
        # The story goes on: to buy now would be to come too late. What was to be bought and was
        # not is missing like an answer.
        self._skipped.update(buy for buy in left if not self.history.sent_ns[buy])
        given_up = sum(
            self.history.final_ns[buy] < 0 and viewer.gone != LEFT
            for viewer in self.swarm.viewers
            for buy in self._of(viewer.number, ask.first, ask.buys)
        )
        return Reply(n=len(left) + given_up)

    def _is_settled(self, buy: int) -> bool:
        """Whether there is nothing more to wait for."""
        final_ns = self.history.final_ns[buy]
        if final_ns < 0 and (following := self._thinks_s.pop(buy, None)) is not None:
            self._skip(following[0])  # given up: what was to follow its answer never will
        return bool(final_ns) or buy in self._skipped

    def _of(self, viewer: int, first: int, buys: int) -> range:
        start = viewer * self.history.buys_each + first
        return range(start, start + buys)

    def collect(self, ask: Collect) -> Reply:
        """Give the history of some of each viewer's buys, which were all of one offer."""
        viewers = range(len(self.history.viewers))
        if ask.buyers_only:
            sent_ns = self.history.sent_ns
            wanted = (self._of(viewer, ask.first, ask.buys) for viewer in viewers)
            kept = [n for n, of in enumerate(wanted) if any(sent_ns[of.start : of.stop])]
        else:
            kept = list(viewers)
        return Reply(history=part_of(self.history, ask.first, ask.buys, kept).to_bytes())

    # --- speaking ----------------------------------------------------------------------------

    async def speak(self, ask: Speak) -> Reply:
        """Chat, react or ping at random moments; answered ones are timed from when due."""
        self._stretches += 1
        chance = self._chance_of(f"{ask.what} {self._stretches}")
        asked = Spoken(self, ask.what, chance)
        ends_ns = perf_counter_ns() + int(ask.seconds * 1e9)
        at_ns = perf_counter_ns()
        while (at_ns := at_ns + int(chance.expovariate(ask.per_s) * 1e9)) < ends_ns:
            late_s = (at_ns - perf_counter_ns()) / 1e9
            if late_s > 0:
                await asyncio.sleep(late_s)
            self.lags.note_us(max(0, perf_counter_ns() - at_ns) / 1000)
            asked.say(chance.choice(self.swarm.viewers), at_ns)
        with suppress(TimeoutError):  # counted, not raised
            async with asyncio.timeout(ask.deadline_s):
                await asked.idle.wait()
        self.missed(ask.what, asked.waiting)
        return Reply(n=asked.said, tally=dict(asked.codes))

    def missed(self, what: str, times: int = 1) -> None:
        """Count words that nobody answered."""
        self._missing[what] += times

    def note(self, kind: str, microseconds: float, times: int = 1) -> None:
        """Count a latency of this step."""
        if (timer := self._timers.get(kind)) is None:
            timer = self._timers[kind] = Timer()
        timer.note_us(microseconds, times)

    # --- telling -----------------------------------------------------------------------------

    def beat(self, at_s: float) -> Reply:
        """Tell what was seen since the last time."""
        swarm, history, number = self.swarm, self.history, self._ask.first
        for buy in self._finals:
            kind = "order" if history.order[buy] else "refusal"
            self.note(kind, (history.final_ns[buy] - self._due_ns[buy]) / 1000)
        for first, took_ns in swarm.welcomes:
            self.note("connect" if first else "reconnect", took_ns / 1000)
        self._finals, swarm.welcomes = [], []
        for kind, grains in swarm.arrivals.taken().items():
            for grain, times in grains.items():
                self.note(kind, (grain + 0.5) * GRAIN_NS / 1000, times)
        timers, self._timers = self._timers, {}
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        share = (cpu_s - self._beat[1]) / max(1e-9, wall_s - self._beat[0])
        self._beat = wall_s, cpu_s
        lag, self.lags = self.lags, Timer()
        self._agenda.lags = self.lags
        timings = {kind: timer.written() for kind, timer in timers.items()}
        client = f"client {number}"
        return Reply(
            pulse=Pulse(
                at_s=at_s,
                counts={
                    "commands": swarm.sent,
                    "answers": len(history.answers) + self._answered.total(),
                    "events": swarm.received,
                    "orders": sum(
                        n for what, n in history.tally.items() if what.startswith("order.")
                    ),
                    **swarm.tally,
                },
                outcomes=dict(history.tally),
                timings=timings | {LAG: lag.written()},
                gauges={
                    "connections:open": sum(viewer.phase == READY for viewer in swarm.viewers),
                    f"cpu:{client}": share,
                    f"lag:{client}": lag.percentile_ms(99),
                },
            )
        )

    def tell(self) -> Reply:
        """Give what is known about main events, and every breach of the protocol."""
        self.swarm.arrivals.drain()
        seen = [
            Seen(fact.number, fact.kind, fact.at_ms, fact.first_ns, fact.last_ns, fact.count)
            for fact in self.swarm.arrivals.facts
        ]
        missing = {f"{what} without an answer": n for what, n in self._missing.items() if n}
        answered = dict(self._answered)
        away = Counter(viewer.gone for viewer in self.swarm.viewers if viewer.gone)
        away.pop(LEFT, None)
        turned_away = {f"turned_away {why}": n for why, n in away.items()}
        for viewer in self.swarm.viewers:
            self.swarm.deliveries.place(viewer.number, viewer.seq, viewer.cseq)
        return Reply(
            seen=seen,
            faults=self.swarm.faults,
            tally={**missing, **answered, **turned_away},
            deliveries=self.swarm.deliveries.written(),
        )

    def answered(self, what: str, heard: Heard | None, due_ns: int) -> str:
        """Count and time an answer to what was said; returns its code, `lost` when none comes."""
        code = "lost" if heard is None else heard.code or heard.type
        self._answered[f"{what} {code}"] += 1
        if heard is not None:
            self.note(what, (perf_counter_ns() - due_ns) / 1000)
        return code
