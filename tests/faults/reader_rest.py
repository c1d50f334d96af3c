"""What the independent reader must find at rest: one place for all, and Postgres' own main events.

Owns the comparison of all that viewers were told and shown with the rows of `facts`, with what the
host's commands were answered, and with what HTTP says. Like `reader` it imports nothing of the
project; rows and answers are given to it. Called by `deliveries`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tests.faults.reader import Event, Message, Reader

PINS_MAX = 3  # shown at once

#: What an offer's fact and its event must agree on.
TERMS = ("id", "stream", "price_minor", "quantity", "per_viewer", "status", "epoch", "version")
NAMED_BY = {"pin": "pinned", "unpin": "unpinned", "offer.open": "offer.opened",
            "offer.close": "offer.closed", "offer.restock": "offer.restocked"}  # fmt: skip


class Fact(NamedTuple):
    """A main event as Postgres has it: the n-th of its stream."""

    n: int
    kind: str
    subject: str
    reason: str | None
    at: int  # ms
    body: Mapping[str, Any] | None


@dataclass(slots=True)
class Deeds:
    """A host's commands on one stream: what each was of, and whether it was acknowledged."""

    acknowledged: Counter[tuple[str, str]] = field(default_factory=Counter)  # by kind, subject
    unknown: Counter[str] = field(default_factory=Counter)  # by kind: may have an event, or none

    def done(self, command: str, subject: str) -> None:
        """Note an acknowledgement: an event of this subject must follow, exactly once."""
        self.acknowledged[NAMED_BY[command], subject] += 1

    def lost(self, command: str) -> None:
        """Note a command whose outcome will not be known."""
        self.unknown[NAMED_BY[command]] += 1


class State(NamedTuple):
    """What main events have made of a stream."""

    pins: tuple[str, ...]  # the newest first
    offers: frozenset[tuple[str, str, int]]  # id, status, quantity, of those that are shown


def states(facts: Sequence[Fact]) -> list[State]:
    """Return the state after each fact; the first one is before all of them."""
    pins: tuple[str, ...] = ()
    offers: dict[str, tuple[str, int]] = {}
    found = [State(pins, frozenset())]
    for fact in facts:
        if fact.kind == "pinned":
            pins = (fact.subject, *pins)
        elif fact.kind == "unpinned":
            pins = tuple(pin for pin in pins if pin != fact.subject)
        elif fact.kind == "offer.closed":
            offers.pop(fact.subject, None)
        elif fact.body is not None:
            offers[fact.subject] = fact.body["status"], fact.body["quantity"]
        found.append(State(pins, frozenset((of, *terms) for of, terms in offers.items())))
    return found


def is_of(event: Event, fact: Fact) -> bool:
    """Tell whether an event is that fact, in everything that both have."""
    if (event["type"], event["at"], event.get("reason")) != (fact.kind, fact.at, fact.reason):
        return False
    told = event.get("pin", event.get("offer"))
    if isinstance(told, dict):
        if told["id"] != fact.subject or fact.body is None:
            return False
        product = told["product"]["id"]
        terms = TERMS if fact.kind != "pinned" else ()
        return bool(product == fact.body["product"]) and all(
            told[term] == fact.body[term] for term in terms
        )
    return told in (fact.subject, None)  # what is of the stream itself names nothing


class Rest:
    """One stream at rest: faults over, the host quiet, everybody connected."""

    def __init__(self, reader: Reader, stream: str, facts: Sequence[Fact]) -> None:
        self.reader = reader
        self.stream = stream
        self.facts = facts
        self.epochs = reader.epochs[stream]
        self.viewers = [viewer for viewer, of in reader.streams.items() if of == stream]
        self.bases: dict[str, int] = {}  # by epoch: the fact before its seq 1
        if [fact.n for fact in facts] != list(range(1, len(facts) + 1)):
            self._found("Postgres' own main events are not numbered without gaps")

    def judge(
        self,
        deeds: Deeds,
        said: Collection[str],
        last_words: Mapping[str, str],
        offers: Iterable[Event],
    ) -> None:
        """Judge all of it.

        `said`: chat texts, each sent under a key of its own; `last_words`: those that were
        acknowledged once the faults were over, with the message's id; `offers`: what HTTP lists.
        """
        self._place()
        self._order()
        self._once()
        self._snapshots()
        self._deeds(deeds)
        self._chat(said, last_words)
        self._listed(offers)

    def _place(self) -> None:
        """Everybody is at the same place, in the newest epoch."""
        places = Counter(self.reader.places[viewer] for viewer in self.viewers)
        if len(places) != 1:
            shown = ", ".join(f"{n} at {place}" for place, n in places.most_common(5))
            self._found(f"viewers at rest are not at one place: {shown}")
        newest = list(self.epochs)[-1]
        for place in places:
            if place.epoch != newest:
                self._found(f"viewers at rest at {place}, and the newest epoch is {newest}")
            elif place.cseq < self.epochs[newest].cseq_named:
                named = self.epochs[newest].cseq_named
                self._found(f"viewers at rest at {place}, and chat up to {named} was named")

    def _order(self) -> None:
        """In each epoch main events are Postgres' own, in its order, from some fact on."""
        for epoch, told in self.epochs.items():
            if not told.main:
                continue
            fitting = [
                base for base in self._bases_of(min(told.main), told.main[min(told.main)])
                if self._fits(base, told.main)
            ]  # fmt: skip
            if len(fitting) == 1:
                self.bases[epoch] = fitting[0]
            else:
                self._found(
                    f"main events of {epoch}, {min(told.main)} to {max(told.main)}, are those of"
                    f" Postgres from {fitting or 'nowhere'} on"
                )
        last = list(self.epochs)[-1]
        for viewer in self.viewers:
            place = self.reader.places[viewer]
            if place.epoch != last or last not in self.bases:
                self._found(f"{viewer} is at {place}, of which Postgres says nothing")
            elif self.bases[last] + place.seq != len(self.facts):
                at = self.bases[last] + place.seq
                self._found(f"{viewer} is at fact {at} ({place}), the last is {len(self.facts)}")

    def _bases_of(self, seq: int, first: Message) -> list[int]:
        return [fact.n - seq for fact in self.facts if is_of(first.event, fact)]

    def _fits(self, base: int, main: Mapping[int, Message]) -> bool:
        return all(
            0 <= base + seq - 1 < len(self.facts) and is_of(heard.event, self.facts[base + seq - 1])
            for seq, heard in main.items()
        )

    def _once(self) -> None:
        """No viewer is told a main event twice, not under a new epoch either."""
        lives = [(viewer, life) for viewer in self.viewers for life in self.reader.lives[viewer]]
        for viewer, life in lives:
            upto = 0
            for span in life:
                base = self.bases.get(span.epoch)
                if base is None or span.last < span.first:
                    continue
                if base + span.first <= upto:
                    self._found(
                        f"{viewer} was told up to fact {upto}, and in {span.epoch} again from"
                        f" fact {base + span.first} (seq {span.first}) on"
                    )
                if upto:
                    self.reader.tally["by_snapshot"] += max(0, base + span.first - 1 - upto)
                upto = max(upto, base + span.last)

    def _snapshots(self) -> None:
        """Each snapshot is the state at its place, or at a later one: nothing before is lost."""
        last: dict[State, int] = {state: n for n, state in enumerate(states(self.facts))}
        for place, pins, offers in sorted(self.reader.shown[self.stream]):
            n = last.get(State(pins, offers))
            self.reader.tally["snapshots"] += 1
            if n is None:
                self._found(f"a snapshot at {place} is no state there ever was: {pins}, {offers}")
            elif n < self.bases.get(place.epoch, 0) + place.seq:
                at = self.bases.get(place.epoch, 0) + place.seq
                self._found(f"a snapshot at {place}, fact {at}, has the state at fact {n}")

    def _deeds(self, deeds: Deeds) -> None:
        """What the host's commands were acknowledged with is among the facts, exactly once."""
        have = Counter(
            (fact.kind, fact.subject)
            for fact in self.facts
            if fact.kind != "offer.restocked" or fact.reason == "host"
        )
        unasked: Counter[str] = Counter()
        made_room = self._made_room()
        for kind, subject in deeds.acknowledged.keys() | have.keys():
            done, there = deeds.acknowledged[kind, subject], have[kind, subject]
            if there < done:
                self._found(f"{done} acknowledged of {subject}, and {kind} is there {there} times")
            elif kind in NAMED_BY.values() and (kind, subject) not in made_room:
                unasked[kind] += there - done
        for kind, count in unasked.items():
            if count > deeds.unknown[kind]:
                unknown = deeds.unknown[kind]
                self._found(f"{count} {kind} that nobody was acknowledged, of {unknown} unknown")

    def _made_room(self) -> set[tuple[str, str]]:
        """Pins that went because one more came than may be shown: no command is about them."""
        before, pairs = states(self.facts), zip(self.facts, self.facts[1:], strict=False)
        return {
            (fact.kind, fact.subject)
            for fact, following in pairs
            if (fact.kind, following.kind) == ("unpinned", "pinned")
            and len(before[fact.n - 1].pins) == PINS_MAX
            and before[fact.n - 1].pins[-1] == fact.subject
        }

    def _chat(self, said: Collection[str], last_words: Mapping[str, str]) -> None:
        """What was sent under one key is one message of an epoch."""
        for epoch, told in self.epochs.items():
            held: dict[str, str] = {}
            for heard in told.chat.values():
                if heard.event["type"] != "chat":
                    continue
                id_, text = heard.event["message"]["id"], heard.event["message"]["text"]
                if text not in said:
                    self._found(f"chat nobody said: {text}")
                elif held.setdefault(text, id_) != id_:
                    self._found(f"one key made {held[text]} and {id_} in {epoch}: {text}")
        newest = list(self.epochs)[-1]
        for text, acknowledged in last_words.items():
            if acknowledged not in self.epochs[newest].said:
                self._found(f"nobody was told {acknowledged}, acknowledged at rest: {text}")

    def _listed(self, offers: Iterable[Event]) -> None:
        """HTTP lists the offers as the last fact left them."""
        shown = {(one["id"], one["status"], one["quantity"]) for one in offers
                 if one["status"] not in ("draft", "closed")}  # fmt: skip
        if shown != states(self.facts)[-1].offers:
            self._found(f"GET lists {shown}, the facts make {states(self.facts)[-1].offers}")

    def _found(self, what: str) -> None:
        self.reader.found(f"{self.stream} at rest: {what}")
