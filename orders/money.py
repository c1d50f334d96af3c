"""Amounts of money: minor units as integers, their decimal form, and the tax that is in a price.

Owns the exponents of currencies (ISO 4217, table A.1 as of 2026-01-01) and the rounding of tax:
half up, once an amount, so that what is split always sums to what was split. Pure; floats and
locales are unknown here. Called by views, exports and invoices.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

#: Digits after the decimal point; every other currency of the standard has two.
_BY_EXPONENT = {
    0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
    3: "BHD IQD JOD KWD LYD OMR TND",
    4: "CLF UYW",
}
_EXPONENTS = {
    currency: digits for digits, these in _BY_EXPONENT.items() for currency in these.split()
}
TAX_BP_MAX = 10_000  # a tax as high as the net price

_DECIMAL = re.compile(r"(?P<minus>-?)(?P<whole>[0-9]{1,18})(?:\.(?P<part>[0-9]{1,4}))?\Z", re.ASCII)


class Taxed(NamedTuple):
    """An amount as its two parts; `net_minor + tax_minor` is the amount."""

    net_minor: int
    tax_minor: int


def exponent(currency: str) -> int:
    """Return how many digits of a currency's minor unit stand after the decimal point."""
    return _EXPONENTS.get(currency, 2)


def to_decimal(amount_minor: int, currency: str) -> str:
    """Return an amount with exactly the currency's decimals: `19.99`, `1999` in yen, `-0.05`."""
    digits = exponent(currency)
    if not digits:
        return str(amount_minor)
    whole, part = divmod(abs(amount_minor), 10**digits)
    return f"{'-' if amount_minor < 0 else ''}{whole}.{part:0{digits}d}"


def from_decimal(text: str, currency: str) -> int:
    """Return the minor units of a decimal amount; raise ValueError where it is not one.

    Fewer decimals than the currency has are taken, more are not: nothing is rounded.
    """
    found = _DECIMAL.match(text)
    digits = exponent(currency)
    part = (found["part"] or "") if found else ""
    if found is None or len(part) > digits:
        raise ValueError(f"not an amount of {currency}")
    amount: int = int(found["whole"]) * 10**digits + int(part.ljust(digits, "0") or "0")
    return -amount if found["minus"] else amount


def split_tax(amount_minor: int, tax_bp: int) -> Taxed:
    """Split an amount that has its tax in it; `tax_bp` hundredths of a percent of the net price.

    The tax is rounded half up, the net price is the rest. Amounts below zero are what is given
    back: they split as what they give back does. `issue_invoice` in Postgres rounds alike.
    """
    amount = abs(amount_minor)
    tax = (2 * amount * tax_bp + 10_000 + tax_bp) // (2 * (10_000 + tax_bp))
    if amount_minor < 0:
        return Taxed(tax - amount, -tax)
    return Taxed(amount - tax, tax)


def shares(amount_minor: int, weights: Sequence[int]) -> list[int]:
    """Split an amount by weights that are not below zero; the shares sum to it exactly.

    Each gets its part rounded down, and the units that are left go one each to the largest
    remainders, the first of equal ones first. Where all weights are 0 they count as equal. Raise
    ValueError without weights, or where an amount or a weight is below zero.
    """
    if not weights or amount_minor < 0 or min(weights) < 0:
        raise ValueError("an amount is split by at least one weight, none of these below zero")
    total = sum(weights)
    if not total:
        weights, total = [1] * len(weights), len(weights)
    found = [amount_minor * weight // total for weight in weights]
    by_remainder = sorted(
        range(len(weights)), key=lambda place: -(amount_minor * weights[place] % total)
    )
    for place in by_remainder[: amount_minor - sum(found)]:
        found[place] += 1
    return found


def split_taxes(amounts_minor: Sequence[int], tax_bp: int) -> list[Taxed]:
    """Split lines of one tax so that their taxes sum to that of their total.

    The tax of the total is shared out by amount, largest remainder first.
    """
    tax = split_tax(sum(amounts_minor), tax_bp).tax_minor
    parts = shares(tax, amounts_minor)
    return [Taxed(amount - part, part) for amount, part in zip(amounts_minor, parts, strict=True)]
