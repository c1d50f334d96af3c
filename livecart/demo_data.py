"""The demo stream of `livecart up`: three products, one pinned, one on offer.

Owns what is in it. Made through the public HTTP API, as a host would; what is there already is
kept, so that a second `up`, or one after a kill in the middle, goes on where it was. What a person
made in the demo's shop is left as it is: nothing of theirs is started or opened. Called by `up`
alone.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

SHOP = "demo"
CALL_TIMEOUT_S = 10.0
PAGES_MAX = 50  # of a list: a data folder that was used for load tests has many streams

TITLE = "週五晚場：廚房好物開箱"
# Prices in the minor unit: TWD has two decimals in ISO 4217, so 29900 is NT$299.
PRODUCTS: tuple[dict[str, Any], ...] = (
    {
        "sku": "DEMO-PAN-28",
        "title": "不沾平底鍋 28 公分",
        "price_minor": 89_000,
        "currency": "TWD",
        "description": "六層塗層，電磁爐可用，附玻璃蓋。",
    },
    {
        "sku": "DEMO-KNIFE-20",
        "title": "職人主廚刀 20 公分",
        "price_minor": 49_900,
        "currency": "TWD",
        "description": "高碳不鏽鋼，木柄，附刀套。",
    },
    {
        "sku": "DEMO-TEA-150",
        "title": "阿里山高山烏龍茶 150 克",
        "price_minor": 45_000,
        "currency": "TWD",
        "description": "春茶，手採，真空包裝。",
    },
)
PINNED_SKU = "DEMO-TEA-150"
OFFER: dict[str, Any] = {
    "price_minor": 29_900,
    "quantity": 500,
    "per_viewer": 5,
    "payment": "required",
    "hold_s": 600,
    "keyword": "烏龍",
}
_SELLS = ("open", "sold_out", "paused", "scheduled")


class DemoFault(Exception):
    """The demo stream could not be made; the text says which call was answered with what."""


@dataclass(frozen=True, slots=True)
class Demo:
    """The demo stream and its offer."""

    stream: str
    title: str
    offer: str


def ensure(base: str, host_token: str) -> Demo:
    """Return the demo stream, made as far as it is not there. Raises DemoFault."""
    api = _Api(base, host_token)
    try:
        stream = _stream(api)
        products = _products(api)
        return Demo(stream["id"], stream["title"], _offer(api, stream["id"], products))
    except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
        raise DemoFault(f"the demo stream could not be made: {error!r}") from error
    finally:
        api.close()


def _stream(api: _Api) -> dict[str, Any]:
    ours = (
        each
        for each in api.items("/v1/streams")
        if each["shop"] == SHOP and each["title"] == TITLE and each["status"] != "ended"
    )
    found = next(ours, None)
    if found is None:
        found = api.call("POST", "/v1/streams", {"title": TITLE, "language": "zh-Hant-TW"})
    if found["status"] == "scheduled":
        found = api.call("POST", f"/v1/streams/{found['id']}/start")
    return found


def _products(api: _Api) -> dict[str, str]:
    """Return the ids of the products by sku."""
    there = {
        each["sku"]: str(each["id"]) for each in api.items("/v1/products") if each["shop"] == SHOP
    }
    for product in PRODUCTS:
        if product["sku"] not in there:
            there[product["sku"]] = api.call("POST", "/v1/products", product)["id"]
    return there


def _offer(api: _Api, stream: str, products: dict[str, str]) -> str:
    offers = list(api.items(f"/v1/streams/{stream}/offers"))
    # The newest that can be bought from now, else one that sells but not at this moment.
    for statuses in (("open",), _SELLS):
        for each in offers:
            if each["status"] in statuses:
                return str(each["id"])
    pinned = products[PINNED_SKU]
    # A draft without its pin is what a kill in the middle leaves; a second pin would do no harm.
    offer = next((each for each in offers if _is_our_draft(each, pinned)), None)
    if offer is None:
        offer = api.call("POST", f"/v1/streams/{stream}/offers", {"product": pinned, **OFFER})
    api.call("POST", f"/v1/streams/{stream}/pins", {"product": pinned, "offer": offer["id"]})
    api.call("POST", f"/v1/offers/{offer['id']}/open")
    return str(offer["id"])


def _is_our_draft(offer: dict[str, Any], pinned: str) -> bool:
    ours = {"product": pinned, **OFFER}
    there = {**offer, "product": offer["product"]["id"]}
    return offer["status"] == "draft" and all(there.get(name) == ours[name] for name in ours)


class _Api:
    """One connection to the server, as the demo's host."""

    def __init__(self, base: str, token: str) -> None:
        host, _, port = base.rpartition(":")
        self._http = http.client.HTTPConnection(host.strip("[]"), int(port), timeout=CALL_TIMEOUT_S)
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the answer's object; raise DemoFault for one that is no success."""
        sent = json.dumps(body or {}).encode() if method == "POST" else None
        self._http.request(method, path, sent, self._headers)
        with self._http.getresponse() as response:
            text = response.read().decode()
            if response.status >= 300:
                raise DemoFault(f"{method} {path} was answered {response.status}: {text[:500]}")
        answer: dict[str, Any] = json.loads(text)
        return answer

    def items(self, path: str) -> Iterator[dict[str, Any]]:
        """Yield what a list holds, newest first, page by page."""
        cursor = ""
        for _ in range(PAGES_MAX):
            page = self.call("GET", f"{path}?limit=200{cursor}")
            yield from page["items"]
            if page["next_cursor"] is None:
                return
            cursor = f"&cursor={page['next_cursor']}"

    def close(self) -> None:
        """Close the connection."""
        self._http.close()
