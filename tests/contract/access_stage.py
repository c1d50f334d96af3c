"""The objects that the authorisation matrix is about, and copies of them.

Owns one stage a shop, set by real calls, and its copying by SQL: a cell acts on rows that nobody
else touches. Called by `access_rig`. A new kind of object is one line in `_set`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import asyncpg

from livecart.api import pages
from tests.contract.http_rig import Shop, token

CONTACT = {"name": "陳小姐", "address1": "x", "country": "TW"}
OWNER, ANOTHER, BANNED = "owner", "another", "banned"
#: What was told, and what somebody works off behind the calls: no rule reads it, and of a copy
#: nothing is due.
HISTORY = ("facts", "fact_heads", "movements", "payments_due")
#: The orders that have invoices: these have numbers in a row, so that none can be copied.
INVOICED = ("shipped", "shipped of another")
_ID = re.compile(r"([a-z]+_[0-9a-f]{16,})\Z")
_TABLES = """
select c.relname as name, array_agg(quote_ident(a.attname) order by a.attnum) as columns
  from pg_class c join pg_attribute a on a.attrelid = c.oid
 where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p')
   and not c.relispartition and a.attnum > 0 and not a.attisdropped
   and a.attidentity = '' and a.attgenerated = ''
 group by c.relname order by c.relname
"""
#: Every id of the copied row gets the copy's suffix, and the owner the name of the copy's.
_COPY = """
insert into {table} ({columns})
select {columns_of_r}
  from unnest($1::text[]) as t(line)
  cross join unnest($2::text[], $3::text[]) as w(suffix, viewer)
  cross join lateral jsonb_populate_record(null::{table}, replace(
      regexp_replace(t.line, '([a-z]+_[0-9a-f]{{16,}})', '\\1' || w.suffix, 'g'),
      '"owner"', '"' || w.viewer || '"')::jsonb) as r
"""
_PRINT = """
select substring(t::text from '~([0-9]+)~')::integer as copy,
       md5(string_agg(t::text, '|' order by t::text)) as print
  from {table} t where t::text ~ '~[0-9]+~' group by 1
"""

Prints = dict[tuple[str, int], str]  # (table, copy): what its rows are, in short


class Stage:
    """One shop's objects by name, and the rows that they are."""

    def __init__(self, names: dict[str, str], rows: dict[str, list[str]]) -> None:
        self.names = names
        self._rows = rows

    def named(self, number: int, viewer: str) -> dict[str, str]:
        """Return the objects of a copy by name; `viewer`: whose the owner's are."""
        return {
            name: f"{id_}~{number}~" if _ID.match(id_) else id_ for name, id_ in self.names.items()
        } | {"owner": viewer}

    async def copy(
        self,
        connection: asyncpg.Connection[asyncpg.Record],
        tables: Mapping[str, Sequence[str]],
        copies: Sequence[tuple[int, str]],
    ) -> None:
        """Make copies, each a number and the viewer who owns what the owner has."""
        for table, rows in self._rows.items():
            columns = tables[table]
            statement = _COPY.format(
                table=table,
                columns=", ".join(columns),
                columns_of_r=", ".join(f"r.{column}" for column in columns),
            )
            suffixes = [f"~{number}~" for number, _ in copies]
            await connection.execute(statement, rows, suffixes, [viewer for _, viewer in copies])


async def tables_of(connection: asyncpg.Connection[asyncpg.Record]) -> dict[str, list[str]]:
    """Return every table and those of its columns that can be written."""
    return {row["name"]: row["columns"] for row in await connection.fetch(_TABLES)}


async def set_stages(
    shop: Shop, connection: asyncpg.Connection[asyncpg.Record], tables: Mapping[str, Sequence[str]]
) -> dict[int, Stage]:
    """Set the stage of both shops in an empty database."""
    stages, known = {}, {table: set[str]() for table in tables}
    for number in (1, 2):
        names = await _set(shop, f"shop-{number}")
        rows: dict[str, list[str]] = {}
        for table in tables:
            if table in HISTORY:
                continue
            found = await connection.fetch(
                f"select to_jsonb(t)::text as line from {table} t"
                " where to_jsonb(t)::text ~ '[a-z]+_[0-9a-f]{16,}'"
            )
            if new := [row["line"] for row in found if row["line"] not in known[table]]:
                rows[table] = new
                known[table].update(new)
        stages[number] = Stage(names, rows)
    return stages


async def prints(
    connection: asyncpg.Connection[asyncpg.Record], tables: Mapping[str, Sequence[str]]
) -> Prints:
    """Return what is in each table of each copy, in short."""
    found = {}
    for table in tables:
        for row in await connection.fetch(_PRINT.format(table=table)):
            found[table, row["copy"]] = row["print"]
    return found


async def delivery_ids(connection: asyncpg.Connection[asyncpg.Record]) -> dict[str, str]:
    """Return the delivery of each webhook: its id is a number that every copy has its own of."""
    rows = await connection.fetch("select webhook, n from hook_deliveries")
    return {row["webhook"]: f"dl_{row['n']}" for row in rows}


async def invoice(connection: asyncpg.Connection[asyncpg.Record], orders: Collection[str]) -> None:
    """Issue the invoices of orders."""
    await connection.execute(
        "select issue_invoice(o, 'A', 'B', 'h1') from unnest($1::text[]) o", list(orders)
    )


async def _set(shop: Shop, name: str) -> dict[str, str]:
    """Make one of each kind by real calls; return their ids by name."""
    host = token("host", f"host of {name}", shop=name)

    async def made(path: str, body: object = None, key: str | None = None) -> dict[str, Any]:
        return await shop.made("POST", path, body, token=host, key=key)

    async def by(viewer: str, path: str, body: object = None, key: str = "k0") -> dict[str, Any]:
        return await shop.made("POST", path, body, token=token("viewer", viewer), key=key)

    async def bought(offer: str, viewer: str, key: str) -> str:
        order: str = (await by(viewer, f"/v1/offers/{offer}/orders", {"qty": 1}, key))["id"]
        return order

    goods = {"sku": "SKU", "title": "高山茶", "price_minor": 1999, "currency": "TWD"}
    product = (await made("/v1/products", goods))["id"]
    stream = (await made("/v1/streams", {"title": "晚上八點"}))["id"]
    await made(f"/v1/streams/{stream}/start")
    await shop.services.catalog.ban(stream, BANNED)

    async def offered(open_: bool = True, **fields: object) -> str:
        body = {"product": product, "price_minor": 1500, "quantity": 100, "per_viewer": 9} | fields
        offer: str = (await made(f"/v1/streams/{stream}/offers", body))["id"]
        if open_:
            await made(f"/v1/offers/{offer}/open")
        return offer

    offer = await offered(extends=3)
    paused = await offered()
    await made(f"/v1/offers/{paused}/pause")
    full = await offered(quantity=1)
    filler = await bought(full, "filler", "k0")
    drawn = await offered(False, mode="draw", quantity=0, opens_at=1_900_000_000_000)
    for viewer in (OWNER, ANOTHER):
        for waited in (full, drawn):
            await by(viewer, f"/v1/offers/{waited}/waitlist", {"qty": 1})
    await made(f"/v1/offers/{drawn}/open")  # of no units, so that nobody wins an order
    said = {"platform": "elsewhere", "id": "c1", "user": "u", "text": "+1"}  # of what?
    heard = await made(f"/v1/streams/{stream}/comments", {"comments": [said]})
    webhook = (await made("/v1/webhooks", {"url": "https://shop.example/hook"}))["id"]
    names = {
        "comment": heard["comments"][0]["comment"],
        "webhook": webhook,
        "delivery": (await made(f"/v1/webhooks/{webhook}/test"))["id"],
        "stream": stream,
        "product": product,
        "offer": offer,
        "draft": await offered(False),
        "paused": paused,
        "full": full,
        "drawn": drawn,
        "filler": filler,
        "pin": (await made(f"/v1/streams/{stream}/pins", {"product": product}))["id"],
        "another": ANOTHER,
        "provider": "manual",
        "file": next(iter(pages._files())),
    }
    for viewer, of in ((OWNER, ""), (ANOTHER, " of another")):
        for n, name in enumerate(("order", "paid", "shipped", "returned")):
            order = names[name + of] = await bought(offer, viewer, f"k0{n}")
            if name != "order":
                await made(f"/v1/orders/{order}/pay")
            if name in ("shipped", "returned"):
                await made(f"/v1/orders/{order}/ship")
        asked = f"/v1/orders/{names['returned' + of]}/returns"
        names["return" + of] = (await by(viewer, asked, {"reason": "x"}))["id"]
        order = names["order" + of]
        await shop.call("PUT", f"/v1/orders/{order}/contact", CONTACT, token=host)
        paid = await by(viewer, f"/v1/orders/{order}/pay")
        names["payment" + of] = paid["payment"]["id"]
    return names
