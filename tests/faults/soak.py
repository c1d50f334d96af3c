"""Minutes of selling with a fault every few seconds, then rest: `python -m tests.faults.soak`.

Owns the length and the rhythm: one offer with short holds, so that its units come back and are sold
again; a crowd that buys, pays, cancels and lets lapse; a host who restocks; faults drawn from a
printed seed. At the end everything must be exact: I4, I5, I11 and the rest of the audit. Exit
status 0 when it is.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections import Counter
from dataclasses import replace
from random import Random

import uvloop

from loadtest.customers import Choice, Customers
from loadtest.endings import now_ms
from loadtest.faults import FaultName, NotDone
from loadtest.web import ApiError
from tests.faults.plan import ACTIONS, SALE_POINTS, Plan, Strike, drawn
from tests.faults.results import FOLDER, commit_of, write_down
from tests.faults.sale import ANSWERS_S, Sale
from tests.faults.tree import Tree, grown
from tests.faults.verdict import findings_of

VIEWERS = 400
BUYS_A_SECOND = 250
UNITS = 1_500
PAUSE_S = (1.0, 5.0)  # between one fault's end and the next
POINT_WAIT_S = 5.0  # a point that is not reached by then is given up
RESTOCK_EVERY_S = 20.0
BEGIN, END = "<!-- soak: begin -->", "<!-- soak: end -->"


def plan_of(seed: int, seconds: float) -> Plan:
    """The sale of a soak."""
    buys = max(1, int(seconds * BUYS_A_SECOND / VIEWERS))
    return Plan(
        seed=seed, kind="soak", workers=2, viewers=VIEWERS, bursts=((0.0, buys),), units=UNITS,
        per_viewer=60, qty_max=3, payment="required", hold_s=3, pay=0.05, cancel=0.2, react_s=4.0,
        strikes=(), bundlers=10, bundles=int(seconds) + 1, beside=200,
    )  # fmt: skip


class Soak(Sale):
    """A long sale."""

    def __init__(self, plan: Plan, tree: Tree, seconds: float) -> None:
        super().__init__(plan, tree)
        self.seconds = seconds  # from the opening on: a busy machine takes long to get there
        self.ends = 0.0
        self.random = Random(plan.seed)
        self.done: Counter[str] = Counter()
        self.missed: Counter[str] = Counter()

    async def sell(self) -> None:
        """Sell until time is up, then to the last answer."""
        customers = Customers(self.swarm, self.stage.host, self._choose)
        self._react(customers)
        await self._act("open", 0, self.stage.open)
        self.opened = time.monotonic()
        self.ends = self.opened + self.seconds
        restocking = asyncio.ensure_future(self._restock())
        buying = asyncio.ensure_future(self._buy())
        while time.monotonic() < self.ends:
            await self._fault()
            await asyncio.sleep(self.random.uniform(*PAUSE_S))
        await asyncio.gather(buying, restocking)
        await self.tree.well()
        await self._all_answered()
        await customers.rest()

    def _choose(self, buy: int) -> Choice:
        draw, delay_s = self.random.random(), self.random.random() * self.plan.react_s
        if draw < self.plan.pay:
            return "pay", delay_s
        return ("cancel", delay_s) if draw < self.plan.pay + self.plan.cancel else None

    async def _buy(self) -> None:
        """A steady crowd, each viewer one buy after the other, with a rush now and then."""
        each, sent, bundles = self.plan.buys_each, 0, 0
        total = each * VIEWERS
        while sent < total and time.monotonic() < self.ends:
            due = int((time.monotonic() - self.opened) * BUYS_A_SECOND)
            while sent < min(due, total):
                viewer = self.swarm.viewers[sent % VIEWERS]
                self.swarm.send(viewer, (viewer.number * each + sent // VIEWERS,))
                sent += 1
            if bundles < min(self.plan.bundles, time.monotonic() - self.opened):
                self.bundles.send(bundles)
                bundles += 1
            await asyncio.sleep(self.random.choice((0.02, 0.02, 0.5)))

    async def _restock(self) -> None:
        """Bring back what was paid for, so that there is always something to sell; not at rest."""
        host, path = self.stage.host, f"/v1/offers/{self.stage.offer}"
        turn = 0
        while (left_s := self.ends - time.monotonic()) > 0:
            await asyncio.sleep(min(RESTOCK_EVERY_S, left_s))
            turn += 1
            act = self.history.endings.act("restock", 200)
            key = f"s{self.plan.seed}-{turn}"
            try:
                await host.call(
                    "POST", f"{path}/restock", {"add": 200}, key, ANSWERS_S, timeout_s=2.0
                )
                act.answer = "ok"
            except ApiError as error:
                act.answer = error.code
            act.answered_ms = now_ms()

    async def _fault(self) -> None:
        strike = self._drawn()
        at = len(self.struck)
        work = asyncio.ensure_future(self._strike(strike))
        limit_s = POINT_WAIT_S if strike.point else ANSWERS_S
        await asyncio.wait({work}, timeout=limit_s + strike.seconds)
        if not work.done():
            work.cancel()
            await asyncio.wait({work})
            self.tree.clear()
        fired = bool(self.struck[at].evidence)
        (self.done if fired else self.missed)[strike.kind] += 1

    def _drawn(self) -> Strike:
        random = self.random
        if random.random() < 0.5:
            strike = drawn(random.choice([*FaultName]), random, 0)
            return replace(strike, share=0.0)
        action = random.choice(ACTIONS)
        seconds = round(random.uniform(0.5, 3.0), 2) if action == "stop" else 0.0
        return Strike(f"{random.choice([*SALE_POINTS])}={action}@1", seconds=seconds)


async def soak(seed: int, seconds: float, tree: Tree) -> tuple[str, bool]:
    """Run, wait for rest and judge; return the report and whether all is exact."""
    await tree.well()
    plan = plan_of(seed, seconds)
    run = Soak(plan, tree, seconds)
    await run.set_up()
    try:
        started = time.monotonic()
        await run.sell()
        await tree.well()
        findings = await findings_of(run)
    finally:
        await run.close()
    broken = [f"{f.name} {f.claim}: {f.detail}" for f in findings if f.passed is False]
    broken += [f"protocol: {fault}" for fault in run.swarm.faults]
    history = run.history
    buys = sum(1 for written in history.written_ns if written)
    orders = sum(1 for order in history.order if order)
    bundles = sum(1 for asked in run.bundles.asked if asked.bundle)
    lines = [
        f"seed {seed}, {time.monotonic() - started:.0f} s, {buys:,} buys,"
        f" {orders:,} orders, {bundles:,} bundles,"
        f" {len(history.endings.asks):,} payments and cancellations,"
        f" {sum(run.done.values())} faults: "
        + ", ".join(f"{kind} {n}" for kind, n in sorted(run.done.items())),
        f"points that were not reached in {POINT_WAIT_S:g} s: {sum(run.missed.values())}",
        "answers: " + ", ".join(f"{what} {n:,}" for what, n in sorted(history.tally.items())),
        *(f"BROKEN {what}" for what in broken),
        "at rest all is exact" if not broken else f"{len(broken)} findings",
    ]
    return "\n".join(lines), not broken


def main() -> None:
    """Soak as the command line asks."""
    parser = argparse.ArgumentParser(prog="tests.faults.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=int(time.time()) % 100_000)
    parser.add_argument("--write", action="store_true", help="put the report into docs/")
    options = parser.parse_args()
    sys.stdout.write(f"seed {options.seed}, {options.seconds:g} s\n")
    sys.stdout.flush()
    with grown(2) as tree:
        try:
            report, exact = uvloop.run(soak(options.seed, options.seconds, tree))
        except (TimeoutError, NotDone):
            sys.stdout.write(tree.traces(200))
            raise
        if not exact:
            FOLDER.mkdir(exist_ok=True)
            (FOLDER / f"soak-{options.seed}.log").write_text(tree.traces(5_000), "utf-8")
    sys.stdout.write(report + "\n")
    if options.write and exact:
        write_down(f"`make soak` at commit `{commit_of()}`: {report}", BEGIN, END)
    sys.exit(not exact)


if __name__ == "__main__":
    main()
