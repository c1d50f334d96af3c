"""The pool of Postgres connections, with the settings that the rules ask for.

Called by `livecart` once a process, and by tests.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import asyncpg

if TYPE_CHECKING:
    Base = asyncpg.Connection[asyncpg.Record]
else:
    Base = asyncpg.Connection


class _Connection(Base):
    """A connection that is not reset between uses: this project leaves nothing behind on one."""

    def get_reset_query(self) -> str:
        return ""


async def _settle_session(connection: Base) -> None:
    """Bound whole transactions where the server can (R3), and have every COMMIT be durable (I2).

    A server that is told to acknowledge before the disk does is overruled; one that waits for a
    standby too is left as it is.
    """
    if connection.get_server_version().major >= 17:
        await connection.execute("set transaction_timeout = '30s'")
    await connection.execute(
        "select set_config('synchronous_commit', 'on', false)"
        " where current_setting('synchronous_commit') = 'off'"
    )


async def _end_with_client(connection: Base) -> None:
    """Have the server end a statement whose caller closed the connection, where it can tell."""
    # Not every platform can, and no server before 14 knows the setting.
    unable = (asyncpg.InvalidParameterValueError, asyncpg.UndefinedObjectError)
    with contextlib.suppress(*unable):
        await connection.execute("set client_connection_check_interval = '500ms'")


async def _settle_readers(connection: Base) -> None:
    await _settle_session(connection)
    await _end_with_client(connection)


async def unsafe_settings(pool: asyncpg.Pool[asyncpg.Record]) -> list[str]:
    """Return the server's settings under which an acknowledged order may vanish, as `name = value`.

    These are the server's own: no session can overrule them.
    """
    rows = await pool.fetch(
        "select name || ' = ' || setting from pg_settings"
        " where name in ('fsync', 'full_page_writes') and setting <> 'on' order by name"
    )
    return [row[0] for row in rows]


async def open_pool(
    url: str,
    connections_max: int = 8,
    lock_timeout_ms: int = 600,
    ends_abandoned: bool = False,
) -> asyncpg.Pool[asyncpg.Record]:
    """Open a pool, its first connection made; raises what asyncpg raises.

    Waiting for a lock and an idle transaction are bounded on the server, so that a stopped client
    holds nobody up (R3). `ends_abandoned`: a statement whose caller gave up is not computed to its
    end; else new ones come beside those that nobody waits for any more.
    """
    return await asyncpg.create_pool(
        url,
        min_size=1,
        max_size=connections_max,
        connection_class=_Connection,
        init=_settle_readers if ends_abandoned else _settle_session,
        max_inactive_connection_lifetime=60,
        timeout=2,
        server_settings={
            "application_name": "livecart",
            "lock_timeout": str(lock_timeout_ms),
            "idle_in_transaction_session_timeout": "5000",
            "statement_timeout": "30000",
            "timezone": "UTC",
            # Another would make an admission that waited for its lock fail each time (R3).
            "default_transaction_isolation": "read committed",
            "jit": "off",
        },
    )
