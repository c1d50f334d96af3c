"""Money: what is written is read back, and what is split sums to what was split."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orders.money import (
    TAX_BP_MAX,
    exponent,
    from_decimal,
    shares,
    split_tax,
    split_taxes,
    to_decimal,
)

CURRENCIES = st.sampled_from(["TWD", "USD", "EUR", "JPY", "KRW", "VND", "KWD", "TND", "CLF", "THB"])
AMOUNTS = st.integers(0, 10**15)
TAXES = st.integers(0, TAX_BP_MAX)


@pytest.mark.parametrize(
    ("currency", "digits"),
    [("JPY", 0), ("VND", 0), ("TWD", 2), ("USD", 2), ("KWD", 3), ("BHD", 3), ("CLF", 4)],
)
def test_exponents_are_those_of_iso_4217(currency: str, digits: int) -> None:
    """A currency has as many decimals as the standard says, whatever its people write."""
    assert exponent(currency) == digits


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [
        (1999, "TWD", "19.99"), (5, "USD", "0.05"), (0, "EUR", "0.00"), (1999, "JPY", "1999"),
        (1, "KWD", "0.001"), (12_345, "CLF", "1.2345"), (-5, "USD", "-0.05"), (-7, "JPY", "-7"),
    ],
)  # fmt: skip
def test_amounts_are_written_in_full(amount: int, currency: str, text: str) -> None:
    """An amount has all its currency's decimals, and its sign also where no unit is whole."""
    assert to_decimal(amount, currency) == text


@given(st.integers(-(10**17), 10**17), CURRENCIES)
def test_what_is_written_is_read_back(amount: int, currency: str) -> None:
    """Reading a written amount gives it back, and both agree with exact decimals."""
    text = to_decimal(amount, currency)
    assert from_decimal(text, currency) == amount
    assert Decimal(text) == Decimal(amount).scaleb(-exponent(currency))


@pytest.mark.parametrize(
    ("text", "currency"),
    [
        ("", "USD"), (".5", "USD"), ("1.", "USD"), ("1,50", "USD"), ("1.234", "USD"),
        ("1.0", "JPY"), ("+1", "USD"), (" 1", "USD"), ("1\n", "USD"), ("١", "USD"), ("1e2", "USD"),
        ("--1", "USD"), ("NaN", "USD"),
    ],
)  # fmt: skip
def test_what_is_no_amount_is_refused(text: str, currency: str) -> None:
    """Nothing is guessed or rounded away when an amount is read."""
    with pytest.raises(ValueError, match="not an amount"):
        from_decimal(text, currency)


@given(AMOUNTS, TAXES)
def test_tax_is_that_of_exact_decimals(amount: int, tax_bp: int) -> None:
    """The tax in a price is the exact one rounded half up; with the net price it is the price."""
    taxed = split_tax(amount, tax_bp)
    exact = Decimal(amount) * tax_bp / (10_000 + tax_bp)
    assert abs(Decimal(taxed.tax_minor) - exact) <= Decimal("0.5000001")
    if amount < 10**9:  # else the quotient itself is rounded before
        assert taxed.tax_minor == int(exact.quantize(Decimal(1), ROUND_HALF_UP))
    assert taxed.net_minor + taxed.tax_minor == amount
    assert 0 <= taxed.tax_minor <= amount
    assert split_tax(-amount, tax_bp) == (-taxed.net_minor, -taxed.tax_minor)


@given(st.integers(0, 10**12), st.lists(st.integers(0, 10**9), min_size=1, max_size=20))
def test_shares_sum_to_the_whole(amount: int, weights: list[int]) -> None:
    """No unit is lost or made, and none gets a unit more or less than its part."""
    found = shares(amount, weights)
    total = sum(weights) or len(weights)
    assert sum(found) == amount
    for share, weight in zip(found, weights, strict=True):
        part = amount * (weight if sum(weights) else 1)
        assert part // total <= share <= -(-part // total)


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=20), TAXES)
def test_taxes_of_lines_sum_to_that_of_the_total(amounts: list[int], tax_bp: int) -> None:
    """An invoice's lines sum to its total, tax by tax and net by net."""
    lines = split_taxes(amounts, tax_bp)
    whole = split_tax(sum(amounts), tax_bp)
    assert sum(line.tax_minor for line in lines) == whole.tax_minor
    assert sum(line.net_minor for line in lines) == whole.net_minor
    for line, amount in zip(lines, amounts, strict=True):
        assert line.net_minor + line.tax_minor == amount
        assert abs(line.tax_minor - split_tax(amount, tax_bp).tax_minor) <= 1


@pytest.mark.parametrize(("amount", "weights"), [(1, []), (-1, [1]), (1, [1, -1])])
def test_what_cannot_be_shared_is_refused(amount: int, weights: list[int]) -> None:
    """There is no share of nothing, and none below zero."""
    with pytest.raises(ValueError, match="at least one weight"):
        shares(amount, weights)
