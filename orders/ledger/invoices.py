"""What the ledger is asked about invoices: to issue what is missing, and to show what there is.

Owns the call of `issue_invoice` and the mapping of rows; numbers and tax are given in Postgres, in
the transaction that keeps them. Called by routes. Raises `LedgerAway` as the ledger does: whether
anything was issued is then not known, and asking again finds out.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from orders.ledger.ledger import Ledger
from orders.ledger.queries import load

SQL = load("orders.ledger", "sql/invoices.sql")

SERIES = "INV"
CREDIT_SERIES = "CN"


class Invoice(msgspec.Struct, frozen=True, kw_only=True):
    """A document with a number, as it was issued; amounts in minor units of `currency`."""

    number: str
    kind: Literal["invoice", "credit_note"]
    shop: str
    order: str
    issued_at: int  # ms
    currency: str
    amount_minor: int
    tax_minor: int | None
    body: dict[str, Any]


async def issue(ledger: Ledger, order: str, who: str) -> str:
    """Issue what is missing of an order's invoice and credit notes; return the function's word."""
    return await ledger.word("issue_invoice", order, SERIES, CREDIT_SERIES, who)


async def invoices_of(ledger: Ledger, order: str) -> list[Invoice]:
    """Return an order's invoice, if it has one, and its credit notes, oldest first."""
    return [
        Invoice(**(dict(row) | {"body": msgspec.json.decode(row["body"])}))
        for row in await ledger.rows(SQL["invoices_of"], order)
    ]
