"""What the runner of the docs does otherwise than a reader, and why. Owns this table alone.

Each row says why, and what is run in a command's place: a shorter sale, or another address. A row
with `test` has nothing run: it is for what takes minutes, or another machine. That test does the
same with less; `entry` is the module, file or command that both lead to, which a test makes sure
of. A row that fits no command of any page any more fails a test.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.docs.commands import bare

LONG = "it takes minutes to hours"
#: So few viewers are slow by chance; on a busy machine the harness itself is, and says so with 3.
FEW = "{bare} --viewers 8 --units 10 || test $? = 3"


@dataclass(frozen=True, slots=True)
class Instead:
    """One row: commands that match `pattern` from their beginning."""

    pattern: str
    why: str
    shell: str = ""  # {bare}: the command without its comment
    swap: tuple[tuple[str, str], ...] = ()  # words of a command, and what stands in their place
    test: str = ""
    entry: str = ""

    def matches(self, command: str) -> bool:
        """Tell whether this row is for a command."""
        return re.match(self.pattern, command) is not None

    def text(self, command: str) -> str:
        """Return what is run in its place."""
        found = bare(command)
        for word, instead in self.swap:
            found = found.replace(word, instead)
        return self.shell.format(bare=found)


INSTEAD = (
    Instead(
        r"make up\b", "it is how the server of this test was started", 'test "$STARTED" = "{bare}"'
    ),
    Instead(
        r"livecart up\b", "it goes on until it is stopped",
        test="tests/integration/test_locust.py", entry="livecart.cli",
    ),
    Instead(r"make test\s+#", "it is this suite", test=".ci/run", entry="make test"),
    Instead(
        r"make test ARGS=", "one of its tests shows it; in one process, which is there sooner",
        '(cd "$CHECKOUT" && {bare} ARGS+="-n 0 -p no:locust -p no:schemathesis -k sound")'
        ' | grep -E " states, [0-9]+ at rest: "',
    ),
    Instead(r"make model\b", LONG, test="tests/model/test_whole.py", entry="tests.model"),
    Instead(
        r"make proofs\b", LONG, test="tests/property/test_interleavings.py",
        entry="tests/property/test_interleavings.py",
    ),
    Instead(
        r"make faults\b", LONG,
        test="tests/faults/test_seeded_faults.py", entry="tests.faults.seeded",
    ),
    Instead(
        r"make soak\b", LONG,
        test="tests/faults/test_seeded_faults.py", entry="tests.faults.soak",
    ),
    Instead(
        r"make deliveries\b", LONG,
        test="tests/faults/test_deliveries.py", entry="tests.faults.deliveries",
    ),
    Instead(r"livecart-loadtest run flash\s+#", "thousands of viewers take minutes", FEW),
    Instead(
        r"livecart-loadtest run flash --target", "as many viewers, and that shop is nobody's", FEW,
        swap=(("https://shop.example", '"$SHOP"'),),
    ),
    Instead(
        r"livecart-loadtest run mixed", "it takes an hour; and a server is there already",
        '{bare} --target "$SHOP" --seconds 2 --viewers 8 || test $? = 3\n'
        "test -s evening.json && test -s evening.html",
    ),
    Instead(
        r"livecart-loadtest audit\b", "the page has no whole ids and addresses", "{bare}",
        swap=(
            ("of_1a2b…", '"$OFFER"'), ("st_1a2b…", '"$STREAM"'),
            ("postgresql://…", '"$LIVECART_DATABASE_URL"'), ("redis://…", '"$LIVECART_REDIS_URL"'),
            (" …", ""),  # the addresses once more, which are in the environment
        ),
    ),
    Instead(
        r"livecart-loadtest compare\b", "status 1 is part of what is shown", "{bare} || test $? = 1"
    ),
    Instead(
        r"livecart-loadtest calibrate\b", LONG,
        test="tests/integration/test_calibrate.py", entry="loadtest.costs",
    ),
    Instead(
        r"livecart-loadtest plan --verify", LONG,
        test="tests/integration/test_calibrate.py", entry="loadtest.prediction",
    ),
    Instead(
        r"livecart-loadtest plan .*--simulate", "it takes half a minute of a core",
        test="tests/unit/test_loadtest_simulation.py", entry="loadtest.simulation_runs",
    ),
    Instead(
        r"locust\b", "these are for other machines, or half a minute",
        test="tests/integration/test_locust.py", entry="loadtest/locustfile.py",
    ),
    Instead(
        r"docker compose\b", "it needs Docker; the test runs its services without",
        test="tests/contract/test_compose.py", entry="docker-compose.yml",
    ),
    Instead(
        r"jq -n --arg action", "it is a script, which MediaMTX runs with this argument",
        'set -- ready\n{bare}\n'
        'curl -s "$HTTP/v1/streams/$MTX_PATH" -H "Authorization: Bearer $HOST_TOKEN"'
        " | jq -e '.status == \"live\"'",
        swap=(("http://127.0.0.1:8000", '"$HTTP"'),),
    ),
    Instead(
        r"curl -sN .*/events", "what it follows has no end",
        "{bare} --max-time 1 || test $? = 28",
    ),
    Instead(
        r'printf %s "\$SEED" \|', "what it must print is known here",
        '( {bare} ) | grep -F "$SEED_HASH"',
    ),
    Instead(
        r'printf %s "\$ME" \|', "what it must print is known here",
        '( {bare} ) | grep -F "$SCORE"',
    ),
)  # fmt: skip

#: Targets of make that sentences name and no page has as a command: the test that does the same,
#: and what both lead to. With no test: they install from afar, or measure or run all for long.
SPOKEN = {
    "bench": ("tests/unit/test_loadtest_compare.py", "tests.bench.bench"),
    "bench-core": None,
    "bench-hub": None,
    "bench-orders": None,
    "coverage": None,
    "demo": ("tests/docs/test_commands.py", "make demo"),
    "docs": ("tests/docs/test_site.py", "mkdocs"),
    "lint": (".ci/run", "make lint"),
    "loadtest": None,
    "mutations": None,
    "player": None,
    "screenshots": ("tests/browser/test_screenshots.py", "tests.browser.screenshots"),
    "setup": None,
    "setup-browser": (".ci/run", "make setup-browser"),
}

#: Pages that have the commands of another, to the letter: a test holds them to it, and plays one.
TWINS = {
    "README.zh-Hant.md": "README.md",
    "docs/quickstart.zh-Hant.md": "docs/quickstart.md",
}
