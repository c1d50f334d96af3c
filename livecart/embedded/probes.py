"""Asks a server over its unix socket whether it answers.

Owns: one PING and one PostgreSQL start-up exchange, written out here so that readiness needs
neither a client library nor an event loop. Called by `valkey` and `postgres`.
"""

from __future__ import annotations

import socket
import struct
from pathlib import Path

_PROTOCOL_3 = 196608
_TOO_MANY_CONNECTIONS = b"53300"


def redis_answers(path: Path, *, timeout_s: float = 0.5) -> bool:
    """True if the server at `path` answers PING with PONG: it listens and has loaded its data."""
    try:
        with _connect(path, timeout_s) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith(b"+PONG")
    except OSError:
        return False


def postgres_answers(path: Path, user: str, database: str, *, timeout_s: float = 0.5) -> bool:
    """True if the server at `path` lets `user` into `database`, or is full: it then serves."""
    pairs = {"user": user, "database": database, "application_name": "livecart-ready"}
    fields = b"".join(f"{key}\0{value}\0".encode() for key, value in pairs.items()) + b"\0"
    try:
        with _connect(path, timeout_s) as connection:
            connection.sendall(struct.pack("!ii", len(fields) + 8, _PROTOCOL_3) + fields)
            return _admitted(connection)
    except OSError:
        return False


def _connect(path: Path, timeout_s: float) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(timeout_s)
    try:
        connection.connect(str(path))
    except OSError:
        connection.close()
        raise
    return connection


def _admitted(connection: socket.socket) -> bool:
    with connection.makefile("rb") as reader:
        while header := reader.read(5):
            if len(header) < 5:
                return False
            kind, length = struct.unpack("!ci", header)
            body = reader.read(length - 4)
            if kind == b"Z":  # ReadyForQuery
                connection.sendall(b"X\0\0\0\4")  # Terminate
                return True
            if kind == b"E":  # ErrorResponse: fields of one letter and a text each
                return b"C" + _TOO_MANY_CONNECTIONS in body.split(b"\0")
    return False
