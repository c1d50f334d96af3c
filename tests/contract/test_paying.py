"""Orders and money over HTTP: a whole server, its cashier, and the trial bank or localstripe."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest

from tests.contract.http_rig import Json, problem, serving, token
from tests.contract.payments_rig import AtLocalstripe, localstripe
from tests.contract.till_rig import WAIT_S, Till, selling

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<:DeprecationWarning")


@pytest.fixture
async def till(redis_url: str, database_url: str, tmp_path: Path) -> AsyncIterator[Till]:
    async with selling(redis_url, database_url, tmp_path / "bank") as found:
        yield found


async def test_a_viewer_pays(till: Till) -> None:
    """Paying sets money aside; its notice confirms the order, once, and the money moves then."""
    order = await till.bought()
    payment = await till.pay(order)
    assert (payment["state"], payment["amount_minor"], payment["currency"]) == ("open", 1500, "TWD")
    again = await till.pay(order)
    assert again["id"] == payment["id"]
    seen = till.bank.authorise(payment["client"]["ref"])
    assert seen.capturable_minor == 1500
    till.bank.will("notice", "repeat", times=3)
    assert await till.deliver() >= 1
    now = await till.order(order, lambda now: "captured_at" in now)
    assert (now["status"], "refunded_minor" in now) == ("confirmed", False)
    await till.deliver()
    (account,) = till.bank.audit()
    assert (account.captured_minor, account.captures) == (1500, 1)
    kept = await till.payment(payment["id"], lambda now: now["state"] == "captured")
    assert kept["captured_minor"] == 1500
    ann = token("viewer", "ann")
    shown = await till.shop.call("GET", f"/v1/payments/{payment['id']}", token=ann)
    assert shown.json() == kept
    listed = await till.shop.call("GET", f"/v1/orders/{order}/payments", token=ann)
    assert listed.json() == {"items": [kept]}
    bob = token("viewer", "bob")
    problem(
        await till.shop.call("GET", f"/v1/payments/{payment['id']}", token=bob), 404, "not_found"
    )
    problem(
        await till.shop.call("POST", f"/v1/orders/{order}/pay", {}, token=bob), 404, "not_found"
    )
    steps = (await till.shop.made("GET", f"/v1/orders/{order}/timeline"))["steps"]
    assert [s["what"] for s in steps if s["what"] != "payment"] == [
        "reserved", "confirmed", "captured",
    ]  # fmt: skip


async def test_notices_of_others_are_not_taken(till: Till) -> None:
    """Without the bank's signature nothing is believed; what nobody knows does no harm."""
    http = till.shop.http
    problem(await http.post("/v1/hooks/nobody", content=b"{}"), 404, "not_found")
    problem(await http.post("/v1/hooks/trial", content=b"{}"), 401, "unauthenticated")
    order = await till.bought()
    payment = await till.pay(order)
    till.bank.authorise(payment["client"]["ref"])
    due = till.bank.due()
    assert due is not None
    forged = await http.post(
        "/v1/hooks/trial",
        content=due.body,
        headers={"Trial-Signature": "t=1,v1=00", "Content-Type": "application/json"},
    )
    problem(forged, 401, "unauthenticated")
    assert (await till.order(order))["status"] == "reserved"


async def test_a_payment_that_comes_too_late(till: Till) -> None:
    """Paid after its end an order is bought anew, while there is stock, or its money goes back."""
    order = await till.bought("ann", 2)
    payment = await till.pay(order)
    await till.fetch("update orders set expires_at = now() where id = $1", order)
    await till.fetch("select expire($1, 10)", till.offer)
    till.bank.authorise(payment["client"]["ref"])
    await till.deliver()

    async def orders() -> list[Json]:
        items: list[Json] = (await till.shop.made("GET", "/v1/orders?viewer=ann"))["items"]
        return items

    async with asyncio.timeout(WAIT_S):
        while not any("captured_at" in one for one in await orders()):  # noqa: ASYNC110 - over HTTP
            await asyncio.sleep(0.02)
    new, old = await orders()
    assert (old["id"], old["status"]) == (order, "expired")
    assert (new["status"], new["replaces"], new["qty"]) == ("confirmed", order, 2)

    second = await till.bought("bob", 5)
    payment = await till.pay(second, "bob")
    await till.fetch("update orders set expires_at = now() where id = $1", second)
    await till.fetch("select expire($1, 10)", till.offer)
    await till.shop.made("POST", f"/v1/offers/{till.offer}/close")
    till.bank.authorise(payment["client"]["ref"])
    await till.deliver()
    gone = await till.payment(payment["id"], lambda now: now["state"] == "voided")
    assert "captured_minor" not in gone
    assert (await till.order(second))["status"] == "expired"


async def test_refund_ship_and_return(till: Till) -> None:
    """An order is shipped once its money moved; refunds are whole or in part, once a key."""
    shop = till.shop
    order = await till.bought("ann", 2)
    problem(
        await shop.call("POST", f"/v1/orders/{order}/ship", {}, token=shop.host), 409, "conflict"
    )
    await till.paid(order)
    shipped = await shop.made(
        "POST", f"/v1/orders/{order}/ship", {"carrier": "Post", "tracking": "RR1"}
    )
    assert (shipped["status"], shipped["tracking"]) == ("shipped", "RR1")
    ann = token("viewer", "ann")
    wish = {"reason": "broken", "photo_url": "https://pictures.example/1.jpg"}
    asked = await shop.made("POST", f"/v1/orders/{order}/returns", wish, token=ann)
    again = await shop.made("POST", f"/v1/orders/{order}/returns", wish, token=ann)
    assert again == asked
    problem(
        await shop.call("POST", f"/v1/returns/{asked['id']}/accept", {}, token=ann),
        403, "forbidden",
    )  # fmt: skip
    other = token("host", "host-2", shop="shop-2")
    problem(
        await shop.call("POST", f"/v1/returns/{asked['id']}/accept", {}, token=other),
        404, "not_found",
    )  # fmt: skip
    taken = await shop.made("POST", f"/v1/returns/{asked['id']}/accept", {"note": "send it"})
    assert taken["state"] == "accepted"
    problem(
        await shop.call("POST", f"/v1/returns/{asked['id']}/refuse", {}, token=shop.host),
        409, "conflict",
    )  # fmt: skip

    part = {"amount_minor": 500, "reason": "a scratch"}
    path = f"/v1/orders/{order}/refund"
    for _ in range(2):
        now = await shop.made("POST", path, part, key="r1")
        assert (now["status"], now["refunded_minor"]) == ("shipped", 500)
    reused = await shop.call("POST", path, {"amount_minor": 501}, token=shop.host, key="r1")
    problem(reused, 422, "key_reused")
    too_much = await shop.call("POST", path, {"amount_minor": 2501}, token=shop.host)
    problem(too_much, 400, "bad_request")
    units = await shop.call("POST", path, {"amount_minor": 1, "restock": True}, token=shop.host)
    problem(units, 400, "bad_request")
    before = await shop.made("GET", f"/v1/offers/{till.offer}")
    for _ in range(2):
        now = await shop.made("POST", path, {})
        assert (now["status"], now["refunded_minor"]) == ("refunded", 3000)
    after = await shop.made("GET", f"/v1/offers/{till.offer}")
    assert after["quantity"] == before["quantity"] - 2
    assert after["left"] == before["left"]
    async with asyncio.timeout(WAIT_S):
        while till.bank.audit()[0].refunded_minor < 3000:  # noqa: ASYNC110 - it is a file
            await asyncio.sleep(0.02)
    assert till.bank.audit()[0].keys in (2, 3)  # a capture, and a refund or two
    steps = (await shop.made("GET", f"/v1/orders/{order}/timeline", token=ann))["steps"]
    assert "host-1" not in json.dumps(steps)
    whats = [s["what"] for s in steps if s["what"] != "payment"]
    assert whats == [
        "reserved", "confirmed", "captured", "shipped", "return_asked", "return_accepted",
        "refunded_in_part", "refunded",
    ]  # fmt: skip


async def test_what_is_not_shipped_in_time_is_late(till: Till) -> None:
    """The keeper marks confirmed orders that were not shipped within their offer's hours."""
    shop = till.shop
    changed = await shop.made("PATCH", f"/v1/offers/{till.offer}", {"ship_within_h": 5})
    assert changed["ship_within_h"] == 5
    orders = [await till.bought("ann", 1, f"k{n}") for n in range(3)]
    for order in orders[:2]:
        await shop.made("POST", f"/v1/orders/{order}/pay", {})
    await till.fetch(
        "update orders set confirmed_at = now() - interval '6 h' where id = $1", orders[0]
    )
    marked = await till.fetch("select id from mark_late(10)")
    assert [row["id"] for row in marked] == [orders[0]]
    assert await till.fetch("select id from mark_late(10)") == []
    late = await till.order(orders[0])
    assert (late["status"], "late_at" in late) == ("confirmed", True)
    assert "late_at" not in await till.order(orders[1])
    steps = (await shop.made("GET", f"/v1/orders/{orders[0]}/timeline"))["steps"]
    assert (steps[-1]["what"], steps[-1]["who"]) == ("late", "clock")


async def test_a_checkout_of_several_and_its_link(till: Till) -> None:
    """One payment pays several orders; whoever has the link may pay, and nothing else."""
    shop = till.shop
    orders = [await till.bought("ann", 1, f"k{n}") for n in range(2)]
    made = await shop.made(
        "POST", f"/v1/orders/{orders[0]}/link", {"orders": orders[1:], "ttl_s": 600}
    )
    assert made["path"] == f"/pay#token={made['token']}"
    link = {"Livecart-Checkout": made["token"]}
    shown = await shop.call("GET", "/v1/checkout", headers=link)
    assert [one["id"] for one in shown.json()["orders"]] == orders
    for wrong in ("x", made["token"][:-2] + "AA", token("viewer", "ann")):
        refused = await shop.call("GET", "/v1/checkout", headers={"Livecart-Checkout": wrong})
        problem(refused, 401, "unauthenticated")
    as_token = await shop.call("GET", "/v1/orders", token=made["token"])
    problem(as_token, 401, "unauthenticated")
    door = {"name": "林小姐", "address1": "中山路 1", "country": "TW", "phone": "0912-345-678"}
    paying = await shop.call("POST", "/v1/checkout/pay", {"contact": door}, headers=link)
    assert paying.status_code == 201, paying.text
    payment = paying.json()
    assert (payment["amount_minor"], sorted(payment["orders"])) == (3000, sorted(orders))
    ann = token("viewer", "ann")
    same = await shop.made("POST", "/v1/checkouts", {"orders": orders}, token=ann)
    assert same["id"] == payment["id"]
    till.bank.authorise(payment["client"]["ref"])
    await till.deliver()
    for order in orders:
        assert (await till.order(order, lambda now: "captured_at" in now))["status"] == "confirmed"
    (account,) = till.bank.audit()
    assert (account.captured_minor, account.captures) == (3000, 1)

    sealed = await till.fetch("select sealed::text as sealed from contacts")
    assert len(sealed) == 2
    assert sealed[0]["sealed"] != sealed[1]["sealed"]
    assert "0912" not in str(sealed)
    assert await shop.made("GET", f"/v1/orders/{orders[0]}/contact", token=ann) == door
    erased = await shop.call("DELETE", f"/v1/orders/{orders[0]}/contact", token=shop.host)
    assert erased.status_code == 204
    gone = await shop.call("GET", f"/v1/orders/{orders[0]}/contact", token=shop.host)
    problem(gone, 404, "not_found")
    assert (await till.order(orders[0]))["status"] == "confirmed"
    late = {"orders": orders, "contact": door}
    refused = await shop.call("POST", "/v1/checkouts", late, token=ann)
    problem(refused, 409, "conflict")
    gone = await shop.call("GET", f"/v1/orders/{orders[0]}/contact", token=shop.host)
    problem(gone, 404, "not_found")  # what is refused leaves nothing behind
    others = await till.bought("bob")
    foreign = await shop.call(
        "POST", f"/v1/orders/{orders[0]}/link", {"orders": [others]}, token=shop.host
    )
    problem(foreign, 404, "not_found")
    odd = {"provider": "nonesuch", "contact": door}
    problem(
        await shop.call("POST", "/v1/checkouts", {"orders": [others], **odd},
                        token=token("viewer", "bob")),
        400, "bad_request",
    )  # fmt: skip
    gone = await shop.call("GET", f"/v1/orders/{others}/contact", token=shop.host)
    problem(gone, 404, "not_found")
    await shop.made("POST", f"/v1/orders/{others}/cancel", {})
    useless = await shop.call("POST", f"/v1/orders/{others}/link", {}, token=shop.host)
    problem(useless, 409, "conflict")


async def test_a_paid_order_that_is_cancelled_says_that_its_money_goes_back(till: Till) -> None:
    """Order, list, sums and payment tell of a host's cancel alike."""
    order = await till.bought("ann", 2)
    await till.paid(order)
    cancelled = await till.shop.made("POST", f"/v1/orders/{order}/cancel", {})
    assert (cancelled["status"], cancelled["refunded_minor"]) == ("cancelled", 3000)
    given_back = await till.shop.made("GET", "/v1/orders?refunded=true")
    assert [one["id"] for one in given_back["items"]] == [order]
    (payment,) = (await till.shop.made("GET", f"/v1/orders/{order}/payments"))["items"]
    await till.payment(payment["id"], lambda now: now.get("refunded_minor") == 3000)
    sums = await till.shop.made("GET", f"/v1/streams/{cancelled['stream']}/summary")
    assert [(one["captured_minor"], one["refunded_minor"]) for one in sums["totals"]] == [
        (3000, 3000)
    ]


async def test_a_link_learns_of_what_no_notice_said(till: Till) -> None:
    """A lost notice keeps nobody waiting who pays through a link: each look has the bank asked."""
    order = await till.bought()
    made = await till.shop.made("POST", f"/v1/orders/{order}/link", {})
    link = {"Livecart-Checkout": made["token"]}
    paying = await till.shop.call("POST", "/v1/checkout/pay", {}, headers=link)
    till.bank.authorise(paying.json()["client"]["ref"])
    async with asyncio.timeout(WAIT_S):
        while True:
            shown = await till.shop.call("GET", "/v1/checkout", headers=link)
            if shown.json()["orders"][0]["status"] == "confirmed":
                break
            await asyncio.sleep(0.05)


async def test_the_whole_flow_with_stripe(redis_url: str, database_url: str) -> None:
    """With Stripe's library on localstripe: pay, its signed webhook, capture, refund."""
    secret = f"whsec_{secrets.token_hex(16)}"
    with localstripe() as address:
        more = {
            "LIVECART_PAYMENTS": "stripe",
            "LIVECART_STRIPE_URL": address,
            "LIVECART_STRIPE_KEY": f"sk_test_{secrets.token_hex(16)}",
            "LIVECART_STRIPE_SIGNING_SECRETS": secret,
            "LIVECART_STRIPE_PUBLISHABLE_KEY": "pk_test_of_nobody",
        }
        async with serving(redis_url, database_url, **more) as shop, httpx.AsyncClient() as http:
            config = {"url": f"http://127.0.0.1:{shop.port}/v1/hooks/stripe", "secret": secret}
            made = await http.post(f"{address}/_config/webhooks/w", json=config)
            assert made.status_code == 200, made.text
            offer = await shop.offer(await shop.stream(), per_viewer=5)
            order = (await shop.buy(offer, "ann", 2)).json()["id"]
            ann = token("viewer", "ann")
            paying = await shop.made("POST", f"/v1/orders/{order}/pay", {}, token=ann)
            client = paying["payment"]["client"]
            assert client["publishable_key"] == "pk_test_of_nobody"
            ref = client["client_secret"].split("_secret_")[0]
            bank = AtLocalstripe(address)
            await bank.authorise(ref)

            async def order_is(when: Callable[[Json], bool]) -> Json:
                async with asyncio.timeout(WAIT_S):
                    while True:
                        now = await shop.made("GET", f"/v1/orders/{order}")
                        if when(now):
                            return now
                        await asyncio.sleep(0.05)

            # localstripe tells nobody of what was set aside: the buyer's client asks, as it should.
            path = f"/v1/payments/{paying['payment']['id']}"
            async with asyncio.timeout(WAIT_S):
                while (await shop.made("GET", path, token=ann))["state"] == "open":  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            now = await order_is(lambda now: "captured_at" in now)
            assert now["status"] == "confirmed"
            now = await shop.made("POST", f"/v1/orders/{order}/refund", {"amount_minor": 700})
            assert now["refunded_minor"] == 700
            async with asyncio.timeout(WAIT_S):
                while (await bank.provider.look(ref)).refunded_minor != 700:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            await bank.close()
