"""The pure parts of `livecart.js`, each by itself, by Node's own test runner."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.conformance.drivers import node


def test_the_parts_of_the_client_do_what_they_say() -> None:
    """Every test of `parts.test.mjs` passes."""
    parts = Path(__file__).with_name("parts.test.mjs")
    run = subprocess.run(
        [*node(), "--test", "--test-reporter=tap", str(parts)], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "# pass 21" in run.stdout
    assert "# fail 0" in run.stdout
