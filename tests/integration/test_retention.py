"""What `prune` deletes, and what it never does."""

from __future__ import annotations

import asyncio

import pytest

from livecart.cli import run
from orders.ledger.retention import count, prune
from tests.shop import Shop, bought


async def old_sale(shop: Shop, days: int) -> str:
    """A stream that ended so long ago, with all that was told of it; return its id."""
    hub, offer = shop.hubs[0], await shop.offer(1)
    bought(await hub.buy(offer.id, "ann"))
    await hub.changes.end_stream(offer.stream)
    for statement in (
        "update streams set ended_at = now() - make_interval(days => $2) where id = $1",
        "update facts set at = now() - make_interval(days => $2) where stream = $1",
        "update fact_heads set published = n where stream = $1 and $2 > 0",
    ):
        await shop.fetch(statement, offer.stream, days)
    return offer.stream


async def facts_of(shop: Shop) -> dict[str, int]:
    """Return how many facts each stream has."""
    rows = await shop.fetch("select stream, count(*) from facts group by 1")
    return {row[0]: row[1] for row in rows}


async def test_old_facts_go_and_nothing_else(shop: Shop) -> None:
    """Of ended streams, once published and old: all but the last; orders and movements stay."""
    old, young = await old_sale(shop, 100), await old_sale(shop, 80)
    untold = await old_sale(shop, 100)
    await shop.fetch("update fact_heads set published = 0 where stream = $1", untold)
    counts = "select (select count(*) from orders), (select count(*) from movements)"
    before = await shop.fetch(counts)
    facts = await facts_of(shop)
    ledger = shop.hubs[0].ledger
    assert await count(ledger, 90) == {"facts": facts[old] - 1, "payment_events": 0}
    gone = await prune(ledger, 90, batch=2)
    assert gone == {"facts": facts[old] - 1, "payment_events": 0}
    assert await facts_of(shop) == {old: 1, young: facts[young], untold: facts[untold]}
    assert await shop.fetch(counts) == before
    assert await prune(ledger, 90) == {"facts": 0, "payment_events": 0}


async def test_a_fact_that_comes_after_has_the_next_number(shop: Shop) -> None:
    """What a stream tells later goes on from the fact that was left."""
    old = await old_sale(shop, 100)
    await prune(shop.hubs[0].ledger, 90)
    last = await shop.fetch("select n from facts where stream = $1", old)
    await shop.fetch("select tell($1, 'offer.paused', 'of_x', null, null)", old)
    rows = await shop.hubs[0].ledger.facts(old, None)
    assert [fact.n for fact in rows] == [last[0][0] + 1]


async def test_the_command_counts_before_it_deletes(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--dry-run` only says how much; without it, so much is gone."""
    await shop.fetch(
        "insert into payment_events (provider, event, kind, at)"
        " select 'stripe', 'evt_' || d, 'x', now() - make_interval(days => d)"
        " from unnest(array[29, 31]) d"
    )
    monkeypatch.setenv("LIVECART_DATABASE_URL", shop.database_url)
    command = ["prune", "--older-than", "30"]
    assert await asyncio.to_thread(run, [*command, "--dry-run"]) == 0
    assert capsys.readouterr().out == "facts: 0 would go\npayment_events: 1 would go\n"
    assert await asyncio.to_thread(run, command) == 0
    assert capsys.readouterr().out == "facts: 0 gone\npayment_events: 1 gone\n"
    rows = await shop.fetch("select event from payment_events")
    assert [row[0] for row in rows] == ["evt_29"]
