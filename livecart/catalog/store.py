"""The catalog in Postgres: streams, products, pins and standings.

Owns their reads and the writes that need no lock; what changes an offer, a pin or a stream's status
is a function of the ledger. Knows no Redis and no sockets. Called by routes, commands, rooms and
the announcer. Raises `LedgerAway` as the ledger does, whose pool it shares.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import msgspec

from livecart import views
from livecart.catalog.search import as_typed, found_by, patterns
from orders.coalesce import Coalesced
from orders.ledger.ledger import Ledger
from orders.ledger.queries import load
from orders.records import Offer, Once
from streams.codes import Code
from streams.ports import Refused, RoomState, Standing
from streams.protocol import Pin, Product, Stream

SQL = load("livecart.catalog", "catalog.sql")
CACHED_MAX = 10_000  # products, and shops of streams
#: Anybody may search, and a search may read all of a shop's products: more at once would have every
#: connection that a newcomer's welcome is read over.
SEARCHES_MAX = 2


T = TypeVar("T")


class PinRow(msgspec.Struct, frozen=True):
    """A pin as its row has it."""

    id: str
    product: str
    offer: str | None = None
    media_at: int | None = None


_stream = msgspec.json.Decoder(Stream)
_pins = msgspec.json.Decoder(list[PinRow])
_offers = msgspec.json.Decoder(list[Offer])


def _key(once: Once | None) -> tuple[str | None, bytes | None]:
    return (None, None) if once is None else (once.key, once.digest)


def _made(word: str, id_: str) -> str:
    """Return the id of what was made, now or by an earlier call with the same key."""
    if word == "key_reused":
        raise Refused(Code.KEY_REUSED)
    return id_


class Catalog:
    """Reads and writes the catalog; keeps what never changes."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._rows = ledger.rows
        self._products: dict[str, Product] = {}  # no call changes a product
        self._shops: dict[str, str] = {}  # nor whose a stream is
        self._shop_reads: Coalesced[str, str] = Coalesced(self._load_shops)
        self._offer_reads: Coalesced[str, Offer] = Coalesced(self._load_offers)
        self._searches = asyncio.Semaphore(SEARCHES_MAX)

    # --- streams ---------------------------------------------------------------------------------

    async def create_stream(
        self,
        id_: str,
        shop: str,
        title: str,
        starts_at: int | None,
        playback_url: str | None,
        language: str | None,
        once: Once | None = None,
    ) -> str:
        """Add a stream, scheduled; return its id, of the one before where its key has one already.

        Raises `Refused` where the key was sent with another body.
        """
        rows = await self._rows(
            SQL["create_stream"], id_, shop, title, starts_at, playback_url, language, *_key(once)
        )
        return _made(*rows[0])

    async def stream(self, id_: str) -> Stream | None:
        """Return a stream as it is now."""
        rows = await self._rows(SQL["streams_by_id"], [id_])
        return Stream(**rows[0]) if rows else None

    async def streams_page(
        self, shop: str | None, status: str | None, before: str | None, limit: int
    ) -> list[Stream]:
        """Return a page of streams, newest first."""
        rows = await self._rows(SQL["streams_page"], shop, status, before, limit)
        return [Stream(**row) for row in rows]

    async def shop_of(self, stream: str) -> str | None:
        """Return whose a stream is, None when there is none."""
        shop = self._shops.get(stream)
        if shop is None:
            shop = await self._shop_reads.get(stream)
            if shop is not None:
                _keep(self._shops, stream, shop)
        return shop

    async def _load_shops(self, ids: Sequence[str]) -> dict[str, str]:
        rows = await self._rows(SQL["streams_by_id"], list(ids))
        return {row["id"]: row["shop"] for row in rows}

    async def newest_live(self) -> str | None:
        """Return the newest stream that is live."""
        rows = await self._rows(SQL["newest_live"])
        return rows[0]["id"] if rows else None

    # --- products --------------------------------------------------------------------------------

    async def create_product(self, product: Product, once: Once | None = None) -> str:
        """Add a product; its id, and what is raised, are as with streams."""
        rows = await self._rows(
            SQL["create_product"], product.id, product.shop, product.sku, product.title,
            product.price_minor, product.currency, product.description, product.image_url,
            product.gtin, product.tax_bp, *_key(once), found_by(product.title, product.sku),
        )  # fmt: skip
        return _made(*rows[0])

    async def products(self, ids: Iterable[str]) -> dict[str, Product]:
        """Return those of the products that exist, by id."""
        wanted = set(ids)
        missing = [id_ for id_ in wanted if id_ not in self._products]
        found = {id_: self._products[id_] for id_ in wanted if id_ in self._products}
        if missing:
            for row in await self._rows(SQL["products_by_id"], missing):
                product = found[row["id"]] = Product(**row)
                _keep(self._products, product.id, product)
        return found

    async def product(self, id_: str) -> Product | None:
        """Return one product."""
        return (await self.products([id_])).get(id_)

    async def products_page(
        self, shop: str | None, before: str | None, limit: int
    ) -> list[Product]:
        """Return a page of products, newest first."""
        rows = await self._rows(SQL["products_page"], shop, before, limit)
        return [Product(**row) for row in rows]

    async def products_found(
        self, shop: str, asked: str, before: str | None, limit: int
    ) -> list[Product]:
        """Return a page of a shop's products with all words of what is asked, newest first.

        Waits for its turn, as long as the caller does.
        """
        async with self._searches:
            rows = await self._rows(
                SQL["products_found"], shop, patterns(asked), before, limit, as_typed(asked)
            )
        return [Product(**row) for row in rows]

    # --- offers and pins, to read ----------------------------------------------------------------

    async def offer(self, id_: str) -> Offer | None:
        """Return an offer as it is now."""
        return await self._offer_reads.get(id_)

    async def _load_offers(self, ids: Sequence[str]) -> dict[str, Offer]:
        found = await self._ledger.offers(ids)
        return {offer.id: offer for offer in found if offer.parent is None}

    async def offers_page(
        self, stream: str, unannounced: bool, before: str | None, limit: int
    ) -> list[Offer]:
        """Return a page of a stream's offers, newest first."""
        rows = await self._rows(SQL["offers_page"], stream, unannounced, before, limit)
        return [Offer(**row) for row in rows]

    async def shows_pin(self, pin: str, stream: str) -> bool:
        """Tell whether a stream shows that pin."""
        return bool(await self._rows(SQL["pin_of_stream"], pin, stream))

    async def room(self, stream: str) -> RoomState | None:
        """Return what a newcomer is shown, and the last fact in it, as of one moment."""
        rows = await self._rows(SQL["room"], stream)
        if not rows:
            return None
        row = rows[0]
        pins = [] if row["pins"] is None else _pins.decode(row["pins"])
        offers = [] if row["offers"] is None else _offers.decode(row["offers"])
        products = await self.products(
            [*(pin.product for pin in pins), *(offer.product for offer in offers)]
        )
        return RoomState(
            stream=_stream.decode(row["stream"]),
            pins=[
                Pin(
                    id=pin.id,
                    product=products[pin.product],
                    position=position,
                    offer=pin.offer,
                    media_at=pin.media_at,
                )
                for position, pin in enumerate(pins)
            ],
            offers=[views.offer(offer, products[offer.product]) for offer in offers],
            fact_n=row["fact_n"] or 0,
        )

    # --- standings -------------------------------------------------------------------------------

    async def standings(self, stream: str, viewers: Sequence[str]) -> dict[str, Standing]:
        """Return the standing of those of the viewers who have one."""
        rows = await self._rows(SQL["standings"], stream, list(viewers))
        return {
            row["viewer"]: Standing(banned=row["banned"], muted_until_ms=row["muted_until_ms"])
            for row in rows
        }

    async def banned(self, stream: str) -> frozenset[str]:
        """Return who is banned from a stream."""
        return frozenset(row["viewer"] for row in await self._rows(SQL["banned"], stream))

    async def slow_chat(self, stream: str, every_s: int) -> None:
        """Let each user speak once in so many seconds; 0: as they like."""
        await self._rows(SQL["slow_chat"], stream, every_s)

    async def note_peaks(self, viewers: Mapping[str, int]) -> None:
        """Keep how many viewers streams have, where that is more than they ever had."""
        await self._rows(SQL["note_peaks"], list(viewers), list(viewers.values()))

    async def mute(self, stream: str, viewer: str) -> None:
        """Mute a viewer until unmuted."""
        await self._rows(SQL["mute"], stream, viewer)

    async def unmute(self, stream: str, viewer: str) -> None:
        """Let a viewer in and speak again, muted or banned."""
        await self._rows(SQL["unmute"], stream, viewer)

    async def ban(self, stream: str, viewer: str) -> None:
        """Keep a viewer out."""
        await self._rows(SQL["ban"], stream, viewer)

    async def schema_files(self) -> frozenset[str]:
        """Return the names of the migrations that were applied."""
        return frozenset(row["name"] for row in await self._rows(SQL["schema_files"]))


def _keep(kept: dict[str, T], key: str, value: T) -> None:
    if len(kept) >= CACHED_MAX:
        del kept[next(iter(kept))]  # the oldest
    kept[key] = value
