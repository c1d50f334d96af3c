"""`livecart settle`: every difference between the bank's list and ours, and none that is none."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from livecart.settle import settle
from orders.payments.port import Asked
from tests.contract.http_rig import token, variables
from tests.contract.till_rig import Till, selling


@pytest.fixture
async def till(redis_url: str, database_url: str, tmp_path: Path) -> AsyncIterator[Till]:
    async with selling(redis_url, database_url, tmp_path / "bank") as found:
        yield found


async def test_settle_at_the_edges_of_its_time(
    till: Till, redis_url: str, database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What one side noted just before the time that is asked for, or just now, is no difference."""
    await till.paid(await till.bought())
    await till.fetch("update payments set created_at = now() - interval '25 hours'")
    (seen,) = till.bank.listed(0, None)
    with sqlite3.connect(till.bank._books.path) as file:
        file.execute("update payments set at_ms = at_ms - 82800000 where ref = ?", (seen.ref,))
    settings = {
        "LIVECART_TESTING": "yes",
        "LIVECART_PAYMENTS": "trial",
        "LIVECART_TRIAL_BANK": till.bank._books.path,
    }
    environ = variables(redis_url, database_url) | settings | {"PATH": os.environ["PATH"]}
    assert await asyncio.to_thread(settle, environ, 1.0, False) == 0  # ours before, theirs after
    free = await till.shop.offer(await till.shop.stream(), price_minor=0)
    nothing = (await till.shop.buy(free, "ann", 1)).json()["id"]
    ann = token("viewer", "ann")
    paid = await till.shop.made("POST", f"/v1/orders/{nothing}/pay", {}, token=ann)
    assert (paid["status"], paid["payment"]["state"]) == ("confirmed", "captured")
    await till.fetch(
        "update payments set created_at = now() - interval '1 hour' where amount_minor = 0"
    )
    assert await asyncio.to_thread(settle, environ, 1.0, False) == 0  # the bank heard of nothing
    asked = Asked(
        payment="pay_new", amount_minor=1, currency="TWD", shop="s", viewer="v", orders=(), about=""
    )  # fmt: skip
    till.bank.begin(asked)
    assert await asyncio.to_thread(settle, environ, 1.0, False) == 0  # begun since we read ours
    capsys.readouterr()


async def test_settle_finds_what_differs(
    till: Till, redis_url: str, database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """`settle` says nothing while both sides agree, and names what was done past us."""
    await till.paid(await till.bought())
    await till.fetch("update payments set created_at = now() - interval '1 hour'")
    settings = {
        "LIVECART_TESTING": "yes",
        "LIVECART_PAYMENTS": "trial",
        "LIVECART_TRIAL_BANK": till.bank._books.path,
    }
    environ = variables(redis_url, database_url) | settings | {"PATH": os.environ["PATH"]}
    assert await asyncio.to_thread(settle, environ, 2.0, False) == 0
    assert "all agrees" in capsys.readouterr().out
    (account,) = till.bank.audit()
    till.bank.refund_by_hand(account.ref, 400)
    assert await asyncio.to_thread(settle, environ, 2.0, True) == 1
    (difference,) = json.loads(capsys.readouterr().out)["differences"]
    assert (difference["kind"], difference["ours"], difference["theirs"]) == ("refunded", 0, 400)
    await till.deliver()  # the notice of it comes at last: the order's money follows
    (order,) = (await till.shop.made("GET", "/v1/orders"))["items"]
    assert order["refunded_minor"] == 400
    assert await asyncio.to_thread(settle, environ, 2.0, False) == 0
