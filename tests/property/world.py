"""An offer (or two) between several processes, and what everybody was told about it.

Owns the start of a schedule (fresh offers), its actors, and the judgement at its end, which asks
the servers with queries of its own. Knows nothing of how steps are ordered.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, cast
from urllib.parse import urlsplit

import asyncpg
import msgspec

from livecart.embedded import Running
from orders.compare import Difference
from orders.keeper import KeeperLimits
from orders.ledger.ledger import LedgerAway, Line
from orders.reconcile import ReconcileLimits
from orders.records import Accepted, Bundled, BundleOutcome, Offer, Order, Outcome, Refused
from orders.stock.gate import Decided, Frozen, GateAway, GateBroken, Standing, State
from orders.stock.keys import key_field, keys_of, staged
from tests.property.stepped_loop import SteppedLoop
from tests.property.stepping import Process, Steps
from tests.shop import Shop, until

#: A keeper that waits for nobody.
AT_ONCE = KeeperLimits(grace_ms=0, lag_grace_s=0, building_s=0)

#: What all offers here share.
PREPARE = """
    insert into streams (id, shop, title, status) values ('st', 's', 't', 'live');
    insert into products (id, shop, sku, title, price_minor, currency)
        values ('pr', 's', 's', 't', 2900, 'TWD')
"""
#: Offers that no keeper looks at any more; to delete them would leave more behind than they are.
SHELVE = """
    with shelved as (
        update offers set status = 'closed', closed_at = null, gate_movement = last_movement
         where id = any ($1))
    update orders set expires_at = null where offer = any ($1) and expires_at is not null
"""
#: An offer on sale, and its books' first line.
MAKE = """
    with made as (
        insert into offers (id, stream, product, price_minor, quantity, per_viewer, status,
                            announced, hold_s, payment, extends)
            values ($1, 'st', 'pr', 2900, $2, $3, 'open', true, 600, 'required', 3)
        returning id, quantity, epoch)
    insert into movements (offer, n, kind, units, reason, epoch)
        select id, 0, 'quantity', quantity, 'created', epoch from made
"""
_numbers = itertools.count(1)


class World:
    """What one schedule happens to; `begin` makes it anew."""

    def __init__(self, steps: Steps, shop: Shop) -> None:
        self.steps = steps
        self.shop = shop
        self._forget()

    def _forget(self) -> None:
        self.offers: list[str] = []
        self.asked: dict[tuple[str, str], tuple[int, int]] = {}  # (viewer, key) -> qty, offer
        self.told: dict[tuple[str, str], Outcome] = {}  # final answers
        self.bundles: dict[tuple[str, str], BundleOutcome | None] = {}  # None: open yet
        self.changed: list[Order | Refused | Offer] = []  # answers to changes
        self.masked: list[str] = []  # what the ledger alone refused
        self.broken: list[str] = []  # untrue answers
        self.restocks: dict[str, int] = {}  # what a host asked for, by its key
        self.installed: dict[str, int] = {}  # the epoch of each gate, while Redis keeps it
        self._copy: dict[str, bytes] = {}  # of Redis, as it was
        self.mended: list[tuple[str, Sequence[Difference]]] = []  # by reconcile, and how
        self.actors: list[asyncio.Task[Any]] = []

    @property
    def offer(self) -> str:
        """The offer; the first of them."""
        return self.offers[0]

    @classmethod
    async def open(cls, servers: Running, template: str, name: str) -> World:
        """Connect to a database of that name, made here, and make what all its offers share."""
        url = urlsplit(servers.database_url)._replace(path=f"/{name}").geturl()
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SteppedLoop)
        with loop.asking():
            admin: asyncpg.Connection[Any] = await asyncpg.connect(servers.database_url)
            await admin.execute(f"create database {name} template {template}")
            await admin.close()
        steps = await Steps.open(url, servers.redis_url)
        shop = Shop(url, servers.redis_url)
        shop._pools.append(steps.pool)
        shop._clients.append(steps.client)
        with loop.asking():
            await steps.pool.execute(PREPARE)
        return cls(steps, shop)

    async def begin(self, units: int, per_viewer: int, offers: int = 1) -> None:
        """Put fresh offers on sale."""
        self._forget()
        self.steps.witness = self._witness
        judge = self.steps.process("judge", AT_ONCE)
        state = State(
            status="open", live=True, opens_ms=0, closes_ms=0, quantity=units,
            per_viewer=per_viewer,
        )  # fmt: skip
        number = next(_numbers)
        for n in range(offers):
            offer = f"of_{number}_{n}"
            await self.fetch(MAKE, offer, units, per_viewer)
            assert await judge.gate.install(
                offer, staged(offer, 1, "x"), 1, state, units, 0, 0, (0, 0, 0)
            )
            self.offers.append(offer)
        self._rows = await judge.ledger.offers(self.offers)

    async def end(self) -> None:
        """Leave nothing to do behind."""
        await self.steps.end()
        self.steps.witness = None
        await self.fetch(SHELVE, self.offers)

    async def fetch(self, sql: str, *args: object) -> list[Any]:
        """Ask the database beside all steps."""
        with self.steps.loop.asking():
            return list(await self.shop.fetch(sql, *args))

    def process(self, name: str) -> Process:
        """Return the process of that name."""
        for process in self.steps.processes:
            if process.name == name:
                return process
        process = self.steps.process(name, AT_ONCE)
        process.keeper.reconciler.limits = ReconcileLimits(grace_s=0)
        for row in self._rows:
            process.selling._remember(row)  # as after its first buy
        return process

    def start(self, name: str, work: Callable[[Process], Coroutine[Any, Any, None]]) -> None:
        """Let an actor begin in the process of that name."""
        process = self.process(name)

        async def act() -> None:
            try:
                await work(process)
            except (LedgerAway, GateAway, GateBroken):
                return  # it does not know: that is an answer too

        self.actors.append(process.start(act()))

    # --- what went before ----------------------------------------------------------------------

    async def bought(self, viewer: str, due: bool = False) -> str:
        """Have an order made, and its time over if it is to be `due`; return its id."""
        judge = self.process("judge")
        await self.buy(judge, viewer)
        await until(lambda: judge.selling._counters[self.offer].idle)
        outcome = self.told[viewer, "k"]
        assert isinstance(outcome, Accepted)
        if due:
            sql = "update orders set expires_at = now() where offer = $1 and viewer = $2"
            await self.fetch(sql, self.offer, viewer)
        assert judge.selling._counters[self.offer].idle
        return outcome.order.id

    async def abandoned(self, viewer: str, admitted: bool) -> None:
        """Have a hold left by a hub that died before its row, or before its mark."""
        judge = self.process("judge")
        id_ = f"or_{viewer}_{self.offer}"
        decided = await judge.gate.hold(self.offer, [], [(viewer, 1, id_, key_field(viewer, "k"))])
        assert isinstance(decided, Decided)
        if admitted:
            line = Line(id_, viewer, "k", 1, decided.lines[0][1])
            await judge.ledger.admit(self.offer, decided.epoch, [line])
        self.asked[viewer, "k"] = 1, 0

    # --- what actors do ----------------------------------------------------------------------

    async def buy(
        self, process: Process, viewer: str, qty: int = 1, key: str = "k", offer: int = 0
    ) -> None:
        """Buy once; `retry` leaves it open, as does a death. Keys are of one offer each here."""
        self.asked[viewer, key] = qty, offer
        self.answered(viewer, key, await process.buy(self.offers[offer], viewer, qty, key))

    async def bundle(self, process: Process, viewer: str, backwards: bool = False) -> None:
        """Buy one of each offer together, once."""
        self.bundles.setdefault((viewer, "b"), None)
        lines = [(offer, 1) for offer in self.offers[:: -1 if backwards else 1]]
        outcome = await process.start_bundle("st", viewer, lines, "b")
        if not (isinstance(outcome, Refused) and outcome.why == "retry"):
            before = self.bundles[viewer, "b"]
            if isinstance(before, Bundled) and (
                not isinstance(outcome, Bundled) or outcome.bundle != before.bundle
            ):
                self.broken.append(f"{viewer} was told {before}, then {outcome}")
            self.bundles[viewer, "b"] = outcome

    def answered(self, viewer: str, key: str, outcome: Outcome) -> None:
        """Note a buyer's answer; a final one stays."""
        if isinstance(outcome, Refused) and outcome.why == "retry":
            return
        before = self.told.setdefault((viewer, key), outcome)
        if isinstance(before, Accepted):
            same = isinstance(outcome, Accepted) and outcome.order.id == before.order.id
            if not same:
                self.broken.append(f"{viewer}/{key} was told {before}, then {outcome}")
        elif isinstance(outcome, Accepted):
            self.told[viewer, key] = outcome

    async def change(self, work: Awaitable[Order | Refused | Offer]) -> None:
        """Make a change and note what it was answered."""
        self.changed.append(await work)

    async def restock(self, process: Process, key: str, add: int) -> None:
        """Add units, once per key however often and wherever it is sent."""
        self.restocks[key] = add
        await self.change(process.changes.restock(self.offer, key, add))

    async def wipe(self, process: Process) -> None:
        """Have Redis forget everything."""
        await process.befall("wipe", self.flush)

    async def restart(self, process: Process) -> None:
        """Have Redis come back with what it had, as another run of the server (R2)."""
        await process.befall("wipe", self.rerun)

    async def restore(self, process: Process) -> None:
        """Have Redis come back from the copy that was made of it (R2)."""
        await process.befall("wipe", self.come_back)

    async def flush(self) -> None:
        """Do what `wipe` does."""
        await self.shop.redis.flushall()
        self.installed.clear()

    async def rerun(self) -> None:
        """Do what `restart` does."""
        for offer in self.offers:
            if await self.shop.redis.exists(keys_of(offer).state):
                await cast(Any, self.shop.redis.hset(keys_of(offer).state, "run", "0"))

    async def come_back(self) -> None:
        """Do what `restore` does."""
        await self.flush()
        for key, dump in self._copy.items():
            await self.shop.redis.restore(key, 0, dump)
        await self.rerun()

    async def copy(self) -> None:
        """Make a copy of what Redis has."""
        with self.steps.loop.asking():
            keys = [key for offer in self.offers for key in keys_of(offer)]
            found = {key: await self.shop.redis.dump(key) for key in keys}
        self._copy = {key: dump for key, dump in found.items() if dump is not None}

    async def rebuild(self, process: Process) -> None:
        """Build the gate anew."""
        await process.rebuilder.rebuild(self.offer, 1)

    async def follow(self, process: Process) -> None:
        """Bring the gate up to date."""
        await process.rebuilder.follow(self.offer)

    async def expire(self, process: Process) -> None:
        """Do the keeper's duty of expiry."""
        await process.keeper.expire()

    async def look_after(self, process: Process) -> None:
        """Do one round of the gate's keeper, its rebuilds included."""
        await process.keeper.look_after_gate()
        await asyncio.gather(*process.keeper._rebuilds.values())

    async def reconcile(self, process: Process) -> None:
        """Compare gate and rows, and mend what stands (R11)."""
        reconciler = process.keeper.reconciler
        standing = await reconciler.differences(self.offer)
        if standing:
            self.mended.append((await reconciler.mend(self.offer, standing), standing))

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
        elif verb == "hold" and {b"sold_out", b"limit_reached"} & set(result[5::3]):
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
        await until(lambda: all(c.idle for c in judge.selling._counters.values()))
        for offer in self.offers:
            await self.at_rest(offer)
        await self._compare()
        for offer in self.offers:
            await self.sell_the_rest(offer)
        assert not self.broken, self.broken

    async def come_to_rest(self) -> None:
        """Have the keeper finish what everybody left (I11)."""
        judge = self.process("judge")
        for _ in range(3):
            await self.look_after(judge)
            await judge.keeper.expire()
            stands = [await judge.gate.probe(offer, 0, 1) for offer in self.offers]
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
        status = {row["id"]: row["status"] for row in found}
        heard = [order for p in self.steps.processes for order in p.heard.changes]
        for said in [*heard, *(c for c in self.changed if isinstance(c, Order))]:
            assert said.status in (status[said.id], "reserved"), (said, status)
        ended = sum(row["qty"] for row in found if row["status"] in ("cancelled", "expired"))
        moved = await self.fetch(
            "select coalesce(sum(units) filter"
            " (where kind = 'release'), 0) as back, coalesce(sum(units) filter"
            " (where reason = 'restock'), 0) as added from movements where offer = any ($1)",
            self.offers,
        )  # fmt: skip
        assert moved[0]["added"] <= sum(self.restocks.values())
        assert moved[0]["back"] == ended


def said(world: World) -> str:
    """Describe what everybody was told, for a failure."""
    return "\n".join(
        [
            *(f"{mine}: {msgspec.to_builtins(outcome)}" for mine, outcome in world.told.items()),
            *(f"{mine}: {msgspec.to_builtins(told)}" for mine, told in world.bundles.items()),
            *(f"change: {msgspec.to_builtins(change)}" for change in world.changed),
        ]
    )
