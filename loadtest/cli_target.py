"""Options that say which server is loaded, and how a command becomes an exit status.

Owns what commands of the harness share: the address and the secrets of a server that is there, or
one that is spawned; faults of the set-up as one line instead of a traceback. Knows no scenario.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TypeVar

import asyncpg
import typer
from redis.exceptions import RedisError

from loadtest.server import SpawnFailed, Target, spawned
from loadtest.web import ApiError


class Subprotocol(StrEnum):
    """WebSocket subprotocols by their short names."""

    JSON = "json"
    MSGPACK = "msgpack"


class Via(StrEnum):
    """How buys are sent."""

    WS = "ws"
    HTTP = "http"


T = TypeVar("T")

Url = Annotated[
    str, typer.Option("--target", "--url", help="Server to test; without it, one is spawned.")
]
Spawn = Annotated[bool, typer.Option("--spawn", help="Spawn a server for this run.")]
Workers = Annotated[int, typer.Option(min=1, help="Workers of a spawned server.")]
HostToken = Annotated[str, typer.Option(help="Token of a host; else made with the secret.")]
Secret = Annotated[
    str,
    typer.Option(envvar="LIVECART_SECRET", help="Secret to make tokens with.", show_envvar=True),
]
DatabaseUrl = Annotated[str, typer.Option(envvar="LIVECART_DATABASE_URL", help="For the audit.")]
RedisUrl = Annotated[str, typer.Option(envvar="LIVECART_REDIS_URL", help="For the audit.")]
GateUrl = Annotated[
    str,
    typer.Option(
        help="Where holds are, if not at --redis-url: a Redis, or any node of a cluster. A spawned"
        " server has them there, too; else LIVECART_GATE_URL says it as well."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="One line of JSON in place of tables.")]


@asynccontextmanager
async def target_of(
    url: str,
    spawn: bool,
    workers: int,
    host_token: str,
    secret: str,
    database_url: str,
    redis_url: str,
    gate_url: str,
    data_dir: Path | None = None,
) -> AsyncIterator[Target]:
    """The server that was named, or a spawned one."""
    if spawn and url:
        raise typer.BadParameter("--spawn and --url exclude each other")
    if not url:
        async with spawned(workers, data_dir, gate_url) as target:
            yield target
        return
    if not secret:
        raise typer.BadParameter("--url needs --secret (or LIVECART_SECRET) to make viewer tokens")
    gate_url = _gate(gate_url, redis_url)
    yield Target(url.rstrip("/"), secret, host_token, database_url, redis_url, gate_url)


def _gate(gate_url: str, redis_url: str) -> str:
    """Where the holds of a server are that is not ours.

    The variable is not asked for a spawned one: what it names is not to be loaded by mistake.
    """
    return gate_url or os.environ.get("LIVECART_GATE_URL", "") or redis_url


def start(work: Coroutine[Any, Any, T]) -> T:
    """Run it on the fastest loop there is; a fault of the set-up is one line, not a traceback."""
    try:
        import uvloop
    except ImportError:
        runner = asyncio.run
    else:
        runner = uvloop.run
    try:
        return runner(work)
    except (
        *(ApiError, SpawnFailed, OSError, TimeoutError),
        *(asyncpg.PostgresError, asyncpg.InterfaceError, RedisError),
    ) as error:
        typer.echo(f"livecart-loadtest: {type(error).__name__}: {error}", err=True)
        raise typer.Exit(2) from error
    except asyncio.CancelledError as error:
        raise typer.Exit(128 + signal.SIGTERM) from error
