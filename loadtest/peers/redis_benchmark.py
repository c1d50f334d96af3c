"""The peer of holds: `redis-benchmark`, one call after the other from 50 clients, in C.

A script of one line that does nothing is the least that any script call can cost; a bare `DECR` is
the least that counting can cost.
"""

from __future__ import annotations

import csv
import hashlib
import io
import shutil
from urllib.parse import unquote, urlsplit

import redis.asyncio

from loadtest.peers.pgbench import run_program

SCRIPT = "return 1"
COUNTER = "bench:counter"
CLIENTS = 50
CALLS = 300_000
GET = "Debian, Ubuntu: apt install redis-tools"


def program() -> str | None:
    """Return where the program is; None: it is absent (Debian: redis-tools)."""
    return shutil.which("redis-benchmark") or shutil.which("valkey-benchmark")


async def calls_per_s(redis_url: str, calls: int = CALLS) -> float | None:
    """Return how many script calls a second it makes of the server; None when it is absent."""
    client = redis.asyncio.Redis.from_url(redis_url)
    try:
        await client.script_load(SCRIPT)
    finally:
        await client.aclose()
    digest = hashlib.sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()
    return await _per_s(redis_url, calls, "evalsha", digest, "0")


async def decrs_per_s(redis_url: str, calls: int = CALLS) -> float | None:
    """Return how many times a second it counts one down; None when it is absent."""
    return await _per_s(redis_url, calls, "decr", COUNTER)


async def version() -> str:
    """Return its version; '' when it is absent."""
    found = program()
    return (await run_program(found, "--version")).strip().rpartition(" ")[2] if found else ""


async def _per_s(redis_url: str, calls: int, *command: str) -> float | None:
    if (found := program()) is None:
        return None
    socket = unquote(urlsplit(redis_url).path)
    output = await run_program(
        *(found, "-s", socket, "-c", str(CLIENTS), "-n", str(calls), "--csv"), *command
    )
    return float(list(csv.reader(io.StringIO(output)))[-1][1])
