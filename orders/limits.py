"""The bounds of selling, each with its default and unit."""

from __future__ import annotations

import msgspec


class SellingLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What selling may hold, wait for and send at once."""

    hold_batch_max: int = 500  # buys in one script call: keeps Redis from blocking for long
    admit_batch_max: int = 500  # lines in one admission: rates are flat beyond
    admissions_at_once: int = 2  # per offer: one waits for the lock while the other works
    unwritten_hub_max: int = 2_000  # holds of one offer that this hub has not resolved (R6)
    unwritten_offer_max: int = 20_000  # the same over all hubs
    waiting_max: int = 100_000  # buys of one hub that have no answer yet
    park_s: float = 1.0  # how long a buy may wait for others' holds (R6)
    poll_s: float = 0.02  # how often a parked buy looks again when nothing tells
    look_s: float = 0.1  # how often viewers parked by their limit look again,
    look_max: int = 100  # and how many of them at once
    answer_s: float = 0.8  # past this a dependency counts as away, and buys get `retry`
    retry_after_ms: int = 200  # on average, while few are told so;
    retries_per_s: int = 2_500  # so many a second double it,
    retry_after_max_ms: int = 5_000  # up to here
    offers_cached_max: int = 10_000
    wait_batch_max: int = 500  # viewers who join a waitlist under one lock
    wait_tries_max: int = 5  # a join that finds stock in Postgres buys again so often
    line_qty_max: int = 1_000  # units of one offer in a bundle, its lines summed
    bundles_max: int = 1_000  # bundles of one hub that have no answer yet
    bundle_admissions_at_once: int = 4  # each is a call of its own: leave connections to others
