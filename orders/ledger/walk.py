"""The walk over orders that an export makes, a chunk at a time.

Owns the order of the walk (offer by offer, by rank, neither of which ever changes), what belongs to
it (all that had been admitted when it began), and the reading ahead. No transaction is open between
two chunks, so a slow reader holds nothing: each order is as it was when its chunk was read. Knows
no format. Called by `livecart`. Raises `LedgerAway` where a chunk cannot be had for a while.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterator
from contextlib import aclosing
from typing import NamedTuple, TypeVar

import asyncpg
import msgspec

from orders.ledger.ledger import Ledger, LedgerAway
from orders.ledger.lists import Filter
from orders.records import Order, OrderStatus

CHUNK = 500  # orders: encoding them takes milliseconds, and others share this process
SEARCH = 2_000  # orders looked at in one statement where most are not wanted
TRIES = 5  # for a chunk, TRY_AGAIN_S apart
TRY_AGAIN_S = 0.5

#: The filter of single orders, as the functions take it; times as the wire rounds them.
_FILTER = (
    "$1::smallint[], $2::text, from_ms($3) - interval '500 us', from_ms($4) - interval '500 us',"
    " $5::text"
)

T = TypeVar("T")
_Read = tuple[int, int, T]  # how many orders were looked at, the rank of the last, what was found


class Walked(msgspec.Struct, frozen=True, kw_only=True):
    """An offer on the way, with what its product and shop are called."""

    offer: str
    stream: str
    shop: str
    product: str
    sku: str
    title: str
    currency: str
    tax_bp: int | None
    payment: str
    orders: int
    upto: int  # the highest rank that belongs to the walk


class Line(NamedTuple):
    """An order as `walk_lines` tells of it; times in seconds, amounts in its offer's currency."""

    id: str
    offer: str
    bundle: str | None
    viewer: str
    qty: int
    unit_price_minor: int
    status: OrderStatus
    reserved_s: int
    expires_s: int | None
    captured_s: int | None
    shipped_s: int | None
    ended_s: int | None
    refunded_minor: int
    carrier: str | None
    tracking: str | None
    provider: str | None
    ref: str | None
    payment: str | None
    invoice: str | None
    sealed: bytes | None


class _Part(NamedTuple):
    """Offers that are looked at together: a large one alone, or several with few orders."""

    offers: list[str]
    past: list[int]
    upto: list[int]


class Walk:
    """One export's way; iterate over `lines` or `orders` once."""

    def __init__(self, ledger: Ledger, wanted: Filter, offers: Collection[Walked]) -> None:
        self.offers = {offer.offer: offer for offer in offers}
        self._ledger = ledger
        self._row_filter = (
            wanted.shelves if len(wanted.shelves) < len(Filter().shelves) else None,
            wanted.viewer, wanted.since, wanted.until, wanted.sought,
        )  # fmt: skip
        self._sparse = any(value is not None for value in self._row_filter)
        by_offer = wanted.offer is not None or wanted.product is not None
        self._among = list(self.offers) if by_offer else None

    async def lines(self) -> AsyncGenerator[list[list[Line]], None]:
        """Yield chunks of purchases: an order, or those of a bundle in one currency."""
        async with aclosing(_ahead(self._chunks(self._lines))) as chunks:
            async for chunk in chunks:
                yield chunk

    async def orders(self) -> AsyncGenerator[list[Order], None]:
        """Yield chunks of orders."""
        async with aclosing(_ahead(self._chunks(self._rows))) as chunks:
            async for chunk in chunks:  # made here, while Postgres is at work on the next
                names = list(chunk[0].keys()) if chunk else []
                yield [Order(**dict(zip(names[2:], row[2:], strict=True))) for row in chunk]

    async def _chunks(
        self, read: Callable[[_Part, int], Awaitable[_Read[T]]]
    ) -> AsyncGenerator[T, None]:
        """Yield what is read, chunk by chunk, in the walk's order."""
        for part in _parts(self.offers.values()):
            past, limit = part.past, SEARCH if self._sparse else CHUNK
            while True:
                scanned, last_rank, found = await read(part._replace(past=past), limit)
                yield found
                if len(part.offers) > 1 or scanned < limit:
                    break
                past = [last_rank]

    async def _lines(self, part: _Part, limit: int) -> _Read[list[list[Line]]]:
        rows = await _patiently(
            self._ledger.rows,
            f"select * from walk_lines($6, $7, $8, $9, {_FILTER}, $10)",
            *self._row_filter, *part, limit, self._among,
        )  # fmt: skip
        purchases: list[list[Line]] = []
        bundled: dict[tuple[str, str], list[Line]] = {}
        for row in rows:
            line = Line._make(row[2:])
            if line.bundle is None:
                purchases.append([line])
                continue
            bundle = line.bundle, self.offers[line.offer].currency
            if bundle not in bundled:
                purchases.append(bundled.setdefault(bundle, []))
            bundled[bundle].append(line)
        if rows[0]["id"] is None:  # nothing was found
            purchases = []
        return rows[0]["scanned"], rows[0]["last_rank"], purchases

    async def _rows(self, part: _Part, limit: int) -> _Read[list[asyncpg.Record]]:
        rows = await _patiently(
            self._ledger.rows,
            f"select * from walk_rows($6, $7, $8, $9, {_FILTER})",
            *self._row_filter, *part, limit,
        )  # fmt: skip
        found = rows if rows[0]["id"] is not None else []
        return rows[0]["scanned"], rows[0]["last_rank"], found


async def begin(ledger: Ledger, wanted: Filter) -> Walk:
    """Return the walk over all orders that are there now and are wanted."""
    rows = await ledger.rows(
        "select * from offers_to_walk($1, $2, $3, $4)",
        wanted.shop,
        None if wanted.streams is None else list(wanted.streams),
        wanted.offer,
        wanted.product,
    )
    return Walk(ledger, wanted, [Walked(**row) for row in rows])


def _parts(offers: Collection[Walked]) -> Iterator[_Part]:
    """Put offers together that have few orders: a statement for each would take longer."""
    small: list[Walked] = []
    for offer in offers:
        if small and sum(o.orders for o in small) + offer.orders > CHUNK:
            yield _part(small)
            small = []
        if offer.orders > CHUNK:
            yield _part([offer])
        else:
            small.append(offer)
    if small:
        yield _part(small)


def _part(offers: list[Walked]) -> _Part:
    return _Part([o.offer for o in offers], [0] * len(offers), [o.upto for o in offers])


async def _ahead(chunks: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
    """Yield all chunks; the next one is on its way meanwhile."""

    async def following() -> T | None:
        return await anext(chunks, None)

    coming = asyncio.create_task(following())
    try:
        while (found := await coming) is not None:
            coming = asyncio.create_task(following())
            yield found
    finally:
        coming.cancel()
        await asyncio.wait({coming})
        if not coming.cancelled():
            coming.exception()  # nobody waits for it any more
        await chunks.aclose()


async def _patiently(ask: Callable[..., Awaitable[T]], *args: object) -> T:
    """Return an answer of Postgres, asked again for a while when it is away."""
    for _ in range(TRIES - 1):
        try:
            return await ask(*args)
        except LedgerAway:
            await asyncio.sleep(TRY_AGAIN_S)
    return await ask(*args)
