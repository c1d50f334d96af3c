"""Whether Redis and Postgres answer; fails fast while one does not.

Selling reports failures; a probe of its own finds out when the dependency is back. While one is
away no holds are taken and buys are answered `retry` at once (R6). The gate may be on several
servers: there it is the offers of the one that is away.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

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


class Gates(Protocol):
    """What is asked of the gate (`orders.stock.gate.Gate`)."""

    def server(self, offer: str) -> str:
        """Return the name of the server that an offer is on, "" where there is but one."""

    async def ping(self, offer: str) -> object:
        """Return when the server of an offer answers; raise while it does not."""


class GateHealth:
    """The health of each server that the gate is on: a dead one must not stop the others' offers.

    It is known of those that failed, and forgotten once they are well.
    """

    def __init__(self, gate: Gates) -> None:
        self._gate = gate
        self._failed: dict[str, Health] = {}  # by server

    def well(self, offer: str) -> bool:
        """Tell whether the server of this offer answers."""
        if not self._failed:
            return True
        health = self._failed.get(self._gate.server(offer))
        return health is None or health.well

    def failed(self, offer: str, why: BaseException | str) -> None:
        """Note that a call for this offer failed; the same offer is asked about until it is over.

        Should it have moved to another server meanwhile, it is over when that one answers.
        """
        self._failed = {name: health for name, health in self._failed.items() if not health.well}
        server = self._gate.server(offer)
        if server not in self._failed:
            name = f"Redis {server}".strip()
            self._failed[server] = Health(name, lambda: self._gate.ping(offer))
        self._failed[server].failed(why)

    def close(self) -> None:
        """End the probes."""
        for health in self._failed.values():
            health.close()
