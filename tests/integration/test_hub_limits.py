"""The bounds of a hub: how often, how many, from where; on a real Redis."""

from __future__ import annotations

import msgspec
import pytest

from streams.pace import Rate, Rates
from tests.hub_rig import QUICK, Truth, open_stage, until

SLOW = Rates(sell=Rate(0.1, 3), host=Rate(0.1, 2), chat=Rate(0.1, 2), react=Rate(0.1, 2))


async def test_who_is_too_fast_is_told_how_long_to_wait(redis_url: str) -> None:
    """The burst is taken, the rest answered `rate_limited`; a second connection gains nothing."""
    async with open_stage(redis_url, Truth(fact_n=0), rates=SLOW) as stage:
        screen, second = await stage.enter("viewer/ann"), await stage.enter("viewer/ann")
        for n in range(3):
            screen.say("buy", offer="of_1", qty=1, key=f"k{n}")
        await screen.get("order.reserved", 3)
        for hasty in (screen, second):
            answer = await hasty.answer(hasty.say("buy", offer="of_1", qty=1, key="k9"))
            assert (answer["type"], answer["code"]) == ("reject", "rate_limited")
            assert 9_000 < answer["retry_after_ms"] <= 10_000
        answer = await screen.answer(screen.say("cancel", order="or_k0"))
        assert answer["code"] == "rate_limited"  # the same kind: buying and cancelling in turn
        assert (await screen.answer(screen.say("chat", text="hi", key="c1")))["type"] == "ok"
        assert len(stage.desk.commands) == 3
        other = await stage.enter("viewer/bob")
        answer = await other.answer(other.say("buy", offer="of_1", qty=1, key="k"))
        assert answer["type"] == "order.reserved"


@pytest.mark.parametrize(
    ("token", "command", "fields", "taken"),
    [
        ("viewer/ann", "chat", {"text": "hi"}, 2),
        ("host/shop", "offer.open", {"offer": "of_1"}, 2),
        ("admin/root", "offer.open", {"offer": "of_1"}, 20),
        (None, "react", {"kind": "like"}, 2),
    ],
)
async def test_each_kind_has_its_bound(
    redis_url: str, token: str | None, command: str, fields: dict[str, str], taken: int
) -> None:
    """An admin and a service have none."""
    async with open_stage(redis_url, Truth(fact_n=0), rates=SLOW) as stage:
        screen = await stage.enter(token)
        for n in range(20):
            screen.say(command, **fields, **({"key": f"k{n}"} if command == "chat" else {}))
        answer = await screen.answer(screen.say("ping", t0=1))
        assert answer["type"] == "pong"
        if command != "react":
            await screen.get("ok", taken)
        assert len(screen.of("reject")) == 20 - taken
        assert {e["code"] for e in screen.of("reject")} <= {"rate_limited"}


async def test_who_never_slows_down_is_closed(redis_url: str) -> None:
    """Two hundred refusals in a row are 4429; a taken command in between begins anew."""
    async with open_stage(redis_url, Truth(fact_n=0), rates=SLOW) as stage:
        screen = await stage.enter("viewer/ann")
        for n in range(400):
            screen.say("buy", offer="of_1", qty=1, key=f"k{n}")
        assert await screen.closing() == 4429
        assert len(screen.of("reject")) == 200


async def test_a_user_has_so_many_connections_to_a_stream(redis_url: str) -> None:
    """One more is told why and closed with 4429; guests are each somebody else."""
    limits = msgspec.structs.replace(QUICK, user_connections_max=3)
    async with open_stage(redis_url, Truth(fact_n=0), limits) as stage:
        first = [await stage.enter("viewer/ann") for _ in range(3)]
        one_more = stage.connect()
        answer = await one_more.answer(one_more.say("hello", token="viewer/ann"))
        assert (answer["type"], answer["code"]) == ("reject", "rate_limited")
        assert await one_more.closing() == 4429
        for _ in range(5):
            await stage.enter()
        await stage.enter("viewer/bob")
        first[0].abort()
        await until(lambda: len(stage.hub.sessions) == 8, "the end")
        await stage.enter("viewer/ann")
