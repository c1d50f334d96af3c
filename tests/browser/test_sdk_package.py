"""`livecart.js` as it is published: generated files, types, what the package holds.

Runs `tsc` and `npm` where `make setup-browser` has put them; holds the rest everywhere.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from livecart import bundle
from livecart.modules import ModuleError
from streams.codes import Close, Code
from streams.typescript import declarations

ROOT = Path(__file__).parents[2]
WEB_TESTS = ROOT / "tests" / "web"
TYPES = WEB_TESTS / "types"
LINES_MAX = 350
_ERROR = re.compile(r"^(?P<file>[^(\s]+)\((?P<line>\d+),\d+\): error TS", re.MULTILINE)


def tool(name: str) -> str:
    """Return the path of a command of Node's; without it, skip, but fail in CI."""
    local = WEB_TESTS / "node_modules" / ".bin" / name
    found = str(local) if local.exists() else shutil.which(name)
    if found is None:
        message = f"{name} is missing: make setup-browser"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return found


def checked(project: Path) -> tuple[str, set[tuple[str, int]]]:
    """Run the compiler; return what it says, and which lines of which files fail."""
    run = subprocess.run(
        [tool("tsc"), "-p", str(project)], capture_output=True, text=True, cwd=project.parent
    )
    found = {(Path(m["file"]).name, int(m["line"])) for m in _ERROR.finditer(run.stdout)}
    assert bool(found) is (run.returncode != 0), run.stdout + run.stderr
    return run.stdout, found


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of somebody who has installed the package."""
    folder = tmp_path_factory.mktemp("shop")
    bundle.package(folder / "node_modules" / "livecart")
    return folder


def test_the_module_is_generated_from_its_sources() -> None:
    """`livecart.js` and the protocol's types are what `python -m livecart.bundle` writes."""
    assert bundle.MODULE.read_text("utf-8") == bundle.bundle(bundle.sources())
    assert bundle.TYPES.read_text("utf-8") == declarations()


def test_a_source_reads_in_one_sitting() -> None:
    """Every source is short, and checked by the compiler."""
    for name, text in bundle.sources().items():
        assert text.count("\n") <= LINES_MAX, name
        assert text.startswith("// @ts-check\n"), name


@pytest.mark.parametrize(
    ("sources", "why"),
    [
        ({"index.js": 'export { a } from "./a.js";\n', "a.js": "const b = 1;\n"}, "not declared"),
        (
            {"index.js": 'export { a as b } from "./a.js";\n', "a.js": "const a = 1;\n"},
            "changes a name",
        ),
        (
            {
                "index.js": 'export { a } from "./a.js";\n',
                "a.js": 'import { b } from "./b.js";\nexport const a = b, c = 1;\nconst d = 1;\n',
                "b.js": "export const b = 1;\nconst d = 2;\n",
            },
            "d is declared in b.js and in a.js",
        ),
        (
            {
                "index.js": 'export { a } from "./a.js";\n',
                "a.js": 'import { b } from "./b.js";\n',
                "b.js": 'import { a } from "./a.js";\n',
            },
            "imports itself",
        ),
        (
            {
                "index.js": 'export { a } from "./a.js";\n',
                "a.js": 'import "elsewhere";\nconst a = 1;\n',
            },
            "in another way",
        ),
        (
            {"index.js": 'export { a } from "./a.js";\n', "a.js": "const a = `\n  // text\n`;\n"},
            "several lines",
        ),
    ],
)
def test_what_cannot_be_put_together_is_refused(sources: dict[str, str], why: str) -> None:
    """A name twice, a ring of imports and the like end the generator, not the page."""
    with pytest.raises(ModuleError, match=why):
        bundle.bundle(sources)


def test_modules_come_after_what_they_import() -> None:
    """The parts are put in order, without their imports, exports and comments."""
    made = bundle.bundle(
        {
            "index.js": 'export { a } from "./a.js";\n',
            "a.js": '// why\nimport { b } from "./b.js";\n\n/** Two. */\nexport const a = 2 * b;\n',
            "b.js": "export const b = 1; // one\n",
        }
    )
    assert made == bundle.HEAD + "\nconst b = 1; // one\n\nconst a = 2 * b;\n\nexport { a };\n"


def test_every_message_has_a_type() -> None:
    """Each command, event, reject code and close code of the protocol is declared."""
    text = declarations()
    for code in (*(f'"{code}"' for code in Code), *(str(code.value) for code in Close)):
        assert f"\n  | {code}" in text
    assert text.count("export interface Buy {") == 1
    assert re.search(r'interface StreamEnded \{\n  type: "stream\.ended";\n  at: number;\n', text)
    assert "  re: number | null;\n" in text
    assert "  since?: Since;\n" in text


def test_the_sources_are_typed_and_do_what_is_declared() -> None:
    """`tsc --strict` passes over all sources, and each export fits `livecart.d.ts`."""
    said, failing = checked(TYPES / "tsconfig.json")
    assert not failing, said


def test_a_page_that_uses_it_right_passes_and_a_wrong_one_fails(installed: Path) -> None:
    """The package's types let good use through and stop each mistake, at its line."""
    options = json.loads((TYPES / "tsconfig.json").read_text("utf-8"))
    for name in ("right.ts", "wrong.ts"):
        shutil.copyfile(TYPES / name, installed / name)
    project = installed / "tsconfig.json"
    project.write_text(json.dumps(options | {"files": ["right.ts", "wrong.ts"]}))
    (installed / "package.json").write_text('{"type": "module"}')
    said, failing = checked(project)
    lines = (TYPES / "wrong.ts").read_text("utf-8").splitlines()
    wrong = {n for n, line in enumerate(lines, 1) if line.endswith("// wrong")}
    assert failing == {("wrong.ts", n) for n in wrong}, said


def test_the_package_holds_the_module_and_its_types_only(installed: Path) -> None:
    """`npm pack` would publish these files, under this project's licence, with no dependency."""
    folder = installed / "node_modules" / "livecart"
    run = subprocess.run(
        [tool("npm"), "pack", "--dry-run", "--json", "--offline"],
        capture_output=True, text=True, cwd=folder, check=True,
    )  # fmt: skip
    (packed,) = json.loads(run.stdout)
    assert {file["path"] for file in packed["files"]} == {
        "LICENSE", "README.md", "livecart.d.ts", "livecart.js", "package.json", "protocol.d.ts",
    }  # fmt: skip
    described = json.loads((folder / "package.json").read_text("utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    for name in ("name", "version", "license"):
        assert described[name] == project[name]
    assert described["type"] == "module"
    assert not [name for name in described if "ependencies" in name or name == "scripts"]
    listed = [described["types"], *described["exports"]["."].values()]
    assert all((folder / name).is_file() for name in listed)
