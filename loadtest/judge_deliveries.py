"""The judgement of what viewers were delivered (I7): pure functions from a record to findings.

Owns what "the same order for everybody, no gap, no repeat, recovery all or nothing" means for a
record, and for Postgres' own main events beside it. Reads nothing: audit does, and calls these. A
breach names the viewer, the epoch and number, and the moment.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from loadtest.deliveries import Content, Deliveries, Range
from loadtest.judge import Breach, Finding, finding

ORDER = "each viewer's events are contiguous: no gap, no repeat"
RECOVERY = "recovery brought all or promised nothing; no epoch came back"
CONTENT = "one number is one event, to everybody"
PLACE = "at rest all are at one place"
KEPT = "main events told are those that Postgres keeps, number by number"
#: How long after its COMMIT a fact may be untold, whatever died meanwhile.
TOLD_MS = 5_000
CLAIMS = (ORDER, RECOVERY, CONTENT, PLACE, KEPT)


class Fact(NamedTuple):
    """A main event as Postgres keeps it: the n-th of its stream."""

    n: int
    kind: str
    subject: str
    reason: str
    at_ms: int


def unjudged(why: str) -> list[Finding]:
    """Return the claims as they stand when there is no record."""
    return [Finding("I7", claim, None, f"not judged: {why}") for claim in CLAIMS]


def judge_deliveries(
    told: Deliveries, facts: Sequence[Fact] | None = None, began_ms: int = 0
) -> list[Finding]:
    """Hold what every viewer was delivered to I7, and to the facts where they are given."""
    ranges = told.all_ranges()
    contents = list(told.contents())
    numbers = f"{len(contents):,} numbers of {len(told.viewers):,} viewers compared"
    numbers += f", {told.unkept:,} not" if told.unkept else ""
    return [
        finding("I7", ORDER, _jumps(told.viewers, ranges), began_ms),
        finding("I7", RECOVERY, _recoveries(told.viewers, ranges), began_ms),
        finding("I7", CONTENT, _different(told.viewers, contents), began_ms, numbers),
        _place(told.viewers, ranges, began_ms),
        _kept(told, ranges, contents, facts, began_ms),
    ]


def _jumps(viewers: Sequence[str], ranges: Sequence[Sequence[Range]]) -> Iterator[Breach]:
    for viewer, held in zip(viewers, ranges, strict=True):
        before: Range | None = None
        for one in held:
            if before is None and one.how in ("main", "chat", "skipped"):
                what = "an event before any welcome"
                yield Breach(what, viewer=viewer, at_ms=one.at_ms)
            elif before is not None and one.how in ("main", "chat"):
                name = "seq" if one.how == "main" else "cseq"
                came = (one.seq_0 if one.how == "main" else one.cseq_0) + 1
                last = before.seq if one.how == "main" else before.cseq
                what = f"{'a gap' if came > last + 1 else 'a repeat'}: {came} after {last}"
                yield _at(what, viewer, one, name, came)
            elif before is not None and one.how == "skipped" and one.cseq_0 <= before.cseq:
                what = f"told that chat up to {one.cseq_0} was shed, after {before.cseq}"
                yield _at(what, viewer, one, "cseq", one.cseq_0)
            before = one


def _recoveries(viewers: Sequence[str], ranges: Sequence[Sequence[Range]]) -> Iterator[Breach]:
    for viewer, held in zip(viewers, ranges, strict=True):
        over: set[str] = set()
        for n, one in enumerate(held):
            before = held[n - 1] if n else None
            if before is not None and before.epoch != one.epoch:
                over.add(before.epoch)
            if one.epoch in over:
                yield _at("led back into an epoch that was over", viewer, one, "seq", one.seq_0)
            elif what := _recovered_wrongly(before, one):
                yield _at(what, viewer, one, "seq", one.seq_0)


def _recovered_wrongly(before: Range | None, one: Range) -> str:
    """Say what is wrong with how a range began, or ''."""
    if one.how == "recovered" and before is not None:
        if one.epoch != before.epoch:
            return f"recovered from epoch {before.epoch}"
        if one.due_seq < one.seq_0 or one.due_cseq < one.cseq_0:
            had = f"seq {one.seq_0}, cseq {one.cseq_0}"
            return f"recovered from {had} by a welcome at {one.due_seq}, {one.due_cseq}"
        if one.rested_ms and (one.seq < one.due_seq or one.cseq < one.due_cseq):
            return (
                f"recovered in part: seq {one.seq} of {one.due_seq},"
                f" cseq {one.cseq} of {one.due_cseq}"
            )
        return ""
    if before is None:
        return "recovered without having been here" if one.how == "anew" else ""
    if one.how == "new":
        return "came back, and was not told whether it is recovered"
    same = one.epoch == before.epoch
    if one.how == "anew" and same and (one.seq_0 < before.seq or one.cseq_0 < before.cseq):
        return f"shown a place behind seq {before.seq}, cseq {before.cseq}"
    if one.how == "resync" and same and (one.seq_0, one.cseq_0) != (before.seq, before.cseq):
        return f"a resync within its epoch from seq {before.seq}, cseq {before.cseq}"
    return ""


def _different(viewers: Sequence[str], contents: Sequence[Sequence[Content]]) -> Iterator[Breach]:
    for known in contents:
        first, *others = known
        for one in others:
            what = f"{_said(one)} to this viewer, {_said(first)} to {viewers[first.viewer]}"
            yield Breach(what, viewer=viewers[one.viewer], at_ms=one.at_ms, number=_number(one))


def _place(viewers: Sequence[str], ranges: Sequence[Sequence[Range]], began_ms: int) -> Finding:
    rested = {v: held[-1] for v, held in enumerate(ranges) if held and held[-1].rested_ms}
    if not rested:
        return Finding("I7", PLACE, None, "not judged: nobody was noted at rest")
    places = Counter((one.epoch, one.seq, one.cseq) for one in rested.values())
    (most, _), *_ = places.most_common(1)
    wrong = [
        Breach(
            f"at seq {one.seq}, cseq {one.cseq}; most are at {most[0]} {most[1]}, {most[2]}",
            viewer=viewers[v], at_ms=one.rested_ms, number=f"{one.epoch} seq {one.seq}",
        )
        for v, one in rested.items()
        if (one.epoch, one.seq, one.cseq) != most
    ]  # fmt: skip
    held = f"{len(rested):,} viewers at {most[0]} seq {most[1]}, cseq {most[2]}"
    return finding("I7", PLACE, wrong, began_ms, held)


# --- beside Postgres' own ---


def _kept(
    told: Deliveries,
    ranges: Sequence[Sequence[Range]],
    contents: Sequence[Sequence[Content]],
    facts: Sequence[Fact] | None,
    began_ms: int,
) -> Finding:
    if facts is None:
        return Finding("I7", KEPT, None, "not judged: the stream's facts were not read")
    by_epoch: dict[str, dict[int, Content]] = defaultdict(dict)
    for known in contents:
        if known[0].lane == "main":
            by_epoch[known[0].epoch][known[0].number] = known[0]
    wrong = [
        Breach(f"fact {n} comes after fact {before}", at_ms=None)
        for before, n in zip(range(len(facts)), (fact.n for fact in facts), strict=True)
        if n != before + 1
    ][:1]
    bases: dict[str, int] = {}
    for epoch, main in by_epoch.items():
        bases[epoch] = base = _base(main, facts)
        for number, one in sorted(main.items()):
            at = base + number - 1
            fact = facts[at] if 0 <= at < len(facts) else None
            if fact is None or not _is(one, fact):
                kept = f"fact {fact.n}, {fact.kind} {fact.subject}" if fact else "no fact"
                wrong.append(
                    Breach(
                        f"told {_said(one)}, kept is {kept}",
                        viewer=told.viewers[one.viewer], at_ms=one.at_ms, number=_number(one),
                    )
                )  # fmt: skip
    wrong += _twice(told.viewers, ranges, bases)
    wrong += _untold(told.viewers, ranges, bases, facts)
    total = sum(map(len, by_epoch.values()))
    held = f"{total:,} numbers of {len(by_epoch)} epochs, {len(facts):,} facts"
    return finding("I7", KEPT, wrong, began_ms, held)


def _base(main: Mapping[int, Content], facts: Sequence[Fact]) -> int:
    """Return the fact before an epoch's first number: the one that fits most of its numbers."""
    by_time: dict[tuple[str, int], list[int]] = defaultdict(list)
    for fact in facts:
        by_time[fact.kind, fact.at_ms].append(fact.n)
    votes = Counter(
        n - number for number, one in main.items() for n in by_time.get((one.kind, one.said_ms), ())
    )
    return votes.most_common(1)[0][0] if votes else 0


def _is(one: Content, fact: Fact) -> bool:
    same = (one.kind, one.said_ms, one.reason) == (fact.kind, fact.at_ms, fact.reason)
    # What is of the stream itself names nothing.
    return same and one.subject in ("", fact.subject)


def _twice(
    viewers: Sequence[str], ranges: Sequence[Sequence[Range]], bases: Mapping[str, int]
) -> Iterator[Breach]:
    """No viewer is told a fact twice, under another epoch either."""
    for viewer, held in zip(viewers, ranges, strict=True):
        upto = 0
        for one in held:
            base = bases.get(one.epoch)
            if base is None or one.seq == one.seq_0:
                continue
            if base + one.seq_0 < upto:
                yield _at(
                    f"told fact {base + one.seq_0 + 1} again, after fact {upto}",
                    viewer, one, "seq", one.seq_0 + 1,
                )  # fmt: skip
            upto = max(upto, base + one.seq)


def _untold(
    viewers: Sequence[str],
    ranges: Sequence[Sequence[Range]],
    bases: Mapping[str, int],
    facts: Sequence[Fact],
) -> Iterator[Breach]:
    """Who is at rest was told, or shown, every fact but the newest at that moment."""
    for viewer, held in zip(viewers, ranges, strict=True):
        if held and held[-1].rested_ms and held[-1].epoch in bases:
            last = held[-1]
            due = [fact for fact in facts if fact.at_ms + TOLD_MS < last.rested_ms]
            at = bases[last.epoch] + last.seq
            if due and at < due[-1].n:
                kept = f"{due[-1].n}, {due[-1].kind} {due[-1].subject}"
                what = f"at rest at fact {at}; kept is {kept}"
                number = f"{last.epoch} seq {last.seq}"
                yield Breach(what, viewer=viewer, at_ms=last.rested_ms, number=number)


def _at(what: str, viewer: str, one: Range, name: str, number: int) -> Breach:
    return Breach(what, viewer=viewer, at_ms=one.at_ms, number=f"{one.epoch} {name} {number}")


def _said(one: Content) -> str:
    about = f" {one.subject}" if one.subject else ""
    return f"{one.kind}{about} [{one.digest.hex()}]"


def _number(one: Content) -> str:
    return f"{one.epoch} {'seq' if one.lane == 'main' else 'cseq'} {one.number}"
