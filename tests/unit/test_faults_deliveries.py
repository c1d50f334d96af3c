"""What `make deliveries` is made of: a plan that repeats, and a reader of bytes that loses none."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import pytest

from tests.faults.deliveries import FORMS, KINDS, Plan
from tests.faults.links import EventsLink

PLAN = Plan(seed=7, deliveries=1_000, viewers=400, seconds_max=60.0)
HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
TEXT = (
    b'retry: 1000\n\n:\n\nid: A:1:0\ndata: {"type":"a: b"}\n\ndata: {"type":"c"}\n\n'
    b'event: close\ndata: {"code":4503,"reason":""}\n\n'
)
CHUNKS = [TEXT[:9], TEXT[9:13], TEXT[13:40], TEXT[40:41], TEXT[41:], b""]
EVENTS = HEAD + b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in CHUNKS)


def test_a_seed_is_one_plan_and_each_round_has_each_fault() -> None:
    """Drawn twice it is the same; another seed is another run."""
    assert list(PLAN.lines()) == list(PLAN.lines())
    other = Plan(seed=8, deliveries=1_000, viewers=400, seconds_max=60.0)
    assert list(PLAN.lines())[1:] != list(other.lines())[1:]
    drawn = [strike.what for _, strike in islice(PLAN.strikes(), 3 * len(KINDS))]
    assert Counter(drawn) == dict.fromkeys(KINDS, 3)


def test_each_stream_has_viewers_of_each_kind() -> None:
    """Each form, members and guests in it, and sockets that take but little."""
    tickets = PLAN.tickets(["st_1", "st_2"], "secret" * 6)
    for stream in ("st_1", "st_2"):
        ours = [ticket for ticket in tickets if ticket.stream == stream]
        assert len(ours) == 200
        assert len({ticket.name for ticket in tickets}) == 400
        assert {(one.form, bool(one.token)) for one in ours} == {
            (form, member) for form in set(FORMS) for member in (True, False)
        }
        assert any(ticket.narrow for ticket in ours)


@pytest.mark.parametrize("size", [1, 2, 3, 7, len(EVENTS)])
async def test_events_are_read_however_they_are_cut(size: int) -> None:
    """Chunks that begin and end within events, bytes that come one by one, and why it ended."""
    heard: list[tuple[str | bytes, str | None]] = []
    link = EventsLink(lambda payload, id_: heard.append((payload, id_)), "host", "/", {})
    for at in range(0, len(EVENTS), size):
        link.data_received(EVENTS[at : at + size])
    assert heard == [('{"type":"a: b"}', "A:1:0"), ('{"type":"c"}', None)]
    assert link.code == 4503
