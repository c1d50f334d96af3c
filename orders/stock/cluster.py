"""The client of a Redis Cluster, and the one place that opens a client of what a URL names.

Owns the way of a command to the node that has its key, and what a node's loss does to the others:
nothing. Knows no scripts, no offers and no streams. Called by the gate, by `livecart`, which hands
it to `streams` too, and by tests.

redis-py's own cluster client finds the nodes and keeps their connections. Its way with errors is
not used: after each it has every command, to whatever node, wait for a new map of the cluster and
for a list of all commands; at CLUSTERDOWN it closes every connection, those that carry other
offers' holds too; a node without a free connection is an error at once; and ASKING goes out on
another connection than the command that it is for.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, cast

from redis.asyncio import BlockingConnectionPool, Connection, Redis
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AskError,
    ClusterDownError,
    MaxConnectionsError,
    MovedError,
    RedisClusterException,
    RedisError,
    SlotNotCoveredError,
)
from redis.exceptions import (
    ConnectionError as RedisConnectionError,
)
from redis.exceptions import (
    TimeoutError as RedisTimeoutError,
)

log = logging.getLogger(__name__)

CONNECT_S = 0.9  # below the second within which a buy is answered
#: Redirections of one command: it was refused each time, so nothing is done twice (R2).
REDIRECTIONS_MAX = 5
#: How long a node that was lost is left alone: commands for it fail at once.
AWAY_S = 0.25
#: The least time between two readings of the map of slots: each has every connection made anew.
MAP_EVERY_S = 1.0
#: Connections of a node beside those that commands may have: for the map of slots.
SPARE = 4


class _Keyed:
    """Tells redis-py where the key of a command is, which it would ask a server for."""

    async def initialize(self, node: object = None) -> None:
        """Ask nobody: a node that is away would keep the client from all others."""

    async def get_keys(self, *args: Any) -> tuple[Any, ...]:
        """Return the first argument: each command of ours but EVAL has its one key there."""
        return args[1:2]


class _Lane:
    """What is known of one node: how many commands are under way, and until when it is away."""

    def __init__(self, commands_max: int) -> None:
        self.free = asyncio.Semaphore(commands_max)
        self.away_until = 0.0


class ClusterClient(RedisCluster):
    """Sends each command once, to the primary that has its key (R2).

    The only repetition is that of a command which a node refused with MOVED or ASK. A lost
    connection is an error at once, and for `AWAY_S` all that its node is asked is too; the map of
    slots is read again meanwhile, in the background, from the nodes known last and, should they
    all be gone, from the address in the URL. Replicas are never asked.
    """

    def __init__(self, url: str, connections_max: int, timeout_s: float) -> None:
        options = cast("dict[str, Any]", parse_url(url))
        if options.pop("db", 0) or "path" in options:
            raise ValueError("a cluster has no database but 0, and no unix socket")
        if options.pop("connection_class", None) is not None:
            options["ssl"] = True
        self._seed = options.get("host", "localhost"), int(options.get("port", 6379))
        self._commands_max = connections_max  # at once, of one node
        self._timeout_s = timeout_s
        self._lanes: dict[str, _Lane] = {}
        self._map_read: asyncio.Task[None] | None = None
        options |= {"host": self._seed[0], "port": self._seed[1]}
        # Twice: those that are being closed, to be made anew, still count.
        options["max_connections"] = 2 * connections_max + SPARE
        options.setdefault("socket_timeout", timeout_s)
        options.setdefault("socket_connect_timeout", min(timeout_s, CONNECT_S))
        super().__init__(
            **options,
            retry=Retry(NoBackoff(), 0),
            require_full_coverage=False,  # slots that nobody has are no trouble of the others
            reinitialize_steps=0,
        )
        self.commands_parser = cast(Any, _Keyed())

    def server_of(self, key: str) -> str:
        """Return the address of the node that has the key, "" while none is known to."""
        try:
            node = self.get_node_from_key(key)
        except SlotNotCoveredError:
            return ""
        return node.name if node else ""

    def connecting(self, server: str) -> tuple[type[Connection], dict[str, Any]]:
        """Return what a connection to a node is made of, for who blocks or listens there.

        `server`: as `server_of` names it. Raises redis-py's ConnectionError when it is gone.
        """
        node = self.get_node(node_name=server)
        if node is None:
            raise RedisConnectionError(f"{server} is no node of the cluster any more")
        return node.connection_class, dict(node.connection_kwargs)

    async def execute_command(self, *args: Any, **kwargs: Any) -> Any:
        """Send one command to the node that has its key; without a key, as redis-py does.

        EVAL and EVALSHA have their key at the fourth place, all others at the second.
        """
        place = 3 if args[0] in ("EVAL", "EVALSHA") else 1
        if len(args) <= place or "target_nodes" in kwargs:
            return await super().execute_command(*args, **kwargs)
        try:
            await self.initialize()
            return await self._send(args[place], args, kwargs)
        except SlotNotCoveredError as error:
            self._read_map_soon()
            raise RedisConnectionError(str(error)) from error
        except RedisClusterException as error:  # no `RedisError`, whatever its name says
            raise RedisConnectionError(str(error)) from error

    async def _send(self, key: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Go to the node of the key, and on to where it sends us."""
        asked: ClusterNode | None = None
        for redirection in range(REDIRECTIONS_MAX + 1):
            node = asked or cast(ClusterNode, self.get_node_from_key(key))
            try:
                return await self._ask(node, asked is not None, args, kwargs)
            except (MovedError, AskError) as error:
                if redirection == REDIRECTIONS_MAX:
                    raise
                error.host = error.host or node.host  # a cluster may leave out what is the same
                asked = None
                if isinstance(error, MovedError):
                    await self.nodes_manager.move_slot(error)
                    self._read_map_soon()
                else:
                    asked = self._met(error.host, error.port)
            except ClusterDownError:
                self._read_map_soon()
                raise
        raise AssertionError("unreachable")

    def _met(self, host: str, port: int) -> ClusterNode:
        """Return the node at an address; one that has no slots yet is on no map."""
        node = self.get_node(host, port)
        if node is None:
            node = ClusterNode(host, port, **self.connection_kwargs)
            self.nodes_manager.set_nodes(self.nodes_manager.nodes_cache, {node.name: node})
        return node

    async def _ask(
        self, node: ClusterNode, asking: bool, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        """Send a command to one node once there is room; an error of the network marks it."""
        loop = asyncio.get_running_loop()
        lane = self._lanes.get(node.name)
        if lane is None:
            lane = self._lanes[node.name] = _Lane(self._commands_max)
        if lane.away_until > loop.time():
            raise RedisConnectionError(f"{node.name} was lost a moment ago")
        try:
            async with asyncio.timeout(self._timeout_s):
                await lane.free.acquire()
        except TimeoutError as error:
            raise RedisTimeoutError(f"{node.name} has no free connection") from error
        try:
            if asking:
                return await _asking(node, args, kwargs)
            return await node.execute_command(*args, **kwargs)
        except MaxConnectionsError:  # for once it is not the node
            raise
        except (RedisConnectionError, RedisTimeoutError, OSError):
            lane.away_until = loop.time() + AWAY_S
            node.update_active_connections_for_reconnect()
            await node.disconnect_free_connections()
            self._read_map_soon(node.name)
            raise
        finally:
            lane.free.release()

    def _read_map_soon(self, lost: str = "") -> None:
        """Find out which node has which slots, unless somebody just does."""
        if self._map_read is None or self._map_read.done():
            self._map_read = asyncio.get_running_loop().create_task(self._read_map(lost))

    async def _read_map(self, lost: str) -> None:
        """Read the map of slots, from another node than the lost one if there is one."""
        manager = self.nodes_manager
        known = manager.startup_nodes
        try:
            node = known.pop(lost, None) if len(known) > 1 else None
            if node is not None and node is not self.nodes_manager.nodes_cache.get(lost):
                await node.disconnect()  # the first of all is there twice
            await manager.initialize()
        except (RedisError, RedisClusterException, OSError) as error:
            log.debug("the map of the cluster could not be read: %r", error)
            # Nodes that come back at other addresses are found where the first were.
            seed = ClusterNode(*self._seed, **self.connection_kwargs)
            known.setdefault(seed.name, seed)
        names = manager.nodes_cache
        self._lanes = {name: lane for name, lane in self._lanes.items() if name in names}
        await asyncio.sleep(MAP_EVERY_S)

    async def aclose(self) -> None:
        """Close all connections."""
        if self._map_read is not None:
            self._map_read.cancel()
            await asyncio.wait({self._map_read})
        await super().aclose()


async def _asking(node: ClusterNode, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Send a command to a node that only now takes its slot over: ASKING goes before it.

    Both on one connection, each with its own reply read: none is left for the next caller.
    """
    connection = node.acquire_connection()
    try:
        await node.disconnect_if_needed(connection)
        for command in (("ASKING",), args):
            await connection.send_packed_command(connection.pack_command(*command))
            options = kwargs if command is args else {}
            reply = await node.parse_response(connection, command[0], **options)
        return reply
    finally:
        node.release(connection)


def open_server(url: str, connections_max: int, timeout_s: float) -> Redis:
    """Return a client of one server; no connection is made yet. Raises ValueError.

    Retries are off, because a repeated command would hide that the server was lost in between (R2);
    callers wait for a connection rather than opening ever more.
    """
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=connections_max,
        timeout=timeout_s,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=Retry(NoBackoff(), 0),
    )
    return Redis.from_pool(pool)


async def open_client(url: str, connections_max: int, timeout_s: float) -> Redis | ClusterClient:
    """Return a client of the server or the cluster at a URL, whichever the server says it is.

    Raises `RedisError` or `OSError` while it does not answer, and ValueError for a bad URL.
    """
    client = open_server(url, connections_max, timeout_s)
    try:
        told = await client.info("server")
    except BaseException:
        await client.aclose()
        raise
    if "cluster" not in (told.get("redis_mode"), told.get("server_mode")):  # Valkey 9: the second
        return client
    await client.aclose()
    cluster = ClusterClient(url, connections_max, timeout_s)
    try:
        await cluster.initialize()
    except BaseException as error:
        await cluster.aclose()
        if isinstance(error, RedisClusterException):  # no `RedisError`, whatever its name says
            raise RedisConnectionError(str(error)) from error
        raise
    return cluster


async def each_server(client: Redis | ClusterClient, *command: str) -> dict[str, Any]:
    """Return what each primary that answers says to a command, by its address; "" for a lone one.

    Raises what the last of them failed with when none answers.
    """
    if not isinstance(client, ClusterClient):
        return {"": await client.execute_command(*command)}  # type: ignore[no-untyped-call]
    await client.initialize()
    nodes = client.get_primaries()
    asked = (node.execute_command(*command) for node in nodes)
    replies = await asyncio.gather(*asked, return_exceptions=True)
    found: dict[str, Any] = {}
    for node, reply in zip(nodes, replies, strict=True):
        if not isinstance(reply, BaseException):
            found[node.name] = reply
    if not found and isinstance(replies[-1], BaseException):
        raise replies[-1]
    return found


async def any_answers(client: Redis | ClusterClient) -> None:
    """Return as soon as one primary answers; raise what the last failed with when none does."""
    if not isinstance(client, ClusterClient):
        await client.ping()
        return
    await client.initialize()
    asked = [asyncio.create_task(node.execute_command("PING")) for node in client.get_primaries()]
    failed: Exception = RedisConnectionError("no node of the cluster is known")
    try:
        for one in asyncio.as_completed(asked):
            try:
                await one
                return
            except (RedisError, OSError) as error:
                failed = error
        raise failed
    finally:
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
