"""Where the files of the tests' servers lie: in memory, where the machine has plenty of it.

Creating one of a thousand databases takes some 300 files, and 0.4 s of the kernel's time on a disk
for 0.03 s in memory. Nothing that is tested hangs on it: a server that is killed finds its files
again in either place, and no test cuts the power. Owns the folder, and the removal of what runs
that were killed have left. Called by `conftest` as it is read.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

import psutil

MEMORY = Path("/dev/shm")  # on Linux, a file system without a disk
#: Of it and of the machine; three workers with what they start have been seen to use 3 GB.
FREE_BYTES_LEAST = 8 * 1024**3
_PREFIX = "lc-tests-"


def settle() -> Path:
    """Have `tempfile` give folders in memory, if nobody chose another place; return the place."""
    if "TMPDIR" not in os.environ and _has_room():
        _sweep()
        folder = MEMORY / f"{_PREFIX}{os.getpid()}"
        folder.mkdir(mode=0o700)
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        # Pytest keeps its own folders after the run: those stay where they were.
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())
        tempfile.tempdir = str(folder)
    return Path(tempfile.gettempdir())


def _has_room() -> bool:
    if not os.access(MEMORY, os.W_OK):
        return False
    free = min(shutil.disk_usage(MEMORY).free, psutil.virtual_memory().available)
    return free >= FREE_BYTES_LEAST


def _sweep() -> None:
    """Remove what runs of ours that were killed have left."""
    for left in MEMORY.glob(f"{_PREFIX}*"):
        pid = int(left.name.removeprefix(_PREFIX))
        if os.access(left, os.W_OK) and not psutil.pid_exists(pid):
            shutil.rmtree(left, ignore_errors=True)
