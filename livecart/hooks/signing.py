"""Secrets and signatures as Standard Webhooks has them, through its own library.

A secret is `whsec_` and 32 random bytes in base64; it is kept sealed, and shown to its host once.
Called by the sender and by the routes.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime

from standardwebhooks import Webhook

PREFIX = "whsec_"
SECRET_BYTES = 32  # of the 24 to 64 that the specification allows


def new_secret() -> str:
    """Return a fresh secret."""
    return PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def signed(event: str, body: str, keys: Sequence[str], at_s: float) -> dict[str, str]:
    """Return the headers of a message, signed with each of the secrets.

    `at_s`: the time of this attempt, since receivers refuse what is older than some minutes.
    """
    at = datetime.fromtimestamp(int(at_s), UTC)
    return {
        "webhook-id": event,
        "webhook-timestamp": str(int(at_s)),
        "webhook-signature": " ".join(Webhook(key).sign(event, at, body) for key in keys),
    }
