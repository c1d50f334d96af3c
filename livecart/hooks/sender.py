"""Sends what is due: claims deliveries, signs and posts them, notes how each went.

Owns who is sent to at one moment. A claim is a lease: whatever a sender dies with is due again when
that is over, and is sent again under its id. Two senders at once never hold the same lease. Called
by `duties`.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from contextlib import suppress
from typing import Protocol

from livecart.hooks import meters
from livecart.hooks.limits import HookLimits
from livecart.hooks.post import Sent
from livecart.hooks.schedule import shares, shop_key, wait_s
from livecart.hooks.signing import signed
from orders import failpoints
from orders.ledger.hooks import Claimed, HookLedger, Target
from orders.ledger.ledger import LedgerAway
from orders.sealing import CannotOpen, Sealer
from streams.tasks import Tasks

END_S = 2.0  # for attempts under way when the process ends

log = logging.getLogger("livecart.hooks")


class Post(Protocol):
    """Who brings a message to its URL (`livecart.hooks.post.Poster`)."""

    async def post(self, url: str, headers: dict[str, str], body: bytes) -> Sent:
        """Send a body; never raises for what the receiver does."""


class Sender:
    """Sends deliveries, so many at once."""

    def __init__(self, hooks: HookLedger, sealer: Sealer, post: Post, limits: HookLimits) -> None:
        self._hooks = hooks
        self._sealer = sealer
        self._post = post
        self._limits = limits
        self._random = random.Random()
        self._sending: Counter[str] = Counter()  # attempts under way, by endpoint and by shop
        self._tasks = Tasks("webhooks")
        self.freed = asyncio.Event()  # set when an attempt is over

    async def step(self) -> int:
        """Begin what is due and has room; return how many that are. Raises `LedgerAway`."""
        self.freed.clear()
        waiting = await self._hooks.waiting()
        many = shares(waiting, self._sending, self._limits, self._random)
        if not many:
            return 0
        claimed = await self._hooks.claim(many, self._limits.lease_s)
        targets = await self._hooks.targets(list(many))
        shops = {one.id: one.shop for one in waiting}
        for one in claimed:
            target = targets.get(one.webhook)
            if target is None:
                continue  # deleted since
            self._count(one.webhook, shops[one.webhook], 1)
            self._tasks.spawn(self._deliver(one, target, shops[one.webhook]), "delivery")
        return len(claimed)

    async def _deliver(self, claimed: Claimed, target: Target, shop: str) -> None:
        try:
            await failpoints.reach("hooks.claimed")
            sent = await self._send(claimed, target)
            await failpoints.reach("hooks.sent")
            await self._note(claimed, sent)
        finally:
            self._count(claimed.webhook, shop, -1)
            self.freed.set()

    async def _send(self, claimed: Claimed, target: Target) -> Sent:
        try:
            keys = [self._sealer.open(sealed).decode() for sealed in target.sealed]
        except CannotOpen:
            log.error("the secrets of %s were sealed with a key that is not set", target.id)
            return Sent(ok=False, duration_ms=0, error="its secret cannot be opened")
        try:
            headers = signed(claimed.event, claimed.body, keys, target.now_ms / 1000)
            return await self._post.post(target.url, headers, claimed.body.encode())
        except Exception:
            # Noted like any failure: else it would come back with each lease, for ever (R5).
            log.exception("delivery %d could not be sent", claimed.n)
            return Sent(ok=False, duration_ms=0, error="a fault of the sender")

    async def _note(self, claimed: Claimed, sent: Sent) -> None:
        """Note an outcome; one that cannot be noted is found out by sending again."""
        wait = wait_s(claimed.tries, sent.asked_s, self._random.uniform)
        try:
            noted = await self._hooks.note(claimed, sent, wait, self._limits.life_s)
        except LedgerAway as away:
            log.warning("how %s went is not noted, it is sent again: %s", claimed.event, away)
            return
        meters.ATTEMPTS.labels(noted.word).inc()
        if noted.disabled is not None:
            log.warning("webhook %s is switched off: %s", claimed.webhook, noted.disabled)

    def _count(self, webhook: str, shop: str, by: int) -> None:
        for key in (webhook, shop_key(shop)):
            self._sending[key] += by
            if not self._sending[key]:
                del self._sending[key]

    async def close(self) -> None:
        """Wait a moment for what is under way; what is given up then is due after its lease."""
        with suppress(TimeoutError):
            async with asyncio.timeout(END_S):
                while self._sending:
                    self.freed.clear()
                    await self.freed.wait()
        await self._tasks.close()
