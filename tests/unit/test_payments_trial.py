"""The trial bank: faults on command, keys for ever, notices as odd as wanted, and its auditor."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import pytest

from orders.payments import trial_books
from orders.payments.port import NotGenuine, ProviderAway, ProviderRefused, Seen
from orders.payments.trial import Trial, deliver, signed
from orders.payments.trial_bank import Fault, TrialBank, Verb
from tests.contract.payments_rig import asked
from tests.hub_rig import until


@pytest.fixture
def bank(tmp_path: Path) -> TrialBank:
    """A bank of the test's own."""
    return TrialBank(tmp_path / "bank.sqlite")


@pytest.fixture
def trial(bank: TrialBank) -> Trial:
    """The provider at it."""
    return Trial(bank)


async def authorised(trial: Trial, bank: TrialBank, amount_minor: int = 1_000) -> str:
    """Return the reference of a payment that the buyer has authorised."""
    ref = (await trial.begin(asked(amount_minor))).seen.ref
    bank.authorise(ref)
    return ref


async def notices(bank: TrialBank, trial: Trial) -> list[Seen]:
    """Take every notice that is due, in the bank's order."""
    found: list[Seen] = []

    async def post(body: bytes, headers: Mapping[str, str]) -> int:
        seen = trial.hear(headers, body, time.time()).seen
        assert seen is not None
        found.append(seen)
        return 204

    await deliver(bank, post)
    return found


async def test_a_lost_answer_and_its_repetition(trial: Trial, bank: TrialBank) -> None:
    """A capture whose answer was lost is done; the same key captures nothing more."""
    ref = await authorised(trial, bank)
    bank.will("capture", "lose_answer")
    with pytest.raises(ProviderAway):
        await trial.capture(ref, 1_000, "TWD", "k1")
    assert (await trial.look(ref)).captured_minor == 1_000
    assert (await trial.capture(ref, 1_000, "TWD", "k1")).captured_minor == 1_000
    account = bank.audit()[0]
    assert (account.captured_minor, account.captures, account.keys) == (1_000, 1, 1)


async def test_away_and_refused(trial: Trial, bank: TrialBank) -> None:
    """Calls fail as often and in the order commanded, and what fails has done nothing."""
    ref = await authorised(trial, bank)
    bank.will("capture", "away", times=2)
    bank.will("capture", "refuse", code="expired_card")
    for _ in range(2):
        with pytest.raises(ProviderAway):
            await trial.capture(ref, 1_000, "TWD", "k1")
    with pytest.raises(ProviderRefused) as refused:
        await trial.capture(ref, 1_000, "TWD", "k1")
    assert refused.value.code == "expired_card"
    assert bank.audit() == []
    assert (await trial.capture(ref, 1_000, "TWD", "k1")).captured_minor == 1_000


@pytest.mark.parametrize("verb", ["begin", "capture", "void", "refund", "look", "listed"])
async def test_each_call_can_fail(trial: Trial, bank: TrialBank, verb: Verb) -> None:
    """There is no call that cannot be commanded to lose its answer."""
    ref = await authorised(trial, bank)
    if verb == "refund":
        await trial.capture(ref, 1_000, "TWD", "k1")
    bank.will(verb, "lose_answer")
    calls: dict[Verb, Callable[[], Awaitable[object]]] = {
        "begin": lambda: trial.begin(asked()),
        "capture": lambda: trial.capture(ref, 1_000, "TWD", "k1"),
        "void": lambda: trial.void(ref, "v1"),
        "refund": lambda: trial.refund(ref, 500, "TWD", "r1"),
        "look": lambda: trial.look(ref),
        "listed": lambda: anext(trial.listed(0)),
    }
    with pytest.raises(ProviderAway):
        await calls[verb]()


@pytest.mark.parametrize(("what", "done"), [("hold", 0), ("hold_answer", 1_000)])
async def test_held(trial: Trial, bank: TrialBank, what: Fault, done: int) -> None:
    """A call waits, before or after its work, until it is let go from wherever."""
    ref = await authorised(trial, bank)
    bank.will("capture", what)
    call = asyncio.create_task(trial.capture(ref, 1_000, "TWD", "k1"))
    await until(lambda: bank.held() == 1)
    assert (await trial.look(ref)).captured_minor == done
    bank.let_go()
    assert (await call).captured_minor == 1_000


@pytest.mark.parametrize("before_it_hears", [False, True])
async def test_who_gives_up_waiting_is_not_counted(
    trial: Trial, bank: TrialBank, before_it_hears: bool
) -> None:
    """A caller that stops waiting leaves nothing behind; what the bank did is done."""
    ref = await authorised(trial, bank)
    bank.will("capture", "hold_answer")
    call = asyncio.create_task(trial.capture(ref, 1_000, "TWD", "k1"))
    if before_it_hears:
        for _ in range(3):  # the call, then its thread
            await asyncio.sleep(0)
        while bank.held() == 0:
            pass  # the loop stands still, so that it learns of no answer
    else:
        await until(lambda: bank.held() == 1)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await until(lambda: bank.held() == 0)
    assert bank.audit()[0].captured_minor == 1_000


async def test_one_key_at_the_same_time(trial: Trial, bank: TrialBank, tmp_path: Path) -> None:
    """Twelve calls at once under one key, over as many ways in, move money once, answered alike."""
    ref = await authorised(trial, bank)
    ways = [Trial(TrialBank(tmp_path / "bank.sqlite")) for _ in range(12)]
    calls = (way.capture(ref, 1_000, "TWD", "k1") for way in ways)
    assert len(set(await asyncio.gather(*calls))) == 1
    account = bank.audit()[0]
    assert (account.captured_minor, account.captures) == (1_000, 1)


def test_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one is in the books nobody else opens them: what was read there is so until the end."""
    monkeypatch.setattr(trial_books, "BUSY_S", 0.0)
    one, other = (trial_books.Books(str(tmp_path / "bank.sqlite")) for _ in range(2))
    with one.open(), pytest.raises(sqlite3.OperationalError, match="locked"), other.open():
        raise AssertionError("both are in")
    with other.open():
        pass


async def test_a_key_means_one_thing(trial: Trial, bank: TrialBank) -> None:
    """A key used for another amount, or another verb, is refused."""
    ref = await authorised(trial, bank)
    await trial.capture(ref, 700, "TWD", "k1")
    for call in (trial.capture(ref, 701, "TWD", "k1"), trial.refund(ref, 700, "TWD", "k1")):
        with pytest.raises(ProviderRefused) as refused:
            await call
        assert refused.value.code == "key_reused"


async def test_begun_again(trial: Trial) -> None:
    """The same payment begun again is the same; with another amount it is refused."""
    wanted = asked(1_000, payment="pay_1")
    first = await trial.begin(wanted)
    assert await trial.begin(wanted) == first
    with pytest.raises(ProviderRefused):
        await trial.begin(asked(1_001, payment="pay_1"))


async def test_another_amount_than_was_asked_for(trial: Trial, bank: TrialBank) -> None:
    """A buyer who authorises less is seen to, and the whole cannot be captured."""
    ref = (await trial.begin(asked(1_000))).seen.ref
    seen = bank.authorise(ref, 999)
    assert (seen.amount_minor, seen.capturable_minor) == (1_000, 999)
    with pytest.raises(ProviderRefused):
        await trial.capture(ref, 1_000, "TWD", "k1")


async def test_a_refund_takes_its_time_and_fails(trial: Trial, bank: TrialBank) -> None:
    """A pending refund counts until it has failed; then the money is there to be refunded."""
    ref = await authorised(trial, bank)
    await trial.capture(ref, 1_000, "TWD", "k1")
    bank.will("refund", "pending")
    seen = await trial.refund(ref, 1_000, "TWD", "r1")
    assert (seen.refunded_minor, seen.refunds[0].state) == (1_000, "pending")
    seen = bank.settle_refund(seen.refunds[0].ref, "failed")
    assert (seen.refunded_minor, seen.refunds[0].state) == (0, "failed")
    with pytest.raises(ProviderRefused, match="refund_failed"):
        await trial.refund(ref, 1_000, "TWD", "r1")
    assert (await trial.refund(ref, 1_000, "TWD", "r2")).refunded_minor == 1_000


async def test_the_auditor_adds_up_money(trial: Trial, bank: TrialBank) -> None:
    """The auditor's sums come of the moves, with those at the desk, each under its own key."""
    ref = await authorised(trial, bank)
    await trial.capture(ref, 900, "TWD", "k1")
    for key in ("r1", "r2", "r1"):
        await trial.refund(ref, 100, "TWD", key)
    bank.refund_by_hand(ref, 50)
    bank.dispute(ref)
    account = bank.audit()[0]
    assert (account.captured_minor, account.refunded_minor, account.keys) == (900, 250, 3)
    assert (await trial.look(ref)).disputed


async def test_notices_say_how_it_stood(trial: Trial, bank: TrialBank) -> None:
    """Each change is told once, in order, as it was then."""
    ref = await authorised(trial, bank)
    await trial.capture(ref, 1_000, "TWD", "k1")
    await trial.capture(ref, 1_000, "TWD", "k1")
    await trial.refund(ref, 300, "TWD", "r1")
    told = [(s.state, s.captured_minor, s.refunded_minor) for s in await notices(bank, trial)]
    assert told == [("authorised", 0, 0), ("captured", 1_000, 0), ("captured", 1_000, 300)]
    assert await notices(bank, trial) == []


async def test_notices_repeated_late_and_lost(trial: Trial, bank: TrialBank) -> None:
    """On command a notice comes twice, after the next one, or never."""
    for fault in ("repeat", "late", "lose"):
        bank.will("notice", fault)
    refs = [await authorised(trial, bank) for _ in range(4)]
    heard = [seen.ref for seen in await notices(bank, trial)]
    assert heard == [refs[0], refs[0], refs[3], refs[1]]


async def test_a_notice_that_is_not_taken_comes_again(trial: Trial, bank: TrialBank) -> None:
    """Whatever is not answered with 2xx is sent again later, the same event; others go on."""
    for _ in range(3):
        await authorised(trial, bank)
    tried: list[str] = []
    chance = random.Random(5)

    async def post(body: bytes, headers: Mapping[str, str]) -> int:
        tried.append(trial.hear(headers, body, time.time()).event)
        return chance.choice([200, 500])

    taken = 0
    while bank.due() is not None:
        taken += await deliver(bank, post)
    assert taken == 3
    assert len(set(tried)) == 3
    assert len(tried) > 3


async def test_a_shop_that_takes_nothing(trial: Trial, bank: TrialBank) -> None:
    """Where nothing is taken each notice is tried once, and stays."""
    for _ in range(3):
        await authorised(trial, bank)
    tried: list[bytes] = []

    async def post(body: bytes, headers: Mapping[str, str]) -> int:
        tried.append(body)
        return 503

    assert await deliver(bank, post) == 0
    assert len(tried) == len(set(tried)) == 3
    assert len(await notices(bank, trial)) == 3


async def test_only_the_banks_notices(trial: Trial, bank: TrialBank, tmp_path: Path) -> None:
    """A notice of another bank, an old one and a changed one are not genuine."""
    await authorised(trial, bank)
    due = bank.due()
    assert due is not None
    now_s = time.time()
    assert trial.hear(signed(bank, due, now_s), due.body, now_s).event == due.event
    other = TrialBank(tmp_path / "other.sqlite")
    for headers, body, at_s in (
        (signed(other, due, now_s), due.body, now_s),
        (signed(bank, due, now_s), due.body + b" ", now_s),
        (signed(bank, due, now_s - 400), due.body, now_s),
        ({}, due.body, now_s),
    ):
        with pytest.raises(NotGenuine):
            trial.hear(headers, body, at_s)


async def test_another_process_commands(trial: Trial, bank: TrialBank, tmp_path: Path) -> None:
    """A test in another process commands faults and authorises, through the file alone."""
    ref = (await trial.begin(asked(1_000))).seen.ref
    text = (
        "import sys; from orders.payments.trial_bank import TrialBank;"
        "bank = TrialBank(sys.argv[1]); bank.authorise(sys.argv[2]); bank.will('capture', 'away')"
    )
    command = [sys.executable, "-c", text, str(tmp_path / "bank.sqlite"), ref]
    await asyncio.to_thread(subprocess.run, command, check=True, timeout=60)
    with pytest.raises(ProviderAway):
        await trial.capture(ref, 1_000, "TWD", "k1")
    assert (await trial.capture(ref, 1_000, "TWD", "k1")).state == "captured"


async def test_more_than_a_page_is_listed(tmp_path: Path) -> None:
    """The list goes on past its first page, newest first, and ends at the time asked for."""
    clock = iter(range(1, 10_000))
    bank = TrialBank(tmp_path / "bank.sqlite", lambda: next(clock) // 2)
    for n in range(600):
        bank.begin(asked(1_000, payment=f"pay_{n}"))
    listed = [seen async for seen in Trial(bank).listed(20)]
    assert [s.at_ms for s in listed] == sorted((s.at_ms or 0 for s in listed), reverse=True)
    assert len({seen.ref for seen in listed}) == len(listed) == 561
