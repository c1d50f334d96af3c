"""The course of a flash sale: what the host sets up, when it opens, and what makes a run fail."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from loadtest.faults import FaultName
from loadtest.patience import Patience
from loadtest.sale import Flash, run_flash
from loadtest.server import Pids, Target
from tests.unit.loadtest_door import Door, order, served

SMALL = Flash(
    viewers=4,
    units=8,
    per_viewer=2,
    buys=3,
    via="http",
    http_connections=2,
    settle_s=0.0,
    deadline_s=0.5,
    patience=Patience(retry_min_s=0.01, retry_max_s=0.05, attempts_max=10_000),
)


def shop(attempt: int, key: str) -> tuple[int, Any]:
    """Two buys of each viewer are sold, the third is one too many; host calls are all granted."""
    if not key:
        return 201, {"id": "xx_1"}
    return order(key) if int(key.partition(".")[2]) % 3 < 2 else (409, {"code": "limit_reached"})


def target(url: str, pids: Pids | None = None) -> Target:
    return Target(url, "s" * 32, pids=pids)


def calls(door: Door) -> list[tuple[str, Any]]:
    """Path and body of the host's calls, in their order."""
    found = []
    for request in door.seen[""]:
        head, _, body = request.partition(b"\r\n\r\n")
        found.append((head.split()[1].decode(), msgspec.json.decode(body) if body else None))
    return found


async def test_a_sale_is_set_up_opened_and_counted() -> None:
    """Stream, product, offer, start, and only then open; every buy has its outcome."""
    async with served(shop) as (door, url):
        run = await run_flash(SMALL, target(url))
    paths = [path for path, _ in calls(door)]
    assert paths == [
        "/v1/streams",
        "/v1/products",
        "/v1/streams/xx_1/offers",
        "/v1/streams/xx_1/start",
        "/v1/offers/xx_1/open",
    ]
    offer = calls(door)[2][1]
    assert (offer["quantity"], offer["per_viewer"], offer["hold_s"]) == (8, 2, 600)
    assert run.passed
    assert (run.sale.sold, run.sale.refused) == (8, {"limit_reached": 4})


async def test_a_code_that_is_not_due_fails_the_run() -> None:
    """An open offer with stock owes nobody `not_open`."""
    async with served(lambda n, key: (409, {"code": "not_open"}) if key else shop(n, key)) as (
        _,
        url,
    ):
        run = await run_flash(SMALL, target(url))
    assert run.unexpected == {"not_open": 12}
    assert not run.passed


async def test_answers_missing_at_the_deadline_fail_the_run() -> None:
    """A sale that never answers ends at its deadline, and each missing answer is counted."""
    async with served(lambda n, key: (503, {"code": "retry"}) if key else shop(n, key)) as (_, url):
        run = await run_flash(SMALL, target(url))
    assert run.sale.missing == 12
    assert not run.passed


async def test_something_can_happen_in_the_middle() -> None:
    """The hook strikes once, after its share of the answers, and is timed."""
    struck: list[Target] = []

    async def strike(hit: Target) -> None:
        struck.append(hit)

    async with served(shop) as (_, url):
        run = await run_flash(SMALL, target(url), during=strike)
    assert len(struck) == 1
    assert run.fault_at_s is not None


async def test_no_fault_is_done_to_a_server_that_is_not_ours() -> None:
    """A fault needs the pids of a server that was spawned for the run."""
    faulty = Flash(fault=FaultName.KILL_REDIS)
    with pytest.raises(ValueError, match="spawned"):
        await run_flash(faulty, target("http://127.0.0.1:9"))
