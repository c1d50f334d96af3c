"""What the demo shows while it runs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from io import StringIO
from time import perf_counter_ns

import pytest
from rich.console import Console

from loadtest import demo
from loadtest.demo import Demo, Picture, show_progress, stagger
from loadtest.frames import JSON
from loadtest.history import History
from loadtest.swarm import Swarm
from loadtest.viewer import Viewer

SALE = Demo(viewers=2, units=3, per_viewer=2, buys=2, seconds=0.0)


def half_sold() -> History:
    """Two orders, a refusal, and one buy that waits."""
    history = History(["v0", "v1"], 2, 1, "run")
    now_ns = perf_counter_ns()
    history.sent_ns = [now_ns] * 4
    history.note(0, now_ns + 2_000_000, "order.reserved", "or_1", 1)
    history.note(1, now_ns + 2_000_000, "order.confirmed", "or_2", 2)
    history.note(2, now_ns + 4_000_000, "limit_reached", "", 0)
    return history


def test_a_line_counts_units_and_refusals() -> None:
    """Sold, refused and recent latency are told in one line."""
    line = Picture(SALE, half_sold()).line()
    assert line.startswith("sold 2 of 3, refused 1, ")
    assert line.endswith("p50 2.0 ms, p99 4.0 ms")


def test_the_picture_has_what_is_left() -> None:
    """The bar is drawn with sold, left and waiting."""
    console = Console(file=StringIO(), record=True, width=100)
    console.print(Picture(SALE, half_sold()).drawn())
    text = console.export_text()
    assert "left" in text
    assert "waiting" in text


async def test_progress_ends_with_the_last_answer() -> None:
    """Plain lines where nothing can be redrawn; a redrawn picture on a terminal; both end."""
    for terminal in (False, True):
        history = half_sold()
        output = StringIO()
        console = Console(file=output, force_terminal=terminal, width=100)
        showing = asyncio.ensure_future(show_progress(SALE, history, console))
        await asyncio.sleep(0)
        assert not showing.done()
        history.note(3, perf_counter_ns(), "sold_out", "", 0)
        async with asyncio.timeout(demo.PLAIN_LINE_S * 5):
            await showing
        assert ("sold 2 of 3, refused 2" in output.getvalue()) is not terminal


async def test_every_buy_is_staged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Staggering leaves no buy out."""
    history = History(["v0", "v1"], 2, 1, "run")
    swarm = Swarm("ws://127.0.0.1:9/x", ["a", "b"], history, JSON)
    sent: list[int] = []
    everything = asyncio.Event()

    def send(viewer: Viewer, buys: Sequence[int]) -> None:
        sent.extend(buys)
        if len(sent) == len(history):
            everything.set()

    monkeypatch.setattr(swarm, "send", send)
    stagger(SALE, swarm)
    async with asyncio.timeout(5):
        await everything.wait()
    assert sorted(sent) == [0, 1, 2, 3]
