"""Fixtures on real servers: one Valkey and one PostgreSQL a session, a fresh database a test.

Every test that needs Redis gets a database number of its own, emptied first; every test that needs
Postgres gets a database cloned from a migrated template. Nothing here stands in for either.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest
import redis.asyncio

from livecart.embedded import Running, running
from orders.ledger.migrate import migrate
from tests import scratch
from tests.cluster_rig import Cluster
from tests.shop import Shop, open_shop

SCRATCH = scratch.settle()
TEMPLATE = "livecart_template"
WANTED = "setup-browser"  # what a test names that is skipped for want of what that installs
POSTGRES = {"max_connections": "200", "max_wal_size": "512MB"}  # the latter is memory, mostly
_numbers = itertools.count(1)


def pytest_report_header() -> str:
    """Say where the servers' files are."""
    return f"servers' files: {SCRATCH}"


@pytest.fixture(scope="session")
def servers() -> Iterator[Running]:
    """Both embedded servers, with the durability of production."""
    folder = Path(tempfile.mkdtemp(prefix="lc-test-"))
    try:
        with running(folder, postgres_settings=POSTGRES) as urls:
            yield urls
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def database_url_of(url: str, database: str) -> str:
    """Return the URL of another database on the same server."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}/{database}?{parts.query}"


@pytest.fixture(scope="session")
def template(servers: Running) -> str:
    """A migrated database that others are cloned from."""
    asyncio.run(_make_template(servers.database_url))
    return TEMPLATE


async def _make_template(url: str) -> None:
    admin: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(url)
    try:
        await admin.execute(f"create database {TEMPLATE}")
    finally:
        await admin.close()
    connection: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(
        database_url_of(url, TEMPLATE)
    )
    try:
        await migrate(connection)
    finally:
        await connection.close()


@pytest.fixture
async def database_url(servers: Running, template: str) -> AsyncIterator[str]:
    """A migrated, empty database of the test's own."""
    name = f"test_{next(_numbers)}"
    admin: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(servers.database_url)
    try:
        await admin.execute(f"create database {name} template {template}")
        yield database_url_of(servers.database_url, name)
        await admin.execute(f"drop database {name} with (force)")
    finally:
        await admin.close()


@pytest.fixture
async def redis_url(servers: Running) -> str:
    """A Redis database number of the test's own, emptied."""
    url = f"{servers.redis_url}?db={next(_numbers) % 15 + 1}"
    client = redis.asyncio.Redis.from_url(url)
    try:
        await client.flushdb()
    finally:
        await client.aclose()
    return url


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A cluster of the test's own, to be broken."""
    with Cluster() as cluster:
        yield cluster


@pytest.fixture
async def shop(database_url: str, redis_url: str) -> AsyncIterator[Shop]:
    """A shop with one hub on servers of the test's own."""
    async with open_shop(database_url, redis_url) as shop:
        yield shop


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what searches have covered: a count that falls is a search that lost its way."""
    for report in terminalreporter.getreports("passed"):
        for name, what in report.user_properties:
            if name == "covered":
                terminalreporter.write_line(f"{what}")
    unseen = _unseen(terminalreporter)
    if unseen:
        terminalreporter.write_line(
            f"NOT RUN, for want of a browser or what goes with it: {', '.join(unseen)}. "
            "To run them: make setup-browser",
            red=True,
        )


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where CI=true, tests that a browser was wanted for have failed."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and os.environ.get("CI") == "true" and _unseen(reporter):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _unseen(reporter: pytest.TerminalReporter) -> list[str]:
    """Return what was skipped for want of `WANTED`, each test once whatever its parameters."""
    named = [
        report.nodeid.removeprefix("tests/").partition("[")[0]
        for report in reporter.getreports("skipped")
        if WANTED in str(report.longrepr)
    ]
    return list(dict.fromkeys(named))
