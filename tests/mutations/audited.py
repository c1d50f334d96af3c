"""Plant each bug in turn, sell under attack, and see whether the auditor alone finds it.

    python -m tests.mutations.audited [--only NAME,NAME] [--write] [--minutes M]

`run` asks the whole suite; this asks one judge who stands outside: what buyers were told, Redis and
Postgres. A copy without any bug must hold under every attack first. Then each bug gets a copy, a
server and the attacks that provoke it (`attacks`), until the auditor names a broken invariant.
The keeper's reconcile is left out of every copy: it
mends within some seconds what Redis got wrong, whatever the bug was, so that nothing were to see.
Bugs that cannot show from outside are named with the reason and are not played; those whose harm
another line keeps inside are. Results are kept
in `.livecart-mutations/` with a digest of the code, so that a run goes on where it stopped. Ends
with 1 when a bug that should show was not seen. `--write` puts the table into docs/audit.md.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.mutations.patches import DoesNotApply, Mutation, mutations
from tests.mutations.run import NOTHING, ROOT, copy_to, say

RESULTS = ROOT / ".livecart-mutations" / "audited.jsonl"
TABLE = ROOT / "docs" / "audit.md"
BEGIN, END = "<!-- audited: begin -->", "<!-- audited: end -->"
BUG_S = 420.0  # for a server to start, and all its attacks twice
SOUND_S = 900.0  # for every attack, once without a bug

#: Attacks that provoke a bug, the likeliest first.
PROVOKED_BY: dict[str, tuple[str, ...]] = {
    "apply-twice": ("churn", "lagging"),
    "bucket-sold-out-is-final": ("spread-lowered", "spread-emptied"),
    "buckets-share-ranks": ("spread",),
    "bundle-in-part": ("bundled-lowered", "bundled"),
    "cancel-twice": ("rush",),
    "epoch-not-checked": ("outlived", "killed"),
    "expire-by-quantity": ("rush",),
    "expire-early": ("rush",),
    "expiry-left-out": ("rush",),
    "facts-not-published": ("untold",),
    "fence-not-checked": ("stopped",),
    "fence-not-raised": ("stopped", "fenced"),
    "follow-skips-order": ("churn", "lagging"),
    "install-over-newer": ("emptied", "outlived"),
    "key-bound-before-row": ("rush", "killed"),
    "late-payment-revives": ("rush",),
    "lend-to-anyone": ("spread",),
    "limit-early": ("calm", "rush"),
    "limit-not-summed": ("line", "outlived"),
    "mark-before-row": ("rush", "hung"),
    "pause-not-checked": ("shut",),
    "quantity-unlocked": ("lowered",),
    "rebuild-forgets-ended": ("emptied",),
    "rebuild-forgets-fence": ("line-emptied",),
    "release-without-rank": ("fenced", "stopped"),
    "restock-without-key": ("rush",),
    "run-id-not-checked": ("stale",),
    "served-twice": ("line",),
    "sold-out-early": ("rush",),
    "sold-out-in-one-bucket": ("spread",),
    "stale-released-with-row": ("killed",),
    "stock-not-checked": ("rush",),
    "stock-seen-once": ("rush",),
    "taken-plus-batch-size": ("rush", "emptied"),
    "taken-unlocked": ("rush",),
    "transfer-half": ("spread",),
    "transfer-held-for-ever": ("spread",),
    "transfer-not-fenced": ("spread-hung",),
    "unknown-undone": ("hung",),
    "waiter-only-at-home": ("spread-line",),
    "waitlist-last-first": ("line",),
    "waitlist-over-limit": ("line",),
    "waitlist-told-twice": ("line",),
}
#: Bugs that no buyer and no query can see, and why.
UNSEEN: dict[str, str] = {
    "adopt-keeps-rank": "costs time alone: a rank that was fenced is refused until its hold is"
    " given back",
    "batch-not-bisected": "no line that poisons a batch gets past the door, whoever sends it",
}

#: Bugs that are played, and whose harm another line keeps inside: not seen is no failure.
SECOND_LINE: dict[str, str] = {
    "facts-not-published": "what is told of the stream next brings it up; seen where nothing is",
    "install-over-newer": "the next look at the gate makes it anew",
    "key-bound-before-row": "the row is read before the yes: `retry` until the hold is given back",
    "lend-to-anyone": "units go to and fro, which costs time alone",
    "limit-not-summed": "the gate has refused it before, unless it forgot",
    "quantity-unlocked": "the table's CHECK refuses what the lock would have",
    "rebuild-forgets-ended": "Postgres knows the key, and answers with its order",
    "run-id-not-checked": "the keeper makes the gate anew; until then Postgres refuses the rest",
    "transfer-not-fenced": "a bucket lets go only of what its row has free, and its gate follows",
    "stock-not-checked": "Postgres refuses what the gate lets through, and the gate takes it back",
}
#: In every copy, the one without a bug too.
UNMENDED = Mutation("unmended", "", Path(__file__).with_name("unmended.diff").read_text())

REASONS = UNSEEN | SECOND_LINE

Result = dict[str, Any]


def judge(mutation: Mutation, attacks: Sequence[str], timeout_s: float) -> Result:
    """Plant one bug, attack its server and return what the auditor said."""
    with tempfile.TemporaryDirectory(prefix="lc-audited-") as name:
        folder = Path(name)
        copy_to(folder)
        try:
            UNMENDED.plant(folder)
            if mutation is not NOTHING:
                mutation.plant(folder)
        except DoesNotApply as error:
            return {"verdict": "does not apply", "said": [str(error)]}
        environ = os.environ | {"PYTHONPATH": name, "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-m", "tests.mutations.attacks", *attacks]
        with subprocess.Popen(
            command, cwd=folder, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True,
        ) as attacking:  # fmt: skip
            try:
                told, errors = attacking.communicate(timeout=timeout_s)
            except subprocess.TimeoutExpired:
                attacking.terminate()  # it ends its server with itself
                told, errors = attacking.communicate()
        if attacking.returncode != 0:
            return {"verdict": "no verdict", "said": [errors.strip()[-400:]]}
        result: Result = json.loads(told.splitlines()[-1])
        return result


def digest() -> str:
    """Return what stands for the server, the auditor and the attacks as they are."""
    seen = hashlib.sha256()
    for part in ("livecart", "streams", "orders", "loadtest", "tests/faults", "tests/mutations"):
        for path in sorted((ROOT / part).rglob("*")):
            if path.suffix in (".py", ".lua", ".sql", ".patch"):
                seen.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return seen.hexdigest()[:16]


def remembered(code: str) -> dict[str, Result]:
    """Return the results that were made with this code, by name."""
    if not RESULTS.exists():
        return {}
    rows = [json.loads(line) for line in RESULTS.read_text().splitlines()]
    return {row["name"]: row for row in rows if row["code"] == code}


def table(rows: Sequence[Result]) -> str:
    """Return the rows as the page has them."""
    lines = ["| bug | caught by | attack | after |", "|---|---|---|--:|"]
    for row in rows:
        by = ", ".join(row.get("by", ())) or f"**{row['verdict']}**"
        reason = REASONS.get(row["name"]) if row["verdict"] != "caught" else None
        why = f": {reason}" if reason else ""
        after = f"{row['s']:.0f} s" if "s" in row else ""
        lines.append(f"| {row['bug']} | {by}{why} | {row.get('attack', '')} | {after} |")
    return "\n".join(lines)


def write(rows: Sequence[Result]) -> None:
    """Put the table into the page on the audit."""
    head, _, rest = TABLE.read_text().partition(BEGIN)
    TABLE.write_text(f"{head}{BEGIN}\n{table(rows)}\n{END}{rest.partition(END)[2]}")


def attacks_on(mutation: Mutation) -> tuple[str, ...]:
    """Name the attacks that are made on a copy: all of them where there is no bug."""
    return () if mutation is NOTHING else PROVOKED_BY[mutation.name]


def main() -> None:
    """Run what is asked for; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="tests.mutations.audited")
    parser.add_argument("--only", default="", help="names, with commas between")
    parser.add_argument("--minutes", type=float, default=600.0, help="begin no more after these")
    parser.add_argument("--write", action="store_true", help="put the table into the docs")
    options = parser.parse_args()
    only = set(filter(None, options.only.split(",")))
    code, rows, ends = digest(), [], time.monotonic() + options.minutes * 60
    known = remembered(code)
    RESULTS.parent.mkdir(exist_ok=True)
    for mutation in (NOTHING, *mutations()):
        if only and mutation.name not in only:
            continue
        row = known.get(mutation.name)
        if row is None:
            row = {"name": mutation.name, "bug": mutation.bug, "code": code}
            if mutation.name in UNSEEN:
                row["verdict"] = "cannot show"
            elif time.monotonic() > ends:
                row["verdict"] = "not played yet"
            else:
                limit_s = SOUND_S if mutation is NOTHING else BUG_S
                row |= judge(mutation, attacks_on(mutation), limit_s)
                with RESULTS.open("a") as file:
                    file.write(json.dumps(row) + "\n")
        by = ", ".join(row.get("by", ()))
        said = (row.get("said") or [""])[0][:200]
        how = f"{row.get('attack', '')} {row.get('s', '')}"
        say(f"{mutation.name}: {row['verdict']} {by} {how} {said}")
        if mutation is not NOTHING:
            rows.append(row)
        elif row["verdict"] != "not seen":
            sys.exit("the auditor finds something without any bug: what it says is worth nothing")
    if options.write:
        write(rows)
    missed = [
        row["name"]
        for row in rows
        if row["verdict"] != "caught"
        and not (row["verdict"] in ("cannot show", "not seen") and row["name"] in REASONS)
    ]
    caught = sum(row["verdict"] == "caught" for row in rows)
    say(f"{caught} of {len(rows)} caught" + "".join(f"; {name}" for name in missed))
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
