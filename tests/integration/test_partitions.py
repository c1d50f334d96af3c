"""Orders in partitions, for who asks: made while a sale goes on, and as strict as before."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from orders.ids import Ids
from orders.ledger.drift import differences
from orders.ledger.migrate import migrate
from orders.records import Offer
from tests.shop import Shop, bought, kept, until

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

_ids = Ids(lambda: int(time.time() * 1000))


async def timed_offer(shop: Shop, id_: str | None = None, **more: Any) -> Offer:
    """An open offer with this very id, or with one as the server makes them today."""
    product, stream = _ids.new("pr"), _ids.new("st")
    await shop.fetch(
        "insert into streams (id, shop, title, status) values ($1, 'shop', 'Show', 'live')", stream
    )
    await shop.fetch(
        "insert into products (id, shop, sku, title, price_minor, currency)"
        " values ($1, 'shop', $1, 'Thing', 2900, 'TWD')",
        product,
    )
    terms: dict[str, Any] = {
        "price_minor": 2900, "per_viewer": 2, "opens_at": None, "closes_at": None, "hold_s": 600,
        "payment": "required", "keyword": None, "extends": 0, "quantity": 100_000,
    }  # fmt: skip
    changes = shop.hubs[0].changes
    made = await changes.create_offer(id_ or _ids.new("of"), stream, product, **(terms | more))
    assert isinstance(made, Offer)
    opened = await changes.open_offer(made.id)
    assert isinstance(opened, Offer)
    return opened


async def partition(shop: Shop) -> list[str]:
    """Ask for partitions as the command does; return what was applied."""
    migrator: Connection = await asyncpg.connect(shop.database_url)
    try:
        applied = await migrate(migrator, options=True)
        assert await differences(migrator) == []
        return applied
    finally:
        await migrator.close()


async def test_an_id_that_cannot_be_placed_keeps_the_table_as_it_is(shop: Shop) -> None:
    """It is named, and nothing has changed for who sells."""
    offer = await timed_offer(shop, "of_by_hand")
    with pytest.raises(asyncpg.CheckViolationError, match="of_by_hand has no time in it"):
        await partition(shop)
    bought(await shop.hubs[0].buy(offer.id, "ann"))
    await shop.rested(offer.id)


async def offer_of_year(shop: Shop, year: int, **more: Any) -> Offer:
    """An offer that is made in the year after so many that have partitions."""
    digits = await shop.fetch(
        "select lpad(to_hex(ms(from_at + make_interval(years => $1, days => 40))), 11, '0')"
        " from partition_bounds where parent = 'orders'",
        year,
    )
    return await timed_offer(shop, f"of_{digits[0][0]}00001f4e5d6c7b8a9", **more)


async def places(shop: Shop) -> dict[str, int]:
    """Return how many orders each partition has."""
    rows = await shop.fetch("select tableoid::regclass::text, count(*) from orders group by 1")
    return {row[0].split("_")[1]: row[1] for row in rows}


async def test_a_sale_goes_on_while_its_orders_get_partitions(shop: Shop) -> None:
    """Bought before, meanwhile and after: every order is there once, and each may still change."""
    hub, offer = shop.hubs[0], await timed_offer(shop)
    other = await timed_offer(shop)
    accepted = [bought(await hub.buy(offer.id, f"a{n}")) for n in range(20)]
    accepted.append(bought(await hub.buy(other.id, "ann")))
    migrating = asyncio.create_task(partition(shop))
    while not migrating.done():
        accepted.append(bought(await hub.buy_until_final(offer.id, f"b{len(accepted)}")))
    applied = await migrating
    assert [name for name in applied if name.startswith("options/")] == [
        "options/partitions_1_bounds.sql",
        "options/partitions_2_swap.sql",
    ]
    later = [await offer_of_year(shop, year) for year in (0, 1)]
    for one in (offer, other, *later):
        accepted += [bought(await hub.buy(one.id, f"c{n}")) for n in range(4)]
        await hub.changes.cancel(accepted[-1].id, by_host=False, reason="changed her mind")
        await hub.changes.pay(accepted[-2].id)
        await shop.fetch(
            "update orders set expires_at = clock_timestamp() where id = $1", accepted[-3].id
        )
        await hub.keeper.round()
        rows = await shop.fetch("select status from orders where offer = $1 order by rank", one.id)
        assert [row[0] for row in rows[-4:]] == ["reserved", "expired", "confirmed", "cancelled"]
        await shop.rested(one.id)
        assert await hub.keeper.reconciler.differences(one.id) == []
        assert await hub.rebuilder.rebuild(one.id)
        await shop.rested(one.id)
    rows = await shop.fetch("select id from orders")
    assert sorted(row[0] for row in rows) == sorted(order.id for order in accepted)
    found = await places(shop)
    assert sorted(found.values()) == [4, 4, len(accepted) - 8]
    assert found["before"] == len(accepted) - 8


@pytest.mark.parametrize("year", [None, 0])
async def test_what_is_unique_stays_so(shop: Shop, year: int | None) -> None:
    """A key, a rank and an id: Postgres refuses the second, in what was there and in a new part."""
    await partition(shop)
    offer = await (timed_offer(shop) if year is None else offer_of_year(shop, year, quantity=9))
    order = bought(await shop.hubs[0].buy(offer.id, "ann", key="k"))
    other = {"id": "or_x", "viewer": "bob", "key": "x", "rank": 99}
    for same, constraint in (
        (("id",), "pkey"),
        (("viewer", "key"), "viewer_key_key" if year == 0 else "key_binds_once"),
        (("rank",), "rank_key" if year == 0 else "rank_is_unique"),
    ):
        change = {name: value for name, value in other.items() if name not in same}
        with pytest.raises(asyncpg.UniqueViolationError) as refused:
            await shop.fetch(
                "insert into orders select (jsonb_populate_record(o, $2::text::jsonb)).*"
                " from orders o where o.id = $1",
                order.id,
                json.dumps(change),
            )
        assert str(refused.value.constraint_name).endswith(constraint)


async def test_what_was_written_stays(shop: Shop) -> None:
    """Neither by the table's name nor by a partition's are the books rewritten."""
    await partition(shop)
    offer = await offer_of_year(shop, 0)
    bought(await shop.hubs[0].buy(offer.id, "ann"))
    part = (await shop.fetch("select tableoid::regclass::text from orders"))[0][0]
    assert part.startswith("orders_2")
    for table in ("orders", part):
        for statement in (
            f"delete from {table}",
            f"truncate {table}",
            f"update {table} set offer = 'of_x'",
            f"update {table} set qty = qty + 1",
        ):
            with pytest.raises(asyncpg.RestrictViolationError, match="stays"):
                await shop.fetch(statement)


async def test_partitions_are_made_ahead_without_a_look_at_the_rows(shop: Shop) -> None:
    """The next one is proved to be empty of what is there already, and made once."""
    await partition(shop)
    connection: Connection = await asyncpg.connect(shop.database_url)
    said: list[str] = []
    connection.add_log_listener(lambda _, message: said.append(message.message))
    try:
        await connection.execute("set client_min_messages = debug1")
        made = await connection.fetchval("select make_partition(now() + interval '4 years')")
        assert made.rsplit("_", 1)[0] in ("orders", "movements", "facts")
        parent = made.rsplit("_", 1)[0]
        proved = f'default partition "{parent}_before" is implied by existing constraints'
        assert any(proved in line for line in said)
        assert await migrate(connection) == []
        assert (
            await connection.fetchval("select make_partition(now() + interval '2 years')") is None
        )
    finally:
        await connection.close()


async def test_the_keeper_makes_partitions(shop: Shop) -> None:
    """One that is lacking is there soon after a keeper begins: none of its rows is refused."""
    await partition(shop)
    made = await shop.fetch("select max(to_char(from_at, 'YYYY')) from partition_bounds")
    part = f"orders_{made[0][0]}"
    await shop.fetch(f"alter table orders detach partition {part}")
    await shop.fetch(f"drop table {part}")
    async with kept(shop.hubs[0]):

        async def is_there() -> bool:
            found = await shop.fetch("select to_regclass($1) is not null", part)
            return bool(found[0][0])

        await until(is_there)
    bought(await shop.hubs[0].buy((await offer_of_year(shop, 0)).id, "ann"))
