"""The waitlist on real servers: what comes back is for who waits first, and nobody else (R12)."""

from __future__ import annotations

import asyncio

import pytest

from orders.records import Accepted, Refused, Waitlisted
from tests.shop import Hub, Shop, bought, done, together, why
from tests.waitlist_rig import (
    AT_ONCE,
    join,
    kinds,
    let_expire,
    orders_of,
    place,
    refused,
    sold_out,
    status_of,
    told,
    waiting,
)


@pytest.fixture
def hub(shop: Shop) -> Hub:
    """A hub whose keeper waits for nobody."""
    shop.hubs[0].keeper.limits = AT_ONCE
    return shop.hubs[0]


# --- the way of an entry -------------------------------------------------------------------------


async def test_units_go_round_the_list_until_one_pays(shop: Shop, hub: Hub) -> None:
    """Sold out, cancel, the first is promoted and lets it expire, the next one pays: one unit."""
    offer, (first,) = await sold_out(shop, hub)
    assert [place(await join(hub, offer, v)) for v in ("ann", "bob", "cem")] == [1, 2, 3]
    assert await status_of(hub, offer) == ("sold_out", 0, 3)

    await hub.changes.cancel(first.id, by_host=False, reason=None)
    assert await orders_of(shop, offer, "ann") == [("w-ann", "reserved")]
    assert told(hub.heard.changes, "ann") == ["reserved"]
    assert await status_of(hub, offer) == ("sold_out", 0, 2)
    await shop.at_rest(offer.id)

    await let_expire(shop, hub, offer, "ann")
    assert told(hub.heard.changes, "ann") == ["reserved", "expired"]
    assert told(hub.heard.changes, "bob") == ["reserved"]
    row = (await shop.fetch("select id from orders where viewer = 'bob'"))[0]
    await hub.changes.pay(row[0])
    assert told(hub.heard.changes, "bob") == ["reserved", "confirmed"]
    assert [(e.viewer, e.position) for e in await waiting(hub, offer)] == [("cem", 1)]
    assert await kinds(shop, offer) == ["offer.opened", "offer.sold_out"]  # never for sale between
    assert why(await hub.buy_until_final(offer.id, "eve")) == "sold_out"
    await shop.at_rest(offer.id)


async def test_who_got_units_has_the_time_that_the_offer_says(shop: Shop, hub: Hub) -> None:
    """60 s unless told otherwise, whatever the offer's hold; without payment it is confirmed."""
    for terms, expected in (
        ({"hold_s": 600}, 60), ({"waitlist_hold_s": 7}, 7), ({"payment": "none"}, None),
    ):  # fmt: skip
        offer, (first,) = await sold_out(shop, hub, **terms)
        await join(hub, offer, "ann")
        await hub.changes.cancel(first.id, by_host=True, reason=None)
        row = (await shop.fetch(
            "select status, confirmed_at, extract(epoch from expires_at - reserved_at) as s,"
            " rank, epoch from orders where offer = $1 and viewer = 'ann'", offer.id,
        ))[0]  # fmt: skip
        assert (row["s"] and int(row["s"])) == expected
        assert row["status"] == ("reserved" if expected else "confirmed")
        assert (row["confirmed_at"] is None) is (expected is not None)
        now = (await hub.ledger.offers([offer.id]))[0]
        assert (now.confirmed, row["epoch"]) == (0 if expected else 1, now.epoch)
        await shop.at_rest(offer.id)


async def test_the_rank_is_that_of_the_join(shop: Shop, hub: Hub) -> None:
    """Ranks come from the counter of the buys, and an order keeps that of its entry (I6)."""
    offer, sold = await sold_out(shop, hub, 3)
    await join(hub, offer, "ann")
    await join(hub, offer, "bob")
    for order in (sold[2], sold[0]):
        await hub.changes.cancel(order.id, by_host=False, reason=None)
    rows = await shop.fetch(
        "select viewer, rank from orders where offer = $1 order by rank", offer.id
    )
    assert [tuple(r) for r in rows] == [("b0", 1), ("b1", 2), ("b2", 3), ("ann", 4), ("bob", 5)]
    await hub.changes.cancel(sold[1].id, by_host=False, reason=None)
    assert bought(await hub.buy_until_final(offer.id, "cem")).rank == 6


async def test_a_join_that_finds_stock_buys(shop: Shop, hub: Hub) -> None:
    """An order in place of a place; sent again, it is replayed."""
    offer = await shop.offer(1)
    first = await join(hub, offer, "ann")
    assert isinstance(first, Accepted)
    assert (first.order.rank, first.replayed) == (1, False)
    again = await join(hub, offer, "ann")
    assert isinstance(again, Accepted)
    assert (again.order, again.replayed) == (first.order, True)
    assert refused(await join(hub, offer, "ann", 2, "w-ann")) == "key_reused"
    assert await waiting(hub, offer) == []
    await shop.rested(offer.id)


async def test_the_first_that_fits_is_served(shop: Shop, hub: Hub) -> None:
    """Who wants more than there is keeps his place, and gets units once enough came back."""
    offer, sold = await sold_out(shop, hub, 3, per_viewer=2)
    await join(hub, offer, "ann", 2)
    await join(hub, offer, "bob", 1)
    await hub.changes.cancel(sold[0].id, by_host=False, reason=None)
    assert [e.viewer for e in await waiting(hub, offer)] == ["ann"]
    await hub.changes.cancel(sold[1].id, by_host=False, reason=None)
    assert await status_of(hub, offer) == ("open", 1, 1)
    await hub.changes.cancel(sold[2].id, by_host=False, reason=None)
    assert await waiting(hub, offer) == []
    # What she got, one unit that was for sale besides, left nothing: that is told.
    assert (await kinds(shop, offer))[-2:] == ["offer.restocked", "offer.sold_out"]
    assert await status_of(hub, offer) == ("sold_out", 0, 0)
    await shop.at_rest(offer.id)


async def test_more_units_are_for_who_waits_first(shop: Shop, hub: Hub) -> None:
    """A restock serves the list; only what is left of it reopens the offer, with one event."""
    offer, _ = await sold_out(shop, hub)
    for viewer in ("ann", "bob"):
        await join(hub, offer, viewer)
    await hub.changes.restock(offer.id, "r1", 1)
    assert (await kinds(shop, offer))[-1] == "offer.sold_out"
    assert await status_of(hub, offer) == ("sold_out", 0, 1)
    assert why(await hub.buy_until_final(offer.id, "eve")) == "sold_out"
    await hub.changes.restock(offer.id, "r2", 3)
    assert (await kinds(shop, offer))[-1] == "offer.restocked"
    assert await status_of(hub, offer) == ("open", 2, 0)
    assert told(hub.heard.changes, "ann") == told(hub.heard.changes, "bob") == ["reserved"]
    assert await hub.left(offer.id) == 2
    await shop.at_rest(offer.id)


async def test_what_comes_back_during_a_pause_is_handed_over_at_its_end(
    shop: Shop, hub: Hub
) -> None:
    """A paused offer serves nobody; resumed, it serves the list before it sells."""
    offer, (first, _) = await sold_out(shop, hub, 2, per_viewer=2)
    await join(hub, offer, "ann", 2)
    await hub.changes.restock(offer.id, "r1", 1)
    assert await status_of(hub, offer) == ("open", 1, 1)
    done(await hub.changes.pause_offer(offer.id))
    await hub.changes.cancel(first.id, by_host=False, reason=None)
    assert refused(await join(hub, offer, "bob")) == "not_open"
    assert place(await join(hub, offer, "ann", 2)) == 1  # the key first: she is on the list
    assert await status_of(hub, offer) == ("paused", 2, 1)
    done(await hub.changes.resume_offer(offer.id))
    assert await status_of(hub, offer) == ("sold_out", 0, 0)
    assert told(hub.heard.changes, "ann") == ["reserved"]
    assert (await kinds(shop, offer))[-3:] == ["offer.paused", "offer.opened", "offer.sold_out"]
    await shop.at_rest(offer.id)


async def test_nobody_is_served_past_the_end(shop: Shop, hub: Hub) -> None:
    """Units that come back after `closes_at`, or after the close, are nobody's; moved, they are."""
    offer, sold = await sold_out(shop, hub, 2)
    await join(hub, offer, "ann")
    await shop.fetch("update offers set closes_at = clock_timestamp() where id = $1", offer.id)
    await hub.changes.cancel(sold[0].id, by_host=False, reason=None)
    assert refused(await join(hub, offer, "bob")) in ("closed", "sold_out")
    assert await status_of(hub, offer) == ("open", 1, 1)
    await hub.changes.revise_offer(offer.id, {"closes_at": 4_000_000_000_000})
    assert await status_of(hub, offer) == ("sold_out", 0, 0)
    await join(hub, offer, "cem")
    done(await hub.changes.close_offer(offer.id))
    assert await waiting(hub, offer) == []
    await hub.changes.cancel(sold[1].id, by_host=False, reason=None)
    assert await orders_of(shop, offer, "cem") == []
    assert refused(await join(hub, offer, "cem")) == "closed"
    assert await status_of(hub, offer) == ("closed", 1, 0)


async def test_the_end_of_a_stream_ends_its_lists(shop: Shop, hub: Hub) -> None:
    """Entries go in the transaction that closes the offers."""
    offer, _ = await sold_out(shop, hub)
    await join(hub, offer, "ann")
    await hub.changes.end_stream(offer.stream)
    assert await waiting(hub, offer) == []
    assert await status_of(hub, offer) == ("closed", 0, 0)


async def test_an_offer_that_begins_with_nothing_has_a_list(shop: Shop, hub: Hub) -> None:
    """Who joined before the keeper opened a due offer is served when it opens."""
    offer = await shop.offer(0, opened=False, opens_at=1)
    assert place(await join(hub, offer, "ann")) == 1
    await hub.changes.restock(offer.id, "r1", 1)
    assert (await status_of(hub, offer)) == ("scheduled", 1, 1)
    await hub.keeper.round()
    assert await status_of(hub, offer) == ("sold_out", 0, 0)
    await shop.at_rest(offer.id)


async def test_a_buyer_who_opens_an_offer_has_the_list_served(shop: Shop, hub: Hub) -> None:
    """The first admission of a due offer opens it, and hands over what the list was kept from."""
    offer = await shop.offer(1, opened=False, opens_at=1, per_viewer=2)
    assert place(await join(hub, offer, "ann", 2)) == 1
    await hub.changes.restock(offer.id, "r1", 2)
    bought(await hub.buy_until_final(offer.id, "bob"))
    assert await status_of(hub, offer) == ("sold_out", 0, 0)
    assert await orders_of(shop, offer, "ann") == [("w-ann", "reserved")]
    await hub.keeper.round()
    assert told(hub.heard.changes, "ann") == ["reserved"]
    await shop.rested(offer.id)


# --- once, and bounded ---------------------------------------------------------------------------


async def test_a_join_sent_again_is_one_entry(shop: Shop, hub: Hub) -> None:
    """The same key: the present place; another number of units: `key_reused`, nothing changes."""
    offer, (first,) = await sold_out(shop, hub, per_viewer=3)
    for viewer in ("ann", "bob"):
        await join(hub, offer, viewer)
    again = await join(hub, offer, "bob")
    assert again == Waitlisted(offer.id, 2, replayed=True)
    assert refused(await join(hub, offer, "bob", 2)) == "key_reused"
    assert place(await join(hub, offer, "bob", 1, "other")) == 2  # once per viewer and offer
    assert refused(await join(hub, offer, "bob", 2, "other")) == "conflict"
    assert len(await waiting(hub, offer)) == 2
    await hub.changes.cancel(first.id, by_host=False, reason=None)
    assert place(await join(hub, offer, "bob")) == 1
    await let_expire(shop, hub, offer, "ann")
    late = await join(hub, offer, "bob")
    assert isinstance(late, Accepted)
    assert (late.order.key, late.replayed) == ("w-bob", True)


async def test_a_join_sent_twice_at_once_is_one_entry(shop: Shop, hub: Hub) -> None:
    """By one hub or by two, in one batch or in several (I10)."""
    offer, _ = await sold_out(shop, hub)
    other = await shop.hub()
    answers = await asyncio.gather(
        *(join(which, offer, f"v{n}") for n in range(20) for which in (hub, other, hub))
    )
    assert sorted(place(answer) for answer in answers[::3]) == list(range(1, 21))
    assert len(await waiting(hub, offer)) == 20
    assert (await status_of(hub, offer))[2] == 20


async def test_the_list_is_bounded(shop: Shop, hub: Hub) -> None:
    """One more than `waitlist_max` is told `sold_out`; none at all where that is 0."""
    offer, (first,) = await sold_out(shop, hub, waitlist_max=2)
    answers = [await join(hub, offer, viewer) for viewer in ("ann", "bob", "cem")]
    assert refused(answers[2]) == "sold_out"
    assert isinstance(answers[2], Refused)
    assert "full" in answers[2].message
    assert place(await join(hub, offer, "bob")) == 2
    await hub.changes.cancel(first.id, by_host=False, reason=None)
    assert place(await join(hub, offer, "cem")) == 2
    never, _ = await sold_out(shop, hub, waitlist_max=0)
    assert refused(await join(hub, never, "ann")) == "sold_out"


async def test_who_leaves_is_passed_over(shop: Shop, hub: Hub) -> None:
    """Left, the request is withdrawn for good; a new key joins at the end."""
    offer, (first,) = await sold_out(shop, hub)
    for viewer in ("ann", "bob"):
        await join(hub, offer, viewer)
    assert await hub.selling.waitlist.leave(offer.id, "ann") is None
    assert await hub.selling.waitlist.leave(offer.id, "ann") is None
    missing = await hub.selling.waitlist.leave("of_none", "ann")
    assert missing is not None
    assert missing.why == "not_found"
    assert refused(await join(hub, offer, "ann")) == "conflict"  # be it the late copy of a hub
    assert place(await join(hub, offer, "ann", 1, "anew")) == 2
    await hub.changes.cancel(first.id, by_host=False, reason=None)
    assert await orders_of(shop, offer, "bob") == [("w-bob", "reserved")]
    assert await status_of(hub, offer) == ("sold_out", 0, 1)


async def test_the_limit_holds(shop: Shop, hub: Hub) -> None:
    """Who has all he may have cannot join; who got it meanwhile is passed over, not dropped."""
    offer, sold = await sold_out(shop, hub, 3, per_viewer=2)
    assert refused(await join(hub, offer, "b0", 2)) == "limit_reached"
    assert place(await join(hub, offer, "ann", 2)) == 1
    await hub.changes.cancel(sold[1].id, by_host=False, reason=None)
    mine = bought(await hub.buy_until_final(offer.id, "ann"))
    await join(hub, offer, "bob")
    await hub.changes.restock(offer.id, "r1", 2)
    assert await status_of(hub, offer) == ("open", 1, 1)  # bob has one; hers would be three
    assert await orders_of(shop, offer, "bob") == [("w-bob", "reserved")]
    await hub.changes.cancel(mine.id, by_host=False, reason=None)
    assert ("w-ann", "reserved") in await orders_of(shop, offer, "ann")
    await shop.at_rest(offer.id)


async def test_a_banned_viewer_is_off_the_list(shop: Shop, hub: Hub) -> None:
    """Dropped with the ban; were he not, units would pass him over, and he cannot join anew."""
    offer, sold = await sold_out(shop, hub, 2)
    for viewer in ("ann", "bob", "cem"):
        await join(hub, offer, viewer)
    for viewer in ("ann", "bob"):
        await shop.fetch(
            "insert into standings (stream, viewer, banned) values ($1, $2, true)",
            offer.stream, viewer,
        )  # fmt: skip
    await hub.selling.waitlist.drop(offer.stream, "ann")
    assert [(e.viewer, e.position) for e in await waiting(hub, offer)] == [("bob", 1), ("cem", 2)]
    assert refused(await join(hub, offer, "ann")) == "forbidden"
    await hub.changes.cancel(sold[0].id, by_host=False, reason=None)
    assert await orders_of(shop, offer, "cem") == [("w-cem", "reserved")]
    assert await status_of(hub, offer) == ("sold_out", 0, 0)
    await shop.at_rest(offer.id)


async def test_a_buy_with_the_key_of_an_entry_ends_it(shop: Shop, hub: Hub) -> None:
    """Key and entry are one request: whoever has its order does not wait for it."""
    offer, (first, _) = await sold_out(shop, hub, 2, per_viewer=2)
    await join(hub, offer, "ann", 2, "k")
    await hub.changes.cancel(first.id, by_host=False, reason=None)
    assert bought(await hub.buy_until_final(offer.id, "ann", 1, "k")).qty == 1
    assert await status_of(hub, offer) == ("sold_out", 0, 0)
    assert refused(await join(hub, offer, "ann", 2, "k")) == "key_reused"
    await shop.rested(offer.id)


async def test_a_bundle_with_the_key_of_an_entry_ends_it(shop: Shop, hub: Hub) -> None:
    """The same for an order that is part of a bundle."""
    offer, (first, _) = await sold_out(shop, hub, 2, per_viewer=2)
    other = await shop.offer(1, stream=offer.stream)
    await join(hub, offer, "ann", 2, "k")
    await hub.changes.cancel(first.id, by_host=False, reason=None)
    together(await hub.bundle(offer.stream, "ann", [(offer.id, 1), (other.id, 1)], "k"))
    assert await status_of(hub, offer) == ("sold_out", 0, 0)
    await shop.rested(offer.id)
