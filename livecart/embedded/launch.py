"""Becomes the child: ties its life to its parent's, takes an identity, then execs the command.

Owns: what must happen in the new process before the server's own code. It is a script of its own,
run with `python -I -S`, not a function between fork and exec: there, in a process with threads, a
lock held by another thread can hang the child for ever. Must import nothing but the standard
library. Run by `child.spawn`:

    launch.py PARENT_PID DIE_SIGNAL KIND UID GID COMMAND [ARGUMENT ...]
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h
CLONE_NEWUSER = 0x10000000  # linux/sched.h
NAMESPACE_ID = 65534  # the uid and gid that root bears inside the namespace

EXIT_IDENTITY = 125
EXIT_EXEC = 126


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _enter_namespace() -> None:
    """Become uid 65534 in a namespace of our own, while files still see the old user."""
    uid, gid = os.geteuid(), os.getegid()
    if _libc().unshare(CLONE_NEWUSER) != 0:
        raise OSError(ctypes.get_errno(), "this system forbids user namespaces")
    for name, text in (
        ("setgroups", "deny"),  # the kernel wants this before an own gid_map
        ("uid_map", f"{NAMESPACE_ID} {uid} 1"),
        ("gid_map", f"{NAMESPACE_ID} {gid} 1"),
    ):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def _take_identity(kind: str, uid: int, gid: int) -> None:
    if kind == "namespace":
        _enter_namespace()
    elif kind == "user":
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)


def _die_with_parent(parent_pid: int, die_signal: int) -> None:
    """Ask for `die_signal` when the parent ends; without prctl (macOS) there is no such thing."""
    if sys.platform != "linux":
        return
    # After the change of identity: the kernel forgets this setting when credentials change.
    if _libc().prctl(PR_SET_PDEATHSIG, die_signal, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent_pid:
        sys.exit(0)  # the parent ended before we could ask


def main(arguments: list[str]) -> int:
    """Do the above in order; returns only when the command could not be run."""
    parent_pid, die_signal, kind, uid, gid, *command = arguments
    try:
        _take_identity(kind, int(uid), int(gid))
        _die_with_parent(int(parent_pid), int(die_signal))
    except OSError as error:
        sys.stderr.write(f"cannot become '{kind}': {error}\n")
        return EXIT_IDENTITY
    # A background job of a shell inherits an ignored SIGINT; the child must be stoppable.
    signal.pthread_sigmask(signal.SIG_SETMASK, set())
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execv(command[0], command)
    except OSError as error:
        sys.stderr.write(f"cannot run {command[0]}: {error}\n")
    return EXIT_EXEC


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
