"""Compares our payments with the provider's: every difference, in constant memory.

Owns what a difference is and the walk along both lists; asks nobody itself and mends nothing.
Called by `livecart settle` with our rows in the order of their ids and the provider's `listed`.
A provider lists by time, and not even that is promised; `in_order` sorts its list by our ids first,
in a file of its own, so that the walk meets both sides of a payment at once.

What is found may be under way just now: only a difference that a second run finds too is one (R11).
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from typing import Literal

import msgspec

from orders.payments.port import PaymentState, Seen

ROWS_AT_ONCE = 1_000

Kind = Literal[
    "missing_there", "missing_here", "foreign", "twice", "ref",
    "amount", "currency", "captured", "refunded", "state", "disputed",
]  # fmt: skip


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One payment as our ledger has it."""

    payment: str
    ref: str | None  # None: the provider was asked to begin it, and has not answered
    state: PaymentState
    amount_minor: int
    currency: str
    captured_minor: int
    refunded_minor: int
    disputed: bool = False


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that the two sides say differently.

    `missing_there`: we know a payment that the provider does not list; `missing_here`: it lists one
    with an id of ours that we do not have; `foreign`: it lists one that livecart never began, such
    as another system's on the same account; `twice`: a second one under an id of ours; `ref`: the
    only one under that id is not the one that we know. The rest: a figure or a word, on both sides.
    """

    kind: Kind
    payment: str | None
    ref: str | None  # the provider's id
    ours: str | int | bool | None = None
    theirs: str | int | bool | None = None


class OutOfOrder(ValueError):
    """A list that is not in the order of our ids: what follows would be nonsense."""


async def settle(
    ours: AsyncIterator[Row], theirs: AsyncIterator[Seen]
) -> AsyncIterator[Difference]:
    """Walk along both lists, each in the order of our ids (bytes); raise `OutOfOrder`.

    Of `theirs` those without an id of ours come first, as `in_order` gives them.
    """
    rows, seens = _Rows(ours), _Seens(theirs)
    row, group = await rows.next(), await seens.next()
    while row is not None or group:
        payment = group[0].payment if group else None
        if group and payment is None:
            for seen in group:
                yield Difference(kind="foreign", payment=None, ref=seen.ref)
            group = await seens.next()
        elif row is None or (payment is not None and payment < row.payment):
            for seen in group:
                yield _missing_here(seen)
            group = await seens.next()
        elif payment is None or row.payment < payment:
            if row.ref is not None or row.captured_minor:  # else it was never begun there
                yield Difference(
                    kind="missing_there", payment=row.payment, ref=row.ref, ours=row.state
                )
            row = await rows.next()
        else:
            for difference in _of_one(row, group):
                yield difference
            row, group = await rows.next(), await seens.next()


def compare(row: Row, seen: Seen) -> Iterator[Difference]:
    """Say what the two sides of one payment say differently."""
    pairs: tuple[tuple[Kind, str | int | bool, str | int | bool], ...] = (
        ("amount", row.amount_minor, seen.amount_minor),
        ("currency", row.currency, seen.currency),
        ("captured", row.captured_minor, seen.captured_minor),
        ("refunded", row.refunded_minor, seen.refunded_minor),
        ("state", _ended(row.state), _ended(seen.state)),
        ("disputed", row.disputed, seen.disputed),
    )
    for kind, here, there in pairs:
        if here != there:
            yield Difference(kind=kind, payment=row.payment, ref=seen.ref, ours=here, theirs=there)


async def in_order(theirs: AsyncIterator[Seen]) -> AsyncIterator[Seen]:
    """Sort a provider's list by our ids, in a file; what it lists twice comes once, the later one.

    The file has no name and goes with the connection.
    """
    with closing(sqlite3.connect("", check_same_thread=False)) as file:
        file.execute(
            "create table seen (payment text, ref text primary key, what blob) without rowid"
        )
        some: list[tuple[str | None, str, bytes]] = []
        async for seen in theirs:
            some.append((seen.payment, seen.ref, msgspec.json.encode(seen)))
            if len(some) == ROWS_AT_ONCE:
                await asyncio.to_thread(_keep, file, some)
                some = []
        await asyncio.to_thread(_keep, file, some)
        rows = await asyncio.to_thread(
            file.execute, "select what from seen order by payment is not null, payment, ref"
        )
        while found := await asyncio.to_thread(rows.fetchmany, ROWS_AT_ONCE):
            for (what,) in found:
                yield msgspec.json.decode(what, type=Seen)


def _keep(file: sqlite3.Connection, some: list[tuple[str | None, str, bytes]]) -> None:
    with file:
        file.executemany("insert or replace into seen values (?, ?, ?)", some)


def _of_one(row: Row, group: list[Seen]) -> Iterator[Difference]:
    """Compare a row with what the provider has under its id: one, if all is well."""
    known = next((seen for seen in group if seen.ref == row.ref), None)
    if known is None:
        known = group[0]
        yield Difference(
            kind="ref", payment=row.payment, ref=known.ref, ours=row.ref, theirs=known.ref
        )
    for seen in group:
        if seen is not known:
            yield Difference(kind="twice", payment=row.payment, ref=seen.ref, theirs=seen.state)
    yield from compare(row, known)


def _missing_here(seen: Seen) -> Difference:
    return Difference(kind="missing_here", payment=seen.payment, ref=seen.ref, theirs=seen.state)


def _ended(state: PaymentState) -> PaymentState:
    """Count both ways to end without money as one: which it was, each side says for itself."""
    return "voided" if state == "failed" else state


class _Rows:
    """Our rows, one at a time, in order."""

    def __init__(self, rows: AsyncIterator[Row]) -> None:
        self._rows = rows
        self._last = ""

    async def next(self) -> Row | None:
        """Return the next one; None: there is no more."""
        row = await anext(self._rows, None)
        if row is not None:
            if row.payment <= self._last:
                raise OutOfOrder(f"{row.payment} comes after {self._last}")
            self._last = row.payment
        return row


class _Seens:
    """Theirs, all of one id of ours at a time, in order; those without one singly."""

    def __init__(self, seens: AsyncIterator[Seen]) -> None:
        self._seens = seens
        self._ahead: Seen | None = None
        self._begun = False

    async def next(self) -> list[Seen]:
        """Return the next ones; empty: there is no more."""
        if not self._begun:
            self._ahead, self._begun = await anext(self._seens, None), True
        if self._ahead is None:
            return []
        group = [self._ahead]
        while True:
            self._ahead = await anext(self._seens, None)
            if self._ahead is None:
                return group
            if (self._ahead.payment or "") < (group[0].payment or ""):
                raise OutOfOrder(f"{self._ahead.payment} comes after {group[0].payment}")
            if self._ahead.payment is None or self._ahead.payment != group[0].payment:
                return group
            group.append(self._ahead)
