"""The cells of the authorisation matrix: each one call, on objects of its own, and what came of it.

Owns the order: stages, copies, prints of the rows, calls, prints again. The outcome to be is
`access`'s alone. Called by `test_access`.
"""

from __future__ import annotations

import asyncio
import base64
import csv
import io
import re
import time
from collections.abc import Mapping
from typing import Any

import asyncpg
import jwt
import msgspec

from loadtest.web import Address
from streams.codes import MESSAGE, Code
from tests.contract.access import RULES, Rule, route
from tests.contract.access_stage import (
    BANNED,
    INVOICED,
    OWNER,
    Prints,
    Stage,
    delivery_ids,
    invoice,
    prints,
    set_stages,
    tables_of,
)
from tests.contract.access_tables import CALLERS, COLUMNS, Column
from tests.contract.http_rig import SECRET, Shop, token

AT_ONCE = 6  # more would only wait for each other
CALLS_S = 100.0  # for all of them, on whatever machine
TRIES = 5  # of a call that is answered `retry`, as a client does: the machine may be slow
CODES = {"401": "unauthenticated", "403": "forbidden", "404": "not_found"}
ELSEWHERE = ["st_elsewhere"]
#: Everything can be called, and no caller is too fast: rates are another test's.
SETTINGS = {
    "LIVECART_PAYMENTS": "manual",
    "LIVECART_MANUAL_TEXT": "by transfer",
    "LIVECART_LIVEKIT_SECRET": "what LiveKit signs with in tests: 012345",
    "LIVECART_DATA_KEY": base64.urlsafe_b64encode(b"0123456789abcdef" * 2).decode(),
} | {
    f"LIVECART_{name}_{of}": "1000000"
    for name in ("CONNECTS", "SELL", "HOST", "CHAT", "REACT")
    for of in ("PER_S", "BURST")
}
_NAME = re.compile(r"{([a-z. ]+)(?::path)?}")

TOKENS: dict[str, str | None] = {
    "nobody": None,
    "viewer": token("viewer", OWNER),
    "viewer elsewhere": token("viewer", OWNER, streams=ELSEWHERE),
    "banned": token("viewer", BANNED),
    "host": token("host", "h1", shop="shop-1"),
    "host elsewhere": token("host", "h1", shop="shop-1", streams=ELSEWHERE),
    "other host": token("host", "h2", shop="shop-2"),
    "admin": token("admin", "root", shop="shop-9"),
    "service": token("service", "s1", shop="shop-1"),
    "service elsewhere": token("service", "s1", shop="shop-1", streams=ELSEWHERE),
}


def _bad_tokens() -> dict[str, str]:
    good = {"sub": OWNER, "role": "viewer", "shop": "shop-1", "exp": int(time.time()) + 600}
    host = good | {"role": "host"}
    return {
        "expired": jwt.encode(host | {"exp": 1}, SECRET, algorithm="HS256"),
        "of another key": jwt.encode(host, "y" * 40, algorithm="HS256"),
        "not yet valid": jwt.encode(good | {"nbf": good["exp"]}, SECRET, algorithm="HS256"),
        "a guest's": jwt.encode(good | {"role": "guest"}, SECRET, algorithm="HS256"),
    }


class Answer(msgspec.Struct, frozen=True):
    """What came back; of what has no length, the head alone."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def items(self) -> list[Any]:
        """What is in a list, be it one document, a line an item, or a row."""
        kind = self.headers["content-type"]
        if kind.startswith("text/csv"):
            rows = csv.DictReader(io.StringIO(self.body.decode()))
            return [{"id": row["Id"]} for row in rows]
        if kind == "application/jsonl":
            return [msgspec.json.decode(line) for line in self.body.splitlines()]
        items: list[Any] = msgspec.json.decode(self.body)["items"]
        return items

    @property
    def text(self) -> str:
        """The body to be shown."""
        return self.body[:300].decode(errors="replace")


class Cell(msgspec.Struct, kw_only=True):
    """One call of one caller about one object."""

    name: str  # the rule's
    rule: Rule
    caller: str
    column: str
    token: str | None
    bad: str = ""  # which bad token
    copy: int = 0  # of the stage
    names: dict[str, str] = {}  # ids by name, in that copy
    answer: Answer | None = None
    changed: set[str] = set()  # tables that have the copy's rows otherwise than before

    def __str__(self) -> str:
        what = f"{self.caller} ({self.bad})" if self.bad else self.caller
        return f"{self.name} · {what} · {self.column}"

    @property
    def of(self) -> Column:
        """What the call is about."""
        return COLUMNS[self.column]

    @property
    def word(self) -> str:
        """What must come of it."""
        word = self.rule.access.cells[self.caller, self.column]
        return self.rule.but.get(self.column, word) if word == "ok" else word

    @property
    def refused(self) -> bool:
        """Tell whether nothing may have been done."""
        return self.word[:3].isdigit()

    @property
    def reads(self) -> bool:
        """Tell whether the call is one that changes nothing for anybody."""
        return self.name.startswith("GET ")

    @property
    def shares(self) -> tuple[object, ...]:
        """Which copy it shares with others who must all change nothing; (): it has its own."""
        if self.reads:
            return self.viewer, self.of.shop
        if self.refused and not self.rule.notes:
            return self.name, self.viewer, self.of.shop
        return ()

    @property
    def viewer(self) -> str:
        """Whose the owner's objects are: the caller's, if he is a viewer."""
        return BANNED if self.caller == "banned" else OWNER

    def _named(self, name: str) -> str:
        """Return what stands for a name of the rule in this cell."""
        name = self.of.put.get(name, self.rule.at.get(name, name))
        if name == "missing":
            return "no_such_thing"
        own = f"{name} of another"
        return self.names[own if self.of.of_another and own in self.names else name]

    def filled(self, value: Any) -> Any:
        """Return a body with ids in place of names."""
        if isinstance(value, str):
            return _NAME.sub(lambda found: self._named(found[1]), value)
        if isinstance(value, Mapping):
            return {key: self.filled(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.filled(item) for item in value]
        return value

    def request(self) -> tuple[str, str, Any]:
        """Return method, target and body; `{id}` is what the segment before it is a list of."""
        method, path = route(self.name).split(" ")
        if self.of.put.get("id") == "missing":
            path = path.replace("{id}", "no_such_thing")
        path = re.sub(r"/(\w+)s/{id}", r"/\1s/{\1}", path)
        query = f"?{self.filled(self.rule.query)}" if self.rule.query else ""
        if self.of.put.get("id") == "missing" and "{id}" not in route(self.name):
            query = re.sub(r"=[^&]*", "=no_such_thing", query)
        return method, self.filled(path) + query, self.filled(self.rule.body)


def cells(rules: dict[str, Rule]) -> list[Cell]:
    """Return every cell; each bad token is tried on a rule's first object, one on the others."""
    found: list[Cell] = []
    copies: dict[object, int] = {}
    for name, rule in rules.items():
        for caller in CALLERS:
            for n, column in enumerate(rule.access.columns):
                bad = _bad_tokens() if caller == "bad token" else {"": TOKENS[caller]}
                for what, value in list(bad.items())[: None if n == 0 else 1]:
                    cell = Cell(
                        name=name, rule=rule, caller=caller, column=column, token=value, bad=what
                    )
                    cell.copy = copies.setdefault(cell.shares or len(found), len(copies))
                    found.append(cell)
    return found


async def play(shop: Shop, database_url: str, rules: dict[str, Rule] = RULES) -> list[Cell]:
    """Call every cell on rows of its own; return them answered, and what they changed noted."""
    connection: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(database_url)
    try:
        tables = await tables_of(connection)
        stages = await set_stages(shop, connection, tables)
        played = cells(rules)
        await _copied(connection, tables, stages, played)
        numbers = await delivery_ids(connection)
        await invoice(connection, {c.names[n] for c in played for n in INVOICED if n in c.names})
        for cell in played:
            cell.names |= _links(shop, cell)
            cell.names["delivery"] = numbers[cell.names["webhook"]]
        # A shop has some webhooks; the copies of two shops have hundreds.
        msgspec.structs.force_setattr(shop.services.settings.hooks, "endpoints_max", 1_000_000)
        before = await prints(connection, tables)
        sold = {c.names["offer"] for c in played if c.rule.gate and not c.refused}
        await asyncio.gather(*(shop.services.rebuilder.rebuild(offer) for offer in sold))
        await _called(shop.port, played)
        after = await prints(connection, tables)
    finally:
        await connection.close()
    for cell in played:
        cell.changed = {table for table in tables if _differ(before, after, table, cell.copy)}
    return played


def _differ(before: Prints, after: Prints, table: str, copy: int) -> bool:
    return before.get((table, copy)) != after.get((table, copy))


def _links(shop: Shop, cell: Cell) -> dict[str, str]:
    """Return checkout links for the owner's order of this copy; the bad one is a good token."""
    issue, orders = shop.services.links.issue, [cell.names["order"]]
    return {
        "link": issue(cell.viewer, orders, 600)[0],
        "old link": issue(cell.viewer, orders, -1)[0],
        "bad link": TOKENS["admin"] or "",
        "no link": "",
    }


async def _copied(
    connection: asyncpg.Connection[asyncpg.Record],
    tables: dict[str, list[str]],
    stages: dict[int, Stage],
    played: list[Cell],
) -> None:
    """Give each cell a copy of the stage that it is about."""
    async with connection.transaction():
        # No triggers nor references: rows of a copy come in any order, and were right before.
        await connection.execute("set local session_replication_role = replica")
        for number, stage in stages.items():
            theirs = [cell for cell in played if cell.of.shop == number]
            await stage.copy(connection, tables, list({c.copy: c.viewer for c in theirs}.items()))
            other = {f"other.{name}": id_ for name, id_ in stages[3 - number].names.items()}
            for cell in theirs:
                cell.names = stage.named(cell.copy, cell.viewer) | other


async def _called(port: int, played: list[Cell]) -> None:
    """Call all, so many at once; a general client would cost more than the server under test."""
    address, left = Address("127.0.0.1", port, False), iter(played)

    async def caller() -> None:
        line: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        for cell in left:
            method, target, body = cell.request()
            payload = b"" if body is None else msgspec.json.encode(body)
            key = f"k1.{cell.copy}"  # what several callers make in one shop is made by each
            head, _, rest = address.request(
                method, target, cell.token or "", payload, key
            ).partition(b"\r\n")
            more = [f"{k}: {v}\r\n" for k, v in cell.filled(cell.rule.headers).items() if v]
            request = head + b"\r\n" + "".join(more).encode() + rest
            for _ in range(TRIES):
                line = line or await asyncio.open_connection(address.host, address.port)
                line[1].write(request)
                cell.answer = await _answer(line[0])
                if cell.answer.headers.get("content-type", "").startswith("text/event-stream"):
                    line[1].transport.abort()  # it has no end
                    line = None
                if cell.answer.status != 503:
                    break
        if line is not None:
            line[1].transport.abort()

    async with asyncio.timeout(CALLS_S), asyncio.TaskGroup() as callers:
        for _ in range(AT_ONCE):
            callers.create_task(caller())


async def _answer(reader: asyncio.StreamReader) -> Answer:
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
    headers = dict(line.lower().split(": ", 1) for line in lines)
    if headers.get("transfer-encoding") == "chunked" and "event" not in headers["content-type"]:
        body = b""
        while size := int(await reader.readline(), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readline()
    else:
        body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Answer(int(first.split(" ")[1]), headers, body)


# --- judging ------------------------------------------------------------------------------------


def faults(played: list[Cell]) -> list[str]:
    """Return what is not as the tables have it, a line a cell."""
    found = [f"{cell}: {wrong}" for cell in played if (wrong := _fault(cell))]
    absent = {
        (cell.name, cell.caller, cell.column): cell.answer.body
        for cell in played
        if cell.answer is not None and cell.answer.status == 404
    }
    for (name, caller, column), body in absent.items():
        like = COLUMNS[column].like
        if body != absent.get((name, caller, like), body):
            found.append(f"{name} · {caller} · {column}: 404, but not as of {like}: {body[:300]!r}")
    return found


def _fault(cell: Cell) -> str:
    """Return what is wrong with an answer, nothing when it is right."""
    answer, word = cell.answer, cell.word
    assert answer is not None
    if cell.refused:
        status, _, code = word.partition(" ")
        wrong = _refusal_fault(answer, int(status), code or CODES[status])
        may = cell.rule.access.cells[cell.caller, cell.rule.access.columns[0]] == "ok"
        changed = cell.changed - cell.rule.notes if may else cell.changed
        if changed and not cell.reads:
            wrong += f"; one of its refused calls changed {', '.join(sorted(changed))}"
        return wrong
    if answer.status != cell.rule.ok:
        return f"{word}: expected {cell.rule.ok}, got {answer.status} {answer.text}"
    if word == "ok":
        return ""
    seen = {item.get("id", item.get("viewer")) for item in answer.items}
    expected = {cell.names[name] for name in cell.rule.sees[word]}
    return "" if seen == expected else f"{word}: expected {expected}, saw {seen}"


def _refusal_fault(answer: Answer, status: int, code: str) -> str:
    if answer.headers.get("content-type") != "application/problem+json":
        return f"expected {status} {code}, got {answer.status} {answer.text}"
    document = msgspec.json.decode(answer.body)
    if (answer.status, document["status"], document["code"]) != (status, status, code):
        return f"expected {status} {code}, got {answer.text}"
    if status == 401 and not answer.headers["www-authenticate"].startswith("bearer"):
        return "401 without a challenge"
    if status == 404 and document["detail"] != MESSAGE[Code.NOT_FOUND]:
        return f"404 that says more than that: {answer.text}"
    return ""
