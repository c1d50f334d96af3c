"""Plant each bug in turn, and see whether the suite, which does not know which one it is, finds it.

    python -m tests.mutations.run [--only NAME,NAME] [--write]

A copy of the project without any bug must pass first. Then each bug gets one of its own: it must
apply, the server must start and sell, and the same tests run in the same order for every bug (the
quick ones of each file first, `order`) until the first one fails. Results are kept in
`.livecart-mutations/` with a digest of the code and of the patch, so that a run goes on where it
stopped. Ends with 1 when a bug survives: that is a missing test. `--write` puts the table into
docs/reliability.md.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.mutations.patches import DoesNotApply, Mutation, mutations

ROOT = Path(__file__).parents[2]
PARTS = ("livecart", "streams", "orders", "loadtest", "tests", "docs")
RESULTS = ROOT / ".livecart-mutations" / "results.jsonl"
DURATIONS = RESULTS.with_name("durations.json")
TABLE = ROOT / "docs" / "reliability.md"
#: What is asked first: it judges the core, so that most bugs are seen soon.
FIRST = (
    "tests/property/test_interleavings.py",
    "tests/integration/test_buckets.py",
    "tests/property/test_core_machine.py",
    "tests/integration/test_poison.py",
    "tests/integration/test_lifecycle.py",
    "tests/integration/test_waitlist.py",
    "tests/integration/test_keeper.py",
)
#: And where the rest is; the tests of single words and shapes are not needed here.
FOLDERS = ("tests/property", "tests/integration", "tests/contract", "tests/faults")
SELLS_S, SUITE_S = 120, 1_500

_FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.MULTILINE)
_SAID = re.compile(r"^E\s+(\S.*)$", re.MULTILINE)

#: What is judged first: a copy without a bug, in which nothing may fail.
NOTHING = Mutation("nothing", "No bug at all", "")

Result = dict[str, str | float]


def copy_to(folder: Path) -> None:
    """Copy what is needed to run the project and its tests."""
    ignore = shutil.ignore_patterns("__pycache__", "*.pyc")
    for part in PARTS:
        shutil.copytree(ROOT / part, folder / part, ignore=ignore)
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy2(path, folder / path.name)


def digest() -> str:
    """Return what stands for the code and the tests as they are."""
    seen = hashlib.sha256()
    for part in ("livecart", "streams", "orders", "loadtest", "tests"):
        for path in sorted((ROOT / part).rglob("*")):
            if path.is_file() and path.suffix in (".py", ".lua", ".sql"):
                seen.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return seen.hexdigest()[:16]


def suite() -> list[str]:
    """Return the files of tests in the order in which they are asked, which pytest keeps."""
    found = [path for folder in FOLDERS for path in sorted((ROOT / folder).glob("test_*.py"))]
    return list(dict.fromkeys([*FIRST, *(str(path.relative_to(ROOT)) for path in found)]))


def judge(mutation: Mutation) -> Result:
    """Plant one bug and return what came of it."""
    with tempfile.TemporaryDirectory(prefix="lc-mutation-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # as a checkout has it: some tests run as another user
        copy_to(folder)
        try:
            if mutation is not NOTHING:
                mutation.plant(folder)
        except DoesNotApply as error:
            return {"verdict": "does not apply", "by": str(error)}
        environ = os.environ | {
            "PYTHONPATH": name,
            "PYTHONDONTWRITEBYTECODE": "1",
            "MUTATIONS_DURATIONS": str(DURATIONS),
        }
        sells = subprocess.run(
            [sys.executable, "-m", "tests.mutations.sells"], cwd=folder, env=environ,
            timeout=SELLS_S, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if sells.returncode != 0:
            return {"verdict": "does not sell", "by": sells.stderr.strip()[-200:]}
        started = time.monotonic()
        asked = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "--maxfail=1", "-n", "2", "--dist", "load",
             "--maxschedchunk", "2", "-p", "no:cacheprovider", "-p", "tests.mutations.order",
             *suite()],
            cwd=folder, env=environ, timeout=SUITE_S, capture_output=True, text=True, check=False,
        )  # fmt: skip
        took_s = round(time.monotonic() - started, 1)
        failed, said = _FAILED.search(asked.stdout), _SAID.search(asked.stdout)
        if asked.returncode == 0:
            return {"verdict": "survived", "by": "", "s": took_s}
        if failed is None:
            return {"verdict": "no verdict", "by": asked.stdout[-300:] + asked.stderr[-300:]}
        return {
            "verdict": "caught",
            "by": failed[1],
            "said": said[1][:160] if said else "",
            "s": took_s,
        }


def remembered(code: str) -> dict[str, Result]:
    """Return the results that were made with this code, by name and patch."""
    if not RESULTS.exists():
        return {}
    rows = [json.loads(line) for line in RESULTS.read_text().splitlines()]
    return {f"{row['name']} {row['patch']}": row for row in rows if row["code"] == code}


def write(rows: list[Result]) -> None:
    """Put the table into the page on reliability."""
    lines = ["| bug | caught by | after |", "|---|---|---|"]
    for row in rows:
        by = f"`{str(row['by']).partition('tests/')[2]}`" if row["verdict"] == "caught" else ""
        lines.append(f"| {row['bug']} | {by or row['verdict']} | {row.get('s', '')} s |")
    table = "\n".join(lines)
    text = TABLE.read_text()
    begin, end = "<!-- mutations: begin -->", "<!-- mutations: end -->"
    head, _, rest = text.partition(begin)
    TABLE.write_text(f"{head}{begin}\n{table}\n{end}{rest.partition(end)[2]}")


def say(line: str) -> None:
    """Tell how it goes, at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> None:
    """Run what is asked for; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="tests.mutations.run")
    parser.add_argument("--only", default="", help="names, with commas between")
    parser.add_argument("--write", action="store_true", help="put the table into the docs")
    options = parser.parse_args()
    only = set(filter(None, options.only.split(",")))
    code, rows = digest(), []
    known = remembered(code)
    RESULTS.parent.mkdir(exist_ok=True)
    for mutation in (NOTHING, *mutations()):
        if only and mutation.name not in only | {NOTHING.name}:
            continue
        patch = hashlib.sha256(mutation.patch.encode()).hexdigest()[:16]
        row = known.get(f"{mutation.name} {patch}")
        if row is None:
            if mutation is NOTHING:
                DURATIONS.unlink(missing_ok=True)
            row = {"name": mutation.name, "bug": mutation.bug, "code": code, "patch": patch}
            row |= judge(mutation)
            with RESULTS.open("a") as file:
                file.write(json.dumps(row) + "\n")
        say(f"{mutation.name}: {row['verdict']} {row.get('s', '')} {row['by']}")
        if mutation is not NOTHING:
            rows.append(row)
        elif row["verdict"] != "survived":
            sys.exit("the suite fails without any bug: what it says of bugs is worth nothing")
    if options.write:
        write(rows)
    missed = [str(row["name"]) for row in rows if row["verdict"] != "caught"]
    say(f"{len(rows) - len(missed)} of {len(rows)} caught" + "".join(f"; {m}" for m in missed))
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
