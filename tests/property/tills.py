"""A bank for schedules, and the cashiers that ask it: each of their calls is a step.

Owns what the bank does (as `orders.payments.port` says: keys bind, figures grow) and what must be
so of money at the end. The bank keeps everything in memory, in the process of the test: it is the
other side, not a part of the product. Called by scenarios and by the world's judgement.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Literal, TypeVar

import msgspec

from orders.payments.cashier import Cashier, CashierLimits, Paying
from orders.payments.port import (
    Asked,
    Begun,
    Notice,
    PaymentState,
    ProviderAway,
    ProviderRefused,
    Refunded,
    Seen,
)
from tests.property.actors import Actors
from tests.property.stepping import Process

T = TypeVar("T")

LIMITS = CashierLimits(lease_s=0)  # nobody is left alone: two at one move must be harmless


class Account(msgspec.Struct, kw_only=True):
    """One payment as the bank has it."""

    ref: str
    payment: str
    amount_minor: int
    currency: str
    state: PaymentState = "open"
    capturable_minor: int = 0
    captured_minor: int = 0
    refunds: dict[str, int] = {}
    captures: int = 0

    def seen(self) -> Seen:
        """Say how it stands."""
        return Seen(
            ref=self.ref,
            payment=self.payment,
            state=self.state,
            amount_minor=self.amount_minor,
            currency=self.currency,
            capturable_minor=self.capturable_minor,
            captured_minor=self.captured_minor,
            refunded_minor=sum(self.refunds.values()),
            refunds=tuple(
                Refunded(ref=f"rf_{key}", key=key, amount_minor=amount, state="done")
                for key, amount in self.refunds.items()
            ),
        )


class Bank:
    """Moves money once a key, and notes what it would tell of."""

    def __init__(self) -> None:
        self.accounts: dict[str, Account] = {}
        self.notices: list[Notice] = []
        self.refuses: set[Literal["begin", "capture", "void", "refund"]] = set()
        self._numbers = itertools.count(1)

    def begin(self, asked: Asked) -> Account:
        """Open an account for a payment, once."""
        self._may("begin")
        ref = f"pi_{asked.payment}"
        if ref not in self.accounts:
            self.accounts[ref] = Account(
                ref=ref,
                payment=asked.payment,
                amount_minor=asked.amount_minor,
                currency=asked.currency,
            )
        return self.accounts[ref]

    def authorise(self, ref: str, amount_minor: int | None = None) -> None:
        """Have the buyer set the money aside, if it can be."""
        account = self.accounts[ref]
        if account.state == "open":
            account.state = "authorised"
            if amount_minor is not None:
                account.amount_minor = amount_minor
            account.capturable_minor = account.amount_minor
            self._tell(account, "authorised")

    def capture(self, ref: str, amount_minor: int) -> Account:
        """Move money to the shop, once."""
        account = self.accounts[ref]
        if account.state == "captured":
            return account
        self._may("capture")
        if account.state != "authorised":
            raise ProviderRefused(f"is {account.state}")
        assert 0 < amount_minor <= account.capturable_minor
        account.state, account.capturable_minor = "captured", 0
        account.captured_minor = amount_minor
        account.captures += 1
        self._tell(account, "captured")
        return account

    def void(self, ref: str) -> Account:
        """Let money go."""
        account = self.accounts[ref]
        if account.state == "captured":
            raise ProviderRefused("is captured")
        if account.state != "voided":
            self._may("void")
            account.state, account.capturable_minor = "voided", 0
            self._tell(account, "voided")
        return account

    def refund(self, ref: str, amount_minor: int, key: str) -> Account:
        """Give money back, once a key."""
        account = self.accounts[ref]
        if key not in account.refunds:
            self._may("refund")
            if sum(account.refunds.values()) + amount_minor > account.captured_minor:
                raise ProviderRefused("more than there is")
            account.refunds[key] = amount_minor
            self._tell(account, "refunded")
        return account

    def _may(self, what: Literal["begin", "capture", "void", "refund"]) -> None:
        if what in self.refuses:
            raise ProviderRefused("refused")

    def _tell(self, account: Account, kind: str) -> None:
        event = f"evt_{account.ref}_{next(self._numbers)}"
        self.notices.append(Notice(event=event, kind=kind, seen=account.seen()))


class Teller:
    """The bank as one process reaches it (`orders.payments.port.Provider`)."""

    def __init__(self, bank: Bank, process: Process) -> None:
        self._bank = bank
        self._process = process

    @property
    def name(self) -> str:
        return "bank"

    async def begin(self, asked: Asked) -> Begun:
        return Begun(seen=await self._ask("begin", lambda: self._bank.begin(asked).seen()))

    async def capture(self, ref: str, amount_minor: int, currency: str, key: str) -> Seen:
        return await self._ask("capture", lambda: self._bank.capture(ref, amount_minor).seen())

    async def void(self, ref: str, key: str) -> Seen:
        return await self._ask("void", lambda: self._bank.void(ref).seen())

    async def refund(self, ref: str, amount_minor: int, currency: str, key: str) -> Seen:
        return await self._ask("refund", lambda: self._bank.refund(ref, amount_minor, key).seen())

    async def look(self, ref: str) -> Seen:
        return await self._ask("look", lambda: self._bank.accounts[ref].seen())

    async def authorise(self, ref: str) -> None:
        """Be the buyer, for once."""
        await self._ask("authorise", lambda: self._bank.authorise(ref))

    async def listed(self, since_ms: int) -> AsyncIterator[Seen]:
        for account in list(self._bank.accounts.values()):
            yield account.seen()

    def hear(self, headers: Mapping[str, str], body: bytes, now_s: float) -> Notice:
        return self._bank.notices[int(body)]

    async def close(self) -> None:
        """There is nothing to let go of."""

    async def _ask(self, verb: str, call: Callable[[], T]) -> T:
        async def asked() -> T:
            return call()

        return await self._process._step("bank", verb, (), asked, ProviderAway)


class Tills:
    """The cashiers of a world, one a process."""

    def __init__(self, world: Actors) -> None:
        self._world = world
        self.bank = Bank()
        self._tills: dict[str, tuple[Cashier, Teller]] = {}

    @property
    def used(self) -> bool:
        """Tell whether there is any money to be judged."""
        return bool(self.bank.accounts)

    async def forget(self) -> None:
        """Have nothing be due of schedules that were broken off."""
        await self._world.fetch(
            "update payment_moves set state = 'failed', ended_at = now() where state = 'open'"
        )
        await self._world.fetch("delete from payments_due")

    def at(self, process: Process) -> tuple[Cashier, Teller]:
        """Return the cashier of a process, and its way to the bank."""
        if process.name not in self._tills:
            teller = Teller(self.bank, process)
            till = Cashier(
                process.ledger, process.changes, process.selling, process.ids, [teller], LIMITS
            )
            self._tills[process.name] = till, teller
        return self._tills[process.name]

    async def paid(self, viewer: str, *orders: str, less_by_minor: int = 0) -> None:
        """Have a payment authorised at the bank, of which we were not told."""
        till, _ = self.at(self._world.process("judge"))
        paying = await till.begin(viewer, orders, "bank")
        assert isinstance(paying, Paying)
        await self._quiet(till)
        seen = paying.begun.seen
        self.bank.authorise(seen.ref, seen.amount_minor - less_by_minor)

    async def pay(self, process: Process, viewer: str, orders: Sequence[str]) -> None:
        """Be a buyer: begin to pay, and authorise."""
        till, teller = self.at(process)
        paying = await till.begin(viewer, orders, "bank")
        if isinstance(paying, Paying):
            await teller.authorise(paying.begun.seen.ref)

    async def hear(self, process: Process, *which: int) -> None:
        """Have notices come in: those numbered, or all there are, the latest first and twice."""
        till, _ = self.at(process)
        told = which or [n for n in reversed(range(len(self.bank.notices))) for _ in (1, 2)]
        for number in told:
            await till.hear("bank", {}, b"%d" % number, 0.0)
        await self._quiet(till)

    async def work(self, process: Process) -> None:
        """See to what is due."""
        till, _ = self.at(process)
        await till.round()
        await self._quiet(till)

    @staticmethod
    async def _quiet(till: Cashier) -> None:
        while till._at_work:
            await asyncio.wait(set(till._at_work.values()))
            await asyncio.sleep(0)  # for what is done to be noted

    # --- what must be so -------------------------------------------------------------------------

    async def come_to_rest(self) -> None:
        """Have all that is due done, as if it had waited long enough, and every notice come in."""
        process = self._world.process("judge")
        self.bank.refuses.clear()
        for _ in range(20):
            await self.hear(process)
            await self._world.fetch("update payments_due set due_at = now()")
            await self._world.fetch(
                "update payment_moves set ended_at = ended_at - interval '1 day'"
                " where state = 'failed'"
            )
            await self.work(process)
            open_moves = await self._world.fetch("select 1 from payment_moves where state = 'open'")
            if not open_moves and not await self._world.fetch("select 1 from payments_due"):
                return
        raise AssertionError("the money never comes to rest")

    async def judge(self) -> None:
        """Hold the money to the orders (I9): the shop has what live orders are paid with."""
        for account in self.bank.accounts.values():
            assert account.captures <= 1
            rows = await self._world.fetch(
                "select state, captured_minor, refunded_minor from payments where id = $1",
                account.payment,
            )
            assert len(rows) == 1
            back = sum(account.refunds.values())
            orders: list[Any] = await self._world.fetch(
                "select o.status, live_amount(o) as owed, o.captured_at, y.outcome"
                " from payment_orders y join orders o on o.id = y.order_id where y.payment = $1",
                account.payment,
            )
            paid = [one for one in orders if one["outcome"] == "paid"]
            kept = account.captured_minor - back
            assert kept == sum(one["owed"] for one in paid), (account, orders)
            assert account.state != "authorised", "money is set aside for nothing"
            if account.state == "open":  # `new`: no buyer was told how to pay it
                waited_for = any(one["status"] == "reserved" for one in orders)
                assert waited_for or rows[0]["state"] == "new"
            else:
                assert all(one["outcome"] for one in orders) or account.state == "voided"
            if rows[0]["state"] != "new":
                assert rows[0]["state"] == account.state
                assert rows[0]["captured_minor"] == account.captured_minor
                assert rows[0]["refunded_minor"] == back
            live = [one for one in paid if one["status"] in ("confirmed", "shipped")]
            assert all(one["captured_at"] is not None for one in live)
        nobodys = await self._world.fetch(
            "select o.id from orders o where o.offer = any ($1)"
            " and o.status in ('confirmed', 'shipped') and 1 <> (select count(*)"
            " from payment_orders y where y.order_id = o.id and y.outcome = 'paid')",
            self._world.offers,
        )
        assert not nobodys, "confirmed without a payment, or by two"
