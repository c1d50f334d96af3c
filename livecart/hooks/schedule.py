"""When a delivery is tried again, and whose turn it is. Pure; called by the sender."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from random import Random

from livecart.hooks.limits import HookLimits
from orders.ledger.hooks import Waiting

FIRST_S = 5.0
FACTOR = 3.0
LONGEST_S = 6 * 3_600.0
ASKED_MAX_S = 3_600.0  # as long as this a receiver may ask for with Retry-After
FAILING = 3  # failures in a row after which an endpoint gets one attempt at a time


def wait_s(tries: int, asked_s: float | None, uniform: Callable[[float, float], float]) -> float:
    """Return how long to wait after the `tries`-th failure: 5 s, 15 s, 45 s … up to 6 h.

    Each up to a third shorter or longer, so that what failed together does not come back together.
    `asked_s`: what the receiver asked for; waited for at the least, within bounds.
    """
    power = min(tries - 1, 20)
    usual = min(FIRST_S * FACTOR**power, LONGEST_S) * uniform(2 / 3, 4 / 3)
    return max(usual, min(asked_s or 0.0, ASKED_MAX_S))


def shares(
    waiting: Sequence[Waiting], sending: Counter[str], limits: HookLimits, random: Random
) -> dict[str, int]:
    """Return how many deliveries to claim of each endpoint.

    `sending`: attempts under way, by endpoint and by shop. Endpoints take turns in a random order,
    one attempt each a turn, so that neither a slow shop nor a full one is all others' delay.
    """
    free = limits.sending_max - sum(sending[one] for one in sending if one.startswith("wh_"))
    room: dict[str, int] = {}
    for one in waiting:
        most = 1 if one.failures >= FAILING else limits.endpoint_sending_max
        room[one.id] = max(0, most - sending[one.id])
    of_shop = {one.shop: limits.shop_sending_max - sending[shop_key(one.shop)] for one in waiting}
    found: dict[str, int] = {}
    turns = list(waiting)
    random.shuffle(turns)
    while turns and free > 0:
        left = []
        for one in turns:
            if free > 0 and room[one.id] > 0 and of_shop[one.shop] > 0:
                found[one.id] = found.get(one.id, 0) + 1
                room[one.id] -= 1
                of_shop[one.shop] -= 1
                free -= 1
                left.append(one)
        turns = left
    return found


def shop_key(shop: str) -> str:
    """Return what a shop is counted under, beside its endpoints."""
    return f"\0{shop}"
