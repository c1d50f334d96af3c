"""What of docs/ is made from the code: the settings page, and tables of the protocol.

Owns these texts. `python -m tests.docs.made` writes them anew; test_protocol.py and test_site.py
hold the files to them.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from livecart.api.operations import Operation
from livecart.api.table import OPERATIONS
from livecart.settings import VARIABLES, Variable
from streams import protocol
from tests.docs.pages import DOCS

SETTINGS = DOCS / "settings.md"
PROTOCOL = DOCS / "protocol.md"
OBJECTS = ("Stream", "Product", "Offer", "Pin", "Order", "Message", "You")

_MADE = "<!-- made from {}: python -m tests.docs.made -->"
_END = "<!-- until here -->"

_TITLES = {
    "aftersale": "After the sale",
    "checkouts": "Paying",
    "comments": "Orders by comment",
    "contacts": "Where orders go to",
    "deliveries": "Deliveries of webhooks",
    "entrance": "Tokens for pages",
    "events": "Events without WebSocket",
    "hooks": "Notices of payment providers",
    "ingest": "Notices of media servers",
    "sales": "Sums",
    "speech": "Chat and reactions",
}
_SETTINGS = """# Settings

<!-- made from livecart/settings.py: python -m tests.docs.made -->

Each setting is a variable of the environment. `livecart settings` prints this list with the values
that hold; a value that is not allowed is named in one line and ends the process before anything
starts. Options of the command line win over variables, and a variable that is empty counts as not
set. [Operations](operations.md) says which ones matter.

| variable | meaning | allowed | without it |
|---|---|---|---|
"""


def settings() -> str:
    """Return the settings page."""
    return _SETTINGS + "".join(_row(variable) for variable in VARIABLES)


def _row(variable: Variable) -> str:
    default = "" if variable.default is None else f"`{variable.shown(variable.default)}`"
    return f"| `{variable.name}` | {variable.meaning} | {variable.allowed} | {default} |\n"


def calls() -> str:
    """Return the tables of HTTP calls."""
    nouns: dict[str, list[Operation]] = {}
    for operation in OPERATIONS:
        nouns.setdefault(operation.handle.__module__.rpartition(".")[2], []).append(operation)
    return "\n".join(_noun(name, found) for name, found in nouns.items())


def _noun(name: str, found: list[Operation]) -> str:
    head = f"#### {_TITLES.get(name, name.capitalize())}\n\n"
    head += "| call | who | takes | answers | |\n|---|---|---|---|---|\n"
    return head + "".join(_call(operation) for operation in found)


def _call(operation: Operation) -> str:
    takes: list[str] = []
    if operation.keyed:
        takes.append("key")
    if operation.may_key:
        takes.append("key, if wanted")
    if operation.linked:
        takes.append("link")
    if operation.query is not None:
        takes.append(f"`?{', '.join(operation.query.__struct_fields__)}`")
    if operation.body is not None:
        takes.append(f"`{{{fields(operation.body)}}}`")
    call = f"`{operation.method} {operation.path}`"
    cells = (call, operation.who, ", ".join(takes), _answer(operation), operation.summary)
    return f"| {' | '.join(cells)} |\n"


def _answer(operation: Operation) -> str:
    if operation.streams:
        return "events"
    if operation.media is not None:
        return operation.media.partition(";")[0]
    if operation.result is None:
        return "204"
    name = operation.result.__name__
    status = f"{operation.status} " if operation.status != 200 else ""
    return f"{status}list of {name}" if operation.listed else f"{status}{name}"


def fields(shape: type[msgspec.Struct]) -> str:
    """Return the fields of a shape, `?` after those that may be left out."""
    found = msgspec.structs.fields(shape)
    return ", ".join(each.encode_name + ("" if each.required else "?") for each in found)


def objects() -> str:
    """Return the table of the objects that clients meet."""
    head = "| object | fields |\n|---|---|\n"
    return head + "".join(
        f"| **{each}** | `{fields(getattr(protocol, each))}` |\n" for each in OBJECTS
    )


def renewed(page: str) -> str:
    """Return the protocol's page with its tables as the code makes them now."""
    for source, made in (("streams/protocol.py", objects()), ("livecart/api/table.py", calls())):
        begin = _MADE.format(source)
        if begin not in page:
            raise ValueError(f"no place for what is made: {begin}")
        before, _, rest = page.partition(begin)
        page = f"{before}{begin}\n\n{made}\n{_END}{rest.partition(_END)[2]}"
    return page


def write(page: Path, text: str) -> None:
    """Write a page, if that changes it."""
    if not page.exists() or page.read_text("utf-8") != text:
        page.write_text(text, "utf-8")


if __name__ == "__main__":
    write(SETTINGS, settings())
    write(PROTOCOL, renewed(PROTOCOL.read_text("utf-8")))
