"""A calibration to compute with: figures of the size that a real machine has, none measured."""

from __future__ import annotations

from loadtest.calibration import COSTS, Calibration, Cost

FIGURES = {
    "hub_connect_s": 5e-4,
    "hub_connection_bytes": 4_000.0,
    "hub_base_bytes": 60e6,
    "hub_idle_share": 0.005,
    "hub_event_s": 2e-3,
    "hub_chat_event_s": 3e-4,
    "hub_delivery_s": 15e-6,
    "hub_chat_delivery_s": 1.5e-6,
    "delivery_s": 16e-6,
    "delivery_payload_bytes": 340.0,
    "delivery_wire_bytes": 470.0,
    "chat_payload_bytes": 210.0,
    "hub_viewer_s": 80e-6,
    "hub_order_s": 45e-6,
    "hub_refusal_s": 20e-6,
    "hub_again_s": 10e-6,
    "redis_order_s": 25e-6,
    "redis_refusal_s": 4e-6,
    "redis_again_s": 8e-6,
    "redis_order_bytes": 1_000.0,
    "redis_refusal_bytes": 150.0,
    "redis_hold_bytes": 300.0,
    "redis_event_s": 40e-6,
    "redis_event_bytes": 320.0,
    "redis_sent_byte_s": 7e-10,
    "redis_note_bytes": 350.0,
    "redis_lease_s": 1e-6,
    "redis_idle_share": 0.003,
    "redis_hub_idle_share": 5e-4,
    "postgres_order_s": 20e-6,
    "postgres_call_s": 1e-3,
    "postgres_sale_s": 4e-3,
    "commit_s": 5e-4,
    "wal_order_bytes": 850.0,
    "wal_sale_bytes": 10_000.0,
    "disk_order_bytes": 650.0,
    "disk_sale_bytes": 10_000.0,
    "client_viewer_s": 50e-6,
    "client_order_s": 7e-6,
    "client_refusal_s": 5e-6,
    "elapsed_sale_s": 0.01,
    "elapsed_work_times": 1.1,
    "elapsed_order_s": 10e-6,
    "others_share": 0.05,
    "again_tail_count": 1_000.0,
    "lone_buy_p50_s": 4e-3,
    "lone_buy_p99_s": 20e-3,
    "buy_up_bytes": 94.0,
    "buy_down_bytes": 420.0,
    "segment_bytes": 66.0,
}


def calibration(viewers_max: int = 1_000, **changed: float) -> Calibration:
    """Return one with these costs changed."""
    return Calibration(
        machine={"cores": "2"},
        rounds=1,
        viewers_max=viewers_max,
        costs={
            name: Cost(value=value, unit="", least=value, most=value, how=COSTS[name])
            for name, value in (FIGURES | changed).items()
        },
    )
