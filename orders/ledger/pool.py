"""The pool of Postgres connections, with the settings that the rules ask for.

Called by `livecart` once a process, and by tests.
"""

from __future__ import annotations

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


async def _bound_transactions(connection: Base) -> None:
    """Bound whole transactions where the server can (R3)."""
    if connection.get_server_version().major >= 17:
        await connection.execute("set transaction_timeout = '30s'")


async def open_pool(
    url: str, connections_max: int = 8, lock_timeout_ms: int = 600
) -> asyncpg.Pool[asyncpg.Record]:
    """Open a pool, its first connection made; raises what asyncpg raises.

    Waiting for a lock and an idle transaction are bounded on the server, so that a stopped client
    holds nobody up (R3).
    """
    return await asyncpg.create_pool(
        url,
        min_size=1,
        max_size=connections_max,
        connection_class=_Connection,
        init=_bound_transactions,
        max_inactive_connection_lifetime=60,
        timeout=2,
        server_settings={
            "application_name": "livecart",
            "lock_timeout": str(lock_timeout_ms),
            "idle_in_transaction_session_timeout": "5000",
            "statement_timeout": "30000",
            "timezone": "UTC",
            "jit": "off",
        },
    )
