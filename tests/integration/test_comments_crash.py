"""A server that is killed with a comment in its hands: it is ordered once all the same."""

from __future__ import annotations

import asyncio
import http.client
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from orders.comments.comment import key_of
from tests.integration.up_rig import Up, wait_until


@pytest.fixture
def up() -> Iterator[tuple[Up, Path]]:
    """A whole server with the demo's stream, and the folder in which shots are laid for it."""
    with tempfile.TemporaryDirectory(prefix="lc-") as folder:
        shots = Path(folder) / "shots"
        shots.mkdir()
        variables = {"LIVECART_TESTING": "yes", "LIVECART_FAILPOINTS": str(shots)}
        up = Up(Path(folder) / "data", "--workers", "1", variables=variables)
        try:
            yield up, shots
        finally:
            assert up.stop() == 0


def test_a_killed_server_loses_no_comment(up: tuple[Up, Path]) -> None:
    """Killed when it was kept, and when its viewer was told: one order, noted after the restart."""
    server, shots = up
    path = f"/v1/streams/{server.ready['demo_stream']}/comments"

    def take(comment: str) -> dict[str, Any]:
        line = {"platform": "line", "id": comment, "user": comment, "text": "烏龍+1"}
        status, answer = server.call(
            "POST", path, {"comments": [line]}, token=server.ready["host_token"]
        )
        assert status == 200, answer
        found: dict[str, Any] = answer["comments"][0]
        return found

    def noted(comment: str) -> bool:
        rows = asyncio.run(
            fetch(server, "update comments set due_at = clock_timestamp() where comment = $1"
                          " returning state", comment)
        )  # fmt: skip
        return [row[0] for row in rows] == ["done"]

    for point in ("recorded", "told"):
        (shots / f"comment.{point}=kill").touch()
        with pytest.raises((OSError, http.client.HTTPException)):
            take(point)
        assert not list(shots.iterdir())
        wait_until(server.answers)
        wait_until(lambda comment=point: noted(comment))  # type: ignore[misc]
        again = take(point)
        assert again["outcome"] == "done"
        orders = asyncio.run(
            fetch(server, "select id from orders where key = $1", key_of("line", point))
        )
        assert [row[0] for row in orders] == [again["lines"][0]["order"]["id"]]


async def fetch(server: Up, sql: str, *args: object) -> list[asyncpg.Record]:
    connection: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(
        server.ready["database_url"]
    )
    try:
        return await connection.fetch(sql, *args)
    finally:
        await connection.close()
