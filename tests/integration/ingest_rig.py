"""nginx with its RTMP module, and ffmpeg that publishes to it: for real, on ports of their own.

The configuration is that of `docs/nginx-rtmp.conf`, with other ports and folders. Used by the tests
of ingest; what is not installed is said by `lacking`.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
END_S = 10.0
_MODULE = "ngx_rtmp_module.so"
_FOLDERS = ("/usr/lib/nginx/modules", "/usr/lib64/nginx/modules", "/usr/share/nginx/modules")


def module() -> Path | None:
    """Return where nginx' RTMP module is."""
    found = (Path(folder) / _MODULE for folder in _FOLDERS)
    return next((path for path in found if path.exists()), None)


def program(name: str) -> str | None:
    """Return the path of a program; nginx is where only root looks."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def lacking() -> list[str]:
    """Return what has to be installed first, as Debian calls it."""
    found = {
        "nginx": program("nginx"), "libnginx-mod-rtmp": module(), "ffmpeg": program("ffmpeg"),
    }  # fmt: skip
    return [name for name, path in found.items() if path is None]


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
    return port


class Nginx:
    """A running nginx: where to publish, and where the video is."""

    def __init__(self, folder: Path, rtmp_port: int, http_port: int) -> None:
        self.folder = folder
        self.rtmp = f"rtmp://127.0.0.1:{rtmp_port}/live"
        self.http = f"http://127.0.0.1:{http_port}"
        self.rtmp_port = rtmp_port

    @property
    def log(self) -> str:
        """What it wrote so far."""
        return (self.folder / "error.log").read_text()

    def names(self) -> list[str]:
        """What files it has made."""
        return [str(path) for path in self.folder.rglob("*")]


def configuration(livecart: int, rtmp: int, http: int) -> str:
    """Return the documented configuration with these ports."""
    text = (ROOT / "docs" / "nginx-rtmp.conf").read_text()
    changes = {
        "modules/ngx_rtmp_module.so": str(module()),
        "127.0.0.1:8000/": f"127.0.0.1:{livecart}/",
        "127.0.0.1:1935/": f"127.0.0.1:{rtmp}/",
        "listen 1935;": f"listen 127.0.0.1:{rtmp};",
        "listen 8080;": f"listen 127.0.0.1:{http};",
        "exec_push ffmpeg ": f"exec_push {program('ffmpeg')} ",
        "pid nginx.pid;": "pid nginx.pid; daemon off; master_process off;",
    }
    for was, now in changes.items():
        assert was in text, was
        text = text.replace(was, now)
    return text


@contextmanager
def nginx(folder: Path, livecart: int, ports: tuple[int, int]) -> Iterator[Nginx]:
    """Run nginx in a folder of its own until the block ends; `ports`: of RTMP and of HTTP."""
    (folder / "hls").mkdir()
    config = re.sub(r"\bhls/", f"{folder}/hls/", configuration(livecart, *ports))
    config = config.replace("root .;", f"root {folder};").replace(f"/{folder}/hls/", "/hls/")
    (folder / "nginx.conf").write_text(config)
    binary = program("nginx")
    assert binary is not None
    command = [binary, "-p", str(folder), "-c", "nginx.conf", "-e", "error.log"]
    process = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, start_new_session=True)
    try:
        yield Nginx(folder, *ports)
    finally:
        process.terminate()
        try:
            process.communicate(timeout=END_S)
        finally:
            with_children(process)


def with_children(process: subprocess.Popen[bytes]) -> None:
    """End what is left of a process' group: an ffmpeg that nginx did not get to end."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


@contextmanager
def publishing(url: str) -> Iterator[subprocess.Popen[bytes]]:
    """Publish a test picture and a tone, as fast as they would be seen, until the block ends."""
    binary = program("ffmpeg")
    assert binary is not None
    command = [
        binary, "-nostdin", "-loglevel", "error", "-re",
        "-f", "lavfi", "-i", "testsrc=size=320x180:rate=15",
        "-f", "lavfi", "-i", "sine=frequency=440",
        "-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-g", "15",
        "-pix_fmt", "yuv420p", "-c:a", "aac", "-b:a", "64k", "-t", "60", "-f", "flv", url,
    ]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=END_S)
