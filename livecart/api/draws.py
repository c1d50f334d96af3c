"""Draws over HTTP: what came of one, for everybody; who took part, for those whom it concerns.

The ids of viewers are no public matter: with the seed, scores could be matched with guessed ids, so
neither is listed to others. Entering is `POST /v1/offers/{id}/waitlist`.
"""

from __future__ import annotations

from typing import Any

import msgspec

from livecart.api.bounds import seen_offer
from livecart.api.calls import Call, Page, listing
from livecart.api.operations import Operation
from livecart.api.orders import only_viewer
from livecart.api.waitlist import after
from orders.ledger.draws import draw_entries, draw_of
from streams.codes import Code
from streams.ports import Refused


class Draw(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A draw; hashes, seed and scores in hex, all but the first and `entries` once it is held.

    `threshold` is the highest score that won; who was below it and lost had asked for more units
    than were left.
    """

    offer: str
    seed_hash: str
    entries: int
    seed: str | None = None
    drawn_at: int | None = None
    winners: int | None = None
    units: int | None = None
    threshold: str | None = None


class DrawEntry(msgspec.Struct, kw_only=True):
    """Who took part; `score` is HMAC-SHA256(seed, viewer) in hex, `place` from the lowest, 1."""

    viewer: str
    qty: int
    score: str
    place: int
    won: bool


async def show(call: Call) -> Draw:
    """Show what came of a draw, or its commitment before it is held."""
    offer = await seen_offer(call)
    found = await draw_of(call.services.ledger, offer.id)
    if found is None:
        raise Refused(Code.NOT_FOUND)
    return Draw(**msgspec.structs.asdict(found))


async def listed(call: Call) -> dict[str, Any]:
    """List who took part, lowest score first: a viewer himself, a host everybody."""
    query: Page = call.query
    limit = query.size
    offer = await seen_offer(call)
    viewer = await only_viewer(call, offer)
    found = await draw_entries(call.services.ledger, offer.id, viewer, after(query), limit + 1)
    shown = [DrawEntry(**msgspec.structs.asdict(entry)) for entry in found]
    return listing(found, shown, limit)


_PATH = "/v1/offers/{id}/draw"

OPERATIONS = (
    Operation(
        method="GET", path=_PATH, handle=show, who="anyone",
        summary="Show a draw", result=Draw, refusals=(Code.NOT_FOUND,),
    ),
    Operation(
        method="GET", path=f"{_PATH}/entries", handle=listed, who="member",
        summary="List who took part in a draw", query=Page, result=DrawEntry, listed=True,
        refusals=(Code.NOT_FOUND,),
    ),
)  # fmt: skip
