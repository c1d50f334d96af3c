"""Small sales on the whole application, processes and all, judged by the harness and its audit.

The harness drives the public protocol, does the fault to the server that it spawned, sends
unanswered buys again with their keys, and fails on a missing answer or a broken invariant.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cluster_rig import Cluster
from tests.integration.up_rig import ROOT, Up, environment

SMALL = ("--viewers", "200", "--units", "600", "--per-viewer", "4", "--buys", "5")


def sale(*options: str, server: tuple[str, ...] = ("--spawn",)) -> dict[str, Any]:
    """Run a flash sale, on a server of its own, to its end; return what the harness reports."""
    done = subprocess.run(
        [sys.executable, "-m", "loadtest.cli", "sale", *server, "--json", *SMALL,
         *options],
        capture_output=True, text=True, env=environment(), cwd=ROOT, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


@pytest.mark.parametrize(
    "options",
    [
        ("--workers", "2"),
        ("--subprotocol", "msgpack"),
        ("--via", "http", "--connections", "64"),
    ],
    ids=["two workers", "msgpack", "http"],
)
def test_every_way_in_sells_exactly_what_there_is(options: tuple[str, ...]) -> None:
    """1,000 buys of 600 units make 600 orders, whichever way they come in."""
    report = sale(*options)
    assert report["sale"]["sold"] == 600, report


@pytest.mark.parametrize("fault", ["kill-worker", "kill-postgres", "kill-redis", "flushall"])
def test_a_process_is_lost_in_the_middle(fault: str) -> None:
    """Every buy has one final answer, every acknowledged order is a row, every unit is sold."""
    report = sale("--workers", "2", "--fault", fault, "--fault-at", "0.1")
    assert report["sale"]["sold"] == 600, report


def test_a_hot_offer_is_sold_out_of_a_cluster() -> None:
    """Its holds are on three nodes, which the audit reads id by id; the rest is where it was."""
    with Cluster() as cluster:
        report = sale("--workers", "2", "--buckets", "6", "--gate-url", cluster.url)
        keys = [node.command("DBSIZE") for node in cluster.nodes]
    assert report["sale"]["sold"] == 600, report
    judged = {(found["name"], found["passed"]) for found in report["audit"]["findings"]}
    assert ("I11", True) in judged
    assert all(keys), keys


def test_a_sale_with_all_of_redis_on_a_cluster(tmp_path: Path) -> None:
    """Streams, notes and holds are on three nodes: the sale is exact, and every event in order."""
    with Cluster() as cluster:
        up = Up(tmp_path, "--workers", "2", variables={"LIVECART_REDIS_URL": cluster.url})
        secret = (tmp_path / "secret").read_text().strip()
        servers = ("--database-url", up.ready["database_url"], "--redis-url", cluster.url)
        try:
            server = ("--url", up.ready["http"], "--secret", secret, *servers)
            report = sale("--buckets", "6", server=server)
            tags = [node.command("KEYS", "{log:*:tail") for node in cluster.nodes]
        finally:
            up.stop()
    assert report["sale"]["sold"] == 600, report
    judged = {(found["name"], found["passed"]) for found in report["audit"]["findings"]}
    assert {("I11", True)} <= judged, judged
    assert any(tags), tags
