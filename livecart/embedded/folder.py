"""The data folder: whose it is, who holds it now, and where its sockets go.

    <data>/livecart.lock   held with flock by us and by every server we start
    <data>/postgres/       PostgreSQL's own (made by `postgres`)
    <data>/redis/          Valkey's own (made by `valkey`)
    <data>/logs/           output of every child
    <data>/run/            sockets; or, where that path is too long for a socket:
    <data>/runtime_folder  the name of the short folder used in its place

Owns: the first and the last two lines. Knows nothing of the servers. Called by `servers`.
"""

from __future__ import annotations

import fcntl
import os
import re
import stat
import tempfile
import time
from pathlib import Path

from livecart.embedded import processes
from livecart.embedded.child import SELF, Identity
from livecart.embedded.errors import FolderInUse, FolderRefused

LOCK_NAME = "livecart.lock"
LOCK_WAIT_S = 10.0

# sun_path holds 108 bytes on Linux and 104 on macOS, with the closing zero.
SOCKET_PATH_BYTES_MAX = 103
_LONGEST_SOCKET_NAME = ".s.PGSQL.5432"
# Beyond these a path means something in a URL or in unix_socket_directories (a list with commas).
_PLAIN_PATH = re.compile(r"[A-Za-z0-9/._+-]+")
_POLL_S = 0.05


class DataFolder:
    """A data folder that this process holds until `close`."""

    def __init__(self, path: Path, lock_fd: int) -> None:
        self.path = path
        self.lock_fd = lock_fd
        """Give it to every server (`pass_fds`), so that the lock lasts as long as they do."""

    @classmethod
    def open(cls, path: Path, *, wait_s: float = LOCK_WAIT_S) -> DataFolder:
        """Create `path` (mode 700) if it is absent and take its lock.

        When the last holder is dead but its servers are still ending, waits for them up to
        `wait_s`. Raises FolderInUse, saying who holds it, or FolderRefused.
        """
        path = path.expanduser().absolute()
        try:
            _make_private(path)
            path = path.resolve()
            lock_fd = _open_lock(path)
        except OSError as error:
            raise FolderRefused(f"{path} cannot be used: {error}") from error
        try:
            _take_lock(lock_fd, path, time.monotonic() + wait_s)
        except BaseException:
            os.close(lock_fd)
            raise
        return cls(path, lock_fd)

    def close(self) -> None:
        """Give up our hold; servers that still run keep theirs. May be called twice."""
        if self.lock_fd >= 0:
            os.close(self.lock_fd)
            self.lock_fd = -1

    def own(self, name: str, identity: Identity = SELF) -> Path:
        """Return the private sub-folder `name`, created for `identity` if it is absent."""
        folder = self.path / name
        folder.mkdir(mode=0o700, exist_ok=True)
        give(folder, identity)
        return folder

    def runtime_folder(self, identity: Identity = SELF) -> Path:
        """Return the private folder for sockets: the same one at every start.

        It is `<data>/run` if a socket's path then fits, else a short one in the system's folder
        for temporary files, whose name is written down in `<data>/runtime_folder`.
        """
        if fits_socket(self.path / "run"):
            return self.own("run", identity)
        note = self.path / "runtime_folder"
        try:
            folder = Path(note.read_text().strip())
        except FileNotFoundError:
            folder = None
        if folder is None or not self._is_ours(folder, identity):
            folder = _short_folder()
            (folder / "of").write_text(self._mark())
            note.write_text(f"{folder}\n")
        give(folder, identity)
        return folder

    def _mark(self) -> str:
        """Return what tells this folder from a copy of it, which must not share its sockets."""
        at = self.path.stat()
        return f"{at.st_dev}:{at.st_ino}\n"

    def _is_ours(self, folder: Path, identity: Identity) -> bool:
        """True if `folder` is a real, private one of ours: others too may write where it lies."""
        owners = {os.geteuid(), identity.uid}
        try:
            at = folder.lstat()
            private = stat.S_ISDIR(at.st_mode) and stat.S_IMODE(at.st_mode) == 0o700
            return private and at.st_uid in owners and (folder / "of").read_text() == self._mark()
        except OSError:
            return False


def fits_socket(folder: Path) -> bool:
    """True if every socket in `folder` has a path that is short and plain enough."""
    longest = os.fsencode(folder / _LONGEST_SOCKET_NAME)
    plain = _PLAIN_PATH.fullmatch(str(folder)) is not None
    return plain and len(longest) <= SOCKET_PATH_BYTES_MAX


def give(folder: Path, identity: Identity) -> None:
    """Make `folder` belong to `identity`, if that is another user than we are."""
    if identity.kind == "user" and folder.stat().st_uid != identity.uid:
        os.chown(folder, identity.uid, identity.gid)


def _short_folder() -> Path:
    for parent in (tempfile.gettempdir(), "/tmp"):
        if fits_socket(Path(parent) / "livecart-12345678"):
            return Path(tempfile.mkdtemp(prefix="livecart-", dir=parent))
    raise FolderRefused("no folder with a path short enough for a socket: set TMPDIR to one")


def _make_private(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        _check_existing(path)


def _check_existing(path: Path) -> None:
    if not path.is_dir():
        raise FolderRefused(f"{path} is not a folder: give another --data-dir")
    at = path.stat()
    if os.geteuid() not in (0, at.st_uid):
        raise FolderRefused(
            f"{path} belongs to user {at.st_uid} and you are {os.geteuid()}: "
            "give another --data-dir"
        )
    known = (path / LOCK_NAME).exists()
    # A mistyped --data-dir must not get its mode, and as root its owner, changed.
    if not known and any(entry.name != "lost+found" for entry in path.iterdir()):
        raise FolderRefused(
            f"{path} is not empty and livecart did not make it: give an empty or a new --data-dir"
        )
    if stat.S_IMODE(at.st_mode) != 0o700:
        path.chmod(0o700)


def _open_lock(folder: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
    lock_fd = os.open(folder / LOCK_NAME, flags, 0o600)
    if os.geteuid() == 0:  # the folder's owner must be able to come back without root
        at = folder.stat()
        os.fchown(lock_fd, at.st_uid, at.st_gid)
    return lock_fd


def _take_lock(lock_fd: int, path: Path, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _wait_for_holder(lock_fd, path, deadline)
        else:
            os.ftruncate(lock_fd, 0)
            os.pwrite(lock_fd, f"{os.getpid()}\n".encode(), 0)
            return


def _wait_for_holder(lock_fd: int, path: Path, deadline: float) -> None:
    """Wait a moment if only leftovers hold the lock; raise FolderInUse if it is no use."""
    file = os.fstat(lock_fd)
    recorded = os.pread(lock_fd, 32, 0).strip()
    first = processes.look(int(recorded)) if recorded.isdigit() else None
    if first is not None and (first.pid == os.getpid() or _may_hold(first.pid, file)):
        raise FolderInUse(
            f"{path} is in use by {first}: stop it (kill -INT {first.pid}) "
            "or give another --data-dir"
        )
    left_s = deadline - time.monotonic()
    if left_s <= 0:
        who = ", ".join(str(holder) for holder in processes.holders(file)) or "an unknown process"
        raise FolderInUse(
            f"{path} is still held by what another run left: {who}; end it or give another "
            "--data-dir"
        )
    if first is None:  # backends without their postmaster may not notice for long
        processes.end_orphans(path / "postgres", file)
    time.sleep(_POLL_S)


def _may_hold(pid: int, file: os.stat_result) -> bool:
    """True if `pid` holds the lock, or if we cannot see what it holds."""
    try:
        os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return True
    return processes.holds(pid, file)
