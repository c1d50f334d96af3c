"""Where holds are kept, as the audit reads it: one Redis, or the nodes of a Redis Cluster.

Owns which node an offer is on, asked anew for each reading, and the reading of the documented
layout: `{offer}:o`, `{offer}:h` and `{offer}:u`. Knows nothing of `orders`. Called by audit.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import cast

from redis.asyncio import Redis
from redis.crc import key_slot
from redis.exceptions import RedisError

from loadtest.judge import Gate


class Gates:
    """A connection to the server at a URL and, if that is a node, to the others where needed."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._first = Redis.from_url(url, decode_responses=True)
        self._nodes: dict[tuple[str, int], Redis] = {}

    async def aclose(self) -> None:
        """End the connections."""
        for client in (self._first, *self._nodes.values()):
            await client.aclose()

    async def reach(self) -> None:
        """Raise RedisError or OSError when the server does not answer."""
        await self._first.info("server")

    async def read(self, offer: str) -> Gate | None:
        """Return the gate of an offer or bucket, read in one transaction; raises RedisError.

        A state that was made under another run of its server decides nothing: it is none.
        """
        redis = await self._server(f"{{{offer}}}:o")
        async with redis.pipeline(transaction=True) as pipe:
            pipe.info("server")
            pipe.hmget(f"{{{offer}}}:o", "left", "quantity", "epoch", "run")
            pipe.hkeys(f"{{{offer}}}:h")
            pipe.zrange(f"{{{offer}}}:u", 0, -1, withscores=True)
            server, state, held, unwritten = await pipe.execute()
        if None in state or state[3] != server["run_id"]:
            return None
        left, quantity, epoch = map(int, state[:3])
        since = {id_: int(at_ms) for id_, at_ms in unwritten}
        return Gate(left, quantity, epoch, frozenset(held), since)

    async def owners(self, offer: str, ids: Sequence[str]) -> dict[str, tuple[str, str]]:
        """Say whose holds these are, by (viewer, key); those that are not held are left out."""
        if not ids:
            return {}
        redis = await self._server(f"{{{offer}}}:h")
        records = await cast("Awaitable[list[str | None]]", redis.hmget(f"{{{offer}}}:h", [*ids]))
        found = {}
        for id_, record in zip(ids, records, strict=True):
            # `rank qty length:viewerkey`; the length is in bytes.
            head, _, rest = (record or "").partition(":")
            length = head.rpartition(" ")[2]
            if rest and length.isdecimal():
                buyer = rest.encode()
                viewer, key = buyer[: int(length)], buyer[int(length) :]
                found[id_] = viewer.decode("utf-8", "replace"), key.decode("utf-8", "replace")
        return found

    async def _server(self, key: str) -> Redis:
        if not (await self._first.info("cluster"))["cluster_enabled"]:
            return self._first
        slot = key_slot(key.encode())
        for first, last, (host, port, *_), *_ in await self._first.cluster("SLOTS"):
            if first <= slot <= last:
                return self._node(host, port)
        raise RedisError(f"no node of the cluster has slot {slot}, of {key}")

    def _node(self, host: str, port: int) -> Redis:
        client = self._nodes.get((host, port))
        if client is None:
            client = self._nodes[host, port] = Redis.from_url(self._url, decode_responses=True)
            # Not known yet to a node that nobody has met: its own address is the URL's then.
            place = {"port": port} | ({"host": host} if host else {})
            client.connection_pool.connection_kwargs.update(place)
        return client
