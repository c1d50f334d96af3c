"""Histories of atomic calls, drawn from a seed, made on the model and on the real servers alike.

A walk knows what hubs and keepers may have in hand at any time: lines whose admission may be asked
for again, (id, rank) pairs read long ago, old readings of movements, rebuilds that were not
installed. Each step takes one at random, does it on both sides, and compares what was answered and
everything that the two stores hold. Nothing keeps a walk from what the real actors never do in that
order: the scripts and functions must be as the model says whatever comes.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

from tests.model import keeper, postgres, redis
from tests.model.servers import Servers
from tests.model.shapes import IDLE, WIPED, Actor, Buy, Copy, Event, Gate, Ledger, Line, Row, Small

Reading = tuple[int, int, tuple[tuple[int, int], ...], bool]  # epoch, at, movements, closed


class Walk:
    """One offer on both sides, and what its actors have in hand."""

    def __init__(self, servers: Servers, ledger: Ledger, gate: Gate, seed: int) -> None:
        self.servers = servers
        self.small: Small = servers.small
        self.ledger = ledger
        self.gate = gate
        self.draw = random.Random(seed)
        self.done: list[str] = []  # in words, for whoever has to understand a difference
        self.lines: list[Line] = []
        self.named: list[tuple[int, int, int]] = []  # (epoch, id, rank)
        self.readings: list[Reading] = []
        self.rebuilds: list[tuple[asyncio.Event, asyncio.Task[bool], int, Copy, bool]] = []
        self.ids = 0
        self._steps: tuple[tuple[int, Callable[[], Awaitable[str]]], ...] = (
            (12, self._hold), (14, self._admit), (1, self._fence), (3, self._release),
            (4, self._resolve), (5, self._end), (2, self._pay), (2, self._host), (3, self._follow),
            (5, self._read), (5, self._apply), (3, self._begin), (4, self._install),
            (1, self._lose),
        )  # fmt: skip

    async def run(self, steps: int) -> None:
        """Make that many steps; raises AssertionError where model and servers part."""
        weights = [weight for weight, _ in self._steps]
        try:
            while len(self.done) < steps:
                step = self.draw.choices(self._steps, weights)[0][1]
                if done := await step():
                    self.done.append(done)
                    await self._compare()
        finally:
            for _, task, *_ in self.rebuilds:
                task.cancel()
            await asyncio.gather(*(task for _, task, *_ in self.rebuilds), return_exceptions=True)

    async def _compare(self) -> None:
        servers = self.servers
        ledger, gate = await asyncio.gather(servers.seen_ledger(), servers.seen_gate())
        assert ledger == self.ledger, self.told()
        assert gate == servers.meant_gate(self.gate), self.told()

    def told(self) -> str:
        """Return the walk so far."""
        return "\n".join(f"{n:3} {word}" for n, word in enumerate(self.done))

    def _some(self, most: int) -> int:
        return self.draw.randint(1, most)

    @property
    def _frozen(self) -> bool:
        return redis.frozen(self.gate, self.small)

    # --- hubs ------------------------------------------------------------------------------------

    async def _hold(self) -> str:
        buys: list[Buy] = []
        for _ in range(self._some(3)):
            buys.append(self._buy(buys))
        rows = [row.id for row in self.ledger.rows]
        marks = tuple(self.draw.sample(rows, self.draw.randint(0, min(2, len(rows)))))
        real = await self.servers.hold(marks, tuple(buys))
        said = f"hold {buys} mark {marks}"
        if self._frozen:
            assert real is None, f"{self.told()}\n{said}: {real}"
            return said + ": frozen"
        self.gate, answers = redis.hold(self.gate, self.small, marks, tuple(buys))
        assert real == list(answers), f"{self.told()}\n{said}: {real}, not {answers}"
        for buy, (word, rank, id_) in zip(buys, answers, strict=True):
            if word in ("held", "adopted"):
                epoch = self.gate.epoch
                self.lines.append(Line(buy.buyer, True, id_, rank, epoch, word == "held"))
                self.named.append((epoch, id_, rank))
        return f"{said}: {answers}"

    def _buy(self, buys: list[Buy]) -> Buy:
        """A buy with an id of its own, or, as after a fence, with one that was held before."""
        if self.lines and self.draw.random() < 0.3:
            line = self.draw.choice(self.lines)
            if line.id not in [buy.id for buy in buys]:
                return Buy(line.buyer, True, line.id)
        self.ids += 1
        return Buy(self.draw.randrange(len(self.small.buyers)), True, self.ids)

    async def _admit(self) -> str:
        """Newer lines rather than old ones, but any may still come."""
        if not self.lines:
            return ""
        lines: list[Line] = []
        pool = self.lines[-4:] if self.draw.random() < 0.7 else self.lines
        for line in self.draw.sample(pool, min(len(pool), self._some(3))):
            alone = all(line.id != one.id and line.buyer != one.buyer for one in lines)
            if alone and (not lines or line.epoch == lines[0].epoch):
                lines.append(line)
        lines.sort(key=lambda line: line.rank)
        real = await self.servers.admit(lines[0].epoch, lines)
        self.ledger, outcomes = postgres.admit(self.ledger, self.small, tuple(lines))
        said = f"admit {lines}: {real}"
        assert real == outcomes, f"{self.told()}\n{said}, not {outcomes}"
        return said

    async def _release(self) -> str:
        """Each id once; with or without a fence before, and of whatever epoch."""
        if not self.named:
            return ""
        epoch = self.draw.choice(self.named)[0]
        pool = [(id_, rank) for _, id_, rank in self.named[-6:]]
        named = tuple(dict(self.draw.sample(pool, min(len(pool), self._some(2)))).items())
        await self.servers.release(epoch, named)
        self.gate = redis.release(self.gate, self.small, epoch, named)
        return f"release {named} of epoch {epoch}"

    # --- the keeper ------------------------------------------------------------------------------

    async def _fence(self) -> str:
        if not self.named:
            return ""
        epoch, _, rank = self.draw.choice(self.named)
        real = await self.servers.fence(epoch, rank)
        self.ledger, stands = postgres.fence(self.ledger, epoch, rank)
        assert real == stands, f"{self.told()}\nfence {rank} of epoch {epoch}: {real}"
        return f"fence {rank} of epoch {epoch}: {stands}"

    async def _resolve(self) -> str:
        """Keeper.resolve, of what a probe says now, or of what one said long ago."""
        epoch, stale = self.gate.epoch, redis.stale(self.gate)
        if self._frozen or not stale or self.draw.random() < 0.3:
            if not self.named:
                return ""
            epoch, *named = self.draw.choice(self.named)
            stale = ((named[0], named[1]),)
        await self.servers.resolve(epoch, stale)
        self._act(("fence", epoch, stale))
        return f"resolve {stale} of epoch {epoch}"

    def _act(self, actor: Actor) -> None:
        """Have the model's keeper do his steps to the end."""
        while actor != IDLE:
            state = self.small.start._replace(ledger=self.ledger, gate=self.gate)
            _, actor, self.ledger, self.gate = keeper.step(state, self.small, actor)

    async def _follow(self) -> str:
        await self.servers.follow()
        self._act(("follow", keeper.NOBODY))
        return "follow the movements"

    async def _read(self) -> str:
        """What a follower knows who is stopped before he applies it."""
        moves = self.ledger.moves[self.gate.at :]
        if self._frozen or not moves:
            return ""
        self.readings.append((self.gate.epoch, self.gate.at, moves, self.ledger.closed))
        return ""

    async def _apply(self) -> str:
        if not self.readings:
            return ""
        reading = self.draw.choice(self.readings)
        real = await self.servers.apply(*reading)
        self.gate, word = redis.apply(self.gate, self.small, *reading)
        stands = None if word == "frozen" else self.gate.at
        assert real == stands, f"{self.told()}\napply {reading}: {real}, not {stands}"
        return f"apply {reading}: {word}"

    async def _begin(self) -> str:
        if len(self.rebuilds) > 1:
            return ""
        go, task = await self.servers.begin_rebuild(self.gate.epoch)
        self.ledger = postgres.raise_epoch(self.ledger, self.gate.epoch)
        copy = postgres.snapshot(self.ledger, self.small)
        self.rebuilds.append((go, task, self.ledger.epoch, copy, True))
        return f"stage a rebuild of epoch {self.ledger.epoch}"

    async def _install(self) -> str:
        """The rest of a rebuild: install, and when that was done, follow."""
        if not self.rebuilds:
            return ""
        go, task, epoch, copy, whole = self.rebuilds.pop(self.draw.randrange(len(self.rebuilds)))
        go.set()
        real = await task
        self.gate, installed = redis.install(self.gate, self.small, epoch, copy, whole)
        assert real == installed, f"{self.told()}\ninstall epoch {epoch}: {real}"
        if installed:
            self._act(("follow", keeper.NOBODY))
        return f"install the rebuild of epoch {epoch}: {installed}"

    # --- the world -------------------------------------------------------------------------------

    def _reserved(self) -> tuple[int, Row] | None:
        rows = [row for row in self.ledger.rows if row.status == "reserved"]
        at = self.draw.randrange(len(rows)) if rows else 0
        return (at, rows[at]) if rows else None

    async def _end(self) -> str:
        found = self._reserved()
        if found is None:
            return ""
        event: Event = self.draw.choice(("expire", "cancel"))
        await (self.servers.expire if event == "expire" else self.servers.cancel)(found[1])
        said, self.ledger = postgres.change(self.ledger, self.small, event)[found[0]]
        return said

    async def _pay(self) -> str:
        """Any order: only a reserved one may be confirmed."""
        if not self.ledger.rows:
            return ""
        row = self.draw.choice(self.ledger.rows)
        real = await self.servers.pay(row)
        word = {"reserved": "ok", "confirmed": "again"}.get(row.status, "conflict")
        assert real == word, f"{self.told()}\npay {row}: {real}"
        for said, after in postgres.change(self.ledger, self.small, "pay"):
            if said == f"pays or{row.id}":
                self.ledger = after
        return f"pay or{row.id}: {word}"

    async def _host(self) -> str:
        """The quantity one up or down; closing, which ends most of what may happen, seldom."""
        event: Event = self.draw.choices(("restock", "lower", "close"), (8, 8, 1))[0]
        real = await self.servers.change(event)
        options = postgres.change(self.ledger, self.small, event)
        self.ledger = options[0][1] if options else self.ledger
        said = f"{event}: {real}"
        assert (real == "ok") == bool(options), f"{self.told()}\n{said}"
        return said

    async def _lose(self) -> str:
        if self.gate.epoch and self.draw.random() < 0.5:
            await self.servers.restart()
            self.gate = self.gate._replace(run=False)
            return "Redis restarts with its data"
        await self.servers.wipe()
        self.gate = WIPED
        self.rebuilds = [
            (go, task, epoch, copy, whole and not copy.keys)
            for go, task, epoch, copy, whole in self.rebuilds
        ]
        return "FLUSHALL"
