"""The Lua gate against a plain model of it: any history of calls leaves both in the same state."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass, field

import redis.asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from livecart.embedded import Running
from orders.stock.gate import Decided, Gate, Standing, State
from orders.stock.keys import key_field, keys_of, staged

VIEWERS = ("ann", "bob", "1:a", "", "é")
KEYS = ("a", "b", ":a")
_numbers = itertools.count()


@dataclass
class Hold:
    viewer: str
    key: str
    qty: int
    rank: int
    written: bool = False


@dataclass
class Model:
    """What the gate should know, said as simply as can be."""

    left: int
    per_viewer: int
    rank: int = 0
    movement: int = 0
    live: dict[str, Hold] = field(default_factory=dict)
    bound: dict[tuple[str, str], str] = field(default_factory=dict)

    def unwritten(self, viewer: str | None = None) -> int:
        return sum(not h.written and viewer in (None, h.viewer) for h in self.live.values())

    def has(self, viewer: str) -> int:
        return sum(h.qty for h in self.live.values() if h.viewer == viewer)

    def buy(self, viewer: str, key: str, qty: int, id_: str, batch: set[str]) -> tuple[str, int]:
        known = self.bound.get((viewer, key))
        if known is not None:
            hold = self.live.get(known)
            if hold is None or hold.written:
                return "replay", 0
            if known in batch or hold.qty != qty:
                return "park_own", 0
            self.rank += 1
            hold.rank = self.rank
            batch.add(known)
            return "adopted", self.rank
        if self.has(viewer) + qty > self.per_viewer:
            return ("park_own" if self.unwritten(viewer) else "limit_reached"), 0
        if self.left < qty:
            return ("park_stock" if self.unwritten() else "sold_out"), 0
        self.rank += 1
        self.left -= qty
        self.live[id_] = Hold(viewer, key, qty, self.rank)
        self.bound[viewer, key] = id_
        batch.add(id_)
        return "held", self.rank

    def release(self, id_: str, rank: int) -> None:
        hold = self.live.get(id_)
        if hold is not None and not hold.written and hold.rank <= rank:
            del self.live[id_]
            del self.bound[hold.viewer, hold.key]
            self.left += hold.qty

    def end(self, id_: str) -> None:
        hold = self.live.pop(id_, None)
        if hold is not None:
            self.left += hold.qty


buy = st.tuples(
    st.just("buy"),
    st.lists(
        st.tuples(st.sampled_from(VIEWERS), st.sampled_from(KEYS), st.integers(1, 3)),
        min_size=1,
        max_size=6,
    ),
)
pick = st.integers(0, 30)
step = st.one_of(
    buy,
    buy,
    st.tuples(st.just("mark"), st.lists(pick, max_size=4)),
    st.tuples(st.just("release"), st.lists(st.tuples(pick, st.integers(-1, 1)), max_size=3)),
    st.tuples(st.just("end"), pick),
    st.tuples(st.just("quantity"), st.integers(-4, 4)),
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(quantity=st.integers(0, 9), per_viewer=st.integers(1, 4), steps=st.lists(step, max_size=25))
def test_any_history_agrees_with_the_model(
    servers: Running, quantity: int, per_viewer: int, steps: list[tuple[str, object]]
) -> None:
    """Holds, marks, releases, ended orders and changed quantities leave what the model says."""
    asyncio.run(_play(servers.redis_url, quantity, per_viewer, steps))


async def _play(url: str, quantity: int, per_viewer: int, steps: list[tuple[str, object]]) -> None:
    client = redis.asyncio.Redis.from_url(url)
    offer = f"of_model_{next(_numbers)}"
    gate = Gate(client, 1_000)
    state = State(
        status="open", live=True, opens_ms=0, closes_ms=0, quantity=quantity, per_viewer=per_viewer
    )
    try:
        assert await gate.install(offer, staged(offer, 1, "x"), 1, state, quantity, 0, 0, (0, 0, 0))
        model = Model(quantity, per_viewer)
        ids: list[str] = ["or_unknown"]
        for word, what in steps:
            await _step(gate, offer, state, model, ids, word, what)
            await _same(client, gate, offer, model)
    finally:
        await client.aclose()


async def _step(
    gate: Gate, offer: str, state: State, model: Model, ids: list[str], word: str, what: object
) -> None:
    if word == "buy":
        assert isinstance(what, list)
        fresh = [f"or_{len(ids) + n}" for n in range(len(what))]
        decided = await gate.hold(
            offer, [],
            [(v, q, i, key_field(v, k)) for (v, k, q), i in zip(what, fresh, strict=True)],
        )  # fmt: skip
        assert isinstance(decided, Decided)
        batch: set[str] = set()
        for (viewer, key, qty), id_, line in zip(what, fresh, decided.lines, strict=True):
            assert line[:2] == model.buy(viewer, key, qty, id_, batch)
        ids += fresh
    elif word == "mark":
        assert isinstance(what, list)
        named = [ids[n % len(ids)] for n in what]
        whose = [(i, model.live[i].viewer if i in model.live else "zed") for i in named]
        await gate.hold(offer, whose, [])
        for id_ in named:
            if id_ in model.live:
                model.live[id_].written = True
    elif word == "release":
        assert isinstance(what, list)
        pairs = []
        for n, off in what:
            id_ = ids[n % len(ids)]
            pairs.append((id_, (model.live[id_].rank if id_ in model.live else 1) + off))
        await gate.release(offer, 1, pairs)
        for id_, rank in pairs:
            model.release(id_, rank)
    else:
        assert isinstance(what, int)
        id_, units = (ids[what % len(ids)], 1) if word == "end" else ("", what)
        at = model.movement
        assert await gate.apply(offer, 1, (at, at + 1), state, [(id_, units)]) == at + 1
        # The same movement again, as after a crash between effect and answer: nothing happens.
        assert await gate.apply(offer, 1, (at, at + 1), state, [(id_, units)]) == at + 1
        model.movement += 1
        if word == "end":
            model.end(id_)
        else:
            model.left += units


async def _same(client: redis.asyncio.Redis, gate: Gate, offer: str, model: Model) -> None:
    standing = await gate.probe(offer, 0, 100)
    assert isinstance(standing, Standing)
    assert (standing.left, standing.unwritten) == (model.left, model.unwritten())
    assert dict(standing.stale) == {i: h.rank for i, h in model.live.items() if not h.written}
    keys = keys_of(offer)
    viewers = {_text(k): int(v) for k, v in (await client.hgetall(keys.viewers)).items()}
    assert {v: n for v, n in viewers.items() if n} == {
        v: model.has(v) for v in VIEWERS if model.has(v)
    }
    waiting = {_text(k): int(v) for k, v in (await client.hgetall(keys.waiting)).items()}
    assert waiting == {v: model.unwritten(v) for v in VIEWERS if model.unwritten(v)}
    assert {_text(k) for k in await client.hkeys(keys.holds)} == set(model.live)


def _text(raw: bytes | str) -> str:
    return raw.decode() if isinstance(raw, bytes) else raw
