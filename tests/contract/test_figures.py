"""A host's live figures: what buys came to, on all processes, by code."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from livecart.figures import STREAMS_MAX, TELL_S, Figures
from streams.codes import Code
from streams.ports import Refused
from tests.contract.http_rig import WAIT_S, Shop, serving, token


async def _figures(shop: Shop, stream: str, orders: int, refusals: dict[str, int]) -> Any:
    """Return a stream's figures once both are counted."""
    async with asyncio.timeout(WAIT_S):
        while True:
            found = await shop.made("GET", f"/v1/streams/{stream}/figures")
            if (found["orders"], found["refusals"]) == (orders, refusals):
                return found
            await asyncio.sleep(0.05)


async def test_refusals_are_counted_by_code_on_all_processes(
    redis_url: str, database_url: str
) -> None:
    """Buys at two processes are one count of orders and refusals; a replay is in neither, nor is
    who finds nothing and waits."""
    async with serving(redis_url, database_url) as near, serving(redis_url, database_url) as far:
        stream, other = await near.stream(), await near.stream()
        offer = await near.offer(stream, quantity=2)
        draft = await near.offer(stream, opened=False)
        assert (await near.buy(offer, "a")).status_code == 201
        assert (await near.buy(offer, "a")).status_code == 200
        assert (await far.buy(offer, "a", key="k2")).json()["code"] == "limit_reached"
        assert (await far.buy(offer, "b")).status_code == 201
        for shop, viewer in ((near, "c"), (far, "d"), (near, "e")):
            assert (await shop.buy(offer, viewer)).json()["code"] == "sold_out"
        assert (await near.buy(draft, "a")).json()["code"] == "not_found"
        path, who = f"/v1/offers/{offer}/waitlist", token("viewer", "f")
        waits = await near.call("POST", path, {"qty": 1}, token=who, key="w")
        assert waits.json()["position"] == 1
        wanted = {"limit_reached": 1, "sold_out": 3, "not_found": 1}
        for shop in (near, far):
            found = await _figures(shop, stream, 2, wanted)
            assert (found["viewers"], found["peak_viewers"]) == (0, 0)
            assert 0 <= found["orders_last_10_s"] <= 2
        assert (await _figures(far, other, 0, {}))["stream"] == other


async def test_what_is_left_is_told_before_the_end(redis_url: str, database_url: str) -> None:
    """A process that ends in order tells of the buys of its last second."""
    async with serving(redis_url, database_url) as near:
        async with serving(redis_url, database_url) as far:
            stream = await far.stream()
            assert (await far.buy(await far.offer(stream), "a")).status_code == 201
        assert (await near.made("GET", f"/v1/streams/{stream}/figures"))["orders"] == 1


class _Away:
    """Counts whose Redis is away for one stream."""

    def __init__(self) -> None:
        self.told: list[tuple[str, dict[str, int], int]] = []

    async def tally(self, stream: str, words: dict[str, int], orders: int) -> tuple[int, Any]:
        """Refuse the first stream, take the rest."""
        if stream == "away":
            raise Refused(Code.RETRY)
        self.told.append((stream, dict(words), orders))
        return 0, {}


async def test_numbers_wait_for_redis_within_a_bound() -> None:
    """What could not be told is told later and once; a stream past the bound is not kept."""
    away = _Away()
    figures = Figures(away)  # type: ignore[arg-type]
    figures.count({("away", "sold_out"): 2, ("s", "reserved"): 1, (None, "retry"): 1})
    figures.count({("s", "confirmed"): 2, ("s", "replayed"): 9})
    await figures.close()
    assert away.told == []
    await figures.close()
    assert away.told == [("s", {"orders": 3}, 3)]
    figures.count({(f"s{n}", "sold_out"): 1 for n in range(STREAMS_MAX)})
    figures.count({("one more", "sold_out"): 1})
    await figures.close()
    await figures.close()
    assert len(away.told) == STREAMS_MAX
    assert "one more" not in {stream for stream, _, _ in away.told}


@pytest.mark.parametrize("field", ["viewers", "orders"])
async def test_a_stream_nobody_came_to_has_figures(
    redis_url: str, database_url: str, field: str
) -> None:
    """Before anything happened every number is there, and is nought."""
    async with serving(redis_url, database_url) as shop:
        found = await shop.made("GET", f"/v1/streams/{await shop.stream()}/figures")
        assert found[field] == 0
        assert found["refusals"] == {}
        assert TELL_S <= 2  # what a host sees is about so old
