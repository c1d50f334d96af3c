"""Admission decides as a plain model does, on its set-based path and line by line alike."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

VIEWERS = ("ann", "bob", "cai")
_numbers = itertools.count()

line = st.tuples(st.sampled_from(VIEWERS), st.integers(0, 6), st.integers(1, 3), st.booleans())
batches = st.lists(st.lists(line, min_size=1, max_size=6), min_size=1, max_size=8)


@pytest.fixture
def loop() -> Iterator[asyncio.Runner]:
    """One event loop for all examples, so that the connection outlives each."""
    with asyncio.Runner() as runner:
        yield runner


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    quantity=st.integers(0, 10),
    per_viewer=st.integers(1, 5),
    fence=st.integers(0, 3),
    history=batches,
)
def test_admission_agrees_with_a_model(
    database_url: str,
    loop: asyncio.Runner,
    quantity: int,
    per_viewer: int,
    fence: int,
    history: list[list[tuple[str, int, int, bool]]],
) -> None:
    """Keys bind once, the limit and the quantity hold, fenced ranks and old epochs are refused."""
    loop.run(_play(database_url, quantity, per_viewer, fence, history))


async def _play(
    url: str, quantity: int, per_viewer: int, fence: int,
    history: list[list[tuple[str, int, int, bool]]],
) -> None:  # fmt: skip
    number = next(_numbers)
    offer, stream, product = f"of_{number}", f"st_{number}", f"pr_{number}"
    connection: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(url)
    try:
        await connection.execute(
            f"insert into streams (id, shop, title, status) values ('{stream}', 's', 't', 'live');"
            "insert into products (id, shop, sku, title, price_minor, currency)"
            f" values ('{product}', 's', 's', 't', 1, 'TWD');"
            "insert into offers (id, stream, product, price_minor, quantity, per_viewer, status,"
            f" hold_s, payment, fence_rank) values ('{offer}', '{stream}', '{product}', 1,"
            f" {quantity}, {per_viewer}, 'open', 600, 'required', {fence})"
        )
        bound: set[tuple[str, int]] = set()
        has = dict.fromkeys(VIEWERS, 0)
        taken, rank = 0, 0
        for lines in history:
            unique = {(v, k): (q, old) for v, k, q, old in lines}
            stale = any(old for _, old in unique.values())
            expected, ranks = [], []
            for (viewer, key), (qty, _) in unique.items():
                rank += 1
                ranks.append(rank)
                if (viewer, key) in bound:
                    expected.append("again")
                elif stale:
                    expected.append("epoch")
                elif rank <= fence:
                    expected.append("fenced")
                elif has[viewer] + qty > per_viewer:
                    expected.append("limit_reached")
                elif taken + qty > quantity:
                    expected.append("sold_out")
                else:
                    expected.append("ok")
                    bound.add((viewer, key))
                    has[viewer] += qty
                    taken += qty
            row = await connection.fetchrow(
                "select * from admit($1, $2, $3, $4, $5, $6, $7)",
                offer,
                0 if stale else 1,
                [f"or_{number}_{r}" for r in ranks],
                [v for v, _ in unique],
                [str(k) for _, k in unique],
                [q for q, _ in unique.values()],
                ranks,
            )
            assert row is not None
            assert (row["outcomes"] or ["ok"] * len(expected)) == expected
            assert row["left_units"] == quantity - taken
        status = await connection.fetchval("select status from offers where id = $1", offer)
        assert status == ("sold_out" if taken == quantity and taken else "open")
        facts = await connection.fetch("select kind from facts where stream = $1", stream)
        assert len(facts) == (1 if status == "sold_out" else 0)
    finally:
        await connection.close()
