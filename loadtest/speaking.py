"""What viewers say: chats, reactions and pings, drawn at random, each with its answer or none.

Owns the words, and what of one stretch of talk is still waiting. Used by the audience and by deeds.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from loadtest.viewer import READY, Viewer

if TYPE_CHECKING:
    from loadtest.audience import Audience
    from loadtest.frames import Heard

WORDS: Final = ("好美", "+1", "還有嗎", "love it", "請問尺寸", "wow", "สวยมาก", "đẹp quá")
KINDS: Final = ("like", "love", "laugh", "wow", "clap")
#: What the server has nothing to say to.
UNANSWERED: Final = frozenset({"react"})


def command_of(what: str, viewer: int, due_ns: int, chance: random.Random) -> dict[str, Any]:
    """Return a `chat`, a `react` or a `ping`; ValueError for anything else."""
    match what:
        case "react":
            return {"type": what, "kind": chance.choice(KINDS), "n": 1 + chance.randrange(5)}
        case "ping":
            return {"type": what, "t0": due_ns // 1_000_000}
        case "chat":
            return {"type": what, "text": chance.choice(WORDS), "key": f"c{due_ns:x}.{viewer}"}
    raise ValueError(f"nobody can {what!r}")


class Spoken:
    """What was said in one stretch, and what of it is not answered yet."""

    def __init__(self, audience: Audience, what: str, chance: random.Random) -> None:
        self._audience = audience
        self._chance = chance
        self._what = what
        self.said = 0
        self.waiting = 0
        self.idle = asyncio.Event()
        self.idle.set()
        self.codes: Counter[str] = Counter()

    def say(self, viewer: Viewer, due_ns: int) -> None:
        """One word of one viewer; who is not here just now says nothing."""
        if viewer.phase != READY:
            self.codes["away"] += 1
            return
        self.said += 1
        command = command_of(self._what, viewer.number, due_ns, self._chance)
        if self._what in UNANSWERED:
            self._audience.swarm.tell(viewer, command)
            return
        self.waiting += 1
        self.idle.clear()

        def done(heard: Heard | None) -> None:
            self.waiting -= 1
            if not self.waiting:
                self.idle.set()
            self.codes[self._audience.answered(self._what, heard, due_ns)] += 1

        self._audience.swarm.ask(viewer, command, done)
