"""A calibration against a real server of its own, so small that it is about its parts alone."""

from __future__ import annotations

from loadtest.calibration import COSTS
from loadtest.costs import Plan, Samples, calibration_of, measure
from loadtest.meters import Reading
from loadtest.prediction import measured, predict
from loadtest.probes import SETTINGS
from loadtest.server import spawned
from loadtest.trial import Sale

VIEWERS = 40


def sale(viewers: int, units: int, per_viewer: int, buys: int) -> Sale:
    """A sale without a pause."""
    return Sale(viewers=viewers, units=units, per_viewer=per_viewer, buys=buys, settle_s=0.0)


TINY = Plan(
    viewers=VIEWERS,
    rounds=1,
    pins=1,
    bursts=1,
    lone_buys=5,
    listeners=1,
    leases=200,
    idle_s=0.2,
    commits=3,
    settle_s=0.0,
    warmed=False,
    audited=False,
    sales=(sale(20, 1, 4, 5), sale(20, 240, 12, 12), sale(40, 60, 4, 5)),
)


async def test_every_cost_is_measured_on_a_real_server() -> None:
    """A round of a small calibration has each cost, and what must cost something does."""
    async with spawned(settings=SETTINGS) as target:
        samples: Samples = await measure(target, TINY, Reading(at_s=1.0))
    found = calibration_of([samples, samples], TINY)
    assert found.costs.keys() == COSTS.keys()
    assert all(cost.value >= 0 for cost in found.costs.values())
    for name in (
        *("hub_connect_s", "hub_base_bytes", "commit_s", "lone_buy_p50_s", "wal_order_bytes"),
        *("disk_order_bytes", "redis_event_bytes", "redis_note_bytes", "redis_order_bytes"),
        *("chat_payload_bytes", "buy_up_bytes", "buy_down_bytes"),
    ):
        assert found[name] > 0, name
    # An order's row with its indexes is more than its fields, less than a page.
    assert 100 < found["disk_order_bytes"] < 8192
    assert found["lone_buy_p50_s"] <= found["lone_buy_p99_s"]
    assert [trial.orders for trial in samples.trials] == [1, 240, 60]
    assert [trial.refusals for trial in samples.trials] == [99, 0, 140]
    # What is foretold is what is measured, by name.
    figures = predict(found, TINY.sales[1], simulated_s=1.0).figures
    assert figures.keys() == measured(samples.trials, samples.stages[-1]).keys()
    assert samples.stages[-1].viewers == VIEWERS
