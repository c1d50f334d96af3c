"""Seals what the database must keep and not be able to read: secrets, addresses of people.

Owns the form of the keys and nothing of what is sealed (Fernet: AES-128-CBC and HMAC-SHA256, from
the `cryptography` library). Knows no table. Called by `livecart`, which has the keys from a
setting.
"""

from __future__ import annotations

from cryptography.fernet import Fernet, InvalidToken, MultiFernet


class CannotOpen(Exception):
    """It was not sealed with any of our keys, or is damaged."""


class Sealer:
    """Seals with the first of its keys, opens with any: so that keys can be changed."""

    def __init__(self, keys: str) -> None:
        """Take keys with commas between, each 32 bytes in URL-safe base64; raise ValueError."""
        parts = [key.strip() for key in keys.split(",")]
        try:
            self._fernet = MultiFernet([Fernet(key) for key in parts])
        except ValueError:  # its words may quote the key
            raise ValueError("each key must be 32 bytes in URL-safe base64") from None

    def __repr__(self) -> str:
        return "Sealer(…)"

    def seal(self, plain: bytes) -> bytes:
        """Return it sealed, each time in another form."""
        return self._fernet.encrypt(plain)

    def open(self, sealed: bytes) -> bytes:
        """Return what was sealed; raise `CannotOpen`."""
        try:
            return self._fernet.decrypt(sealed)
        except InvalidToken:
            raise CannotOpen("it was sealed with another key") from None

    def renew(self, sealed: bytes) -> bytes:
        """Return the same sealed with the first key; raise `CannotOpen`."""
        try:
            return self._fernet.rotate(sealed)
        except InvalidToken:
            raise CannotOpen("it was sealed with another key") from None


def new_key() -> str:
    """Return a fresh key."""
    return Fernet.generate_key().decode()
