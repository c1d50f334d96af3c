"""The payment providers that a process is connected to, as settings name them.

Owns the building; whoever is asked is `orders.payments`. Called by `app`.
"""

from __future__ import annotations

from livecart.settings import PaymentSettings, SettingsError
from orders.payments.port import Provider


def connected(settings: PaymentSettings) -> list[Provider]:
    """Return the providers that viewers may pay through, the usual one first."""
    return [_provider(name, settings) for name in settings.names]


def _provider(name: str, settings: PaymentSettings) -> Provider:
    # Only what is asked for is there: Stripe's library is an extra.
    if name == "stripe":
        from orders.payments.stripe import API_BASE, Stripe

        assert settings.stripe_key is not None
        try:
            return Stripe(
                settings.stripe_key,
                settings.stripe_signing_secrets,
                api_base=settings.stripe_url or API_BASE,
            )
        except ImportError as error:
            raise SettingsError(f"LIVECART_PAYMENTS: {error}") from error
    if name == "manual":
        from orders.payments.manual import Manual

        try:
            return Manual(settings.manual_text or "")
        except ValueError as error:
            raise SettingsError(f"LIVECART_MANUAL_TEXT: {error}") from error
    from orders.payments.trial import Trial
    from orders.payments.trial_bank import TrialBank

    assert settings.trial_bank is not None
    return Trial(TrialBank(settings.trial_bank))
