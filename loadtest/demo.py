"""A short sale in one terminal: simulated viewers, live progress, a summary, the audit.

Owns the staging (who buys when) and the live picture. `livecart demo` runs it as a process of its
own, so that the viewers do not share an interpreter with the server that they load.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from loadtest.audit import audit
from loadtest.frames import DIALECTS
from loadtest.history import History
from loadtest.patience import Patience
from loadtest.report import Run, Spread, measure, spread
from loadtest.sale import DUE, set_up
from loadtest.server import Target
from loadtest.swarm import Swarm
from loadtest.web import make_token

REFRESH_S = 0.1
PLAIN_LINE_S = 1.0
RATE_WINDOW_S = 1.0
RECENT_MAX = 500


@dataclass(slots=True, frozen=True)
class Demo:
    """A sale to look at: smaller and slower than the measured one."""

    viewers: int = 300
    units: int = 500
    per_viewer: int = 2
    buys: int = 3
    seconds: float = 6.0  # over which the buys are spread
    deadline_s: float = 60.0


async def run_demo(demo: Demo, target: Target, console: Console) -> Run:
    """Play the sale and judge it."""
    stage = await set_up(target, demo.units, demo.per_viewer)
    tag = secrets.token_hex(3)
    history = History([f"demo{tag}-{n}" for n in range(demo.viewers)], demo.buys, 1, tag)
    tokens = [make_token(target.secret, viewer, "viewer") for viewer in history.viewers]
    url = f"{target.ws}/v1/streams/{stage.stream}/ws"
    swarm = Swarm(url, tokens, history, DIALECTS["json"], Patience())
    swarm.build(stage.offer)
    console.print(f"A host is live. {demo.viewers:,} viewers join …")
    started = time.perf_counter()
    try:
        await swarm.connect(demo.deadline_s)
        connect_s = time.perf_counter() - started
        await stage.open()
        console.print(f"The offer is open: {demo.units:,} units, {demo.per_viewer} a viewer.")
        cpu_before = time.process_time()
        timers = stagger(demo, swarm)
        try:
            # Buys without an answer at the deadline are counted, not raised.
            with suppress(TimeoutError):
                async with asyncio.timeout(demo.seconds + demo.deadline_s):
                    await show_progress(demo, history, console)
        finally:
            for timer in timers:
                timer.cancel()
        client_cpu_s = time.process_time() - cpu_before
    finally:
        await swarm.close()
    sale = measure(history)
    run = Run(
        title="demo sale",
        parameters={"viewers": demo.viewers, "units": demo.units, "per viewer": demo.per_viewer},
        sale=sale,
        connect_s=connect_s,
        client_cpu_s=client_cpu_s,
        events=dict(sorted(swarm.tally.items())),
        faults=swarm.faults,
        unexpected={code: n for code, n in sale.refused.items() if code not in DUE},
    )
    if target.database_url:
        run.audit = await audit(
            target.database_url,
            stage.offer,
            history,
            http_url=target.http,
            gate_url=target.gate_url,
        )
    return run


def stagger(demo: Demo, swarm: Swarm) -> list[asyncio.TimerHandle]:
    """Spread the buys as a crowd does: a rush at the opening, then ever fewer."""
    loop = asyncio.get_running_loop()
    timers = []
    for viewer in swarm.viewers:
        for buy in swarm.history.of_viewer(viewer.number):
            delay_s = demo.seconds * random.random() ** 2
            timers.append(loop.call_later(delay_s, swarm.send, viewer, (buy,)))
    return timers


async def show_progress(demo: Demo, history: History, console: Console) -> None:
    """Draw until every buy has its final answer; plain lines where nothing can be redrawn."""
    picture = Picture(demo, history)
    if not console.is_terminal:
        while not history.done.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(PLAIN_LINE_S):
                    await history.done.wait()
            console.print(picture.line(), highlight=False)
        return
    with Live(picture.drawn(), console=console, auto_refresh=False) as live:
        while not history.done.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(REFRESH_S):
                    await history.done.wait()
            live.update(picture.drawn(), refresh=True)


class Picture:
    """The state of the sale as a viewer of the terminal sees it."""

    def __init__(self, demo: Demo, history: History) -> None:
        self.demo = demo
        self.history = history
        self._sold_at = deque([(time.monotonic(), 0)])  # within RATE_WINDOW_S
        self._read = 0  # answers of the history that were looked at
        self._recent_ns: deque[int] = deque(maxlen=RECENT_MAX)

    def numbers(self) -> tuple[int, int, float, Spread]:
        """Units sold, refusals, orders a second, latency of the most recent answers."""
        history = self.history
        sold = sum(n for what, n in history.tally.items() if what.startswith("order."))
        refused = sum(history.tally.values()) - sold
        for buy, at_ns, *_ in history.answers[self._read :]:
            self._recent_ns.append(at_ns - history.sent_ns[buy])
        self._read = len(history.answers)
        now = time.monotonic()
        self._sold_at.append((now, sold))
        while now - self._sold_at[0][0] > RATE_WINDOW_S and len(self._sold_at) > 2:
            self._sold_at.popleft()
        since, sold_then = self._sold_at[0]
        rate = (sold - sold_then) / (now - since) if now > since else 0.0
        return sold, refused, rate, spread(self._recent_ns)

    def line(self) -> str:
        """One line of text."""
        sold, refused, rate, latency = self.numbers()
        return (
            f"sold {sold:,} of {self.demo.units:,}, refused {refused:,}, {rate:,.0f} orders/s,"
            f" p50 {latency.p50_ms:.1f} ms, p99 {latency.p99_ms:.1f} ms"
        )

    def drawn(self) -> Group:
        """A bar and the numbers under it."""
        sold, refused, rate, latency = self.numbers()
        left = self.demo.units - sold
        table = Table.grid(padding=(0, 3))
        table.add_row("sold", "left", "refused", "orders/s", "p50", "p99", "waiting")
        table.add_row(
            Text(f"{sold:,}", "bold green"),
            Text(f"{left:,}", "bold red" if left == 0 else "bold"),
            f"{refused:,}",
            f"{rate:,.0f}",
            f"{latency.p50_ms:.1f} ms",
            f"{latency.p99_ms:.1f} ms",
            f"{self.history.unanswered:,}",
        )
        return Group(ProgressBar(total=max(1, self.demo.units), completed=sold, width=60), table)
