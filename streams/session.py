"""One connection: hello, commands in, replies out, who it is and until when.

Owns the state machine of a connection. It must never know Redis, SQL or how
frames are read. Called by its socket (`ports.Ear`), by command handlers (`ports.Caller`), by its
room and by the wheel. Nothing here raises into the event loop because of what a client sent.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from enum import IntEnum
from typing import TYPE_CHECKING

import msgspec

from streams import codec
from streams.backlog import Backlog
from streams.codec import BINARY_FORMS, Malformed, NotAMessage, Ready
from streams.codes import HELLO_CLOSE, Close, Code
from streams.permits import NOBODY, PACED, TOLD_TO_ALL, UNPACED, forbids
from streams.ports import Identity, Refused, Socket, Standing
from streams.protocol import (
    COMMANDS,
    INT_MAX,
    ORDER_EVENT,
    AnyCommand,
    Auth,
    Bundle,
    Buy,
    Chat,
    ChatRemove,
    Command,
    Event,
    Hello,
    Muted,
    Ok,
    OrderEvent,
    Ping,
    Pong,
    React,
    Reject,
)

if TYPE_CHECKING:
    from streams.hub import Hub
    from streams.rooms import Room

COMMANDS_BEFORE_WELCOME_MAX = 64
REPLIES_PER_WRITE_MAX = 128
UNREAD_BYTES_MAX = 64 * 1024  # that a client has not taken, then it is not read
HASTE_MAX = 200  # commands in a row that come too early, then the connection ends
HELD_EVENTS_MAX = 100  # private events kept while this connection's snapshot is read
_OF_ORDERS = (OrderEvent, Bundle)
_HELLO = Hello.__struct_config__.tag

logger = logging.getLogger("streams.session")


class Stage(IntEnum):
    """How far a connection is."""

    SILENT = 0  # no hello yet
    GREETING = 1  # hello is being answered; commands wait in line
    OPEN = 2  # welcomed


class Session:
    """One connection of one user to one stream."""

    __slots__ = (
        "_early",
        "_haste",
        "_hub",
        "_out",
        "_renewing",
        "backlog",
        "client",
        "closed",
        "expires_s",
        "header_token",
        "held",
        "identity",
        "live",
        "muted_until_ms",
        "room",
        "slot",
        "socket",
        "stage",
        "standing_known",
        "stream_id",
    )

    def __init__(
        self, hub: Hub, socket: Socket, stream_id: str, header_token: str | None, client: str
    ) -> None:
        self._hub = hub
        self.socket = socket
        self.stream_id = stream_id
        self.header_token = header_token  # dropped once hello was read
        self.client = client  # the address that it counts for
        self.identity = NOBODY  # until hello is verified
        self.stage = Stage.SILENT
        self.closed = False
        self.room: Room | None = None  # set while the room knows this connection
        self.live = False  # sequenced events are written to it as they come
        self.held: list[Ready] = []  # private events that follow the snapshot being read
        self.muted_until_ms = 0
        self.standing_known = False  # a mute or ban said since hello is newer than what is read
        self.slot = 0  # its bucket in the wheel
        self.expires_s: int | None = None  # its bucket of token expiry
        self._early: list[AnyCommand | Malformed] = []  # pipelined behind hello
        self._renewing = False
        self._haste = 0  # commands in a row that came too early
        self.backlog: Backlog | None = None  # while the socket takes no more
        self._out: list[bytes] | None = None  # replies of this turn of the loop, not written yet

    # --- the socket's side (ports.Ear) --------------------------------------------------------

    def received(self, payload: bytes, binary: bool) -> None:
        """Take one whole message."""
        if self.closed:
            return
        self._hub.meter.messages_in += 1
        command = codec.decode(payload, binary, self.socket.form in BINARY_FORMS)
        if self.stage is Stage.OPEN:
            if type(command) is Buy and self.identity.role == "viewer":  # the crowd's way
                if self._in_time(command):
                    self._hub.handler.handle(self, command)
            else:
                self._obey(command)
        elif isinstance(command, NotAMessage):
            self.close(Close.NOT_A_MESSAGE, command.reason)
        elif self.stage is Stage.SILENT:
            self._first(command)
        elif isinstance(command, Hello):
            self._second_hello(command)
        elif len(self._early) < COMMANDS_BEFORE_WELCOME_MAX:
            self._early.append(command)
        else:
            self.close(Close.TOO_MANY, "too many commands before welcome")

    def stalled(self) -> None:
        """The socket takes no more: what comes from now on waits in its lanes."""
        if self.closed or self.backlog is not None:
            return
        room = self.room
        newest = {} if room is None else room.lanes.newest
        self.backlog = Backlog(newest, self.socket.form, self._hub.backlogs.account)
        self._hub.backlogs.add(self)
        if room is not None:
            room.lanes.stall(self)

    def drained(self) -> None:
        """The socket takes more."""
        backlog = self.backlog
        while backlog is not None and (frames := backlog.portion()):
            self.socket.write(frames)
            if self.socket.waiting_bytes():
                if backlog.bytes < UNREAD_BYTES_MAX // 2:
                    self.socket.listen()
                return
        if backlog is not None:
            self._end_backlog()
            if self.room is not None:
                self.room.lanes.go_on(self)
        self.socket.listen()

    def choked(self) -> None:
        """The client does not take its snapshot: it may come back with `since`."""
        self.close(Close.SLOW, "slow consumer")

    def lost(self) -> None:
        """The connection is gone."""
        self.closed = True
        self._end_backlog()
        self._hub.forget(self)

    # --- a handler's side (ports.Caller) ------------------------------------------------------

    def send(self, event: Event) -> None:
        """Send one message to this connection alone; does nothing once closed."""
        if self.closed:
            return
        self._write(codec.framed(event, self.socket.form))
        if isinstance(event, _OF_ORDERS) and self._awaits_snapshot():
            # The snapshot on its way may be older than this: say it again after it.
            if isinstance(event, OrderEvent):
                self.hold(Ready(msgspec.structs.replace(event, re=None), shared=False))
            else:
                for order in event.orders:
                    self.hold(Ready(ORDER_EVENT[order.status](order=order), shared=False))

    def reject(self, re: int | None, refused: Refused) -> None:
        """Answer a command with `reject`."""
        self.send(
            Reject(
                re=re,
                code=refused.code.value,
                message=refused.message,
                field=refused.field,
                retry_after_ms=refused.retry_after_ms,
            )
        )

    def close(self, code: Close, reason: str = "") -> None:
        """End the connection; what was written before still goes out."""
        if self.closed:
            return
        self.closed = True
        if code is not Close.SLOW:
            before = b"" if self.backlog is None else self.backlog.rest()
            if last := b"".join([before, *(self._out or ())]):
                self.socket.write(last)
        self._out = None
        self._end_backlog()
        self._hub.meter.closed[int(code)] += 1
        self.socket.close(code, reason)
        self._hub.forget(self)

    # --- the room's side ----------------------------------------------------------------------

    def whisper(self, ready: Ready) -> None:
        """Send a private event, and after the snapshot if one is on its way."""
        if self.closed:
            return
        if self.live:
            self._write(ready.frame(self.socket.form))
        if self._awaits_snapshot():
            self.hold(ready)

    def _awaits_snapshot(self) -> bool:
        return not self.live or (self.room is not None and self in self.room.due)

    def hold(self, ready: Ready) -> None:
        """Keep an event until the snapshot is sent."""
        if len(self.held) >= HELD_EVENTS_MAX:
            self.close(Close.DRAINING, "too much happened meanwhile; connect again")
        else:
            self.held.append(ready)

    def show(self, frames: bytes) -> None:
        """Send a snapshot and what follows it; live from now on."""
        self.live = True
        held, self.held = self.held, []
        form = self.socket.form
        self.flush()
        if self.socket.waiting_bytes() > self._hub.limits.queue_bytes_max:
            self.close(Close.SLOW, "a snapshot waits already")
            return
        self._hub.meter.messages_out += 1
        before = b"" if self.backlog is None else self.backlog.rest()
        # At once: the first live event is, too.
        self.socket.write_apart(b"".join([before, frames, *(ready.frame(form) for ready in held)]))

    def learn(self, standing: Standing) -> None:
        """Take the user's standing as it was read; what was said meanwhile is newer."""
        if not self.standing_known:
            self.muted_until_ms = standing.muted_until_ms

    def mute(self, until_ms: int) -> None:
        """Refuse this user's chat until then; 0 or a time gone by lets it through again."""
        self.standing_known = True
        self.muted_until_ms = until_ms

    def muted_event(self) -> Muted:
        """Return how to tell this user of the mute."""
        until = self.muted_until_ms
        return Muted(until=None if until >= INT_MAX else until)

    # --- hello --------------------------------------------------------------------------------

    def _first(self, command: AnyCommand | Malformed) -> None:
        if isinstance(command, Hello):
            self.stage = Stage.GREETING
            self._hub.greet(self, command)
        elif isinstance(command, Malformed) and command.type == _HELLO:
            self._refuse(command)  # an ill-typed hello may be said again until the deadline
        else:
            self.close(Close.NOT_A_MESSAGE, "no hello first")

    def enter_as(self, identity: Identity) -> None:
        """Take on a verified identity."""
        self.identity = identity
        self.header_token = None

    def refuse_hello(self, re: int, refused: Refused) -> None:
        """Answer hello with `reject` and end the connection."""
        self.reject(re, refused)
        self.close(HELLO_CLOSE.get(refused.code, Close.DRAINING), refused.code.value)

    def open(self) -> None:
        """Hello was answered with `welcome`: take what waited behind it, in order."""
        self.stage = Stage.OPEN
        early, self._early = self._early, []
        for command in early:
            if self.closed:
                return
            self._obey(command)

    def _second_hello(self, command: Hello) -> None:
        refused = Refused(Code.BAD_REQUEST, "hello was said already", field="type")
        self.reject(command.id, refused)

    # --- commands -----------------------------------------------------------------------------

    def _obey(self, command: AnyCommand | Malformed | NotAMessage) -> None:
        if isinstance(command, NotAMessage):
            self.close(Close.NOT_A_MESSAGE, command.reason)
        elif isinstance(command, Malformed):
            meant = COMMANDS.get(command.type or "")
            code = None if meant is None else self._forbids(meant)
            if code is None:
                self._refuse(command)
            else:  # the token is judged before the shape
                self.reject(command.re, Refused(code))
        elif (code := self._forbids(type(command))) is not None:
            self.reject(command.id, Refused(code))
        elif not self._in_time(command):
            pass  # it was told so
        elif isinstance(command, Ping):
            self.send(Pong(re=command.id, t0=command.t0, now=self._hub.clock.now_ms()))
        elif isinstance(command, React):
            if self.room is not None:
                self.room.react(command.kind, 1 if command.n is None else command.n)
        elif isinstance(command, Chat):
            self._chat(command)
        elif isinstance(command, ChatRemove):
            self._remove(command)
        elif isinstance(command, Hello):
            self._second_hello(command)
        elif isinstance(command, Auth):
            self._renew(command)
        else:
            if type(command) in TOLD_TO_ALL:
                self._hub.hasten(self.stream_id)
            self._hub.handler.handle(self, command)

    def _in_time(self, command: Command) -> bool:
        """Count a command against its user's bounds; answer it when it comes too early."""
        kind = PACED.get(type(command))
        if kind is None or self.identity.role in UNPACED:
            return True
        wait_ms = self._hub.wait_ms(self.identity.sub, kind)
        if not wait_ms:
            self._haste = 0
            return True
        self._haste += 1
        self._hub.meter.hasty += 1
        if self._haste > HASTE_MAX:
            self.close(Close.TOO_MANY, "too many commands")
        else:
            self.reject(command.id, Refused(Code.RATE_LIMITED, retry_after_ms=wait_ms))
        return False

    def _forbids(self, command: type[Command]) -> Code | None:
        return forbids(self.identity, command, None if self.room is None else self.room.shop)

    def _refuse(self, malformed: Malformed) -> None:
        refused = Refused(malformed.code, malformed.message, field=malformed.field)
        self.reject(malformed.re, refused)

    def _chat(self, command: Chat) -> None:
        if self.muted_until_ms > self._hub.clock.now_ms():
            self.reject(command.id, Refused(Code.MUTED))
        elif self.room is not None and self._has_turn(command, self.room):
            self.room.talk.say(self, command, self._hub.clock.now_ms())

    def _has_turn(self, command: Chat, room: Room) -> bool:
        """Tell whether it is this user's turn in slow mode."""
        wait_ms = room.turn_ms(self.identity, command.key, self._hub.now_s())
        if wait_ms:
            self.reject(
                command.id, Refused(Code.RATE_LIMITED, "Slow mode.", retry_after_ms=wait_ms)
            )
        return not wait_ms

    def _remove(self, command: ChatRemove) -> None:
        if self.room is not None:
            self.room.talk.remove(self, command, self._hub.clock.now_ms())

    def _renew(self, command: Auth) -> None:
        if self._renewing:
            self.reject(command.id, Refused(Code.RATE_LIMITED, retry_after_ms=1_000))
            return
        self._renewing = True
        self._hub.tasks.spawn(self._verify_again(command), "auth")

    async def _verify_again(self, command: Auth) -> None:
        try:
            identity = await self._hub.verify(command.token, self.stream_id)
            if identity.sub != self.identity.sub:
                raise Refused(Code.UNAUTHENTICATED, "The token is another user's.")
            if not self.closed:
                self.identity = identity
                self._hub.wheel.expire_at(self, identity.exp_ms)
                self.send(Ok(re=command.id))
        except Refused as refused:
            if refused.code is Code.FORBIDDEN:  # a token for elsewhere is a bad one here
                refused = Refused(Code.UNAUTHENTICATED, refused.message)
            self.reject(command.id, refused)
        except Exception:
            logger.exception("auth failed")
            self.reject(command.id, Refused(Code.INTERNAL))
        finally:
            self._renewing = False

    def _write(self, frames: bytes) -> None:
        """Write at the end of this turn of the loop, in one write with what else comes in it.

        A batch of selling answers many buys of one viewer at once; a system call costs more than
        all else that a reply does.
        """
        self._hub.meter.messages_out += 1
        if self._out is None:
            self._out = [frames]
            self._hub.flush_soon(self)
        else:
            self._out.append(frames)
            if len(self._out) >= REPLIES_PER_WRITE_MAX:
                self.flush()

    def flush(self) -> None:
        """Write what this turn gathered."""
        out, self._out = self._out, None
        if out is not None and not self.closed:
            self.queue(out[0] if len(out) == 1 else b"".join(out))
            waiting = self.socket.waiting_bytes()
            if waiting and waiting + self._queued_bytes() > UNREAD_BYTES_MAX:
                self.socket.hold()  # who reads no answers is not read either, until he does

    # --- the lanes' side (lanes.Listener) -----------------------------------------------------

    def queue(self, frames: bytes) -> None:
        """Send frames as soon as the socket takes them."""
        if self.backlog is None:
            self.socket.write(frames)
        else:
            self.backlog.put(frames)
            self._hub.backlogs.judge(self)

    def _queued_bytes(self) -> int:
        return 0 if self.backlog is None else self.backlog.bytes

    def queue_chat(self, frames: bytes, cseq: int) -> None:
        """Send chat after what matters more; it may be shed."""
        if self.backlog is not None:
            self.backlog.put_chat(frames, cseq)
            self._hub.backlogs.judge(self)

    def queue_newest(self, slots: Sequence[str]) -> None:
        """Send conflated values, as they are by then."""
        if self.backlog is not None:
            self.backlog.put_newest(slots)

    def _end_backlog(self) -> None:
        if self.backlog is not None:
            self.backlog.drop()
            self.backlog = None
            self._hub.backlogs.discard(self)
