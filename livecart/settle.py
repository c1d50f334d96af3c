"""`livecart settle`: what a payment provider's list and ours say differently.

Owns what is printed and the statuses: 0 all agrees, 1 it does not. Changes nothing. To be run each
day by cron or alike. Called by `cli`.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from functools import partial

import msgspec

from livecart.app import close_pool
from livecart.books import READ_TIMEOUT_S, ServersFault, run, settings_of
from livecart.providers import connected
from livecart.settings import Settings, SettingsError
from orders.ledger.ledger import Ledger
from orders.ledger.money import Money
from orders.ledger.pool import open_pool
from orders.payments.port import ProviderAway, ProviderRefused, Seen
from orders.payments.settling import Difference, Row, in_order
from orders.payments.settling import settle as walk

DAY_S = 86_400
#: A payment that is under way is not different, it is not finished.
YOUNG_S = 600
#: Ours is noted first, by another clock than theirs: before the time that is asked for, both sides
#: are read for so long, ours twice as long, that each finds its other.
EDGE_MS = 3_600_000


def settle(environ: Mapping[str, str], days: float, as_json: bool) -> int:
    """Print each difference of the last days, return the status; raise `ServersFault`."""
    settings = settings_of(environ, "database")
    names = [name for name in settings.payments.names if name != "manual"]
    if not names:
        raise SettingsError("LIVECART_PAYMENTS names no provider that has a list to compare with")
    now_s = time.time()
    since_ms = int((now_s - days * DAY_S) * 1000)
    different = 0
    for name in names:
        found = run(partial(_differences, settings, name, since_ms, now_s))
        different += len(found)
        if as_json:
            said = {"provider": name, "since": since_ms, "differences": found}
            _print(msgspec.json.encode(said).decode())
        else:
            since = datetime.fromtimestamp(since_ms / 1000, UTC).isoformat(timespec="minutes")
            _print(*(f"{name}: {_line(one)}" for one in found))
            what = f"{len(found)} differences" if found else "all agrees"
            _print(f"{name}: {what} since {since}")
    return 1 if different else 0


async def _differences(
    settings: Settings, name: str, since_ms: int, now_s: float
) -> list[Difference]:
    assert settings.database_url is not None
    (provider,) = (one for one in connected(settings.payments) if one.name == name)
    pool = await open_pool(settings.database_url, 2)
    young_ms = int((now_s - YOUNG_S) * 1000)
    too_young: set[str | None] = set()
    just_begun: set[str | None] = set()
    too_old: set[str | None] = set()  # they are there for what they may be the other side of
    money = Money(Ledger(pool, timeout_s=READ_TIMEOUT_S))

    async def ours() -> AsyncIterator[Row]:
        async for one in money.since(provider.name, since_ms - 2 * EDGE_MS):
            if one.created_at > young_ms:
                too_young.add(one.id)
            elif one.created_at < since_ms:
                too_old.add(one.id)
            yield Row(
                payment=one.id,
                ref=one.ref,
                state="open" if one.state == "new" else one.state,
                amount_minor=one.amount_minor,
                currency=one.currency,
                captured_minor=one.captured_minor,
                refunded_minor=one.refunded_minor,
                disputed=one.disputed,
            )

    async def theirs() -> AsyncIterator[Seen]:
        async for seen in provider.listed(since_ms - EDGE_MS):
            if seen.payment is not None and (seen.at_ms or 0) > young_ms:
                just_begun.add(seen.payment)  # since our list was read, maybe
            yield seen

    try:
        found = [one async for one in walk(ours(), in_order(theirs()))]
        return [
            one
            for one in found
            if one.payment not in too_young
            and not (one.kind == "missing_there" and one.payment in too_old)
            and not (one.kind == "missing_here" and one.payment in just_begun)
        ]
    except (ProviderAway, ProviderRefused) as error:
        raise ServersFault(f"{provider.name} cannot be asked: {error}") from error
    finally:
        await provider.close()
        await close_pool(pool)


def _line(one: Difference) -> str:
    of = f"{one.payment or '-'} ({one.ref or '-'})"
    if one.ours is None and one.theirs is None:
        return f"{one.kind}: {of}"
    return f"{one.kind}: {of}: here {json.dumps(one.ours)}, there {json.dumps(one.theirs)}"


def _print(*lines: str) -> None:
    sys.stdout.writelines(f"{line}\n" for line in lines)
