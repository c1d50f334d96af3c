"""A Redis Cluster of three primaries on this machine, to be broken node by node.

Made of the same Valkey that `livecart up` runs, with its settings where they matter here. Each
node has a port of its own and a data folder that its restart finds again.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import redis
from redis.crc import key_slot

from livecart.embedded import child
from livecart.embedded.binaries import find_redis

NODES = 3
SLOTS = 16_384
READY_S = 30.0
NODE_TIMEOUT_MS = 1_000
BUS_OFFSET = 10_000  # of a node's second port, by which the nodes talk


class Node:
    """One server of the cluster."""

    def __init__(self, folder: Path, port: int) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.listen_at(port)
        folder.mkdir()

    def listen_at(self, port: int) -> None:
        """Take a port, from the next start on."""
        self.port = port
        self.client = redis.Redis(port=port, socket_timeout=READY_S)

    @property
    def address(self) -> str:
        """Its name as clients know it."""
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._process is not None
        return self._process.pid

    @property
    def id(self) -> str:
        """Its name as the other nodes know it."""
        return _text(self.command("CLUSTER MYID"))

    def command(self, *args: str | int) -> Any:
        """Ask it, whichever slots it has."""
        return self.client.execute_command(*args)  # type: ignore[no-untyped-call]

    def start(self) -> None:
        """Start its process and wait until it answers."""
        self._process = child.spawn(
            [find_redis().server, *self._arguments()],
            die_signal=signal.SIGKILL,
            log_path=self._folder / "log",
            env=child.server_environment(),
            cwd=self._folder,
        )
        _until(self._answers, "a node does not answer")

    def _arguments(self) -> list[str]:
        settings = {
            "port": self.port,
            "bind": "127.0.0.1",
            "dir": self._folder,
            "cluster-enabled": "yes",
            "cluster-node-timeout": NODE_TIMEOUT_MS,
            "cluster-require-full-coverage": "no",  # the others sell on
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",
        }
        return [part for name, value in settings.items() for part in (f"--{name}", str(value))]

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._folder / "log").read_text()[-2000:]
        try:
            return bool(self.client.ping())
        except redis.ConnectionError:
            return False

    def kill(self) -> None:
        """End its process by SIGKILL."""
        self.signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()
        self.client.close()

    def signal(self, number: signal.Signals) -> None:
        """Send its process a signal."""
        if self._process is not None:
            self._process.send_signal(number)

    def clear(self, slot: int) -> None:
        """Delete the keys of a slot."""
        for name in self.command("CLUSTER GETKEYSINSLOT", slot, 1_000):
            self.command("DEL", name)

    def is_ok(self, nodes: int) -> bool:
        """Tell whether it sees a whole cluster of so many nodes."""
        told = self.command("CLUSTER INFO")
        return bool(told["cluster_state"] == "ok" and told["cluster_known_nodes"] == str(nodes))


class Cluster:
    """The three of them; ends its processes with the block, however that ends."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self._stack = ExitStack()

    def __enter__(self) -> Cluster:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lc-cluster-")))
            self._folder = folder
            for port in _free_ports():
                self._add(port, stack)
            self._join()
            self._stack = stack.pop_all()
        return self

    def _add(self, port: int, stack: ExitStack) -> Node:
        node = Node(self._folder / str(len(self.nodes)), port)
        stack.callback(node.kill)
        node.start()
        self.nodes.append(node)
        return node

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End the processes and remove their data."""
        self._stack.close()

    def _join(self) -> None:
        """Make the nodes known to each other, each with its third of the slots."""
        for number, node in enumerate(self.nodes):
            first, after = (SLOTS * n // NODES for n in (number, number + 1))
            node.command("CLUSTER ADDSLOTSRANGE", first, after - 1)
            node.command("CLUSTER SET-CONFIG-EPOCH", number + 1)
        for node in self.nodes[1:]:
            node.command("CLUSTER MEET", "127.0.0.1", self.nodes[0].port)
        self.ready()

    def ready(self) -> None:
        """Wait until every node sees a whole cluster."""
        known = len(self.nodes)
        _until(lambda: all(node.is_ok(known) for node in self.nodes), "the cluster is not whole")

    def add_replica(self, of: int) -> int:
        """Start a fourth node that has what another has; return its number."""
        node, primary = self._add(_free_ports()[0], self._stack), self.nodes[of]
        node.command("CLUSTER MEET", "127.0.0.1", primary.port)
        self.ready()
        node.command("CLUSTER REPLICATE", primary.id)

        def follows() -> bool:
            told = node.command("INFO", "replication")
            return bool(told.get("master_link_status") == "up")

        _until(follows, "the replica does not follow")
        return len(self.nodes) - 1

    @property
    def url(self) -> str:
        """The URL of its first node."""
        return f"redis://{self.nodes[0].address}"

    def node_of(self, key: str) -> int:
        """Return which node has the slot of a key, as the nodes themselves say."""
        slot = key_slot(key.encode())
        for first, last, (_, port, *_), *_ in self._slots():
            if first <= slot <= last:
                return [node.port for node in self.nodes].index(port)
        raise AssertionError(f"nobody has slot {slot}")

    def _slots(self) -> Iterator[Any]:
        """Return the ranges of slots with their nodes, from the first node that answers."""
        for node in self.nodes:
            with redis.Redis(port=node.port) as client:
                client.set_response_callback("CLUSTER SLOTS", lambda raw, **_: raw)
                try:
                    command: Any = client.execute_command
                    return cast(Iterator[Any], iter(command("CLUSTER SLOTS")))
                except redis.ConnectionError:
                    continue
        raise AssertionError("no node answers")

    def kill(self, i: int) -> None:
        """Kill a node."""
        self.nodes[i].kill()

    def restart(self, i: int) -> None:
        """Start a node again that was killed, with its port and data, and wait for all to agree."""
        self.nodes[i].start()
        self.ready()

    def move_away(self, i: int) -> None:
        """Give a node that was killed another port; it is to be started next."""
        self.nodes[i].listen_at(_free_ports()[0])

    def flush(self, i: int) -> None:
        """Have a node forget every key."""
        self.nodes[i].command("FLUSHALL")

    def move(self, key: str, to: int) -> None:
        """Give the slot of a key, without what is in it, to another node."""
        slot, target = key_slot(key.encode()), self.nodes[to]
        source = self.nodes[self.node_of(key)]
        source.clear(slot)
        for node in (target, source, *self.nodes):  # a node that has the slot would refuse it back
            node.command("CLUSTER SETSLOT", slot, "NODE", target.id)

    def migrate(self, key: str, to: int) -> None:
        """Give the slot of a key to another node with all that is in it, at one stroke."""
        slot, target = key_slot(key.encode()), self.nodes[to]
        source = self.nodes[self.node_of(key)]
        source.command("CLUSTER MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", target.id)
        _until(lambda: self.node_of(key) == to, "the slot does not arrive")


def _free_ports() -> list[int]:
    """Return ports that nobody has, nor the second ones that go with them."""
    with ExitStack() as stack:
        ports: list[int] = []
        while len(ports) < NODES:
            one = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            port = one.getsockname()[1]
            if port + BUS_OFFSET > 65_535:
                continue
            try:
                stack.enter_context(socket.create_server(("127.0.0.1", port + BUS_OFFSET)))
            except OSError:
                continue
            ports.append(port)
        return ports


def _until(condition: Callable[[], bool], otherwise: str) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + READY_S
    while not condition():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.01)


def _text(raw: bytes | str) -> str:
    return raw.decode() if isinstance(raw, bytes) else raw
