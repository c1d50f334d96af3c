"""Where orders go to: what a buyer says of himself, sealed before it is kept.

Owns the shape of a contact and its sealing; the database has it in no other form, and an order
lives on without it. Called by routes and by exports.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from orders.ledger.money import Money
from orders.sealing import CannotOpen, Sealer
from streams.codes import Code
from streams.ports import Refused
from streams.protocol import LINE, TEXT

Line = Annotated[str, Meta(min_length=1, max_length=200, pattern=LINE)]
# Controls and U+FEFF by name: what `\s` is differs between Python and ECMA-262 in these.
_MAIL = r"[^@\s\x00-\x1f\x7f-\x9f\ufeff]+"
Mail = Annotated[str, Meta(max_length=254, pattern=rf"^{_MAIL}@{_MAIL}\Z")]
Phone = Annotated[str, Meta(max_length=40, pattern=r"^[0-9+()./ -]{3,40}\Z")]
Country = Annotated[str, Meta(pattern=r"^[A-Z]{2}\Z")]


class Contact(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Who gets an order and where; `country` is ISO 3166's two letters."""

    name: Line
    address1: Line
    country: Country
    address2: Line | None = None
    company: Line | None = None
    city: Line | None = None
    zip: Annotated[str, Meta(max_length=20, pattern=LINE)] | None = None
    province: Line | None = None
    email: Mail | None = None
    phone: Phone | None = None
    note: Annotated[str, Meta(max_length=500, pattern=TEXT)] | None = None


class Contacts:
    """Keeps them, where there is a key."""

    def __init__(self, money: Money, sealer: Sealer | None) -> None:
        self._money = money
        self._sealer = sealer

    async def keep(self, orders: Sequence[str], shop: str, contact: Contact) -> None:
        """Keep where orders of a shop go to; the newest counts. Raise `Refused` without a key."""
        sealer = self._keyed()
        plain = msgspec.json.encode(contact)
        for order in orders:  # each sealed anew: nobody sees which orders go to one door
            await self._money.keep_contact(order, shop, sealer.seal(plain))

    async def of(self, order: str) -> Contact | None:
        """Return where an order goes to; None: nobody said, or it was erased."""
        sealed = await self._money.contact(order)
        return None if sealed is None else self.opened(sealed)

    def opened(self, sealed: bytes) -> Contact:
        """Return what was sealed; raise `Refused` when its key is not among ours."""
        try:
            return msgspec.json.decode(self._keyed().open(sealed), type=Contact)
        except CannotOpen as error:
            raise Refused(Code.INTERNAL, "It was sealed with a key that is not set.") from error

    async def erase(self, order: str) -> bool:
        """Forget where an order goes to; tell whether anything was known."""
        return await self._money.erase_contact(order)

    def _keyed(self) -> Sealer:
        if self._sealer is None:
            what = "Addresses are not kept here: LIVECART_DATA_KEY is not set."
            raise Refused(Code.FORBIDDEN, what)
        return self._sealer
