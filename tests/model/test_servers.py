"""The model is the code: random histories leave the real servers as they leave the model."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter

from tests.model.servers import Servers
from tests.model.shapes import Gate, Ledger, Small
from tests.model.walk import Walk
from tests.shop import Shop

WALKS, STEPS, AT_ONCE = 120, 24, 5
SHAPES = (
    Small("two units, two viewers with two keys each", quantity=2,
          buyers=((1, 1), (1, 1), (2, 1), (2, 1))),
    Small("three units, limit two", quantity=3, per_viewer=2,
          buyers=((1, 2), (1, 1), (2, 1), (2, 2), (3, 1))),
)  # fmt: skip


async def test_random_histories_agree_with_the_servers(shop: Shop) -> None:
    """Every answer, and all that both stores hold, is what the model says, after every step."""
    seen: Counter[str] = Counter()
    seeds = iter(range(WALKS))

    async def walker() -> None:
        for seed in seeds:
            walk = await _begun(shop, seed)
            await walk.run(STEPS)
            seen.update(word for said in walk.done for word in _words(said))

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(walker())
    sys.stdout.write(f"{dict(seen)}\n")
    # A sample that never meets a fence or an old epoch would agree with anything.
    for word in ("fenced", "epoch'", "again", "replay", "adopted", "park", "sold_out", "moved",
                 "limit_reached", "closed", "frozen", "install", "resolve", "release"):  # fmt: skip
        assert seen[word] > 0, word


def _words(said: str) -> list[str]:
    words = ("fenced", "epoch'", "again", "replay", "adopted", "park", "sold_out", "moved",
             "limit_reached", "closed", "frozen", "install", "resolve", "release")  # fmt: skip
    return [word for word in words if word in said]


async def _begun(shop: Shop, seed: int) -> Walk:
    small = SHAPES[seed % len(SHAPES)]
    offer = await shop.offer(small.quantity, per_viewer=small.per_viewer)
    row = (await shop.fetch("select * from offers where id = $1", offer.id))[0]
    run = (await shop.redis.info("server"))["run_id"]
    servers = Servers(shop, small, offer.id, row["last_movement"], run)
    return Walk(
        servers,
        Ledger(row["epoch"], 0, small.quantity, 0, False, (), ()),
        Gate(True, row["epoch"], 0, small.quantity, 0, False, (), ()),
        seed,
    )
