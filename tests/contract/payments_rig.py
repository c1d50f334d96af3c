"""Each provider with a bank behind it, and what the buyer and the bank's clerk do there.

Used by the contract tests of the payment port: `trial` on a file, `stripe` (by Stripe's own
library) on localstripe in a process of its own.
"""

from __future__ import annotations

import asyncio
import secrets
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import stripe

from orders.payments.port import Asked, Provider, Seen
from orders.payments.stripe import Stripe
from orders.payments.trial import Trial
from orders.payments.trial_bank import TrialBank

HERE = Path(__file__).with_name("localstripe_here.py")
WAIT_S = 30.0
CARD = "4242424242424242"
CARD_DECLINED = "4000000000000341"  # localstripe: when it is charged


class Bank(Protocol):
    """The other side of a provider."""

    provider: Provider

    async def authorise(self, ref: str) -> None:
        """The buyer authorises what was asked for."""

    async def decline(self, ref: str) -> None:
        """The buyer's card is declined."""

    async def refund_by_hand(self, ref: str, amount_minor: int) -> None:
        """The clerk refunds, past us."""

    async def close(self) -> None:
        """Let go of it."""


class AtTrial:
    """The trial bank."""

    def __init__(self, path: Path) -> None:
        self.bank = TrialBank(path)
        self.provider: Provider = Trial(self.bank)

    async def authorise(self, ref: str) -> None:
        """Authorise at the bank."""
        self.bank.authorise(ref)

    async def decline(self, ref: str) -> None:
        """Have it declined."""
        self.bank.decline(ref)

    async def refund_by_hand(self, ref: str, amount_minor: int) -> None:
        """Refund without a key."""
        self.bank.refund_by_hand(ref, amount_minor)

    async def close(self) -> None:
        """There is nothing to close."""
        await self.provider.close()


class AtLocalstripe:
    """localstripe, and a buyer who uses Stripe's library too."""

    def __init__(self, api_base: str, signing_secrets: Sequence[str] = ()) -> None:
        key = f"sk_test_{secrets.token_hex(12)}"
        self.provider: Provider = Stripe(key, signing_secrets, api_base=api_base, timeout_s=WAIT_S)
        self._http = stripe.HTTPXClient(timeout=WAIT_S)
        self._buyer = stripe.StripeClient(
            f"sk_test_{secrets.token_hex(12)}",
            base_addresses={"api": api_base},
            http_client=self._http,
        )

    async def _pay(self, ref: str, number: str) -> None:
        card: stripe.params.PaymentMethodCreateParamsCard = {
            "number": number, "exp_month": 12, "exp_year": 2040, "cvc": "123",
        }  # fmt: skip
        method = await self._buyer.v1.payment_methods.create_async({"type": "card", "card": card})
        await self._buyer.v1.payment_intents.update_async(ref, {"payment_method": method.id})
        await self._buyer.v1.payment_intents.confirm_async(ref)

    async def authorise(self, ref: str) -> None:
        """Pay with a card that is good."""
        await self._pay(ref, CARD)

    async def decline(self, ref: str) -> None:
        """Pay with a card that is not."""
        try:
            await self._pay(ref, CARD_DECLINED)
        except stripe.CardError:
            return
        raise AssertionError("the card was not declined")

    async def refund_by_hand(self, ref: str, amount_minor: int) -> None:
        """Refund as one does in the dashboard."""
        await self._buyer.v1.refunds.create_async({"payment_intent": ref, "amount": amount_minor})

    async def close(self) -> None:
        """Close both sides' connections."""
        await self.provider.close()
        await self._http.close_async()  # type: ignore[no-untyped-call]


@contextmanager
def localstripe() -> Iterator[str]:
    """Run localstripe; yield its address."""
    command = [sys.executable, str(HERE)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            port = process.stdout.readline().strip()
            assert port, "localstripe did not start"
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def asked(amount_minor: int = 29_900, currency: str = "TWD", payment: str | None = None) -> Asked:
    """Return a payment to begin, with an id that no other has."""
    return Asked(
        payment=payment or f"pay_{secrets.token_hex(8)}",
        amount_minor=amount_minor,
        currency=currency,
        shop="shop-1",
        viewer="viewer-1",
        orders=("or_1", "or_2"),
        about="two cups",
    )


async def authorised(bank: Bank, amount_minor: int = 29_900, currency: str = "TWD") -> Seen:
    """Begin a payment and have the buyer authorise it."""
    begun = await bank.provider.begin(asked(amount_minor, currency))
    await bank.authorise(begun.seen.ref)
    return await bank.provider.look(begun.seen.ref)


async def captured(bank: Bank, amount_minor: int = 29_900) -> Seen:
    """Have a payment captured whole."""
    ref = (await authorised(bank, amount_minor)).ref
    return await bank.provider.capture(ref, amount_minor, "TWD", f"{ref}.capture")


async def every(bank: Bank, since_ms: int) -> list[Seen]:
    """Return the whole list."""
    async with asyncio.timeout(WAIT_S):
        return [seen async for seen in bank.provider.listed(since_ms)]
