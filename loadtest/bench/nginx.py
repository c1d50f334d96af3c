"""nchan as the measurements know it: an nginx of our own with that module.

Owns its configuration and its scratch folder. Called by the stations.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from loadtest.bench.processes import START_TIMEOUT_S, free_port, process
from loadtest.bench.rivals import passes_on
from loadtest.bench.subject import Absent, Subject

GET = "Debian, Ubuntu: apt install nginx-light libnginx-mod-nchan"

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


def nchan_module(nginx: str) -> Path:
    """Return where the module is; raise `Absent`."""
    told = subprocess.run([nginx, "-V"], capture_output=True, text=True, timeout=10, check=False)
    folder = told.stderr.partition("--modules-path=")[2].split()
    module = Path(folder[0] if folder else "/usr/lib/nginx/modules") / "ngx_nchan_module.so"
    if not module.exists():
        raise Absent(f"nginx has no nchan module; {GET}")
    return module


@asynccontextmanager
async def nchan(files: int) -> AsyncIterator[Subject]:
    """One nginx worker with nchan, published to over a WebSocket as livecart is."""
    nginx = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if nginx is None:
        raise Absent(f"no nginx; {GET}")
    module, port = nchan_module(nginx), free_port()
    with tempfile.TemporaryDirectory(prefix="lc-nginx-") as folder:
        user = pwd.getpwuid(os.geteuid()).pw_name
        conf = Path(folder) / "nginx.conf"
        values = {"module": module, "files": files, "user": user, "folder": folder, "port": port}
        conf.write_text(NGINX.format(**values))
        arguments = (nginx, "-c", str(conf), "-p", folder, "-e", f"{folder}/error.log")
        async with process(*arguments) as running:
            await _listening(running, port, Path(folder) / "error.log")
            worker = _child(running.pid)
            subject = passes_on("nchan", port, worker, ("/sub", "/pub"), running.pid)
            subject.versions.update(_versions(nginx))
            yield subject


async def _listening(running: asyncio.subprocess.Process, port: int, log: Path) -> None:
    """Wait until the port is listened on and a worker is there."""
    for _ in range(int(START_TIMEOUT_S / 0.05)):
        if running.returncode is not None:
            raise Absent(_last_line(log) or "nginx ended")
        try:
            socket.create_connection(("127.0.0.1", port), 1.0).close()
        except OSError:
            await asyncio.sleep(0.05)
            continue
        if _child(running.pid):
            return
    raise Absent("nginx did not begin to listen")


def _last_line(log: Path) -> str:
    lines = log.read_text().strip().splitlines() if log.exists() else []
    return lines[-1][:120] if lines else ""


def _child(pid: int) -> int:
    """Return the first child of a process; 0: none."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(children[0]) if children else 0


def _versions(nginx: str) -> dict[str, str]:
    """Return nginx' version; the module tells its own to nobody but the package manager."""
    told = subprocess.run([nginx, "-v"], capture_output=True, text=True, timeout=10, check=False)
    found = {"nginx": told.stderr.rpartition("/")[2].strip()}
    if (dpkg := shutil.which("dpkg-query")) is not None:
        asked = [dpkg, "-W", "-f", "${Version}", "libnginx-mod-nchan"]
        told = subprocess.run(asked, capture_output=True, text=True, timeout=10, check=False)
        if told.returncode == 0:
            found["nchan"] = told.stdout.strip()
    return found
