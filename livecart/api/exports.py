"""Exports over HTTP: the orders of a stream, or of a shop, as CSV and as JSON Lines.

Owns who may have them, how many are under way at once, and their headers. What they are made of is
read by `orders.ledger.walk` and written by `livecart.shopify`; how they are sent is `flow`'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import TypeVar

import msgspec

from livecart import views
from livecart.api.bounds import hosted_stream
from livecart.api.calls import Call
from livecart.api.flow import Flow
from livecart.api.operations import Operation
from livecart.api.orders import OrdersFilter, wanted_of
from livecart.shopify import HEADER, Opener, Sheet
from orders.ledger.lists import Filter
from orders.ledger.walk import Walk, begin
from orders.records import Order
from streams.codes import Code
from streams.ports import Refused
from streams.protocol import Id

EXPORTS_MAX = 4  # of one process, under way at once
SLICE = 100  # rows made in one go: about a millisecond

CSV = "text/csv"
JSON_LINES = "application/jsonl"

T = TypeVar("T")

_encode_lines = msgspec.json.Encoder().encode_lines
_under_way: set[Walk] = set()  # of this process


class StreamExportQuery(OrdersFilter, kw_only=True):
    """Which orders of a stream to export."""


class ExportQuery(OrdersFilter, kw_only=True):
    """Which orders to export."""

    stream: Id | None = None


async def of_stream_csv(call: Call) -> Flow:
    """Export a stream's orders in the columns of Shopify's order export, a row a line item."""
    return await _sheet(call, await _of_stream(call))


async def of_stream_jsonl(call: Call) -> Flow:
    """Export a stream's orders as they are shown, one a line."""
    return await _lines(call, await _of_stream(call))


async def of_shop_csv(call: Call) -> Flow:
    """Export the shop's orders in the columns of Shopify's order export, a row a line item."""
    query: ExportQuery = call.query
    return await _sheet(call, wanted_of(call, query, query.stream))


async def of_shop_jsonl(call: Call) -> Flow:
    """Export the shop's orders as they are shown, one a line."""
    query: ExportQuery = call.query
    return await _lines(call, wanted_of(call, query, query.stream))


async def _of_stream(call: Call) -> Filter | None:
    stream, _ = await hosted_stream(call)
    return wanted_of(call, call.query, stream)


async def _sheet(call: Call, wanted: Filter | None) -> Flow:
    walk = await _begun(call, wanted)
    return _flow(
        walk, _csv(walk, Sheet(walk.offers, _opener(call))), f"{CSV}; charset=utf-8; header=present"
    )


def _opener(call: Call) -> Opener | None:
    """Return what opens addresses, None without a key; one that another key has stays empty."""
    contacts = call.services.contacts
    if call.services.sealer is None:
        return None

    def opened(sealed: bytes) -> dict[str, str] | None:
        try:
            contact = contacts.opened(sealed)
        except Refused:
            return None
        return {k: v for k, v in msgspec.structs.asdict(contact).items() if v is not None}

    return opened


async def _lines(call: Call, wanted: Filter | None) -> Flow:
    walk = await _begun(call, wanted)
    return _flow(walk, _jsonl(walk), JSON_LINES)


async def _begun(call: Call, wanted: Filter | None) -> Walk:
    """Return the walk over what is wanted; raise `Refused` while too many are under way."""
    # Who is limited to no stream at all gets an export of nothing.
    walk = await begin(call.services.ledger, wanted or Filter(streams=[]))
    if len(_under_way) >= EXPORTS_MAX:
        raise Refused(Code.RETRY, "Too many exports; try again soon.", retry_after_ms=5_000)
    return walk


def _flow(walk: Walk, pieces: AsyncGenerator[bytes, None], kind: str) -> Flow:
    name = "orders.csv" if kind.startswith(CSV) else "orders.jsonl"
    headers = [
        (b"content-type", kind.encode()),
        (b"content-disposition", f'attachment; filename="{name}"'.encode()),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
    ]
    return Flow(headers, _counted(walk, pieces))


async def _counted(walk: Walk, pieces: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """Yield the pieces of an export, which is under way until the last."""
    _under_way.add(walk)
    try:
        async with aclosing(pieces):
            async for piece in pieces:
                if piece:
                    yield piece
    finally:
        _under_way.discard(walk)


async def _csv(walk: Walk, sheet: Sheet) -> AsyncGenerator[bytes, None]:
    yield HEADER
    async with aclosing(walk.lines()) as chunks:
        async for purchases in chunks:
            yield await _written(purchases, sheet.rows)


async def _jsonl(walk: Walk) -> AsyncGenerator[bytes, None]:
    async with aclosing(walk.orders()) as chunks:
        async for orders in chunks:
            yield await _written(orders, _json_of)


def _json_of(orders: Sequence[Order]) -> bytes:
    return _encode_lines([views.order(order) for order in orders])


async def _written(found: Sequence[T], write: Callable[[Sequence[T]], bytes]) -> bytes:
    """Return a chunk as it is sent, made in slices: everybody else has a turn after each."""
    slices = []
    for begin_at in range(0, len(found), SLICE):
        slices.append(write(found[begin_at : begin_at + SLICE]))
        await asyncio.sleep(0)
    return b"".join(slices)


OPERATIONS = (
    Operation(
        method="GET", path="/v1/streams/{id}/orders.csv", handle=of_stream_csv, who="host",
        summary="Export a stream's orders as CSV", query=StreamExportQuery, media=CSV,
        refusals=(Code.NOT_FOUND,),
    ),
    Operation(
        method="GET", path="/v1/streams/{id}/orders.jsonl", handle=of_stream_jsonl, who="host",
        summary="Export a stream's orders as JSON Lines", query=StreamExportQuery,
        media=JSON_LINES, refusals=(Code.NOT_FOUND,),
    ),
    Operation(
        method="GET", path="/v1/orders.csv", handle=of_shop_csv, who="host",
        summary="Export orders as CSV", query=ExportQuery, media=CSV,
    ),
    Operation(
        method="GET", path="/v1/orders.jsonl", handle=of_shop_jsonl, who="host",
        summary="Export orders as JSON Lines", query=ExportQuery, media=JSON_LINES,
    ),
)  # fmt: skip
