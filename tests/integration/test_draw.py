"""Draws on real servers: who entered wins by the lowest HMAC(seed, viewer), and nobody else."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import random
import secrets
from typing import Any

import asyncpg
import pytest

from orders import draws
from orders.ledger.draws import draw_entries, draw_of
from orders.ledger.ledger import Line
from orders.records import Accepted, Offer, Refused, Waitlisted
from tests.shop import Hub, Shop, bought, done, why
from tests.waitlist_rig import AT_ONCE, join, refused, status_of, waiting

LATER = 4_000_000_000_000
NAMES = [f"viewer-{n}" for n in range(12)]


@pytest.fixture
def hub(shop: Shop) -> Hub:
    """A hub whose keeper waits for nobody."""
    hub = shop.hubs[0]
    hub.keeper.limits = AT_ONCE
    return hub


async def draw(shop: Shop, units: int = 3, **more: Any) -> Offer:
    """A draw whose window is open."""
    terms: dict[str, Any] = {"opens_at": LATER, "mode": "draw"}
    return await shop.offer(units, opened=False, **(terms | more))


async def entered(hub: Hub, offer: Offer, viewers: list[str], qty: int = 1) -> None:
    """Have viewers enter at once."""
    for answer in await asyncio.gather(*(join(hub, offer, v, qty) for v in viewers)):
        assert isinstance(answer, Waitlisted), answer


async def fall_due(shop: Shop, offer: Offer) -> None:
    """Let the window close; nobody acts on it yet."""
    await shop.fetch("update offers set opens_at = clock_timestamp() where id = $1", offer.id)


async def seed_of(hub: Hub, offer: Offer) -> str:
    """Return the seed of a draw that was held."""
    seed = (await hub.ledger.offers([offer.id]))[0].seed
    assert seed is not None
    return seed


def by_score(seed: str, viewers: list[str]) -> list[str]:
    """Return viewers, lowest score first, by nothing of ours."""
    key = bytes.fromhex(seed)
    return sorted(viewers, key=lambda v: hmac.new(key, v.encode(), hashlib.sha256).digest())


async def holders(shop: Shop, offer: Offer) -> list[str]:
    """Return who has a live order, by rank."""
    rows = await shop.fetch(
        "select viewer from orders where offer = $1 and status in ('reserved', 'confirmed')"
        " order by rank", offer.id,
    )  # fmt: skip
    return [row[0] for row in rows]


async def waiters(hub: Hub, offer: Offer) -> list[str]:
    """Return who waits, first come first."""
    return [entry.viewer for entry in await waiting(hub, offer)]


async def rewrite(shop: Shop, sql: str, *args: object) -> None:
    """Change what the tables refuse to have changed."""
    async with shop._pools[0].acquire() as connection, connection.transaction():
        await connection.execute("set local session_replication_role = 'replica'")
        await connection.execute(sql, *args)


async def facts_of(shop: Shop, offer: Offer) -> list[tuple[str, dict[str, Any]]]:
    """Return the (kind, body) of what was told of an offer, in order."""
    rows = await shop.fetch(
        "select kind, body->>'seed' as seed, body->>'seed_hash' as seed_hash from facts"
        " where subject = $1 order by n", offer.id,
    )  # fmt: skip
    return [(row["kind"], dict(row)) for row in rows]


# --- the rule ------------------------------------------------------------------------------------


async def test_scores_in_postgres_are_those_of_everybody_else(shop: Shop) -> None:
    """HMAC-SHA256 of any viewer under any seed, against Python's own."""
    viewers = ["a", " ", "茶" * 42, "\u00e9", "e\u0301", "😀", "x" * 128, "o'brien\\", "%s", "ÿ~"]
    viewers += [secrets.token_urlsafe(n) for n in range(1, 60)]
    for seed in (
        bytes(32),
        b"\xff" * 32,
        b"\x00" + secrets.token_bytes(31),
        secrets.token_bytes(32),
    ):
        rows = await shop.fetch(
            "select v, draw_score(draw_pad($1, 54), draw_pad($1, 92), v) as score"
            "  from unnest($2::text[]) v", seed, viewers,
        )  # fmt: skip
        for row in rows:
            expected = hmac.new(seed, row["v"].encode(), hashlib.sha256)
            assert row["score"] == expected.digest()
            assert draws.draw_score(seed.hex(), row["v"]) == expected.hexdigest()


async def test_the_lowest_win_and_the_unpaid_goes_to_the_next(shop: Shop, hub: Hub) -> None:
    """Commitment, window, draw, an unpaid winner, the next lowest: by each his own hold."""
    offer = await draw(shop, 3, hold_s=600, waitlist_hold_s=45)
    assert (offer.mode, offer.seed, len(offer.seed_hash or "")) == ("draw", None, 64)
    await entered(hub, offer, NAMES)
    assert why(await hub.buy_until_final(offer.id, "eve")) == "not_open"
    assert await status_of(hub, offer) == ("scheduled", 3, 12)

    await fall_due(shop, offer)
    await hub.keeper.round()
    seed = await seed_of(hub, offer)
    assert hashlib.sha256(bytes.fromhex(seed)).hexdigest() == offer.seed_hash
    order = by_score(seed, NAMES)
    assert await holders(shop, offer) == order[:3]
    assert await waiters(hub, offer) == order[3:]
    assert await status_of(hub, offer) == ("sold_out", 0, 9)
    assert sorted(o.viewer for o in hub.heard.changes) == sorted(order[:3])
    await shop.at_rest(offer.id)

    loser = await join(hub, offer, order[4])
    assert isinstance(loser, Waitlisted)
    assert (loser.position, loser.replayed) == (2, True)
    winner = await join(hub, offer, order[0])
    assert isinstance(winner, Accepted)
    assert winner.replayed
    assert winner.order.expires_at == winner.order.reserved_at + 600_000

    await shop.fetch(
        "update orders set expires_at = clock_timestamp() where offer = $1 and viewer = $2",
        offer.id, order[1],
    )  # fmt: skip
    await hub.keeper.round()
    assert sorted(await holders(shop, offer)) == sorted([order[0], order[2], order[3]])
    late = await join(hub, offer, order[3])
    assert isinstance(late, Accepted)
    assert late.order.expires_at == late.order.reserved_at + 45_000
    await shop.at_rest(offer.id)


async def test_what_a_draw_found_can_be_checked(shop: Shop, hub: Hub) -> None:
    """Entries of several units, some of whom never fit: the record, and `verify`, agree."""
    offer = await draw(shop, 7, per_viewer=5)
    dice = random.Random(7)
    asked = {viewer: dice.randint(1, 5) for viewer in NAMES}
    for viewer, qty in asked.items():
        await entered(hub, offer, [viewer], qty)
    before = await draw_of(hub.ledger, offer.id)
    assert before is not None
    assert (before.seed, before.entries, before.winners, before.threshold) == (None, 12, None, None)
    assert await draw_entries(hub.ledger, offer.id, None, 0, 100) == []
    now = done(await hub.changes.open_offer(offer.id))  # a host may draw early
    seed = await seed_of(hub, offer)
    won = draws.winners(seed, asked.items(), 7)
    assert sorted(await holders(shop, offer)) == sorted(won)
    assert draws.verify(offer.seed_hash or "", seed, asked.items(), 7, won)
    assert not draws.verify(offer.seed_hash or "", seed, asked.items(), 7, won[1:])
    assert not draws.verify("0" * 64, seed, asked.items(), 7, won)
    found = await draw_of(hub.ledger, offer.id)
    assert found is not None
    scores = {viewer: draws.draw_score(seed, viewer) for viewer in NAMES}
    assert (found.seed, found.entries, found.winners) == (seed, 12, len(won))
    assert found.units == sum(asked[viewer] for viewer in won) == now.taken
    assert found.threshold == max(scores[viewer] for viewer in won)
    rows = await draw_entries(hub.ledger, offer.id, None, 0, 100)
    assert [(r.place, r.viewer, r.score) for r in rows] == [
        (n, viewer, scores[viewer]) for n, viewer in enumerate(by_score(seed, NAMES), 1)
    ]
    assert [r.viewer for r in rows if r.won] == won
    assert await draw_entries(hub.ledger, offer.id, won[0], 0, 100) == [
        r for r in rows if r.viewer == won[0]
    ]
    await shop.at_rest(offer.id)


async def test_ranks_are_those_of_the_entries_in_the_order_of_the_draw(
    shop: Shop, hub: Hub
) -> None:
    """The i-th lowest score has the i-th of the ranks that the gate gave; gaps stay gaps (I6)."""
    offer = await draw(shop, 2)
    for viewer in NAMES[:5]:
        await entered(hub, offer, [viewer])
    assert await hub.selling.waitlist.leave(offer.id, NAMES[1]) is None
    done(await hub.changes.open_offer(offer.id))
    there = [viewer for viewer in NAMES[:5] if viewer != NAMES[1]]
    rows = await shop.fetch(
        "select viewer, rank from orders where offer = $1 union all"
        " select viewer, rank from waitlist where offer = $1 and left_at is null order by rank",
        offer.id,
    )  # fmt: skip
    order = by_score(await seed_of(hub, offer), there)
    assert [tuple(r) for r in rows] == list(zip(order, [1, 3, 4, 5], strict=True))
    await shop.at_rest(offer.id)


# --- entering ------------------------------------------------------------------------------------


async def test_many_connections_of_one_viewer_are_one_entry(shop: Shop, hub: Hub) -> None:
    """By several hubs, with one key or several, at once: one chance, within his limit."""
    offer = await draw(shop, 2, per_viewer=2)
    other = await shop.hub()
    answers = await asyncio.gather(
        *(join(which, offer, "ann", 1, f"k{n % 7}") for n in range(30) for which in (hub, other))
    )
    assert all(isinstance(answer, Waitlisted) and answer.position == 1 for answer in answers)
    assert refused(await join(hub, offer, "bob", 3)) == "limit_reached"
    assert refused(await join(hub, offer, "ann", 2, "k0")) in ("key_reused", "conflict")
    assert await status_of(hub, offer) == ("scheduled", 2, 1)
    done(await hub.changes.open_offer(offer.id))
    assert await holders(shop, offer) == ["ann"]
    await shop.at_rest(offer.id)


async def test_entries_are_bounded_and_taken_in_the_window_alone(shop: Shop, hub: Hub) -> None:
    """Not before the stream is live, not past `waitlist_max`, not once the window is closed."""
    early = await draw(shop, stream=await shop.stream("scheduled"))
    assert refused(await join(hub, early, "ann")) == "not_live"
    sale = await draw(shop, mode="sale")
    assert refused(await join(hub, sale, "ann")) == "not_open"
    full = await draw(shop, waitlist_max=2)
    await entered(hub, full, ["ann", "bob"])
    answer = await join(hub, full, "cem")
    assert isinstance(answer, Refused)
    assert (answer.why.value, "full" in answer.message) == ("sold_out", True)

    offer = await draw(shop, 1)
    await entered(hub, offer, ["ann"])
    await fall_due(shop, offer)
    late = await hub.selling.waitlist.join(offer.id, "bob", 1, "k")
    assert refused(late) == "retry"
    await hub.keeper.round()
    after = await join(hub, offer, "bob", 1, "k")
    assert isinstance(after, Waitlisted)  # for what comes back, behind everybody who took part
    assert await holders(shop, offer) == ["ann"]
    await shop.rested(offer.id)


async def test_the_gate_does_not_open_a_draw(shop: Shop, hub: Hub) -> None:
    """Past `opens_at` a buy is `not_open` until it is drawn, whatever a gate lets through."""
    offer = await draw(shop, 2)
    await entered(hub, offer, ["ann"])
    await fall_due(shop, offer)
    await hub.rebuilder.rebuild(offer.id)
    assert why(await hub.buy_until_final(offer.id, "eve")) == "not_open"
    row = (await hub.ledger.offers([offer.id]))[0]
    admitted = await hub.ledger.admit(offer.id, row.epoch, [Line("or_1", "eve", "k", 1, 99)])
    assert admitted.outcomes == ["not_open"]
    assert await hub.keeper.reconciler.differences(offer.id) == []
    await hub.keeper.round()
    assert await holders(shop, offer) == ["ann"]
    assert bought(await hub.buy_until_final(offer.id, "eve")).viewer == "eve"  # one is left
    await shop.rested(offer.id)
    assert await hub.keeper.reconciler.differences(offer.id) == []


# --- the secret ----------------------------------------------------------------------------------


async def test_the_seed_is_nowhere_before_the_draw_and_everywhere_after(
    shop: Shop, hub: Hub
) -> None:
    """Not in a fact, a row that anything reads, a record or Redis; then in all that tell of it."""
    offer = await draw(shop, 1)
    await entered(hub, offer, NAMES)
    seed = (await shop.fetch("select encode(seed, 'hex') from draws where offer = $1", offer.id))[
        0
    ][0]
    assert [s for _, s in await _seen(shop, hub, offer) if seed in s] == []
    assert len({seed, offer.seed_hash}) == 2
    done(await hub.changes.open_offer(offer.id))
    assert {name for name, s in await _seen(shop, hub, offer) if seed in s} == {
        "offers", "facts", "record", "draw",
    }  # fmt: skip
    told = await facts_of(shop, offer)
    assert [(kind, body["seed"]) for kind, body in told] == [
        ("offer.scheduled", None), ("offer.opened", seed), ("offer.sold_out", seed),
    ]  # fmt: skip
    assert {body["seed_hash"] for _, body in told} == {offer.seed_hash}


async def _seen(shop: Shop, hub: Hub, offer: Offer) -> list[tuple[str, str]]:
    """Return all that is kept or said, but for the one column where the secret is."""
    tables = await shop.fetch(
        "select relname from pg_class where relkind in ('r', 'v') and relname <> 'draws'"
        " and relnamespace = 'public'::regnamespace"
    )
    seen = [
        (row[0], str(await shop.fetch(f"select to_jsonb(x)::text from {row[0]} x")))
        for row in tables
    ]
    seen.append(("record", str(await hub.ledger.offers([offer.id]))))
    seen.append(("draw", str(await draw_of(hub.ledger, offer.id))))
    for key in await shop.redis.keys("*"):
        kind = str(await shop.redis.type(key))
        if "hash" in kind:
            seen.append(("redis", f"{key!r} {await shop.redis.hgetall(key)!r}"))
        else:
            assert "zset" in kind, kind
            seen.append(("redis", f"{key!r} {await shop.redis.zrange(key, 0, -1)!r}"))
    return seen


async def test_what_was_committed_to_stays(shop: Shop) -> None:
    """Once announced no hash can be changed, once made no seed, once found no result."""
    offer = await draw(shop)
    other = await shop.offer(1, opened=False, mode="draw")
    done(await shop.hubs[0].changes.open_offer(other.id))
    for sql in (
        "update offers set seed_hash = repeat('0', 64) where id = $1",
        "update offers set mode = 'sale', seed_hash = null where id = $1",
        "update draws set seed = '' where offer = $1",
        "update offers set seed = '' where id = $1",
        "update draw_entries set won = true where offer = $1",
        "delete from draw_entries where offer = $1",
    ):
        with pytest.raises(asyncpg.RestrictViolationError):
            await shop.fetch(sql, other.id if "set seed = ''" in sql else offer.id)


async def test_a_draft_may_become_a_draw_and_a_sale_again(shop: Shop, hub: Hub) -> None:
    """The mode is a term of the draft; each new draw has a secret of its own; later it stays."""
    offer = await shop.offer(3, opened=False)
    assert (offer.mode, offer.seed_hash) == ("sale", None)
    hashes = []
    for _ in range(2):
        now = done(await hub.changes.revise_offer(offer.id, {"mode": "draw", "waitlist_max": 9}))
        hashes.append(now.seed_hash)
        again = done(await hub.changes.revise_offer(offer.id, {"mode": "draw", "quantity": 4}))
        assert again.seed_hash == now.seed_hash
        back = done(await hub.changes.revise_offer(offer.id, {"mode": "sale"}))
        assert (back.mode, back.seed_hash) == ("sale", None)
        assert await draw_of(hub.ledger, offer.id) is None
    assert len(set(hashes)) == 2
    now = done(await hub.changes.revise_offer(offer.id, {"mode": "draw", "opens_at": LATER}))
    assert (now.status, now.mode) == ("scheduled", "draw")
    told = await facts_of(shop, offer)
    assert [(kind, body["seed_hash"]) for kind, body in told] == [
        ("offer.scheduled", now.seed_hash)
    ]
    assert why(await hub.changes.revise_offer(offer.id, {"mode": "sale"})) == "conflict"
    assert why(await hub.changes.revise_offer(offer.id, {"opens_at": LATER + 1})) == "conflict"


# --- what a host does ----------------------------------------------------------------------------


async def test_a_host_changes_his_mind_before_the_draw(shop: Shop, hub: Hub) -> None:
    """Fewer units, a ban, a withdrawal: the draw is among who is there, for what there is."""
    offer = await draw(shop, 5)
    await entered(hub, offer, NAMES[:6])
    done(await hub.changes.revise_offer(offer.id, {"quantity": 2}))
    assert await hub.selling.waitlist.leave(offer.id, NAMES[0]) is None
    await hub.selling.waitlist.drop(offer.stream, NAMES[1])
    await shop.fetch(
        "insert into standings (stream, viewer, banned) values ($1, $2, true)",
        offer.stream, NAMES[2],
    )  # fmt: skip
    done(await hub.changes.open_offer(offer.id))
    order = by_score(await seed_of(hub, offer), NAMES[3:6])
    assert await holders(shop, offer) == order[:2]
    assert await waiters(hub, offer) == order[2:]
    await shop.at_rest(offer.id)


async def test_no_draw_is_held_past_the_end(shop: Shop, hub: Hub) -> None:
    """Closed, by hand, by its time or with its stream: nobody wins, the seed stays secret."""
    for way in ("close", "closes_at", "end"):
        offer = await draw(shop, 2)
        await entered(hub, offer, ["ann"])
        if way == "close":
            done(await hub.changes.close_offer(offer.id))
        elif way == "end":
            await hub.changes.end_stream(offer.stream)
        else:
            await shop.fetch(
                "update offers set opens_at = clock_timestamp() - interval '2 s',"
                " closes_at = clock_timestamp() where id = $1", offer.id,
            )  # fmt: skip
            assert why(await hub.changes.open_offer(offer.id)) == "conflict"
            await hub.keeper.round()
        assert await status_of(hub, offer) == ("closed", 2, 0)
        assert (await hub.ledger.offers([offer.id]))[0].seed is None
        assert await holders(shop, offer) == []
        assert refused(await join(hub, offer, "bob")) == "closed"


async def test_a_pause_is_no_second_draw(shop: Shop, hub: Hub) -> None:
    """Pausing one that is due draws it; resumed, what came back goes down the same order."""
    offer = await draw(shop, 2)
    await entered(hub, offer, ["ann"])
    assert why(await hub.changes.pause_offer(offer.id)) == "conflict"  # it sells nothing yet
    await fall_due(shop, offer)
    done(await hub.changes.pause_offer(offer.id))
    seed = await seed_of(hub, offer)
    assert await holders(shop, offer) == ["ann"]
    assert refused(await join(hub, offer, "bob")) == "not_open"
    done(await hub.changes.resume_offer(offer.id))
    assert (await seed_of(hub, offer), await status_of(hub, offer)) == (seed, ("open", 1, 0))
    await shop.at_rest(offer.id)


async def test_draws_without_entries_units_or_payment(shop: Shop, hub: Hub) -> None:
    """Nobody entered: a sale. Nothing there: all wait. Nothing to pay: confirmed."""
    alone = await draw(shop, 2)
    done(await hub.changes.open_offer(alone.id))
    found = await draw_of(hub.ledger, alone.id)
    assert found is not None
    assert (found.entries, found.winners, found.units, found.threshold) == (0, 0, 0, None)
    assert bought(await hub.buy_until_final(alone.id, "eve")).rank == 1
    empty = await draw(shop, 0)
    await entered(hub, empty, NAMES[:3])
    done(await hub.changes.open_offer(empty.id))
    order = by_score(await seed_of(hub, empty), NAMES[:3])
    assert (await status_of(hub, empty), await waiters(hub, empty)) == (("sold_out", 0, 3), order)
    await hub.changes.restock(empty.id, "r", 1)
    assert await holders(shop, empty) == order[:1]
    free = await draw(shop, 1, payment="none")
    await entered(hub, free, ["ann", "bob"])
    done(await hub.changes.open_offer(free.id))
    now = (await hub.ledger.offers([free.id]))[0]
    assert (now.taken, now.confirmed, now.status) == (1, 1, "sold_out")
    for offer in (alone, empty, free):
        await shop.rested(offer.id)


# --- faults --------------------------------------------------------------------------------------


async def test_two_keepers_draw_once(shop: Shop, hub: Hub) -> None:
    """Under the offer's lock the second one finds it open."""
    offer = await draw(shop, 4)
    await entered(hub, offer, NAMES)
    others = [await shop.hub() for _ in range(2)]
    await fall_due(shop, offer)
    await asyncio.gather(*(one.keeper.open_and_close() for one in (hub, *others)))
    order = by_score(await seed_of(hub, offer), NAMES)
    assert await holders(shop, offer) == order[:4]
    assert [kind for kind, _ in await facts_of(shop, offer)].count("offer.opened") == 1
    await hub.keeper.round()
    await shop.at_rest(offer.id)


async def test_what_a_crash_after_the_draw_left_is_finished(shop: Shop, hub: Hub) -> None:
    """The row says drawn, nobody was told, the gate knows nothing: a keeper does both."""
    offer = await draw(shop, 2)
    await entered(hub, offer, NAMES)
    assert (await shop.fetch("select open_offer($1, false)", offer.id))[0][0] == "ok"
    assert hub.heard.changes == []
    await hub.keeper.round()
    order = by_score(await seed_of(hub, offer), NAMES)
    assert sorted({o.viewer for o in hub.heard.changes}) == sorted(order[:2])
    assert offer.stream in hub.heard.streams
    await shop.at_rest(offer.id)


@pytest.mark.parametrize("when", ["in the window", "after the draw"])
async def test_the_loss_of_redis_loses_no_entry_and_no_winner(
    shop: Shop, hub: Hub, when: str
) -> None:
    """FLUSHALL before or after: the entries are in Postgres, and winners are told."""
    offer = await draw(shop, 3)
    await entered(hub, offer, NAMES[:10])
    if when == "in the window":
        await shop.redis.flushdb()
        await hub.keeper.round()
        await entered(hub, offer, NAMES[10:])
    else:
        await entered(hub, offer, NAMES[10:])
        await shop.fetch("select open_offer($1, false)", offer.id)
        # Redis was away for longer than who waits may pay, not for longer than a winner may.
        await rewrite(
            shop, "update movements set at = at - interval '5 minutes' where offer = $1", offer.id
        )
        await shop.redis.flushdb()
    await fall_due(shop, offer)
    await hub.keeper.round()
    order = by_score(await seed_of(hub, offer), NAMES)
    assert await holders(shop, offer) == order[:3]
    assert await waiters(hub, offer) == order[3:]
    assert {o.viewer for o in hub.heard.changes} == set(order[:3])
    await shop.at_rest(offer.id)
    ranks = await shop.fetch(
        "select rank from orders where offer = $1 union all"
        " select rank from waitlist where offer = $1", offer.id,
    )  # fmt: skip
    assert len({r[0] for r in ranks}) == 12


async def test_thousands_win_at_once(shop: Shop, hub: Hub) -> None:
    """More winners than one call of the gate takes: all are named there, and told, once."""
    offer = await draw(shop, 5_200)
    await shop.fetch(
        "insert into waitlist (offer, viewer, key, qty, rank, joined_at)"
        " select $1, 'v' || i, 'k', 1, i, clock_timestamp() from generate_series(1, 6000) i",
        offer.id,
    )  # fmt: skip
    await shop.fetch("update offers set waiting = 6000 where id = $1", offer.id)
    await shop.redis.hset("{" + offer.id + "}:o", "rank", "6000")
    done(await hub.changes.open_offer(offer.id))
    order = by_score(await seed_of(hub, offer), [f"v{n}" for n in range(1, 6001)])
    assert await holders(shop, offer) == order[:5_200]
    assert len(hub.heard.changes) == len({o.id for o in hub.heard.changes}) == 5_200
    assert await status_of(hub, offer) == ("sold_out", 0, 800)
    await shop.at_rest(offer.id)
