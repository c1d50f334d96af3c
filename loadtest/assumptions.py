"""What a plan takes for granted, in sentences: each with its figure and where that is from.

Owns the words only; the formulas are capacity's. Called by capacity.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from loadtest.capacity import Model

Source = Literal["measured", "assumed", "given"]


class Assumption(msgspec.Struct, frozen=True, kw_only=True):
    """One sentence, with where its figure is from."""

    text: str
    source: Source


def assumptions(model: Model, hubs: int, batch: int, writes_per_s: float) -> list[Assumption]:
    """Return every assumption of a plan, what was asked for first."""
    given = [Assumption(source="given", text=text) for text in _given(model)]
    measured = [Assumption(source="measured", text=text) for text in _measured(model, hubs)]
    words = _assumed(model, batch, writes_per_s)
    return given + measured + [Assumption(source="assumed", text=text) for text in words]


def _given(model: Model) -> list[str]:
    wish = model.wish
    return [
        f"{wish.viewers:,} viewers tap {wish.buys_per_viewer:g} times each, evenly over"
        f" {wish.window_s:g} s: {model.taps_per_s:,.0f} buys a second.",
        f"An order waits {wish.queue_s:g} s for its lock at the most, a hub's last viewer has the"
        f" offer within {wish.announce_s:g} s of its first.",
        f"{wish.chat_per_s:g} chat messages a second go to everybody.",
        f"Nothing is planned beyond {wish.headroom:.0%} of a core.",
    ]


def _measured(model: Model, hubs: int) -> list[str]:
    costs = model.costs

    def us(name: str) -> str:
        one = costs.costs[name]
        return f"{one.value * 1e6:,.3g} µs ({one.least * 1e6:,.3g} to {one.most * 1e6:,.3g})"

    def size(name: str) -> str:
        return f"{costs[name]:,.0f} bytes"

    return [
        f"An event on its own costs a hub {us('hub_delivery_s')} a viewer; of many chat messages"
        f" at once each {us('hub_chat_delivery_s')}; an event {us('hub_event_s')} besides.",
        f"In a sale a viewer costs his hub {us('hub_viewer_s')}, a refused buy"
        f" {us('hub_refusal_s')}, an order {us('hub_order_s')}.",
        f"To let a viewer in costs {us('hub_connect_s')}, to keep him"
        f" {size('hub_connection_bytes')}, the process {size('hub_base_bytes')}.",
        f"Redis: {us('redis_refusal_s')} a refusal, {us('redis_order_s')} an order,"
        f" {size('redis_hold_bytes')} a hold, {us('redis_event_s')} an event for each hub.",
        f"The news of an order are {size('redis_note_bytes')} for each of {hubs:,} hubs,"
        f" {costs['redis_sent_byte_s'] * 1e9:.2g} ns of Redis a byte; the lease of a hub costs"
        f" {us('redis_lease_s')} each time that it is added up.",
        f"Postgres: {us('postgres_order_s')} an order, {us('postgres_call_s')} a call,"
        f" {us('commit_s')} a COMMIT: {model.lock_orders_per_s():,.0f} orders a second and lock;"
        f" {size('wal_order_bytes')} of WAL and {size('disk_order_bytes')} of disk an order.",
    ]


def _assumed(model: Model, batch: int, writes_per_s: float) -> list[str]:
    assumed = model.assumed
    return [
        f"A core in production is {assumed.speed:g} times as fast as one here, and a hub process"
        " has one to itself, with what the kernel does for its sockets.",
        f"Batches are full ({batch}), and buckets run dry together: what they lend each other at"
        " the end is left out.",
        f"Postgres has {assumed.postgres_cores} cores, its disk takes"
        f" {assumed.wal_bytes_per_s / 1e6:,.0f} MB/s, each link"
        f" {assumed.link_bytes_per_s * 8 / 1e9:g} Gbit/s; a hub reads another's order in"
        f" {assumed.note_decode_s * 1e6:g} µs and has {assumed.connections_max:,} connections at"
        " the most.",
        f"Beyond {writes_per_s:g} writes a second to a viewer, chat shares writes.",
        "Viewers are spread evenly over hubs, and are connected before the drop.",
        f"A segment has {model.costs['segment_bytes']:.0f} bytes of headers (Ethernet, IPv4, TCP),"
        " no TLS and no compression: TLS is the load balancer's.",
    ]
