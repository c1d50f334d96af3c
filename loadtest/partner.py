"""A process of the harness that runs asyncio, asked from the greenlets of a Locust process.

Owns its start, the frames to and from it and its end; what is asked is its caller's. There is no
asyncio within gevent: a pipe lies between the two, with the messages of asks or of desk. The
process ends with its pipe, also when Locust is killed. Used by usher and lead.
"""

from __future__ import annotations

import contextlib
import itertools
import subprocess
import sys
from collections.abc import Callable
from typing import Any, Final, Generic, Protocol, TypeVar

import gevent  # type: ignore[import-untyped]
import msgspec
from gevent.event import AsyncResult  # type: ignore[import-untyped]
from gevent.lock import RLock  # type: ignore[import-untyped]
from gevent.os import make_nonblocking, nb_read, nb_write  # type: ignore[import-untyped]

from loadtest.asks import LENGTH_BYTES, packed

READ_BYTES: Final = 1 << 18
END_TIMEOUT_S: Final = 10.0


class PartnerFailed(ConnectionError):
    """The process died, or could not do what it was asked; the message says what."""


class Answering(Protocol):
    """Any reply: `error` says what went wrong."""

    error: str


class Numbered(Protocol):
    """Any reply on its way."""

    number: int
    reply: Any


A = TypeVar("A", bound=Answering)


class Partner(Generic[A]):
    """One process `python -m module`; what it says on stderr goes where Locust's own goes."""

    def __init__(
        self,
        module: str,
        asked: Callable[[int, Any], msgspec.Struct],
        decode: Callable[[bytes], Numbered],
    ) -> None:
        """`asked` makes a message of an ask and its number, `decode` reads a reply."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C reaches Locust alone, which ends it
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self.pid = self._process.pid
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        self._in, self._out = self._stdin.fileno(), self._stdout.fileno()
        make_nonblocking(self._in)
        make_nonblocking(self._out)
        self._module, self._asked, self._decode = module, asked, decode
        self._numbers = itertools.count()
        self._waiting: dict[int, AsyncResult] = {}
        self._writing = RLock()  # of two frames neither may end up within the other
        self._dead = ""
        self._reader = gevent.spawn(self._read)

    def ask(self, ask: Any, timeout_s: float | None = None) -> A:
        """Have something done; PartnerFailed when it was not, TimeoutError when not in time."""
        if self._dead:
            raise PartnerFailed(self._dead)
        number = next(self._numbers)
        result = self._waiting[number] = AsyncResult()
        self._write(packed(self._asked(number, ask)))
        try:
            reply: A = result.get(timeout=timeout_s)
        except gevent.Timeout as error:
            raise TimeoutError(f"{self._module}: nothing within {timeout_s:g} s") from error
        finally:
            self._waiting.pop(number, None)
        if reply.error:
            raise PartnerFailed(f"{self._module}: {reply.error}")
        return reply

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        with self._writing:
            try:
                while view:
                    view = view[nb_write(self._in, view) :]
            except OSError as error:
                raise PartnerFailed(self._dead or f"{self._module}: {error}") from error

    def _read(self) -> None:
        kept = bytearray()
        while data := self._more():
            kept += data
            at = 0
            while len(kept) - at >= LENGTH_BYTES:
                body = at + LENGTH_BYTES
                end = body + int.from_bytes(kept[at:body], "big")
                if len(kept) < end:
                    break
                replied = self._decode(bytes(kept[body:end]))
                at = end
                if (result := self._waiting.get(replied.number)) is not None:
                    result.set(replied.reply)
            del kept[:at]
        self._dead = f"{self._module} (pid {self.pid}) ended"
        for result in list(self._waiting.values()):
            result.set_exception(PartnerFailed(self._dead))

    def _more(self) -> bytes:
        """What came; nothing at its end, however it ended."""
        with contextlib.suppress(OSError):
            return bytes(nb_read(self._out, READ_BYTES))
        return b""

    def end(self) -> None:
        """Close its pipe, and end it when it does not go by itself."""
        self._stdin.close()
        try:
            self._process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        self._stdout.close()
