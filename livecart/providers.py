"""The payment providers that a process is connected to, as settings name them.

Owns the building; whoever is asked is `orders.payments`. Called by `app`.
"""

from __future__ import annotations

import msgspec

from orders.payments.port import Provider


class PaymentSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Through whom viewers may pay, and what that takes."""

    names: tuple[str, ...] = ()
    stripe_key: str | None = None
    stripe_signing_secrets: tuple[str, ...] = ()
    stripe_url: str | None = None
    stripe_publishable_key: str | None = None
    manual_text: str | None = None
    trial_bank: str | None = None

    def __repr__(self) -> str:
        return "PaymentSettings(…)"  # keys must not get into a log by way of a traceback


def connected(settings: PaymentSettings) -> list[Provider]:
    """Return the providers that viewers may pay through, the usual one first."""
    return [_provider(name, settings) for name in settings.names]


def _provider(name: str, settings: PaymentSettings) -> Provider:
    raise NotImplementedError(name)
