"""`livecart ledger`, `reconcile` and `prune`: the books of an offer, for people and for scripts.

Owns what is printed, where the servers are found (settings, else an `up` that runs on the data
folder) and the statuses: 0 all agrees, 1 it does not. Decides nothing. Called by `cli`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import msgspec
from redis.exceptions import RedisError

from livecart.app import close_pool
from livecart.doctor import state_of
from livecart.settings import Settings, demand, load
from livecart.worker import composed
from orders.compare import Difference
from orders.ledger import retention
from orders.ledger.books import Books, Entry, Sums
from orders.ledger.ledger import Ledger, LedgerAway
from orders.ledger.pool import open_pool
from orders.reconcile import Figure, Reconciler
from orders.stock.gate import GateAway, GateBroken

READ_TIMEOUT_S = 60.0  # of one read: an offer may have a million orders
OFFERS_AT_ONCE = 4
SHOWN_MAX = 50  # differences of an offer that are printed for people; JSON has them all

T = TypeVar("T")


class ServersFault(Exception):
    """Redis or Postgres cannot be asked; the text is one line for the user."""


def ledger(environ: Mapping[str, str], offer: str, last: int | None, as_json: bool) -> int:
    """Print an offer's movements and whether they sum to its counters; return the status."""
    settings = settings_of(environ, "database")

    async def read() -> tuple[list[Entry], Sums | None]:
        async with _books(settings) as books:
            return await books.entries(offer, last), await books.sums(offer)

    entries, sums = run(read)
    if sums is None:
        raise ServersFault(f"there is no offer {offer!a}")
    wrong = sums.differences()
    if as_json:
        said = {
            "offer": offer,
            "entries": [_plain(entry) for entry in entries],
            "sums": msgspec.to_builtins(sums),
            "differences": wrong,
            "agrees": not wrong,
        }
        _print(json.dumps(said, ensure_ascii=False))
    else:
        _print(*_table(_ENTRY, (_columns(entry) for entry in entries)))
        _print(*(f"DIFFERENT: {what}" for what in wrong))
        if not wrong:
            counters = f"quantity {sums.quantity}, taken {sums.taken}"
            _print(f"the sums agree: {counters}, movement {sums.last_movement}")
    return 1 if wrong else 0


def reconcile(
    environ: Mapping[str, str], offers: Sequence[str], repair: bool, as_json: bool
) -> int:
    """Print offers on both sides, mend what differs if asked to; return the status."""
    settings = settings_of(environ, "redis", "database")

    async def look() -> list[Outcome]:
        async with composed(settings) as keeper:
            reconciler = keeper.reconciler
            slots = asyncio.Semaphore(OFFERS_AT_ONCE)

            async def one(offer: str) -> Outcome:
                async with slots:
                    return await _look(reconciler, offer, repair)

            named = await reconciler.gates(offers) if offers else await reconciler.offers()
            return await asyncio.gather(*(one(offer) for offer in named))

    outcomes = run(look)
    for outcome in outcomes:
        if not outcome.figures:
            raise ServersFault(f"there is no offer {outcome.offer!a}")
    agree = all(not outcome.remaining for outcome in outcomes)
    if as_json:
        _print(json.dumps({"offers": [_said(o) for o in outcomes], "agree": agree}))
    else:
        for outcome in outcomes:
            _print(*_report(outcome), "")
        _print("all agrees" if agree else "NOT ALL AGREES")
    return 0 if agree else 1


def prune(environ: Mapping[str, str], older_than_days: int, dry_run: bool) -> int:
    """Delete, or count, old rows that nothing needs; print how many of each."""
    settings = settings_of(environ, "database")

    async def work() -> dict[str, int]:
        async with _ledger(settings) as ledger:
            if dry_run:
                return await retention.count(ledger, older_than_days)
            return await retention.prune(ledger, older_than_days)

    word = "would go" if dry_run else "gone"
    _print(*(f"{name}: {rows:,} {word}" for name, rows in run(work).items()))
    return 0


class Outcome(msgspec.Struct, frozen=True):
    """What was found of one offer, what was done about it, and what is left."""

    offer: str
    figures: list[Figure]  # at the end
    found: list[Difference]
    mended: str  # what was done; "" for nothing
    remaining: list[Difference]


async def _look(reconciler: Reconciler, offer: str, repair: bool) -> Outcome:
    found = await reconciler.differences(offer)
    mended, remaining = "", found
    if found and repair:
        mended = await reconciler.mend(offer, found)
        remaining = await reconciler.differences(offer)
    return Outcome(offer, await reconciler.figures(offer), found, mended, remaining)


# --- the servers -------------------------------------------------------------------------------


def settings_of(environ: Mapping[str, str], *needed: Any) -> Settings:
    """Return the settings, with the addresses of a running `up` where none are set."""
    settings = load(environ)
    running = state_of(Path(settings.data_dir)) or {}
    found = msgspec.structs.replace(
        settings,
        redis_url=settings.redis_url or running.get("redis_url"),
        gate_url=settings.gate_url or running.get("gate_url"),
        database_url=settings.database_url or running.get("database_url"),
    )
    demand(found, *needed)
    return found


@asynccontextmanager
async def _ledger(settings: Settings) -> AsyncIterator[Ledger]:
    assert settings.database_url is not None
    pool = await open_pool(settings.database_url, 2)
    try:
        yield Ledger(pool, timeout_s=READ_TIMEOUT_S)
    finally:
        await close_pool(pool)


@asynccontextmanager
async def _books(settings: Settings) -> AsyncIterator[Books]:
    async with _ledger(settings) as ledger:
        yield Books(ledger)


def run(work: Callable[[], Coroutine[None, None, T]]) -> T:
    """Run to the end; raise `ServersFault` when a server cannot be asked."""
    away = (LedgerAway, GateAway, GateBroken, RedisError, OSError, TimeoutError,
            asyncpg.PostgresError, asyncpg.InterfaceError)  # fmt: skip
    try:
        return asyncio.run(work())
    except away as error:
        raise ServersFault(
            f"the servers cannot be asked: {error or type(error).__name__}"
        ) from error


# --- what is printed ---------------------------------------------------------------------------

_ENTRY = ("time", "n", "what", "quantity", "taken", "order", "rank", "epoch", "why")


def _columns(entry: Entry) -> tuple[str, ...]:
    return (
        _time(entry.at), _or_dash(entry.n), entry.what,
        _sum(entry.quantity_change, entry.quantity), _sum(entry.taken_change, entry.taken),
        _or_dash(entry.order), _or_dash(entry.rank), _or_dash(entry.epoch), entry.why,
    )  # fmt: skip


def _sum(change: int, now: int) -> str:
    return f"{change:+d} = {now}" if change else f"{now}"


def _time(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _plain(entry: Entry) -> dict[str, Any]:
    return {**msgspec.to_builtins(entry), "at": int(entry.at.timestamp() * 1000)}


def _or_dash(value: object) -> str:
    return "-" if value is None else str(value)


def _said(outcome: Outcome) -> dict[str, Any]:
    return {
        "offer": outcome.offer,
        "redis": {name: has for name, has, _ in outcome.figures},
        "postgres": {name: says for name, _, says in outcome.figures},
        "differences": [_difference(one) for one in outcome.found],
        "mended": outcome.mended or None,
        "remaining": [_difference(one) for one in outcome.remaining],
        "agrees": not outcome.remaining,
    }


def _difference(one: Difference) -> dict[str, str]:
    said: dict[str, str] = msgspec.to_builtins(one)
    del said["lasting"]
    return said


def _report(outcome: Outcome) -> Iterable[str]:
    rows = [(name, _or_dash(has), _or_dash(says)) for name, has, says in outcome.figures]
    yield from _table((outcome.offer, "Redis", "Postgres"), rows)
    yield from _listed("different", outcome.found)
    if outcome.mended:
        yield f"mended by: {outcome.mended}"
        yield from _listed("still different", outcome.remaining)


def _listed(word: str, differences: Sequence[Difference]) -> Iterable[str]:
    yield from (f"{word}: {one}" for one in differences[:SHOWN_MAX])
    if len(differences) > SHOWN_MAX:
        yield f"{word}: {len(differences) - SHOWN_MAX} more"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterable[str]:
    lines = [head, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    for line in lines:
        yield "  ".join(
            cell.ljust(width) for cell, width in zip(line, widths, strict=True)
        ).rstrip()


def _print(*lines: str) -> None:
    sys.stdout.writelines(f"{line}\n" for line in lines)
