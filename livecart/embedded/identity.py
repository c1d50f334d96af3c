"""As whom the servers run: Postgres refuses to be root.

Owns: that choice, and its memory, which is the owner of the data folder. As an ordinary user there
is nothing to choose. As root a user namespace comes first (no user, no chown, works below a 0700
home), where it is forbidden `nobody` and a chown. Called by `servers`.
"""

from __future__ import annotations

import os
import pwd
from pathlib import Path

from livecart.embedded import child
from livecart.embedded.child import NAMESPACE, SELF, Identity
from livecart.embedded.errors import FolderRefused


def choose_identity(folder: Path, postgres: Path, *, namespace: bool = True) -> Identity:
    """Return as whom to run `postgres` on the data folder; gives a new one to `nobody` if need be.

    With `namespace=False` the user namespace counts as forbidden, as in many containers.
    """
    if os.geteuid() != 0:
        return SELF
    at = folder.stat()
    if at.st_uid != 0:  # made for `nobody`, or by an ordinary user before root came
        return Identity("user", at.st_uid, at.st_gid)
    if namespace and _can_run(postgres, NAMESPACE):
        return NAMESPACE
    if (folder / "postgres").exists():
        raise FolderRefused(
            f"{folder} was made by root in a user namespace, which this system forbids: "
            f"`chown -R nobody {folder}`, or run livecart as an ordinary user"
        )
    return _give_to_nobody(folder, postgres)


def _give_to_nobody(folder: Path, postgres: Path) -> Identity:
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError as error:
        raise FolderRefused(
            "PostgreSQL refuses to run as root, user namespaces are forbidden here and there is "
            "no user `nobody`: run livecart as an ordinary user"
        ) from error
    nobody = Identity("user", entry.pw_uid, entry.pw_gid)
    for path, what in ((postgres, "run"), (folder.parent, "enter")):
        if not _can_reach(path, nobody, run=what == "run"):
            raise FolderRefused(
                "PostgreSQL refuses to run as root, user namespaces are forbidden here and "
                f"`nobody` cannot {what} {path}: run livecart as an ordinary user, or keep its "
                "environment and data outside private homes"
            )
    for path in (folder, *folder.iterdir()):
        os.chown(path, nobody.uid, nobody.gid)
    return nobody


def _can_reach(path: Path, identity: Identity, *, run: bool) -> bool:
    if run:
        return _can_run(path, identity)
    enter = ["/bin/sh", "-c", 'cd "$1"', "sh", str(path)]
    return child.run_to_end(enter, identity=identity, cwd=Path("/")).returncode == 0


def _can_run(postgres: Path, identity: Identity) -> bool:
    ended = child.run_to_end([postgres, "--version"], identity=identity, cwd=Path("/"))
    return ended.returncode == 0
