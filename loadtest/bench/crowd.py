"""Viewers by the thousand in one process that only counts; run by the stations, told by `asks`.

Bare sockets, left alone for a moment at a time, so that a server's writes do not pay for waking
their reader; when bytes came is what the kernel wrote down on their arrival. The same for every
server. Must never know what a server is.
"""

from __future__ import annotations

import gc
import select
import socket
import struct
import sys
import time
from collections.abc import Iterator
from itertools import cycle

import msgspec

from loadtest.bench.asks import Answer, Ask, Connect, Drop, Enter, Flood, Judge, PingPong, Say
from loadtest.bench.judged import gap_in
from loadtest.bench.tally import Tally, let_in

AT_ONCE = 200  # connections that are being made
TIMEOUT_S = 120.0  # of whatever is waited for
NAP_S = 0.002
SO_TIMESTAMPNS = 35  # Linux; not in Python's socket module
IP_BIND_ADDRESS_NO_PORT = 24  # Linux: the port is chosen when dialling, so it may be one in use
STAMP_BYTES = 64
READ_HEAD_BYTES = 64 * 1024
SOURCE_VIEWERS = 4_000  # of one source address: ports run out, and servers count addresses
_STAMP = struct.Struct("qq")
_WATCH = select.EPOLLIN | select.EPOLLET
_UNLIKELY = b"\xc1no frame has this"


class Late(Exception):
    """Not everybody was reached in time."""


class Crowd:
    """All viewers of one server."""

    def __init__(self) -> None:
        self._viewers: dict[int, socket.socket] = {}  # by file descriptor
        self._speakers: dict[str, socket.socket] = {}
        self._ready = select.epoll()
        self._tally = Tally()
        self._kept: dict[int, bytearray] | None = None
        self._at_s = 0.0  # when the last read's newest byte came

    # --- reading -----------------------------------------------------------------------------

    def _read(self, number: int, viewer: socket.socket) -> int:
        """Read what is there and return the marked frames in it."""
        tally = self._tally
        room = tally.room(number)
        read, stamps, _, _ = viewer.recvmsg_into([room], STAMP_BYTES)
        if not read:
            raise ConnectionError("a viewer was disconnected")
        if self._kept is not None and number in self._kept:
            self._kept[number] += room[:read]
        self._note(stamps)
        seen = tally.take(number, read)
        if read == len(room):  # an edge is told once
            seen += self._read(number, viewer)
        return seen

    def _note(self, stamps: list[tuple[int, int, bytes]]) -> None:
        for _, kind, stamp in stamps:
            if kind == SO_TIMESTAMPNS:
                seconds, nanoseconds = _STAMP.unpack_from(stamp)
                self._at_s = seconds + nanoseconds / 1e9

    def _events(self, wait_s: float = 0.0) -> Iterator[tuple[int, socket.socket]]:
        """Give viewers that have something to read; what speakers are told is read and dropped."""
        for number, _ in self._ready.poll(wait_s, len(self._viewers) + 16):
            viewer = self._viewers.get(number)
            if viewer is not None:
                yield number, viewer
        for speaker in self._speakers.values():
            _drain(speaker)

    # --- coming and going --------------------------------------------------------------------

    def connect(self, ask: Connect) -> Answer:
        """Dial everyone, a few at a time, as fast as they are let in."""
        ends_s, began_s = time.monotonic() + TIMEOUT_S, time.time()
        if ask.drop:
            self.drop(Drop())
            for frame in ask.meanwhile:
                self._speakers[ask.who].sendall(frame)
        self._kept = {} if ask.keep else None
        self._tally.look_for(ask.welcome or _UNLIKELY)
        hellos = cycle(ask.hellos or [b""])
        heads: dict[int, bytes] = {}  # of those whose handshake was not answered yet
        greeted: set[int] = set()  # those who said hello and are not welcome yet
        begun = done = 0
        while done < ask.viewers:
            while begun < ask.viewers and begun - done < AT_ONCE:
                number = self._dial(ask, f"127.0.1.{1 + begun // SOURCE_VIEWERS}")
                heads[number] = b""
                begun += 1
            for number, viewer in self._events(0.05):
                if number in heads:
                    heads[number] += viewer.recv(READ_HEAD_BYTES)
                    if not let_in(heads[number], ask.greeting, bool(ask.hellos)):
                        continue
                    del heads[number]
                    if not ask.hellos:
                        done += 1
                        continue
                    if self._kept is not None:
                        self._kept[number] = bytearray()
                    viewer.send(next(hellos))
                    greeted.add(number)
                elif self._read(number, viewer) and number in greeted:
                    greeted.discard(number)
                    done += 1
            if time.monotonic() > ends_s:
                raise Late(f"{done} of {ask.viewers} viewers were let in")
        return Answer(wall_s=time.time() - began_s, n=done)

    def _dial(self, ask: Connect, source: str) -> int:
        viewer = socket.socket()
        viewer.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        viewer.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        viewer.bind((source, 0))
        viewer.connect(("127.0.0.1", ask.port))
        viewer.send(ask.request)
        viewer.setblocking(False)
        number = viewer.fileno()
        self._viewers[number] = viewer
        self._ready.register(number, _WATCH)
        return number

    def enter(self, ask: Enter) -> Answer:
        """Bring a speaker."""
        speaker = socket.create_connection(("127.0.0.1", ask.port), 10.0)
        speaker.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        speaker.sendall(ask.request)
        head = b""
        while not let_in(head, ask.greeting, False):
            if not (part := speaker.recv(1)):  # nothing behind it is swallowed
                raise ConnectionError(f"the upgrade was answered {head[:200]!r}")
            head += part
        welcome = b""
        if ask.hello:
            speaker.sendall(ask.hello)
            while ask.welcome not in welcome:
                if not (part := speaker.recv(READ_HEAD_BYTES)):
                    raise ConnectionError(f"no welcome: {welcome[:200]!r}")
                welcome += part
        speaker.settimeout(None)  # else MSG_DONTWAIT would wait
        if (old := self._speakers.pop(ask.who, None)) is not None:
            old.close()
        self._speakers[ask.who] = speaker
        return Answer(welcome=welcome)

    def drop(self, _: Drop) -> Answer:
        """Leave, all at once."""
        left = len(self._viewers)
        for number, viewer in self._viewers.items():
            self._tally.forget(number)
            viewer.close()
        self._viewers.clear()
        self._kept = None
        return Answer(n=left)

    # --- what is said ------------------------------------------------------------------------

    def say(self, ask: Say) -> Answer:
        """Say one, or one burst, after the other; each once everybody heard the one before."""
        speaker, answer = self._speakers[ask.who], Answer()
        tally = self._tally
        tally.exact = ask.exact
        tally.look_for(ask.mark)
        if ask.sample:
            self._kept = {number: bytearray() for number in list(self._viewers)[: ask.sample]}
        for at in range(0, len(ask.frames), ask.at_once):
            said = ask.frames[at : at + ask.at_once]
            began_s, next_s = time.time(), time.monotonic()
            for frame in said:
                while time.monotonic() < next_s:
                    pass  # a sleep is longer than the gap
                speaker.sendall(frame)
                next_s += ask.gap_s
            first_s, last_s = self._heard(len(said))
            answer.firsts_s.append(first_s - began_s)
            answer.lasts_s.append(last_s - began_s)
        tally.exact = False
        answer.n = len(self._viewers) * len(ask.frames)
        if ask.sample and self._kept is not None:
            answer.samples = [bytes(kept) for kept in self._kept.values()]
            self._kept = None
        return answer

    def _heard(self, events: int) -> tuple[float, float]:
        """Wait until each viewer got exactly so many; return when the first and the last did."""
        left = dict.fromkeys(self._viewers, events)
        first_s, last_s = float("inf"), 0.0
        ends_s = time.monotonic() + TIMEOUT_S
        while left:
            time.sleep(NAP_S)
            for number, viewer in self._events():
                seen = self._read(number, viewer)
                if not seen:
                    continue
                first_s, last_s = min(first_s, self._at_s), max(last_s, self._at_s)
                still = left.pop(number, 0) - seen
                if still > 0:
                    left[number] = still
                elif still < 0:
                    raise ValueError("a viewer heard more than was said")
            if time.monotonic() > ends_s:
                raise Late(f"{len(self._viewers) - len(left)} viewers heard all")
        return first_s, last_s

    def flood(self, ask: Flood) -> Answer:
        """Say each, and wait for everybody, while the chat goes on."""
        answer, flow = Answer(), _Flow(self._speakers[ask.chatter], ask)
        flow.listener = next(iter(self._viewers))
        speaker, tails = self._speakers[ask.who], dict[int, bytes]()
        for frame in ask.asks:
            calm_s = time.monotonic() + ask.pause_s
            while time.monotonic() < calm_s:
                self._look(flow, tails, ask.mark, {})
            left = dict.fromkeys(self._viewers, True)
            began_s, ends_s = time.time(), time.monotonic() + ask.timeout_s
            speaker.sendall(frame)
            first_s, last_s = float("inf"), 0.0
            while left and time.monotonic() < ends_s:
                came = self._look(flow, tails, ask.mark, left)
                first_s, last_s = min([first_s, *came]), max([last_s, *came])
            if left:
                answer.late += 1
                break  # it will not catch up
            answer.firsts_s.append(first_s - began_s)
            answer.lasts_s.append(last_s - began_s)
        answer.said, answer.n = flow.said, flow.heard
        return answer

    def _look(
        self, flow: _Flow, tails: dict[int, bytes], mark: bytes, left: dict[int, bool]
    ) -> list[float]:
        """Go on chatting, read all there is, and return when those who are left got the mark."""
        flow.go_on()
        time.sleep(NAP_S)
        came, buffer, short = [], self._tally.buffer, len(mark) - 1
        view = memoryview(buffer)
        for at, (number, viewer) in enumerate(self._events()):
            tail = tails.get(number, b"")
            start = end = len(tail)  # the mark may be cut by a read
            buffer[:start] = tail
            read, stamps, _, _ = viewer.recvmsg_into([view[start:]], STAMP_BYTES)
            if not read:
                raise ConnectionError("a viewer was disconnected")
            end += read
            if number == flow.listener:
                flow.heard += buffer.count(flow.mark, start, end)
            if number in left and buffer.find(mark, 0, end) >= 0:
                del left[number]
                self._note(stamps)
                came.append(self._at_s)
            tails[number] = bytes(view[max(0, end - short) : end])
            if end == len(buffer):  # an edge is told once
                self._ready.modify(number, _WATCH)
            if at % 100 == 0:
                flow.go_on()
        return came

    # --- commands in -------------------------------------------------------------------------

    def ping_pong(self, ask: PingPong) -> Answer:
        """Have one command of each viewer under way all the time."""
        tally, frame = self._tally, ask.frame
        tally.look_for(ask.mark)
        began_s = time.monotonic()
        ends_s, answered, under_way = began_s + ask.seconds, 0, len(self._viewers)
        for viewer in self._viewers.values():
            viewer.send(frame)
        more = True
        while under_way:
            more = more and time.monotonic() < ends_s
            if time.monotonic() > ends_s + TIMEOUT_S:
                raise Late(f"{under_way} commands have no answer")
            for number, viewer in self._events(0.1):
                room = tally.room(number)
                if not (read := viewer.recv_into(room)):
                    raise ConnectionError("a viewer was disconnected")
                if tally.take(number, read):
                    answered += 1
                    if more:
                        viewer.send(frame)
                    else:
                        under_way -= 1
        return Answer(wall_s=time.monotonic() - began_s, n=answered)

    # --- what was kept -----------------------------------------------------------------------

    def judge(self, ask: Judge) -> Answer:
        """Judge what each viewer was sent since its hello."""
        assert self._kept is not None
        answer = Answer(n=len(self._kept))
        for kept in self._kept.values():
            recovered, problem = gap_in(bytes(kept), ask.seq, ask.cseq, ask.until_cseq)
            answer.recovered += recovered
            answer.gaps += bool(problem)
            answer.problem = answer.problem or problem
        return answer

    def obey(self, ask: Ask) -> Answer:
        """Do what is asked; what goes wrong is an answer, too."""
        began_s, cpu_s = time.monotonic(), time.process_time()
        try:
            match ask:
                case Connect():
                    answer = self.connect(ask)
                case Enter():
                    answer = self.enter(ask)
                case Say():
                    answer = self.say(ask)
                case Flood():
                    answer = self.flood(ask)
                case PingPong():
                    answer = self.ping_pong(ask)
                case Drop():
                    answer = self.drop(ask)
                case Judge():
                    answer = self.judge(ask)
        except (OSError, Late, ValueError) as error:
            answer = Answer(error=f"{type(error).__name__}: {error}")
        answer.cpu_s = time.process_time() - cpu_s
        answer.wall_s = answer.wall_s or time.monotonic() - began_s
        return answer


class _Flow:
    """A chat that goes on at its pace whenever it is thought of."""

    def __init__(self, speaker: socket.socket, ask: Flood) -> None:
        self._speaker = speaker
        self._chats = ask.chats
        self._per_s = ask.per_s
        self._began_s = time.monotonic()
        self.said = 0
        self.mark = ask.chat_mark
        self.listener = 0  # the viewer whose messages are counted
        self.heard = 0  # by it; one that is cut by a read is missed

    def go_on(self) -> None:
        """Say what is due."""
        due = min(int((time.monotonic() - self._began_s) * self._per_s), len(self._chats))
        while self.said < due:
            self._speaker.sendall(self._chats[self.said])
            self.said += 1


def _drain(speaker: socket.socket) -> None:
    try:
        while speaker.recv(READ_HEAD_BYTES, socket.MSG_DONTWAIT):
            pass
    except BlockingIOError:
        return
    raise ConnectionError("a speaker was disconnected")


def main() -> None:
    """Do what each line asks, until there are no more."""
    decode = msgspec.json.Decoder(Ask).decode
    crowd = Crowd()
    gc.disable()  # a collection would look like the server's delay
    for line in sys.stdin.buffer:
        sys.stdout.buffer.write(msgspec.json.encode(crowd.obey(decode(line))) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
