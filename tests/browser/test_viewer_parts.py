"""What can be held of the viewer's page without a browser: its pure parts, its graph, its manifest.

Owns no server. The parts that know no DOM run under Node.js, which `make setup-browser` installs.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

import livecart
from livecart.api.lean import lean

WEB = Path(livecart.__file__).parent / "web"
SENT = [*sorted(WEB.glob("*.js")), *sorted(WEB.glob("*.css"))]
PURE = sorted((Path(__file__).parents[1] / "web").glob("*.test.mjs"))
NODE_S = 60.0


@pytest.mark.parametrize("file", PURE, ids=lambda file: file.name.partition(".")[0])
def test_a_pure_part_does_what_its_tests_say(file: Path) -> None:
    """Every claim of a page's pure part holds."""
    node = shutil.which("node")
    if node is None:
        what = "Node.js is missing: make setup-browser"
        if os.environ.get("CI"):
            pytest.fail(what)
        pytest.skip(what)
    ran = subprocess.run(
        [node, "--test", str(file)], capture_output=True, text=True, timeout=NODE_S, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert re.search(r"^\S+ pass [1-9]", ran.stdout, re.M), ran.stdout


def graph(name: str, found: set[str]) -> set[str]:
    """Return every module that `name` needs before it runs, as addresses."""
    source = (WEB / name).read_text(encoding="utf-8")
    for other in re.findall(r'^(?:import|\}|export)\b.* from "([^"]+)"', source, re.M):
        address = other if other == "/words.js" else f"/static/{other.removeprefix('./')}"
        if address not in found:
            found.add(address)
            if other != "/words.js":
                graph(other.removeprefix("./"), found)
    return found


def test_the_whole_graph_is_asked_for_at_once() -> None:
    """The page names every module of its script beforehand: one round trip, not one a level."""
    markup = (WEB / "viewer.html").read_text(encoding="utf-8")
    named = re.findall(r'<link rel="modulepreload" href="([^"]+)">', markup)
    assert sorted(named) == sorted(graph("viewer.js", set()))
    assert len(named) == len(set(named))


@pytest.mark.parametrize("file", SENT, ids=lambda file: file.name)
def test_what_is_sent_is_the_file_without_its_comments(file: Path) -> None:
    """Only whole lines of comment are left out: no string or template of a script spans lines."""
    source = file.read_bytes()
    kind = b"text/javascript" if file.suffix == ".js" else b"text/css"
    sent = lean(kind, source)
    lines = source.splitlines()
    assert all(line.count(b"`") % 2 == 0 for line in lines)
    assert set(sent.splitlines()) <= set(lines)
    assert not re.search(rb"^\s*(?://|/\*\*?$)", sent, re.M)
    assert len(sent) < len(source)


def test_code_beside_a_comment_stays() -> None:
    """A line with code on it is sent as it is, whatever else is on it; another kind is, whole."""
    script = b"/* a */ let b = 1; // c\n/* d */\n/**\n * e\n */\n\n  f(); /* g\n h */\n"
    assert lean(b"text/javascript", script) == (b"/* a */ let b = 1; // c\n  f(); /* g\n h */\n")
    assert lean(b"application/json", b"// x\n") == b"// x\n"


def test_the_page_can_be_installed() -> None:
    """The manifest has what Chrome asks of one, and its icons are there in the sizes they claim."""
    manifest = json.loads((WEB / "manifest.webmanifest").read_text(encoding="utf-8"))
    assert manifest["name"]
    assert manifest["display"] == "standalone"
    assert manifest["start_url"].startswith(manifest["scope"])
    sizes = set()
    for icon in manifest["icons"]:
        content = (WEB / icon["src"].removeprefix("/static/")).read_bytes()
        if icon["type"] == "image/png":
            width, height = struct.unpack(">II", content[16:24])
            assert icon["sizes"] == f"{width}x{height}"
            sizes.add(width)
    assert {192, 512} <= sizes
