"""The faults of the embedded servers.

Owns: the error tree below, each message one that a user can act on. Knows nothing of how
servers are run. Raised by every module of this package; shown as they are by the CLI.

    EmbeddedError
    ├── BinaryMissing      no server binary was found on this machine
    ├── FolderRefused      the data folder cannot be used by this user or this program
    │   ├── FolderInUse    another process holds it
    │   └── VersionDiffers it was made by another major version of PostgreSQL
    └── StartFailed        a child did not come up
"""

from __future__ import annotations


class EmbeddedError(Exception):
    """A fault of the embedded servers; its text is meant for the user."""


class BinaryMissing(EmbeddedError):
    """No usable server binary was found."""


class FolderRefused(EmbeddedError):
    """The data folder cannot be used as it is."""


class FolderInUse(FolderRefused):
    """Another process holds the data folder."""


class VersionDiffers(FolderRefused):
    """The data folder was made by another major version of PostgreSQL."""


class StartFailed(EmbeddedError):
    """A child process ended, or stayed silent, before it was ready."""
