"""docs/protocol.md names what the code speaks: nothing is missing, and nothing is made up."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import get_args

import msgspec

from streams import protocol
from streams.codes import HTTP_STATUS, Close
from tests.docs.made import PROTOCOL, calls, fields, renewed
from tests.docs.pages import prose, section, spans, table

COMMON = {"at", "seq", "cseq"}  # of every main and every chat event
EVENTS: dict[str, type[msgspec.Struct]] = {
    str(kind.__struct_config__.tag): kind for kind in get_args(protocol.AnyEvent)
}


def rows(heading: str) -> dict[str, list[str]]:
    """Return the rows of the last table under a heading, by what their first cell names."""
    found: dict[str, list[str]] = {}
    for first, *rest in table(section(PROTOCOL, heading)):
        assert first not in found, f"{heading}: {first} twice"
        found[first.strip("`*")] = rest
    return found


def names(cell: str) -> set[str]:
    """Return the fields that the first code span of a cell lists."""
    return set(re.split(r", ", spans(cell)[0]))


def shown(kind: type[msgspec.Struct], without: Iterable[str] = ()) -> set[str]:
    """Return the fields of a shape as the page lists them."""
    return {each for each in fields(kind).split(", ") if each.rstrip("?") not in set(without)}


def test_each_command_is_there_with_its_fields() -> None:
    """The table of commands is that of `streams.protocol`, field by field."""
    said = rows("### Commands")
    assert said.keys() == protocol.COMMANDS.keys()
    for tag, kind in protocol.COMMANDS.items():
        assert names(said[tag][0]) == shown(kind, {"id"}), tag


def test_each_event_is_there_with_its_fields() -> None:
    """The table of events is that of `streams.protocol`, field by field, each of its class."""
    said = rows("### Events")
    classes = {"main", "chat", "conflated", "private", "reply", "control"}
    assert said.keys() - EVENTS.keys() <= classes
    assert said.keys() >= EVENTS.keys()
    for tag, kind in EVENTS.items():
        numbered = issubclass(kind, protocol.Main | protocol.ChatEvent)
        of, cell = said[tag]
        assert names(cell) == shown(kind, COMMON if numbered else ()), tag
        assert set(of.split(", ")) <= classes
        assert (of == "main") is issubclass(kind, protocol.Main)
        assert (of == "chat") is issubclass(kind, protocol.ChatEvent)


def test_each_code_is_there_with_its_status() -> None:
    """The tables of reject codes and of close codes are those of `streams.codes`."""
    said = {code: int(rest[0]) for code, rest in rows("### Errors").items()}
    assert said == {code.value: status for code, status in HTTP_STATUS.items()}
    assert {int(code) for code in rows("### Close codes")} == {int(code) for code in Close}


def test_each_object_and_each_call_is_there() -> None:
    """These tables are what the code makes of them: `python -m tests.docs.made`."""
    page = PROTOCOL.read_text("utf-8")
    assert renewed(page) == page
    assert "`POST /v1/offers/{id}/orders`" in calls()


def test_what_the_text_names_there_is() -> None:
    """Dotted names, calls and close codes in the text are commands, events, routes and codes."""
    text = prose(PROTOCOL)
    known = {*protocol.COMMANDS, *EVENTS}
    routes = set(re.findall(r"`((?:GET|POST|PUT|PATCH|DELETE) /v1/[^`]*)`", calls()))
    routes |= {"GET /v1/streams/{id}/ws"}
    for span in spans(text):
        if re.match(r"(order|offer|stream|chat|waitlist|comment)\.\w+$", span):
            assert span in known or span.partition(".")[2] in OWN_FIELDS, span
        if re.match(r"(GET|POST|PUT|PATCH|DELETE) /", span):
            assert span in routes, span
    for code in re.findall(r"\b4[45]\d\d\b", text):
        assert int(code) in {int(each) for each in Close}, code


#: Of an object, when the text speaks of one field of it: `order.version`.
OWN_FIELDS = {"version"}
