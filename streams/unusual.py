"""Frames that do not take the fast way: fragments, pings and closes.

Owns the websockets' sans-I/O `ServerProtocol` of one connection while it is needed, and the message
that is being put together. It must never know a transport. Called by `wire`.
"""

from __future__ import annotations

import logging

from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from streams.deflate import extension
from streams.protocol import FRAME_BYTES_MAX

_log = logging.getLogger("livecart.wire")


class Unusual:
    """A `ServerProtocol` and the fragmented message, if any, that goes through it."""

    __slots__ = ("binary", "fragmented", "machine", "message")

    def __init__(self, deflated: bool) -> None:
        # The lengths of frames are judged from the headers before one gets here, but not what comes
        # out of a deflated one.
        bytes_max = FRAME_BYTES_MAX if deflated else None
        self.machine = ServerProtocol(state=OPEN, max_size=bytes_max, logger=_log)
        if deflated:
            self.machine.extensions = [extension()]
        self.fragmented = False
        self.binary = False
        self.message = bytearray()

    def take(self, frame: bytes) -> tuple[bytes, bool] | None:
        """Take one whole frame; return a message, and whether it is binary, when one is whole."""
        self.machine.receive_data(frame)
        whole = None
        for event in self.machine.events_received():
            assert isinstance(event, Frame)
            if event.opcode not in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
                continue
            if event.opcode is not Opcode.CONT:
                self.binary = event.opcode is Opcode.BINARY
            self.message += event.data
            self.fragmented = not event.fin
            if event.fin:
                whole = bytes(self.message), self.binary
        return whole

    def too_large(self) -> bool:
        """Tell whether the message has more bytes than are allowed."""
        ended = self.machine.close_sent
        return len(self.message) > FRAME_BYTES_MAX or (
            ended is not None and ended.code == CloseCode.MESSAGE_TOO_BIG
        )
