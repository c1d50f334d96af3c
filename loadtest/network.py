"""Networks between a viewer and the server: delay, loss of the connection, a phone in a pocket.

Owns what happens to one connection's bytes and when, drawn from a seed. It stands between a link
and its viewer, a protocol to the one and a wire to the other, and knows neither HTTP nor WebSocket.
The figures of the named networks are round numbers of ours, in the range of what mobile networks
are known for; they are for comparing runs, not for predicting a country.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, cast

from loadtest.pump import Wire

#: One delay in so many is not drawn longer than this many medians.
DELAY_MEDIANS_MAX: Final = 20.0
#: The loop's timers fire up to a millisecond early.
FIRE_EARLY_S: Final = 0.001


class NetworkUnknown(ValueError):
    """A mix names no network that there is; the message lists them."""


@dataclass(slots=True, frozen=True, kw_only=True)
class Network:
    """One kind of network. Zero means never, or without bound."""

    name: str
    delay_ms: float = 0.0  # one way, median
    spread: float = 0.0  # sigma of the delay's logarithm
    lost_every_s: float = 0.0  # mean time to a lost connection, exponential
    pocket_every_s: float = 0.0  # mean time until the application is put in the background
    pocket_s: float = 0.0  # mean time there: nothing is read, nothing sent
    bytes_per_s: float = 0.0  # that are read

    @property
    def perfect(self) -> bool:
        """Nothing is to be done for it."""
        return not (self.delay_ms or self.lost_every_s or self.pocket_every_s or self.bytes_per_s)


NETWORKS: Final = {
    network.name: network
    for network in (
        Network(name="none"),
        Network(name="wifi", delay_ms=5, spread=0.4),
        Network(name="4g", delay_ms=25, spread=0.5, pocket_every_s=120, pocket_s=8),
        Network(name="3g", delay_ms=80, spread=0.6, lost_every_s=180, bytes_per_s=100_000),
        Network(name="train", delay_ms=60, spread=1.0, lost_every_s=20),
        Network(name="pocket", delay_ms=25, spread=0.5, pocket_every_s=15, pocket_s=15),
        Network(name="slow", delay_ms=40, spread=0.5, bytes_per_s=2_000),
    )
}


def mix(text: str) -> list[tuple[Network, float]]:
    """Read `4g:0.7,train:0.3` or `wifi`; shares are of the viewers and are scaled to 1."""
    found = []
    for part in text.split(","):
        name, _, share = part.strip().partition(":")
        if name not in NETWORKS:
            raise NetworkUnknown(f"no network {name!r}: there are {', '.join(NETWORKS)}")
        try:
            weight = float(share or 1)
        except ValueError as error:
            raise NetworkUnknown(f"{part.strip()!r}: a share is a number") from error
        if not 0 < weight < math.inf:
            raise NetworkUnknown(f"{part.strip()!r}: a share is above 0")
        found.append((NETWORKS[name], weight))
    total = sum(weight for _, weight in found)
    return [(network, weight / total) for network, weight in found]


class _Way:
    """One direction of a connection: what is under way, in its order, behind one timer.

    Timers of the loop are rounded one by one, so that two that are due within a millisecond may
    fire in the wrong order.
    """

    def __init__(self, through: Callable[[bytes], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._through = through
        self._queue: deque[tuple[float, bytes]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._held_until_s = 0.0
        self._behind: Callable[[], None] | None = None  # what is done once all is through
        self._closed = False

    def add(self, due_s: float, data: bytes) -> None:
        """Let bytes through at a moment, or behind those before them."""
        if self._closed:
            return
        self._queue.append((due_s, data))
        if self._timer is None:
            self._timer = self._loop.call_at(self._next_s(), self._fire)

    def hold(self, until_s: float) -> None:
        """Let nothing through before a moment, whatever is due."""
        self._held_until_s = until_s

    def _fire(self) -> None:
        self._timer = None
        while self._queue and self._next_s() <= self._loop.time() + FIRE_EARLY_S:
            self._through(self._queue.popleft()[1])
        if self._queue and self._timer is None:
            self._timer = self._loop.call_at(self._next_s(), self._fire)
        elif not self._queue and self._behind is not None and not self._closed:
            self._behind()

    def behind(self, do: Callable[[], None]) -> None:
        """Have something done behind all that is under way; no timer of its own may overtake it."""
        self._behind = do
        if not self._queue:
            do()

    def _next_s(self) -> float:
        return max(self._queue[0][0], self._held_until_s)

    def close(self) -> None:
        """Forget what is under way, and take no more."""
        self._closed = True
        self._queue.clear()
        if self._timer is not None:
            self._timer.cancel()


class Between(asyncio.Protocol):
    """One connection over a network that is not perfect."""

    def __init__(self, network: Network, viewer: asyncio.Protocol, chance: random.Random) -> None:
        self._network = network
        self._viewer = viewer
        self._chance = chance
        self._wire: Wire | None = None
        self._loop = asyncio.get_running_loop()
        self._in = _Way(viewer.data_received)
        self._out = _Way(self._send)
        self._pocketed_until_s = 0.0
        self._sleeping = 0  # reasons why nothing is read just now
        self._timers: set[asyncio.TimerHandle] = set()
        self._ended = False

    # --- a protocol to the link ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._wire = cast("Wire", transport)
        network = self._network
        if network.lost_every_s:
            self._later(self._chance.expovariate(1 / network.lost_every_s), self.abort)
        if network.pocket_every_s:
            self._later(self._chance.expovariate(1 / network.pocket_every_s), self._pocket)
        self._viewer.connection_made(cast("asyncio.Transport", self))

    def data_received(self, data: bytes) -> None:
        if self._network.bytes_per_s:
            self._sleep(len(data) / self._network.bytes_per_s)
        self._in.add(self._through_s(), data)

    def connection_lost(self, exc: Exception | None) -> None:
        """What had not come through by now never will, as when a network is lost."""
        self._ended = True
        self._in.close()
        self._out.close()
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        self._viewer.connection_lost(exc)

    # --- a wire to the viewer ---

    def write(self, data: bytes) -> None:
        """Send it once it is through."""
        self._out.add(max(self._through_s(), self._pocketed_until_s), data)

    def _send(self, data: bytes) -> None:
        if self._wire is not None and not self._ended:
            self._wire.write(data)

    def close(self) -> None:
        """End it behind all that is under way."""
        self._out.behind(self._close)

    def _close(self) -> None:
        if self._wire is not None:
            self._wire.close()

    def abort(self) -> None:
        """End it now; nothing that is under way is told after it, as on any other wire."""
        self._in.close()
        self._out.close()
        if self._wire is not None:
            self._wire.abort()

    def pause_reading(self) -> None:
        """Leave what comes in the kernel."""
        self._sleeping += 1
        if self._wire is not None and self._sleeping == 1:
            self._wire.pause_reading()

    def resume_reading(self) -> None:
        """Read again, unless there is another reason not to."""
        self._sleeping -= 1
        if self._wire is not None and not self._sleeping and not self._ended:
            self._wire.resume_reading()

    # --- what goes wrong ---

    def _through_s(self) -> float:
        """When bytes of now are through, if nothing is ahead of them."""
        delay_ms = self._network.delay_ms
        if delay_ms and self._network.spread:
            drawn = delay_ms * self._chance.lognormvariate(0, self._network.spread)
            delay_ms = min(drawn, delay_ms * DELAY_MEDIANS_MAX)
        return self._loop.time() + delay_ms / 1000

    def _sleep(self, for_s: float) -> None:
        self.pause_reading()
        self._later(for_s, self.resume_reading)

    def _pocket(self) -> None:
        """Do as a phone does whose user looks elsewhere."""
        for_s = self._chance.expovariate(1 / self._network.pocket_s)
        self._pocketed_until_s = self._loop.time() + for_s
        self._in.hold(self._pocketed_until_s)
        self._sleep(for_s)
        again_s = for_s + self._chance.expovariate(1 / self._network.pocket_every_s)
        self._later(again_s, self._pocket)

    def _later(self, delay_s: float, do: Callable[[], None]) -> None:
        timer: asyncio.TimerHandle

        def fire() -> None:
            self._timers.discard(timer)
            do()

        timer = self._loop.call_later(delay_s, fire)
        self._timers.add(timer)
