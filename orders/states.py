"""The states of an order, and which may follow which: the one table of it.

Migration 0010 has the same pairs in `order_transitions`, where a trigger enforces them whoever
writes; a test holds the two together. Knows nothing else. Read by routes, exports and tests.
"""

from __future__ import annotations

from orders.records import OrderStatus

#: From each state to those that may follow; one from which nothing leads on is terminal (I8).
TRANSITIONS: dict[OrderStatus, tuple[OrderStatus, ...]] = {
    "reserved": ("confirmed", "expired", "cancelled"),
    "confirmed": ("shipped", "cancelled", "refunded"),
    "shipped": ("refunded",),
    "expired": (),
    "cancelled": (),
    "refunded": (),
}
TERMINAL: tuple[OrderStatus, ...] = tuple(s for s, after in TRANSITIONS.items() if not after)
