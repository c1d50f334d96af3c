"""Outbound webhooks: what happened is told, whole and signed, to whoever asked for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.contract.http_rig import token
from tests.hooks_rig import LIMITS, Told, at_work, duties, said, telling_shop
from tests.shop import until


@pytest.fixture
async def told(redis_url: str, database_url: str) -> AsyncIterator[Told]:
    """A shop with a receiver, and the sender at work."""
    async with (
        telling_shop(redis_url, database_url) as told,
        duties(database_url) as one,
        at_work(one),
    ):
        yield told


async def test_an_order_is_told_from_its_admission_to_its_end(told: Told) -> None:
    """Signed for the library, each event once, with the Order; ids come from order and version."""
    hook = await told.webhook(events=["order.*"])
    offer = await told.offer(await told.stream())
    paid = (await told.buy(offer, "ann")).json()
    ended = (await told.buy(offer, "bob")).json()
    await told.made("POST", f"/v1/orders/{paid['id']}/pay")
    await told.made("POST", f"/v1/orders/{ended['id']}/cancel", {"reason": "no"})
    await told.settled()
    found = {one.id: one.verified(hook["secret"]) for one in told.receiver.got}
    assert {id_: (m["type"], m["data"]["id"]) for id_, m in found.items()} == {
        f"evt_{paid['id']}_1": ("order.reserved", paid["id"]),
        f"evt_{ended['id']}_1": ("order.reserved", ended["id"]),
        f"evt_{paid['id']}_2": ("order.confirmed", paid["id"]),
        f"evt_{ended['id']}_2": ("order.cancelled", ended["id"]),
    }
    assert len(told.receiver.got) == 4
    now = (await told.call("GET", f"/v1/orders/{paid['id']}", token=told.host)).json()
    assert found[f"evt_{paid['id']}_2"]["data"] == now
    assert found[f"evt_{paid['id']}_2"]["timestamp"].endswith("Z")
    assert {one["state"] for one in await told.log(hook["id"])} == {"delivered"}


async def test_offers_and_streams_are_told_as_they_were(told: Told) -> None:
    """The Offer of that moment, with the reason; the Stream; each id from its fact."""
    await told.webhook(events=["offer.*", "stream.*"])
    stream = await told.stream()
    offer = await told.offer(stream, quantity=1)
    await told.buy(offer, "ann")
    await told.made("POST", f"/v1/streams/{stream}/end")
    await told.settled()
    found = sorted(told.receiver.got, key=lambda one: int(one.id.rpartition("_")[2]))
    assert [one.type for one in found] == [
        "stream.started", "offer.opened", "offer.sold_out", "offer.closed", "stream.ended",
    ]  # fmt: skip
    assert [one.id for one in found] == [f"evt_{stream}_{n}" for n in range(1, 6)]
    opened, sold, closed = (one.message for one in found[1:4])
    assert (opened["data"]["status"], opened["data"]["left"]) == ("open", 1)
    assert (sold["data"]["status"], sold["data"]["left"]) == ("sold_out", 0)
    assert closed["reason"] == "stream_ended"
    assert opened["data"]["product"]["title"] == "高山茶"
    assert found[0].message["data"]["id"] == stream


async def test_a_filter_lets_through_what_it_names(told: Told) -> None:
    """Exact names and groups, of this shop alone; who wants nothing of it costs no row."""
    await told.webhook(events=["order.cancelled", "stream.*"])
    other = token("host", "host-2", shop="shop-2")
    await told.made("POST", "/v1/webhooks", {"url": told.receiver.url + "/2"}, token=other)
    offer = await told.offer(await told.stream())
    order = (await told.buy(offer, "ann")).json()
    await told.made("POST", f"/v1/orders/{order['id']}/cancel")
    await told.settled()
    assert [one.type for one in told.receiver.got if one.path == "/in"] == [
        "stream.started", "order.cancelled",
    ]  # fmt: skip
    assert all(one.path == "/in" for one in told.receiver.got)


async def test_without_an_endpoint_nothing_is_written(told: Told) -> None:
    """Neither rows of the outbox nor deliveries, also when the only endpoint is off or gone."""
    for end in (None, "PATCH", "DELETE"):
        if end is not None:
            hook = await told.webhook()
            body = {"enabled": False} if end == "PATCH" else None
            await told.call(end, f"/v1/webhooks/{hook['id']}", body, token=told.host)
        offer = await told.offer(await told.stream())
        await told.buy(offer, "ann")
        rows = await told.fetch(
            "select (select count(*) from hook_outbox), (select count(*) from hook_deliveries)"
        )
        assert tuple(rows[0]) == (0, 0), end


async def test_every_way_into_an_order_is_told(told: Told) -> None:
    """A bundle, who was served from the waitlist, a draw's winners, an order that expires."""
    await told.webhook(events=["order.*"])
    stream = await told.stream()
    first, second = [await told.offer(stream, quantity=1) for _ in range(2)]
    ann, bob = token("viewer", "ann"), token("viewer", "bob")
    bundle = await told.made(
        "POST", f"/v1/streams/{stream}/bundles",
        {"lines": [{"offer": first, "qty": 1}, {"offer": second, "qty": 1}]}, token=ann, key="b",
    )  # fmt: skip
    await told.made("POST", f"/v1/offers/{first}/waitlist", {"qty": 1}, token=bob, key="w")
    cancelled = bundle["orders"][0]["id"]
    await told.made("POST", f"/v1/orders/{cancelled}/cancel")
    drawn = await told.offer(stream, opened=False, mode="draw", opens_at=4102444800000)
    for viewer in ("cem", "dan"):
        await told.made(
            "POST", f"/v1/offers/{drawn}/waitlist", {"qty": 1}, token=token("viewer", viewer),
            key="d",
        )  # fmt: skip
    await told.made("POST", f"/v1/offers/{drawn}/open")
    await told.fetch("update orders set expires_at = now() - interval '1 s' where viewer = 'dan'")
    await told.fetch("select expire($1, 10)", drawn)
    await told.settled()
    viewers = {
        (one.type, one.message["data"]["viewer"], one.message["data"]["offer"])
        for one in told.receiver.got
    }
    assert viewers == {
        ("order.reserved", "ann", first), ("order.reserved", "ann", second),
        ("order.cancelled", "ann", first), ("order.reserved", "bob", first),
        ("order.reserved", "cem", drawn), ("order.reserved", "dan", drawn),
        ("order.expired", "dan", drawn),
    }  # fmt: skip
    assert len({one.id for one in told.receiver.got}) == len(told.receiver.got)


async def test_what_its_status_does_not_tell_is_told_too(told: Told) -> None:
    """Shipped, late, a part refunded: each by its name; other changes of a row by none."""
    await told.webhook(events=["order.shipped", "order.late", "order.refunded"])
    offer = await told.offer(await told.stream(), payment="none")
    order = (await told.buy(offer, "ann")).json()["id"]
    for change in ("captured_at = now()", "late_at = now()", "refunded_minor = 1",
                   "status = 'shipped'", "tracking = 'T1'"):  # fmt: skip
        await told.fetch(f"update orders set version = version + 1, {change} where id = $1", order)
    await told.settled()
    assert {(one.id, one.type) for one in told.receiver.got} == {
        (f"evt_{order}_3", "order.late"), (f"evt_{order}_4", "order.refunded"),
        (f"evt_{order}_5", "order.shipped"),
    }  # fmt: skip


async def test_what_fails_is_tried_again_under_its_id(told: Told) -> None:
    """A refusal is logged, with status and answer, and tried later each time until it is in."""
    hook = await told.webhook(events=["stream.started"])
    told.receiver.answer = lambda _: said(503, b"not \x00 now")
    await told.stream()
    for attempt in (1, 2):
        await until(lambda seen=attempt: len(told.receiver.got) == seen)

        async def noted(seen: int = attempt) -> bool:
            return bool((await told.log(hook["id"]))[0].get("last", {}).get("attempt") == seen)

        await until(noted)
        (one,) = await told.log(hook["id"])
        assert (one["state"], one["attempts"]) == ("pending", attempt)
        assert (one["last"]["status"], one["last"]["answer"]) == (503, "not � now")
        wait_ms = one["next_at"] - one["last"]["at"]
        assert 5_000 * 3 ** (attempt - 1) * 0.6 < wait_ms < 5_000 * 3 ** (attempt - 1) * 1.4
        await told.hasten()
    told.receiver.answer = lambda _: said(204, b"")
    await told.hasten()
    await told.settled()
    (one,) = await told.log(hook["id"])
    full = await told.made("GET", f"/v1/webhooks/{hook['id']}/deliveries/{one['id']}")
    assert [a["status"] for a in full["log"]] == [204] + [503] * (len(full["log"]) - 1)
    assert {got.body for got in told.receiver.got} == {full["body"]}
    assert {got.id for got in told.receiver.got} == {one["event"]}


async def test_nothing_is_tried_for_ever(told: Told) -> None:
    """Three days after its first try a delivery is dead; a replay sends it under its id again."""
    hook = await told.webhook(events=["stream.started"])
    told.receiver.answer = lambda _: said(500)
    await told.stream()
    await until(lambda: told.receiver.got)
    await told.fetch("update hook_deliveries set first_at = now() - interval '3 days'")
    await told.hasten()

    async def dead() -> bool:
        return bool((await told.log(hook["id"]))[0]["state"] == "dead")

    await until(dead)
    told.receiver.answer = lambda _: said(200)
    (one,) = await told.log(hook["id"], state="dead")
    replay = f"/v1/webhooks/{hook['id']}/replay"
    assert (await told.made("POST", replay, {"delivery": one["id"]}))["count"] == 1
    await told.settled()
    assert len({got.id for got in told.receiver.got}) == 1
    assert (await told.log(hook["id"]))[0]["state"] == "delivered"


async def test_a_dead_endpoint_is_switched_off_and_on_again(told: Told) -> None:
    """Three days without a success, or 410 at once: off, and said why; on, what waits is sent."""
    for why in ("failing", "gone"):
        told.receiver.got.clear()
        hook = await told.webhook(events=["stream.started"])
        path = f"/v1/webhooks/{hook['id']}"
        told.receiver.answer = lambda _, why=why: said(410 if why == "gone" else 500)  # type: ignore[misc]
        await told.fetch(
            "update webhooks set failing_since = now() - interval '3 days' where id = $1"
            " and $2 = 'failing'", hook["id"], why,
        )  # fmt: skip
        await told.stream()

        async def off(path: str = path) -> bool:
            return not (await told.made("GET", path))["enabled"]

        await until(off)
        assert (await told.made("GET", path))["disabled_why"] == why
        refused = await told.call("POST", f"{path}/test", token=told.host)
        assert refused.json()["code"] == "conflict"
        told.receiver.answer = lambda _: said(200)
        now = await told.made("PATCH", path, {"enabled": True})
        assert now["enabled"]
        assert "disabled_why" not in now
        assert "failing_since" not in now
        await told.hasten()
        await told.settled()
        assert len({got.id for got in told.receiver.got}) == 1
        assert (await told.log(hook["id"]))[0]["state"] == "delivered"
        await told.call("DELETE", path, token=told.host)


async def test_a_failing_endpoint_is_left_alone_between_single_tries(told: Told) -> None:
    """After three failures one attempt at a time, with pauses: a crowd of events is no hammer."""
    hook = await told.webhook(events=["order.*"])
    told.receiver.answer = lambda _: said(500)
    offer = await told.offer(await told.stream(), quantity=50)
    await asyncio.gather(*(told.buy(offer, f"v{n}") for n in range(40)))

    async def paused() -> bool:
        rows = await told.fetch(
            "select 1 from webhooks where id = $1 and resume_at > now()"
            " and (select count(*) from hook_deliveries) = 40", hook["id"],
        )  # fmt: skip
        return bool(rows)

    await until(paused)
    assert len(told.receiver.got) <= 2 * LIMITS.endpoint_sending_max + 3
    told.receiver.answer = lambda _: said(200)
    await told.hasten()
    await told.settled()
    assert len({one.id for one in told.receiver.got}) == 40


async def test_since_a_time_everything_is_sent_again(told: Told) -> None:
    """All deliveries from then on, the same ids and bodies; earlier ones are not."""
    hook = await told.webhook(events=["stream.started"])
    await told.stream()
    await told.settled()
    await told.fetch("update hook_deliveries set created_at = created_at - interval '1 h'")
    await told.stream()
    await told.stream()
    await told.settled()
    before = {one.id: one.body for one in told.receiver.got}
    since = min(one["created_at"] for one in (await told.log(hook["id"]))[:2])
    told.receiver.got.clear()
    replay = f"/v1/webhooks/{hook['id']}/replay"
    assert await told.made("POST", replay, {"since": since, "dead_only": True}) == {"count": 0}
    assert await told.made("POST", replay, {"since": since}) == {"count": 2}
    await told.settled()
    again = {one.id: one.body for one in told.receiver.got}
    assert len(told.receiver.got) == len(again) == 2
    assert again.items() < before.items()


async def test_a_rotated_secret_signs_beside_the_one_before(told: Told) -> None:
    """Both verify during the overlap; afterwards the new one alone."""
    hook = await told.webhook(events=["stream.started"])
    path = f"/v1/webhooks/{hook['id']}"
    fresh = (await told.made("POST", f"{path}/rotate", {"overlap_s": 3600}))["secret"]
    assert fresh != hook["secret"]
    await told.made("POST", f"{path}/test")
    await told.settled()
    (both,) = told.receiver.got
    assert both.verified(fresh) == both.verified(hook["secret"])
    await told.fetch("update hook_secrets set until = now() where until is not null")
    await told.made("POST", f"{path}/test")
    await told.settled()
    alone = told.receiver.got[-1]
    alone.verified(fresh)
    assert len(alone.headers["webhook-signature"].split()) == 1


async def test_what_is_over_is_swept_away(told: Told) -> None:
    """Kept for its time, then deleted in bounded parts; a deleted endpoint goes with its log."""
    gone, hook = [await told.webhook(events=["stream.started"]) for _ in range(2)]
    await told.stream()
    await told.stream()
    await told.settled()
    async with duties(told.database_url) as one:
        await one.sweep()
        assert len(await told.log(hook["id"])) == 2
        await told.call("DELETE", f"/v1/webhooks/{gone['id']}", token=told.host)
        await told.fetch("update webhooks set deleted_at = deleted_at - interval '2 min'")
        await told.fetch(
            "update hook_deliveries set ended_at = now() - interval '8 days' where n ="
            " (select min(n) from hook_deliveries where webhook = $1)", hook["id"],
        )  # fmt: skip
        await one.sweep()
    rows = await told.fetch("select webhook from hook_deliveries")
    assert [row["webhook"] for row in rows] == [hook["id"]]
    assert await told.fetch("select 1 from webhooks where id = $1", gone["id"]) == []
    assert await told.fetch("select 1 from hook_secrets where webhook = $1", gone["id"]) == []


async def test_what_cannot_be_read_keeps_nothing_else_waiting(told: Told) -> None:
    """A row of the outbox that makes no sense is put off; the others are told (R5)."""
    await told.webhook(events=["stream.started"])
    await told.fetch(
        "insert into hook_outbox (shop, stream, orders, versions, names)"
        " values ('shop-1', 'st_x', '{or_nobody}', '{1}', '{reserved}')"
    )
    await told.stream()
    await until(lambda: told.receiver.got)
    assert told.receiver.got[0].type == "stream.started"
    rows = await told.fetch("select due_at > now() from hook_outbox")
    assert [row[0] for row in rows] == [True]


async def test_without_the_key_nothing_is_sent_and_nothing_lost(told: Told) -> None:
    """A key that was taken away, or changed: deliveries wait, and go once it is back."""
    hook = await told.webhook(events=["stream.started"])
    await told.fetch("update hook_secrets set sealed = 'x'")
    await told.stream()

    async def failed() -> bool:
        found = await told.log(hook["id"])
        return bool(found and found[0].get("last"))

    await until(failed)
    (one,) = await told.log(hook["id"])
    assert one["last"]["error"] == "its secret cannot be opened"
    assert told.receiver.connections == 0
    fresh = await told.made("POST", f"/v1/webhooks/{hook['id']}/rotate", {"overlap_s": 0})
    await told.hasten()
    await told.settled()
    told.receiver.got[0].verified(fresh["secret"])
