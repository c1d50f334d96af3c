"""What viewers were delivered: each way in which I7 can break is found, with viewer and number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from loadtest import deliveries
from loadtest.deliveries import Deliveries
from loadtest.judge import Breach, Finding
from loadtest.judge_deliveries import (
    CONTENT,
    KEPT,
    ORDER,
    PLACE,
    RECOVERY,
    Fact,
    judge_deliveries,
)

FACTS = [Fact(n, "pinned", f"pin_{n}", "", 1_000 * n) for n in range(1, 9)]
SHIFT = 3  # the fact before seq 1 of e1


def event(seq: int, **changes: Any) -> dict[str, Any]:
    """The event of a number of epoch e1, as it is sent."""
    pin = {"id": f"pin_{SHIFT + seq}", "product": {"id": "pr_1"}}
    return {"type": "pinned", "seq": seq, "at": 1_000 * (SHIFT + seq), "pin": pin, **changes}


def tell(told: Deliveries, viewer: int, *numbers: int) -> None:
    """Deliver main events, to who has an even number as JSON and to others as MessagePack."""
    for seq in numbers:
        told.main(viewer, seq)
        encode = msgspec.msgpack.encode if viewer % 2 else msgspec.json.encode
        told.content(viewer, seq, encode(event(seq)))


def two_viewers() -> Deliveries:
    """Two who were told 1 to 3, of whom one was away in between; both are at rest at 5."""
    told = Deliveries(["ann", "bob"])
    for viewer in range(2):
        told.welcome(viewer, "e1", 0, 0)
        tell(told, viewer, 1, 2, 3)
        told.chat(viewer, 1, 40)
    told.welcome(1, "e1", 4, 41, recovered=True)
    told.chat(0, 41)
    told.chat(1, 41)
    for viewer in range(2):
        tell(told, viewer, 4, 5)
    told.rested(range(2))
    return told


def broken(told: Deliveries, facts: list[Fact] | None = None) -> dict[str, Breach]:
    """The first breach of each claim that is broken."""
    found = judge_deliveries(told, FACTS if facts is None else facts, began_ms=1)
    return {one.claim: one.breaches[0] for one in found if one.passed is False}


def test_an_intact_record_breaks_nothing() -> None:
    """All five claims are judged and hold, in both subprotocols, and so of what was written."""
    told = two_viewers()
    for one in (told, Deliveries.of(told.written())):
        found = judge_deliveries(one, FACTS)
        assert [(f.claim, f.passed) for f in found] == [
            (claim, True) for claim in (ORDER, RECOVERY, CONTENT, PLACE, KEPT)
        ]
    assert found[2].detail == "5 numbers of 2 viewers compared"
    assert len(told.ranges[0]) == 1


def gap(told: Deliveries) -> None:
    tell(told, 1, 7)


def repeat(told: Deliveries) -> None:
    tell(told, 1, 5)


def chat_gap(told: Deliveries) -> None:
    told.chat(1, 43)


def shed_backwards(told: Deliveries) -> None:
    told.skipped(1, 40)


def other_epoch(told: Deliveries) -> None:
    told.welcome(1, "e2", 5, 41, recovered=True)


def behind(told: Deliveries) -> None:
    told.welcome(1, "e1", 4, 41, recovered=True)


def in_part(told: Deliveries) -> None:
    told.welcome(1, "e1", 5, 44, recovered=True)
    told.chat(1, 42)
    told.rested([1])


def led_back(told: Deliveries) -> None:
    told.resync(1, "e2", 0, 0)
    told.welcome(1, "e1", 5, 41, recovered=False)


def shown_less(told: Deliveries) -> None:
    told.welcome(1, "e1", 3, 41, recovered=False)


def moved_within(told: Deliveries) -> None:
    told.resync(1, "e1", 6, 41)


def not_said(told: Deliveries) -> None:
    told.welcome(1, "e1", 5, 41)


def other_content(told: Deliveries) -> None:
    told.content(1, 5, msgspec.json.encode(event(5, pin="pin_9")))


def other_chat(told: Deliveries) -> None:
    for viewer, text in enumerate(("hello", "bye")):
        message = {"type": "chat", "cseq": 41, "at": 1, "message": {"text": text}}
        told.content(viewer, 41, msgspec.json.encode(message), "chat")


def elsewhere(told: Deliveries) -> None:
    told.chat(1, 42)


@pytest.mark.parametrize(
    ("damage", "claim", "number", "what"),
    [
        (gap, ORDER, "e1 seq 7", "a gap: 7 after 5"),
        (repeat, ORDER, "e1 seq 5", "a repeat: 5 after 5"),
        (chat_gap, ORDER, "e1 cseq 43", "a gap: 43 after 41"),
        (shed_backwards, ORDER, "e1 cseq 40", "up to 40 was shed, after 41"),
        (other_epoch, RECOVERY, "e2 seq 5", "recovered from epoch e1"),
        (behind, RECOVERY, "e1 seq 5", "by a welcome at 4"),
        (in_part, RECOVERY, "e1 seq 5", "in part: seq 5 of 5, cseq 42 of 44"),
        (led_back, RECOVERY, "e1 seq 5", "an epoch that was over"),
        (shown_less, RECOVERY, "e1 seq 3", "a place behind seq 5"),
        (moved_within, RECOVERY, "e1 seq 6", "a resync within its epoch"),
        (not_said, RECOVERY, "e1 seq 5", "not told whether it is recovered"),
        (other_content, CONTENT, "e1 seq 5", "pinned pin_9"),
        (other_chat, CONTENT, "e1 cseq 41", "to ann"),
        (elsewhere, PLACE, "e1 seq 5", "cseq 42"),
    ],
)  # fmt: skip
def test_each_damage_is_found(
    damage: Callable[[Deliveries], None], claim: str, number: str, what: str
) -> None:
    """I7: gaps, repeats, half a recovery, two contents: with the viewer, number and moment."""
    told = two_viewers()
    damage(told)
    found = broken(told)
    assert claim in found
    assert found.keys() <= {claim, PLACE, KEPT}, found
    breach = found[claim]
    assert (breach.viewer, breach.number) in {("bob", number), ("ann", number)}
    assert what in breach.text
    assert breach.at_ms
    assert breach.since_ms == breach.at_ms - 1


def test_an_event_before_any_welcome_is_found() -> None:
    """I7: nobody is told anything before he is told where he stands."""
    told = Deliveries(["ann"])
    told.main(0, 1)
    assert "before any welcome" in broken(told)[ORDER].what
    told = Deliveries(["ann"])
    told.welcome(0, "e1", 3, 3, recovered=True)
    assert "without having been here" in broken(told)[RECOVERY].what


def test_what_is_kept_is_what_was_told() -> None:
    """I7: a fact that differs, is missing, was told twice, or was told to nobody, by its number."""
    told = two_viewers()
    other = [f._replace(subject="pin_x") if f.n == 6 else f for f in FACTS]
    assert broken(told, other).keys() == {KEPT}
    assert broken(told, other)[KEPT].number == "e1 seq 3"
    assert "told pinned pin_6" in broken(told, other)[KEPT].what
    assert "kept is no fact" in broken(told, FACTS[:-1])[KEPT].what
    holey = FACTS[:1] + FACTS[2:]
    assert "fact 3 comes after fact 1" in broken(told, holey)[KEPT].what
    more = [*FACTS, Fact(9, "unpinned", "pin_1", "", 9_000)]
    assert "at rest at fact 8; kept is 9, unpinned pin_1" in broken(told, more)[KEPT].what
    told.resync(1, "e2", 0, 0)
    for viewer, number in ((1, 1), (1, 2)):
        told.main(viewer, number)
        told.content(viewer, number, msgspec.json.encode(event(4 + number - 1) | {"seq": number}))
    assert "told fact 7 again, after fact 8" in broken(told)[KEPT].what


def test_records_of_several_crowds_are_one() -> None:
    """Viewers of two processes are compared with each other, from bytes too."""
    parts = [two_viewers(), two_viewers()]
    parts[1].viewers = ["cid", "dan"]
    assert broken(Deliveries.joined(parts)) == {}
    parts[1].content(0, 5, msgspec.json.encode(event(5, pin="pin_9")))
    whole = Deliveries.joined([Deliveries.of(part.written()) for part in parts])
    assert broken(parts[0]) == {}
    found = broken(whole)[CONTENT]
    assert (found.viewer, found.number) == ("cid", "e1 seq 5")
    assert "to ann" in found.what
    tell(whole, 3, 6)
    assert {PLACE, CONTENT} <= broken(whole).keys()


def test_a_crowd_that_counts_itself_says_where_it_is() -> None:
    """Numbers that follow each other need not be said one by one."""
    told = Deliveries(["ann"])
    told.welcome(0, "e1", 10, 2)
    told.place(0, 15, 9)
    told.main(0, 17)
    assert broken(told, [])[ORDER].text.startswith("ann e1 seq 17 at ")
    assert [(one.seq_0, one.seq, one.cseq) for one in told.all_ranges()[0]] == [
        (10, 15, 9),
        (16, 17, 9),
    ]


def test_what_is_not_there_is_not_judged() -> None:
    """Without a word of rest, or without facts, those claims say so."""
    told = Deliveries(["ann"])
    told.welcome(0, "e1", 0, 0)
    unjudged = {f.claim: f.detail for f in judge_deliveries(told) if f.passed is None}
    assert unjudged.keys() == {PLACE, KEPT}
    assert all(detail.startswith("not judged: ") for detail in unjudged.values())


def test_contents_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound numbers are counted, and the finding says how many were not compared."""
    monkeypatch.setattr(deliveries, "CONTENTS_KEPT_MAX", 3)
    found: list[Finding] = judge_deliveries(two_viewers())
    assert found[2].detail == "3 numbers of 2 viewers compared, 4 not"


@pytest.mark.parametrize(
    "damage", [{"ranges": []}, {"contents": [["e1", "main", 1, b"", 5, 0, "", "", "", 0]]}]
)
def test_a_record_that_does_not_fit_is_refused(damage: dict[str, Any]) -> None:
    """What was written is checked before it is believed."""
    document = msgspec.to_builtins(two_viewers().written(), builtin_types=(bytes,))
    written = msgspec.convert(document | damage, deliveries.WrittenDeliveries)
    with pytest.raises(ValueError, match=r"who are not named|told to nobody"):
        Deliveries.of(written)
