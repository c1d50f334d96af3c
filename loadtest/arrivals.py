"""When broadcasts reached the viewers of one process, and what is known of their bytes.

Owns two memories. A broadcast is the same bytes for everybody, so it is decoded once, and a read
that brought the very bytes that another viewer's read brought is known whole: its numbers are
compared with what the viewer had, and nothing is parsed. And the moments: for each event when it
came to whom, summed up into histograms a step at a time. Knows no connection; the swarm's.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from loadtest.frames import Heard

CHUNK_BYTES_MAX: Final = 16 * 1024
CHUNKS_MAX: Final = 1_024
EVENTS_MAX: Final = 8_192
#: Latencies are gathered in steps of this much before they are counted.
GRAIN_NS: Final = 250_000
#: Main events of a run whose first and last arrival are kept one by one.
FACTS_MAX: Final = 50_000


class Fact:
    """One numbered event: what it is, and when it came since the last drain."""

    __slots__ = ("at_ms", "chat", "count", "first_ns", "kind", "last_ns", "number", "seen_ns")

    def __init__(self, heard: Heard) -> None:
        self.kind = heard.type
        self.chat = bool(heard.cseq)
        self.number = heard.cseq or heard.seq
        self.at_ms = heard.at
        self.seen_ns: list[int] = []
        self.first_ns = 0
        self.last_ns = 0
        self.count = 0


class Chunk:
    """What a read of only whole broadcasts holds; -1 before, where it has none of that sequence."""

    __slots__ = ("cseq_before", "cseq_last", "facts", "frames", "seen_ns", "seq_before", "seq_last")

    def __init__(self, facts: Sequence[Fact], frames: int) -> None:
        main = [fact.number for fact in facts if not fact.chat]
        chat = [fact.number for fact in facts if fact.chat]
        self.seq_before, self.seq_last = (main[0] - 1, main[-1]) if main else (-1, 0)
        self.cseq_before, self.cseq_last = (chat[0] - 1, chat[-1]) if chat else (-1, 0)
        self.facts = facts
        self.frames = frames
        self.seen_ns: list[int] = []


class Arrivals:
    """Of all viewers of one process."""

    def __init__(self) -> None:
        self.chunks: dict[bytes, Chunk] = {}  # by what a read brought
        self.known: dict[bytes, Fact] = {}  # by payload
        self.facts: list[Fact] = []  # main events, for their first and last arrival
        self._late: dict[str, Counter[int]] = {}  # `delivery`, `chat delivery`
        self._wall_ns = time.time_ns() - time.perf_counter_ns()

    def set_clock(self, ahead_ns: int) -> None:
        """Have the server's clock be ahead of this machine's by so much."""
        self._wall_ns += ahead_ns

    def learn(self, payload: bytes, heard: Heard) -> Fact:
        """Take a numbered event that nobody had before."""
        if len(self.known) >= EVENTS_MAX:
            self.drain()
            self.known.clear()
        fact = self.known[payload] = Fact(heard)
        if not fact.chat and len(self.facts) < FACTS_MAX:
            self.facts.append(fact)
        return fact

    def keep(self, data: bytes, facts: Sequence[Fact], frames: int) -> None:
        """Remember a read that held nothing but these, all of them contiguous."""
        if len(data) > CHUNK_BYTES_MAX:
            return
        if len(self.chunks) >= CHUNKS_MAX:
            self.drain()
            self.chunks.clear()
        self.chunks[data] = Chunk(facts, frames)

    def drain(self) -> None:
        """Sum up what came since the last time, at well under a microsecond a delivery."""
        for chunk in self.chunks.values():
            if chunk.seen_ns:
                self._count(chunk.facts, chunk.seen_ns)
                chunk.seen_ns = []
        for fact in self.known.values():
            if fact.seen_ns:
                self._count((fact,), fact.seen_ns)
                fact.seen_ns = []

    def taken(self) -> dict[str, Counter[int]]:
        """Drain, and hand over how often each lateness was since the last time, in grains."""
        self.drain()
        late, self._late = self._late, {}
        return late

    def _count(self, facts: Sequence[Fact], seen_ns: Iterable[int]) -> None:
        """Count that all of these came at these moments."""
        grains = Counter([ns // GRAIN_NS for ns in seen_ns])
        first_ns, last_ns = min(grains) * GRAIN_NS, max(grains) * GRAIN_NS
        viewers = grains.total()
        alike: Counter[tuple[str, int]] = Counter()  # events of one burst have one moment
        for fact in facts:
            fact.first_ns = min(fact.first_ns or first_ns, first_ns)
            fact.last_ns = max(fact.last_ns, last_ns)
            fact.count += viewers
            if fact.at_ms:
                due_ns = fact.at_ms * 1_000_000 - self._wall_ns
                alike["chat delivery" if fact.chat else "delivery", due_ns // GRAIN_NS] += 1
        for (name, due), events in alike.items():
            late = self._late.setdefault(name, Counter())
            for grain, times in grains.items():
                late[grain - due] += times * events
