"""What a livecart viewer was sent, read whole: is it recovered, and does a number lack?

Frames by hand and `msgpack`, not the server's codec, so that two implementations meet. Called by
the crowd and by the stations for their sample.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgpack


def payloads(data: bytes) -> Iterator[bytes]:
    """Give the payloads of whole data frames; the beginning of another is left out."""
    at, end = 0, len(data)
    while end - at >= 2:
        first, length, body = data[at], data[at + 1], at + 2
        if length >= 126:
            body += 2 if length == 126 else 8
            length = int.from_bytes(data[at + 2 : body], "big")
        if (at := body + length) > end:
            return
        if first == 0x82:
            yield data[body:at]


def gap_in(data: bytes, seq: int, cseq: int, until_cseq: int) -> tuple[bool, str]:
    """Tell whether the welcome says `recovered`, and what is wrong with the numbers after it.

    `seq` and `cseq` are the last that were seen before; '' when each next one is there, the last
    of chat too.
    """
    recovered = False
    for payload in payloads(data):
        message: dict[str, Any] = msgpack.unpackb(payload)
        kind = message["type"]
        if kind == "welcome":
            recovered = message.get("recovered") is True
        elif kind == "resync":
            return recovered, "resync"
        elif "cseq" in message:
            if message["cseq"] != cseq + 1:
                return recovered, f"cseq {message['cseq']} after {cseq}"
            cseq += 1
        elif "seq" in message:
            if message["seq"] != seq + 1:
                return recovered, f"seq {message['seq']} after {seq}"
            seq += 1
    return recovered, "" if cseq == until_cseq else f"cseq ends at {cseq}, not at {until_cseq}"
