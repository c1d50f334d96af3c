"""One worker: uvicorn on a socket that it was given, with our `Wire`, until SIGTERM.

Owns the process: its log, its readiness, its orderly end (selling first, then the connections, so
that no buy is left without an answer). Knows no route. Started by `fleet` as

    python -m livecart.serve --fd N --mark FILE

where N is a listening socket and FILE gets our pid once `/readyz` answers 200 here.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn
from starlette.types import Message

from livecart.app import build
from livecart.fleet import BACKLOG, set_mark
from livecart.settings import Settings, SettingsError, load
from streams.head import Head
from streams.wire import Wire

KEEP_ALIVE_S = 75
END_TIMEOUT_S = 3  # for HTTP requests under way after the drain
SELLING_DRAIN_S = 5.0
READY_EVERY_S = 0.05

log = logging.getLogger("livecart.serve")


class Worker(uvicorn.Server):
    """A uvicorn server that drains before it ends and that ends with status 0."""

    def __init__(self, config: uvicorn.Config, drain_s: float, mark: Path | None) -> None:
        super().__init__(config)
        self._drain_s = drain_s
        self._mark = mark

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Ask for the end; uvicorn's own would raise the signal again afterwards."""
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True

    async def main_loop(self) -> None:
        """Serve; say that we are ready as soon as we are."""
        ready = asyncio.create_task(self._say_ready())
        try:
            await super().main_loop()
        finally:
            ready.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await ready

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept no more, answer every buy, send the viewers elsewhere, then end."""
        for server in self.servers:
            server.close()
        state = self.lifespan.state
        if not await state["selling"].drain(SELLING_DRAIN_S):
            log.warning("buys without an answer after %g s: their keys stay good", SELLING_DRAIN_S)
        await state["hub"].drain(self._drain_s)
        await super().shutdown(sockets)

    async def _say_ready(self) -> None:
        while await self._readyz() != 200:  # noqa: ASYNC110 - it is asked, it does not tell
            await asyncio.sleep(READY_EVERY_S)
        if self._mark is not None:
            set_mark(self._mark)
        log.info("worker %d is ready", os.getpid())

    async def _readyz(self) -> int:
        """Ask our own /readyz, without the shared socket, where another worker might answer."""
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": "/readyz",
            "raw_path": b"/readyz",
            "query_string": b"",
            "root_path": "",
            "headers": [],
            "client": None,
            "server": None,
            "state": self.lifespan.state.copy(),
        }
        status = 0

        async def receive() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)

        app: Any = self.config.loaded_app
        await app(scope, receive, send)
        return status


def configure(settings: Settings) -> uvicorn.Config:
    """Return uvicorn's configuration."""
    return uvicorn.Config(
        build(settings),
        http=Head,
        loop="auto",  # uvloop where there is one
        ws=Wire,
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # nothing here asks who the client is
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=END_TIMEOUT_S,
    )


class OneLine(logging.Filter):
    """Leaves of a start-up that failed for a setting only what the user can mend."""

    _mark = f"{SettingsError.__module__}.{SettingsError.__qualname__}: "

    def filter(self, record: logging.LogRecord) -> bool:
        """Cut the traceback that comes as the message's text."""
        text = record.getMessage()
        if self._mark in text:
            record.msg, record.args = text.rpartition(self._mark)[2].strip(), ()
        return True


def start_log(level: str) -> None:
    """Send the log to stderr, one line an event; libraries only from `warning` on."""
    logging.getLogger("uvicorn.error").addFilter(OneLine())
    logging.basicConfig(
        stream=sys.stderr,
        level=level.upper(),
        format="%(asctime)s %(process)d %(levelname)s %(name)s %(message)s",
    )
    if level != "debug":
        # The second by name: uvicorn asks for that one's own level, at each connection.
        for name in ("uvicorn", "uvicorn.error", "asyncio"):
            logging.getLogger(name).setLevel(logging.WARNING)


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's maker of event loops; None, asyncio's own, where there is no uvloop."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def main() -> None:
    """Run one worker; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="livecart.serve")
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--mark", type=Path)
    options = parser.parse_args()
    try:
        settings = load(os.environ)
    except SettingsError as error:
        sys.exit(f"livecart: {error}")
    start_log(settings.serve.log_level)
    worker = Worker(configure(settings), settings.serve.drain_s, options.mark)
    worker.run(sockets=[socket.socket(fileno=options.fd)])


if __name__ == "__main__":
    main()
