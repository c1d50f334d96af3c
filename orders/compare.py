"""What is different between an offer's gate and its rows: pure comparisons, name by name (R11).

Owns the kinds of differences and what mends each. Knows no Redis and no SQL: it is given one
reading of the gate, and what the rows explain of it, read afterwards. Called by reconcile alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import msgspec

from orders.ledger.books import Row
from orders.records import Offer
from orders.stock.gate import State
from orders.stock.keys import key_field
from orders.stock.sight import Held, Sight

Kind = Literal[
    "state",  # the gate has none that is whole and of this run of its server
    "epoch",
    "term",  # status, times, quantity or limit
    "left",
    "rank",  # the counter is behind a rank that exists
    "movement",  # not all movements were applied
    "row_without_hold",
    "hold_without_row",
    "hold_of_ended",
    "hold",  # the record is another than the row
    "unmarked",  # the row is there, and the gate was not told
    "key",  # of a row, unbound or bound to another order
    "key_without_row",
    "viewer",  # a viewer's units
    "waiting",  # what is said of unwritten holds, against their records
    "books",  # Postgres alone: its counters against its rows
]
Mend = Literal["follow", "resolve", "rebuild", "none"]


class Difference(msgspec.Struct, frozen=True):
    """One thing that is not the same on both sides."""

    kind: Kind
    subject: str  # an order id, a viewer, the field of a key, or the name of a figure
    redis: str
    postgres: str
    mend: Mend = "rebuild"
    #: What is the same of it at a second look, where figures move with the sale; "": both sides.
    lasting: str = ""

    def __str__(self) -> str:
        sides = (("Redis", self.redis), ("Postgres", self.postgres))
        said = "; ".join(f"{side}: {what}" for side, what in sides if what)
        return f"{self.kind.replace('_', ' ')}: {self.subject}" + (f" ({said})" if said else "")

    @property
    def identity(self) -> tuple[str, ...]:
        """Two looks saw the same when this is the same."""
        if self.lasting:
            return (self.kind, self.subject, self.lasting)
        return (self.kind, self.subject, self.redis, self.postgres)


def terms(sight: Sight, offer: Offer) -> list[Difference]:
    """Compare what the gate was told of the offer; only while no movement is on its way."""
    state = State.of(offer)
    pairs: list[tuple[str, object, object]] = [
        ("status", _selling(sight.status), _selling(state.status)),
        ("live", sight.live, state.live),
        ("opens_at", sight.opens_ms, state.opens_ms),
        ("closes_at", sight.closes_ms, state.closes_ms),
        ("quantity", sight.quantity, state.quantity),
        ("per_viewer", sight.per_viewer, state.per_viewer),
    ]
    return [
        Difference("term", name, str(has), str(says)) for name, has, says in pairs if has != says
    ]


def _selling(status: str) -> str:
    """Return a status as the gate needs it: it counts the units itself."""
    return "open" if status == "sold_out" else status


def counters(sight: Sight, offer: Offer, floor: int, quantity: int, named: int) -> list[Difference]:
    """Compare the gate's counters with what rows, read afterwards, explain of them."""
    found: list[Difference] = []
    if sight.movement != offer.last_movement:
        behind = sight.movement < offer.last_movement
        found.append(
            Difference(
                "movement", "last applied", str(sight.movement), str(offer.last_movement),
                "follow" if behind else "rebuild", lasting=str(sight.movement),
            )
        )  # fmt: skip
    if sight.rank < floor:
        found.append(Difference("rank", "last given", str(sight.rank), f"at least {floor}"))
    if sight.unwritten is not None and sight.left != quantity - named:
        drift = sight.left - (quantity - named)
        found.append(
            Difference(
                "left", "left", str(sight.left), str(quantity - named), lasting=f"{drift:+d}"
            )
        )
    return found


def waiting(sight: Sight) -> list[Difference]:
    """Compare what the gate says of its unwritten holds with their records."""
    if sight.unwritten is None:
        return []
    found, per_viewer = [], dict.fromkeys(sight.unwritten.waiting, 0)
    for id_, held in sight.unwritten.holds.items():
        if held is None:
            found.append(Difference("waiting", id_, "unwritten, and no hold", "nothing"))
        else:
            viewer = viewer_of(held.field)
            per_viewer[viewer] = per_viewer.get(viewer, 0) + 1
    for viewer, n in per_viewer.items():
        said = sight.unwritten.waiting.get(viewer, 0)
        if said != n:
            found.append(
                Difference("waiting", viewer, f"{said} unwritten", f"{n} by their records")
            )
    return found


def rows(
    page: Sequence[Row], sight: Sight, expected: set[str], coming: set[str]
) -> list[Difference]:
    """Compare a page of orders with what the gate has under their ids and keys, in that order.

    `coming`: orders that a movement which the gate lacks will bring to it.
    """
    found = []
    for (id_, viewer, key, qty, rank), held, since, bound in zip(
        page, sight.holds, sight.unwritten_since, sight.bound, strict=True
    ):
        field = key_field(viewer, key)
        if id_ in coming:
            continue
        if bound != id_:
            says = f"the key {_plain(field)}"
            found.append(Difference("key", id_, f"bound to {bound or 'nothing'}", says))
        row = Held(rank, qty, field)
        if held is None:
            if id_ in expected:
                found.append(Difference("row_without_hold", id_, "no hold", _text(row)))
        elif id_ not in expected:
            found.append(Difference("hold_of_ended", id_, _text(held), "ended"))
        # An adopted hold has a later rank than the row that its first admission made.
        elif (held.qty, held.field) != (qty, field) or held.rank < rank:
            found.append(Difference("hold", id_, _text(held), _text(row)))
        elif since is not None:
            found.append(Difference("unmarked", id_, "unwritten", _text(row), "resolve"))
    return found


def holds(ids: Sequence[str], sight: Sight, with_rows: set[str]) -> list[Difference]:
    """Find the holds that no row has; one that is unwritten is resolved behind the fence (R1)."""
    found = []
    for id_, held, since in zip(ids, sight.holds, sight.unwritten_since, strict=True):
        if held is not None and id_ not in with_rows:
            mend: Mend = "rebuild" if since is None else "resolve"
            found.append(Difference("hold_without_row", id_, _text(held), "no row", mend))
    return found


def keys(bound: Mapping[str, str], sight: Sight, with_rows: set[str]) -> list[Difference]:
    """Find the keys that are bound to an order with neither row nor hold; sight: of these keys."""
    found = []
    for (field, id_), held, now in zip(bound.items(), sight.holds, sight.bound, strict=True):
        if now == id_ and held is None and id_ not in with_rows:
            found.append(Difference("key_without_row", field, id_, "no row"))
    return found


def viewers(names: Iterable[str], sight: Sight, expected: Mapping[str, int]) -> list[Difference]:
    """Compare viewers' units; who has a hold on its way to a row is left for another time."""
    found = []
    for viewer, units, waits in zip(names, sight.units, sight.waits, strict=True):
        has, should = units or 0, expected.get(viewer, 0)
        if not waits and has != should:
            found.append(
                Difference("viewer", viewer, str(has), str(should), lasting=f"{has - should:+d}")
            )
    return found


def viewer_of(field: str) -> str:
    """Return the viewer of a key field."""
    length, _, rest = field.partition(":")
    if not length.isdecimal():
        return field
    return rest.encode()[: int(length)].decode(errors="replace")


def _plain(field: str) -> str:
    viewer = viewer_of(field)
    return f"{viewer} {field.partition(':')[2][len(viewer) :]}"


def _text(held: Held) -> str:
    return f"rank {held.rank}, {held.qty} of {_plain(held.field)}"
