"""An offer (or two) between several processes, and what everybody was told about it.

Owns the start of a schedule (fresh offers), what went before it, and its actors. Knows nothing of
how steps are ordered. Called through `world`, which judges what came of it.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Self, cast
from urllib.parse import urlsplit

import asyncpg

from livecart.embedded import Running
from orders.compare import Difference
from orders.keeper import KeeperLimits
from orders.ledger.ledger import LedgerAway, Line
from orders.ledger.money import Money
from orders.reconcile import ReconcileLimits
from orders.records import (
    Accepted,
    Bundled,
    BundleOutcome,
    Offer,
    Order,
    Outcome,
    Refused,
    Waitlisted,
)
from orders.stock.gate import Decided, GateAway, GateBroken, State
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
         where id = any ($1) or parent = any ($1))
    update orders set expires_at = null where offer = any ($1) and expires_at is not null
"""
#: An offer on sale, and its books' first line.
MAKE = """
    with made as (
        insert into offers (id, stream, product, price_minor, quantity, per_viewer, status,
                            announced, hold_s, payment, extends, buckets)
            values ($1, 'st', 'pr', 2900, $2, $3, 'open', true, 600, 'required', 3, $4)
        returning id, quantity, epoch)
    insert into movements (offer, n, kind, units, reason, epoch)
        select id, 0, 'quantity', quantity, 'created', epoch from made
"""
_numbers = itertools.count(1)


class Actors:
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
        self.waits: dict[str, Waitlisted | Outcome | None] = {}  # by viewer; None: open yet
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
    async def open(cls, servers: Running, template: str, name: str) -> Self:
        """Connect to a database made here, and make what all its offers share.

        `name`: how its name begins; a file whose tests are taken in two parts opens two.
        """
        name = f"{name}_{secrets.token_hex(4)}"
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

    async def begin(self, units: int, per_viewer: int, offers: int = 1, buckets: int = 1) -> None:
        """Put fresh offers on sale."""
        self._forget()
        judge = self.steps.process("judge", AT_ONCE)
        number = next(_numbers)
        for n in range(offers):
            offer = f"of_{number}_{n}"
            await self.fetch(MAKE, offer, units, per_viewer, buckets)
            if buckets > 1:
                await self.fetch("select into_buckets(o) from offers o where id = $1", offer)
            self.offers.append(offer)
        self._rows = await judge.ledger.offers(self.offers)
        for row in await judge.ledger.offers(self.gates):
            assert await judge.gate.install(
                row.id, staged(row.id, 1, "x"), 1, State.of(row), row.quantity,
                int(row.id.partition("~")[2] or 1) - row.step, 0, (0, 0, 0),
            )  # fmt: skip

    @property
    def spread(self) -> Offer:
        """The offer as it was at first, with its buckets if it has any."""
        return self._rows[0]

    @property
    def gates(self) -> list[str]:
        """What has a gate of its own: each offer, or its buckets."""
        return [home for row in self._rows for home in row.homes]

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
        await until(lambda: all(c.idle for c in judge.selling._counters.values()))
        outcome = self.told[viewer, "k"]
        assert isinstance(outcome, Accepted)
        if due:
            sql = "update orders set expires_at = now() where offer = $1 and viewer = $2"
            await self.fetch(sql, self.offer, viewer)
        return outcome.order.id

    async def bought_of(self, offer: int, viewer: str, due: bool = False) -> str:
        """Do the same of another offer."""
        judge, key = self.process("judge"), f"k{offer}"
        await self.buy(judge, viewer, 1, key, offer)
        await until(lambda: all(c.idle for c in judge.selling._counters.values()))
        outcome = self.told[viewer, key]
        assert isinstance(outcome, Accepted)
        if due:
            await self.fetch("update orders set expires_at = now() where id = $1", outcome.order.id)
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

    async def wait(self, process: Process, viewer: str) -> None:
        """Join the waitlist, once; `retry` leaves it open."""
        self.waits[viewer] = None
        outcome = await process.selling.waitlist.join(self.offer, viewer, 1, "w")
        if not (isinstance(outcome, Refused) and outcome.why == "retry"):
            self.waits[viewer] = outcome

    async def change(self, work: Awaitable[Order | Refused | Offer]) -> None:
        """Make a change and note what it was answered."""
        self.changed.append(await work)

    async def refund(
        self,
        process: Process,
        order: str,
        key: str,
        amount_minor: int | None = None,
        restock: bool = True,
    ) -> None:
        """Give money of an order back, all that is left when no amount is said."""
        word, now = await Money(process.ledger).refund(
            order, key, amount_minor, restock and amount_minor is None, None, "host"
        )
        await process.changes.settled(word, now)

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
        for offer in self.gates:
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
            keys = [key for offer in self.gates for key in keys_of(offer)]
            found = {key: await self.shop.redis.dump(key) for key in keys}
        self._copy = {key: dump for key, dump in found.items() if dump is not None}

    async def rebuild(self, process: Process, home: str | None = None) -> None:
        """Build a gate anew."""
        await process.rebuilder.rebuild(home or self.offer, 1)

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
