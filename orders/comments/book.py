"""The book of comments: every question and order that the clerk puts to Postgres.

Owns the calls of the SQL functions and the mapping of rows; knows no grammar's rules and no policy.
Called by the clerk. Raises `LedgerAway` as the ledger does, whose pool it shares.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import asyncpg
import msgspec

from orders.comments.comment import Answer, Comment, Said, State, key_of
from orders.comments.grammar import Ask, Asks, Reading, Vocabulary, Word
from orders.ledger.ledger import Ledger
from orders.ledger.queries import load

SQL = load("orders.ledger", "sql/comments.sql")

Worded = tuple[str, Comment | None]

_asks = msgspec.json.Decoder(list[Ask])
_answers = msgspec.json.Decoder(list[Answer])


class Book:
    """Keeps comments."""

    def __init__(self, ledger: Ledger) -> None:
        self._rows = ledger.rows

    async def vocabularies(self, streams: Sequence[str]) -> Mapping[str, Vocabulary]:
        """Return what words mean in these streams now."""
        words: dict[str, list[Word]] = {stream: [] for stream in streams}
        pinned: dict[str, list[str]] = {stream: [] for stream in streams}
        for stream, offer, keyword, mode in await self._rows(SQL["vocabulary"], list(streams)):
            if keyword is None:
                pinned[stream].append(offer)
            else:
                words[stream].append(Word(keyword, offer, mode))
        return {stream: Vocabulary(words[stream], pinned[stream]) for stream in streams}

    async def record(
        self, stream: str, platform: str, said: Sequence[tuple[str, Said, Reading]], lease_s: int
    ) -> dict[str, Comment]:
        """Keep comments that ask, or are known, each with the id given; return them by key."""
        lines = sorted(((key_of(platform, line[1].comment), *line) for line in said), key=_key)
        rows = await self._rows(
            "select * from record_comments($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
            stream, platform,
            [id_ for _, id_, _, _ in lines],
            [key for key, _, _, _ in lines],
            [one.comment for _, _, one, _ in lines],
            [one.viewer for _, _, one, _ in lines],
            [one.name for _, _, one, _ in lines],
            [one.text for _, _, one, _ in lines],
            [one.at for _, _, one, _ in lines],
            [_state(reading) for _, _, _, reading in lines],
            [_why(reading) for _, _, _, reading in lines],
            [_json(reading.asks if isinstance(reading, Asks) else []) for *_, reading in lines],
            lease_s,
        )  # fmt: skip
        return {row["key"]: _comment(row) for row in rows}

    async def take_up(self, limit: int, lease_s: int) -> list[Comment]:
        """Return comments that nobody finished in time; they are ours for so long."""
        rows = await self._rows("select * from take_up_comments($1, $2)", limit, lease_s)
        return [_comment(row) for row in rows]

    async def finish(self, done: Sequence[tuple[str, Sequence[Answer]]]) -> None:
        """Note what became of comments, by id."""
        ids, answers = [id_ for id_, _ in done], [_json(list(told)) for _, told in done]
        await self._rows("select finish_comments($1, $2)", ids, answers)

    async def order(self, comment: str, asks: Sequence[Ask], lease_s: int) -> Worded:
        """Say what an unread comment asks for; return the SQL function's word, and the row then."""
        sql = "select o.word, (o.now).* from order_comment($1, $2::jsonb, $3) o"
        return _worded(await self._rows(sql, comment, _json(list(asks)), lease_s))

    async def dismiss(self, comment: str) -> Worded:
        """Take a comment out of the queue; return the SQL function's word, and the row then."""
        sql = "select d.word, (d.now).* from dismiss_comment($1) d"
        return _worded(await self._rows(sql, comment))

    async def comment(self, comment: str) -> Comment | None:
        """Return one comment."""
        rows = await self._rows(SQL["comment_by_id"], comment)
        return _comment(rows[0]) if rows else None

    async def page(
        self, stream: str, state: State, before: str | None, limit: int
    ) -> list[Comment]:
        """Return a page of a stream's comments in a state, newest first."""
        rows = await self._rows(SQL["comments_page"], stream, state, before, limit)
        return [_comment(row) for row in rows]


def _key(line: tuple[str, str, Said, Reading]) -> str:
    return line[0]


def _state(reading: Reading) -> str:
    if reading is None:
        return "talk"
    return "new" if isinstance(reading, Asks) else "unread"


def _why(reading: Reading) -> str | None:
    return None if reading is None or isinstance(reading, Asks) else reading.why


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _worded(rows: Sequence[asyncpg.Record]) -> Worded:
    return rows[0]["word"], None if rows[0]["id"] is None else _comment(rows[0])


def _comment(row: asyncpg.Record) -> Comment:
    return Comment(
        id=row["id"],
        stream=row["stream"],
        key=row["key"],
        platform=row["platform"],
        comment=row["comment"],
        viewer=row["viewer"],
        text=row["text"],
        at=int(row["at"].timestamp() * 1000),
        state=row["state"],
        asks=_asks.decode(row["asks"]),
        answers=_answers.decode(row["answers"]),
        name=row["name"],
        said_at=row["said_at"],
        why=row["why"],
        manual=row["manual"],
        tries=row["tries"],
        edited=row["edited"],
        edits=row["edits"],
    )
