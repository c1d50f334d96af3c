"""The servers that `bench_hub` measures: each started on the server's processor, and how to speak.

Owns their processes and ends those alone. A `Subject` is all that a measurement knows of one:
the bytes that a viewer and a speaker send, and the marks of what comes back. A peer that is absent
is told by `Absent`, whose message is a word for the table.
"""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from websockets.frames import Opcode

from loadtest.frames import DIALECTS, handshake, masked
from loadtest.server import cpu_by_part, cpu_s, spawned
from loadtest.web import Api, make_token
from streams.codec import encode
from streams.protocol import Chatted, Message

ROOT = Path(__file__).parents[2]
START_TIMEOUT_S = 15.0
STOP_TIMEOUT_S = 10.0
EVENT_BYTES = 200
PRODUCT = {"title": "限量茶具組", "price_minor": 1999, "currency": "TWD", "sku": "HUB-BENCH"}
CHATTER = "chatter"
#: Out of the way: they would answer `rate_limited`, and what they cost is there all the same.
BOUNDS = {
    f"LIVECART_{of}_{bound}": "1000000"
    for of in ("CHAT", "HOST", "CONNECTS")
    for bound in ("PER_S", "BURST")
} | {"LIVECART_HEARTBEAT_MS": "300000"}  # a crowd that is not measured just now answers no ping
NGINX = """
load_module {module};
daemon off; worker_processes 1; worker_rlimit_nofile {files}; user {user};
error_log {folder}/error.log; pid {folder}/nginx.pid;
events {{ worker_connections {files}; }}
http {{
  access_log off; tcp_nodelay on;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  nchan_shared_memory_size 256M;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location = /sub {{
      nchan_subscriber websocket; nchan_channel_id room; nchan_subscriber_first_message newest;
      nchan_subscriber_timeout 0;
    }}
    location = /pub {{
      nchan_publisher websocket; nchan_channel_id room;
      nchan_message_buffer_length 200; nchan_message_timeout 60s;
    }}
  }}
}}
"""

_DIALECT = DIALECTS["msgpack"]


class Absent(Exception):
    """A peer that is not here, and why."""


@dataclass(slots=True, frozen=True)
class Subject:
    """A server under measurement."""

    name: str
    port: int
    pid: int  # of the process that holds the sockets
    cpu_s: Callable[[], float]  # of all its processes
    request: bytes  # a viewer's handshake
    event: Callable[[int], bytes]  # the n-th thing that is said, as a whole client frame
    mark: bytes  # of it, as viewers get it
    hello: bytes = b""
    welcome: bytes = b""
    speaker: tuple[bytes, bytes] = (b"", b"")  # who says events: handshake and hello
    pin: Callable[[int], bytes] | None = None
    pin_mark: bytes = b""
    host: tuple[bytes, bytes] = (b"", b"")  # who pins
    ping: bytes = b""
    pong: bytes = b""
    spins: bool = False  # has its processor busy all the time
    secret: str = field(default="", repr=False)  # of livecart: tokens are made with it
    stream: str = ""
    product: str = ""
    api: Api | None = None

    def rss_bytes(self) -> int:
        """Return the memory of the process that holds the sockets."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise RuntimeError(f"{self.name} has ended")


# --- processors ----------------------------------------------------------------------------------


def shares() -> tuple[set[int], set[int]]:
    """Return the processors of the server and of the crowd: one each, where there are two."""
    here = sorted(os.sched_getaffinity(0))
    return ({here[0]}, {here[1]}) if len(here) > 1 else (set(here), set(here))


@contextmanager
def placed(processors: set[int]) -> Iterator[None]:
    """Have what is started meanwhile run there."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, processors)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


# --- livecart ------------------------------------------------------------------------------------


def command(kind: str, n: int, **fields: Any) -> bytes:
    """One command of protocol v1 as a client frame."""
    return masked(_DIALECT.opcode, _DIALECT.encode({"type": kind, "id": n, **fields}))


def mark_of(kind: str) -> bytes:
    """Return what tells a message of this type in MessagePack."""
    return b"\xa4type" + bytes([0xA0 | len(kind)]) + kind.encode()


def text_of(size: int) -> str:
    """Return the text that makes a chat event so many bytes, once its number has three."""
    message = Message(id="msg_" + "x" * 16, user=CHATTER, name=CHATTER, text="", at=1 << 40)
    spent = len(encode(Chatted(at=1 << 40, cseq=300, message=message), True))
    # A text of more than 31 bytes has its length in two bytes more than an empty one… or one.
    return "x" * max(1, size - spent - 1)


@asynccontextmanager
async def livecart() -> AsyncIterator[Subject]:
    """All of `livecart up` with one worker, on the server's processor: the log's Redis as well."""
    async with spawned() as target:
        api = Api(target.http, target.host_token)
        stream = (await api.call("POST", "/v1/streams", {"title": "Bench"}))["id"]
        await api.call("POST", f"/v1/streams/{stream}/start")
        product = (await api.call("POST", "/v1/products", PRODUCT))["id"]
        shake = handshake(f"{target.http}/v1/streams/{stream}/ws", _DIALECT)
        text, pids = text_of(EVENT_BYTES), target.pids
        assert pids is not None
        token = make_token(target.secret, CHATTER, "viewer", name=CHATTER)
        yield Subject(
            "livecart",
            shake.port,
            pids.workers[0],
            lambda: sum(cpu_by_part(pids).values()),
            shake.request,
            lambda n: command("chat", n, text=text, key=f"key-{n:08d}"),
            mark_of("chat"),
            hello=command("hello", 0),
            welcome=mark_of("welcome"),
            speaker=(shake.request, command("hello", 0, token=token)),
            pin=lambda n: command("pin", n, product=product),
            pin_mark=mark_of("pinned"),
            host=(shake.request, command("hello", 0, token=target.host_token)),
            ping=command("ping", 1, t0=1),
            pong=mark_of("pong"),
            secret=target.secret,
            stream=stream,
            product=product,
            api=api,
        )


# --- peers ---------------------------------------------------------------------------------------


@asynccontextmanager
async def _process(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
            except TimeoutError:
                process.kill()
                await process.wait()


async def _first_line(process: asyncio.subprocess.Process) -> str:
    """Return what a server says when it serves; raise `Absent` with what it says instead."""
    assert process.stdout is not None
    assert process.stderr is not None
    async with asyncio.timeout(START_TIMEOUT_S):
        if line := (await process.stdout.readline()).decode().strip():
            return line
        said = (await process.stderr.read()).decode().strip().splitlines()
    raise Absent(said[-1][:120] if said else "it ended without a word")


def free_port() -> int:
    """Return a port that nobody listens on; for servers that cannot choose one."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
    return port


@asynccontextmanager
async def starlette() -> AsyncIterator[Subject]:
    """Plain Starlette on uvicorn; speaks as much of protocol v1 as is needed here."""
    async with _process(sys.executable, "-m", "loadtest.peers.plain_starlette") as process:
        shake = handshake(f"{await _first_line(process)}/v1/streams/st_1/ws", _DIALECT)
        empty = _DIALECT.encode({"type": "chat", "at": 1 << 40, "text": ""})
        text, pid = "x" * (EVENT_BYTES - len(empty) - 1), process.pid
        hello = command("hello", 0)
        yield Subject(
            "plain Starlette",
            shake.port,
            pid,
            lambda: cpu_s(pid),
            shake.request,
            lambda n: command("chat", n, text=text),
            mark_of("chat"),
            hello=hello,
            welcome=mark_of("welcome"),
            speaker=(shake.request, hello),
            pin=lambda n: command("pin", n),
            pin_mark=mark_of("pinned"),
            host=(shake.request, hello),
            ping=command("ping", 1, t0=1),
            pong=mark_of("pong"),
        )


def _upgrade(port: int, path: str) -> bytes:
    return (
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Key: bGl2ZWNhcnQgYmVuY2ghIQ==\r\n"
        "Sec-WebSocket-Version: 13\r\n\r\n"
    ).encode()


def _plain(kind: str, size: int) -> Callable[[int], bytes]:
    """Return what makes frames of so many bytes that a server passes on as they are."""
    spent = len(json.dumps({"type": kind, "n": "00000000", "text": ""}))

    def frame(n: int) -> bytes:
        message = {"type": kind, "n": f"{n:08d}", "text": "x" * (size - spent)}
        return masked(Opcode.TEXT, json.dumps(message).encode())

    return frame


#: A pin of livecart's, as it is sent for PRODUCT.
PIN_BYTES = 240


def _passes_on(
    name: str, port: int, pid: int, paths: tuple[str, str], tree: int, spins: bool = False
) -> Subject:
    listen, say = (_upgrade(port, path) for path in paths)
    return Subject(
        name,
        port,
        pid,
        lambda: cpu_s(tree),
        listen,
        _plain("chat", EVENT_BYTES),
        b'"type": "chat"',
        speaker=(say, b""),
        pin=_plain("pinned", PIN_BYTES),
        pin_mark=b'"type": "pinned"',
        host=(say, b""),
        spins=spins,
    )


@asynccontextmanager
async def uwebsockets(python: str) -> AsyncIterator[Subject]:
    """The C++ server, published to by way of a Python that has socketify."""
    if shutil.which(python) is None:
        raise Absent(f"no interpreter {python}")
    script, port = Path(__file__).with_name("uwebsockets.py"), free_port()
    async with _process(python, str(script), str(port)) as process:
        await _first_line(process)
        yield _passes_on("uWebSockets", port, process.pid, ("/", "/"), process.pid, True)


def nchan_module(nginx: str) -> Path:
    """Return where the module is; raise `Absent`."""
    told = subprocess.run([nginx, "-V"], capture_output=True, text=True, timeout=10, check=False)
    folder = told.stderr.partition("--modules-path=")[2].split()
    module = Path(folder[0] if folder else "/usr/lib/nginx/modules") / "ngx_nchan_module.so"
    if not module.exists():
        raise Absent("nginx has no nchan module (Debian: libnginx-mod-nchan)")
    return module


@asynccontextmanager
async def nchan(files: int) -> AsyncIterator[Subject]:
    """One nginx worker with nchan, published to over a WebSocket as livecart is."""
    nginx = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if nginx is None:
        raise Absent("no nginx (Debian: nginx-light, libnginx-mod-nchan)")
    module, port = nchan_module(nginx), free_port()
    with tempfile.TemporaryDirectory(prefix="lc-nginx-") as folder:
        user = pwd.getpwuid(os.geteuid()).pw_name
        conf = Path(folder) / "nginx.conf"
        values = {"module": module, "files": files, "user": user, "folder": folder, "port": port}
        conf.write_text(NGINX.format(**values))
        arguments = (nginx, "-c", str(conf), "-p", folder, "-e", f"{folder}/error.log")
        async with _process(*arguments) as process:
            await _listening(process, port, Path(folder) / "error.log")
            worker = _child(process.pid)
            yield _passes_on("nchan", port, worker, ("/sub", "/pub"), process.pid)


async def _listening(process: asyncio.subprocess.Process, port: int, log: Path) -> None:
    """Wait until the port is listened on and a worker is there."""
    for _ in range(int(START_TIMEOUT_S / 0.05)):
        if process.returncode is not None:
            raise Absent(_last_line(log) or "nginx ended")
        try:
            socket.create_connection(("127.0.0.1", port), 1.0).close()
        except OSError:
            await asyncio.sleep(0.05)
            continue
        if _child(process.pid):
            return
    raise Absent("nginx did not begin to listen")


def _last_line(log: Path) -> str:
    lines = log.read_text().strip().splitlines() if log.exists() else []
    return lines[-1][:120] if lines else ""


def _child(pid: int) -> int:
    """Return the first child of a process; 0: none."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(children[0]) if children else 0
