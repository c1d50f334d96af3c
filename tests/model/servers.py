"""One offer on the real servers, spoken to in the model's words: what the model is compared with.

Owns the names (buyer 0's first order is `or_…_1`, his viewer `v1`), the calls of the real scripts,
functions and of `Rebuilder` and `Keeper`, and the reading of both stores by queries of its own.
Knows no rule. Called by walk.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis

from orders.changes import Changes
from orders.keeper import Keeper
from orders.ledger.ledger import Ledger
from orders.ledger.ledger import Line as RealLine
from orders.rebuild import Rebuilder
from orders.stock.gate import Decided, Frozen, Gate, Standing, State
from orders.stock.keys import Keys, key_field, keys_of
from tests.model.shapes import Buy, Line, Row, Small, Stale
from tests.model.shapes import Gate as ModelGate
from tests.model.shapes import Ledger as ModelLedger
from tests.shop import Remembering, Shop

Seen = dict[str, Any]

#: In arrays of arrays, in one statement: it is read after every step.
_LEDGER = """
    select o.epoch, o.fence_rank, o.quantity, o.taken, o.status, o.last_movement,
           array(select (r.id, r.viewer, r.key, r.qty, r.rank, r.status)
                   from orders r where r.offer = o.id) as rows,
           array(select (m.kind, m.units, m.order_id)
                   from movements m where m.offer = o.id and m.n > $2 order by m.n) as moves
      from offers o where o.id = $1
"""


class SteppedGate(Gate):
    """A gate whose rebuilds stop before they install, until they are told to go on."""

    def __init__(self, client: Redis, unwritten_max: int) -> None:
        super().__init__(client, unwritten_max)
        self.arrived: asyncio.Queue[asyncio.Event] = asyncio.Queue()

    async def install(
        self, offer: str, stage: Keys, epoch: int, state: State, left: int, rank: int,
        movement: int, sizes: tuple[int, int, int],
    ) -> bool:  # fmt: skip
        go = asyncio.Event()
        self.arrived.put_nowait(go)
        await go.wait()
        return await super().install(offer, stage, epoch, state, left, rank, movement, sizes)


class Servers:
    """The atomic operations of one offer, as the model names its orders and buyers."""

    def __init__(self, shop: Shop, small: Small, offer: str, base: int, run: str) -> None:
        hub = shop.hubs[0]
        self.small = small
        self.offer = offer
        self.gate = SteppedGate(shop.redis, 1_000)
        self.ledger: Ledger = hub.ledger
        self.rebuilder = Rebuilder(self.gate, self.ledger)
        heard = Remembering()
        self.keeper = Keeper(
            self.ledger, self.gate, Changes(self.ledger, self.rebuilder, heard),
            self.rebuilder, heard,
        )  # fmt: skip
        self.shop = shop
        self.run = run  # the server's
        self.base = base  # the movement that the model counts from
        self.buyer_of: dict[int, int] = {}  # by order
        self._restocks = 0

    # --- names -----------------------------------------------------------------------------------

    def name(self, id_: int) -> str:
        """Return an order's real id."""
        return f"or_{self.offer}_{id_}"

    def number(self, name: str) -> int:
        """Return an order's number; 0 for none."""
        return int(name.rsplit("_", 1)[1]) if name else 0

    def viewer(self, buyer: int) -> str:
        """Return who a buyer is."""
        return f"v{self.small.buyers[buyer][0]}"

    def field(self, buyer: int) -> str:
        """Return the field of a buyer's viewer and key."""
        return key_field(self.viewer(buyer), f"k{buyer}")

    def _numbered(self, stale: Stale) -> list[tuple[str, int]]:
        return [(self.name(id_), rank) for id_, rank in stale]

    # --- Redis -----------------------------------------------------------------------------------

    async def hold(
        self, marks: tuple[int, ...], buys: tuple[Buy, ...]
    ) -> list[tuple[str, int, int]] | None:
        """hold.lua; None when it is frozen. Both ways of parking are one word to the model."""
        self.buyer_of.update((buy.id, buy.buyer) for buy in buys)
        decided = await self.gate.hold(
            self.offer,
            [(self.name(id_), self.viewer(self.buyer_of[id_])) for id_ in marks],
            [
                (
                    self.viewer(buy.buyer), self.small.buyers[buy.buyer][1],
                    self.name(buy.id), self.field(buy.buyer),
                )
                for buy in buys
            ],
        )  # fmt: skip
        if not isinstance(decided, Decided):
            return None
        return [
            ("park" if word.startswith("park") else word, rank,
             self.number(id_) if word in ("held", "adopted", "replay") else 0)
            for word, rank, id_ in decided.lines
        ]  # fmt: skip

    async def release(self, epoch: int, named: Stale) -> None:
        """release.lua."""
        await self.gate.release(self.offer, epoch, self._numbered(named))

    async def apply(
        self, epoch: int, at: int, moves: tuple[tuple[int, int], ...], closed: bool
    ) -> int | None:
        """apply.lua, with a reading that may be old; where the gate stands now, None if frozen."""
        now = (await self.ledger.offers([self.offer]))[0]
        state = State(
            status="closed" if closed else "open", live=True, opens_ms=0, closes_ms=0,
            quantity=now.quantity, per_viewer=now.per_viewer,
        )  # fmt: skip
        span = (self.base + at, self.base + at + len(moves))
        named = [(self.name(id_) if id_ else "", units) for id_, units in moves]
        stands = await self.gate.apply(self.offer, epoch, span, state, named)
        return None if isinstance(stands, Frozen) else stands - self.base

    async def wipe(self) -> None:
        """What FLUSHALL does to one offer."""
        found = [*keys_of(self.offer), *await self.shop.redis.keys("{%s}:n:*" % self.offer)]  # noqa: UP031
        await self.shop.redis.delete(*found)

    async def restart(self) -> None:
        """What a new run id of the server does to one offer."""
        await self.shop.redis.hset(keys_of(self.offer).state, "run", "another")

    # --- Postgres --------------------------------------------------------------------------------

    async def admit(self, epoch: int, lines: Sequence[Line]) -> tuple[str, ...]:
        """admit."""
        admitted = await self.ledger.admit(
            self.offer,
            epoch,
            [
                RealLine(
                    self.name(line.id), self.viewer(line.buyer), f"k{line.buyer}",
                    self.small.buyers[line.buyer][1], line.rank,
                )
                for line in lines
            ],
        )  # fmt: skip
        return tuple(admitted.outcomes or ["ok"] * len(lines))

    async def fence(self, epoch: int, rank: int) -> bool:
        """fence."""
        return await self.ledger.fence(self.offer, epoch, rank)

    async def expire(self, row: Row) -> None:
        """expire, with one order that is due."""
        await self.shop.fetch(
            "update orders set expires_at = clock_timestamp() where id = $1", self.name(row.id)
        )
        ended = await self.ledger.expire(self.offer, 10)
        assert [order.id for order in ended] == [self.name(row.id)]

    async def cancel(self, row: Row) -> str:
        """cancel."""
        return (await self.ledger.cancel(self.name(row.id), False, None))[0]

    async def pay(self, row: Row) -> str:
        """pay."""
        return (await self.ledger.pay(self.name(row.id)))[0]

    async def change(self, event: str) -> str:
        """restock, set_quantity or close_offer."""
        if event == "close":
            return await self.ledger.word("close_offer", self.offer, None, False)
        if event == "restock":
            self._restocks += 1
            return await self.ledger.word("restock", self.offer, f"r{self._restocks}", 1)
        now = (await self.ledger.offers([self.offer]))[0]
        return await self.ledger.word("set_quantity", self.offer, now.quantity - 1, "revised")

    # --- what the keeper does between them -------------------------------------------------------

    async def follow(self) -> None:
        """Rebuilder.follow."""
        await self.rebuilder.follow(self.offer)

    async def resolve(self, epoch: int, stale: Stale) -> None:
        """Keeper.resolve, of a reading that may be old."""
        await self.keeper.resolve(
            self.offer, Standing(epoch, 0, 0, len(stale), 0, self._numbered(stale))
        )

    async def begin_rebuild(self, gate_epoch: int) -> tuple[asyncio.Event, asyncio.Task[bool]]:
        """Rebuilder.rebuild up to its install; set the event to have it go on."""
        task = asyncio.create_task(self.rebuilder.rebuild(self.offer, gate_epoch))
        async with asyncio.timeout(10):
            return await self.gate.arrived.get(), task

    # --- what is there now -----------------------------------------------------------------------

    async def seen_gate(self) -> Seen:
        """Read all of the offer's keys."""
        keys = keys_of(self.offer)
        async with self.shop.redis.pipeline() as pipe:
            for key in (keys.state, keys.holds, keys.keys, keys.viewers, keys.waiting):
                pipe.hgetall(key)
            pipe.zrange(keys.unwritten, 0, -1)
            *hashes, unwritten = await pipe.execute()
        o, h, k, v, w = ({_text(a): _text(b) for a, b in one.items()} for one in hashes)
        if not o:
            return {"run": False, "epoch": 0}
        ids = {self.number(_text(id_)) for id_ in unwritten}
        records = {self.number(id_): value.split(" ", 2) for id_, value in h.items()}
        return {
            "run": o["run"] == self.run,
            "epoch": int(o["epoch"]), "at": int(o["mv"]) - self.base, "left": int(o["left"]),
            "rank": int(o["rank"]), "closed": o["status"] == "closed",
            "holds": {
                id_: (field, int(qty), int(rank) if id_ in ids else 0, id_ not in ids)
                for id_, (rank, qty, field) in records.items()
            },
            "keys": {field: self.number(id_) for field, id_ in k.items()},
            "units": {viewer: int(n) for viewer, n in v.items()},
            "unwritten": {viewer: int(n) for viewer, n in w.items()},
        }  # fmt: skip

    def meant_gate(self, gate: ModelGate) -> Seen:
        """Say the same of the model's gate."""
        if not gate.epoch:
            return {"run": False, "epoch": 0}
        units: dict[str, int] = {}
        unwritten: dict[str, int] = {}
        for hold in gate.holds:
            viewer = self.viewer(hold.buyer)
            units[viewer] = units.get(viewer, 0) + self.small.buyers[hold.buyer][1]
            if not hold.written:
                unwritten[viewer] = unwritten.get(viewer, 0) + 1
        return {
            "run": gate.run, "epoch": gate.epoch, "at": gate.at, "left": gate.left,
            "rank": gate.rank, "closed": gate.closed,
            "holds": {
                h.id: (
                    self.field(h.buyer), self.small.buyers[h.buyer][1],
                    0 if h.written else h.rank, h.written,
                )
                for h in gate.holds
            },
            "keys": {self.field(buyer): id_ for buyer, id_ in gate.keys},
            "units": units, "unwritten": unwritten,
        }  # fmt: skip

    async def seen_ledger(self) -> ModelLedger:
        """Read the offer, its orders and its movements."""
        offer = (await self.shop.fetch(_LEDGER, self.offer, self.base))[0]
        rows, moves = offer["rows"], offer["moves"]
        assert offer["last_movement"] == self.base + len(moves)
        return ModelLedger(
            offer["epoch"],
            offer["fence_rank"],
            offer["quantity"],
            offer["taken"],
            offer["status"] == "closed",
            tuple(sorted(self._row(*row) for row in rows)),
            tuple(
                (self.number(order) if kind == "release" else 0, units)
                for kind, units, order in moves
            ),
        )

    def _row(self, name: str, viewer: str, key: str, qty: int, rank: int, status: str) -> Row:
        buyer = int(key[1:])
        assert (viewer, qty) == (self.viewer(buyer), self.small.buyers[buyer][1])
        return Row(self.number(name), buyer, rank, status)


def _text(raw: bytes | str) -> str:
    return raw.decode() if isinstance(raw, bytes) else raw
