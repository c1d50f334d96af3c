"""The host of a Locust run, as a process of its own: sets up, samples, joins, audits.

Run as `python -m loadtest.desk` by Locust's master. Owns the host's calls, the steps of the run and
its Result. It has the secret from its environment (`LIVECART_SECRET`), asks from its pipe, and ends
with it. Knows no viewer; the workers' shares come through the master.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Final

import asyncpg

from loadtest.asks import Gather, packed, read_message
from loadtest.audit import audit, audit_deliveries
from loadtest.desk_asks import (
    AnyAsk,
    Begin,
    Enlist,
    Greet,
    Judge,
    Lose,
    Note,
    Replied,
    Reply,
    Take,
    decode_asked,
)
from loadtest.history import History
from loadtest.history_file import HistoryUnreadable, Kept, write_file
from loadtest.hosting import TITLES, Drop, Show, host_api
from loadtest.joining import (
    Hours,
    Pulses,
    draw_up,
    join_deliveries,
    join_histories,
    unknown_history,
)
from loadtest.judge import Audit
from loadtest.machine import machine
from loadtest.pulse import Pulse, Trace
from loadtest.result import Moment, Result, encode, write
from loadtest.sampling import Sampler
from loadtest.server import Target
from loadtest.shares import Share, Sign, Stage
from loadtest.web import ApiError

STEP_S: Final = 1.0
#: For Redis, Postgres and HTTP to agree, before the audit says that they do not.
REST_S: Final = 30.0


class Run:
    """One run, from the stream's start to the verdict."""

    def __init__(self, ask: Begin, secret: str) -> None:
        self._ask = ask
        self._target = Target(
            ask.http, secret, database_url=ask.database_url, gate_url=ask.gate_url
        )
        self._host = host_api(self._target)
        self._tag = secrets.token_hex(3)
        self._show: Show | None = None
        self._drops: list[Drop] = []
        self._stages: dict[str, tuple[Stage, int]] = {}  # by worker, and when it was given
        self._signs: dict[str, Sign] = {}
        self._shares: dict[str, Share] = {}
        self._pulses = Pulses()
        self._sampler = Sampler(ask.http)
        self._trace = Trace(STEP_S)
        self._hours = Hours()
        self._began_s = time.perf_counter()
        self._stepping: asyncio.Task[None] | None = None
        self.result = Result(scenario="locust", title="a Locust run", seed=ask.seed)

    async def begin(self) -> None:
        """Set up and open; ApiError when the server refuses."""
        ask, result = self._ask, self.result
        result.configuration, result.machine = dict(ask.configuration), machine()
        result.began_ms = int(time.time() * 1000)
        self._show = await Show.announce(self._host, "A Locust run")
        await self._show.start()
        for number in range(ask.offers):
            title = TITLES[number % len(TITLES)]
            drop = await self._show.offer(ask.units, title, per_viewer=ask.per_viewer)
            self._drops.append(drop)
        for drop in self._drops:
            await drop.open()
        self._moment(f"{len(self._drops)} offers are open")
        self._stepping = asyncio.create_task(self._step_on())

    def enlist(self, worker: str) -> Stage:
        """Give a worker viewers that no other has."""
        if worker in self._stages:
            return self._stages[worker][0]
        assert self._show is not None
        ask = self._ask
        stage = Stage(
            run=self._tag,
            gather=Gather(
                url=f"{self._target.ws}/v1/streams/{self._show.stream}/ws",
                secret="",
                names=f"l{self._tag}-",
                first=len(self._stages) * ask.viewers,
                viewers=ask.viewers,
                of=ask.viewers,
                buys_each=ask.buys * len(self._drops),
                qty=ask.qty,
                key_prefix=self._tag,
                subprotocol=ask.subprotocol,
                network=ask.network,
                seed=ask.seed,
                later=True,
            ),
            offers=[drop.offer for drop in self._drops],
            buys=ask.buys,
            think_s=ask.think_s,
            answer_s=ask.answer_s,
        )
        self._stages[worker] = stage, time.perf_counter_ns()
        return stage

    def note(self, worker: str, sign: Sign) -> None:
        """Take a step of a worker."""
        self._signs[worker] = sign
        self._pulses.note(worker, sign.pulse)

    def take(self, worker: str, share: Share) -> None:
        """Take all that a worker saw."""
        self._shares[worker] = share
        self._pulses.note(worker, share.pulse)

    def lose(self, worker: str, why: str) -> None:
        """Say that a worker was lost, with what it had told until then."""
        sign = self._signs.get(worker)
        buys, viewers = (sign.buys, sign.viewers) if sign else (0, 0)
        answered = sum(sign.pulse.outcomes.values()) if sign else 0
        self.result.lost.append(f"worker {worker}, {viewers:,} viewers, {buys:,} buys: {why}")
        self.result.missing += buys - answered
        self._pulses.lost(worker)
        self._moment(f"a worker with {viewers:,} viewers is lost")

    async def judge(self, ask: Judge) -> bytes:
        """Return the result, once everybody's share is there."""
        if self._stepping is not None:
            self._stepping.cancel()
            with suppress(asyncio.CancelledError):
                await self._stepping
        last = await self._step()
        result, shares = self.result, list(self._shares.values())
        result.duration_s = round(self._now_s(), 3)
        result.step_s, result.lines = self._trace.step_s, self._trace.lines()
        result.counts["viewers"] = sum(share.viewers for share in shares)
        result.configuration["workers"] = len(self._stages)
        histories = join_histories(shares)
        assert self._show is not None
        acts, stream = self._show.acts, self._show.stream
        draw_up(result, shares, histories, last, self._hours, acts)
        for drop in self._drops:
            histories[drop.offer] = await self._audited(drop, histories.get(drop.offer))
        deliveries = join_deliveries(shares)
        if url := self._target.database_url:
            found = await audit_deliveries(url, stream, deliveries, result.began_ms)
            result.audits.append(Audit(stream, findings=found))
        if ask.history:
            kept = Kept(stream=stream, offers=histories, deliveries=deliveries)
            write_file(Path(ask.history), kept)
        if ask.out:
            write(Path(ask.out), result)
        return encode(result)

    async def _audited(self, drop: Drop, told: History | None) -> History:
        """Judge an offer by all that is known of its buys, which is returned."""
        parts = [told] if told is not None else []
        parts += [
            unknown_history(stage, drop.offer, since_ns)
            for worker, (stage, since_ns) in self._stages.items()
            if worker not in self._shares
        ]
        history = History.joined(parts)
        history.endings.payment = drop.endings.payment
        history.endings.quantity = drop.endings.quantity
        history.endings.acts += drop.endings.acts
        if self._target.database_url:
            found = await audit(
                self._target.database_url,
                drop.offer,
                history,
                http_url=self._target.http,
                gate_url=self._target.gate_url,
                rest_wait_s=REST_S,
            )
            self.result.audits.append(found)
        return history

    async def _step_on(self) -> None:
        step = 1
        while True:
            await asyncio.sleep(max(0.0, step * STEP_S - self._now_s()))
            await self._step()
            step = int(self._now_s() / STEP_S) + 1

    async def _step(self) -> Pulse:
        """Make one step of everybody's pulses and what the server shows."""
        at_s = self._now_s()
        gauges = await self._sampler.sample() | await self._stock()
        pulse = self._pulses.step(at_s, gauges)
        self._hours.note(pulse)
        self._trace.note(pulse)
        return pulse

    async def _stock(self) -> dict[str, float]:
        found = {}
        for number, drop in list(enumerate(self._drops, 1))[-3:]:
            with suppress(OSError, TimeoutError):  # the server is away: nothing is known of it
                path = f"/v1/offers/{drop.offer}"
                status, answer = await self._host.send("GET", path, timeout_s=STEP_S)
                if status == 200:
                    found[f"stock:left of {number}"] = float(answer["left"])
        return found

    def _moment(self, what: str) -> None:
        self.result.moments.append(Moment(at_s=round(self._now_s(), 3), what=what))

    def _now_s(self) -> float:
        return time.perf_counter() - self._began_s


class Desk:
    """Does what the master asks, one run at a time."""

    def __init__(self, secret: str) -> None:
        self._secret = secret
        self._run: Run | None = None

    async def do(self, ask: AnyAsk) -> Reply:
        """Carry one ask out; what goes wrong in it is what it replies."""
        try:
            return await self._do(ask)
        except (ApiError, HistoryUnreadable, OSError, TimeoutError, asyncpg.PostgresError) as error:
            return Reply(error=f"{type(error).__name__}: {error}")
        except Exception as error:  # noqa: BLE001 - a fault of ours: told whole, and the run fails
            return Reply(error=f"{error!r}\n{traceback.format_exc()}")

    async def _do(self, ask: AnyAsk) -> Reply:
        if isinstance(ask, Greet):
            return Reply()
        if isinstance(ask, Begin):
            self._run = Run(ask, self._secret)
            await self._run.begin()
            return Reply()
        run = self._run
        if run is None:
            raise ValueError("no run has begun")
        match ask:
            case Enlist():
                return Reply(stage=run.enlist(ask.worker))
            case Note():
                run.note(ask.worker, ask.sign)
            case Take():
                run.take(ask.worker, ask.share)
            case Lose():
                run.lose(ask.worker, ask.why)
            case Judge():
                return Reply(result=await run.judge(ask))
        return Reply()


async def serve() -> None:
    """Do what is asked until the pipe ends, one thing after the other."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, lambda: None)  # the master decides
    pipe = asyncio.StreamReader(limit=2**20)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(pipe), sys.stdin.buffer)
    desk = Desk(os.environ.get("LIVECART_SECRET", ""))
    while (body := await read_message(pipe)) is not None:
        asked = decode_asked(body)
        reply = await desk.do(asked.ask)
        sys.stdout.buffer.write(packed(Replied(asked.number, reply)))
        sys.stdout.buffer.flush()


def main() -> None:
    """Run until the pipe ends."""
    asyncio.run(serve())


if __name__ == "__main__":
    main()
