"""What an error of the database driver means for a buy: not now, or wrong (R5)."""

from __future__ import annotations

import asyncpg
import pytest

from orders.ledger.ledger import transient


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError(),
        TimeoutError(),
        asyncpg.InterfaceError("connection is closed"),
        asyncpg.InternalClientError("cannot switch to state 12; another operation is in progress"),
        asyncpg.ConnectionDoesNotExistError(),
        asyncpg.AdminShutdownError(),
        asyncpg.CannotConnectNowError(),
        asyncpg.DeadlockDetectedError(),
        asyncpg.LockNotAvailableError(),
        asyncpg.QueryCanceledError(),
        asyncpg.TooManyConnectionsError(),
        asyncpg.ReadOnlySQLTransactionError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_not_now(error: Exception) -> None:
    """A server that is away, going, coming or busy leaves the outcome open: the buyer retries."""
    assert transient(error)


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.UniqueViolationError(),
        asyncpg.CheckViolationError(),
        asyncpg.UndefinedFunctionError(),
        asyncpg.DataError("invalid input for query argument $1"),
        ValueError("not a number"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_wrong(error: Exception) -> None:
    """What no retry cures is searched for line by line."""
    assert not transient(error)
