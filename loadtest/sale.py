"""The flash sale: thousands of viewers, one limited offer, every buy sent at the same moment.

Owns the order of a run: set up by the host's calls, connect, open, volley, wait for every final
answer, audit, and the peer beside it. Knows the public protocol only. Called by the command line.
"""

from __future__ import annotations

import asyncio
import gc
import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from loadtest.audit import audit
from loadtest.faults import FAULTS, FaultName
from loadtest.frames import DIALECTS
from loadtest.history import History
from loadtest.hosting import Show, host_api
from loadtest.hotrow import hot_row
from loadtest.httpcrowd import HttpCrowd
from loadtest.patience import Patience
from loadtest.report import Run, measure
from loadtest.server import Target, cpu_by_part
from loadtest.swarm import Swarm
from loadtest.web import Api, make_token

#: Refusals that a sale of scarce units owes its viewers; any other code is a failure.
DUE = frozenset({"sold_out", "limit_reached"})

Announce = Callable[[str], None]


@dataclass(slots=True, frozen=True)
class Flash:
    """Parameters of a sale; the defaults are the one that must be seen."""

    viewers: int = 5_000
    units: int = 15_000
    per_viewer: int = 4
    buckets: int = 1
    buys: int = 5
    qty: int = 1
    via: Literal["ws", "http"] = "ws"
    subprotocol: Literal["json", "msgpack"] = "json"
    http_connections: int = 256
    watch: bool = False  # over HTTP: also connect every viewer's WebSocket
    connect_timeout_s: float = 60.0
    settle_s: float = 1.0  # between the last welcome and the opening
    deadline_s: float = 60.0
    rest_wait_s: float = 30.0
    hot_row_s: int = 0  # 0: no peer
    fault: FaultName | None = None
    fault_at: float = 0.3  # share of the buys with a final answer
    patience: Patience = field(default_factory=Patience)


class Crowd(Protocol):
    """What both kinds of buyers offer."""

    tally: Counter[str]
    faults: list[str]

    async def connect(self, deadline_s: float) -> None: ...
    def build(self, offer: str) -> None: ...
    async def volley(self) -> None: ...
    async def close(self) -> None: ...


@dataclass(slots=True, frozen=True)
class Stage:
    """What the host has set up."""

    stream: str
    offer: str
    host: Api

    async def open(self) -> None:
        """Start selling; returns when the host is told that the offer is open."""
        await self.host.call("POST", f"/v1/offers/{self.offer}/open")


async def set_up(
    target: Target,
    units: int,
    per_viewer: int,
    hold_s: int = 600,
    payment: Literal["required", "none"] = "required",
    buckets: int = 1,
) -> Stage:
    """Create a live stream, a product and a draft offer, as a host does."""
    show = await Show.announce(host_api(target), "Flash sale")
    offer = await add_offer(show.host, show.stream, units, per_viewer, hold_s, payment, buckets)
    await show.start()
    return Stage(show.stream, offer, show.host)


async def add_offer(
    host: Api,
    stream: str,
    units: int,
    per_viewer: int,
    hold_s: int,
    payment: Literal["required", "none"],
    buckets: int = 1,
) -> str:
    """Create a product and a draft offer of it; return the offer's id."""
    terms: dict[str, Any] = {
        "per_viewer": per_viewer,
        "hold_s": hold_s,
        "payment": payment,
        "buckets": buckets,
    }
    return (await Show(stream, host).offer(units, **terms)).offer


async def run_flash(
    flash: Flash,
    target: Target,
    announce: Announce = lambda line: None,
    during: Callable[[Target], Awaitable[object]] | None = None,
) -> Run:
    """Play one sale and judge it; `during` (or the named fault) strikes in its middle."""
    act = during or (FAULTS[flash.fault] if flash.fault else None)
    if flash.fault and target.pids is None:
        raise ValueError("a fault is only done to a server that was spawned for the run")
    stage = await set_up(target, flash.units, flash.per_viewer, buckets=flash.buckets)
    tag = secrets.token_hex(3)
    history = History([f"v{tag}-{n}" for n in range(flash.viewers)], flash.buys, flash.qty, tag)
    crowds = gather_crowds(flash, target, stage, history)
    buyers = crowds[-1]
    buyers.build(stage.offer)
    announce(f"{flash.viewers:,} viewers, connecting")
    started = time.perf_counter()
    try:
        for crowd in crowds:
            await crowd.connect(flash.connect_timeout_s)
        connect_s = time.perf_counter() - started
        await asyncio.sleep(flash.settle_s)
        announce(f"the offer opens: {len(history):,} buys for {flash.units:,} units")
        await stage.open()
        run = await _sell(flash, target, history, buyers, act)
    finally:
        for crowd in crowds:
            await crowd.close()
    run.connect_s = connect_s
    for crowd in crowds:
        run.faults += crowd.faults
        for name, times in sorted(crowd.tally.items()):
            run.events[name] = run.events.get(name, 0) + times
    await _judge(flash, target, stage, history, run, announce)
    return run


def gather_crowds(flash: Flash, target: Target, stage: Stage, history: History) -> list[Crowd]:
    """The crowds of this sale; the last one buys."""
    tokens = [make_token(target.secret, viewer, "viewer") for viewer in history.viewers]
    url = f"{target.ws}/v1/streams/{stage.stream}/ws"
    dialect = DIALECTS[flash.subprotocol]
    if flash.via == "ws":
        return [Swarm(url, tokens, history, dialect, flash.patience)]
    buyers = HttpCrowd(target.http, tokens, history, flash.http_connections, flash.patience)
    if not flash.watch:
        return [buyers]
    nothing = History(history.viewers, 0, flash.qty, "watch")
    return [Swarm(url, tokens, nothing, dialect, flash.patience), buyers]


async def _sell(
    flash: Flash,
    target: Target,
    history: History,
    buyers: Crowd,
    act: Callable[[Target], Awaitable[object]] | None,
) -> Run:
    """The hot phase: nothing here but sending, hearing and the fault."""
    fault_at_s: list[float] = []
    server_before = cpu_by_part(target.pids)
    with _no_collection():
        cpu_before, started = time.process_time(), time.perf_counter()
        striking = asyncio.ensure_future(
            _strike(act, target, history.mark(flash.fault_at), started, fault_at_s)
        )
        await buyers.volley()
        # Buys without an answer at the deadline are counted, not raised.
        with suppress(TimeoutError):
            async with asyncio.timeout(flash.deadline_s):
                await history.done.wait()
        client_cpu_s = time.process_time() - cpu_before
    server_after = cpu_by_part(target.pids)
    if fault_at_s:
        await striking  # a stopped process goes on before anything is judged
    striking.cancel()
    sale = measure(history)
    return Run(
        title=f"flash sale over {flash.via}, {flash.subprotocol}",
        parameters=_parameters(flash, target),
        sale=sale,
        fault=flash.fault.value if flash.fault else "during" if act else "",
        fault_at_s=fault_at_s[0] if fault_at_s else None,
        client_cpu_s=client_cpu_s,
        server_cpu_s={
            part: round(used - server_before.get(part, 0.0), 3)
            for part, used in server_after.items()
            # Less than before: the process was killed, and what it used went with it.
            if used >= server_before.get(part, 0.0)
        },
        unexpected={code: n for code, n in sale.refused.items() if code not in DUE},
    )


async def _strike(
    act: Callable[[Target], Awaitable[object]] | None,
    target: Target,
    mark: asyncio.Event,
    started: float,
    at_s: list[float],
) -> None:
    await mark.wait()
    if act is not None:
        at_s.append(time.perf_counter() - started)
        await act(target)


async def _judge(
    flash: Flash, target: Target, stage: Stage, history: History, run: Run, announce: Announce
) -> None:
    if target.database_url:
        announce("audit")
        run.audit = await audit(
            target.database_url,
            stage.offer,
            history,
            http_url=target.http,
            gate_url=target.gate_url,
            rest_wait_s=flash.rest_wait_s,
        )
        if flash.hot_row_s:
            announce(f"the peer: one hot row for {flash.hot_row_s} s")
            run.hot_row = await hot_row(target.database_url, flash.hot_row_s)
            run.ratio = round(run.sale.orders_per_s / run.hot_row.orders_per_s, 2)


def _parameters(flash: Flash, target: Target) -> dict[str, object]:
    wanted: dict[str, object] = {
        "viewers": flash.viewers,
        "units": flash.units,
        "per viewer": flash.per_viewer,
        **({"buckets": flash.buckets} if flash.buckets > 1 else {}),
        "buys each": flash.buys,
        "qty": flash.qty,
    }
    if flash.via == "http":
        wanted["connections"] = f"{flash.http_connections} HTTP" + (
            f", {flash.viewers} watching" if flash.watch else ""
        )
    if target.pids is not None:
        wanted["workers"] = len(target.pids.workers)
    return wanted


@contextmanager
def _no_collection() -> Iterator[None]:
    """Keep the collector out of the hot phase: a full pass over 25,000 buys costs 50 ms."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()
