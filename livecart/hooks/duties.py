"""What the keeper's process does about webhooks: make, send, sweep, measure; each in its time.

Owns the composition and the pace. Its connections are its own, so that a crowd of deliveries never
keeps orders from expiring. Called by `livecart.worker`, by whoever leads; a second leader for a
moment is harmless.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress

from livecart.catalog.store import Catalog
from livecart.hooks import meters
from livecart.hooks.limits import HookLimits
from livecart.hooks.maker import Maker
from livecart.hooks.post import Poster
from livecart.hooks.sender import Sender
from livecart.settings import Settings
from orders.deadline import end_if_cancelled
from orders.ledger.hooks import HookLedger
from orders.ledger.ledger import Ledger, LedgerAway
from orders.ledger.pool import open_pool
from orders.sealing import Sealer

POOL_CONNECTIONS_MAX = 4
TOGETHER_S = 0.02  # so many attempts end before the next are claimed: one call for all of them

log = logging.getLogger("livecart.hooks")


class Duties:
    """Everything of webhooks that goes on by itself."""

    def __init__(
        self, hooks: HookLedger, maker: Maker, sender: Sender | None, limits: HookLimits
    ) -> None:
        self._hooks = hooks
        self._maker = maker
        self._sender = sender  # None: there is no key to open secrets with
        self._limits = limits

    async def run(self) -> None:
        """Go on until cancelled; outages are waited out."""
        duties = [self.make, self.sweep, self.measure]
        if self._sender is not None:
            duties.append(self.send)
        async with asyncio.TaskGroup() as group:
            for duty in duties:
                group.create_task(self._keep(duty), name=f"hooks:{duty.__name__}")

    async def make(self) -> float:
        """Empty the outbox; return the seconds until the next look, as each duty does."""
        return 0.0 if await self._maker.step() else self._limits.round_s

    async def send(self) -> float:
        """Begin what is due; then wait until there is room again, or for the next look."""
        assert self._sender is not None
        begun = await self._sender.step()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._limits.round_s):
                await self._sender.freed.wait()
        return TOGETHER_S if begun else 0.0

    async def sweep(self) -> float:
        """Delete a part of what is over."""
        limits = self._limits
        done = await self._hooks.sweep(limits.life_s, limits.kept_s, limits.sweep_max)
        return limits.round_s if done >= limits.sweep_max else limits.sweep_every_s

    async def measure(self) -> float:
        """Set the gauges."""
        backlog = await self._hooks.backlog()
        meters.OUTBOX_S.set(backlog.outbox_s)
        meters.BACKLOG_S.set(backlog.delivery_s)
        meters.DISABLED.set(backlog.disabled)
        return 5.0

    async def _keep(self, duty: Callable[[], Awaitable[float]]) -> None:
        """Do one duty again and again; none ends for another's trouble."""
        name, away = duty.__name__, False
        while True:
            end_if_cancelled()
            wait_s = self._limits.fault_pause_s
            try:
                wait_s = await duty()
                away = False
            except LedgerAway as error:
                if not away:
                    log.warning("webhooks wait with %s: %s", name, error)
                away = True
            except Exception:
                log.exception("webhooks failed with %s", name)
                meters.FAILED.labels(name).inc()
            await asyncio.sleep(wait_s)


@asynccontextmanager
async def telling(settings: Settings) -> AsyncIterator[Duties]:
    """Everything that it takes to tell shops' servers, its first connection made."""
    assert settings.database_url is not None
    async with AsyncExitStack() as stack:
        pool = await open_pool(settings.database_url, POOL_CONNECTIONS_MAX)
        stack.callback(pool.terminate)  # nothing is in the middle of a transaction of ours
        yield await duties_on(Ledger(pool), settings.data_key, settings.hooks, stack)


async def duties_on(
    ledger: Ledger, data_key: str | None, limits: HookLimits, stack: AsyncExitStack
) -> Duties:
    """Return the duties on a ledger; what they need besides ends with the stack."""
    hooks = HookLedger(ledger)
    maker = Maker(hooks, ledger, Catalog(ledger), limits)
    if data_key is None:
        log.info("no LIVECART_DATA_KEY: webhooks are not sent")
        return Duties(hooks, maker, None, limits)
    poster = Poster(limits)
    stack.push_async_callback(poster.close)
    sender = Sender(hooks, Sealer(data_key), poster, limits)
    stack.push_async_callback(sender.close)
    return Duties(hooks, maker, sender, limits)
