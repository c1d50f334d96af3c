"""The books of an offer on real servers: complete, summing to the counters, and never rewritten."""

from __future__ import annotations

import asyncio
import json

import asyncpg
import pytest

from livecart.cli import run
from orders.ledger.books import Books
from orders.ledger.files import read
from orders.ledger.migrate import migrate
from orders.records import Offer
from tests.shop import Shop, bought, together


async def every_kind(shop: Shop) -> Offer:
    """An offer to which everything happened that moves units."""
    hub = shop.hubs[0]
    draft = await shop.offer(10, opened=False, per_viewer=9)
    await hub.changes.revise_offer(draft.id, {"quantity": 12})
    await hub.changes.open_offer(draft.id)
    ended = bought(await hub.buy(draft.id, "ann", 2))
    late = bought(await hub.buy(draft.id, "bob", 3))
    paid = bought(await hub.buy(draft.id, "cem"))
    await hub.changes.cancel(ended.id, by_host=False, reason="changed her mind")
    await shop.fetch("update orders set expires_at = clock_timestamp() where id = $1", late.id)
    await hub.keeper.round()
    await hub.changes.pay(paid.id)
    await hub.changes.restock(draft.id, "r1", 5)
    await hub.changes.revise_offer(draft.id, {"quantity": 4})
    now = await hub.selling.offer(draft.id)
    assert now is not None
    return now


@pytest.fixture
def books(shop: Shop) -> Books:
    return Books(shop.hubs[0].ledger)


async def test_bundles_and_extensions_are_in_the_books(shop: Shop, books: Books) -> None:
    """Orders bought together say under which epoch; a moved deadline moves no unit."""
    hub = shop.hubs[0]
    stream = await shop.stream()
    one, two = [await shop.offer(9, stream=stream, per_viewer=9, extends=1) for _ in range(2)]
    sold = together(await hub.bundle(stream, "ann", [(one.id, 2), (two.id, 3)], "k"))
    await hub.changes.extend(sold.orders[0].id, 1)
    for offer, qty in ((one, 2), (two, 3)):
        entries = await books.entries(offer.id, None)
        [admitted] = [e for e in entries if e.what == "admission"]
        now = await hub.ledger.offers([offer.id])
        assert (admitted.taken_change, admitted.epoch) == (qty, now[0].epoch)
        sums = await books.sums(offer.id)
        assert sums is not None
        assert list(sums.differences()) == []


async def test_every_movement_is_there_and_sums_to_the_counters(shop: Shop, books: Books) -> None:
    """What, how many, why, which order, which epoch; the sums end at `quantity` and `taken`."""
    offer = await every_kind(shop)
    entries = await books.entries(offer.id, None)
    told = [(e.what, e.quantity_change or e.taken_change, e.why) for e in entries]
    assert told == [
        ("quantity", 10, "created"),
        ("quantity", 2, "revised"),
        ("state", 0, "opened"),
        ("admission", 2, "bought"),
        ("admission", 3, "bought"),
        ("admission", 1, "bought"),
        ("release", -2, "changed her mind"),
        ("release", -3, "expired"),
        ("order", 0, "paid"),
        ("quantity", 5, "restock"),
        ("quantity", -13, "revised"),
    ]
    assert all(0 <= e.taken <= e.quantity and e.epoch for e in entries)
    assert (entries[-1].quantity, entries[-1].taken) == (offer.quantity, offer.taken) == (4, 1)
    named = [e.order for e in entries if e.what == "admission"]
    assert [e.order for e in entries if e.what == "release"] == named[:2]
    sums = await books.sums(offer.id)
    assert sums is not None
    assert sums.differences() == []
    assert await books.entries(offer.id, 3) == entries[-3:]


async def test_an_order_says_under_which_epoch_it_was_admitted(shop: Shop, books: Books) -> None:
    """After a rebuild of the gate its orders are of the next epoch; the books name both."""
    hub = shop.hubs[0]
    offer = await shop.offer(5)
    bought(await hub.buy(offer.id, "ann"))
    await shop.redis.flushdb()
    await hub.keeper.round()
    bought(await hub.buy_until_final(offer.id, "bob"))
    rows = await shop.fetch("select epoch from orders order by rank")
    assert [e.epoch for e in await books.entries(offer.id, None)][-2:] == [row[0] for row in rows]
    assert rows[1][0] == rows[0][0] + 1


@pytest.mark.parametrize(
    "statement",
    [
        "update movements set units = units + 1",
        "delete from movements where n = 0",
        "truncate movements",
        "delete from orders",
        "truncate orders",
        "update orders set id = 'or_x'",
        "update orders set offer = 'of_x'",
        "update orders set viewer = 'eve'",
        "update orders set key = 'other'",
        "update orders set qty = qty + 1",
        "update orders set rank = rank + 1",
        "insert into orders select * from orders on conflict (id) do update set qty = 2",
    ],
)
async def test_what_was_written_stays(shop: Shop, statement: str) -> None:
    """Postgres itself refuses to rewrite the books, whoever asks."""
    await every_kind(shop)
    with pytest.raises(asyncpg.RestrictViolationError, match="stays"):
        await shop.fetch(statement)


async def test_a_new_status_is_no_rewriting(shop: Shop, books: Books) -> None:
    """What changes of an order, its status and times, may change."""
    offer = await every_kind(shop)
    await shop.fetch("update orders set status = status, version = version + 1, expires_at = null")
    sums = await books.sums(offer.id)
    assert sums is not None
    assert sums.differences() == []


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        ("update offers set taken = taken + 1", "taken is 2, by its movements 1"),
        ("update offers set quantity = quantity + 1", "quantity is 5, by its movements 4"),
        ("update offers set confirmed = 0", "confirmed is 0, by its confirmed orders 1"),
        ("update orders set status = 'cancelled' where status = 'confirmed'", "by its live orders"),
        ("delete from movements where n = 3", "movements is "),
        ("update movements set units = 1 where n = 0", "quantity is 4, by its movements -5"),
    ],
)
async def test_books_that_do_not_agree_are_told(
    shop: Shop, books: Books, damage: str, says: str
) -> None:
    """Whatever was done behind the triggers' back: the sums name it."""
    offer = await every_kind(shop)
    for table in ("orders", "movements"):
        await shop.fetch(f"alter table {table} disable trigger user")
    await shop.fetch(damage)
    sums = await books.sums(offer.id)
    assert sums is not None
    assert says in "; ".join(sums.differences())


async def test_a_database_of_before_gets_what_its_offers_began_with(database_url: str) -> None:
    """The migration writes movement 0 of each offer, from which the present quantity is reached."""
    before = [file for file in read("migrations") if file.name < "migrations/0004"]
    connection: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(database_url)
    try:
        await connection.execute("drop schema public cascade; create schema public")
        await migrate(connection, files=before)
        await connection.execute(
            "insert into streams (id, shop, title) values ('st_1', 'shop', 'Show');"
            "insert into products (id, shop, sku, title, price_minor, currency)"
            " values ('pr_1', 'shop', 'a', 'Thing', 1, 'TWD');"
            "insert into offers (id, stream, product, price_minor, quantity, per_viewer, hold_s,"
            " payment, last_movement) values ('of_1', 'st_1', 'pr_1', 1, 9, 1, 60, 'none', 1),"
            " ('of_2', 'st_1', 'pr_1', 1, 7, 1, 60, 'none', 0);"
            "insert into movements (offer, n, kind, units, reason, epoch)"
            " values ('of_1', 1, 'quantity', 4, 'restock', 1)"
        )
        await migrate(connection)
        rows = await connection.fetch(
            "select o.id, l.n, l.quantity_change from offers o, ledger(o.id) l order by o.id, l.n"
        )
        assert [tuple(row) for row in rows] == [("of_1", 0, 5), ("of_1", 1, 4), ("of_2", 0, 7)]
    finally:
        await connection.close()


async def test_the_command_prints_them(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`livecart ledger OFFER`: a line a movement, the sums, and a status: whether they agree."""
    monkeypatch.setenv("LIVECART_DATABASE_URL", shop.database_url)
    offer = await every_kind(shop)

    async def command(*arguments: str) -> tuple[int, str]:
        status = await asyncio.to_thread(run, ["ledger", *arguments])
        return status, capsys.readouterr().out

    status, said = await command(offer.id, "--limit", "2")
    assert status == 0
    lines = said.splitlines()
    assert len(lines) == 4
    assert lines[-2].split()[2:6] == ["quantity", "-13", "=", "4"]
    assert lines[-1].startswith("the sums agree: quantity 4, taken 1")
    status, said = await command(offer.id, "--json", "--limit", "0")
    told = json.loads(said)
    assert (status, len(told["entries"]), told["agrees"]) == (0, 11, True)
    assert told["entries"][-1]["quantity"] == told["sums"]["quantity"] == 4
    await shop.fetch("update offers set taken = taken + 1")
    status, said = await command(offer.id)
    assert status == 1
    assert "DIFFERENT: taken is 2, by its movements 1" in said
    assert (await command("of_none"))[0] == 1
