"""Comments on real servers: each is kept first, ordered once, and always answered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from orders.comments.clerk import Clerk
from orders.comments.comment import CHAT, Bought, Comment, Said, key_of, viewer_of
from orders.comments.grammar import Ask
from orders.records import Offer, Refused, Why
from tests.shop import Hub, Shop, done, until

ANN = "facebook:ann"


class Told:
    """A teller that keeps what it is told."""

    def __init__(self) -> None:
        self.answers: list[tuple[str, str, list[str]]] = []  # (viewer, comment, words)

    def answered(self, comment: Comment, bought: Sequence[Bought]) -> None:
        words = [one.answer.code or f"{one.answer.qty}" for one in bought]
        if not bought:
            words = [comment.why or ""] if comment.state == "unread" else [comment.state]
        self.answers.append((comment.viewer, comment.comment, words))


class Desk:
    """A clerk with a hub of its own."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.told = Told()
        self.banned: frozenset[str] = frozenset()
        self.clerk = Clerk(
            hub.selling, hub.ledger, hub.ids, self.told, self.barred, lambda order: f"/{order.id}"
        )

    async def barred(self, stream: str) -> frozenset[str]:
        return self.banned

    async def take(self, stream: str, text: str, comment: str = "c1", viewer: str = ANN) -> Comment:
        """Bring one comment, and wait for what becomes of it."""
        return (await self.take_all(stream, Said(comment=comment, viewer=viewer, text=text)))[0]

    async def take_all(self, stream: str, *said: Said) -> list[Comment]:
        taken = await self.clerk.take(stream, "facebook", said)
        found = [taken[one.comment] for one in said if one.comment in taken]
        return [comment if work is None else await work for comment, work in found]


@asynccontextmanager
async def opened(hub: Hub) -> AsyncIterator[Desk]:
    desk = Desk(hub)
    try:
        yield desk
    finally:
        await desk.clerk.close()


@pytest.fixture
async def desk(shop: Shop) -> AsyncIterator[Desk]:
    """A clerk on the shop's first hub."""
    async with opened(shop.hubs[0]) as desk:
        yield desk


async def orders_of(shop: Shop, offer: Offer) -> list[tuple[str, str, int]]:
    rows = await shop.fetch(
        "select viewer, key, qty from orders where offer = $1 order by rank", offer.id
    )
    return [tuple(row) for row in rows]


async def states(shop: Shop) -> list[str]:
    return [row[0] for row in await shop.fetch("select state from comments order by id")]


def pair(keyword: str, **more: Any) -> dict[str, Any]:
    return {"keyword": keyword, "per_viewer": 5, **more}


async def test_a_comment_is_an_order(shop: Shop, desk: Desk) -> None:
    """Its order has the viewer, the key and the quantity that follow from it, and he is told."""
    offer = await shop.offer(10, **pair("A01"))
    taken = await desk.take(offer.stream, "Ａ０１＋２")
    assert await orders_of(shop, offer) == [(ANN, key_of("facebook", "c1"), 2)]
    assert (taken.state, [a.qty for a in taken.answers]) == ("done", [2])
    assert desk.told.answers == [(ANN, "c1", ["2"])]
    assert await desk.take_all(offer.stream, Said(comment="c2", viewer=ANN, text="hello")) == []
    assert await states(shop) == ["done"]
    await shop.rested(offer.id)


async def test_one_delivered_twice_orders_once(shop: Shop, desk: Desk) -> None:
    """Again, at the same moment, in one batch and by another server: one order, told once each."""
    offer = await shop.offer(10, **pair("A01"))
    said = Said(comment="c1", viewer=ANN, text="A01+1")
    async with opened(await shop.hub()) as other:
        await asyncio.gather(
            desk.take_all(offer.stream, said, said), other.take_all(offer.stream, said),
            desk.take_all(offer.stream, said),
        )  # fmt: skip
        await until(lambda: len(desk.told.answers) + len(other.told.answers) == 1)
        again = await other.take(offer.stream, "A01+1")
    assert (again.state, again.edits) == ("done", 0)
    assert await orders_of(shop, offer) == [(ANN, key_of("facebook", "c1"), 1)]
    assert len(desk.told.answers) + len(other.told.answers) == 1
    await shop.rested(offer.id)


async def test_an_edit_is_kept_and_not_obeyed(shop: Shop, desk: Desk) -> None:
    """Another text under an id that ordered, or waits for the host, is noted and no more."""
    offer = await shop.offer(10, **pair("A01"))
    await desk.take(offer.stream, "A01+1")
    await desk.take(offer.stream, "B99+1", "c2")
    for text in ("A01+3", "A01+3", "sorry, no"):
        edited = await desk.take(offer.stream, text)
        assert (edited.text, edited.edited, edited.state) == ("A01+1", text, "done")
    assert edited.edits == 2
    both = [Said(comment="c3", viewer=ANN, text=text) for text in ("A01+1", "A01+2")]
    assert [c.edited for c in await desk.take_all(offer.stream, *both)] == ["A01+2", "A01+2"]
    unread = await desk.take(offer.stream, "A01+1", "c2")
    assert (unread.state, unread.edited) == ("unread", "A01+1")
    assert [(key, qty) for _, key, qty in await orders_of(shop, offer)] == [
        (key_of("facebook", "c1"), 1), (key_of("facebook", "c3"), 1),
    ]  # fmt: skip


async def test_a_comment_and_a_tap_for_the_last_unit_are_one_order(shop: Shop, desk: Desk) -> None:
    """However they meet, one gets it and the other is told `sold_out`."""
    hub = await shop.hub()
    for n in range(6):
        offer = await shop.offer(1, **pair("A01"))
        comment, tap = await asyncio.gather(
            desk.take(offer.stream, "A01+1", f"c{n}"), hub.buy_until_final(offer.id, "bob")
        )
        while comment.state == "new":
            await shop.fetch("update comments set due_at = clock_timestamp()")
            await desk.clerk.take_up()
            comment = await desk.take(offer.stream, "A01+1", f"c{n}")
        codes = [answer.code for answer in comment.answers]
        lost = isinstance(tap, Refused)
        assert codes == ([None] if lost else ["sold_out"])
        assert not lost or tap.why == Why.SOLD_OUT  # type: ignore[union-attr]
        assert len(await orders_of(shop, offer)) == 1
        await shop.rested(offer.id)


async def test_limits_and_states_are_those_of_any_buy(shop: Shop, desk: Desk) -> None:
    """What a tap would be refused for, a comment is told as well."""
    stream = await shop.stream()
    await shop.offer(10, stream=stream, keyword="one", per_viewer=1)
    await shop.offer(2000, stream=stream, keyword="many", per_viewer=2000)
    paused = await shop.offer(10, stream=stream, keyword="paused")
    closed = await shop.offer(10, stream=stream, keyword="closed")
    done(await shop.hubs[0].changes.pause_offer(paused.id))
    done(await shop.hubs[0].changes.close_offer(closed.id))
    for n, (text, code) in enumerate((
        ("one+2", "limit_reached"), ("many+1001", "bad_request"), ("paused+1", "not_open"),
        ("closed+1", "closed"), ("one+1", None), ("one+1", "limit_reached"),
    )):  # fmt: skip
        taken = await desk.take(stream, text, f"c{n}")
        assert [answer.code for answer in taken.answers] == [code], text
    desk.banned = frozenset({ANN})
    assert [a.code for a in (await desk.take(stream, "many+1", "c9")).answers] == ["forbidden"]
    assert desk.told.answers[-1] == (ANN, "c9", ["forbidden"])


async def test_of_several_asks_each_is_bought_that_can_be(shop: Shop, desk: Desk) -> None:
    """Two offers in one comment are two orders under its key; one sold out costs the other none."""
    stream = await shop.stream()
    pink = await shop.offer(5, stream=stream, **pair("粉"))
    white = await shop.offer(0, stream=stream, **pair("白"))
    taken = await desk.take(stream, "粉+2 白+1")
    assert [(a.offer, a.qty, a.code) for a in taken.answers] == [
        (pink.id, 2, None), (white.id, 1, "sold_out"),
    ]  # fmt: skip
    assert await orders_of(shop, pink) == [(ANN, key_of("facebook", "c1"), 2)]


async def test_plus_one_is_the_pinned_offers(shop: Shop, desk: Desk) -> None:
    """`+1` buys what is pinned at that moment; with two pinned, or none, the host is asked."""
    hub = shop.hubs[0]
    stream = await shop.stream()
    offers = [await shop.offer(5, stream=stream, **pair(f"A{n}")) for n in range(2)]
    words = []
    for n, offer in enumerate([None, *offers]):
        if offer is not None:
            refused = await hub.changes.pin(stream, f"pin_{n}", offer.product, offer.id, None, 3)
            assert refused is None
        taken = await desk.take(stream, "+1", f"c{n}")
        words.append(taken.why or taken.answers[0].offer)
    assert words == ["ambiguous", offers[0].id, "ambiguous"]


@pytest.mark.parametrize("step", ["kept", "bought", "told"])
async def test_what_a_crash_left_is_taken_up_by_another(
    shop: Shop, desk: Desk, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever a server ends between keeping and noting, another finishes: one order, an answer."""
    offer = await shop.offer(10, **pair("A01"))
    said = Said(comment="c1", viewer=ANN, text="A01+2")
    here, stuck = asyncio.Event(), asyncio.Event()

    async def hang(*args: Any, **more: Any) -> Any:
        here.set()
        await stuck.wait()

    async with opened(await shop.hub()) as dying:
        if step == "kept":
            dying.clerk._serve = hang  # type: ignore[method-assign]
        elif step == "bought":
            monkeypatch.setattr("orders.comments.clerk.failpoints.reach", _at("bought", hang))
        else:
            dying.clerk.book.finish = hang  # type: ignore[method-assign]
        await dying.clerk.take(offer.stream, "facebook", [said])
        await here.wait()
    monkeypatch.undo()
    assert await states(shop) == ["new"]
    assert await desk.clerk.take_up() == 0  # it may be at it still
    await shop.fetch("update comments set due_at = clock_timestamp()")
    assert await desk.clerk.take_up() == 1
    await until(lambda: states_are(shop, ["done"]))
    assert desk.told.answers == [(ANN, "c1", ["2"])]
    assert await orders_of(shop, offer) == [(ANN, key_of("facebook", "c1"), 2)]
    await shop.rested(offer.id)


async def states_are(shop: Shop, expected: list[str]) -> bool:
    return await states(shop) == expected


def _at(name: str, does: Any) -> Any:
    async def reach(point: str) -> None:
        if point == f"comment.{name}":
            await does()

    return reach


async def test_while_nothing_is_known_a_comment_waits(
    shop: Shop, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A buy that is told `retry` is no answer: it is asked for again under the same key."""
    offer = await shop.offer(10, **pair("A01"))
    selling = desk.hub.selling
    monkeypatch.setattr(selling, "buy", lambda buy: buy.done(buy, selling.retry()))
    taken = await desk.take(offer.stream, "A01+1")
    assert (taken.state, desk.told.answers) == ("new", [])
    monkeypatch.undo()
    await shop.fetch("update comments set due_at = clock_timestamp()")
    desk.clerk.start()
    await until(lambda: desk.told.answers == [(ANN, "c1", ["1"])])
    assert len(await orders_of(shop, offer)) == 1


async def test_the_host_orders_for_what_he_can_read(shop: Shop, desk: Desk) -> None:
    """A manual order has the comment's viewer and key, is made once, and may fail and be mended."""
    stream = await shop.stream()
    offer = await shop.offer(1, stream=stream, **pair("A01"))
    empty = await shop.offer(0, stream=stream, **pair("B01"))
    unread = await desk.take(stream, "粉紅+1")
    assert (unread.state, unread.why) == ("unread", "unreadable")
    assert desk.told.answers == [(ANN, "c1", ["unreadable"])]
    refused = await desk.clerk.order(unread, Ask(empty.id, 1))
    assert isinstance(refused, Comment)
    assert (refused.state, [a.code for a in refused.answers]) == ("unread", ["sold_out"])
    both = await asyncio.gather(*(desk.clerk.order(unread, Ask(offer.id, 1)) for _ in range(2)))
    assert {c.state for c in both if isinstance(c, Comment)} == {"done"}
    assert len(desk.told.answers) == 2
    assert await orders_of(shop, offer) == [(ANN, key_of("facebook", "c1"), 1)]
    for asked in (Ask(offer.id, 2), Ask(empty.id, 1)):
        other = await desk.clerk.order(unread, asked)
        assert isinstance(other, Refused)
        assert other.why == Why.CONFLICT
    assert isinstance(await desk.clerk.dismiss(unread), Refused)


async def test_what_is_dismissed_is_told_and_stays(shop: Shop, desk: Desk) -> None:
    """A dismissed comment leaves the queue for good, and its viewer is not left in the dark."""
    offer = await shop.offer(1, **pair("A01"))
    unread = await desk.take(offer.stream, "B01+1")
    assert [c.id for c in await desk.clerk.book.page(offer.stream, "unread", None, 5)] == [
        unread.id
    ]
    for _ in range(2):
        now = await desk.clerk.dismiss(unread)
        assert isinstance(now, Comment)
        assert now.state == "dismissed"
    assert await desk.clerk.book.page(offer.stream, "unread", None, 5) == []
    assert desk.told.answers[1:] == [(ANN, "c1", ["dismissed"])]
    assert (await desk.take(offer.stream, "B01+1")).state == "dismissed"
    assert isinstance(await desk.clerk.order(unread, Ask(offer.id, 1)), Refused)


async def named(hub: Hub, like: Offer, offer: str, keyword: str) -> Offer | Refused:
    return await hub.changes.create_offer(
        offer, like.stream, like.product, price_minor=1, quantity=1, per_viewer=1, opens_at=None,
        closes_at=None, hold_s=60, payment="none", keyword=keyword, extends=0,
    )  # fmt: skip


async def test_a_keyword_stands_for_one_offer_of_a_stream(shop: Shop) -> None:
    """In its normalised form, drafts too; a draft that was closed gives it back."""
    hub, stream = shop.hubs[0], await shop.stream("scheduled")
    first = await shop.offer(1, stream=stream, keyword="A01", opened=False)
    refused = await named(hub, first, "of_2", "ａ０１")
    assert isinstance(refused, Refused)
    assert (refused.why, refused.field) == (Why.CONFLICT, "keyword")
    other = await shop.offer(1, stream=stream, keyword="B01", opened=False)
    await shop.offer(1, keyword="A01")  # of another stream
    taken = await hub.changes.revise_offer(other.id, {"keyword": "\u200ba01"})
    assert isinstance(taken, Refused)
    assert (taken.why, taken.field) == (Why.CONFLICT, "keyword")
    done(await hub.changes.close_offer(first.id))
    now = done(await hub.changes.revise_offer(other.id, {"keyword": "a01"}))
    assert now.keyword == "a01"
    raced = await asyncio.gather(*(named(hub, other, f"of_race{n}", "Z") for n in range(4)))
    assert sorted(type(one).__name__ for one in raced) == ["Offer", *["Refused"] * 3]


async def test_keywords_of_a_live_show_are_frozen(shop: Shop) -> None:
    """What viewers were told stays what it is; a draft without one, or a new offer, may get one."""
    hub, stream = shop.hubs[0], await shop.stream("scheduled")
    draft = await shop.offer(1, stream=stream, keyword="A01", opened=False)
    bare = await shop.offer(1, stream=stream, opened=False)
    done(await hub.changes.revise_offer(draft.id, {"keyword": "A02", "keyword_mode": "exact"}))
    assert await hub.changes.start_stream(stream) is None
    for fields in ({"keyword": "A03"}, {"keyword_mode": "contains"}):
        refused = await hub.changes.revise_offer(draft.id, fields)
        assert isinstance(refused, Refused)
        assert refused.why == Why.CONFLICT
    now = done(await hub.changes.revise_offer(draft.id, {"keyword": "ａ02", "price_minor": 5}))
    assert (now.price_minor, now.keyword_mode) == (5, "exact")
    assert done(await hub.changes.revise_offer(bare.id, {"keyword": "A03"})).keyword == "A03"
    await shop.offer(1, stream=stream, keyword="A04")


def test_keys_are_of_the_alphabet_and_never_alike() -> None:
    """A key fits 64 characters; no platform and id are digested like another pair."""
    pairs = [("a", "b:c"), ("a:b", "c"), ("a", "1:b"), (CHAT, "c"), ("", "a1:b"), ("a1", ":b")]
    keys = [key_of(*one) for one in pairs]
    assert len(set(keys)) == len(pairs)
    assert all(len(key) == 45 and key.startswith("c.") for key in keys)
    assert all(c.isascii() and (c.isalnum() or c in "._~-") for key in keys for c in key)
    assert viewer_of("line", "u1") == "line:u1"
