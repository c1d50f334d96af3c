"""What viewers say in one stretch: chat, reactions, pings, and what of it is not answered yet.

Owns the words and the waiting for their answers. When something is said, and by whom, is the
audience's, which calls it and keeps what is measured.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from time import perf_counter_ns
from typing import TYPE_CHECKING, Final

from loadtest.asks import Speak
from loadtest.frames import Heard
from loadtest.viewer import READY, Viewer

if TYPE_CHECKING:
    from loadtest.audience import Audience

_WORDS: Final = ("好美", "+1", "還有嗎", "love it", "請問尺寸", "wow", "สวยมาก", "đẹp quá")
_KINDS: Final = ("like", "love", "laugh", "wow", "clap")


class Spoken:
    """What was said in one stretch, and what of it is not answered yet."""

    def __init__(self, audience: Audience, ask: Speak, chance: random.Random) -> None:
        self._audience = audience
        self._chance = chance
        self._ask = ask
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
        match self._ask.what:
            case "react":
                kind, times = self._chance.choice(_KINDS), 1 + self._chance.randrange(5)
                self._audience.swarm.tell(viewer, {"type": "react", "kind": kind, "n": times})
                return
            case "ping":
                command = {"type": "ping", "t0": due_ns // 1_000_000}
            case _:
                key = f"c{due_ns:x}.{viewer.number}"
                command = {"type": "chat", "text": self._chance.choice(_WORDS), "key": key}
        self.waiting += 1
        self.idle.clear()

        def done(heard: Heard | None) -> None:
            self.waiting -= 1
            if not self.waiting:
                self.idle.set()
            code = "lost" if heard is None else heard.code or heard.type
            self.codes[code] += 1
            self._audience.answered(self._ask.what, code)
            if heard is not None:
                self._audience.note(self._ask.what, (perf_counter_ns() - due_ns) / 1000)

        self._audience.swarm.ask(viewer, command, done)
