"""What a room remembers: the newest entries, within their bounds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streams.codec import Ready
from streams.memory import Memory
from streams.protocol import OfferClosed


def entry(n: int) -> Ready:
    return Ready(OfferClosed(at=n, offer=f"of_{n}", seq=n))


@given(st.lists(st.integers(0, 50)), st.integers(0, 10), st.integers(0, 120))
def test_it_keeps_the_longest_newest_run_within_both_bounds(
    sizes: list[int], entries_max: int, bytes_max: int
) -> None:
    """What is kept has no gap, ends with the newest, and could not be one entry longer."""
    memory, entries = Memory(entries_max, bytes_max), [entry(n) for n in range(len(sizes))]
    for ready, size in zip(entries, sizes, strict=True):
        memory.add(ready, size, 0.0)
    kept = len(memory)
    assert kept <= entries_max
    assert memory.bytes == sum(sizes[len(sizes) - kept :]) <= bytes_max
    assert memory.newest(kept) == entries[len(entries) - kept :]
    # An entry that passes the bytes by itself takes those before it along: no gap.
    if kept < min(entries_max, len(sizes)):
        newest_sums = [sum(sizes[n - kept - 1 : n]) for n in range(kept + 1, len(sizes) + 1)]
        assert any(total > bytes_max for total in newest_sums)


def test_newest_are_told_oldest_first_and_cleared_whole() -> None:
    """A part is the end of the whole; nothing is left after a loss."""
    memory = Memory(5, 100)
    entries = [entry(n) for n in range(7)]
    for ready in entries:
        memory.add(ready, 1, 0.0)
    assert memory.newest(2) == entries[5:]
    assert memory.newest(0) == []
    memory.clear()
    assert (len(memory), memory.bytes, memory.newest(5)) == (0, 0, [])


def test_what_is_too_old_is_forgotten() -> None:
    """From the far end on, with its bytes; what is young enough stays."""
    memory = Memory(10, 100)
    entries = [entry(n) for n in range(6)]
    for n, ready in enumerate(entries):
        memory.add(ready, n, float(n))
    memory.forget(4)
    assert (memory.newest(6), memory.bytes) == (entries[4:], 9)
    memory.forget(100)
    assert (len(memory), memory.bytes) == (0, 0)
    memory.forget(100)
