"""What sales sum to: a stream's figures, and the folding of their steps (migration 0013).

Owns the mapping of rows; what is counted, and when, is for triggers in Postgres. Called by routes
and by the keeper. Raises `LedgerAway` as the ledger does.
"""

from __future__ import annotations

from typing import cast

import asyncpg
import msgspec

from orders.ledger.ledger import Ledger

FOLD_MAX = 10_000  # steps folded in one transaction


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """Sums over orders of one currency; amounts in its minor units."""

    currency: str
    orders: int  # admitted, whatever became of them,
    ended: int  # of which expired, cancelled or refunded;
    unpaid: int  # of those that live, how many whose money has not moved
    units: int  # of those that live
    captured_minor: int  # amounts of orders whose money has moved,
    refunded_minor: int  # what of that went back, or is on its way;
    unpaid_minor: int  # what the unpaid ones are to be paid with


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """A stream's sales; a currency, product or minute without an order is not there."""

    totals: list[Figures]  # by currency
    products: list[tuple[str, Figures]]
    minutes: list[tuple[int, Figures]]  # ms at which a minute began, in which orders were admitted


async def summary(ledger: Ledger, stream: str) -> Summary:
    """Return the sums of a stream as of one moment, the newest minutes first."""
    totals: list[Figures] = []
    products: list[tuple[str, Figures]] = []
    minutes: list[tuple[int, Figures]] = []
    for row in await ledger.rows("select * from sales_of($1)", stream):
        figures = _figures(row)
        if row["product"] is not None:
            products.append((row["product"], figures))
        elif row["minute"] is not None:
            minutes.append((round(row["minute"].timestamp()) * 1000, figures))
        else:
            totals.append(figures)
    return Summary(totals=totals, products=products, minutes=minutes)


def _figures(row: asyncpg.Record) -> Figures:
    return Figures(
        currency=row["currency"],
        orders=row["orders"],
        ended=row["ended"],
        unpaid=row["unpaid"],
        units=row["units"],
        captured_minor=row["captured_minor"],
        refunded_minor=row["refunded_minor"],
        unpaid_minor=row["unpaid_minor"],
    )


async def fold(ledger: Ledger) -> bool:
    """Add steps to the sums that they change; tell whether there are more of them."""
    rows = await ledger.rows("select fold_sales($1)", FOLD_MAX)
    return cast(int, rows[0][0]) == FOLD_MAX
