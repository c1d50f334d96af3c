"""The books of the trial bank: its SQLite file, and what is read from it and written to it.

Owns the transactions and the rows; decides nothing that a shop or a buyer may ask. Called by
`trial_bank` alone, always within one transaction, so that no other process sees half of a change.
"""

from __future__ import annotations

import secrets
import sqlite3
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import msgspec

from orders.payments.port import ProviderRefused, Refunded, Seen

BUSY_S = 10.0  # that one call waits for another process to be done with the file
SCHEMA = Path(__file__).with_name("trial.sql")

RefundState = Literal["pending", "done", "failed"]


class Word(msgspec.Struct, frozen=True, kw_only=True):
    """What stands in a notice."""

    id: str
    kind: str
    seen: Seen


class Books:
    """The file; threads take turns, and so do processes."""

    def __init__(self, path: str) -> None:
        """Open the file; make it, with a secret of its own, when it is not there."""
        self.path = path
        self._turn = threading.Lock()
        Path(path).touch(mode=0o600)  # a secret is in it, though one of no worth
        self._file = sqlite3.connect(
            path, timeout=BUSY_S, isolation_level=None, check_same_thread=False
        )
        weakref.finalize(self, self._file.close)
        self._file.execute("pragma synchronous = off")  # it survives processes, not power cuts
        self._file.execute("pragma journal_mode = wal")
        self._file.executescript(SCHEMA.read_text("utf-8"))
        self._file.execute(
            "insert or ignore into settings values ('secret', ?)", (secrets.token_hex(32),)
        )

    @contextmanager
    def open(self) -> Iterator[sqlite3.Connection]:
        """Begin a transaction that nothing else runs beside; commit it, or roll it back."""
        with self._turn:
            self._file.execute("begin immediate")
            try:
                yield self._file
            except BaseException:
                if self._file.in_transaction:
                    self._file.execute("rollback")
                raise
            self._file.execute("commit")


def one(file: sqlite3.Connection, sql: str, *values: object) -> Any:
    """Return the first column of the one row that there must be."""
    row = file.execute(sql, values).fetchone()
    if row is None:
        raise ProviderRefused("not_found")
    return row[0]


def seen(file: sqlite3.Connection, ref: str) -> Seen:
    """Say how a payment stands, with its refunds."""
    row = file.execute(
        "select payment, state, amount, currency, capturable, disputed, at_ms,"
        " (select coalesce(sum(amount), 0) from moves where ref = p.ref and kind = 'capture')"
        " from payments p where ref = ?",
        (ref,),
    ).fetchone()
    if row is None:
        raise ProviderRefused("not_found", f"no payment {ref}")
    payment, state, amount, currency, capturable, disputed, at_ms, captured = row
    refunds = tuple(
        Refunded(ref=f"tre_{number}", key=key, amount_minor=part, state=how)
        for number, key, part, how in file.execute(
            "select id, key, amount, state from moves where ref = ? and kind = 'refund'"
            " order by id",
            (ref,),
        )
    )
    return Seen(
        ref=ref,
        payment=payment,
        state=state,
        amount_minor=amount,
        currency=currency,
        capturable_minor=capturable,
        captured_minor=captured,
        refunded_minor=sum(r.amount_minor for r in refunds if r.state != "failed"),
        disputed=bool(disputed),
        refunds=refunds,
        at_ms=at_ms,
    )


def known(
    file: sqlite3.Connection, key: str, verb: str, ref: str, amount_minor: int, currency: str
) -> bool:
    """Tell whether this was carried out before; note it, for ever, when it was not.

    Raise `ProviderRefused` when the key stands for something else.
    """
    meant = (verb, ref, amount_minor, currency)
    row = file.execute(
        "select verb, ref, amount, currency from keys where key = ?", (key,)
    ).fetchone()
    if row is not None and row != meant:
        raise ProviderRefused("key_reused", f"{key} stands for another call")
    if row is None:
        file.execute("insert into keys values (?, ?, ?, ?, ?)", (key, *meant))
    return row is not None


def move(
    file: sqlite3.Connection,
    ref: str,
    kind: Literal["capture", "refund"],
    key: str | None,
    amount_minor: int,
    state: RefundState,
) -> None:
    """Write down that money moved."""
    file.execute(
        "insert into moves (ref, kind, key, amount, state) values (?, ?, ?, ?, ?)",
        (ref, kind, key, amount_minor, state),
    )


def refund(
    file: sqlite3.Connection, ref: str, amount_minor: int, key: str | None, state: RefundState
) -> None:
    """Move captured money back; never more than there is."""
    now = seen(file, ref)
    if not 0 < amount_minor <= now.captured_minor - now.refunded_minor:
        raise ProviderRefused("amount_differs", f"{ref} has less to refund")
    move(file, ref, "refund", key, amount_minor, state)


def void(file: sqlite3.Connection, ref: str) -> bool:
    """Let go what is set aside; False: it has ended before."""
    now = seen(file, ref)
    if now.state == "captured":
        raise ProviderRefused("payment_captured")
    if now.state in ("failed", "voided"):
        return False
    file.execute("update payments set state = 'voided', capturable = 0 where ref = ?", (ref,))
    return True


def commanded(file: sqlite3.Connection, verb: str) -> tuple[str, str]:
    """Take the next fault that was commanded for this: what, and with which code."""
    row = file.execute(
        "update commands set times = times - 1 where id ="
        " (select min(id) from commands where verb = ? and times > 0) returning what, code",
        (verb,),
    ).fetchone()
    return ("", "") if row is None else (row[0], row[1])


def hold(file: sqlite3.Connection, verb: str) -> int:
    """Write down that a call waits; return the row that it waits for."""
    number: int = one(file, "insert into holds (verb) values (?) returning id", verb)
    return number


def tell(file: sqlite3.Connection, ref: str, kind: str) -> Seen:
    """Put a notice in the queue, of how a payment stands now."""
    now = seen(file, ref)
    fault, _ = commanded(file, "notice")
    if fault == "lose":
        return now
    event = f"tev_{secrets.token_hex(8)}"
    body = msgspec.json.encode(Word(id=event, kind=kind, seen=now))
    late = 1.5 if fault == "late" else 0.0  # behind the one that comes next
    for _ in range(2 if fault == "repeat" else 1):
        number = one(
            file,
            "insert into notices (event, body, turn) values (?, ?, 0) returning id",
            event,
            body,
        )
        file.execute("update notices set turn = id + ? where id = ?", (late, number))
    return now
