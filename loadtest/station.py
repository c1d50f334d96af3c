"""One process of the crowd: reads asks from its pipe, has its audience do them, replies.

Run as `python -m loadtest.station` by crew and by Locust's users. Asks are carried out side by
side, so that a beat is answered in the middle of a sale; what goes wrong in one is its reply. It
ends with its pipe, so that nothing is left when the play dies.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import traceback
from typing import Any

from loadtest.asks import (
    Act,
    AnyAsk,
    Asked,
    Beat,
    Buy,
    Close,
    Collect,
    Cut,
    Gather,
    Hear,
    Leave,
    Prepare,
    Quiet,
    Replied,
    Reply,
    Settle,
    Speak,
    Tell,
    packed,
    read_asked,
)
from loadtest.audience import Audience
from loadtest.deeds import Deeds


class Station:
    """Holds the audience, once it is gathered."""

    def __init__(self) -> None:
        self._audience: Audience | None = None
        self._deeds: Deeds | None = None  # once viewers are asked for single ones

    async def do(self, ask: AnyAsk) -> Reply:
        """Carry one ask out; what goes wrong in it is what it replies."""
        try:
            return await self._do(ask)
        except (OSError, TimeoutError, ValueError) as error:
            return Reply(error=f"{type(error).__name__}: {error}")
        except Exception as error:  # noqa: BLE001 - a fault of ours: told whole, and the play fails
            return Reply(error=f"{error!r}\n{traceback.format_exc()}")

    async def _do(self, ask: AnyAsk) -> Reply:
        if isinstance(ask, Gather):
            random.seed(f"{ask.seed}.{ask.first}.back-off")
            self._audience = Audience(ask)
            return await self._audience.connect()
        audience = self._audience
        if audience is None and isinstance(ask, Beat):
            return Reply()  # it is just being made
        if audience is None:
            raise ValueError("nobody is gathered yet")
        match ask:
            case Act():
                return self._doing(audience).act(ask)
            case Hear():
                return await self._doing(audience).hear(ask)
            case Prepare():
                audience.swarm.build(ask.offer, ask.first, ask.buys)
                return Reply()
            case Buy():
                return await audience.buy(ask)
            case Settle():
                return await audience.settle(ask)
            case Speak():
                return await audience.speak(ask)
            case Cut():
                return await audience.cut(ask)
            case Quiet():
                return await audience.quiet(ask)
            case Leave():
                return audience.leave(ask.share)
            case Beat():
                return audience.beat(ask.at_s)
            case Collect():
                return audience.collect(ask)
            case Tell():
                return audience.tell()
            case Close():
                await audience.close()
                return Reply()

    def _doing(self, audience: Audience) -> Deeds:
        if self._deeds is None:
            self._deeds = Deeds(audience)
        return self._deeds


async def serve() -> None:
    """Do what is asked until the pipe ends."""
    loop = asyncio.get_running_loop()
    # Ctrl-C reaches the whole group of a terminal; the play decides, and closes the pipe.
    loop.add_signal_handler(signal.SIGINT, lambda: None)
    loop.set_exception_handler(_fault)
    asks = asyncio.StreamReader(limit=2**20)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(asks), sys.stdin.buffer)
    station, under_way = Station(), set[asyncio.Task[None]]()

    async def one(asked: Asked) -> None:
        reply = await station.do(asked.ask)
        _write(packed(Replied(asked.number, reply)))

    while (asked := await read_asked(asks)) is not None:
        task = loop.create_task(one(asked))
        under_way.add(task)
        task.add_done_callback(under_way.discard)
    for task in under_way:
        task.cancel()


def _fault(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Say what a callback raised, and end if it is a fault of ours.

    A viewer that is left half-way would be missing an answer, and the server be blamed for it.
    """
    loop.default_exception_handler(context)
    error = context.get("exception")
    if error is not None and not isinstance(error, OSError):
        sys.stderr.flush()
        os._exit(1)


def _write(data: bytes) -> None:
    """Write all of it; the play reads at once, and a reply must not wait for the loop."""
    view = memoryview(data)
    while view:
        view = view[os.write(1, view) :]


def main() -> None:
    """Run on the fastest loop there is."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(serve())
    else:
        uvloop.run(serve())


if __name__ == "__main__":
    main()
