"""Checkout links: signed, expiring tokens that name orders and can do nothing but have them paid.

Owns what stands in one. The key is not that of access tokens, so that neither passes for the other.
A link carries the token behind `#`, which no browser sends and no log has. Called by routes.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Sequence
from typing import Any

import jwt
import msgspec

from livecart.auth import NOT_A_TOKEN
from livecart.settings import AuthSettings
from streams.codes import Code
from streams.ports import Refused

AUDIENCE = "livecart checkout"
PAGE = "/pay"  # of the viewer's pages
ORDERS_MAX = 20
TOKEN_BYTES_MAX = 2_048


def path_of(token: str) -> str:
    """Return what a buyer is sent: the page, and behind `#` the token that it takes."""
    return f"{PAGE}#token={token}"


class Link(msgspec.Struct, frozen=True):
    """What a token says."""

    viewer: str
    orders: list[str]
    exp_ms: int


class Links:
    """Makes and reads the tokens."""

    def __init__(self, settings: AuthSettings, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        secret = settings.link_secret or settings.secret
        self._key = (
            None
            if secret is None
            else hmac.digest(secret.encode(), AUDIENCE.encode(), hashlib.sha256)
        )

    @property
    def made(self) -> bool:
        """Tell whether links are made here at all."""
        return self._key is not None

    def issue(self, viewer: str, orders: Sequence[str], ttl_s: int) -> tuple[str, int]:
        """Return a token for orders of a viewer, and when it ends in ms; raise `Refused`."""
        exp_s = self._now_ms() // 1000 + ttl_s
        claims = {"sub": viewer, "orders": list(orders), "exp": exp_s, "aud": AUDIENCE}
        return jwt.encode(claims, self._checked(), algorithm="HS256"), exp_s * 1000

    def read(self, token: str) -> Link:
        """Return what a token says; raise `Refused(UNAUTHENTICATED)`."""
        key = self._checked()
        try:
            if len(token) > TOKEN_BYTES_MAX:
                raise jwt.InvalidTokenError("too long")
            claims: dict[str, Any] = jwt.decode(
                token, key, algorithms=["HS256"], audience=AUDIENCE,
                options={"require": ["exp", "sub", "orders"], "verify_exp": False},
            )  # fmt: skip
            link = Link(
                str(claims["sub"]), [str(o) for o in claims["orders"]], claims["exp"] * 1000
            )
        except (*NOT_A_TOKEN, TypeError) as error:
            raise Refused(Code.UNAUTHENTICATED, "The link is not valid.") from error
        if link.exp_ms <= self._now_ms():  # by the clock of the service (R8)
            raise Refused(Code.UNAUTHENTICATED, "The link has expired.")
        return link

    def _checked(self) -> bytes:
        if self._key is None:
            what = "Links are not made here: LIVECART_LINK_SECRET is not set."
            raise Refused(Code.FORBIDDEN, what)
        return self._key
