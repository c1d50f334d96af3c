"""Who may buy: tickets of the shop and the operator's hook, as clients meet them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from livecart.eligibility import Candidate, issue
from tests.contract.http_rig import Json, Shop, paths, problem, serving, token
from tests.contract.test_ws_commands import lines

TICKETS = "the secret of tickets in tests: 0123456789"
ANN = token("viewer", "ann")
asked: list[Candidate] = []


async def hook(candidate: Candidate) -> bool | str | None:
    """An operator's hook: it knows a robot, a bore, a fault and a silence."""
    asked.append(candidate)
    match candidate.viewer:
        case "robot":
            return False
        case "bore":
            return "Only for members."
        case "fault":
            raise ValueError("planted")
        case "silence":
            await asyncio.Event().wait()
    return None


@pytest.fixture
async def shop(redis_url: str, database_url: str) -> AsyncIterator[Shop]:
    """A server that checks tickets."""
    async with serving(redis_url, database_url, LIVECART_TICKET_SECRET=TICKETS) as shop:
        yield shop


def ticket(*good_for: str, sub: str = "ann", secret: str = TICKETS, s: int = 60) -> str:
    """Return a ticket."""
    return issue(secret, sub=sub, good_for=good_for, exp_s=int(time.time()) + s)


async def bought(shop: Shop, offer: str, key: str, viewer: str = "ann", **more: Any) -> Any:
    """Buy one over HTTP."""
    body = {"qty": 1} | more
    path = f"/v1/offers/{offer}/orders"
    return await shop.call("POST", path, body, token=token("viewer", viewer), key=key)


async def test_an_offer_for_tickets_sells_to_who_brings_one(shop: Shop) -> None:
    """Over HTTP and WebSocket, for the offer or its stream; every other ticket is `forbidden`."""
    stream = await shop.stream()
    offer = await shop.offer(stream, eligibility="ticket", per_viewer=9)
    assert (await shop.made("GET", f"/v1/offers/{offer}"))["eligibility"] == "ticket"
    bad = [None, "x", "\u8336", ticket("of_else"), ticket(offer, sub="bob"), ticket(offer, s=-1),
           ticket(offer, secret="y" * 40), ticket(), ANN]  # fmt: skip
    for n, value in enumerate(bad):
        document = problem(await bought(shop, offer, f"b{n}", ticket=value), 403, "forbidden")
        assert paths(document) == ["ticket"], value
    good = ticket(offer)
    assert (await bought(shop, offer, "a", ticket=good)).status_code == 201
    assert (await bought(shop, offer, "b", ticket=ticket("of_else", stream))).status_code == 201
    async with lines(shop, stream, ANN) as (line,):
        assert line.kinds("welcome")[0]["offers"][0]["eligibility"] == "ticket"
        refused = await line.ask("buy", offer=offer, qty=1, key="c")
        assert (refused["code"], refused["field"]) == ("forbidden", "ticket")
        answer = await line.ask("buy", offer=offer, qty=1, key="c", ticket=good)
        assert answer["type"] == "order.reserved"
    assert (await shop.made("GET", f"/v1/offers/{offer}"))["left"] == 7


async def test_a_key_that_has_its_order_needs_no_ticket_any_more(shop: Shop) -> None:
    """An answer that was lost is given again, though the ticket has run out."""
    offer = await shop.offer(await shop.stream(), eligibility="ticket")
    made = await bought(shop, offer, "k", ticket=ticket(offer))
    again = await bought(shop, offer, "k", ticket=ticket(offer, s=-1))
    assert (again.status_code, again.json()) == (200, made.json())
    reused = await shop.call("POST", f"/v1/offers/{offer}/orders", {"qty": 2}, token=ANN, key="k")
    problem(reused, 422, "key_reused")


async def test_waiting_and_bundles_need_a_ticket_too(shop: Shop) -> None:
    """One ticket for the stream is good for all lines; without it nothing of a bundle is bought."""
    stream = await shop.stream()
    free, closed = await shop.offer(stream), await shop.offer(stream, eligibility="ticket")
    want = [{"offer": free, "qty": 1}, {"offer": closed, "qty": 1}]
    async with lines(shop, stream, ANN, token("viewer", "bob")) as (ann, bob):
        refused = await ann.ask("buy", lines=want, key="k")
        assert (refused["code"], refused["field"]) == ("forbidden", "lines[1]")
        answer = await ann.ask("buy", lines=want, key="k", ticket=ticket(stream))
        assert len(answer["orders"]) == 2
        await shop.made("PATCH", f"/v1/offers/{closed}", {"quantity": 1})
        refused = await bob.ask("waitlist", offer=closed, qty=1, key="w")
        assert (refused["code"], refused["field"]) == ("forbidden", "ticket")
        his = ticket(closed, sub="bob")
        answer = await bob.ask("waitlist", offer=closed, qty=1, key="w", ticket=his)
        assert (answer["type"], answer["position"]) == ("waitlisted", 1)
    assert (await shop.made("GET", f"/v1/offers/{free}"))["left"] == 9


async def test_who_may_buy_is_settled_with_the_draft(shop: Shop) -> None:
    """It may change while the offer is a draft, and not afterwards; rubbish is a bad request."""
    stream = await shop.stream()
    offer = await shop.offer(stream, opened=False)
    path = f"/v1/offers/{offer}"
    assert "eligibility" not in await shop.made("GET", path)
    assert (await shop.made("PATCH", path, {"eligibility": "ticket"}))["eligibility"] == "ticket"
    response = await shop.call("PATCH", path, {"eligibility": "friends"}, token=shop.host)
    assert paths(problem(response, 400, "bad_request")) == ["eligibility"]
    await shop.made("POST", f"{path}/open")
    response = await shop.call("PATCH", path, {"eligibility": "anyone"}, token=shop.host)
    problem(response, 409, "conflict")


async def test_an_operators_hook_is_asked(redis_url: str, database_url: str) -> None:
    """False and words refuse; a fault and silence let nobody in, and say `retry`."""
    name = f"{__name__}:hook"
    async with serving(redis_url, database_url, LIVECART_ELIGIBILITY=name) as shop:
        stream = await shop.stream()
        offer = await shop.offer(stream)
        asked.clear()
        assert (await bought(shop, offer, "k")).status_code == 201
        assert asked == [
            Candidate(viewer="ann", offer=offer, stream=stream, shop="shop-1", ticket=None)
        ]
        problem(await bought(shop, offer, "k", "robot"), 403, "forbidden")
        said: Json = problem(await bought(shop, offer, "k", "bore"), 403, "forbidden")
        assert said["detail"] == "Only for members."
        problem(await bought(shop, offer, "k", "fault"), 500, "internal")
        problem(await bought(shop, offer, "k", "silence"), 503, "retry")
        assert (await shop.made("GET", f"/v1/offers/{offer}"))["left"] == 9


async def test_tickets_that_cannot_be_checked_let_nobody_in(
    redis_url: str, database_url: str
) -> None:
    """Without the secret an offer for tickets sells to nobody."""
    async with serving(redis_url, database_url) as shop:
        offer = await shop.offer(await shop.stream(), eligibility="ticket")
        problem(await bought(shop, offer, "k", ticket=ticket(offer)), 403, "forbidden")
