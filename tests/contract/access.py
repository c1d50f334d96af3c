"""Who may call what: the rule of every route, one line each.

Owns which table of `access_tables` a route has, and the page `docs/security.md` made from both:
`python -m tests.contract.access`. Never asks the code under test: a rule that were read from
`Operation.who` would agree with a mistake there. Pure; called by `access_rig` and `test_access`.

A new route needs one line in `RULES`: its table, the status of a call that is let through, and the
body that such a call has. `{names}` are objects of `access_stage`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from tests.contract.access_tables import (
    BUYS,
    BUYS_TOGETHER,
    CALLERS,
    COLUMNS,
    DELIVERY,
    ENTRIES,
    EXPORTED,
    FOLLOWS,
    HOSTED,
    HOSTED_COMMENT,
    HOSTED_HIDDEN,
    HOSTED_OFFER,
    HOSTED_ORDER,
    HOSTED_ORDERS,
    HOSTED_PIN,
    HOSTED_PIN_OFFER,
    HOSTED_PRODUCT,
    LINKED,
    LISTS_OFFERS,
    OPEN,
    OPEN_OBJECT,
    ORDER,
    ORDERS,
    OWN_CODES,
    OWN_ORDER,
    OWN_ORDERS,
    PLAIN,
    PUBLISHED,
    READS_OFFER,
    RENEWED,
    REVISED_OFFER,
    SHOP,
    SHOP_WHOLE,
    SIGNED,
    SPEAKS,
    TRADED,
    WEBHOOK,
    Access,
)

PAGE = Path(__file__).parents[2] / "docs" / "security.md"
MARK = "<!-- made from tests/contract/access.py: python -m tests.contract.access -->\n"


class Rule(msgspec.Struct, frozen=True):
    """What one route needs beside its table."""

    access: Access
    ok: int = 200  # the status of a call that is let through
    body: object = None
    query: str = ""
    headers: Mapping[str, str] = {}
    at: Mapping[str, str] = {}  # which object stands for the usual one, as {"order": "paid"}
    but: Mapping[str, str] = {}  # by column: what `ok` is there, since the object's state forbids
    gate: bool = False  # the call buys: the offer's gate must stand
    notes: frozenset[str] = frozenset()  # tables where a try is noted of who may, and asks amiss
    sees: Mapping[str, tuple[str, ...]] = {}  # what is in a list, by the word for it


_NEW_OFFER = {"product": "{product}", "price_minor": 5, "quantity": 3}
_OFFERS = ("offer", "paused", "full", "drawn")
_LISTS_OFFERS = {"announced": _OFFERS, "all": (*_OFFERS, "draft")}
_OF_VIEWERS = {"own": ("owner",), "all": ("owner", "another"), "none": ()}
_OWN_ORDERS = ("order", "paid", "shipped", "returned")
_ORDERS = {
    "own": _OWN_ORDERS,
    "all": (*_OWN_ORDERS, *(f"{name} of another" for name in _OWN_ORDERS), "filler"),
    "none": (),
}
_CONTACT = {"name": "陳小姐", "address1": "x", "country": "TW"}
_COMMENT = {"platform": "elsewhere", "id": "c2", "user": "u", "text": "你好"}
_PAID = {"order": "paid"}
_LINK = {"livecart-checkout": "{link}"}
_KEYLESS = {"form": "&call=publish&name=no_such_key&"}  # a form inside JSON, as it is read
_SRS = {"action": "on_publish", "stream": "{stream}", "param": "?key=no_such_key"}
_MEDIAMTX = {"action": "publish", "path": "{stream}", "query": "key=no_such_key"}
_CONFLICT = {"draft": "409 conflict", "their draft": "409 conflict"}

#: One line a route.
RULES: dict[str, Rule] = {
    "GET /": Rule(PLAIN, 303),
    "GET /healthz": Rule(PLAIN),
    "GET /readyz": Rule(PLAIN),
    "GET /metrics": Rule(PLAIN),
    "GET /openapi.json": Rule(PLAIN),
    "GET /asyncapi.json": Rule(PLAIN),
    "GET /host": Rule(PLAIN),
    "GET /s/{stream}": Rule(PLAIN),
    "GET /pay": Rule(PLAIN),
    "GET /docs": Rule(PLAIN),
    "GET /static/{file:path}": Rule(PLAIN),
    "GET /words.js": Rule(PLAIN),
    "GET /v1/streams/{stream}/ws": Rule(PLAIN, 426),
    "GET /v1/streams": Rule(OPEN),
    "POST /v1/streams": Rule(SHOP_WHOLE, 201, {"title": "x"}),
    "GET /v1/streams/{id}": Rule(OPEN_OBJECT),
    "PATCH /v1/streams/{id}": Rule(HOSTED, body={"chat_every_s": 7}),
    "GET /v1/streams/{id}/audience": Rule(HOSTED),
    "GET /v1/streams/{id}/summary": Rule(HOSTED),
    "GET /v1/streams/{id}/figures": Rule(HOSTED),
    "GET /v1/streams/{id}/orders.csv": Rule(HOSTED),
    "GET /v1/streams/{id}/orders.jsonl": Rule(HOSTED),
    "POST /v1/streams/{id}/start": Rule(HOSTED),
    "POST /v1/streams/{id}/end": Rule(HOSTED),
    "GET /v1/streams/{id}/events": Rule(FOLLOWS),
    "POST /v1/streams/{id}/chat": Rule(SPEAKS, 201, {"text": "hello"}),
    "POST /v1/streams/{id}/reactions": Rule(FOLLOWS, 204, {"kind": "like"}),
    "POST /v1/streams/{id}/pins": Rule(HOSTED_PRODUCT, 201, {"product": "{product}"}),
    "POST /v1/streams/{id}/pins with an offer": Rule(
        HOSTED_PIN_OFFER, 201, {"product": "{product}", "offer": "{offer}"}
    ),
    "DELETE /v1/streams/{id}/pins/{pin}": Rule(HOSTED_PIN, 204),
    "GET /v1/streams/{id}/offers": Rule(LISTS_OFFERS, sees=_LISTS_OFFERS),
    "POST /v1/streams/{id}/offers": Rule(HOSTED_PRODUCT, 201, _NEW_OFFER),
    "POST /v1/streams/{id}/bundles": Rule(
        BUYS_TOGETHER, 201, {"lines": [{"offer": "{offer}", "qty": 1}]}, gate=True
    ),
    "GET /v1/products": Rule(OPEN),
    "POST /v1/products": Rule(
        SHOP, 201, {"sku": "a", "title": "x", "price_minor": 1, "currency": "TWD"}
    ),
    "GET /v1/products/{id}": Rule(OPEN_OBJECT),
    "GET /v1/offers/{id}": Rule(READS_OFFER),
    "PATCH /v1/offers/{id}": Rule(HOSTED_OFFER, body={"quantity": 300}),
    "PATCH /v1/offers/{id} with a product": Rule(
        REVISED_OFFER, body={"product": "{product}"}, at={"offer": "draft"}
    ),
    "POST /v1/offers/{id}/open": Rule(HOSTED_OFFER, at={"offer": "paused"}),
    "POST /v1/offers/{id}/pause": Rule(HOSTED_OFFER, but=_CONFLICT),
    "POST /v1/offers/{id}/resume": Rule(HOSTED_OFFER, at={"offer": "paused"}, but=_CONFLICT),
    "POST /v1/offers/{id}/close": Rule(HOSTED_OFFER),
    "POST /v1/offers/{id}/restock": Rule(HOSTED_OFFER, body={"add": 5}),
    "POST /v1/offers/{id}/orders": Rule(BUYS, 201, {"qty": 1}, gate=True),
    "POST /v1/offers/{id}/waitlist": Rule(BUYS, 201, {"qty": 1}, gate=True),
    "DELETE /v1/offers/{id}/waitlist": Rule(BUYS, 204, at={"offer": "full"}),
    "GET /v1/offers/{id}/waitlist": Rule(ENTRIES, at={"offer": "full"}, sees=_OF_VIEWERS),
    "GET /v1/offers/{id}/draw": Rule(
        READS_OFFER, at={"offer": "drawn"}, but=dict.fromkeys(_CONFLICT, "404")
    ),
    "GET /v1/offers/{id}/draw/entries": Rule(ENTRIES, at={"offer": "drawn"}, sees=_OF_VIEWERS),
    "GET /v1/orders": Rule(ORDERS, query="stream={stream}", sees=_ORDERS),
    "GET /v1/orders.csv": Rule(EXPORTED, query="stream={stream}", sees=_ORDERS),
    "GET /v1/orders.jsonl": Rule(EXPORTED, query="stream={stream}", sees=_ORDERS),
    "GET /v1/orders/{id}": Rule(ORDER),
    "POST /v1/orders/{id}/extend": Rule(ORDER, body={"version": 1}),
    "POST /v1/orders/{id}/cancel": Rule(ORDER),
    "POST /v1/orders/{id}/pay": Rule(ORDER),
    "GET /v1/orders/{id}/timeline": Rule(ORDER),
    "POST /v1/orders/{id}/refund": Rule(HOSTED_ORDER, body={"amount_minor": 1}, at=_PAID),
    "POST /v1/orders/{id}/ship": Rule(HOSTED_ORDER, at=_PAID),
    "POST /v1/orders/{id}/link": Rule(HOSTED_ORDER, 201),
    "POST /v1/orders/{id}/link for more": Rule(
        HOSTED_ORDERS, 201, {"orders": ["{more}"]}, at={"more": "paid"}
    ),
    "POST /v1/orders/{id}/invoice": Rule(HOSTED_ORDER, at=_PAID),
    "GET /v1/orders/{id}/invoice": Rule(ORDER, at={"order": "shipped"}),
    "POST /v1/orders/{id}/returns": Rule(OWN_ORDER, body={"reason": "x"}, at={"order": "shipped"}),
    "GET /v1/orders/{id}/returns": Rule(ORDER),
    "POST /v1/returns/{id}/accept": Rule(HOSTED_HIDDEN),
    "POST /v1/returns/{id}/refuse": Rule(HOSTED_HIDDEN),
    "POST /v1/checkouts": Rule(OWN_ORDERS, 201, {"orders": ["{order}"]}),
    "GET /v1/payments/{id}": Rule(ORDER),
    "GET /v1/orders/{id}/payments": Rule(ORDER),
    "GET /v1/checkout": Rule(LINKED, headers=_LINK),
    "POST /v1/checkout/pay": Rule(LINKED, 201, headers=_LINK),
    "PUT /v1/orders/{id}/contact": Rule(ORDER, 204, _CONTACT),
    "GET /v1/orders/{id}/contact": Rule(ORDER),
    "DELETE /v1/orders/{id}/contact": Rule(ORDER, 204),
    "GET /v1/webhooks": Rule(SHOP_WHOLE),
    "POST /v1/webhooks": Rule(SHOP_WHOLE, 201, {"url": "https://shop.example/hook"}),
    "GET /v1/webhooks/{id}": Rule(WEBHOOK),
    "PATCH /v1/webhooks/{id}": Rule(WEBHOOK, body={"description": "x"}),
    "DELETE /v1/webhooks/{id}": Rule(WEBHOOK, 204),
    "POST /v1/webhooks/{id}/rotate": Rule(WEBHOOK),
    "POST /v1/webhooks/{id}/test": Rule(WEBHOOK, 201),
    "POST /v1/webhooks/{id}/replay": Rule(WEBHOOK, body={"since": 1}),
    "GET /v1/webhooks/{id}/deliveries": Rule(WEBHOOK),
    "GET /v1/webhooks/{id}/deliveries/{delivery}": Rule(DELIVERY),
    "GET /v1/streams/{id}/comments": Rule(HOSTED),
    "POST /v1/streams/{id}/comments": Rule(HOSTED, body={"comments": [_COMMENT]}),
    "POST /v1/comments/{id}/order": Rule(
        HOSTED_COMMENT,
        body={"offer": "{offer}", "qty": 1},
        gate=True,
        notes=frozenset({"comments"}),
    ),
    "POST /v1/comments/{id}/dismiss": Rule(HOSTED_HIDDEN),
    "POST /v1/page-codes": Rule(OWN_CODES, 201, {"sub": "h1", "role": "host"}),
    "POST /v1/page-tokens": Rule(TRADED, body={"code": "AAAAAAAAAAAAAAAAAAAAAA"}),
    "POST /v1/page-tokens/renew": Rule(RENEWED),
    "POST /v1/hooks/{provider}": Rule(SIGNED, 204, {}),
    "POST /v1/streams/{id}/key": Rule(HOSTED, 201),
    "POST /v1/hooks/ingest/rtmp": Rule(PUBLISHED, body=_KEYLESS),
    "POST /v1/hooks/ingest/srs": Rule(PUBLISHED, body=_SRS),
    "POST /v1/hooks/ingest/mediamtx": Rule(PUBLISHED, body=_MEDIAMTX),
    "POST /v1/hooks/ingest/livekit": Rule(PUBLISHED, body={"event": "room_finished"}),
}


def route(name: str) -> str:
    """Return the method and path that a rule is of; what follows them tells rules of one apart."""
    return " ".join(name.split(" ")[:2])


def section() -> str:
    """Return the part of the page that is made from this file."""
    groups: dict[str, tuple[Access, list[str]]] = {}
    for name, rule in RULES.items():
        groups.setdefault(rule.access.title, (rule.access, []))[1].append(f"`{route(name)}`")
    out = [MARK, "### Who calls\n", *(f"- **{name}**: {what}" for name, what in CALLERS.items())]
    out += ["\n### What for\n", *(f"- **{name}**: {c.what}" for name, c in COLUMNS.items())]
    for title, (access, routes) in groups.items():
        unique = list(dict.fromkeys(routes))
        out += [f"\n### {title}\n", " · ".join(unique), f"\n```text\n{access.table}\n```"]
    return "\n".join(out) + "\n"


def page(text: str) -> str:
    """Return the page with that part made anew."""
    return text.partition(MARK)[0] + section()


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
