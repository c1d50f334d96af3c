"""The document of the WebSocket by AsyncAPI's own judge, which is a program of Node.js."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import msgspec
import pytest

from streams.spec import asyncapi

WEB = Path(__file__).parents[1] / "web"
PARSER = WEB / "node_modules" / "@asyncapi" / "parser"
JUDGE_S = 120

if (shutil.which("node") is None or not PARSER.exists()) and os.environ.get("CI") != "true":
    pytest.skip("Node.js or @asyncapi/parser is missing: make setup-browser",
                allow_module_level=True)  # fmt: skip


def judged(document: object) -> tuple[str, str]:
    """Return what the parser found wrong, and how much it read."""
    done = subprocess.run(
        ["node", str(WEB / "asyncapi.cjs")],
        input=msgspec.json.encode(document),
        capture_output=True,
        timeout=JUDGE_S,
        check=True,
    )
    return done.stdout.decode(), done.stderr.decode().strip()


def test_the_document_is_one_by_asyncapis_own_parser() -> None:
    """Nothing is wrong with it; of a document that lost a message, the judge says so."""
    document = asyncapi()
    assert judged(document) == ("", f"{len(document['operations'])} operations")
    del document["components"]["messages"]["event.welcome"]
    wrong, _ = judged(document)
    assert "welcome" in wrong
