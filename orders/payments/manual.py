"""The provider `manual`: cash, a bank transfer, a promise; the host says when it has come.

Owns the words that tell a buyer how to pay; keeps nothing and calls nobody. Made by `livecart`,
called by `cashier`.

There is no bank to ask, so what the ledger says is all that anybody knows. That means:

- `capture`, `void` and `refund` answer that it is done by hand, of the amount that was named, and
  nothing before it: a second refund does not count the first; the keys in `refunds` tell them
  apart.
- `look` knows the payment's id and no more: it answers `open` with nothing moved, the least there
  is, which changes nothing ("the greatest of each figure").
- `listed` lists nothing: there is nothing to compare the ledger with, and `settle` leaves it out.
- `hear` hears nobody: whatever claims to come from here is not genuine.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

from orders.payments.port import (
    Asked,
    Begun,
    NotGenuine,
    Notice,
    PaymentState,
    ProviderRefused,
    Refunded,
    Seen,
)

PREFIX = "man_"
INSTRUCTIONS_CHARS_MAX = 2_000


class Manual:
    """Has money moved by hand."""

    def __init__(self, instructions: str) -> None:
        """Take the text that buyers read, such as an account's number; raise `ValueError`."""
        if not 0 < len(instructions) <= INSTRUCTIONS_CHARS_MAX:
            raise ValueError(f"instructions are 1 to {INSTRUCTIONS_CHARS_MAX} characters")
        self._instructions = instructions

    @property
    def name(self) -> str:
        """The word that stands in `payments.provider`."""
        return "manual"

    async def begin(self, asked: Asked) -> Begun:
        """Tell the buyer how to pay; nothing is set aside."""
        ref = f"{PREFIX}{asked.payment}.{asked.amount_minor}.{asked.currency}"
        return Begun(seen=_seen(ref, "open"), client={"instructions": self._instructions})

    async def capture(self, ref: str, amount_minor: int, currency: str, key: str) -> Seen:
        """The host has the money."""
        return _seen(ref, "captured", currency, captured_minor=amount_minor)

    async def void(self, ref: str, key: str) -> Seen:
        """The host waits for it no longer."""
        return _seen(ref, "voided")

    async def refund(self, ref: str, amount_minor: int, currency: str, key: str) -> Seen:
        """The host gives this much back, by hand."""
        given_back = Refunded(
            ref=f"{PREFIX}{key}", key=key, amount_minor=amount_minor, state="done"
        )
        return _seen(ref, "captured", currency, amount_minor, amount_minor, (given_back,))

    async def look(self, ref: str) -> Seen:
        """Say the little that is known here."""
        return _seen(ref, "open")

    async def listed(self, since_ms: int) -> AsyncIterator[Seen]:
        """List nothing."""
        nothing: tuple[Seen, ...] = ()
        for seen in nothing:
            yield seen

    def hear(self, headers: Mapping[str, str], body: bytes, now_s: float) -> Notice:
        """Believe nobody."""
        raise NotGenuine("nobody sends notices of payments by hand")

    async def close(self) -> None:
        """There is nothing to let go of."""


def _seen(
    ref: str,
    state: PaymentState,
    currency: str | None = None,
    captured_minor: int = 0,
    refunded_minor: int = 0,
    refunds: tuple[Refunded, ...] = (),
) -> Seen:
    """Read what was asked for out of the reference; check the rest against it."""
    parts = ref.removeprefix(PREFIX).split(".")
    if not ref.startswith(PREFIX) or len(parts) != 3 or not parts[1].isdecimal():
        raise ProviderRefused("not_found", f"no payment {ref}")
    payment, amount, asked_in = parts
    if currency not in (None, asked_in) or not 0 <= captured_minor <= int(amount):
        raise ProviderRefused("amount_differs", f"{ref} is not what was asked for")
    return Seen(
        ref=ref,
        payment=payment,
        state=state,
        amount_minor=int(amount),
        currency=asked_in,
        captured_minor=captured_minor,
        refunded_minor=refunded_minor,
        refunds=refunds,
    )
