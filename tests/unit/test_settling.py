"""Settling: every difference between our payments and the provider's is found, and no other."""

from __future__ import annotations

import tracemalloc
from collections.abc import AsyncIterator, Iterable
from typing import TypeVar

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from orders.payments import settling
from orders.payments.port import PaymentState, Refunded, Seen
from orders.payments.settling import (
    Difference,
    Kind,
    OutOfOrder,
    Row,
    in_order,
    settle,
)

T = TypeVar("T")


def row(payment: str = "pay_1", ref: str | None = "pi_1", **more: object) -> Row:
    """A captured payment of ours."""
    fields = {
        "payment": payment, "ref": ref, "state": "captured", "amount_minor": 1_000,
        "currency": "TWD", "captured_minor": 1_000, "refunded_minor": 0,
    }  # fmt: skip
    return msgspec.convert(fields | more, type=Row)


def seen(payment: str | None = "pay_1", ref: str = "pi_1", **more: object) -> Seen:
    """The same as the provider tells it."""
    fields = {
        "payment": payment, "ref": ref, "state": "captured", "amount_minor": 1_000,
        "currency": "TWD", "captured_minor": 1_000, "refunded_minor": 0,
    }  # fmt: skip
    return msgspec.convert(fields | more, type=Seen)


async def one_by_one(items: Iterable[T]) -> AsyncIterator[T]:
    """Give items as a list from afar would."""
    for item in items:
        yield item


async def differences(ours: Iterable[Row], theirs: Iterable[Seen]) -> list[Difference]:
    """Settle what is given, theirs in any order."""
    walk = settle(one_by_one(ours), in_order(one_by_one(theirs)))
    return [difference async for difference in walk]


async def test_nothing_to_say() -> None:
    """Two sides that agree have no difference, in whatever order the provider lists."""
    ours = [row(f"pay_{n}", f"pi_{n}") for n in range(5)]
    theirs = [seen(f"pay_{n}", f"pi_{n}") for n in (3, 0, 4, 2, 1)]
    assert await differences(ours, theirs) == []
    assert await differences([], []) == []


@pytest.mark.parametrize(
    ("kind", "field", "there"),
    [
        ("amount", "amount_minor", 1_001),
        ("currency", "currency", "USD"),
        ("captured", "captured_minor", 999),
        ("refunded", "refunded_minor", 300),
        ("state", "state", "authorised"),
        ("disputed", "disputed", True),
    ],
)
async def test_each_figure(kind: Kind, field: str, there: object) -> None:
    """Each figure and word that differs is told with what both sides say."""
    found = await differences([row()], [replace(seen(), **{field: there})])
    ours = getattr(row(), field)
    assert found == [
        Difference(kind=kind, payment="pay_1", ref="pi_1", ours=ours, theirs=there)  # type: ignore[arg-type]
    ]


async def test_one_side_alone() -> None:
    """A payment that one side does not have is told, before, between and after the others."""
    ours = [row("pay_2", "pi_2"), row("pay_4", "pi_4"), row("pay_6", "pi_6")]
    theirs = [seen("pay_1", "pi_1"), seen("pay_4", "pi_4"), seen("pay_5", "pi_5")]
    found = [(d.kind, d.payment, d.ref) for d in await differences(ours, theirs)]
    assert found == [
        ("missing_here", "pay_1", "pi_1"),
        ("missing_there", "pay_2", "pi_2"),
        ("missing_here", "pay_5", "pi_5"),
        ("missing_there", "pay_6", "pi_6"),
    ]


async def test_what_was_never_begun_there_is_not_missing() -> None:
    """A payment whose begin never came through is no difference, unless money stands in it."""
    open_row = row(ref=None, state="open", captured_minor=0)
    assert await differences([open_row], []) == []
    assert [d.kind for d in await differences([row(ref=None)], [])] == ["missing_there"]


async def test_foreign_and_twice() -> None:
    """Others' payments, a second one under our id, and a reference we do not know are told."""
    found = await differences(
        [row("pay_1", "pi_1"), row("pay_2", "pi_2")],
        [
            seen(None, "pi_9"),
            seen("pay_1", "pi_1"),
            seen("pay_1", "pi_3", state="authorised"),
            seen("pay_2", "pi_4"),
            seen(None, "pi_8"),
        ],
    )
    assert [(d.kind, d.payment, d.ref) for d in found] == [
        ("foreign", None, "pi_8"),
        ("foreign", None, "pi_9"),
        ("twice", "pay_1", "pi_3"),
        ("ref", "pay_2", "pi_4"),
    ]


@pytest.mark.parametrize(("here", "there"), [("failed", "voided"), ("voided", "failed")])
async def test_ended_is_ended(here: PaymentState, there: PaymentState) -> None:
    """Which of the two ends without money it was is no difference."""
    ours, theirs = row(state=here, captured_minor=0), seen(state=there, captured_minor=0)
    assert await differences([ours], [theirs]) == []


async def test_listed_twice() -> None:
    """What a provider lists twice, as pages move on, counts once: as it was told last."""
    theirs = [seen(captured_minor=0, state="authorised"), seen()]
    assert await differences([row()], theirs) == []


async def test_out_of_order() -> None:
    """A list out of order is an error, and not a report of differences that are none."""
    with pytest.raises(OutOfOrder):
        await differences([row("pay_2"), row("pay_1")], [])
    with pytest.raises(OutOfOrder):
        await differences([row("pay_1"), row("pay_1")], [])
    wrong = one_by_one([seen("pay_2"), seen("pay_1")])
    with pytest.raises(OutOfOrder):
        assert [d async for d in settle(one_by_one([]), wrong)]


async def test_all_of_it_survives_the_sorting() -> None:
    """What is sorted in the file comes out as it went in."""
    refunds = (Refunded(ref="re_1", key="k", amount_minor=5, state="pending"),)
    one = replace(seen(refunded_minor=5), refunds=refunds, at_ms=7, disputed=True)
    assert [found async for found in in_order(one_by_one([one]))] == [one]


_IDS = st.sampled_from([f"pay_{n}" for n in range(6)])
_MONEY = st.sampled_from([0, 500, 1_000])


@settings(max_examples=50)
@given(
    st.dictionaries(_IDS, _MONEY),
    st.lists(st.tuples(_IDS, _MONEY), unique_by=lambda pair: pair[0]),
)
async def test_against_a_plain_table(ours: dict[str, int], theirs: list[tuple[str, int]]) -> None:
    """The walk finds what a table of both sides in memory finds."""
    there = dict(theirs)
    wanted = {(name, "missing_there") for name in ours.keys() - there.keys()}
    wanted |= {(name, "missing_here") for name in there.keys() - ours.keys()}
    wanted |= {(n, "captured") for n in ours.keys() & there.keys() if ours[n] != there[n]}
    found = await differences(
        [row(name, f"r{name}", captured_minor=ours[name]) for name in sorted(ours)],
        [seen(name, f"r{name}", captured_minor=money) for name, money in theirs],
    )
    assert {(d.payment, d.kind) for d in found} == wanted
    assert len(found) == len(wanted)


async def _peak_bytes(count: int) -> int:
    """Settle that many, theirs in the opposite order; return what it took of memory at most."""
    mine, its = row(), seen()
    ours = (replace(mine, payment=f"pay_{n:07}", ref=f"pi_{n}") for n in range(count))
    theirs = (replace(its, payment=f"pay_{n:07}", ref=f"pi_{n}") for n in range(count)[::-1])
    tracemalloc.start()
    try:
        walk = settle(one_by_one(ours), in_order(one_by_one(theirs)))
        assert [difference async for difference in walk] == []
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


async def test_constant_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight times as many payments take no more memory than a few chunks of them."""
    monkeypatch.setattr(settling, "ROWS_AT_ONCE", 50)
    await _peak_bytes(50)  # what is made once
    # Whatever else the process does meanwhile is counted with it, so the least of three counts.
    few, many = [min([await _peak_bytes(n) for _ in range(3)]) for n in (500, 4_000)]
    assert many < 2 * few
