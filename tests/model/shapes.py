"""The shapes of the small model: everything that a state of the world consists of, immutable.

Read by every other module of the package; knows no rule. A state is one nested tuple, so that it
hashes, compares and sorts by value. The words are those of the real code: hold, row, mark, fence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

Fault = Literal[
    "crash_hub",  # its memory is gone, its viewers reconnect and send the same key again
    "crash_keeper",
    "lose_send",  # a connection breaks on the way: the viewer sends again, the hub does not know
    "lose_viewer",  # the same, once the hub holds for him
    "late_hold",  # a hold call times out before Redis has run it, and is run later
    "slow_hold",  # the same, after Redis has run it
    "lost_hold",  # the answer of a hold call never comes
    "late_admission",  # an admission times out before Postgres has run it, and is run later
    "slow_admission",  # the same, after its COMMIT
    "lost_admission",  # the answer of an admission never comes, though it was committed
    "script_error",  # a hold call fails half way, as no script should (R5)
    "wipe",  # FLUSHALL: the state is gone, the run id stays
    "restart",  # Redis comes back under a new run id with its data as it was
    "stale",  # or with what it had when the offer opened
]
HUB_FAULTS: tuple[Fault, ...] = (
    "crash_hub",
    "lose_send",
    "lose_viewer",
    "late_hold",
    "slow_hold",
    "lost_hold",
    "late_admission",
    "slow_admission",
    "lost_admission",
)
Event = Literal["expire", "cancel", "pay", "restock", "lower", "close", "rebuild"]

WANTS, WAITS, NEW = "wants", "waits", "new"  # a buyer without a final answer
ACCEPTED, SOLD_OUT, LIMIT, CLOSED = "accepted", "sold_out", "limit_reached", "closed"
INTERNAL = "internal"  # his buy alone cannot be written, and never will be
LIVE = ("reserved", "confirmed")


class Row(NamedTuple):
    """An order's row in Postgres."""

    id: int
    buyer: int
    rank: int
    status: str


class Ledger(NamedTuple):
    """The offer in Postgres, its orders by id, and its movements: (order id or 0, units)."""

    epoch: int
    fence: int
    quantity: int
    taken: int
    closed: bool
    rows: tuple[Row, ...]
    moves: tuple[tuple[int, int], ...]


class Hold(NamedTuple):
    """A taken unit's name in Redis."""

    id: int
    buyer: int
    rank: int
    written: bool


class Gate(NamedTuple):
    """The offer in Redis. `run`: it was made under the server's present run id (R2)."""

    run: bool
    epoch: int
    at: int  # the movement that it stands at
    left: int
    rank: int
    closed: bool
    holds: tuple[Hold, ...]  # by id
    keys: tuple[tuple[int, int], ...]  # (buyer, order id): what a (viewer, key) is bound to


WIPED = Gate(False, 0, 0, 0, 0, False, (), ())


class Buy(NamedTuple):
    """A buy in a hub's memory; `here` when its viewer is still connected and waits for it."""

    buyer: int
    here: bool
    id: int  # 0: none that anybody else knows of


class Line(NamedTuple):
    """A buy with its hold, on the way to admission."""

    buyer: int
    here: bool
    id: int
    rank: int
    epoch: int
    fresh: bool  # taken for this buy, and sent to no admission before


class Call(NamedTuple):
    """An admission under way; without outcomes it has not been run yet."""

    lines: tuple[Line, ...]
    outcomes: tuple[str, ...]
    answered: bool  # its buyers were told `retry` already


class Hub(NamedTuple):
    """The memory of one hub process."""

    waiting: tuple[Buy, ...] = ()  # parked ones too: they ask again
    late: tuple[
        tuple[tuple[int, ...], tuple[Buy, ...]], ...
    ] = ()  # hold calls given up: marks, buys
    held: tuple[Line, ...] = ()
    calls: tuple[Call, ...] = ()
    written: tuple[int, ...] = ()  # rows that the gate is not told of
    undo: tuple[tuple[int, int, int], ...] = ()  # (epoch, id, rank) to be given back

    @property
    def busy(self) -> bool:
        """Tell whether a buy is under way here."""
        return bool(self.waiting or self.held or self.calls or self.late)


EMPTY = Hub()
IDLE: Actor = ("idle",)

#: A keeper or a follower: the step that it does next, and what it knows.
Actor = tuple[object, ...]
Stale = tuple[tuple[int, int], ...]  # (order id, rank) of unwritten holds


class Copy(NamedTuple):
    """What a rebuild read in Postgres and puts into Redis."""

    at: int
    left: int
    rank: int
    closed: bool
    holds: tuple[Hold, ...]
    keys: tuple[tuple[int, int], ...]


class State(NamedTuple):
    """Everything there is at one moment."""

    ledger: Ledger
    gate: Gate
    hubs: tuple[Hub, ...]  # sorted: hubs are alike
    keepers: tuple[Actor, ...]  # sorted
    follower: Actor  # a hub that brings the gate up to a change it made
    buyers: tuple[str, ...]
    faults: int  # that may still happen
    events: tuple[int, ...]  # that may still happen, as in `Small.events`


@dataclass(frozen=True, slots=True)
class Small:
    """One configuration: who there is and what may happen."""

    name: str
    buyers: tuple[tuple[int, int], ...] = ((1, 1), (2, 1))  # (viewer, qty); each has its own key
    quantity: int = 1
    per_viewer: int = 1
    hubs: int = 2
    keepers: int = 1
    faults: int = 1
    kinds: frozenset[Fault] = frozenset()
    events: tuple[tuple[Event, int], ...] = ()
    poison: frozenset[int] = frozenset()  # buyers whose line Postgres cannot write (R5)
    alone: bool = False  # a hub takes one buy at a time, and there are enough of them
    opening: bool = False  # the gate has not been made yet
    follows: bool = False  # who makes a change tells the gate himself, besides the keeper
    bugs: frozenset[str] = frozenset()

    @property
    def start(self) -> State:
        """An open offer with a fresh gate, and buyers who have not asked yet."""
        return State(
            ledger=Ledger(1, 0, self.quantity, 0, False, (), ()),
            gate=WIPED if self.opening else Gate(True, 1, 0, self.quantity, 0, False, (), ()),
            hubs=(EMPTY,) * self.hubs,
            keepers=(IDLE,) * self.keepers,
            follower=IDLE,
            buyers=(NEW,) * len(self.buyers),
            faults=self.faults,
            events=tuple(times for _, times in self.events),
        )
