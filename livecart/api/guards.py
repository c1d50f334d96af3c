"""What every answer tells a browser that it must not do.

Owns the headers of security. A page's policy says what it may load: our own files, pictures and
video over TLS, and nothing inline. Whatever else is answered is no page, and may load nothing.
Called by `table` for every answer, and by `pages`.
"""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import urlsplit

from starlette.types import Message, Scope, Send

from livecart.api.problems import Headers
from livecart.services import Site
from livecart.settings import Settings

POLICY_NAME = b"content-security-policy"
#: What no page of ours needs; the checkout may ask the browser to pay.
_FORBIDDEN = (
    "accelerometer", "camera", "display-capture", "geolocation", "gyroscope", "magnetometer",
    "microphone", "midi", "usb",
)  # fmt: skip
_PERMISSIONS = ", ".join(f"{name}=()" for name in _FORBIDDEN)
GUARDS: Headers = [
    (POLICY_NAME, b"default-src 'none'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
]
#: What only a page obeys need not be said with each buy.
PAGE_GUARDS: Headers = [
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"permissions-policy", f"{_PERMISSIONS}, payment=()".encode()),
]
#: The checkout's: Stripe's form asks for the card in a frame of its own, and may open a window.
STRIPE_GUARDS: Headers = [
    (b"cross-origin-opener-policy", b"same-origin-allow-popups"),
    (b"permissions-policy", f'{_PERMISSIONS}, payment=(self "https://js.stripe.com")'.encode()),
]
HTML = b"text/html; charset=utf-8"  # of all our pages
_HOST = re.compile(r"([A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?\Z")
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


def policy(scope: Scope, stripe: bool = False) -> tuple[bytes, bytes]:
    """Return the policy of a page, for the host that it was asked for."""
    site: Site = scope["state"]["site"]
    host = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
    return POLICY_NAME, _policy(media_sources(site.settings), host, stripe)


def media_sources(settings: Settings) -> str:
    """Return where video may come from, as a policy has it."""
    sources = settings.http.media_sources
    if settings.ingest.playback_url is not None:
        parts = urlsplit(settings.ingest.playback_url)
        sources += f" {parts.scheme}://{parts.netloc}".replace("{name}", "*")
    return sources


@lru_cache(maxsize=64)
def _policy(media: str, host: str, stripe: bool) -> bytes:
    found = _HOST.match(host)
    # Not every browser takes the WebSocket of the same host for 'self'.
    sockets = f" ws://{host} wss://{host}" if found else ""
    if found and found[1] in _LOOPBACK:  # on one's own machine there is no TLS
        media += " http:"
    scripts = " https://js.stripe.com" if stripe else ""
    calls = " https://api.stripe.com" if stripe else ""
    frames = "https://js.stripe.com https://hooks.stripe.com" if stripe else "'none'"
    rules = (
        "default-src 'none'",
        f"script-src 'self'{scripts}",
        "style-src 'self'",
        "img-src 'self' https: data:",
        f"media-src 'self' blob: {media}",
        f"connect-src 'self'{sockets} {media}{calls}",
        "manifest-src 'self'",
        "worker-src 'self' blob:",
        f"frame-src {frames}",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
    return "; ".join(rules).encode()


def guarded(scope: Scope, send: Send) -> Send:
    """Return a `send` that adds to an answer what it does not say of these itself."""
    guards = GUARDS
    if _behind_tls(scope):
        site: Site = scope["state"]["site"]
        if hsts_s := site.settings.http.hsts_s:
            guards = [*GUARDS, (b"strict-transport-security", b"max-age=%d" % hsts_s)]

    async def add(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers: Headers = message["headers"]
            said = {name for name, _ in headers}
            more = [guard for guard in guards if guard[0] not in said]
            if (b"content-type", HTML) in headers:
                more += [guard for guard in PAGE_GUARDS if guard[0] not in said]
            message["headers"] = [*headers, *more]
        await send(message)

    return add


def _behind_tls(scope: Scope) -> bool:
    """Tell whether the browser came by TLS; who lies about it, lies about his own answer alone."""
    if scope["scheme"] == "https":
        return True
    for name, value in scope["headers"]:
        if name == b"x-forwarded-proto":
            return bool(value.strip().lower() == b"https")
    return False
