"""What the runner of the docs does otherwise than a reader, and why. Owns these tables alone.

INSTEAD: commands that are not run as they stand. Each row says why, and what is run in its place;
NAMED in its place means that nothing is run: its programs, targets, subcommands and options are
looked up. A row that fits no command of any page any more fails a test.

GIVEN: what a page takes for granted where its commands begin, made on the running server.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tests.integration.up_rig import Up

NAMED = ""

HOURS = "it takes minutes to hours, and has tests of its own"
RUNNING = "the server of this test is what it would start"
SUITE = "it is this suite"


@dataclass(frozen=True, slots=True)
class Instead:
    """One row: commands that match `pattern` from their beginning."""

    pattern: str
    why: str
    shell: str = NAMED

    def matches(self, command: str) -> bool:
        """Tell whether this row is for a command."""
        return re.match(self.pattern, command) is not None


INSTEAD = (
    Instead(r"make up\b|livecart up\b", RUNNING),
    Instead(r"make (test|proofs|model)\b", SUITE),
    Instead(r"make (faults|soak|deliveries)\b", HOURS),
    Instead(r"livecart-loadtest (run|calibrate|plan|compare)\b", HOURS),
    Instead(r"livecart-loadtest audit\b", "test_cli_audit.py runs it; this sale is not over"),
    Instead(r"locust\b", "test_locust.py runs it; these are for other machines, or half a minute"),
    Instead(r"docker compose\b", "it needs Docker; test_compose.py runs its services without"),
    Instead(
        r"curl -sN .*/events", "what it follows has no end",
        "{command} --max-time 1 || test $? = 28",
    ),
    Instead(
        r'printf %s "\$SEED" \|', "what it must print is known here",
        '( {command}\n) | grep -F "$SEED_HASH"',
    ),
    Instead(
        r'printf %s "\$ME" \|', "what it must print is known here",
        '( {command}\n) | grep -F "$SCORE"',
    ),
)  # fmt: skip


def _draw(up: Up) -> dict[str, str]:
    """A draw that was held: what it showed, and who took part."""
    host, viewer = up.ready["host_token"], up.ready["viewer_token"]

    def post(path: str, body: object = None, token: str = host, **headers: str) -> dict[str, str]:
        status, found = up.call("POST", path, body or {}, token=token, **headers)
        assert status in (200, 201), found
        return found

    stream = post("/v1/streams", {"title": "drawn"})["id"]
    post(f"/v1/streams/{stream}/start")
    product = {"sku": "DRAWN", "title": "One of one", "price_minor": 100, "currency": "TWD"}
    made = {
        "product": post("/v1/products", product)["id"], "price_minor": 100, "quantity": 1,
        "mode": "draw", "opens_at": int((time.time() + 3600) * 1000),
    }  # fmt: skip
    offer = post(f"/v1/streams/{stream}/offers", made)
    path = f"/v1/offers/{offer['id']}"
    post(f"{path}/waitlist", {"qty": 1}, viewer, Idempotency_Key="entry")
    seed = post(f"{path}/open")["seed"]
    _, entries = up.call("GET", f"{path}/draw/entries", token=viewer)
    mine = entries["items"][0]
    return {
        "SEED": seed, "ME": mine["viewer"], "SEED_HASH": offer["seed_hash"], "SCORE": mine["score"]
    }  # fmt: skip


def _servers(up: Up) -> dict[str, str]:
    """The addresses that an operator has in the environment."""
    return {f"LIVECART_{each.upper()}": up.ready[each] for each in ("database_url", "redis_url")}


GIVEN: Mapping[str, Callable[[Up], dict[str, str]]] = {
    "docs/draws.md": _draw,
    "docs/database.md": _servers,
}

#: Before the Python of a page: what its text says is there.
GIVEN_PYTHON: Mapping[str, str] = {
    "docs/draws.md": "import os\nseed, me = os.environ['SEED'], os.environ['ME']\n"
    "seed_hash = os.environ['SEED_HASH']\n",
    "docs/payments-providers.md": "from orders.payments import port, trial_bank\n"
    "asked = port.Asked(payment='pay_1', amount_minor=100, currency='TWD', shop='s', viewer='v',"
    " orders=('or_1',), about='tea')\n"
    "ref = trial_bank.TrialBank('bank.sqlite').begin(asked).seen.ref\n",
}

#: Pages that have the commands of another, to the letter: a test holds them to it, and plays one.
TWINS: Mapping[str, str] = {
    "README.zh-Hant.md": "README.md",
    "docs/quickstart.zh-Hant.md": "docs/quickstart.md",
}
