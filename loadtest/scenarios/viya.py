"""What a famous host sold in a minute, in a second and a half."""

from __future__ import annotations

from dataclasses import dataclass

from loadtest.scenarios.flash import Flash


@dataclass(slots=True, frozen=True, kw_only=True)
class Viya(Flash):
    """15,000 units to 5,000 viewers, which the best-known of hosts sold within a minute."""

    name = "viya"
    title = "15,000 units in what used to be a minute"
    limits = {"figures.to_last_order_s": "<= 1.5", "outcomes.order.reserved": "== 15000"}
