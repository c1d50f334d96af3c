"""Stripe's amounts: where its units differ from the minor units of ISO 4217, and both ways.

Owns the table of differences; knows no call. Called by `stripe_words` and `stripe`. Source:
https://docs.stripe.com/currencies ("Minor units in API amounts", "Zero-decimal", "Three-decimal"
and "Special cases"), and for ISK https://support.stripe.com/questions/
deprecation-of-fractional-isk-charges-and-refunds. Whatever is not in the table is counted alike on
both sides: two decimals (TWD and HUF too: only payouts of them are whole), none (JPY, KRW, VND …).
"""

from __future__ import annotations

from orders.payments.port import ProviderRefused

#: ISO 4217: no decimals; Stripe: two, and they must be zeros.
HUNDREDFOLD = frozenset({"ISK", "UGX"})
#: ISO 4217: two decimals (of which five make one); Stripe: none.
HUNDREDTH = frozenset({"MGA"})
#: Three decimals on both sides, and Stripe takes only a zero as the last one.
TENS = frozenset({"BHD", "JOD", "KWD", "OMR", "TND"})


def to_stripe(amount_minor: int, currency: str) -> int:
    """Return Stripe's amount; raise `ProviderRefused` for one that it cannot express."""
    if currency in HUNDREDFOLD:
        return amount_minor * 100
    if currency in HUNDREDTH:
        return _divided(amount_minor, 100, 100, currency)
    if currency in TENS:
        return _divided(amount_minor, 10, 1, currency)
    return amount_minor


def from_stripe(amount: int, currency: str) -> int:
    """Return ISO 4217 minor units; a part of one, which nobody can owe, is cut off."""
    if currency in HUNDREDFOLD:
        return amount // 100
    if currency in HUNDREDTH:
        return amount * 100
    return amount


def _divided(amount_minor: int, multiple: int, by: int, currency: str) -> int:
    if amount_minor % multiple:
        raise ProviderRefused(
            "amount_unsupported",
            f"Stripe takes {currency} in multiples of {multiple} minor units; not {amount_minor}",
        )
    return amount_minor // by
