"""Payments by hand: what is answered where nobody can be asked."""

from __future__ import annotations

import pytest

from orders.payments.manual import Manual
from orders.payments.port import NotGenuine, ProviderRefused
from tests.contract.payments_rig import asked


@pytest.fixture
def manual() -> Manual:
    """A shop that takes transfers."""
    return Manual("To account 12-345, with the order's number.")


async def test_by_hand(manual: Manual) -> None:
    """The buyer reads how to pay; what the host did is answered as done."""
    begun = await manual.begin(asked(1_000, payment="pay_1"))
    assert begun.client == {"instructions": "To account 12-345, with the order's number."}
    assert (begun.seen.payment, begun.seen.state, begun.seen.amount_minor) == (
        "pay_1", "open", 1_000,
    )  # fmt: skip
    ref = begun.seen.ref
    captured = await manual.capture(ref, 1_000, "TWD", "k1")
    assert (captured.state, captured.captured_minor) == ("captured", 1_000)
    refunded = await manual.refund(ref, 400, "TWD", "r1")
    assert (refunded.refunded_minor, refunded.refunds[0].key) == (400, "r1")
    assert (await manual.void(ref, "v1")).state == "voided"


async def test_begun_again(manual: Manual) -> None:
    """The same payment has the same reference, without anything being kept."""
    wanted = asked(1_000)
    assert (await manual.begin(wanted)).seen == (await manual.begin(wanted)).seen


async def test_nothing_is_known_here(manual: Manual) -> None:
    """To look says the least there is; nothing is listed; no notice is believed."""
    ref = (await manual.begin(asked(1_000))).seen.ref
    await manual.capture(ref, 1_000, "TWD", "k1")
    seen = await manual.look(ref)
    assert (seen.state, seen.captured_minor) == ("open", 0)
    assert [seen async for seen in manual.listed(0)] == []
    with pytest.raises(NotGenuine):
        manual.hear({}, b"{}", 0.0)


@pytest.mark.parametrize(("amount", "currency"), [(1_001, "TWD"), (1_000, "USD")])
async def test_something_else(manual: Manual, amount: int, currency: str) -> None:
    """More than was asked for, or another currency, is refused by hand too."""
    ref = (await manual.begin(asked(1_000))).seen.ref
    with pytest.raises(ProviderRefused) as refused:
        await manual.capture(ref, amount, currency, "k1")
    assert refused.value.code == "amount_differs"


@pytest.mark.parametrize("ref", ["", "pi_1", "man_", "man_x.y.TWD", "man_pay_1.5"])
async def test_not_ours(manual: Manual, ref: str) -> None:
    """A reference that was not made here is refused."""
    with pytest.raises(ProviderRefused):
        await manual.look(ref)


@pytest.mark.parametrize("text", ["", "x" * 2_001])
def test_instructions(text: str) -> None:
    """A buyer must be told something, and not a book."""
    with pytest.raises(ValueError, match="instructions"):
        Manual(text)
