"""The peer of holds: `redis-benchmark`, one script call after the other from 50 clients, in C.

A script of one line that does nothing is the least that any script call can cost.
"""

from __future__ import annotations

import asyncio
import csv
import hashlib
import io
import shutil
from urllib.parse import unquote, urlsplit

import redis.asyncio

SCRIPT = "return 1"
CLIENTS = 50
CALLS = 300_000


def program() -> str | None:
    """Return where the program is; None: it is absent (Debian: redis-tools)."""
    return shutil.which("redis-benchmark") or shutil.which("valkey-benchmark")


async def calls_per_s(redis_url: str) -> float | None:
    """Return how many calls a second it makes of the server; None when it is absent."""
    found = program()
    if found is None:
        return None
    client = redis.asyncio.Redis.from_url(redis_url)
    try:
        await client.script_load(SCRIPT)
    finally:
        await client.aclose()
    digest = hashlib.sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()
    socket = unquote(urlsplit(redis_url).path)
    process = await asyncio.create_subprocess_exec(
        *(found, "-s", socket, "-c", str(CLIENTS), "-n", str(CALLS), "--csv"),
        *("evalsha", digest, "0"),
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"{found} ended with {process.returncode}")
    lines = list(csv.reader(io.StringIO(output.decode())))
    return float(lines[-1][1])
