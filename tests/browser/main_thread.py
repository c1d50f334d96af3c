"""How long the tasks of a page's main thread are, on the wall and on the processor.

Owns the reading of Chromium's trace. Used by the test of a busy chat.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from playwright.async_api import Browser, Page

TASK = "ThreadControllerImpl::RunTask"
MAIN = "CrRendererMain"


class Longest(msgspec.Struct):
    """The longest task, in milliseconds, by both clocks; and how many tasks there were."""

    tasks: int = 0
    wall_ms: float = 0.0
    cpu_ms: float = 0.0


@asynccontextmanager
async def traced(browser: Browser, page: Page) -> AsyncIterator[Longest]:
    """Trace a block; the figures are there once it ended."""
    longest = Longest()
    await browser.start_tracing(page=page, categories=["toplevel", "__metadata"])
    try:
        yield longest
    finally:
        trace = await browser.stop_tracing()
    _read(json.loads(trace)["traceEvents"], longest)


def _read(events: list[dict[str, Any]], longest: Longest) -> None:
    mains = {
        (event["pid"], event["tid"])
        for event in events
        if event["name"] == "thread_name" and event["args"]["name"] == MAIN
    }
    for event in events:
        if event["name"] == TASK and (event["pid"], event["tid"]) in mains:
            longest.tasks += 1
            longest.wall_ms = max(longest.wall_ms, event.get("dur", 0) / 1000)
            longest.cpu_ms = max(longest.cpu_ms, event.get("tdur", 0) / 1000)
