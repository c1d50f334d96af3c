"""The bank behind the provider `trial`: money to play with, and faults on command.

Owns what may be asked of the bank: by the shop (through `trial`), by the buyers, by whoever
commands faults, and by an auditor. Knows no order. Called by `trial` and by tests and tools. No
real money, ever.

All of it stands in a SQLite file that several processes share, so that a test gives a command to a
server in another process: `TrialBank(path).will("capture", "lose_answer")` has the next capture
done, and its answer lost.
"""

from __future__ import annotations

import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import msgspec

from orders.payments import trial_books as books
from orders.payments.port import Asked, ProviderAway, ProviderRefused, Seen

LISTED_AT_ONCE = 500

Verb = Literal["begin", "capture", "void", "refund", "look", "listed", "notice"]
#: Of calls. `refuse`: a final no; `away`: no answer, and nothing was done; `lose_answer`: done, and
#: no answer; `hold`: waits before it is done; `hold_answer`: done, and the answer waits;
#: `pending` (of refunds): it takes its time, see `settle_refund`.
#: Of notices. `repeat`: sent twice; `late`: sent after the one that follows; `lose`: never sent.
Fault = Literal[
    "refuse", "away", "lose_answer", "hold", "hold_answer", "pending", "repeat", "late", "lose"
]


class Held(Exception):
    """A call that has to wait before it is done; `hold`: for which row."""

    def __init__(self, hold: int) -> None:
        super().__init__(hold)
        self.hold = hold


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """What the auditor finds of one payment, from the moves of money alone."""

    payment: str
    ref: str
    currency: str
    captured_minor: int
    refunded_minor: int  # those that failed do not count
    captures: int
    keys: int  # distinct keys that moved money


class Due(msgspec.Struct, frozen=True, kw_only=True):
    """A notice that waits to be sent."""

    id: int
    event: str
    body: bytes


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a call came to; `hold`: a row that the answer waits for."""

    seen: Seen
    hold: int | None = None
    lost: bool = False


class TrialBank:
    """A bank in a file; each method is one transaction and may be called from any thread."""

    def __init__(
        self, path: Path | str, now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000
    ) -> None:
        """Open the file, or make it; `now_ms`: the bank's clock, in ms since 1970."""
        self._books = books.Books(str(path))
        self._now_ms = now_ms

    def __repr__(self) -> str:
        return f"TrialBank({self._books.path!r})"

    def secret(self) -> str:
        """Return the key that notices are signed with."""
        with self._books.open() as file:
            found: str = books.one(file, "select value from settings where name = 'secret'")
            return found

    # --- what tests command ----------------------------------------------------------------------

    def will(self, verb: Verb, what: Fault, times: int = 1, code: str = "card_declined") -> None:
        """Have the next `times` calls of `verb` go wrong; `code`: with which a refusal is given."""
        with self._books.open() as file:
            file.execute(
                "insert into commands (verb, what, code, times) values (?, ?, ?, ?)",
                (verb, what, code, times),
            )

    def held(self) -> int:
        """Count the calls that wait."""
        with self._books.open() as file:
            found: int = books.one(file, "select count(*) from holds")
            return found

    def let_go(self) -> None:
        """Let every call that waits go on."""
        with self._books.open() as file:
            file.execute("delete from holds")

    def waits(self, hold: int) -> bool:
        """Tell whether a call still has to wait."""
        with self._books.open() as file:
            return file.execute("select 1 from holds where id = ?", (hold,)).fetchone() is not None

    def leave(self, hold: int) -> None:
        """Forget a call that waits no more."""
        with self._books.open() as file:
            file.execute("delete from holds where id = ?", (hold,))

    # --- what buyers and the bank do -------------------------------------------------------------

    def authorise(self, ref: str, amount_minor: int | None = None) -> Seen:
        """The buyer authorises what was asked for, or another amount."""
        with self._books.open() as file:
            seen = books.seen(file, ref)
            if seen.state != "open":
                raise ProviderRefused(f"payment_{seen.state}")
            amount = seen.amount_minor if amount_minor is None else amount_minor
            file.execute(
                "update payments set state = 'authorised', capturable = ? where ref = ?",
                (amount, ref),
            )
            return books.tell(file, ref, "payment.authorised")

    def decline(self, ref: str, final: bool = False) -> Seen:
        """The buyer's card is declined; `final`: and he gets no other try."""
        with self._books.open() as file:
            if final:
                file.execute(
                    "update payments set state = 'failed' where ref = ? and state = 'open'", (ref,)
                )
            return books.tell(file, ref, "payment.declined")

    def expire(self, ref: str) -> Seen:
        """An authorisation that nobody captured lapses."""
        with self._books.open() as file:
            books.void(file, ref)
            return books.tell(file, ref, "payment.voided")

    def dispute(self, ref: str) -> Seen:
        """The buyer takes it to his own bank."""
        with self._books.open() as file:
            file.execute("update payments set disputed = 1 where ref = ?", (ref,))
            return books.tell(file, ref, "payment.disputed")

    def refund_by_hand(self, ref: str, amount_minor: int) -> Seen:
        """Somebody refunds at the bank's own desk, past the shop."""
        with self._books.open() as file:
            books.refund(file, ref, amount_minor, None, "done")
            return books.tell(file, ref, "payment.refunded")

    def settle_refund(self, refund: str, state: Literal["done", "failed"]) -> Seen:
        """A refund that was pending, or done, comes to its end; `refund`: its id at the bank."""
        with self._books.open() as file:
            number = int(refund.removeprefix("tre_"))
            file.execute("update moves set state = ? where id = ?", (state, number))
            ref = books.one(file, "select ref from moves where id = ?", number)
            return books.tell(file, ref, "payment.refunded")

    # --- what the shop asks ----------------------------------------------------------------------

    def begin(self, asked: Asked) -> Answer:
        """Begin a payment, once per id of the shop."""
        with self._call("begin") as (file, fault):
            found = file.execute(
                "select ref from payments where payment = ?", (asked.payment,)
            ).fetchone()
            ref = found[0] if found else f"tri_{secrets.token_hex(8)}"
            if books.known(file, asked.payment, "begin", ref, asked.amount_minor, asked.currency):
                return self._answer(file, ref, "begin", fault)
            file.execute(
                "insert into payments (ref, payment, amount, currency, state, at_ms)"
                " values (?, ?, ?, ?, 'open', ?)",
                (ref, asked.payment, asked.amount_minor, asked.currency, self._now_ms()),
            )
            return self._answer(file, ref, "begin", fault)

    def capture(self, ref: str, amount_minor: int, currency: str, key: str) -> Answer:
        """Move what was authorised, or less, once per key."""
        with self._call("capture") as (file, fault):
            seen = books.seen(file, ref)
            if not books.known(file, key, "capture", ref, amount_minor, currency):
                if seen.state != "authorised":
                    raise ProviderRefused(f"payment_{seen.state}")
                _check(seen, currency, amount_minor, seen.capturable_minor)
                file.execute(
                    "update payments set state = 'captured', capturable = 0 where ref = ?", (ref,)
                )
                books.move(file, ref, "capture", key, amount_minor, "done")
                books.tell(file, ref, "payment.captured")
            return self._answer(file, ref, "capture", fault)

    def void(self, ref: str, key: str) -> Answer:
        """Let go what was authorised, once per key; what has ended stays so."""
        with self._call("void") as (file, fault):
            if not books.known(file, key, "void", ref, 0, "") and books.void(file, ref):
                books.tell(file, ref, "payment.voided")
            return self._answer(file, ref, "void", fault)

    def refund(self, ref: str, amount_minor: int, currency: str, key: str) -> Answer:
        """Give captured money back, once per key."""
        with self._call("refund") as (file, fault):
            if not books.known(file, key, "refund", ref, amount_minor, currency):
                _check(books.seen(file, ref), currency, amount_minor, amount_minor)
                state: Literal["pending", "done"] = "pending" if fault == "pending" else "done"
                books.refund(file, ref, amount_minor, key, state)
                books.tell(file, ref, "payment.refunded")
            answer = self._answer(file, ref, "refund", fault)
            if any(one.key == key and one.state == "failed" for one in answer.seen.refunds):
                raise ProviderRefused("refund_failed")
            return answer

    def look(self, ref: str) -> Answer:
        """Say how it stands, with its refunds."""
        with self._call("look") as (file, fault):
            return self._answer(file, ref, "look", fault)

    def listed(self, since_ms: int, before: tuple[int, str] | None) -> list[Seen]:
        """Return the newest payments, at most `LISTED_AT_ONCE`; `before`: the last one before."""
        with self._call("listed") as (file, fault):
            at_ms, ref = before or (2**62, "")
            rows = file.execute(
                "select ref from payments where at_ms >= ? and (at_ms, ref) < (?, ?)"
                " order by at_ms desc, ref desc limit ?",
                (since_ms, at_ms, ref, LISTED_AT_ONCE),
            ).fetchall()
            found = [books.seen(file, row[0]) for row in rows]
        if fault == "lose_answer":
            raise ProviderAway("lost, as commanded")
        return found

    # --- notices ---------------------------------------------------------------------------------

    def due(self) -> Due | None:
        """Return the notice whose turn it is; it stays until `delivered` or `put_off`."""
        with self._books.open() as file:
            row = file.execute(
                "select id, event, body from notices where delivered = 0 order by turn, id limit 1"
            ).fetchone()
            return None if row is None else Due(id=row[0], event=row[1], body=row[2])

    def delivered(self, notice: int) -> None:
        """The shop has taken a notice."""
        with self._books.open() as file:
            file.execute("update notices set delivered = 1 where id = ?", (notice,))

    def put_off(self, notice: int) -> None:
        """The shop did not take it: it goes behind all others."""
        with self._books.open() as file:
            file.execute(
                "update notices set turn = (select max(turn) + 1 from notices) where id = ?",
                (notice,),
            )

    # --- the auditor -----------------------------------------------------------------------------

    def audit(self) -> list[Account]:
        """Add up the moves of money of every payment that had any."""
        with self._books.open() as file:
            rows = file.execute(
                "select p.payment, p.ref, p.currency,"
                " sum(m.amount) filter (where m.kind = 'capture'),"
                " sum(m.amount) filter (where m.kind = 'refund' and m.state <> 'failed'),"
                " count(*) filter (where m.kind = 'capture'), count(distinct m.key)"
                " from moves m join payments p using (ref) group by p.ref order by p.payment"
            ).fetchall()
        return [
            Account(
                payment=payment,
                ref=ref,
                currency=currency,
                captured_minor=captured or 0,
                refunded_minor=refunded or 0,
                captures=captures,
                keys=keys,
            )
            for payment, ref, currency, captured, refunded, captures, keys in rows
        ]

    # --- within ----------------------------------------------------------------------------------

    @contextmanager
    def _call(self, verb: Verb) -> Iterator[tuple[sqlite3.Connection, str]]:
        """Take the command that a call stands under, and obey what comes before the work."""
        with self._books.open() as file:
            fault, code = books.commanded(file, verb)
            if fault in ("hold", "refuse", "away"):
                hold = books.hold(file, verb) if fault == "hold" else 0
                file.execute("commit")  # the command is obeyed, and done with
                if fault == "hold":
                    raise Held(hold)
                if fault == "refuse":
                    raise ProviderRefused(code, "as commanded")
                raise ProviderAway("as commanded")
            yield file, fault

    def _answer(self, file: sqlite3.Connection, ref: str, verb: Verb, fault: str) -> Answer:
        hold = books.hold(file, verb) if fault == "hold_answer" else None
        return Answer(seen=books.seen(file, ref), hold=hold, lost=fault == "lose_answer")


def _check(seen: Seen, currency: str, amount_minor: int, most_minor: int) -> None:
    if seen.currency != currency or not 0 < amount_minor <= most_minor:
        raise ProviderRefused("amount_differs", f"{seen.ref} is not what was asked for")
