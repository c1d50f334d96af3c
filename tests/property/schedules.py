"""Every order of steps, each once: depth first over choices, by playing from the start again.

Owns the search; knows no servers and no selling. Two orders that differ only in neighbours that
commute are the same order: sleep sets leave all but one of them out (Godefroid, 1996). What may
happen next must depend on nothing but the choices made before; a difference is an error.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Generic, TypeVar

C = TypeVar("C", bound=Hashable)


class Redundant(Exception):
    """Every continuation of this schedule was played in another order: it may be left."""


class _Node(Generic[C]):
    __slots__ = ("asleep", "enabled", "now", "tried")

    def __init__(self, enabled: Sequence[C], asleep: set[C]) -> None:
        self.enabled = list(enabled)
        self.asleep = asleep
        self.tried: list[C] = []
        self.now: C | None = None

    def turn(self) -> bool:
        """Go on to the next choice that is worth it; tell whether there is one."""
        if self.now is not None:
            self.tried.append(self.now)
        done = self.asleep.union(self.tried)
        self.now = next((choice for choice in self.enabled if choice not in done), None)
        return self.now is not None


class Search(Generic[C]):
    """One search; `choose` is asked at each point of a schedule."""

    def __init__(self, independent: Callable[[C, C], bool]) -> None:
        self._independent = independent
        self._path: list[_Node[C]] = []
        self._depth = 0
        self.played = 0  # schedules to their end
        self.cut = 0  # and those that turned out to be known

    def choose(self, enabled: Sequence[C]) -> C:
        """Return what to do next; raises `Redundant`."""
        if self._depth == len(self._path):
            node = _Node(enabled, self._asleep())
            if not node.turn():
                raise Redundant
            self._path.append(node)
        node = self._path[self._depth]
        if node.enabled != list(enabled):
            raise AssertionError(f"not the same again: {node.enabled} became {enabled}")
        self._depth += 1
        assert node.now is not None
        return node.now

    def _asleep(self) -> set[C]:
        if not self._path:
            return set()
        last = self._path[-1]
        assert last.now is not None
        before = last.asleep.union(last.tried)
        return {choice for choice in before if self._independent(choice, last.now)}

    @property
    def schedule(self) -> list[C]:
        """The choices of the schedule that is played."""
        return [node.now for node in self._path[: self._depth] if node.now is not None]

    async def run(self, play: Callable[[], Awaitable[None]], most: int) -> bool:
        """Play all schedules, `most` at the most; tell whether these were all."""
        while True:
            self._depth = 0
            try:
                await play()
                self.played += 1
            except Redundant:
                self.cut += 1
            while self._path and not self._path[-1].turn():
                self._path.pop()
            if not self._path:
                return True
            if self.played >= most:
                return False


class Sample(Search[C]):
    """So many schedules drawn at random: where there are too many to play them all."""

    def __init__(self, seed: int) -> None:
        super().__init__(lambda one, other: False)
        self._random = random.Random(seed)
        self._chosen: list[C] = []

    def choose(self, enabled: Sequence[C]) -> C:
        """Return any."""
        self._chosen.append(self._random.choice(enabled))
        return self._chosen[-1]

    @property
    def schedule(self) -> list[C]:
        """The choices of the schedule that is played."""
        return self._chosen

    async def run(self, play: Callable[[], Awaitable[None]], most: int) -> bool:
        """Play so many; these are all that were asked for."""
        while self.played < most:
            self._chosen = []
            await play()
            self.played += 1
        return True


class Replay(Search[C]):
    """The one schedule that a failure printed."""

    def __init__(self, schedule: str) -> None:
        super().__init__(lambda one, other: False)
        self._words = schedule.split()
        self._chosen: list[C] = []

    def choose(self, enabled: Sequence[C]) -> C:
        """Return what the next word names."""
        assert len(self._chosen) < len(self._words), f"it goes on: {[*map(str, enabled)]}"
        word = self._words[len(self._chosen)]
        found = next((choice for choice in enabled if str(choice) == word), None)
        assert found is not None, f"no {word} in {[*map(str, enabled)]}"
        self._chosen.append(found)
        return found

    @property
    def schedule(self) -> list[C]:
        """The choices of the schedule that is played."""
        return self._chosen

    async def run(self, play: Callable[[], Awaitable[None]], most: int) -> bool:
        """Play it."""
        await play()
        self.played += 1
        return True
