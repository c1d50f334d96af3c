"""The provider `trial`: the port on the trial bank, for tests and demonstrations alone.

Owns the signature of its notices and how they are sent; the money and the faults are the bank's.
Made by `livecart`, and only where `LIVECART_TESTING` is set; called by `cashier` as any provider.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

import msgspec

from orders.payments.port import (
    Asked,
    Begun,
    NotGenuine,
    Notice,
    ProviderAway,
    Seen,
)
from orders.payments.trial_bank import Answer, Due, Held, TrialBank
from orders.payments.trial_books import Word

SIGNATURE = "trial-signature"
TOLERANCE_S = 300.0
HOLD_LOOK_S = 0.01  # how often a call that waits looks whether it still has to

#: Sends a body with headers to the shop; returns the HTTP status.
Post = Callable[[bytes, Mapping[str, str]], Awaitable[int]]

_SIGNATURE = re.compile(r"t=([0-9]{1,12}),v1=([0-9a-f]{64})")


class Trial:
    """Moves money in the trial bank of one file."""

    def __init__(self, bank: TrialBank, tolerance_s: float = TOLERANCE_S) -> None:
        self._bank = bank
        self._tolerance_s = tolerance_s

    @property
    def name(self) -> str:
        """The word that stands in `payments.provider`."""
        return "trial"

    async def begin(self, asked: Asked) -> Begun:
        """Begin a payment; `client` has the reference that a buyer authorises at the bank."""
        seen = await self._carried_out(lambda: self._bank.begin(asked))
        return Begun(seen=seen, client={"ref": seen.ref})

    async def capture(self, ref: str, amount_minor: int, currency: str, key: str) -> Seen:
        """Capture what was authorised, or less."""
        return await self._carried_out(lambda: self._bank.capture(ref, amount_minor, currency, key))

    async def void(self, ref: str, key: str) -> Seen:
        """Let go what was authorised."""
        return await self._carried_out(lambda: self._bank.void(ref, key))

    async def refund(self, ref: str, amount_minor: int, currency: str, key: str) -> Seen:
        """Refund a part or all."""
        return await self._carried_out(lambda: self._bank.refund(ref, amount_minor, currency, key))

    async def look(self, ref: str) -> Seen:
        """Say how it stands."""
        return await self._carried_out(lambda: self._bank.look(ref))

    async def listed(self, since_ms: int) -> AsyncIterator[Seen]:
        """Go through all payments begun since then, newest first."""
        before: tuple[int, str] | None = None
        while True:
            try:
                some = await asyncio.to_thread(self._bank.listed, since_ms, before)
            except Held as held:
                await self._wait(held.hold)
                continue
            if not some:
                return
            for seen in some:
                yield seen
            before = (some[-1].at_ms or 0, some[-1].ref)

    def hear(self, headers: Mapping[str, str], body: bytes, now_s: float) -> Notice:
        """Check the bank's signature, then read the notice."""
        given = _SIGNATURE.fullmatch(headers.get(SIGNATURE, ""))
        if given is None:
            raise NotGenuine("there is no signature of the trial bank's")
        at_s = int(given[1])
        if not hmac.compare_digest(_mac(self._bank.secret(), at_s, body), given[2]):
            raise NotGenuine("the signature is not the trial bank's")
        if abs(now_s - at_s) > self._tolerance_s:
            raise NotGenuine("the notice is too old, or a clock is wrong")
        word = msgspec.json.decode(body, type=Word)
        return Notice(event=word.id, kind=word.kind, seen=word.seen, ref=word.seen.ref)

    async def close(self) -> None:
        """There is nothing to let go of."""

    async def _carried_out(self, work: Callable[[], Answer]) -> Seen:
        """Do the work in a thread; wait where a command says so."""
        while True:
            done = asyncio.ensure_future(asyncio.to_thread(work))
            try:
                answer = await asyncio.shield(done)
            except Held as held:
                await self._wait(held.hold)
            except asyncio.CancelledError:
                done.add_done_callback(self._leave)  # the bank goes on without us
                raise
            else:
                break
        if answer.hold is not None:
            await self._wait(answer.hold)
        if answer.lost:
            raise ProviderAway("lost, as commanded")
        return answer.seen

    def _leave(self, done: asyncio.Future[Answer]) -> None:
        """Let go of what a call would wait for that nobody waits for any more."""
        if done.cancelled():
            return
        error = done.exception()
        hold = error.hold if isinstance(error, Held) else None
        if error is None:
            hold = done.result().hold
        if hold is not None:
            self._bank.leave(hold)

    async def _wait(self, hold: int) -> None:
        """Wait until somebody, in a process that no event of ours reaches, lets this call go on."""
        try:
            while await asyncio.to_thread(self._bank.waits, hold):  # noqa: ASYNC110 - see above
                await asyncio.sleep(HOLD_LOOK_S)
        except asyncio.CancelledError:
            self._bank.leave(hold)  # nobody waits any more
            raise


def signed(bank: TrialBank, due: Due, at_s: float | None = None) -> dict[str, str]:
    """Return the headers that a notice is sent with; `at_s`: as if it were sent then."""
    at = int(time.time() if at_s is None else at_s)
    mac = _mac(bank.secret(), at, due.body)
    return {SIGNATURE: f"t={at},v1={mac}", "content-type": "application/json"}


async def deliver(bank: TrialBank, post: Post, *, at_most: int = 10_000) -> int:
    """Send what is due, each notice until it is taken (2xx); return how many were.

    What is not taken goes behind the others. Stops when nothing is due, when everything that is
    due was refused in a row, or after `at_most` tries.
    """
    taken = 0
    refused: set[int] = set()
    for _ in range(at_most):
        due = await asyncio.to_thread(bank.due)
        if due is None or due.id in refused:
            break
        if 200 <= await post(due.body, signed(bank, due)) < 300:
            await asyncio.to_thread(bank.delivered, due.id)
            refused.clear()
            taken += 1
        else:
            await asyncio.to_thread(bank.put_off, due.id)
            refused.add(due.id)
    return taken


def _mac(secret: str, at_s: int, body: bytes) -> str:
    return hmac.new(secret.encode(), b"%d." % at_s + body, hashlib.sha256).hexdigest()
