"""A server whose viewers pay through the trial bank, for tests over HTTP.

Owns what buyers, the shop and the bank do there. Used by the tests of payments.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg

from orders.payments.trial import deliver
from orders.payments.trial_bank import TrialBank
from orders.sealing import new_key
from tests.contract.http_rig import Json, Shop, serving, token

WAIT_S = 20.0


class Till:
    """A server whose viewers pay through the trial bank."""

    def __init__(self, shop: Shop, bank: TrialBank, database_url: str) -> None:
        self.shop = shop
        self.bank = bank
        self._database_url = database_url
        self.offer = ""

    async def fetch(self, sql: str, *args: object) -> list[asyncpg.Record]:
        connection = await asyncpg.connect(self._database_url)
        try:
            return list(await connection.fetch(sql, *args))
        finally:
            await connection.close()

    async def bought(self, viewer: str = "ann", qty: int = 1, key: str = "k") -> str:
        answer = await self.shop.buy(self.offer, viewer, qty, key)
        assert answer.status_code == 201, answer.text
        order: str = answer.json()["id"]
        return order

    async def pay(self, order: str, viewer: str = "ann") -> Json:
        """Begin to pay; return the payment."""
        made = await self.shop.made(
            "POST", f"/v1/orders/{order}/pay", {}, token=token("viewer", viewer)
        )
        payment: Json = made["payment"]
        return payment

    async def paid(self, order: str, viewer: str = "ann") -> Json:
        """Pay, and wait until the money moved."""
        payment = await self.pay(order, viewer)
        self.bank.authorise(payment["client"]["ref"])
        await self.deliver()
        return await self.order(order, lambda now: "captured_at" in now)

    async def deliver(self) -> int:
        """Have the bank's notices come in."""

        async def post(body: bytes, headers: Any) -> int:
            answer = await self.shop.http.post(
                "/v1/hooks/trial", content=body, headers=dict(headers)
            )
            return answer.status_code

        return await deliver(self.bank, post)

    async def order(self, order: str, when: Callable[[Json], bool] = lambda _: True) -> Json:
        """Return an order as its shop sees it, once that is so."""
        return await self._shown(f"/v1/orders/{order}", when)

    async def payment(self, payment: str, when: Callable[[Json], bool]) -> Json:
        """Return a payment as its shop sees it, once that is so."""
        return await self._shown(f"/v1/payments/{payment}", when)

    async def _shown(self, path: str, when: Callable[[Json], bool]) -> Json:
        async with asyncio.timeout(WAIT_S):
            while True:
                now = await self.shop.made("GET", path)
                if when(now):
                    return now
                await asyncio.sleep(0.02)


@asynccontextmanager
async def selling(redis_url: str, database_url: str, path: Path) -> AsyncIterator[Till]:
    """Serve with a trial bank in that file, and one offer."""
    more = {
        "LIVECART_TESTING": "yes",
        "LIVECART_PAYMENTS": "trial,manual",
        "LIVECART_TRIAL_BANK": str(path),
        "LIVECART_MANUAL_TEXT": "transfer to 808-1234",
        "LIVECART_DATA_KEY": new_key(),
    }
    async with serving(redis_url, database_url, **more) as shop:
        found = Till(shop, TrialBank(path), database_url)
        found.offer = await shop.offer(await shop.stream(), per_viewer=5)
        yield found
