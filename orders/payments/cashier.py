"""The cashier: has the money of payments follow their orders, whatever dies in between (R13).

Owns the steps between the ledger of money and the providers: begin, hear, move, replace. Each step
is committed before the next asks anybody, under a key that stays the same; so it may be done again
by whoever finds it due, in this process or another. Must never decide how much money is owed: the
ledger reckons that from the orders. Knows no HTTP. Called by `livecart` (routes) and by itself.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Mapping, Sequence

import msgspec

from orders import failpoints, metrics
from orders.changes import Changes
from orders.deadline import end_if_cancelled
from orders.ids import Ids
from orders.ledger.ledger import Ledger, LedgerAway
from orders.ledger.money import Heard, Money, Next
from orders.payments.port import (
    Asked,
    Begun,
    Notice,
    Provider,
    ProviderAway,
    ProviderRefused,
    Seen,
)
from orders.records import Buy, Outcome, Refused, Why
from orders.selling import Selling

log = logging.getLogger(__name__)

BY_HAND = "manual"
LOOK_S = 2.0  # between two looks at one open payment
STUCK_EVERY_S = 15.0  # between two counts of what cannot be moved
LOOKED_MAX = 1_000  # payments that are looked at in that time
LOOK_FIRST_S = 20 * 3600.0  # a provider may have forgotten a key that is older


class CashierLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How often the cashier looks and how much it does at once."""

    round_s: float = 1.0
    lease_s: float = 30.0  # how long whoever claimed a move is left alone with it
    due_max: int = 100
    at_once: int = 8


class Paying(msgspec.Struct, frozen=True):
    """A payment that its buyer may complete now."""

    payment: str
    provider: str
    begun: Begun


class NoProvider(Exception):
    """No provider of that name is connected."""


class Cashier:
    """Looks after all payments; every method may be repeated."""

    def __init__(
        self, ledger: Ledger, changes: Changes, selling: Selling, ids: Ids,
        providers: Sequence[Provider], limits: CashierLimits | None = None,
    ) -> None:  # fmt: skip
        self.money = Money(ledger)
        self.providers: Mapping[str, Provider] = {one.name: one for one in providers}
        self._ledger = ledger
        self._changes = changes
        self._selling = selling
        self._ids = ids
        self._limits = limits or CashierLimits()
        self._at_work: dict[str, asyncio.Task[None]] = {}  # by payment
        self._again: set[str] = set()  # of these, what fell due anew meanwhile
        self._looks: set[asyncio.Task[None]] = set()
        self._looked: dict[str, float] = {}  # when, in loop time; forgotten with each round
        self._running: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Look after what falls due from now on."""
        self._running = asyncio.create_task(self._run(), name="cashier")

    async def close(self) -> None:
        """Let go; what is under way is found due again by another."""
        running = [self._running] if self._running else []
        tasks = [*self._at_work.values(), *self._looks, *running]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for provider in self.providers.values():
            await provider.close()

    # --- what buyers and providers ask for -------------------------------------------------------

    async def begin(self, viewer: str, orders: Sequence[str], provider: str) -> Paying | Refused:
        """Begin to pay for reserved orders of one viewer and stream, or go on with it.

        Raises `NoProvider`, `LedgerAway`, and `ProviderRefused` when the provider will not.
        """
        port = self._provider(provider)
        made = await self.money.begin(self._ids.new("pay"), provider, viewer, orders)
        if made.word not in ("ok", "again"):
            return Refused(Why(made.word))
        assert made.payment is not None
        assert made.amount_minor is not None
        assert made.currency is not None
        await failpoints.reach("payment.noted")
        asked = Asked(
            payment=made.payment, amount_minor=made.amount_minor, currency=made.currency,
            shop=made.shop or "", viewer=viewer, orders=tuple(orders), about=made.about or "",
            ref=made.ref,
        )  # fmt: skip
        if asked.amount_minor == 0:  # nobody moves nothing
            begun = Begun(
                seen=Seen(
                    ref=asked.payment, payment=asked.payment, state="captured", amount_minor=0,
                    currency=asked.currency,
                )
            )  # fmt: skip
        else:
            try:
                begun = await port.begin(asked)
            except ProviderAway as error:
                log.warning("%s did not answer about %s: %s", provider, asked.payment, error)
                return Refused(Why.RETRY)
            except ProviderRefused:
                await self.money.give_up(asked.payment)
                raise
        await failpoints.reach("payment.begun")
        await self._follow(provider, await self._heard(provider, begun.seen))
        return Paying(asked.payment, provider, begun)

    async def hear(
        self, provider: str, headers: Mapping[str, str], body: bytes, now_s: float
    ) -> Notice:
        """Take a provider's notice; its effect is committed when this returns.

        Raises `NoProvider`, `NotGenuine`, ValueError (it cannot be read), `ProviderAway` and
        `LedgerAway`: in all but the first three cases the provider must send it again.
        ProviderRefused: what the notice is about is not to be found there.
        """
        port = self._provider(provider)
        notice = port.hear(headers, body, now_s)
        seen = notice.seen
        if seen is None and notice.ref is not None:
            seen = await port.look(notice.ref)
        if seen is None:
            await self.money.note_event(provider, notice.event, notice.kind)
        else:
            heard = await self._heard(provider, seen, notice.event, notice.kind)
            await failpoints.reach("notice.committed")
            await self._follow(provider, heard)
        return notice

    def look(self, payment: str) -> None:
        """Ask soon how an open payment stands: its buyer waits, and the notice may be lost."""
        now = asyncio.get_running_loop().time()
        if len(self._looked) > LOOKED_MAX or now - self._looked.get(payment, -math.inf) < LOOK_S:
            return
        self._looked[payment] = now
        task = asyncio.create_task(self._look(payment), name=f"look:{payment}")
        self._looks.add(task)
        task.add_done_callback(self._looks.discard)

    async def _look(self, payment: str) -> None:
        try:
            for found in await self.money.payments([payment]):
                if found.ref is not None and found.provider in self.providers:
                    seen = await self.providers[found.provider].look(found.ref)
                    await self._follow(found.provider, await self._heard(found.provider, seen))
        except (LedgerAway, ProviderAway, ProviderRefused) as error:
            log.warning("%s could not be looked at: %s", payment, error)
        except Exception:
            log.exception("%s could not be looked at", payment)

    def nudge(self, payment: str) -> None:
        """See to a payment now rather than in the next round."""
        if payment in self._at_work:
            self._again.add(payment)
            return
        task = asyncio.create_task(self._work(payment), name=f"cashier:{payment}")
        self._at_work[payment] = task
        task.add_done_callback(lambda _: self._done(payment))

    def _done(self, payment: str) -> None:
        task = self._at_work.pop(payment)
        if payment in self._again:
            self._again.discard(payment)
            if not task.cancelled():
                self.nudge(payment)

    def _provider(self, name: str) -> Provider:
        try:
            return self.providers[name]
        except KeyError:
            raise NoProvider(name) from None

    async def _heard(
        self, provider: str, seen: Seen, event: str | None = None, kind: str | None = None
    ) -> Heard:
        """Note a provider's word; what failed of refunds first: figures are without it."""
        failed = [one.key for one in seen.refunds if one.key is not None and one.state == "failed"]
        if failed:
            await self.money.refunds_failed(provider, seen.ref, failed, seen.refunded_minor)
        return await self.money.hear(provider, seen, event, kind)

    async def _follow(self, provider: str, heard: Heard) -> None:
        """Do what follows from a word of a provider that is committed."""
        if heard.word == "unknown":
            log.warning("%s speaks of a payment that is not ours", provider)
        await self._tell(heard.changed)
        if heard.payment is not None:
            self.nudge(heard.payment)

    async def _tell(self, changed: Sequence[str]) -> None:
        """Tell of changed orders; what fails here the keeper does, as their movements say."""
        if changed:
            for order in await self._ledger.orders(changed):
                await self._changes.settled("ok", order)

    # --- what falls due --------------------------------------------------------------------------

    async def _run(self) -> None:
        away, counted = False, float("-inf")
        while True:
            end_if_cancelled()
            try:
                await self.round()
                if (now := asyncio.get_running_loop().time()) - counted >= STUCK_EVERY_S:
                    metrics.MONEY_STUCK.set(await self.money.stuck())
                    counted = now
                away = False
            except LedgerAway as error:
                if not away:
                    log.warning("the cashier waits: %s", error)
                away = True
            except Exception:
                log.exception("the cashier failed with a round")
                metrics.KEEPER_FAILED.labels("cashier").inc()
            await asyncio.sleep(self._limits.round_s)

    async def round(self) -> None:
        """See to everything that is due, to the end."""
        now = asyncio.get_running_loop().time()
        self._looked = {one: at for one, at in self._looked.items() if now - at < LOOK_S}
        due = await self.money.due(self._limits.due_max)
        slots = asyncio.Semaphore(self._limits.at_once)

        async def one(payment: str) -> None:
            async with slots:
                self.nudge(payment)
                if (task := self._at_work.get(payment)) is not None:
                    await asyncio.wait({task})

        await asyncio.gather(*(one(payment) for payment in due))

    async def _work(self, payment: str) -> None:
        """Bring a payment's money to where it should be, step by step."""
        try:
            while True:
                step = await self.money.next(payment, self._limits.lease_s)
                if step is None or step.what in ("nothing", "wait"):
                    return
                if step.what == "replace":
                    went_on = await self._replace(payment, step)
                else:
                    went_on = await self._move(payment, step)
                if not went_on:
                    return
        except LedgerAway as error:  # it is due still, and found in a later round
            log.warning("%s is left for later: %s", payment, error)
        except ProviderAway as error:
            log.warning("%s waits for its provider: %s", payment, error)
        except Exception:
            log.exception("%s could not be seen to", payment)
            metrics.KEEPER_FAILED.labels("cashier").inc()

    async def _move(self, payment: str, step: Next) -> bool:
        """Ask for one move of money and note what became of it."""
        assert step.move is not None
        assert step.ref is not None
        if step.provider == BY_HAND:  # it is the shop that moves it, and it was asked to by this
            await self._tell(await self.money.moved(step.move, None))
            metrics.MONEY_MOVES.labels(step.kind or "", "by hand").inc()
            return True
        if step.provider not in self.providers:
            log.error("%s is of %s, which is not connected", payment, step.provider)
            return False
        port = self.providers[step.provider]
        await failpoints.reach("move.claimed")
        error = None
        try:
            seen = await self._ask(port, payment, step)
        except ProviderRefused as refused:
            seen = await port.look(step.ref)
            error = None if _fulfilled(step, seen) else refused.code
            log.log(
                logging.WARNING if error else logging.INFO,
                "%s refused to %s of %s: %s", step.provider, step.kind, payment, refused.code,
            )  # fmt: skip
        await failpoints.reach("move.done")
        heard = await self._heard(step.provider, seen)
        await self._tell(heard.changed)
        await failpoints.reach("move.heard")
        if error is None and step.kind != "refund" and not _fulfilled(step, seen):
            if step.kind == "void" and seen.state in ("authorised", "captured"):
                error = "paid_meanwhile"  # what follows from that is reckoned anew
            else:
                raise ProviderAway(f"{step.kind} is answered, and it is {seen.state}")
        await self._tell(await self.money.moved(step.move, error))
        metrics.MONEY_MOVES.labels(step.kind or "", "refused" if error else "done").inc()
        return True

    async def _ask(self, port: Provider, payment: str, step: Next) -> Seen:
        assert step.ref is not None
        assert step.move is not None
        amount_minor = step.amount_minor or 0
        if (step.asked_s_ago or 0.0) > LOOK_FIRST_S and step.kind == "refund":
            seen = await port.look(step.ref)
            if _fulfilled(step, seen):
                return seen
        if step.kind == "void":
            # Its orders ended, but it may be paid since and the word of that be under way: a late
            # payment is worth a new order (R13).
            seen = await port.look(step.ref)
            if seen.state != "open" and not (
                seen.state == "authorised" and await self.money.kept_for_nothing(payment)
            ):
                return seen
        if step.kind == "capture":
            return await port.capture(step.ref, amount_minor, step.currency, step.move)
        if step.kind == "void":
            return await port.void(step.ref, step.move)
        return await port.refund(step.ref, amount_minor, step.currency, step.move)

    async def _replace(self, payment: str, step: Next) -> bool:
        """Buy an order anew whose payment came after its end; tell whether that is decided.

        The key is the order's: whoever finds this due again, also for another payment of the same
        order, adopts what was bought first.
        """
        assert step.order_id is not None
        outcome = await self._bought(step)
        await failpoints.reach("replace.bought")
        if isinstance(outcome, Refused):
            if outcome.why in (Why.RETRY, Why.INTERNAL):
                return False
            await self.money.refuse_late(payment, step.order_id)
            return True
        new = outcome.order.id
        if await self.money.replace(payment, step.order_id, new) == "ok":
            await self._tell([new])
        else:
            # What nobody pays for is not kept from others until it expires.
            await self._changes.cancel(new, False, "not needed", "payment")
        return True

    async def _bought(self, step: Next) -> Outcome:
        assert step.offer is not None
        assert step.viewer is not None
        assert step.qty is not None
        assert step.order_id is not None
        answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        # The gate may not know of the end yet, and would say that the viewer has his units still.
        for old in await self._ledger.orders([step.order_id]):
            await self._changes.settle(old.home, old.stream, [old.id])
        key = f"r.{step.order_id}"[:64]
        self._selling.buy(
            Buy(step.offer, step.viewer, step.qty, key, _heard_by(answer), None, step.stream)
        )
        return await answer


def _heard_by(answer: asyncio.Future[Outcome]) -> Callable[[Buy, Outcome], None]:
    def done(buy: Buy, outcome: Outcome) -> None:
        if not answer.done():
            answer.set_result(outcome)

    return done


def _fulfilled(step: Next, seen: Seen) -> bool:
    """Tell whether what was asked for is so, whoever brought it about."""
    if step.kind == "capture":
        return seen.captured_minor > 0
    if step.kind == "void":
        return seen.state in ("voided", "failed")
    return any(one.key == step.move and one.state != "failed" for one in seen.refunds)
