"""The served OpenAPI document against the server, by schemathesis with every check on.

Its command line runs in a process of its own: what it warns of is not this suite's, and the server
keeps a core. What it is told beside the document is in `fuzz_hooks`. Longer and from other seeds:
`PROOF_DEPTH=1 PROOF_SEED=7 pytest tests/contract/test_openapi_fuzz.py`.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from livecart.api.table import OPERATIONS
from tests.contract.access_rig import SETTINGS
from tests.contract.http_rig import Shop, serving, token

SEED = int(os.environ.get("PROOF_SEED", "1"))
DEPTH = int(os.environ.get("PROOF_DEPTH", "0"))
EXAMPLES = 2 * (1 + 10 * DEPTH)  # of each operation, beside those that cover its document
SEQUENCES = 10 * (1 + 10 * DEPTH)
FUZZ_S = 300.0 * (1 + 5 * DEPTH)  # on whatever machine
#: Methods that an operation's path does not have: one code answers them all.
METHODS = ["PUT", "TRACE"] if DEPTH == 0 else ["GET", "PUT", "POST", "DELETE", "PATCH", "TRACE"]

CONFIG = """
seed = {seed}
max-stream-events = 1
request-timeout = 10.0
continue-on-failure = true
warnings = false

[checks]
enabled = true

[phases.coverage]
unexpected-methods = {methods}

[phases.stateful]
max-steps = 6

[phases.stateful.generation]
max-examples = {sequences}

[generation]
max-examples = {examples}
database = "none"

[auth.wfc]
path = "{users}"
peers = ["ann", "bob"]
"""


async def _ids(shop: Shop) -> dict[str, list[str]]:
    """Make some of each noun; return their ids."""
    stream = await shop.stream()
    product = await shop.product()
    offers = [
        await shop.offer(stream, product=product, per_viewer=1000, quantity=100_000),
        await shop.offer(stream, product=product, payment="none", per_viewer=1000),
        await shop.offer(stream, product=product, opened=False),
        await shop.offer(stream, product=product, opened=False, mode="draw",
                         opens_at=1_900_000_000_000),
    ]  # fmt: skip
    ann, orders = token("viewer", "ann"), []
    for n in range(12):
        orders.append((await shop.buy(offers[0], "ann", 1, f"k{n}")).json()["id"])
    for order in orders[8:]:
        await shop.made("POST", f"/v1/orders/{order}/pay")
    for order in orders[10:]:
        await shop.made("POST", f"/v1/orders/{order}/ship")
    sent_back = await shop.made(
        "POST", f"/v1/orders/{orders[-1]}/returns", {"reason": "x"}, token=ann
    )
    payment = (await shop.made("POST", f"/v1/orders/{orders[0]}/pay", token=ann))["payment"]
    pin = (await shop.made("POST", f"/v1/streams/{stream}/pins", {"product": product}))["id"]
    said = {"platform": "elsewhere", "id": "c1", "user": "u", "text": "+1"}
    heard = await shop.made("POST", f"/v1/streams/{stream}/comments", {"comments": [said]})
    webhook = (await shop.made("POST", "/v1/webhooks", {"url": "https://shop.example/x"}))["id"]
    delivery = (await shop.made("POST", f"/v1/webhooks/{webhook}/test"))["id"]
    return {
        "stream": [stream], "product": [product], "offer": offers, "order": orders, "pin": [pin],
        "payment": [payment["id"]], "return": [sent_back["id"]], "webhook": [webhook],
        "delivery": [delivery], "comment": [heard["comments"][0]["comment"]],
        "provider": ["manual"],
    }  # fmt: skip


#: One of each role, and a second viewer, who must not see what is the first's.
USERS = {"viewer": "ann", "host": "host-1", "service": "svc", "admin": "root"}
PEERS = ("ann", "bob")


def _credentials(link: str) -> str:
    """Return the tokens of all, as Web Fuzzing Commons writes them down; each has the link, too."""
    users = [*((name, role) for role, name in USERS.items()), ("bob", "viewer")]
    return json.dumps({
        "auth": [
            {
                "name": name,
                "fixedHeaders": [
                    {"name": "Authorization",
                     "value": f"Bearer {token(role, name, shop='shop-1')}"},
                    {"name": "Livecart-Checkout", "value": link},
                ],
            }
            for name, role in users
        ]
    })  # fmt: skip


@pytest.mark.timeout(FUZZ_S + 30)
async def test_the_server_is_as_its_document_says(
    redis_url: str,
    database_url: str,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    """No 5xx, no undocumented answer, nothing taken that the document forbids, nor the contrary."""
    config = CONFIG.format(
        seed=SEED,
        examples=EXAMPLES,
        sequences=SEQUENCES,
        methods=METHODS,
        users=tmp_path / "users.json",
    )
    (tmp_path / "schemathesis.toml").write_text(config)
    async with serving(redis_url, database_url, **SETTINGS) as shop:
        ids = await _ids(shop)
        link, _ = shop.services.links.issue("ann", ids["order"][:4], 3600)
        (tmp_path / "users.json").write_text(_credentials(link))
        fuzz = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "schemathesis.cli", "--no-color",
            "--config-file", str(tmp_path / "schemathesis.toml"),
            "run", f"http://127.0.0.1:{shop.port}/openapi.json", "--checks", "all",
            cwd=tmp_path,
            env=os.environ | {
                "SCHEMATHESIS_HOOKS": "tests.contract.fuzz_hooks",
                "PYTHONPATH": str(Path(__file__).parents[2]),
                "LIVECART_FUZZ_IDS": json.dumps(ids),
                "LIVECART_FUZZ_USERS": json.dumps(USERS),
            },
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        try:
            told, _ = await asyncio.wait_for(fuzz.communicate(), FUZZ_S)
        finally:
            if fuzz.returncode is None:
                fuzz.kill()
                await fuzz.wait()
    if fuzz.returncode != 0:
        pytest.fail(told.decode(), pytrace=False)
    lines = [line.strip() for line in told.decode().splitlines()]
    assert f"Tested: {len(OPERATIONS)}" in lines
    record_property("covered", f"schemathesis: {next(x for x in lines if ' generated, ' in x)}")
