"""Fixtures of the browser tests: one Chromium and one server a session, people for each test.

All of it lives on one event loop of the session, since a browser belongs to the loop that it was
started on. Without a browser these tests are not run, and fail where CI=true; the line at the end
of the run is written by `tests/conftest.py`.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio
from playwright.async_api import Browser

from livecart.embedded import Running
from tests.browser.browser_rig import AXE, HOW, People, chromium, find_chromium
from tests.browser.server_rig import Server
from tests.conftest import database_url_of

DATABASE = "browsed"
REDIS_NUMBER = 0  # the tests' own are 1 to 15


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    """One browser; contexts of it share nothing."""
    missing = "no Chromium" if find_chromium() is None else "no axe-core" * (not AXE.exists())
    if missing:
        told = f"{missing}: {HOW}"
        if os.environ.get("CI") == "true":
            pytest.fail(told)
        pytest.skip(told)
    async with chromium() as browser:
        yield browser


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def running_server(
    browser: Browser, servers: Running, template: str
) -> AsyncIterator[Server]:
    """One server process for all of these tests, each of which has a shop of its own."""
    folder = Path(tempfile.mkdtemp(prefix="lc-browsed-"))
    admin: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(servers.database_url)
    try:
        await admin.execute(f"create database {DATABASE} template {template}")
        database_url = database_url_of(servers.database_url, DATABASE)
        server = Server(f"{servers.redis_url}?db={REDIS_NUMBER}", database_url, folder)
        try:
            await server.start()
            yield server
        finally:
            await server.stop()
        await admin.execute(f"drop database {DATABASE} with (force)")
    finally:
        await admin.close()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def server(running_server: Server) -> Server:
    """The server, with a fresh shop."""
    running_server.new_shop()
    return running_server


@pytest_asyncio.fixture(loop_scope="session")
async def people(browser: Browser) -> AsyncIterator[People]:
    """People for one test; what their pages complained of fails it at its end."""
    people = People(browser)
    yield people
    assert await people.leave() == []
