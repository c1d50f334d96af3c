"""What waits for slow sockets."""

from __future__ import annotations

from collections.abc import Iterator

from streams.codec import Ready
from streams.conflated import Conflated
from streams.lanes import Lanes
from streams.ports import Socket
from streams.protocol import Stock, Viewers
from tests.hub_rig import Screen


class Seat:
    """A `lanes.Listener`."""

    def __init__(self, *, binary: bool = False) -> None:
        self.screen = Screen(binary=binary)
        self.socket: Socket = self.screen


def lanes_of(*seats: Seat) -> Lanes:
    lanes = Lanes(conflate_above_bytes=100)
    for seat in seats:
        lanes.add(seat)
    return lanes


def stock(version: int) -> Ready:
    return Ready(Stock(offer="of_1", left=10 - version, version=version))


async def test_events_go_to_both_subprotocols_in_order() -> None:
    """Everyone gets each event once, in the order given, framed for its subprotocol."""
    seats = [Seat(), Seat(binary=True)]
    lanes_of(*seats).pour([stock(1), stock(2)])
    for seat in seats:
        assert [event["version"] for event in seat.screen.events] == [1, 2]


async def test_skipped_values_come_once_in_their_newest_form() -> None:
    """A busy listener is sent what it missed when it is free, each slot once."""
    seat = Seat()
    lanes = lanes_of(seat)
    seat.screen.waiting = 101
    for version in (1, 2, 3):
        lanes.newest["stock"] = stock(version)
        lanes.spread(["stock"])
    lanes.newest["viewers"] = Ready(Viewers(count=5))
    lanes.spread(["viewers"])
    lanes.relieve()
    assert seat.screen.events == []
    seat.screen.waiting = 0
    lanes.relieve()
    lanes.relieve()
    kinds = sorted(event["type"] for event in seat.screen.events)
    assert kinds == ["stock", "viewers"]
    assert seat.screen.of("stock")[0]["version"] == 3


async def test_who_left_is_forgotten() -> None:
    """A listener that left while it was behind is not written to."""
    seat = Seat()
    lanes = lanes_of(seat)
    seat.screen.waiting = 101
    lanes.newest["stock"] = stock(1)
    lanes.spread(["stock"])
    lanes.discard(seat)
    seat.screen.waiting = 0
    lanes.relieve()
    assert seat.screen.events == []


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
