"""Finds, starts and supervises the bundled Valkey and PostgreSQL.

Owns: processes, their data folder and their life. Knows nothing of HTTP, selling or any table.
Called by `livecart.cli` and by the fixtures of the tests; the names below are its public face.
"""

from __future__ import annotations

from livecart.embedded.child import spawn
from livecart.embedded.errors import EmbeddedError
from livecart.embedded.folder import DataFolder
from livecart.embedded.servers import EmbeddedServers, Running, running
from livecart.embedded.supervisor import Supervisor

__all__ = [
    "DataFolder",
    "EmbeddedError",
    "EmbeddedServers",
    "Running",
    "Supervisor",
    "running",
    "spawn",
]
