"""Whatever connects, breaks and comes back: each client's sequences have no gap and no repeat.

And each id of a Server-Sent Event is the position after it.
"""

from __future__ import annotations

import asyncio
import random

import msgspec
import pytest

from streams.calls import command
from streams.codec import EVENTS, FORMS
from streams.log import LogLimits
from streams.ports import Fact, Refused
from streams.protocol import Message
from tests.hub_rig import QUICK, Event, Screen, Stage, Truth, closed, connect_redis, open_stage

FACTS = 300
LINES = 300
CLIENTS = 12


class Viewer:
    """A client that keeps its position over connections, as the protocol tells it to."""

    def __init__(self) -> None:
        self.epoch = ""
        self.seq = self.cseq = 0
        self.screen: Screen | None = None
        self.seen = 0
        self.lives = 0  # how often the state was replaced
        self.recoveries = 0

    def connect(self, stage: Stage) -> None:
        """Say hello, with the position where there is one."""
        self.screen, self.seen = stage.connect(form=random.choice(FORMS)), 0
        since = {"epoch": self.epoch, "seq": self.seq, "cseq": self.cseq}
        self.screen.say("hello", **({"since": since} if self.epoch else {}))

    def read(self) -> None:
        """Take what has come; fail where it does not follow."""
        assert self.screen is not None
        for n, event in enumerate(self.screen.events[self.seen :], self.seen):
            before = (self.epoch, self.seq, self.cseq)
            self._take(event)
            if self.screen.form == EVENTS:
                moved = event["type"] in ("welcome", "resync")
                moved = moved or before != (self.epoch, self.seq, self.cseq)
                here = f"{self.epoch}:{self.seq}:{self.cseq}"
                assert self.screen.ids[n] == (here if moved else None)
        self.seen = len(self.screen.events)

    def _take(self, event: Event) -> None:
        if event["type"] == "resync" or (event["type"] == "welcome" and not event.get("recovered")):
            self.epoch, self.seq, self.cseq = event["epoch"], event["seq"], event["cseq"]
            self.lives += 1
        elif event["type"] == "welcome":
            assert event["epoch"] == self.epoch
            assert event["seq"] >= self.seq
            self.recoveries += 1
        elif "seq" in event:
            assert event["seq"] == self.seq + 1
            self.seq += 1
        elif "cseq" in event:
            assert event["cseq"] == self.cseq + 1
            self.cseq += 1


async def speak(stage: Stage) -> None:
    """Publish facts and chat, each until the log has it."""
    stream = stage.truth.stream_id
    fact = line = 0
    while fact < FACTS or line < LINES:
        try:
            if fact < FACTS:
                fact = await stage.log.append_facts(
                    stream, [Fact(n=fact + 1, event=closed(fact + 1))]
                )
            if line < LINES:
                message = Message(id=f"msg_{line}", user="u", name="u", text="x", at=line)
                await stage.log.append_chat(stream, "u", f"k{line}", message)
                line += 1
        except Refused:
            await asyncio.sleep(0.01)
        await asyncio.sleep(random.random() * 0.01)


async def disturb(redis_url: str, everyone: list[Viewer], stages: list[Stage]) -> None:
    """Break client connections and, now and then, every reader of both hubs."""
    client = connect_redis(redis_url)
    try:
        while True:
            await asyncio.sleep(random.random() * 0.03)
            viewer = random.choice(everyone)
            viewer.read()
            if viewer.screen is not None:
                viewer.screen.abort()
            viewer.connect(random.choice(stages))
            if random.random() < 0.03:
                await command(client, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            if random.random() < 0.01:
                await command(client, "CLIENT", "KILL", "TYPE", "pubsub")
    finally:
        await client.aclose()


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_every_client_sees_each_sequence_whole(redis_url: str, seed: int) -> None:
    """Over two hubs, lost readers, small memories and many reconnections, nothing is off by one."""
    random.seed(seed)
    limits = msgspec.structs.replace(QUICK, memory_entries_max=20)
    truth = Truth(fact_n=0)
    log_limits = LogLimits(main_entries_max=100, chat_entries_max=100)
    async with (
        open_stage(redis_url, truth, limits, log_limits) as one,
        open_stage(redis_url, truth, limits, log_limits) as two,
    ):
        everyone = [Viewer() for _ in range(CLIENTS)]
        for viewer in everyone:
            viewer.connect(random.choice([one, two]))
        trouble = asyncio.create_task(disturb(redis_url, everyone, [one, two]))
        await speak(one)
        trouble.cancel()
        await asyncio.gather(trouble, return_exceptions=True)
        assert trouble.cancelled(), trouble.exception()
        head = await one.log.position(truth.stream_id)
        async with asyncio.timeout(10):
            for viewer in everyone:
                while (viewer.epoch, viewer.seq, viewer.cseq) != (head.epoch, head.seq, head.cseq):
                    await asyncio.sleep(0.01)
                    viewer.read()
                    if viewer.screen is not None and viewer.screen.closed_with is not None:
                        viewer.connect(one)
        assert sum(viewer.recoveries for viewer in everyone) > 0
