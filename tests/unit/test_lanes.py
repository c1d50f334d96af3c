"""The fan-out of a room, and what waits for slow sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

import pytest

from streams.backlog import Account, Backlog, Backlogs
from streams.codec import Ready
from streams.codes import Close
from streams.conflated import Conflated
from streams.lanes import HUSH_S, SLICE, TICK_S, Lanes
from streams.ports import Socket
from streams.protocol import Chatted, Message, OfferClosed, Stock, Viewers
from tests.hub_rig import Event, Screen, payloads, until


class Seat:
    """A `lanes.Listener`."""

    def __init__(self, *, binary: bool = False) -> None:
        self.screen = Screen(binary=binary)
        self.socket: Socket = self.screen
        self.backlog: Backlog | None = None
        self.told: list[object] = []

    def queue(self, frames: bytes) -> None:
        self.told.append(("main", frames))

    def queue_chat(self, frames: bytes, cseq: int) -> None:
        self.told.append(("chat", cseq))

    def queue_newest(self, slots: Sequence[str]) -> None:
        self.told.append(("newest", *slots))

    def stall(self, lanes: Lanes) -> None:
        self.backlog = Backlog(lanes.newest, self.screen.form, Account())
        lanes.stall(self)

    def go_on(self, lanes: Lanes) -> None:
        self.backlog = None
        lanes.go_on(self)

    @property
    def seen(self) -> list[int]:
        """What came, in order: `seq` of main events, minus `cseq` of chat."""
        return [event["seq"] if "seq" in event else -event["cseq"] for event in self.screen.events]


def lanes_of(*seats: Seat) -> Lanes:
    lanes = Lanes()
    for seat in seats:
        lanes.add(seat)
    return lanes


def stock(version: int) -> Ready:
    return Ready(Stock(offer="of_1", left=10 - version, version=version))


def main(seq: int) -> Ready:
    return Ready(OfferClosed(at=seq, seq=seq, offer="of_1"))


def chat(cseq: int, text: str = "hi") -> Ready:
    message = Message(id=f"msg_{cseq}", user="ann", name="Ann", text=text, at=1)
    return Ready(Chatted(at=1, cseq=cseq, message=message))


async def test_events_go_to_both_subprotocols_in_order() -> None:
    """Everyone gets each event once, in the order given, framed for its subprotocol."""
    seats = [Seat(), Seat(binary=True)]
    lanes_of(*seats).pour([main(1), main(2)])
    assert [seat.seen for seat in seats] == [[1, 2]] * 2


async def test_who_is_added_twice_hears_once() -> None:
    """As after a resync, which finds a connection where it is."""
    seat, slow = Seat(), Seat()
    lanes = lanes_of(seat, seat, slow)
    slow.stall(lanes)
    lanes.add(slow)
    lanes.pour([main(1)])
    assert (seat.seen, len(slow.told), len(lanes)) == ([1], 1, 2)


async def test_somebody_else_is_the_first_each_time() -> None:
    """Over many events everyone is first now and then, and last, too."""
    seats, order = [Seat() for _ in range(10)], []
    lanes = Lanes()
    for n, seat in enumerate(seats):
        seat.screen.write = lambda frames, n=n: order.append(n)  # type: ignore[method-assign,misc]
        lanes.add(seat)
    for seq in range(200):
        lanes.pour([main(seq)])
    assert set(order[::10]) == set(order[9::10]) == set(range(10))
    for seq in range(200):
        assert sorted(order[seq * 10 : seq * 10 + 10]) == list(range(10))


async def test_who_left_is_written_to_no_more() -> None:
    """Whoever leaves, first, last or in the middle, the others are still all there once."""
    seats = [Seat() for _ in range(7)]
    lanes = lanes_of(*seats)
    for n, seat in enumerate((seats[6], seats[0], seats[3], seats[3]), start=1):
        lanes.discard(seat)
        lanes.pour([main(n)])
    assert len(lanes) == 4
    stayed = [1, 2, 3, 4]
    assert [seat.seen for seat in seats] == [
        [1], stayed, stayed, [1, 2], stayed, stayed, [],
    ]  # fmt: skip


# --- chat ---


async def test_a_lone_line_of_chat_goes_out_at_once() -> None:
    """Nobody waits for a tick in a quiet room."""
    seat = Seat()
    lanes_of(seat).pour_chat([chat(1)], 1)
    assert seat.seen == [-1]


async def test_much_chat_gathers_and_none_is_lost() -> None:
    """What comes within a tick of the last goes out in one write, in order."""
    seat, writes = Seat(), []
    write = seat.screen.write
    seat.screen.write = lambda frames: (writes.append(frames), write(frames))  # type: ignore[method-assign,assignment,func-returns-value]
    lanes = lanes_of(seat)
    for cseq in range(1, 51):
        lanes.pour_chat([chat(cseq)], cseq)
    await until(lambda: len(seat.seen) == 50, "the chat")
    assert seat.seen == [-n for n in range(1, 51)]
    assert len(writes) == 2


async def test_an_offer_overtakes_chat_in_the_middle() -> None:
    """Half of the room has the chat when an offer comes: all have that before the rest goes on."""
    seats = [Seat() for _ in range(3 * SLICE)]
    lanes = lanes_of(*seats)
    lanes.pour_chat([chat(1)], 1)
    had = sum(seat.seen == [-1] for seat in seats)
    assert had == SLICE
    lanes.pour([main(1)])
    assert all(1 in seat.seen for seat in seats)
    assert sum(seat.seen == [1] for seat in seats) == 2 * SLICE
    await until(lambda: all(-1 in seat.seen for seat in seats), "the rest of the chat")
    assert sum(seat.seen == [1, -1] for seat in seats) == 2 * SLICE
    assert all(len(seat.seen) == 2 for seat in seats)


async def test_chat_waits_for_what_the_host_is_just_doing() -> None:
    """It goes out right behind that event, whole; not before, however much of it has come."""
    seats = [Seat() for _ in range(2 * SLICE)]
    lanes = lanes_of(*seats)
    lanes.pour_chat([chat(1)], 1)  # half written
    had = sum(seat.seen == [-1] for seat in seats)
    lanes.hush()
    for cseq in range(2, 12):
        lanes.pour_chat([chat(cseq)], cseq)
        await asyncio.sleep(TICK_S)
    assert sum(bool(seat.seen) for seat in seats) == had == SLICE
    lanes.pour([main(1)])
    assert sum(seat.seen == [1] for seat in seats) == SLICE
    await until(lambda: all(seat.seen[-1:] == [-11] for seat in seats), "the chat")
    lines = [-n for n in range(1, 12)]
    assert sorted(seat.seen for seat in seats) == sorted(
        [[-1, 1, *lines[1:]]] * SLICE + [[1, *lines]] * SLICE
    )


async def test_chat_goes_on_when_nothing_comes_of_it() -> None:
    """A refused act is no reason to wait; relenting twice, or without a hush, does nothing."""
    seat = Seat()
    lanes = lanes_of(seat)
    lanes.relent()
    lanes.hush()
    lanes.pour_chat([chat(1)], 1)
    lanes.pour_chat([chat(2)], 2)
    assert seat.seen == []
    lanes.relent()
    lanes.relent()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert seat.seen == [-1, -2]


async def test_chat_waits_for_a_moment_alone() -> None:
    """A host who does all the time what nobody is told of in the end holds it up by half."""
    seat, loop = Seat(), asyncio.get_running_loop()
    lanes = lanes_of(seat)
    began_s = loop.time()
    lanes.hush()
    lanes.pour_chat([chat(1)], 1)
    assert seat.seen == []
    while not seat.seen:
        lanes.hush()
        await asyncio.sleep(TICK_S)
    held_s = loop.time() - began_s
    assert held_s >= HUSH_S
    while loop.time() < began_s + 2 * HUSH_S - TICK_S:  # its own time: nothing holds it up
        lanes.hush()
        cseq = 1 - seat.seen[-1]
        lanes.pour_chat([chat(cseq)], cseq)
        await until(lambda cseq=cseq: seat.seen[-1] == -cseq, "a line")  # type: ignore[misc]
    assert len(seat.seen) > 2


async def test_who_comes_in_the_middle_of_chat_gets_what_follows_alone() -> None:
    """A newcomer was shown what is on its way; the next line is his as well as everybody's."""
    seats = [Seat() for _ in range(2 * SLICE)]
    lanes = lanes_of(*seats)
    lanes.pour_chat([chat(1)], 1)  # half written
    lanes.pour_chat([chat(2)], 2)  # waits
    late = Seat()
    lanes.add(late)
    lanes.pour_chat([chat(3)], 3)
    lanes.pour_chat([chat(4)], 4)
    await until(lambda: all(s.seen[-1:] == [-4] for s in (late, *seats)), "the last line")
    assert late.seen == [-3, -4]
    assert all(seat.seen == [-1, -2, -3, -4] for seat in seats)


async def test_chat_on_its_way_is_settled_or_forgotten() -> None:
    """Before a resync all of it goes out; of a lost epoch none does."""
    for forget in (False, True):
        seats = [Seat() for _ in range(2 * SLICE)]
        lanes = lanes_of(*seats)
        lanes.pour_chat([chat(1)], 1)
        lanes.pour_chat([chat(2)], 2)
        if forget:
            lanes.forget_chat()
        else:
            lanes.settle()
        seen = [seat.seen for seat in seats]
        await asyncio.sleep(2 * TICK_S)
        assert [seat.seen for seat in seats] == seen
        assert sorted(seen) == ([[]] * SLICE + [[-1]] * SLICE if forget else [[-1, -2]] * 2 * SLICE)
        lanes.pour_chat([chat(3)], 3)
        await until(lambda seats=seats: all(s.seen[-1:] == [-3] for s in seats), "the next")  # type: ignore[misc]


# --- who takes no more ---


async def test_events_of_a_stalled_listener_are_its_own_matter() -> None:
    """They are handed to it by lane, in order; then it is written to again, once."""
    seat, other = Seat(), Seat()
    lanes = lanes_of(seat, other)
    seat.stall(lanes)
    lanes.newest["stock:of_1"] = stock(1)
    lanes.pour([main(1)])
    lanes.pour_chat([chat(1)], 1)
    lanes.spread(["stock:of_1"])
    assert seat.screen.events == []
    assert seat.told == [("main", main(1).frame(False)), ("chat", 1), ("newest", "stock:of_1")]
    assert len(other.screen.events) == 3
    assert len(lanes) == 2
    seat.go_on(lanes)
    lanes.pour([main(2)])
    assert seat.seen == [2]


async def test_a_listener_may_join_stalled_and_leave_stalled() -> None:
    """A snapshot that is not taken yet stands before what follows it."""
    seat = Seat()
    lanes = Lanes()
    seat.backlog = Backlog(lanes.newest, False, Account())
    lanes.add(seat)
    lanes.pour([main(1)])
    assert (len(seat.told), seat.screen.events) == (1, [])
    lanes.discard(seat)
    lanes.pour([main(2)])
    assert (len(seat.told), len(lanes)) == (1, 0)


# --- one backlog ---


def taken(frames: bytes) -> list[Event]:
    screen = Screen()
    screen.write(frames)
    return screen.events


async def test_a_backlog_goes_out_by_priority() -> None:
    """Main events, then stock, then chat, then counts; each lane in its order."""
    newest = {"viewers": Ready(Viewers(count=5)), "stock:of_1": stock(1)}
    backlog = Backlog(newest, False, Account())
    backlog.put_newest(["viewers", "stock:of_1"])
    for n in (1, 2):
        backlog.put_chat(chat(n).frame(False), n)
        backlog.put(main(n).frame(False))
    newest["stock:of_1"] = stock(3)
    events = taken(backlog.portion())
    assert [event["type"] for event in events] == [
        "offer.closed", "offer.closed", "stock", "chat", "chat", "viewers",
    ]  # fmt: skip
    assert [event["seq"] for event in events[:2]] == [1, 2]
    assert events[2]["version"] == 3
    assert backlog.portion() == b""
    assert backlog.bytes == 0


async def test_a_portion_is_small_so_that_what_comes_next_may_overtake() -> None:
    """Chat that waits gives way to an event that comes between two portions."""
    backlog = Backlog({}, False, Account())
    for n in range(1, 1_001):
        backlog.put_chat(chat(n, "x" * 200).frame(False), n)
    first = taken(backlog.portion())
    assert 1 < len(first) < 100
    backlog.put(main(1).frame(False))
    second = taken(backlog.portion())
    assert second[0]["type"] == "offer.closed"
    assert second[1]["cseq"] == first[-1]["cseq"] + 1
    rest = taken(backlog.rest())
    assert rest[-1]["cseq"] == 1_000
    assert backlog.bytes == 0


async def test_shed_chat_is_told_of_in_its_place() -> None:
    """`chat.skipped` names the last line that was shed, and stands before the next line."""
    account = Account()
    backlog = Backlog({}, False, account)
    for n in (1, 2, 3):
        backlog.put_chat(chat(n).frame(False), n)
    assert backlog.shed() == account.bytes + 3 * len(chat(1).frame(False))
    backlog.put_chat(chat(4).frame(False), 4)
    backlog.put(main(1).frame(False))
    events = taken(backlog.portion())
    assert [(e["type"], e.get("cseq")) for e in events] == [
        ("offer.closed", None), ("chat.skipped", 3), ("chat", 4),
    ]  # fmt: skip
    assert (backlog.bytes, account.bytes) == (0, 0)
    assert backlog.shed() == 0
    assert backlog.portion() == b""


class Slow:
    """A connection with a backlog."""

    def __init__(self, backlogs: Backlogs) -> None:
        self.backlogs = backlogs
        self.backlog: Backlog | None = Backlog({}, False, backlogs.account)
        self.code: Close | None = None
        backlogs.add(self)

    def close(self, code: Close, reason: str = "") -> None:
        assert self.backlog is not None
        self.code = code
        self.backlog.drop()
        self.backlog = None
        self.backlogs.discard(self)

    def waits(self, bytes_: int, lane: str = "main") -> None:
        assert self.backlog is not None
        if lane == "main":
            self.backlog.put(bytes(bytes_))
        else:
            self.backlog.put_chat(bytes(bytes_), 1)
        self.backlogs.judge(self)


async def test_a_connection_past_its_bound_loses_chat_first_then_ends() -> None:
    """Chat is shed for the sake of events; events past the bound end the connection."""
    backlogs = Backlogs(1_000, 1 << 30)
    slow = Slow(backlogs)
    slow.waits(600)
    slow.waits(401, "chat")
    assert [one.code for one in (slow,)] == [None]
    assert backlogs.account.bytes == 600
    slow.waits(401)
    assert slow.code is Close.SLOW
    assert (len(backlogs), backlogs.account.bytes) == (0, 0)


async def test_a_process_past_its_bound_relieves_itself_of_the_slowest() -> None:
    """First their chat, then the connections with the most; the others stay."""
    backlogs = Backlogs(10_000, 10_000)
    slow = [Slow(backlogs) for _ in range(5)]
    for n, one in enumerate(slow):
        one.waits(1_000 + n)
        one.waits(900, "chat")
    assert all(one.backlog is not None and one.backlog.bytes >= 1_900 for one in slow)
    slow[0].waits(600)  # 10,110 bytes
    assert all(one.code is None for one in slow)
    assert backlogs.account.bytes <= 9_000
    slow[1].waits(5_000)
    assert [one.code for one in slow] == [None, Close.SLOW, None, None, None]
    assert backlogs.account.bytes <= 9_000


# --- conflated values ---


async def test_the_number_of_stock_values_is_bounded() -> None:
    """Offers beyond the bound push the oldest out, everywhere."""
    lanes = lanes_of()
    values = Conflated(lanes)
    for n in _more_than_the_bound():
        values.put_stock(f"of_{n}", 1, 1)
    assert len(lanes.newest) <= 1_000
    values.close()


async def test_totals_never_fall() -> None:
    """Totals that come late or from a forgetful Redis are merged upwards."""
    seat = Seat()
    values = Conflated(lanes_of(seat))
    values.put_reactions({"like": 5})
    values.put_reactions({"like": 3, "wow": 1})
    assert seat.screen.of("reactions")[-1]["counts"] == {"like": 5, "wow": 1}


def _more_than_the_bound() -> Iterator[int]:
    return iter(range(1_100))


def test_a_frame_is_one_frame() -> None:
    """The rig splits what is joined."""
    joined = main(1).frame(False) + chat(1).frame(False)
    assert len(list(payloads(joined))) == 2


pytestmark = pytest.mark.filterwarnings("error")
