"""The world of a schedule, judged: what was said must be so, and gate and rows must agree.

Owns the judgement of each answer when it is given and of everything at the end, by queries of its
own. Knows nothing of how steps are ordered. Called by the tests that step.
"""

from __future__ import annotations

from typing import Any

import msgspec

from orders.records import (
    Accepted,
    Bundled,
    Order,
    Refused,
)
from orders.states import TERMINAL, TRANSITIONS
from orders.stock.gate import Frozen, Standing
from orders.stock.keys import key_field, keys_of
from tests.property.actors import Actors
from tests.property.stepping import Process
from tests.property.tills import Tills
from tests.shop import until


class World(Actors):
    """Offers and actors, with what must be so of them."""

    async def begin(self, units: int, per_viewer: int, offers: int = 1, buckets: int = 1) -> None:
        """Put fresh offers on sale."""
        self.steps.witness = self._witness
        self.tills = Tills(self)
        await self.tills.forget()
        await super().begin(units, per_viewer, offers, buckets)

    # --- what must be so ---------------------------------------------------------------------

    async def _witness(self, process: Process, verb: str, args: Any, result: Any) -> None:
        """Judge an answer when it is given: what is final must be true then (R6)."""
        if verb == "admit":
            words = result[0]["outcomes"] or ()
            self.masked += [w for w in words if w in ("sold_out", "limit_reached")]
        elif verb == "admit_bundle":
            words = [row["word"] for row in result]
            self.masked += [w for w in words if w in ("sold_out", "limit_reached")]
        elif verb == "install" and result[0] == b"ok":
            if args[1] < self.installed.get(args[0], 0):
                self.broken.append(f"an older rebuild took the place of {self.installed}")
            self.installed[args[0]] = args[1]
        elif (
            verb == "hold"
            and "~" not in args[0]
            and {b"sold_out", b"limit_reached"} & set(result[5::3])
        ):
            await self._judge_refusals(args[0], msgspec.msgpack.decode(args[2]), result[5::3])

    async def _judge_refusals(self, offer: str, buys: list[Any], words: list[bytes]) -> None:
        """Units that have a row must be enough to refuse for: others may still come back."""
        rows = await self.shop.fetch("select id from orders where offer = $1", offer)
        keys, named = keys_of(offer), {row["id"].encode() for row in rows}
        redis: Any = self.shop.redis
        state = await redis.hmget(keys.state, "quantity", "per_viewer")
        holds = await redis.hgetall(keys.holds)
        sold = [record.split(b" ", 2) for id_, record in holds.items() if id_ in named]
        for viewer, qty, word in zip(buys[::4], buys[1::4], words, strict=True):
            own = key_field(viewer, "").encode()
            units = sum(int(n) for _, n, field in sold)
            units_own = sum(int(n) for _, n, field in sold if field.startswith(own))
            if (word == b"sold_out" and units + qty <= int(state[0])) or (
                word == b"limit_reached" and units_own + qty <= int(state[1])
            ):
                self.broken.append(f"{viewer} was told {word.decode()}, which may yet change")

    async def judge(self) -> None:
        """Finish what is open, have the keeper come to rest, and compare everything."""
        judge = self.process("judge")
        await self.come_to_rest()
        for (viewer, key), (qty, n) in self.asked.items():
            if (viewer, key) not in self.told:
                outcome = await judge.buy_until_final(self.offers[n], viewer, qty, key)
                self.answered(viewer, key, outcome)
        for (viewer, key), told in self.bundles.items():
            if told is None:
                lines = [(offer, 1) for offer in self.offers]
                self.bundles[viewer, key] = await judge.bundle("st", viewer, lines, key)
        for viewer in [viewer for viewer, outcome in self.waits.items() if outcome is None]:
            while self.waits[viewer] is None:
                await self.wait(judge, viewer)
                await self.look_after(judge)
        if self.tills.used:
            await self.tills.come_to_rest()
            await self.come_to_rest()
        await until(lambda: all(c.idle for c in judge.selling._counters.values()))
        for offer in self.gates:
            await self.at_rest(offer)
        if self.tills.used:
            await self.tills.judge()
        await self._compare()
        if self.spread.spread:
            await self._whole()
        for offer in self.offers:
            await self.sell_the_rest(offer)
        assert not self.broken, self.broken

    async def come_to_rest(self) -> None:
        """Have the keeper finish what everybody left (I11)."""
        judge = self.process("judge")
        for _ in range(3):
            await self.look_after(judge)
            await judge.keeper.expire()
            await judge.keeper.look_after_buckets()
            stands = [await judge.gate.probe(gate, 0, 1) for gate in self.gates]
            if all(isinstance(one, Standing) and not one.unwritten for one in stands):
                break

    async def at_rest(self, offer: str) -> None:
        """Compare the gate with the ledger; a closed offer's may be gone, and is not rebuilt."""
        judge = self.process("judge")
        sums = await judge.keeper.reconciler.books.sums(offer)
        assert sums is not None
        assert not sums.differences()
        if (await judge.ledger.offers([offer]))[0].status == "closed":
            stands = await judge.gate.probe(offer, 0, 1)
            assert isinstance(stands, Frozen) or not stands.unwritten
            return
        with self.steps.loop.asking():
            await self.shop.at_rest(offer)
            names = ("quantity", "per_viewer", "status")
            redis: Any = self.shop.redis
            state = await redis.hmget(keys_of(offer).state, *names)
            row = (await self.shop.fetch("select * from offers where id = $1", offer))[0]
        assert [int(state[0]), int(state[1])] == [row["quantity"], row["per_viewer"]]
        assert (state[2] == b"paused") == (row["status"] == "paused")
        assert state[2] in (b"open", b"sold_out", b"paused")  # the first two sell what there is

    async def _whole(self) -> None:
        """Hold an offer to its buckets; who was told `sold_out` saw all units gone (I5)."""
        judge = self.process("judge")
        await judge.keeper.look_after_buckets()
        sums = await judge.keeper.reconciler.books.sums(self.offer)
        assert sums is not None
        assert not sums.differences()
        with self.steps.loop.asking():
            await self.shop.whole_at_rest(self.offer, judge)
            left = (await judge.ledger.offers([self.offer]))[0].left
        for (viewer, _), outcome in self.told.items():
            if isinstance(outcome, Refused) and outcome.why == "sold_out":
                assert left == 0, f"{viewer} was told sold_out, and {left} are left"

    async def sell_the_rest(self, offer: str) -> None:
        """Whoever wants what is left gets it, and one more is refused (I5)."""
        judge = self.process("judge")
        row = (await judge.ledger.offers([offer]))[0]
        if row.status == "paused":
            outcome = await judge.buy(offer, "eager", 1, "k")
            assert isinstance(outcome, Refused)
            assert outcome.why == "not_open"
            await judge.changes.resume_offer(offer)
        for n in range(row.left + 1 if row.active else 0):
            outcome = await judge.buy_until_final(offer, f"rest{n}", 1, "k")
            assert isinstance(outcome, Accepted) == (n < row.left), outcome
            assert isinstance(outcome, Accepted) or outcome.why == "sold_out"

    async def _compare(self) -> None:
        """What was said is so: orders, refusals and changes (I2, I8, I10)."""
        found = await self.fetch("select * from orders where offer = any ($1)", self.offers)
        rows = {(row["viewer"], row["key"]): row for row in found}
        for (viewer, key), bundle in self.bundles.items():
            ids = sorted(r["id"] for r in found if (r["viewer"], r["key"]) == (viewer, key))
            named = [o.id for o in bundle.orders] if isinstance(bundle, Bundled) else []
            assert ids == sorted(named), (viewer, bundle, ids)
            assert len(ids) in (0, len(self.offers))  # all or nothing
        for mine, outcome in self.told.items():
            if isinstance(outcome, Accepted):
                row = rows[mine]
                assert (row["id"], row["rank"]) == (outcome.order.id, outcome.order.rank)
                assert (row["qty"], row["offer"]) == (self.asked[mine][0], outcome.order.offer)
            else:
                assert mine not in rows, (mine, outcome)
        await self._compare_waits({viewer for viewer, key in rows if key == "w"})
        status = {row["id"]: row["status"] for row in found}
        heard = [order for p in self.steps.processes for order in p.heard.changes]
        for said in [*heard, *(c for c in self.changed if isinstance(c, Order))]:
            now = status[said.id]
            if self.tills.used and now in TRANSITIONS[said.status]:
                continue  # what a host, or the money, ended
            assert said.status in (now, "reserved"), (said, status)
        ended = sum(row["qty"] for row in found if row["status"] in TERMINAL)
        moved = await self.fetch(
            "select coalesce(sum(units) filter"
            " (where kind = 'release'), 0) as back, coalesce(sum(units) filter"
            " (where reason = 'restock'), 0) as added from movements where offer = any ($1)",
            self.offers,
        )  # fmt: skip
        assert moved[0]["added"] <= sum(self.restocks.values())
        assert moved[0]["back"] == ended

    async def _compare_waits(self, served: set[str]) -> None:
        """Who was told that he waits does, or got an order; nobody waits for what is free."""
        sql = "select viewer, qty from waitlist where offer = $1 and left_at is null"
        waiting = {row["viewer"]: row["qty"] for row in await self.fetch(sql, self.offer)}
        offer = (await self.process("judge").ledger.offers([self.offer]))[0]
        for viewer, outcome in self.waits.items():
            assert (viewer in waiting) + (viewer in served) == (not isinstance(outcome, Refused))
            assert not isinstance(outcome, Accepted) or viewer in served
        assert offer.status != "open" or all(qty > offer.left for qty in waiting.values())


def said(world: World) -> str:
    """Describe what everybody was told, for a failure."""
    return "\n".join(
        [
            *(f"{mine}: {msgspec.to_builtins(outcome)}" for mine, outcome in world.told.items()),
            *(f"{mine}: {msgspec.to_builtins(told)}" for mine, told in world.bundles.items()),
            *(f"{viewer}/w: {told}" for viewer, told in world.waits.items()),
            *(f"change: {msgspec.to_builtins(change)}" for change in world.changed),
        ]
    )
