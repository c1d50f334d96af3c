"""What a plan's machines and the ways between them carry, kind by kind.

Owns the adding up for display; the formulas are capacity's. Called by capacity.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from loadtest.capacity import Model


class Tier(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of machine or process."""

    name: str
    count: int
    share: float  # of a core, of each, while the crowd taps
    memory_bytes: float  # of each
    out_bytes_per_s: float  # of each
    of_what: str


def tiers(model: Model, hubs: int, each: int) -> list[Tier]:
    """Return what each kind of machine or process does while the crowd taps."""
    costs, wish = model.costs, model.wish
    nodes, orders = model.gate_nodes(), model.orders
    to_viewers = (
        wish.chat_per_s * costs["chat_payload_bytes"]
        + wish.buys_per_viewer / wish.window_s * costs["buy_down_bytes"]
    )
    return [
        Tier(
            name="hubs",
            count=hubs,
            share=each * model.viewer_share() + model.hub_fixed_share(),
            memory_bytes=costs["hub_base_bytes"] + each * costs["hub_connection_bytes"],
            out_bytes_per_s=each * to_viewers,
            of_what="processes, one core each",
        ),
        Tier(
            name="Redis, gate",
            count=nodes,
            share=model.gate_share() / nodes,
            memory_bytes=orders * costs["redis_hold_bytes"] / nodes,
            out_bytes_per_s=model.taps_per_s * costs["redis_refusal_bytes"] / 2 / nodes,
            of_what=f"nodes, for {model.buckets()} buckets",
        ),
        Tier(
            name="Redis, log",
            count=1,
            share=model.log_share(hubs),
            memory_bytes=0.0,
            out_bytes_per_s=model.log_out_bytes_per_s(hubs),
            of_what="node of this stream",
        ),
        Tier(
            name="Postgres",
            count=1,
            share=model.postgres_share(),
            memory_bytes=0.0,
            out_bytes_per_s=model.wal_bytes_per_s(),
            of_what="primary; the share is of one core, the network that of one replica",
        ),
    ]


def network(model: Model, hubs: int, writes_per_s: float) -> dict[str, float]:
    """Return bytes a second on each way, of all machines together."""
    costs, wish = model.costs, model.wish
    taps, orders = model.taps_per_s, model.orders_per_s
    segment = costs["segment_bytes"]
    return {
        "viewers to hubs": taps * (costs["buy_up_bytes"] + segment),
        "hubs to viewers, answers": taps * (costs["buy_down_bytes"] + segment),
        "hubs to viewers, chat": wish.viewers
        * (
            wish.chat_per_s * costs["chat_payload_bytes"]
            + min(wish.chat_per_s, writes_per_s) * segment
        ),
        "hubs to viewers, one announcement within its time": wish.viewers
        * costs["delivery_wire_bytes"]
        / wish.announce_s,
        "hubs and gate": taps * costs["redis_refusal_bytes"]
        + orders * max(0.0, costs["redis_order_bytes"] - costs["redis_refusal_bytes"]),
        "log node to hubs": model.log_out_bytes_per_s(hubs),
        "Postgres to a replica": model.wal_bytes_per_s(),
    }
