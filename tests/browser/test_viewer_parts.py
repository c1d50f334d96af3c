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
from livecart.api import pages
from livecart.modules import ModuleError, bare, joined

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
        if os.environ.get("CI") == "true":
            pytest.fail(what)
        pytest.skip(what)
    ran = subprocess.run(
        [node, "--test", str(file)], capture_output=True, text=True, timeout=NODE_S, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert re.search(r"^\S+ pass [1-9]", ran.stdout, re.M), ran.stdout


def test_the_whole_graph_is_asked_for_at_once() -> None:
    """The page names every module that its script still imports: one round trip for all of them.

    As scripts: WebKit takes what was preloaded from its memory again without asking, so that a new
    client or another language would not come as long as the tab lives.
    """
    markup = (WEB / "viewer.html").read_text(encoding="utf-8")
    *named, own = re.findall(r'^  <script type="module" src="([^"]+)"></script>$', markup, re.M)
    assert own == "/static/viewer.js"
    sent = pages._files()["viewer.js"].content.decode()
    asked = re.findall(r'^import .* from "([^"]+)";$', sent, re.M)
    assert sorted(name.replace("/static/", "./") for name in named) == sorted(asked)
    assert set(asked) == pages.APART
    assert not [page.name for page in WEB.glob("*.html") if "preload" in page.read_text("utf-8")]


MODULES = {
    "a.js": """import { LiveCart } from "./cart.js";
import { b } from "./b.js";
import { c } from "./c.js";
export { b } from "./b.js";
b(c, LiveCart);
export const d = b;
""",
    "b.js": 'import { c } from "./c.js";\nexport function b() {\n  c();\n}\n',
    "c.js": """import all, { one } from "/all.js";
import { Two } from "./cart.js";
export { one };
export const c = all;
""",
}
OUTSIDE = frozenset({"./cart.js", "/all.js"})


def test_modules_become_one_in_the_order_in_which_they_run() -> None:
    """Each once, after what it imports; what is apart is imported once; exports are the entry's."""
    assert joined(MODULES, "a.js", OUTSIDE) == (
        'import { LiveCart, Two } from "./cart.js";\n'
        'import all, { one } from "/all.js";\n'
        "\nconst c = all;\n"
        "\nfunction b() {\n  c();\n}\n"
        "\nb(c, LiveCart);\nexport const d = b;\n"
        "\nexport { b };\n"
    )


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ('import * as all from "./c.js";\n', "in another way"),
        ("export default 1;\n", "in another way"),
        ('import one from "./c.js";\n', "in another way"),
        ('import { c as d } from "./c.js";\n', "changes a name"),
        ('import { c } from "./c.js";\nconst c = 1;\n', "declared in c.js and in a.js"),
        ('import { a } from "./a.js";\n', "imports itself"),
    ],
)
def test_what_cannot_be_joined_is_refused(source: str, why: str) -> None:
    """A form that would need rewriting, or a name that two declare, is an error and no guess."""
    with pytest.raises(ModuleError, match=why):
        joined({"a.js": source, "c.js": "const c = 1;\n"}, "a.js", OUTSIDE)


@pytest.mark.parametrize("file", SENT, ids=lambda file: file.name)
def test_what_is_sent_is_the_file_without_its_comments(file: Path) -> None:
    """Only whole lines of comment, and empty ones, are left out of what is sent."""
    source = file.read_bytes()
    alone = file.name not in pages.JOINED
    sent = pages._files()[file.name].content if alone else bare(source.decode()).encode()
    lines = source.splitlines()
    assert set(sent.splitlines()) <= set(lines)
    assert not re.search(rb"^\s*(?://|/\*\*?$)", sent, re.M)
    assert not alone or not re.search(rb"^\s*$", sent.removesuffix(b"\n"), re.M)
    code = {line for line in lines if not re.match(rb"\s*(?://|/?\*|$)", line)}
    assert file.suffix == ".css" or code <= set(sent.splitlines())
    assert len(sent) < len(source)


def test_code_beside_a_comment_stays() -> None:
    """A line with code on it is sent as it is, whatever else is on it; another kind is, whole."""
    script = (
        "/* a */ let b = 1; // c\n/* d */\n/**\n * e **\n// */\n\n"
        "\n  f(); /* g\n h */\n  /* i */ j,\n"
    )
    assert bare(script) == "/* a */ let b = 1; // c\n\n  f(); /* g\n h */\n  /* i */ j,\n"
    words = WEB / "words" / "en.json"
    assert pages._files()["words/en.json"].content == words.read_bytes()


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


def test_the_player_that_is_tested_is_the_one_that_is_fetched() -> None:
    """`make player` fetches the version of hls.js that the test of the video plays with."""
    fetched = re.search(r"^version=(\S+)$", (WEB / "player").read_text(encoding="utf-8"), re.M)
    assert fetched is not None
    package = Path(__file__).parents[1] / "web" / "package.json"
    tested = json.loads(package.read_text(encoding="utf-8"))["devDependencies"]["hls.js"]
    assert fetched[1] == tested
