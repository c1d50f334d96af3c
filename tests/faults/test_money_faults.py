"""Servers that are killed between any two steps of a payment: the money is where the orders say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from livecart.auth import issue
from orders.payments.trial import deliver
from orders.payments.trial_bank import TrialBank
from tests.faults.tree import Tree, grown

POINTS = (
    "payment.noted", "payment.begun", "notice.committed", "move.claimed", "move.done", "move.heard",
    "replace.bought",
)  # fmt: skip
WAIT_S = 60.0
Json = dict[str, Any]


class Buyer:
    """Somebody who does not give up: what is not answered is asked for again."""

    def __init__(self, server: Tree, bank: TrialBank, http: httpx.AsyncClient) -> None:
        self.server = server
        self.bank = bank
        self._http = http

    def token(self, role: str, sub: str) -> str:
        """Return a token of that role."""
        return issue(
            self.server.target.secret, role=role, sub=sub, shop="shop" if role == "host" else None
        )

    async def asked(
        self, method: str, path: str, body: object, token: str, key: str | None = None
    ) -> Json:
        """Return the answer, once there is one that is not `retry`."""
        headers = {"Authorization": f"Bearer {token}"}
        if key is not None:
            headers["Idempotency-Key"] = key
        async with asyncio.timeout(WAIT_S):
            while True:
                try:
                    answer = await self._http.request(method, path, json=body, headers=headers)
                except httpx.TransportError:
                    await asyncio.sleep(0.05)
                    continue
                if answer.status_code not in (429, 503):
                    assert answer.is_success, (path, answer.status_code, answer.text)
                    found: Json = answer.json()
                    return found
                await asyncio.sleep(0.05)

    async def deliver(self) -> None:
        """Have every notice of the bank taken."""

        async def post(body: bytes, headers: Any) -> int:
            try:
                answer = await self._http.post(
                    "/v1/hooks/trial", content=body, headers=dict(headers)
                )
            except httpx.TransportError:
                return 503
            return answer.status_code

        async with asyncio.timeout(WAIT_S):
            while self.bank.due() is not None:
                await deliver(self.bank, post)
                await asyncio.sleep(0.05)


@asynccontextmanager
async def _buyer(server: Tree, bank: TrialBank) -> AsyncIterator[Buyer]:
    async with httpx.AsyncClient(base_url=server.target.http, timeout=30) as http:
        yield Buyer(server, bank, http)


async def _fetch(server: Tree, sql: str, *args: object) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(server.target.database_url)
    try:
        return list(await connection.fetch(sql, *args))
    finally:
        await connection.close()


async def _until(server: Tree, sql: str, *args: object) -> None:
    """Wait until there is such a row."""
    async with asyncio.timeout(WAIT_S):
        while not await _fetch(server, sql, *args):  # noqa: ASYNC110 - it is asked, it does not tell
            await asyncio.sleep(0.05)


async def _hasten(server: Tree) -> None:
    """Let the time be over for which a dead process's claim is left alone."""
    await _fetch(server, "update payment_moves set tried_at = tried_at - interval '1 h'")
    await _fetch(server, "update payments_due set due_at = due_at - interval '1 h'")


@pytest.mark.timeout(300)
async def test_killed_between_any_two_steps_of_a_payment(tmp_path: Path) -> None:
    """SIGKILL at each step in turn: each buyer has his order, and the bank moved money once."""
    path = tmp_path / "bank"
    settings = {"LIVECART_PAYMENTS": "trial", "LIVECART_TRIAL_BANK": str(path)}
    bank = TrialBank(path)
    with grown(1, **settings) as server:
        async with _buyer(server, bank) as buyer:
            host = buyer.token("host", "host")
            stream = (await buyer.asked("POST", "/v1/streams", {"title": "x"}, host))["id"]
            await buyer.asked("POST", f"/v1/streams/{stream}/start", {}, host)
            product = {"sku": "s", "title": "t", "price_minor": 1500, "currency": "TWD"}
            made = await buyer.asked("POST", "/v1/products", product, host)
            terms = {"product": made["id"], "price_minor": 1500, "quantity": 50}
            offer = (await buyer.asked("POST", f"/v1/streams/{stream}/offers", terms, host))["id"]
            await buyer.asked("POST", f"/v1/offers/{offer}/open", {}, host)
            for point in POINTS:
                await _paid_through(buyer, offer, point)
            orders = await _fetch(
                server, "select viewer, status, captured_at is not null as captured, replaces"
                " from orders order by id",
            )  # fmt: skip
    live = [(one["viewer"], one["captured"]) for one in orders if one["status"] == "confirmed"]
    assert sorted(live) == sorted((f"v-{point}", True) for point in POINTS), orders
    found = bank.audit()
    assert [(one.captured_minor, one.captures) for one in found] == [(1500, 1)] * len(POINTS)


async def _paid_through(buyer: Buyer, offer: str, point: str) -> None:
    """Buy and pay while a process dies at that point, and wait until all is well again."""
    server, viewer = buyer.server, f"v-{point}"
    token = buyer.token("viewer", viewer)
    order = await buyer.asked("POST", f"/v1/offers/{offer}/orders", {"qty": 1}, token, "k")
    if point != "replace.bought":
        shot = server.lay(f"{point}=kill")
    payment = (await buyer.asked("POST", f"/v1/orders/{order['id']}/pay", {}, token))["payment"]
    if point == "replace.bought":
        shot = server.lay(f"{point}=kill")
        await _fetch(server, "update orders set expires_at = now() where id = $1", order["id"])
        await _until(
            server, "select 1 from orders where id = $1 and status = 'expired'", order["id"]
        )
    buyer.bank.authorise(payment["client"]["ref"])
    await buyer.deliver()
    await asyncio.wait_for(server.fired(shot), WAIT_S)
    await server.well()
    async with asyncio.timeout(WAIT_S):
        while True:
            await _hasten(server)
            await buyer.deliver()
            rows = await _fetch(
                server, "select 1 from orders where viewer = $1 and captured_at is not null", viewer
            )
            due = await _fetch(server, "select 1 from payment_moves where state = 'open'")
            if rows and not due:
                return
            await asyncio.sleep(0.1)
