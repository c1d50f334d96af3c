"""Two changes of one offer that wait for its lock at the same time: the second sees the first (R3).

A call that read before it had the lock, or under a snapshot older than it, would decide by what was
so before. Both calls are sent while the row is locked, each once the one before waits in the queue;
then the lock goes, and they follow each other without a moment between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

import asyncpg
import pytest

from orders.ledger.ledger import Line
from tests.shop import Hub, Shop, bought, until

Call = Callable[[Hub, str], Awaitable[Any]]

EPOCH = 2  # of an offer that was opened: its gate was built once


class Pair(NamedTuple):
    """Two calls on an offer of one unit, and the pairs of answers there may be."""

    name: str
    one: Call
    other: Call
    answers: list[tuple[Any, Any]]
    ordered: bool = False  # ann's order of the unit stands, and its time is over


def admit(viewer: str, key: str, id_: str, rank: int) -> Call:
    async def call(hub: Hub, offer: str) -> str:
        done = await hub.ledger.admit(offer, EPOCH, [Line(f"{id_}_{offer}", viewer, key, 1, rank)])
        return "ok" if done.outcomes is None else done.outcomes[0]

    return call


def word(function: str, *args: object) -> Call:
    async def call(hub: Hub, offer: str) -> str:
        return await hub.ledger.word(function, offer, *args)

    return call


async def fence(hub: Hub, offer: str) -> bool:
    return await hub.ledger.fence(offer, EPOCH, 2)


async def raise_epoch(hub: Hub, offer: str) -> int:
    return await hub.ledger.raise_epoch(offer, EPOCH)


async def expire(hub: Hub, offer: str) -> str:
    return "ok" if await hub.ledger.expire(offer, 10) else "conflict"


async def _order(hub: Hub, offer: str) -> str:
    rows = await hub.ledger.rows("select id from orders where offer = $1", offer)
    return str(rows[0]["id"])


async def pay(hub: Hub, offer: str) -> str:
    return (await hub.ledger.pay(await _order(hub, offer)))[0]


async def cancel(hub: Hub, offer: str) -> str:
    return (await hub.ledger.cancel(await _order(hub, offer), False, None))[0]


ANN, BOB = admit("ann", "k", "or_a", 1), admit("bob", "k", "or_b", 2)
ONE_WINS = [("ok", "conflict"), ("conflict", "ok")]
LOWER = word("set_quantity", 0, "host")
RAISE = word("set_quantity", 2, "host")
RESTOCK = word("restock", "r", 1)
CLOSE = word("close_offer", None, False)

PAIRS = [
    Pair("the last unit", ANN, BOB, [("ok", "sold_out"), ("sold_out", "ok")]),
    Pair("adopted", ANN, admit("ann", "k", "or_a", 2), [("ok", "again"), ("again", "ok")]),
    Pair("fenced", ANN, fence, [("ok", True), ("fenced", True)]),
    Pair("another epoch", ANN, raise_epoch, [("ok", EPOCH + 1), ("epoch", EPOCH + 1)]),
    Pair("lowered", ANN, LOWER, [("ok", "conflict"), ("sold_out", "ok")]),
    Pair("closed", ANN, CLOSE, [("ok", "ok"), ("closed", "ok")]),
    Pair("restocked twice", RESTOCK, RESTOCK, [("ok", "again"), ("again", "ok")]),
    Pair("pay and cancel", pay, cancel, ONE_WINS, ordered=True),
    Pair("cancel twice", cancel, cancel, ONE_WINS, ordered=True),
    Pair("pay and expire", pay, expire, ONE_WINS, ordered=True),
    Pair("cancel and expire", cancel, expire, ONE_WINS, ordered=True),
    Pair("expire twice", expire, expire, ONE_WINS, ordered=True),
    Pair("sold again", expire, BOB, [("ok", "ok"), ("ok", "sold_out")], ordered=True),
    Pair("lowered below", cancel, LOWER, [("ok", "ok"), ("ok", "conflict")], ordered=True),
    Pair("one too many", BOB, RAISE, [("ok", "ok"), ("sold_out", "ok")], ordered=True),
]


async def _one_after_the_other(shop: Shop, offer: str, calls: Sequence[Call]) -> list[Any]:
    """Send the calls while the offer is locked, then let it go; return their answers."""

    async def queued() -> int:
        rows = await shop.fetch(
            "select count(*) from pg_stat_activity"
            " where datname = current_database() and wait_event_type = 'Lock'"
        )
        return int(rows[0][0])

    blocker: asyncpg.Connection[Any] = await asyncpg.connect(shop.database_url)
    tasks: list[asyncio.Task[Any]] = []
    try:
        async with blocker.transaction():
            await blocker.execute("select 1 from offers where id = $1 for update", offer)
            for call in calls:
                hub = shop.hubs[0]
                tasks.append(asyncio.ensure_future(call(hub, offer)))

                async def waits() -> bool:
                    return await queued() == len(tasks)

                await until(waits)
        return list(await asyncio.gather(*tasks))
    finally:
        await blocker.close()


@pytest.mark.parametrize("pair", PAIRS, ids=lambda p: p.name.replace(" ", "_"))
async def test_who_waited_sees_what_the_other_did(shop: Shop, pair: Pair) -> None:
    """Whoever comes first, the answers fit each other and the counters fit the rows (I1, I8)."""
    for calls in ((pair.one, pair.other), (pair.other, pair.one)):
        offer = await shop.offer(1)
        if pair.ordered:
            bought(await shop.hubs[0].buy(offer.id, "ann"))
            await shop.fetch("update orders set expires_at = now()")
        answers = await _one_after_the_other(shop, offer.id, calls)
        if calls[0] is not pair.one:
            answers.reverse()
        assert tuple(answers) in pair.answers
        await _counters_fit(shop, offer.id)


async def _counters_fit(shop: Shop, offer: str) -> None:
    row = (await shop.fetch("select * from offers where id = $1", offer))[0]
    orders = (
        await shop.fetch(
            "select coalesce(sum(qty) filter (where status in ('reserved', 'confirmed')), 0) as"
            " live, coalesce(sum(qty) filter (where status in ('expired', 'cancelled')), 0) as"
            " ended from orders where offer = $1", offer,
        )
    )[0]  # fmt: skip
    moved = (
        await shop.fetch(
            "select count(*) as n, coalesce(sum(units) filter (where kind = 'release'), 0) as back,"
            " coalesce(sum(units) filter (where kind = 'quantity'), 0) as added"
            " from movements where offer = $1", offer,
        )
    )[0]  # fmt: skip
    assert orders["live"] == row["taken"] <= row["quantity"]
    assert moved["n"] == row["last_movement"] + 1  # number 0 is what there was at first
    assert moved["back"] == orders["ended"]
    assert moved["added"] == row["quantity"]


async def test_one_viewer_who_waited_twice_has_his_limit(shop: Shop) -> None:
    """Two admissions of one viewer in the queue: the second counts the row of the first (I3)."""
    offer = await shop.offer(5)
    answers = await _one_after_the_other(shop, offer.id, [ANN, admit("ann", "other", "or_o", 2)])
    assert answers == ["ok", "limit_reached"]
