"""The waitlist in Postgres against a plain model: any history leaves both alike."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loadtest.waiting import judge_waitlist

VIEWERS = ("ann", "bob", "cai", "dan")
PER_VIEWER = 3
_numbers = itertools.count()


@dataclass
class Order:
    viewer: str
    key: str
    qty: int
    live: bool = True


@dataclass
class Model:
    """An offer and its list, said as simply as can be."""

    quantity: int
    status: str = "open"
    orders: list[Order] = field(default_factory=list)
    waits: list[Order] = field(default_factory=list)  # in the order of their ranks
    left: dict[str, str] = field(default_factory=dict)  # viewer to the key that he withdrew
    banned: set[str] = field(default_factory=set)

    @property
    def free(self) -> int:
        return self.quantity - sum(order.qty for order in self.orders if order.live)

    def room(self, viewer: str, qty: int) -> bool:
        mine = sum(order.qty for order in self.orders if order.live and order.viewer == viewer)
        return mine + qty <= PER_VIEWER

    def join(self, viewer: str, key: str, qty: int) -> str:
        entry = next((w for w in self.waits if w.viewer == viewer), None)
        if any(o.viewer == viewer and o.key == key for o in self.orders):
            return "again"
        if entry is None and self.left.get(viewer) == key:
            return "conflict"
        if entry is not None:
            same = "key_reused" if entry.key == key else "conflict"
            return "waits" if entry.qty == qty else same
        if self.status == "paused":
            return "not_open"
        if viewer in self.banned:
            return "forbidden"
        if not self.room(viewer, qty):
            return "limit_reached"
        if qty <= self.free:
            return "free"
        self.left.pop(viewer, None)
        self.waits.append(Order(viewer, key, qty))
        return "waiting"

    def buy(self, viewer: str, key: str, qty: int) -> str:
        if any(o.viewer == viewer and o.key == key for o in self.orders):
            return "again"
        if self.status == "paused":
            return "not_open"
        if not self.room(viewer, qty):
            return "limit_reached"
        if qty > self.free:
            return "sold_out"
        self.orders.append(Order(viewer, key, qty))
        self.waits = [w for w in self.waits if (w.viewer, w.key) != (viewer, key)]
        return "ok"

    def serve(self) -> None:
        """Hand free units over, first come first."""
        if self.status == "paused":
            return
        for entry in list(self.waits):
            if entry.qty > self.free:
                continue
            if entry.viewer in self.banned:
                self.waits.remove(entry)
            elif self.room(entry.viewer, entry.qty):
                self.waits.remove(entry)
                self.orders.append(Order(entry.viewer, entry.key, entry.qty))


who, key, qty = st.sampled_from(VIEWERS), st.sampled_from("kl"), st.integers(1, 3)
step = st.one_of(
    st.tuples(st.just("join"), who, key, qty),
    st.tuples(st.just("join"), who, key, qty),
    st.tuples(st.just("buy"), who, key, qty),
    st.tuples(st.just("end"), st.integers(0, 9)),
    st.tuples(st.just("end"), st.integers(0, 9)),
    st.tuples(st.just("add"), st.integers(1, 3)),
    st.tuples(st.just("leave"), who),
    st.tuples(st.just("ban"), who, st.booleans()),
    st.tuples(st.just("pause")),
)


@pytest.fixture
def loop() -> Iterator[asyncio.Runner]:
    """One event loop for all examples, so that the connection outlives each."""
    with asyncio.Runner() as runner:
        yield runner


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(quantity=st.integers(0, 4), steps=st.lists(step, max_size=25))
def test_any_history_agrees_with_the_model(
    database_url: str, loop: asyncio.Runner, quantity: int, steps: list[tuple[object, ...]]
) -> None:
    """Joins, buys, ends, restocks, pauses, bans: the same orders, the same entries, in order."""
    loop.run(_play(database_url, quantity, steps))


async def _play(url: str, quantity: int, steps: list[tuple[object, ...]]) -> None:
    offer = f"of_{next(_numbers)}"
    connection: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(url)
    try:
        await connection.execute(
            f"insert into streams (id, shop, title, status) values ('{offer}', 's', 't', 'live');"
            "insert into products (id, shop, sku, title, price_minor, currency)"
            f" values ('{offer}', 's', 's', 't', 1, 'TWD');"
            f"select create_offer('{offer}', '{offer}', '{offer}', 1, {quantity}, {PER_VIEWER},"
            " null, null, 600, 'required', null, null, 'contains', 0, 10, 60, 'sale', 'anyone', 1)"
        )
        await connection.fetch("select open_offer($1, false)", offer)
        model = Model(quantity)
        for rank, one in enumerate(steps, 1):
            await _step(connection, offer, model, rank, *one)
            await _same(connection, offer, model)
    finally:
        await connection.close()


async def _step(
    db: asyncpg.Connection[asyncpg.Record],
    offer: str, model: Model, rank: int, word: object, *what: object,
) -> None:  # fmt: skip
    if word in ("join", "buy"):
        viewer, key, qty = str(what[0]), str(what[1]), int(str(what[2]))
        sql = "select word from join_waitlist($1, 1, $2, $3, $4, $5)"
        if word == "buy":
            sql = "select outcomes[1] from admit($1, 1, $6, $2, $3, $4, $5)"
        ids = [[f"{offer}_{rank}"]] if word == "buy" else []
        said = await db.fetchval(sql, offer, [viewer], [key], [qty], [rank], *ids)
        meant = model.join(viewer, key, qty) if word == "join" else model.buy(viewer, key, qty)
        assert (said or "ok") == meant
    elif word == "end":
        live = [order for order in model.orders if order.live]
        if live:
            order = live[int(str(what[0])) % len(live)]
            await db.fetch(
                "select (cancel(id, true, null)).word from orders where offer = $1 and viewer = $2"
                " and key = $3", offer, order.viewer, order.key,
            )  # fmt: skip
            order.live = False
            model.serve()
    elif word == "add":
        model.quantity += int(str(what[0]))
        await db.fetch("select set_quantity($1, $2, 'test')", offer, model.quantity)
        model.serve()
    elif word == "leave":
        await db.fetch("select leave_waitlist($1, $2)", offer, what[0])
        for entry in [w for w in model.waits if w.viewer == what[0]]:
            model.waits.remove(entry)
            model.left[entry.viewer] = entry.key
    elif word == "ban":
        await db.fetch(
            "insert into standings (stream, viewer, banned) values ($1, $2, true)"
            " on conflict do nothing", offer, what[0],
        )  # fmt: skip
        model.banned.add(str(what[0]))
        if what[1]:  # else whoever bans died in between
            await db.fetch("select drop_waiter($1, $2)", offer, what[0])
            model.waits = [w for w in model.waits if w.viewer != what[0]]
    else:
        paused = model.status == "paused"
        said = await db.fetchval(
            f"select {'resume' if paused else 'pause'}_offer($1{'' if paused else ', null'})", offer
        )
        if said == "ok":
            model.status = "open" if paused else "paused"
            model.serve()


async def _same(db: asyncpg.Connection[asyncpg.Record], offer: str, model: Model) -> None:
    row = await db.fetchrow("select * from offers where id = $1", offer)
    assert row is not None
    assert (row["quantity"] - row["taken"], row["waiting"]) == (model.free, len(model.waits))
    selling = "sold_out" if model.free == 0 else "open"
    assert row["status"] == (selling if model.status == "open" else "paused")
    waits = await db.fetch(
        "select viewer, key, qty from waitlist where offer = $1 and left_at is null order by rank",
        offer,
    )
    assert [tuple(w) for w in waits] == [(w.viewer, w.key, w.qty) for w in model.waits]
    rows = await db.fetch(
        "select viewer, key, qty, status = 'reserved' from orders where offer = $1", offer
    )
    orders = {(o.viewer, o.key, o.qty, o.live) for o in model.orders}
    assert {tuple(r) for r in rows} == orders
    moved = await db.fetchrow(
        "select sum(quantity_change), sum(taken_change) from ledger($1)", offer
    )
    assert moved is not None
    assert tuple(moved) == (row["quantity"], row["taken"])
    wrong = [one for one in await judge_waitlist(db, offer) if not one.passed]
    assert wrong == []
