"""The independent reader sees what it is there for: gaps, repeats, orders that differ, losses."""

from __future__ import annotations

import ast
import inspect
import json
from typing import Any

import msgpack
import pytest

from tests.faults import reader, reader_rest
from tests.faults.reader import Event, Line, Place, Reader
from tests.faults.reader_rest import Deeds, Fact, Rest, is_of, states

KEPT = 100
PROJECT = ("livecart", "streams", "orders", "loadtest", "tests")
PRODUCT = {"id": "pr_1", "title": "tea"}
OFFER = {"id": "of_1", "stream": "st_1", "price_minor": 1999, "quantity": 10, "per_viewer": 1,
         "status": "open", "epoch": 1, "version": 2}  # fmt: skip


def welcome(epoch: str = "A", seq: int = 0, cseq: int = 0, **more: Any) -> Event:
    return {"type": "welcome", "re": 0, "epoch": epoch, "seq": seq, "cseq": cseq, "pins": [],
            "offers": [], **more}  # fmt: skip


def resync(epoch: str, seq: int = 0, cseq: int = 0, **more: Any) -> Event:
    return {"type": "resync", "epoch": epoch, "seq": seq, "cseq": cseq, "pins": [], "offers": [],
            **more}  # fmt: skip


def pinned(seq: int, pin: str = "") -> Event:
    pin = pin or f"pin_{seq}"
    return {"type": "pinned", "seq": seq, "at": 1_000 + seq,
            "pin": {"id": pin, "product": PRODUCT, "position": 0}}  # fmt: skip


def chat(cseq: int, text: str = "") -> Event:
    message = {"id": f"msg_{cseq}", "user": "u", "text": text or f"word {cseq}"}
    return {"type": "chat", "cseq": cseq, "at": 1_000, "message": message}


def pin_fact(n: int) -> Fact:
    return Fact(n, "pinned", f"pin_{n}", None, 1_000 + n, {"product": "pr_1", "offer": None})


def hear(line: Line, *events: Event, binary: bool = False) -> None:
    for event in events:
        line.take(msgpack.packb(event) if binary else json.dumps(event))


def told(*events: Event, since: Place | None = None) -> Reader:
    """One viewer's one connection."""
    found = Reader(KEPT)
    if since is not None:
        hear(found.line("v", "st_1", None), welcome(since.epoch, since.seq, since.cseq))
    hear(found.line("v", "st_1", since), *events)
    return found


def at_rest(found: Reader, facts: list[Fact], deeds: Deeds | None = None) -> list[str]:
    """What is wrong at rest, where HTTP lists what the facts make."""
    offers = [{"id": of, "status": status, "quantity": quantity}
              for of, status, quantity in states(facts)[-1].offers]  # fmt: skip
    asked = deeds
    if asked is None:
        asked = Deeds()
        for fact in facts:
            asked.done("pin", fact.subject)
    said = {heard.event["message"]["text"] for epoch in found.epochs["st_1"].values()
            for heard in epoch.chat.values()}  # fmt: skip
    Rest(found, "st_1", facts).judge(asked, said, {}, offers)
    return found.findings


def test_a_whole_history_is_right() -> None:
    """Two forms, both sequences, a recovery, a snapshot anew and a resync: nothing to report."""
    found = Reader(KEPT)
    hear(found.line("json", "st_1", None), welcome(), pinned(1), chat(1), chat(2), pinned(2))
    packed = found.line("packed", "st_1", None)
    hear(packed, welcome(), chat(1), pinned(1), binary=True)
    back = found.line("packed", "st_1", Place("A", 1, 1))
    shown = [{"id": f"pin_{n}"} for n in (2, 1)]
    hear(back, welcome("A", 2, 2, recovered=True, pins=shown), pinned(2), chat(2), binary=True)
    assert found.findings == []
    hear(back, resync("B", pins=shown), binary=True)
    anew = found.line("json", "st_1", Place("A", 2, 2))
    hear(anew, welcome("B", recovered=False, pins=shown))
    third = pinned(1, "pin_3") | {"at": 1_003}
    hear(anew, third)
    hear(back, third, binary=True)
    assert at_rest(found, [pin_fact(1), pin_fact(2), pin_fact(3)]) == []
    assert found.tally["recovered"] == found.tally["anew"] == found.tally["resyncs"] == 1
    assert found.tally["deliveries"] == 10


@pytest.mark.parametrize(
    ("events", "what"),
    [
        ([welcome(), pinned(1), pinned(3)], "gap: seq 3"),
        ([welcome(), pinned(2)], "gap: seq 2"),
        ([welcome(seq=4), pinned(4)], "repeat: seq 4"),
        ([welcome(), pinned(1), pinned(1)], "repeat: seq 1"),
        ([welcome(), chat(1), chat(3)], "gap: cseq 3"),
        ([welcome(), chat(1), chat(1)], "repeat: cseq 1"),
        ([welcome(), pinned(1), chat(1), pinned(1)], "repeat: seq 1"),
        ([pinned(1)], "before the welcome"),
        ([welcome(), welcome()], "a second welcome"),
        ([welcome(recovered=True)], "without since"),
        ([welcome(), resync("B"), pinned(2)], "gap: seq 2"),
        ([welcome(), pinned(1), resync("A", 2)], "within an epoch"),
        ([welcome(), resync("B"), resync("A")], "an epoch before it"),
        ([welcome(), chat(1), {"type": "chat.skipped", "cseq": 1}], "chat.skipped to 1"),
        ([welcome(), {"type": "chat.skipped", "cseq": 4}, chat(4)], "repeat: cseq 4"),
        ([welcome(), chat(1), chat(2) | {"message": chat(1)["message"]}], "one message is cseq 1"),
        ([welcome(), {"type": "pinned", "at": 1, "pin": {}}], "has not just seq"),
        ([welcome(), {k: v for k, v in pinned(1).items() if k != "at"}], "has no time"),
    ],
)
def test_one_connection_is_held_to_its_order(events: list[Event], what: str) -> None:
    """A gap, a repeat, a snapshot out of place: one finding that says so."""
    found = told(*events)
    assert found.tally["findings"] == 1, found.findings
    assert what in found.findings[0]


@pytest.mark.parametrize(
    ("events", "what"),
    [
        ([welcome("A", 9, 9, recovered=True), pinned(7)], "gap: seq 7"),
        ([welcome("A", 9, 9, recovered=True), pinned(5)], "repeat: seq 5"),
        ([welcome("A", 9, 9, recovered=True), pinned(6), chat(8)], "gap: cseq 8"),
        ([welcome("B", 9, 9, recovered=True)], "recovered from A:5:5"),
        ([welcome("A", 4, 9, recovered=True)], "recovered from A:5:5"),
        ([welcome("A", 9, 9, recovered=False)], "all of which is held"),
        ([welcome("A", 9, 9)], "recovered: None after since"),
    ],
)
def test_who_comes_back_is_brought_all_he_missed(events: list[Event], what: str) -> None:
    """Recovered: everything from `since` on; not recovered: only where that is not held."""
    found = told(*events, since=Place("A", 5, 5))
    assert what in found.findings[0], found.findings


def test_a_snapshot_anew_is_right_where_the_log_is_another_or_too_short() -> None:
    """Another epoch, or more behind than is kept; an epoch that was over is no other."""
    since = Place("A", 5, 5)
    for right in (welcome("B", recovered=False), welcome("A", 6 + KEPT, 5, recovered=False)):
        assert told(right, since=since).findings == []
    found = told(welcome("B", recovered=False), since=since)
    hear(found.line("v", "st_1", Place("B", 0, 0)), welcome("A", 9, 9, recovered=False))
    assert "an epoch before it" in found.findings[0]


def test_another_order_is_seen_across_viewers() -> None:
    """Each of two viewers has a whole sequence, and the sequences differ."""
    for one, other in ((pinned(1, "pin_a"), pinned(1, "pin_b")), (chat(1, "a"), chat(1, "b"))):
        found = Reader(KEPT)
        hear(found.line("v", "st_1", None), welcome(), one)
        hear(found.line("w", "st_1", None), welcome(), other, binary=True)
        assert found.tally["findings"] == 1
        assert "two contents of 1" in found.findings[0]


def test_since_is_the_place_that_was_told() -> None:
    """A viewer that claims more, or less, than it was told would hide a gap or a repeat."""
    found = told(welcome(), pinned(1))
    found.line("v", "st_1", Place("A", 2, 0))
    assert "had been told up to A:1:0" in found.findings[0]


@pytest.mark.parametrize("id_", [None, "A:0:0", "A:2:0", "B:1:0"])
def test_a_numbered_event_has_the_id_of_its_place(id_: str | None) -> None:
    """Over SSE every sequenced event brings the position after it, and nothing else does."""
    found = Reader(KEPT)
    line = found.line("v", "st_1", None, numbered=True)
    line.take(json.dumps(welcome()), "A:0:0")
    line.take(json.dumps({"type": "viewers", "count": 3}))
    assert found.findings == []
    line.take(json.dumps(pinned(1)), id_)
    assert f"id {id_} at A:1:0" in found.findings[0]


def test_rubbish_is_reported() -> None:
    """What no library can decode, or is no message, is a finding and no exception."""
    found = Reader(KEPT)
    line = found.line("v", "st_1", None)
    for rubbish in ("{", b"\xc1", "[]", "{}"):
        line.take(rubbish)
    assert found.tally["findings"] == 4


# --- at rest -------------------------------------------------------------------------------------


def test_a_missing_final_event_is_seen() -> None:
    """For one viewer: he is not where the others are. For all: Postgres has one more."""
    found = told(welcome(), pinned(1), pinned(2))
    hear(found.line("w", "st_1", None), welcome(), pinned(1))
    findings = at_rest(found, [pin_fact(1), pin_fact(2)])
    assert "not at one place" in findings[0]
    assert any("w is at fact 1" in finding for finding in findings)
    lacking = at_rest(told(welcome(), pinned(1)), [pin_fact(1), pin_fact(2)])
    assert any("v is at fact 1 (A:1:0), the last is 2" in finding for finding in lacking)


def test_chat_that_was_named_must_come() -> None:
    """A snapshot or a jump that named more chat than anybody was told."""
    found = told(welcome(), pinned(1), chat(1))
    found.told("st_1", "A").cseq_named = 2
    assert "chat up to 2 was named" in at_rest(found, [pin_fact(1)])[0]


@pytest.mark.parametrize(
    "event",
    [
        pinned(2, "pin_other"),
        pinned(2) | {"at": 7},
        pinned(2) | {"pin": {"id": "pin_2", "product": {"id": "pr_other"}}},
        pinned(2) | {"reason": "why"},
        {"type": "unpinned", "seq": 2, "at": 1_002, "pin": "pin_2"},
    ],
)
def test_foreign_content_is_seen(event: Event) -> None:
    """All are told the same, and it is not what Postgres has."""
    facts = [pin_fact(1), pin_fact(2), pin_fact(3)]
    findings = at_rest(told(welcome(), pinned(1), event, pinned(3)), facts)
    assert any("are those of Postgres from nowhere on" in finding for finding in findings)


def test_a_fact_left_out_or_told_in_another_order_is_seen() -> None:
    """The numbers have no gap, the facts have."""
    facts = [pin_fact(1), pin_fact(2), pin_fact(3)]
    skipped = told(welcome(), pinned(1), pinned(3) | {"seq": 2})
    swapped = told(welcome(), pinned(2) | {"seq": 1}, pinned(1) | {"seq": 2}, pinned(3))
    for found in (skipped, swapped):
        assert any("from nowhere on" in finding for finding in at_rest(found, facts))


def test_a_fact_told_again_under_a_new_epoch_is_seen() -> None:
    """The log was lost and begins with what this viewer was told before."""
    found = told(
        welcome(), pinned(1), pinned(2), resync("B", pins=[{"id": "pin_2"}, {"id": "pin_1"}]),
        pinned(2) | {"seq": 1}, pinned(3) | {"seq": 2},
    )  # fmt: skip
    findings = at_rest(found, [pin_fact(1), pin_fact(2), pin_fact(3)])
    assert any("in B again from fact 2 (seq 1) on" in finding for finding in findings)


def test_a_snapshot_that_lacks_a_fact_is_seen() -> None:
    """Fact 2 was told to nobody, and the snapshot at its place does not have it either."""
    third = pinned(1, "pin_3") | {"at": 1_003}
    found = told(welcome(), pinned(1), resync("B", pins=[{"id": "pin_1"}]), third)
    findings = at_rest(found, [pin_fact(1), pin_fact(2), pin_fact(3)])
    assert any("a snapshot at B:0:0, fact 2, has the state at fact 1" in f for f in findings)
    never = told(welcome(), pinned(1), resync("B", pins=[{"id": "pin_9"}]), third)
    findings = at_rest(never, [pin_fact(1), pin_fact(2), pin_fact(3)])
    assert any("is no state there ever was" in finding for finding in findings)


def test_what_was_acknowledged_is_there_once() -> None:
    """An acknowledged command without its event, one with two, and an event nobody asked for."""
    facts = [pin_fact(1), pin_fact(2)]

    def judged(*pins: str, lost: int = 0) -> list[str]:
        deeds = Deeds()
        for pin in pins:
            deeds.done("pin", pin)
        for _ in range(lost):
            deeds.lost("pin")
        return at_rest(told(welcome(), pinned(1), pinned(2)), facts, deeds)

    assert judged("pin_1", "pin_2") == []
    assert judged("pin_1", lost=1) == []
    assert "acknowledged of pin_3, and pinned is there 0 times" in judged(
        "pin_1", "pin_2", "pin_3"
    )[0]  # fmt: skip
    assert "1 pinned that nobody was acknowledged, of 0 unknown" in judged("pin_1")[0]


def test_a_pin_that_makes_room_is_nobodys_command() -> None:
    """The oldest of three goes when a fourth comes; any other unpinned must have been asked for."""
    facts = [pin_fact(n) for n in (1, 2, 3)]
    facts += [Fact(4, "unpinned", "pin_1", None, 1_004, None), pin_fact(5)]
    events = [pinned(1), pinned(2), pinned(3)]
    events += [{"type": "unpinned", "seq": 4, "at": 1_004, "pin": "pin_1"}, pinned(5)]
    deeds = Deeds()
    for n in (1, 2, 3, 5):
        deeds.done("pin", f"pin_{n}")
    assert at_rest(told(welcome(), *events), facts, deeds) == []
    cut = at_rest(told(welcome(), *events[:4]), facts[:4], deeds)
    assert any("1 unpinned that nobody was acknowledged" in finding for finding in cut)


def test_one_key_is_one_message_and_last_words_are_told() -> None:
    """Chat under a key that was sent twice, chat of nobody's, and an acknowledged word lost."""
    found = told(welcome(), pinned(1), chat(1, "once"), chat(2, "once"), chat(3, "foreign"))
    Rest(found, "st_1", [pin_fact(1)])._chat({"once"}, {"last": "msg_9"})
    assert [finding.partition(": ")[2].split()[0] for finding in found.findings] == [
        "one", "chat", "nobody",
    ]  # fmt: skip


def test_http_lists_what_the_facts_make() -> None:
    """A quantity of its own is seen."""
    facts = [Fact(1, "offer.opened", "of_1", None, 1_001, OFFER | {"product": "pr_1"})]
    event = {"type": "offer.opened", "seq": 1, "at": 1_001, "offer": OFFER | {"product": PRODUCT}}
    assert is_of(event, facts[0])
    assert not is_of(event | {"offer": event["offer"] | {"quantity": 11}}, facts[0])  # type: ignore[operator]
    found = told(welcome(), event)
    deeds = Deeds()
    deeds.done("offer.open", "of_1")
    Rest(found, "st_1", facts).judge(deeds, set(), {}, [OFFER | {"quantity": 11}])
    assert [finding for finding in found.findings if "GET lists" in finding] == found.findings
    assert found.findings


def test_the_reader_shares_nothing_with_the_server() -> None:
    """It imports the standard library, msgpack and itself: no fault is believed twice."""
    names: set[str] = set()
    for module in (reader, reader_rest):
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            if isinstance(node, ast.ImportFrom):
                names.add(node.module or "")
            elif isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
    assert not {name for name in names if name.split(".")[0] in PROJECT} - {"tests.faults.reader"}
