"""Whether Redis and Postgres answer; fails fast while one does not.

Selling reports failures; a probe of its own finds out when the dependency is back. While one is
away no holds are taken and buys are answered `retry` at once (R6).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

log = logging.getLogger(__name__)

#: Longer than any pause that a busy event loop makes by itself: a probe must not fail by that.
PROBE_S = 5.0


class Health:
    """One dependency's state, with a probe that runs only while it is away."""

    def __init__(
        self, name: str, probe: Callable[[], Awaitable[object]], every_s: float = 0.1
    ) -> None:
        self.name = name
        self.well = True
        self._probe = probe
        self._every_s = every_s
        self._task: asyncio.Task[None] | None = None

    def failed(self, why: BaseException | str) -> None:
        """Note a failure; the probe decides when it is over."""
        if self.well:
            log.warning("%s is away: %s", self.name, why)
        self.well = False
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._wait_until_well())

    async def _wait_until_well(self) -> None:
        while True:
            try:
                await asyncio.wait_for(self._probe(), PROBE_S)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is not well
                log.debug("%s is still away: %r", self.name, error)
                await asyncio.sleep(self._every_s)
            else:
                log.warning("%s is back", self.name)
                self.well = True
                return

    def close(self) -> None:
        """End the probe."""
        if self._task is not None:
            self._task.cancel()
