"""The pages and their files, from memory, with a strict content policy.

Files come from the package `livecart.web` and nowhere else: a name that is not in it does not
exist, whatever it is made of.
"""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import resources

from starlette.types import Scope

from livecart.api.problems import Answer, Headers, problem
from livecart.services import Site
from orders.ledger.ledger import LedgerAway
from streams.codes import Code
from streams.ports import Refused

TYPES = {
    ".html": b"text/html; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".css": b"text/css; charset=utf-8",
    ".svg": b"image/svg+xml",
    ".png": b"image/png",
    ".ico": b"image/x-icon",
}
POLICY = (
    b"default-src 'self'; img-src https: data:; connect-src 'self' ws: wss:; style-src 'self';"
    b" frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
POLICY_NAME = b"content-security-policy"
#: The checkout's, where Stripe's form asks for the card in a frame of its own.
STRIPE_POLICY = (
    POLICY + b"; script-src 'self' https://js.stripe.com; frame-src https://js.stripe.com"
    b" https://hooks.stripe.com"
).replace(b"connect-src 'self'", b"connect-src 'self' https://api.stripe.com")
GUARDS: Headers = [
    (POLICY_NAME, POLICY),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
]


async def viewer(scope: Scope) -> Answer:
    """Show a stream's page; the page itself finds out whether the stream exists."""
    return _file("viewer.html", scope)


async def host(scope: Scope) -> Answer:
    """Show the host's page."""
    return _file("host.html", scope)


async def pay(scope: Scope) -> Answer:
    """Show the checkout of a link; where cards are paid by Stripe, its form is let in."""
    site: Site = scope["state"]["site"]
    answer = _file("pay.html", scope)
    if "stripe" not in site.settings.payments.names or answer.status >= 400:
        return answer
    headers = [(name, value) for name, value in answer.headers if value is not POLICY]
    return Answer(answer.status, answer.body, [(POLICY_NAME, STRIPE_POLICY), *headers])


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


def _file(name: str, scope: Scope) -> Answer:
    found = _files().get(name)
    if found is None:
        return problem(Refused(Code.NOT_FOUND))
    kind, content, etag = found
    headers = [*GUARDS, (b"etag", etag), (b"cache-control", b"no-cache")]
    if (b"if-none-match", etag) in scope["headers"]:
        return Answer(304, b"", headers)
    return Answer(200, content, [(b"content-type", kind), *headers])


@cache
def _files() -> dict[str, tuple[bytes, bytes, bytes]]:
    """Every file of the package by name: type, content, tag."""
    found = {}
    for entry in (resources.files("livecart") / "web").iterdir():
        kind = TYPES.get("." + entry.name.rpartition(".")[2])
        if kind is not None and entry.is_file():
            content = entry.read_bytes()
            tag = f'"{hashlib.sha256(content).hexdigest()[:20]}"'.encode()
            found[entry.name] = (kind, content, tag)
    return found
