"""The host of a play: streams, products, pins and offers over the public HTTP.

Owns the calls that a host makes and what became of them. Knows no viewer and judges nothing; what
a host did to an offer is noted in its endings, for the audit. Used by the play.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from typing import Any, Literal

from loadtest.endings import Endings
from loadtest.server import Target
from loadtest.web import Api, make_token

SHOP = "loadtest"
PRICE_MINOR = 1999
CURRENCY = "TWD"
TITLES = ("限量茶具組", "手工陶杯", "阿里山烏龍", "竹編提籃", "琉璃花瓶")


def host_api(target: Target) -> Api:
    """Return the host's calls; without a token of its own, one is made with the secret."""
    return Api(target.http, target.host_token or make_token(target.secret, SHOP, "host"))


@dataclass(slots=True)
class Act:
    """One thing that everybody is to see: the event's type, and when the host began to ask."""

    kind: str
    due_ns: int  # of `perf_counter_ns`


@dataclass(slots=True)
class Show:
    """One stream, live once it is started."""

    stream: str
    host: Api
    acts: list[Act] = field(default_factory=list)

    @classmethod
    async def announce(cls, host: Api, title: str) -> Show:
        """Create a stream."""
        return cls((await host.call("POST", "/v1/streams", {"title": title}))["id"], host)

    async def start(self) -> None:
        """Go live."""
        await self.host.call("POST", f"/v1/streams/{self.stream}/start")

    async def product(self, title: str = TITLES[0]) -> str:
        """Create a product; return its id."""
        body = {
            "sku": f"LOAD-{secrets.token_hex(4)}",
            "title": title,
            "price_minor": PRICE_MINOR,
            "currency": CURRENCY,
        }
        return str((await self.host.call("POST", "/v1/products", body))["id"])

    async def pin(self, product: str) -> str:
        """Pin a product; return the pin's id."""
        self._act("pinned")
        body = {"product": product}
        return str((await self.host.call("POST", f"/v1/streams/{self.stream}/pins", body))["id"])

    async def offer(self, units: int, title: str = TITLES[0], **terms: Any) -> Drop:
        """Draft an offer of a new product; `terms` as in protocol v1."""
        body = {"product": await self.product(title), "price_minor": PRICE_MINOR}
        body |= {"quantity": units, **terms}
        made = await self.host.call("POST", f"/v1/streams/{self.stream}/offers", body)
        endings = Endings(terms.get("payment", "required"), units)
        return Drop(str(made["id"]), self, units, endings)

    async def end(self) -> None:
        """End the stream; its offers close with it."""
        self._act("stream.ended")
        await self.host.call("POST", f"/v1/streams/{self.stream}/end")

    def _act(self, kind: str) -> None:
        self.acts.append(Act(kind, time.perf_counter_ns()))


@dataclass(slots=True)
class Drop:
    """One offer."""

    offer: str
    show: Show
    units: int
    endings: Endings

    async def open(self) -> None:
        """Start selling; returns when the host is told that the offer is open."""
        self.show._act("offer.opened")
        await self._do("open")

    async def restock(self, units: int) -> None:
        """Bring more."""
        self.show._act("offer.restocked")
        await self._do("restock", units)

    async def close(self) -> None:
        """Stop selling."""
        await self._do("close")

    async def left(self) -> int:
        """How many units anybody is told are left."""
        return int((await self.show.host.call("GET", f"/v1/offers/{self.offer}"))["left"])

    async def _do(self, what: Literal["open", "restock", "close"], units: int = 0) -> None:
        noted = self.endings.act(what, units)
        body = {"add": units} if units else None
        key = secrets.token_hex(8) if units else ""
        await self.show.host.call("POST", f"/v1/offers/{self.offer}/{what}", body, key=key)
        noted.answer, noted.answered_ms = "ok", int(time.time() * 1000)
