"""The gate: typed calls of the Lua scripts, one method a verb.

Owns how Redis is asked and what its errors mean; knows no Postgres and no policy. Called by
selling, keeper and rebuild. Every call may raise `GateAway` (Redis is away or busy: nothing is
known, answer `retry`) or `GateBroken` (a script failed in a way it never should: the offer was
frozen and waits for a rebuild). Retries are the caller's; the client given here must have none.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from importlib import resources
from typing import Any, Literal, cast

import msgspec
from redis.asyncio import Redis
from redis.exceptions import (
    ConnectionError as RedisConnectionError,
)
from redis.exceptions import (
    NoScriptError,
    RedisError,
    ResponseError,
)
from redis.exceptions import (
    TimeoutError as RedisTimeoutError,
)

from orders import metrics
from orders.records import Offer
from orders.stock.cluster import ClusterClient
from orders.stock.keys import Keys, keys_of
from orders.stock.sight import Sight, sight_of

log = logging.getLogger(__name__)

#: Error replies that say "not now" rather than "the script is wrong" (R5).
TRANSIENT = ("LOADING", "BUSY", "OOM", "READONLY", "MOVED", "ASK", "CLUSTERDOWN", "TRYAGAIN",
             "MASTERDOWN", "NOREPLICAS", "MISCONF", "UNKILLABLE")  # fmt: skip

#: Marks and buys in one hold call: Lua unpacks no more than about 8,000 values at once.
CALL_MAX = 3_000

STAGE_TTL_S = 60  # a rebuild that died leaves nothing behind

#: How long a bucket keeps units that it borrowed before one after it may have them.
KEPT_MS = 300

#: How long the state of a closed offer is kept (apply.lua says the same).
CLOSED_TTL_S = 86_400

#: A movement: (order id whose units come back or '', change of `left`), or with the record of the
#: hold of an order that got its units by waiting.
Step = tuple[str, int] | tuple[str, int, str]

Word = Literal[
    "held", "adopted", "replay", "park_own", "park_stock", "not_live", "closed", "not_open",
    "limit_reached", "sold_out",
]  # fmt: skip


class GateAway(Exception):
    """Redis did not answer, or answered that it cannot now; whether it acted is not known."""


class GateBroken(Exception):
    """A script failed unexpectedly; the offer is frozen until it is rebuilt."""


class Frozen(msgspec.Struct, frozen=True):
    """The offer has no state here, or one made under another run of the server (R2)."""

    epoch: int = 0


class Decided(msgspec.Struct, frozen=True):
    """What a hold call found: one (word, rank, id) per buy, in order."""

    epoch: int
    left: int
    unwritten: int
    now_ms: int
    lines: list[tuple[Word, int, str]]


class Standing(msgspec.Struct, frozen=True):
    """How the gate of one offer stands; `stale` names holds unwritten for too long."""

    epoch: int
    movement: int
    left: int
    unwritten: int
    oldest_ms: int
    stale: list[tuple[str, int]]


class Lent(msgspec.Struct, frozen=True):
    """Units of a bucket that were set aside for another: as a hold, by (id, rank)."""

    epoch: int
    units: int
    rank: int


class State(msgspec.Struct, frozen=True, kw_only=True):
    """What the gate keeps of an offer besides its holds."""

    status: str
    live: bool
    opens_ms: int
    closes_ms: int
    quantity: int
    per_viewer: int
    step: int = 1  # from one rank to the next

    @classmethod
    def of(cls, offer: Offer) -> State:
        """Take it from the offer's row."""
        return cls(
            status=offer.status,
            live=offer.stream_status != "scheduled",  # an ended stream's offers are closed
            # A draw opens when it is held, in Postgres: the gate must not by its own clock.
            opens_ms=0 if offer.mode == "draw" else offer.opens_at or 0,
            closes_ms=offer.closes_at or 0,
            quantity=offer.quantity,
            per_viewer=offer.per_viewer,
            step=offer.step,
        )

    def args(self) -> list[str | int]:
        """Return the arguments that apply.lua and install.lua share."""
        return [self.status, int(self.live), self.opens_ms, self.closes_ms, self.quantity]


class _Script:
    """One Lua file with its digest, called by EVALSHA and loaded anew when the server forgot it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.text = (resources.files("orders.stock") / "lua" / f"{name}.lua").read_text("utf-8")
        self.digest = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()
        self.sha = ""  # the digest once a server has the text; each may forget it, or be new


class Gate:
    """Calls the scripts of `orders/stock/lua` on one Redis, or on a cluster of them."""

    def __init__(self, client: Redis | ClusterClient, unwritten_max: int) -> None:
        self.client = client
        self.unwritten_max = unwritten_max  # per offer, over all hubs
        self._scripts = {
            name: _Script(name)
            for name in (
                "hold",
                "release",
                "apply",
                "probe",
                "stage",
                "install",
                "inspect",
                "draw",
                "lend",
            )
        }

    def server(self, offer: str) -> str:
        """Return the name of the server that an offer is on, "" where there is but one."""
        client = self.client
        return client.server_of(keys_of(offer).state) if isinstance(client, ClusterClient) else ""

    async def ping(self, offer: str) -> None:
        """Return when the server of an offer answers for it; raise what it failed with.

        On a cluster that is the primary of the offer's slot, asked for its key: were it every
        primary, one dead node would stop the offers of all, and one that answers a mere PING
        may still answer each script CLUSTERDOWN.
        """
        if isinstance(self.client, ClusterClient):
            await self.client.execute_command("EXISTS", keys_of(offer).state)
        else:
            await self.client.ping()

    async def hold(
        self,
        offer: str,
        written: Sequence[tuple[str, str]],
        buys: Sequence[tuple[str, int, str, str]],
    ) -> Decided | Frozen:
        """Mark what is `written`, each (order id, viewer), then decide `buys`.

        A buy is (viewer, qty, new order id, key field). At most `CALL_MAX` of both together.
        """
        raw = await self._call(
            "hold",
            offer,
            msgspec.msgpack.encode([part for one in written for part in one]),
            msgspec.msgpack.encode([part for buy in buys for part in buy]),
            self.unwritten_max,
        )
        if raw[0] != b"ok":
            return Frozen()
        lines = [
            (cast(Word, raw[i].decode()), raw[i + 1], raw[i + 2].decode())
            for i in range(5, len(raw), 3)
        ]
        return Decided(raw[1], raw[2], raw[3], raw[4], lines)

    async def release(
        self, offer: str, epoch: int, holds: Sequence[tuple[str, int]]
    ) -> int | Frozen:
        """Give back unwritten holds by (id, rank at the most); return how many were."""
        raw = await self._call("release", offer, epoch, msgspec.msgpack.encode(holds))
        return cast(int, raw[2]) if raw[0] == b"ok" else Frozen()

    async def draw(self, offer: str, n: int) -> tuple[int, range] | Frozen:
        """Draw `n` ranks for the waitlist; return (epoch, the ranks)."""
        raw = await self._call("draw", offer, n)
        if raw[0] != b"ok":
            return Frozen()
        first, step = raw[2], raw[3]
        return raw[1], range(first, first + n * step, step)

    async def lend(
        self, bucket: str, transfer: str, need: int, after: bool = False
    ) -> Lent | Frozen:
        """Set units aside under the id of a transfer: `need`, half of what is left, or fewer.

        `after`: the borrower comes after this bucket, which then keeps what it just got itself.
        """
        raw = await self._call("lend", bucket, transfer, need, int(after), KEPT_MS)
        return Lent(*raw[1:4]) if raw[0] == b"ok" else Frozen()

    async def apply(
        self,
        offer: str,
        epoch: int,
        span: tuple[int, int],
        state: State,
        movements: Sequence[Step],
    ) -> int | Frozen:
        """Apply movements of the span (stands at, stands at afterwards); return where it stands.

        A result below the span's end says that the span began elsewhere: read again from there.
        """
        raw = await self._call(
            "apply", offer, epoch, *span, *state.args(), msgspec.msgpack.encode(movements)
        )
        if raw[0] == b"ok":
            metrics.PROMOTED.inc(sum(len(movement) == 3 for movement in movements))
            return span[1]
        return cast(int, raw[1]) if raw[0] == b"moved" else Frozen()

    async def probe(self, offer: str, grace_ms: int, named_max: int) -> Standing | Frozen:
        """Tell how the offer stands, naming holds unwritten for `grace_ms` or longer."""
        raw = await self._call("probe", offer, grace_ms, named_max)
        if raw[0] != b"ok":
            return Frozen(raw[1])
        stale = [(raw[i].decode(), raw[i + 1]) for i in range(6, len(raw), 2)]
        return Standing(raw[1], raw[2], raw[3], raw[4], raw[5], stale)

    async def inspect(
        self,
        offer: str,
        ids: Sequence[str] = (),
        fields: Sequence[str] = (),
        viewers: Sequence[str] = (),
        unwritten_max: int = 0,
    ) -> Sight | Frozen:
        """Read what is there of these orders, keys and viewers; at most `CALL_MAX` of each.

        All unwritten holds are named unless they are more than `unwritten_max`.
        """
        named = [msgspec.msgpack.encode(names) for names in (ids, fields, viewers)]
        raw = await self._call("inspect", offer, *named, unwritten_max)
        return sight_of(raw) if raw[0] == b"ok" else Frozen(raw[1])

    async def scan(
        self, offer: str, which: Literal["holds", "keys", "viewers"], cursor: int, about: int
    ) -> tuple[int, dict[str, str]]:
        """Return a further part of a hash, and the cursor of the next; 0 begins and ends.

        What is there from the first part to the last is in one of them; the rest may be.
        """
        key: str = getattr(keys_of(offer), which)
        try:
            found: Any = await self.client.hscan(key, cursor, count=about)
        except (RedisError, OSError) as error:
            raise GateAway(str(error)) from error
        return found[0], {_text(field): _text(value) for field, value in found[1].items()}

    async def stage(
        self,
        offer: str,
        stage: Keys,
        holds: Sequence[str],
        keys: Sequence[str],
        viewers: Sequence[str | int],
    ) -> None:
        """Write a part of a rebuild aside; each is a list of field, value, field, value, …"""
        parts = [msgspec.msgpack.encode(fields) for fields in (holds, keys, viewers)]
        staged = (stage.holds, stage.keys, stage.viewers)
        await self._call("stage", offer, STAGE_TTL_S, *parts, more_keys=staged)

    async def install(
        self,
        offer: str,
        stage: Keys,
        epoch: int,
        state: State,
        left: int,
        rank: int,
        movement: int,
        sizes: tuple[int, int, int],
    ) -> bool:
        """Put a staged state in place over a lower epoch; tell whether it was.

        `sizes`: how many holds, keys and viewers were staged; the stage must still be whole.
        """
        raw = await self._call(
            "install", offer, epoch, *state.args(), left, rank, state.per_viewer, movement, *sizes,
            state.step,
            more_keys=(stage.holds, stage.keys, stage.viewers),
        )  # fmt: skip
        return bool(raw[0] == b"ok")

    async def _call(
        self, name: str, offer: str, *args: str | int | bytes, more_keys: tuple[str, ...] = ()
    ) -> list[Any]:
        script = self._scripts[name]
        keys = (*keys_of(offer), *more_keys)
        try:
            if script.sha:
                try:
                    return await self._send("EVALSHA", script.sha, len(keys), *keys, *args)
                except NoScriptError:
                    pass  # restarted, flushed or another node: send the text below
            raw = await self._send("EVAL", script.text, len(keys), *keys, *args)
            script.sha = script.digest
            return raw
        except (RedisConnectionError, RedisTimeoutError, OSError) as error:
            raise GateAway(str(error)) from error
        except ResponseError as error:
            # redis-py has a class of its own for most of these, and strips their word.
            if type(error) is not ResponseError or str(error).startswith(TRANSIENT):
                raise GateAway(str(error)) from error
            log.error("script %s failed on %s, freezing it: %s", name, offer, error)
            await self._freeze(offer)
            raise GateBroken(str(error)) from error
        except RedisError as error:
            raise GateAway(str(error)) from error
        except Exception as error:
            # The event loop and the client have errors of their own for a socket that just died.
            log.warning("script %s on %s: %r", name, offer, error)
            raise GateAway(repr(error)) from error

    async def forget(self, offer: str) -> None:
        """Let the state of a closed offer go after a day: Postgres answers for it."""
        try:
            for key in keys_of(offer):
                await self.client.expire(key, CLOSED_TTL_S)
        except (RedisError, OSError) as error:
            raise GateAway(str(error)) from error

    async def _send(self, *args: str | int | bytes) -> list[Any]:
        reply = await self.client.execute_command(*args)  # type: ignore[no-untyped-call]
        return cast("list[Any]", reply)

    async def _freeze(self, offer: str) -> None:
        try:
            await self.client.hset(keys_of(offer).state, "run", "broken")
        except RedisError as error:
            raise GateAway(str(error)) from error


def _text(raw: bytes) -> str:
    """Return also what no script of ours wrote: planted rubbish must not hide the rest."""
    return raw.decode(errors="replace")
