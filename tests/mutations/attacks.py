"""Sales that provoke planted bugs, each judged by the auditor alone. Run in the copy with the bug.

    python -m tests.mutations.attacks rush emptied …

Owns what is done to a server: same keys twice, limits, kills, Redis emptied, expiry, late payments,
cancellations, a waitlist. Starts one server, plays the named attacks in order until the auditor
finds one invariant broken, and prints one line of JSON that says which, and where. Nothing but
`loadtest.audit` decides: no answer that is missing, no log and no figure counts.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import uvloop

from loadtest.faults import NotDone
from loadtest.judge_deliveries import TOLD_MS
from loadtest.verdicts import shown
from loadtest.web import ApiError
from tests.faults.plan import Plan, Strike
from tests.faults.tree import Tree, grown
from tests.mutations.attacked import Attacked, Found

PLAYS = 2  # of the attacks, one after the other, before a bug is called unseen

Attack = Callable[[Attacked], Awaitable[None]]


def plan_of(seed: int, **changes: Any) -> Plan:
    """A small sale of too few units, with short holds: all but `changes`."""
    plan = Plan(
        seed=seed, kind="attack", workers=2, viewers=120, bursts=((0.0, 4), (0.5, 2)), units=260,
        per_viewer=4, qty_max=3, payment="required", hold_s=1, pay=0.15, cancel=0.15, react_s=0.7,
        strikes=(), bundlers=20, bundles=2, beside=60,
    )  # fmt: skip
    return replace(plan, **changes)


# --- the attacks ---


async def rush(sale: Attacked) -> None:
    """Each command twice, payments in time and late, cancellations twice, units restocked twice."""
    await sale.sell()
    await sale.restock_twice(7)
    await sale.ended()
    await sale.send_again()
    await sale.buy_the_rest()


async def emptied(sale: Attacked) -> None:
    """Redis forgets everything in the middle, twice; then all keys come again."""
    await sale.sell()
    await sale.ended()
    await sale.strike("flushall")
    await sale.send_again()
    await sale.buy_the_rest()


async def stale(sale: Attacked) -> None:
    """Redis comes back with an old copy of its file, and the crowd goes on buying."""
    await sale.sell()
    await sale.strike("stale-aof", 0.4)
    await sale.buy_the_rest()
    await sale.send_again()


async def overtaken(sale: Attacked) -> None:
    """Nothing but what the plan strikes; then the rest is bought."""
    await sale.sell()
    await sale.tree.well()
    await asyncio.sleep(2.5)  # the grace of holds without a row, and what is done about them
    await sale.buy_the_rest()
    await sale.send_again()


async def churned(sale: Attacked) -> None:
    """The host restocks all the time, while buyers give back; who reads movements is held up."""
    selling = asyncio.ensure_future(sale.sell())
    await asyncio.sleep(0.3)
    for n in range(12):
        for shot in ("follow.read=sleep:250@1", "gate.due=sleep:200@1"):
            sale.tree.lay(shot)
        await asyncio.gather(*(sale.restock(1, f"{n}-{turn}") for turn in range(3)))
        await asyncio.sleep(0.1)
    await selling
    sale.tree.clear()
    await sale.ended()
    await sale.buy_the_rest()


def without_orders(sale: Attacked) -> list[int]:
    """Number the viewers whom no buy of theirs got anything."""
    history = sale.history
    having = {history.owner(n) for n, order in enumerate(history.order) if order}
    return [n for n in range(sale.plan.viewers) if history.viewers[n] not in having]


async def in_turn(sale: Attacked) -> None:
    """Some wait for two units each; the first of them buys a single one; then two come, and two."""
    await sale.sell()
    idle = without_orders(sale)[:12]
    await sale.wait_in_line(idle, 2)
    await sale.restock(1, "one")
    await sale.buy_the_rest(names=[sale.history.viewers[idle[0]]])
    for turn in range(3):
        await sale.restock(2, f"two-{turn}")
    await sale.ended()


async def untold(sale: Attacked) -> None:
    """A hub dies between the COMMIT of a pin and its event, and nothing else happens after that."""
    await sale.sell()
    await sale.ended()
    host, stage = sale.stage.host, sale.stage
    product = (await host.call("GET", f"/v1/offers/{stage.offer}"))["product"]["id"]
    await sale.onlookers.rested()  # what is still to be told would meet the shot
    sale.tree.lay("publish.read=kill@1")
    with suppress(OSError):  # sent once: a second pin would tell of the first
        await host.send("POST", f"/v1/streams/{stage.stream}/pins", {"product": product})
    await sale.tree.well()
    sale.tree.clear()
    await asyncio.sleep(TOLD_MS / 1000 + 1)


async def outranked(sale: Attacked) -> None:
    """Redis is emptied while some wait for more than is free, and then a newcomer buys."""
    await sale.sell()
    await sale.wait_in_line(without_orders(sale)[:30], 2)
    await sale.strike("flushall")
    await sale.restock(1, "one")
    await sale.buy_the_rest()


NO_END = {"pay": 0.0, "cancel": 0.0}
#: Attack by name: what is done, and in which sales, one for each play.
ATTACKS: dict[str, tuple[Attack, dict[str, Any]]] = {
    "rush": (rush, {"copies": 2, "react_s": 1.7, "pay": 0.3}),
    "calm": (rush, {"qty_max": 1, "pay": 0.0, "cancel": 0.0, "per_viewer": 2}),
    "emptied": (emptied, {"strikes": (Strike("flushall", 0, 0.3), Strike("flushall", 1, 0.3))}),
    "stale": (
        stale,
        {
            "hold_s": 600, "units": 700, "cancel": 0.3, "bursts": ((0.0, 3), (0.3, 2), (0.6, 2)),
            "strikes": (Strike("stale-aof", 0, 0.2, seconds=0.3),),
        },
    ),
    "killed": (
        overtaken,
        {
            "hold_s": 600, "units": 700, "leavers": 0.3,
            "strikes": (Strike("hold.replied=kill@1"), Strike("admit.committed=kill@2")),
        },
    ),
    "fenced": (
        overtaken,
        {
            "hold_s": 600, "units": 700, "qty_max": 1, "pay": 0.0, "cancel": 0.0,
            "strikes": (Strike("admit.due=stop@1", seconds=4.5),
                        Strike("fence.read=sleep:1500@1"), Strike("fence.read=sleep:1500@2")),
        },
    ),
    "stopped": (
        overtaken,
        {
            "hold_s": 600, "units": 700, "qty_max": 1, "leavers": 0.6,
            "strikes": (Strike("admit.due=stop@1", seconds=4.5),),
        },
    ),
    "outlived": (
        overtaken,
        {
            "hold_s": 600, "units": 300, "qty_max": 1,
            "strikes": (Strike("admit.due=sleep:1800@1"), Strike("admit.due=sleep:2400@2"),
                        Strike("flushall", 0, 0.02), Strike("flushall", 1, 0.1)),
        },
    ),
    "hung": (
        overtaken,
        {
            "hold_s": 600, "units": 300,
            "strikes": (Strike("admit.sent=drop:postgres@1"),
                        Strike("admit.committed=drop:postgres@2")),
        },
    ),
    "lagging": (
        overtaken,
        {
            "pay": 0.0, "cancel": 0.4, "hold_s": 600, "restock": (0.3, 20),
            "strikes": (Strike("gate.due=kill@1", 1), Strike("gate.due=kill@2", 1),
                        Strike("host.committed=kill@1", 0)),
        },
    ),
    "shut": (
        overtaken,
        {
            "pause": (0.05, 0.9), "units": 700, "hold_s": 600,
            "strikes": (Strike("admit.due=sleep:700@1"), Strike("admit.due=sleep:700@2")),
        },
    ),
    "lowered": (overtaken, {"lower": (0.05, 150), "units": 400, "hold_s": 600}),
    "spread": (
        rush,
        {"buckets": 16, "qty_max": 1, "per_viewer": 3, "units": 300, "hold_s": 1, "cancel": 0.3},
    ),
    "spread-hung": (
        overtaken,
        {
            "buckets": 16, "qty_max": 1, "per_viewer": 6, "units": 700, "hold_s": 600,
            "bursts": ((0.0, 4), (0.4, 3)),
            "strikes": (Strike("lend.held=stop@1", 0, seconds=4.0),
                        Strike("transfer.committed=kill@1", 1)),
        },
    ),
    "churn": (churned, {"cancel": 0.6, "pay": 0.1, "react_s": 1.2, "hold_s": 2}),
    "spread-lowered": (
        overtaken,
        {
            "buckets": 16, "lower": (0.25, 256), "qty_max": 1, "units": 400, "hold_s": 600,
            "pay": 0.0, "cancel": 0.0, "bursts": ((0.0, 1), (0.5, 1)),
            "strikes": (Strike("gate.due=sleep:600@1"), Strike("gate.due=sleep:600@2")),
        },
    ),
    "spread-emptied": (
        emptied,
        {
            "buckets": 4, "qty_max": 1, "per_viewer": 3, "units": 300, "hold_s": 600,
            "strikes": (Strike("admit.due=sleep:1500@1"), Strike("flushall", 0, 0.1)),
        },
    ),
    "line": (in_turn, {"units": 60, "per_viewer": 2, "qty_max": 1, "hold_s": 600, **NO_END}),
    "spread-line": (
        in_turn,
        {"units": 60, "per_viewer": 2, "qty_max": 1, "hold_s": 600, "buckets": 4, **NO_END},
    ),
    "untold": (untold, {"pay": 0.0, "cancel": 0.0, "hold_s": 1}),
    "line-emptied": (
        outranked,
        {"units": 60, "per_viewer": 2, "qty_max": 1, "payment": "none", "pay": 0.0, "cancel": 0.0},
    ),
    "bundled-lowered": (
        overtaken,
        {
            "bundlers": 100, "bundles": 1, "beside": 900, "units": 900, "viewers": 60,
            "hold_s": 600, "pay": 0.0, "cancel": 0.0, "qty_max": 1, "per_viewer": 12,
            "lower": (0.3, 200), "bursts": ((0.0, 1), (0.5, 2)),
            "strikes": (Strike("gate.due=sleep:900@1"), Strike("gate.due=sleep:900@2")),
        },
    ),
    "bundled": (
        overtaken,
        {"bundlers": 60, "bundles": 2, "beside": 90, "units": 900, "viewers": 60, "hold_s": 600,
         "strikes": (Strike("bundle.held=kill@2"),)},
    ),
}  # fmt: skip


async def play(name: str, seed: int, tree: Tree) -> Found:
    """Play one attack and return what is broken; a server that is gone leaves nothing to judge."""
    attack, changes = ATTACKS[name]
    await tree.well()
    sale = Attacked(plan_of(seed, **changes), tree)
    await sale.set_up()
    try:
        await attack(sale)
        await tree.well()
        found = await sale.judged()
    finally:
        await sale.close()
        await sale.onlookers.close()
    return [(of, one) for of, one in found if one.passed is False]


async def hunt(names: Sequence[str], plays: int, tree: Tree) -> dict[str, object]:
    """Play attacks until one is found out; say by which invariant, and after how long."""
    began, missed = time.monotonic(), []
    for turn in range(plays):
        for name in names:
            try:
                async with asyncio.timeout(90):
                    broken = await play(name, 1 + turn, tree)
            except (TimeoutError, ApiError, NotDone, OSError) as error:
                missed.append(f"{name}: {type(error).__name__} {error}"[:160])
                continue
            if broken:
                told = [(of, one.name, breach) for of, one in broken for breach in shown(one)]
                return {
                    "verdict": "caught",
                    "by": list(dict.fromkeys(one.name for _, one in broken)),
                    "attack": name,
                    "s": round(time.monotonic() - began, 1),
                    "said": [f"{by}: {breach.text}" for _, by, breach in told[:3]],
                }
    took = round(time.monotonic() - began, 1)
    return {"verdict": "not seen", "s": took, "missed": missed}


def main() -> None:
    """Play the attacks that the command line names; all of them, once, when it names none."""
    names = sys.argv[1:]
    with grown(2) as tree:
        result = uvloop.run(hunt(names or [*ATTACKS], PLAYS if names else 1, tree))
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
