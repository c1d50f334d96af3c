"""What `livecart up` says once it serves: one screen for a person, one line of JSON for a program.

Owns those two forms. Knows nothing of how anything runs. Called by `up`.
"""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from livecart.demo_data import Demo


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens to try things out with."""

    host: str
    viewer: str


@dataclass(frozen=True, slots=True)
class Links:
    """Pages with a code in their address, each good once; `coded`: unless none could be had."""

    host: str
    viewer: str
    coded: bool = True


_AGAIN = "(Each link works once, within the hour; livecart token --help makes more: --page.)"
_UNCODED = "(No links with a code could be had; livecart token --page makes one.)"


def state(
    base: str,
    tokens: Tokens,
    demo: Demo | None,
    *,
    redis_url: str,
    gate_url: str,
    database_url: str,
    data_dir: Path,
    secret_file: Path | None,
) -> dict[str, Any]:
    """Return what `--json` prints and `up.json` keeps, but for the pids."""
    return {
        "http": f"http://{base}",
        "ws": f"ws://{base}",
        "host_token": tokens.host,
        "viewer_token": tokens.viewer,
        "demo_stream": demo.stream if demo else None,
        "demo_offer": demo.offer if demo else None,
        "redis_url": redis_url,
        "gate_url": gate_url,
        "database_url": database_url,
        "data_dir": str(data_dir),
        "secret_file": str(secret_file) if secret_file else None,
    }


def text(
    base: str, tokens: Tokens, links: Links, demo: Demo | None, data_dir: Path, ready_after_s: float
) -> str:
    """Return the screen for a person."""
    again = _AGAIN if links.coded else _UNCODED
    lines = [
        f"livecart serves on http://{base}, ready after {ready_after_s:.1f} s. Ctrl-C stops it.",
        f"Data and logs: {data_dir}   More tokens: {_beside('livecart')} token --help",
        "",
    ]
    if demo is None:
        lines += [
            f"Host page   {links.host}",
            again,
            "",
            f"A viewer's token: {tokens.viewer}",
        ]
        return "\n".join([*lines, ""])
    lines += [
        f"{demo.title} is live. Watch and buy as a viewer:",
        f"  {links.viewer}",
        "Run it as the host:",
        f"  {links.host}",
        again,
        "",
        "Buy one unit with curl (the same key again gets the same order, not another):",
        f"  VIEWER={tokens.viewer}",
        f"  curl -s http://{base}/v1/offers/{demo.offer}/orders -d '{{\"qty\": 1}}' \\",
        '    -H "Authorization: Bearer $VIEWER" -H "Idempotency-Key: buy-$RANDOM$RANDOM"',
        "Or over a WebSocket: start this, then paste the two lines (the first within 5 s):",
        f"  {_beside('python')} -m websockets ws://{base}/v1/streams/{demo.stream}/ws",
        f'    {{"type": "hello", "id": 1, "token": "{tokens.viewer}"}}',
        f'    {{"type": "buy", "id": 2, "offer": "{demo.offer}", "qty": 1, "key": "my-first-buy"}}',
        "",
    ]
    return "\n".join(lines)


def _beside(name: str) -> str:
    """Return how to call a program of this environment from here; PATH need not have it."""
    path = Path(sys.executable).parent / name
    here = Path.cwd()
    return shlex.quote(os.path.relpath(path, here) if path.is_relative_to(here) else str(path))
