"""What pages take for granted where their commands begin, made on the running server.

Owns these alone: variables and files that a reader has by then. Called by `test_commands`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from loadtest import calibration
from loadtest.history import History
from loadtest.history_file import Kept, write_file
from loadtest.result import Result, write
from loadtest.timings import Timing
from tests.integration.up_rig import Up
from tests.unit.loadtest_costs import calibration as costs


def _post(up: Up, path: str, body: object = None, token: str = "", **headers: str) -> Any:
    """What the host, or whose token it is, is answered; it must have worked."""
    token = token or up.ready["host_token"]
    status, found = up.call("POST", path, body or {}, token=token, **headers)
    assert status in (200, 201), found
    return found


def _offered(up: Up, sku: str, **fields: object) -> tuple[str, Any]:
    """A live stream of the page's own, and an offer of it with these fields."""
    stream = _post(up, "/v1/streams", {"title": sku})["id"]
    _post(up, f"/v1/streams/{stream}/start")
    product = {"sku": sku, "title": sku, "price_minor": 100, "currency": "TWD"}
    made = {"product": _post(up, "/v1/products", product)["id"], "price_minor": 100} | fields
    return stream, _post(up, f"/v1/streams/{stream}/offers", made)


def _draw(up: Up, _folder: Path) -> dict[str, str]:
    """A draw that was held: what it showed, and who took part."""
    opens_at = int((time.time() + 3600) * 1000)
    _, offer = _offered(up, "DRAWN", quantity=1, mode="draw", opens_at=opens_at)
    viewer, path = up.ready["viewer_token"], f"/v1/offers/{offer['id']}"
    _post(up, f"{path}/waitlist", {"qty": 1}, viewer, Idempotency_Key="entry")
    seed = _post(up, f"{path}/open")["seed"]
    _, entries = up.call("GET", f"{path}/draw/entries", token=viewer)
    mine = entries["items"][0]
    return {
        "SEED": seed, "ME": mine["viewer"], "SEED_HASH": offer["seed_hash"], "SCORE": mine["score"]
    }  # fmt: skip


def _servers(up: Up, _folder: Path) -> dict[str, str]:
    """The addresses that an operator has in the environment."""
    return {f"LIVECART_{each.upper()}": up.ready[each] for each in ("database_url", "redis_url")}


def shop(up: Up, folder: Path) -> dict[str, str]:
    """A server to load, with what its viewers' tokens are made with."""
    secret = (up.data_dir / "secret").read_text("utf-8").strip()
    return _servers(up, folder) | {"SHOP": up.ready["http"], "LIVECART_SECRET": secret}


def _sold(up: Up, folder: Path) -> dict[str, str]:
    """A sale, and what its one buyer saw of it."""
    stream, offer = _offered(up, "AUDITED", quantity=3)
    _post(up, f"/v1/offers/{offer['id']}/open")
    saw = History(["demo-viewer"], 1, 1, "audited")
    saw.sent_ns[0] = saw.written_ns[0] = saw.asked_ns[0] = time.perf_counter_ns()
    path, token = f"/v1/offers/{offer['id']}/orders", up.ready["viewer_token"]
    order = _post(up, path, {"qty": 1}, token, Idempotency_Key=saw.keys[0])
    told = (order["id"], order["rank"], order["expires_at"])
    saw.note(0, time.perf_counter_ns(), "order.reserved", *told)
    write_file(folder / "run.history", Kept(stream, {offer["id"]: saw}))
    return _servers(up, folder) | {"OFFER": offer["id"], "STREAM": stream}


def _published(up: Up, _folder: Path) -> dict[str, str]:
    """What MediaMTX tells its hooks of who publishes to a stream with its key."""
    stream = _post(up, "/v1/streams", {"title": "published"})["id"]
    key = _post(up, f"/v1/streams/{stream}/key")["key"]
    told = {"MTX_PATH": stream, "MTX_QUERY": f"key={key}", "MTX_SOURCE_ID": "7"}
    return told | {"HTTP": up.ready["http"], "HOST_TOKEN": up.ready["host_token"]}


def _project(_up: Up, folder: Path) -> dict[str, str]:
    """A project of the reader's; npm asks nobody for anything."""
    (folder / "your-project").mkdir()
    (folder / "your-project" / "package.json").write_text('{"private": true}', "utf-8")
    quiet = dict.fromkeys(("audit", "fund", "update_notifier"), "false") | {"offline": "true"}
    return {f"npm_config_{name}": value for name, value in quiet.items()}


def _calibrated(_up: Up, folder: Path) -> dict[str, str]:
    """What `calibrate` writes in five minutes."""
    calibration.write(folder / "calibration.json", costs())
    return {}


def _two_runs(_up: Up, folder: Path) -> dict[str, str]:
    """Two results with the figures that the page shows compared."""
    rates = ("orders_per_s", "answers_per_s", "to_last_order_s", "to_last_answer_s", "connect_s")
    percentiles = ("p50", "p90", "p99", "p99.9", "max")
    runs = {
        "monday": (
            (5884, 8033, 2.547, 3.113, 6.81), (1169, 2025.4, 2185, 2185, 2185),
            (2500.8, 2741.5, 2882, 2906, 2906),
        ),
        "tuesday": (
            (4626, 6510, 3.24, 3.842, 8.2), (1287, 2631.6, 2970, 2982, 2982),
            (3295.4, 3580, 3625, 3627, 3627),
        ),
    }  # fmt: skip
    for name, (figures, *latencies) in runs.items():
        kinds = zip(("order", "refusal"), (15_000, 10_000), latencies, strict=True)
        write(folder / f"{name}.json", Result(
            scenario="flash", title="flash sale", seed=1,
            figures=dict(zip(rates, figures, strict=True)),
            timings={
                kind: Timing(count=n, percentiles_ms=dict(zip(percentiles, ms, strict=True)))
                for kind, n, ms in kinds
            },
            outcomes={"order.reserved": 15_000, "limit_reached": 3_750, "sold_out": 6_250},
        ))  # fmt: skip
    return {}


GIVEN: Mapping[str, Callable[[Up, Path], dict[str, str]]] = {
    "docs/audit.md": _sold,
    "docs/capacity.md": _calibrated,
    "docs/database.md": _servers,
    "docs/draws.md": _draw,
    "docs/ingest.md": _published,
    "docs/loadtest.md": shop,
    "docs/loadtest-report.md": _two_runs,
    "docs/sdk.md": _project,
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
