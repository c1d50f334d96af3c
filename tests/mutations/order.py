"""A pytest plugin: what is quick goes first, so that most bugs are seen within a minute.

The run without a bug notes how long each test took; every run with one goes by that, the same for
each. Tests of one file stay together, for what they share: first its quick ones, later the rest.
Used by `run`, which names the file of durations in MUTATIONS_DURATIONS.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from pathlib import Path

import pytest

QUICK_S = 1.5

_took_s: defaultdict[str, float] = defaultdict(float)


def _file() -> Path:
    return Path(os.environ["MUTATIONS_DURATIONS"])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the quick ones of each file first, in the order of the files."""
    if _file().exists():
        known: dict[str, float] = json.loads(_file().read_text())
        items.sort(key=lambda item: known.get(item.nodeid, 0.0) > QUICK_S)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Add up what a test took, but for what it shares with others."""
    if report.when == "call":
        _took_s[report.nodeid] += report.duration


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Note it, where all reports come together and nothing failed."""
    if not hasattr(session.config, "workerinput") and not exitstatus and not _file().exists():
        _file().write_text(json.dumps(_took_s))
