"""Runs localstripe on a port of its own on 127.0.0.1, and says which: a process of the tests.

As it comes it listens on every address and writes all it knows to one file in /tmp after each call;
neither is wanted here. What it answers is left alone.
"""

from __future__ import annotations

import socket
from importlib import import_module
from typing import Any

from aiohttp import web

resources: Any = import_module("localstripe.resources")
server: Any = import_module("localstripe.server")


def main() -> None:
    """Serve until the process is ended."""
    resources.Store.dump_to_disk = lambda store: None
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        print(listening.getsockname()[1], flush=True)  # noqa: T201 - the caller waits for it
        web.run_app(server.app, sock=listening, print=None, access_log=None)


if __name__ == "__main__":
    main()
