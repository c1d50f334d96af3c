"""The pages and their files, from memory, each with the policy of a page.

Files come from the package `livecart.web` and nowhere else: a name that is not in it does not
exist, whatever it is made of. What compresses is kept compressed, too.
"""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import Iterator
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from typing import NamedTuple

import msgspec
from starlette.types import Scope

from livecart.api import words
from livecart.api.calls import header
from livecart.api.guards import HTML, POLICY_NAME, STRIPE_GUARDS, policy
from livecart.api.problems import Answer, problem
from livecart.modules import bare, joined
from livecart.services import Site
from orders.ledger.ledger import LedgerAway
from streams.codes import Code
from streams.ports import Refused

TYPES = {
    ".html": HTML,
    ".js": b"text/javascript; charset=utf-8",
    ".mjs": b"text/javascript; charset=utf-8",
    ".json": b"application/json",
    ".webmanifest": b"application/manifest+json",
    ".css": b"text/css; charset=utf-8",
    ".svg": b"image/svg+xml",
    ".png": b"image/png",
    ".ico": b"image/x-icon",
}


#: What is sent without the lines that only people read.
CODE = (TYPES[".js"], TYPES[".css"])
_EMPTY = re.compile(r"^\s*\n", re.MULTILINE)
#: Scripts that are sent together with what they import; a phone on a train counts its round trips.
JOINED = ("viewer.js",)
#: What they import all the same: the client, which others have too, and what has many faces.
APART = frozenset({"./livecart.js", "/words.js"})


async def viewer(scope: Scope) -> Answer:
    """Show a stream's page; the page itself finds out whether the stream exists."""
    return _file("viewer.html", scope)


async def host(scope: Scope) -> Answer:
    """Show the host's page."""
    return _file("host.html", scope)


async def docs(scope: Scope) -> Answer:
    """Show the page of the API, which draws both specs as this server has them."""
    return _file("docs.html", scope)


async def pay(scope: Scope) -> Answer:
    """Show the checkout of a link; where cards are paid by Stripe, its form is let in."""
    site: Site = scope["state"]["site"]
    answer = _file("pay.html", scope)
    if "stripe" not in site.settings.payments.names or answer.status >= 400:
        return answer
    headers = [(name, value) for name, value in answer.headers if name != POLICY_NAME]
    guards = [policy(scope, stripe=True), *STRIPE_GUARDS]
    return Answer(answer.status, answer.body, [*guards, *headers])


async def static(scope: Scope) -> Answer:
    """Serve a file of the pages."""
    return _file(scope["path_params"]["file"], scope)


async def front(scope: Scope) -> Answer:
    """Lead a visitor without an address to what is on now, or to the host's page."""
    site: Site = scope["state"]["site"]
    stream: str | None = None
    if site.built is not None:
        try:
            stream = await site.built.catalog.newest_live()
        except LedgerAway:
            stream = None
    there = "/host" if stream is None else f"/s/{stream}"
    return Answer(303, b"", [(b"location", there.encode()), (b"cache-control", b"no-store")])


class Kept(NamedTuple):
    """A file as it is sent."""

    kind: bytes  # Content-Type
    content: bytes
    packed: bytes | None  # gzip, where that is shorter
    etag: bytes


async def spoken(scope: Scope) -> Answer:
    """Serve the words of the language that suits, as a module of JavaScript."""
    wanted = header(scope["headers"], b"accept-language") or b""
    cookies = header(scope["headers"], b"cookie") or b""
    kept = _files()[f"words/{words.choose(_languages(), wanted, cookies)}.json"]
    return _send(_module(kept), scope, (b"vary", b"accept-language, cookie"))


def _file(name: str, scope: Scope) -> Answer:
    kept = _files().get(name)
    return problem(Refused(Code.NOT_FOUND)) if kept is None else _send(kept, scope)


def _send(kept: Kept, scope: Scope, *more: tuple[bytes, bytes]) -> Answer:
    asked = scope["headers"]
    packs = kept.packed is not None and b"gzip" in (header(asked, b"accept-encoding") or b"")
    etag = kept.etag[:-1] + b'-gz"' if packs else kept.etag
    headers = [(b"etag", etag), (b"cache-control", b"no-cache"), *more]
    if kept.kind == HTML:  # what only a page obeys need not be said with each of its parts
        headers.append(policy(scope))
    if kept.packed is not None:
        headers.append((b"vary", b"accept-encoding"))
    if (b"if-none-match", etag) in asked:
        return Answer(304, b"", headers)
    headers.append((b"content-type", kept.kind))
    if not packs or kept.packed is None:
        return Answer(200, kept.content, headers)
    return Answer(200, kept.packed, [*headers, (b"content-encoding", b"gzip")])


def prepare() -> None:
    """Make everything that is sent, so that no request waits for another's to be compressed."""
    for language in _languages():
        _module(_files()[f"words/{language.language}.json"])


@cache
def _files() -> dict[str, Kept]:
    """Every file of the package by its path in it."""
    read = {name: (kind, content) for name, kind, content in _read()}
    code = {name: bare(content.decode()) for name, (kind, content) in read.items() if kind in CODE}
    code |= {name: joined(code, name, APART) for name in JOINED}
    sent = {name: _EMPTY.sub("", text).encode() for name, text in code.items()}
    return {name: _keep(kind, sent.get(name, content)) for name, (kind, content) in read.items()}


@cache
def _languages() -> tuple[words.Language, ...]:
    prefix = "words/"
    found = [kept.content for name, kept in _files().items() if name.startswith(prefix)]
    return words.languages(found)


@cache
def _module(kept: Kept) -> Kept:
    """One language's words, and what there is to choose from."""
    listed = [{"language": one.language, "name": one.name} for one in _languages()]
    known = b"export const languages = " + msgspec.json.encode(listed)
    return _keep(TYPES[".js"], known + b";\nexport default " + kept.content)


def _keep(kind: bytes, content: bytes) -> Kept:
    tag = f'"{hashlib.sha256(kind + content).hexdigest()[:20]}"'.encode()
    packed = gzip.compress(content, mtime=0)
    return Kept(kind, content, packed if len(packed) < len(content) else None, tag)


def _read() -> Iterator[tuple[str, bytes, bytes]]:
    def walk(folder: Traversable, path: str) -> Iterator[tuple[str, bytes, bytes]]:
        for entry in folder.iterdir():
            kind = TYPES.get("." + entry.name.rpartition(".")[2])
            if entry.is_dir():
                yield from walk(entry, f"{path}{entry.name}/")
            elif kind is not None:
                yield path + entry.name, kind, entry.read_bytes()

    return walk(resources.files("livecart") / "web", "")
