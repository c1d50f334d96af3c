"""Many small reads as few large ones."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from orders.coalesce import Coalesced


class Source:
    """Reads numbers, and notes what it was asked for at once."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    async def load(self, keys: Sequence[int]) -> dict[int, int]:
        self.batches.append(list(keys))
        for _ in range(5):  # longer than it takes for the next to ask
            await asyncio.sleep(0)
        return {key: -key for key in keys if key >= 0}


async def trickle(reads: Coalesced[int, int], count: int) -> list[int | None]:
    """Ask for one number after the other without waiting for the answers."""
    asked = []
    for key in range(count):
        asked.append(asyncio.create_task(reads.get(key)))
        await asyncio.sleep(0)
    return await asyncio.gather(*asked)


async def test_what_comes_while_one_is_read_is_read_together() -> None:
    """Each gets his own; who asks for the same gets the same; an unknown one nothing."""
    source = Source()
    reads = Coalesced(source.load)
    assert await asyncio.gather(*(reads.get(key) for key in (1, 2, 2, -3))) == [-1, -2, -2, None]
    assert source.batches == [[1, 2, -3]]
    assert await reads.get(1) == -1
    assert len(source.batches) == 2


async def test_a_crowd_gathers_and_one_alone_does_not_wait() -> None:
    """The first batch goes out at once, the others apart: the same answers in fewer batches."""
    hurried, apart = Source(), Source()
    assert await trickle(Coalesced(hurried.load), 60) == [-key for key in range(60)]
    assert await trickle(Coalesced(apart.load, apart_s=0.02), 60) == [-key for key in range(60)]
    assert apart.batches[0] == [0]
    assert len(apart.batches) < len(hurried.batches) / 3
    lone = Coalesced(Source().load, apart_s=3_600)
    async with asyncio.timeout(60):
        assert await lone.get(1) == -1
        assert await lone.get(2) == -2


async def test_a_failed_batch_fails_those_in_it_alone() -> None:
    """Each caller is told; the next batch is read as if nothing had been."""
    fails = True

    async def load(keys: Sequence[int]) -> dict[int, int]:
        if fails:
            raise OSError("away")
        return dict.fromkeys(keys, 7)

    reads = Coalesced(load)
    told = await asyncio.gather(reads.get(1), reads.get(2), return_exceptions=True)
    assert [type(one) for one in told] == [OSError, OSError]
    fails = False
    assert await reads.get(1) == 7


async def test_no_more_wait_than_are_allowed() -> None:
    """One too many is told so at once."""
    reads = Coalesced(Source().load, waiting_max=2)
    waiting = [asyncio.create_task(reads.get(key)) for key in (1, 2)]
    await asyncio.sleep(0)
    with pytest.raises(OverflowError):
        await reads.get(3)
    assert await asyncio.gather(*waiting) == [-1, -2]
