"""The Python client against `Wire` and the server's codec, with the room played by the test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Literal

import pytest

from streams import codec, protocol
from streams.client import Bought, Client, Disconnected, Event, Rejected, Stopped
from tests.contract.wire_rig import Heard, Running, serving

STREAM = protocol.Stream(id="st_1", shop="s", title="限時", status="live")
YOU = protocol.You(id="u_1", role="viewer", name="U")
Subprotocol = Literal["json", "msgpack"]


def order(key: str) -> protocol.Order:
    return protocol.Order(
        id="or_1", stream="st_1", offer="of_1", product="pr_1", viewer="u_1", qty=1,
        unit_price_minor=5, amount_minor=5, currency="TWD", status="reserved", rank=1, key=key,
        version=1, reserved_at=1,
    )  # fmt: skip


class Room:
    """What the test plays: answers `hello` and `ping`, and leaves the rest to the test."""

    def __init__(self, running: Running) -> None:
        self.running = running
        self.heard: list[protocol.AnyCommand] = []
        self.welcome = {"seq": 0, "cseq": 0, "recovered": None, "heartbeat_ms": 20_000}
        self.now = 1_000_000_000_000
        self.on_hello: Callable[[Heard, protocol.Hello], None] = lambda ear, hello: None
        self.on_command: Callable[[Heard, protocol.AnyCommand], None] = lambda ear, command: None
        running.front.on_message = self.take

    def take(self, ear: Heard, payload: bytes, binary: bool) -> None:
        command = codec.decode(payload, binary, ear.socket.form == codec.MSGPACK)
        assert not isinstance(command, (codec.Malformed, codec.NotAMessage)), command
        self.heard.append(command)
        if isinstance(command, protocol.Hello):
            self.greet(ear, command)
        elif isinstance(command, protocol.Ping):
            self.say(ear, protocol.Pong(re=command.id, t0=command.t0, now=self.now))
        else:
            self.on_command(ear, command)

    def greet(self, ear: Heard, hello: protocol.Hello) -> None:
        welcome = protocol.Welcome(
            re=hello.id, stream=STREAM, epoch="e1", now=1, you=YOU, pins=[], offers=[],
            orders=[], viewers=1, **self.welcome,  # type: ignore[arg-type]
        )  # fmt: skip
        self.say(ear, welcome)
        self.on_hello(ear, hello)

    def say(self, ear: Heard, *events: protocol.Event) -> None:
        for event in events:
            ear.socket.write(codec.Ready(event).frame(ear.socket.form))

    def client(self, subprotocol: Subprotocol = "msgpack", token: str | None = "t") -> Client:
        url = f"http://127.0.0.1:{self.running.port}"
        return Client.connect(url, "st_1", token=token, subprotocol=subprotocol)

    def buys(self) -> list[protocol.Buy]:
        return [command for command in self.heard if isinstance(command, protocol.Buy)]

    def hellos(self) -> list[protocol.Hello]:
        return [command for command in self.heard if isinstance(command, protocol.Hello)]


@asynccontextmanager
async def playing() -> AsyncIterator[Room]:
    async with serving() as running:
        yield Room(running)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the back-off short."""
    monkeypatch.setattr("streams.resume.BACKOFF_MIN_S", 0.01)
    monkeypatch.setattr("streams.resume.BACKOFF_MAX_S", 0.02)


async def take(client: Client, count: int) -> list[Event]:
    """Take so many events."""
    taken: list[Event] = []
    async with asyncio.timeout(10), aclosing(client.events()) as events:
        async for event in events:
            taken.append(event)
            if len(taken) == count:
                break
    return taken


def started(seq: int) -> protocol.StreamStarted:
    return protocol.StreamStarted(at=1, seq=seq)


def chatted(cseq: int) -> protocol.ChatRemoved:
    return protocol.ChatRemoved(at=1, cseq=cseq, message="msg_1")


@pytest.mark.parametrize("subprotocol", ["json", "msgpack"])
async def test_events_come_in_order(subprotocol: Subprotocol) -> None:
    """Welcome first, then what the room says, in both subprotocols."""
    async with playing() as room:
        room.on_hello = lambda ear, hello: room.say(ear, started(1), chatted(1), started(2))
        async with room.client(subprotocol) as client:
            events = await take(client, 4)
        kinds = ["welcome", "stream.started", "chat.removed", "stream.started"]
        assert [event["type"] for event in events] == kinds
        assert client.welcome["stream"]["title"] == "限時"
        assert room.hellos()[0].token == "t"


@pytest.mark.parametrize("subprotocol", ["json", "msgpack"])
async def test_a_buy_returns_its_order(subprotocol: Subprotocol) -> None:
    """The order comes back with the key that it was bought under."""
    async with playing() as room:

        def sell(ear: Heard, command: protocol.AnyCommand) -> None:
            assert isinstance(command, protocol.Buy)
            room.say(ear, protocol.OrderReserved(re=command.id, order=order(command.key)))

        room.on_command = sell
        async with room.client(subprotocol) as client:
            bought = await client.buy("of_1", qty=1)
            assert isinstance(bought, Bought)
            assert (bought.order["id"], bought.order["key"]) == ("or_1", bought.key)
            assert not bought.replayed


async def test_a_final_refusal_is_a_value() -> None:
    """`sold_out` is not asked about again."""
    async with playing() as room:

        def refuse(ear: Heard, command: protocol.AnyCommand) -> None:
            room.say(ear, protocol.Reject(re=command.id, code="sold_out", message="none left"))

        room.on_command = refuse
        async with room.client() as client:
            assert await client.buy("of_1", key="k") == Rejected("sold_out", "none left", "k")
        assert len(room.buys()) == 1


async def test_an_unknown_outcome_is_asked_for_under_the_same_key() -> None:
    """After `retry`, and after a break, the same key is sent until the outcome is known."""
    async with playing() as room:

        def sell(ear: Heard, command: protocol.AnyCommand) -> None:
            assert isinstance(command, protocol.Buy)
            if len(room.buys()) == 1:
                room.say(ear, protocol.Reject(re=command.id, code="retry", message="later"))
            elif len(room.buys()) == 2:
                ear.socket.abort()
            else:
                outcome = order(command.key)
                room.say(ear, protocol.OrderReserved(re=command.id, order=outcome, replayed=True))

        room.on_command = sell
        async with room.client() as client:
            bought = await client.buy("of_1")
        assert isinstance(bought, Bought)
        assert bought.replayed
        assert {buy.key for buy in room.buys()} == {bought.key}
        assert len(room.buys()) == 3


async def test_at_the_deadline_the_outcome_is_retry() -> None:
    """A buy that nobody answers ends as `retry`, with the key to ask again."""
    async with playing() as room, room.client() as client:
        assert await client.buy("of_1", key="k", deadline_s=0.05) == Rejected(
            "retry", "no answer in time", "k"
        )


async def test_a_break_is_followed_by_since() -> None:
    """The next hello says how far this client came, and history fills the gap exactly."""
    async with playing() as room:

        def script(ear: Heard, hello: protocol.Hello) -> None:
            if len(room.hellos()) == 1:
                room.say(ear, started(1), chatted(1), started(2))
                ear.socket.close(1001)
            else:
                room.say(ear, started(2), started(3), chatted(2), started(4))

        room.on_hello = script
        async with room.client() as client:
            before = await take(client, 4)
            room.welcome |= {"seq": 3, "cseq": 2, "recovered": True}
            after = await take(client, 4)
        assert room.hellos()[0].since is None
        assert room.hellos()[1].since == protocol.Since(epoch="e1", seq=2, cseq=1)
        numbers = [(e.get("seq"), e.get("cseq")) for e in before[1:] + after[1:]]
        assert numbers == [(1, None), (None, 1), (2, None), (3, None), (None, 2), (4, None)]


@pytest.mark.parametrize("late", [started(3), chatted(2)])
async def test_a_gap_makes_the_client_reconnect(late: protocol.Event) -> None:
    """A number that is skipped is never shown; the client comes back with `since`."""
    async with playing() as room:

        def script(ear: Heard, hello: protocol.Hello) -> None:
            room.say(ear, *([started(1), late] if hello.since is None else [started(2)]))

        room.on_hello = script
        async with room.client() as client:
            await take(client, 2)
            room.welcome["recovered"] = True
            assert [event.get("seq") for event in await take(client, 2)] == [0, 2]
        assert room.hellos()[1].since == protocol.Since(epoch="e1", seq=1, cseq=0)


async def test_skipped_chat_is_no_gap() -> None:
    """After `chat.skipped` the chat goes on from the number that it names."""
    async with playing() as room:
        skipped = protocol.ChatSkipped(cseq=7)
        room.on_hello = lambda ear, hello: room.say(ear, chatted(1), skipped, chatted(8))
        async with room.client() as client:
            events = await take(client, 4)
        assert [event["cseq"] for event in events] == [0, 1, 7, 8]
        assert len(room.hellos()) == 1


async def test_an_unrecovered_return_starts_from_the_snapshot() -> None:
    """With `recovered: false` the snapshot is all there is, and counting starts from it."""
    async with playing() as room:

        def script(ear: Heard, hello: protocol.Hello) -> None:
            if hello.since is None:
                ear.socket.close(4508)
            else:
                room.say(ear, started(91))

        room.on_hello = script
        async with room.client() as client:
            await take(client, 1)
            room.welcome |= {"seq": 90, "recovered": False}
            assert [event["seq"] for event in await take(client, 2)] == [90, 91]


@pytest.mark.parametrize("code", [4400, 4403, 4404, 4413, 4401])
async def test_final_closes_stop_the_client(code: int) -> None:
    """Where coming back is of no use, `Stopped` says why, to whoever waits for whatever."""
    async with playing() as room:
        room.on_hello = lambda ear, hello: ear.socket.close(code, "why")
        client = room.client()
        with pytest.raises(Stopped) as stopped:
            async with client:
                await client.buy("of_1", deadline_s=10)
        assert (stopped.value.code, stopped.value.reason) == (code, "why")
        with pytest.raises(Stopped):
            await take(client, 9)
        assert len(room.hellos()) == 1


@pytest.mark.parametrize("code", [1000, 1001, 4408, 4429, 4503, 4508, 1011])
async def test_other_closes_are_survived(code: int) -> None:
    """After every other close the client comes back by itself."""
    async with playing() as room:

        def script(ear: Heard, hello: protocol.Hello) -> None:
            if len(room.hellos()) == 1:
                ear.socket.close(code)

        room.on_hello = script
        async with room.client():
            await room.running.until(lambda: len(room.hellos()) == 2)


async def test_a_bad_token_is_replaced() -> None:
    """After 4401 a client whose token is a function asks it again."""
    async with playing() as room:
        tokens = iter(["old", "new"])

        async def fresh() -> str:
            return next(tokens)

        def script(ear: Heard, hello: protocol.Hello) -> None:
            if hello.token == "old":
                ear.socket.close(4401)

        room.on_hello = script
        url = f"ws://127.0.0.1:{room.running.port}/"
        async with Client.connect(url, "st_1", token=fresh):
            await room.running.until(lambda: len(room.hellos()) == 2)
        assert room.hellos()[1].token == "new"


async def test_a_full_house_is_waited_for() -> None:
    """HTTP 503 at the handshake is not the end."""
    async with playing() as room:
        room.running.front.full = True
        client = room.client()
        entering = asyncio.create_task(client.__aenter__())
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(entering), 0.1)
        room.running.front.full = False
        await entering
        await client.__aexit__(None, None, None)


async def test_a_break_ends_plain_commands() -> None:
    """A command without a key is not repeated: its sender is told that the answer is lost."""
    async with playing() as room:
        room.on_command = lambda ear, command: ear.socket.abort()
        async with room.client() as client:
            with pytest.raises(Disconnected):
                await client.command("cancel", order="or_1")


async def test_the_server_clock_is_learnt() -> None:
    """Countdowns can be shown on the server's time."""
    async with playing() as room, room.client() as client:
        await room.running.until(lambda: abs(client.server_now_ms() - room.now) < 60_000)


async def test_a_silent_server_is_given_up() -> None:
    """A server that answers no ping for two heartbeats is left, and tried again."""
    async with playing() as room:
        room.welcome["heartbeat_ms"] = 20
        greet, hellos = room.take, room.hellos

        def deaf(ear: Heard, payload: bytes, binary: bool) -> None:
            if not ear.messages[1:]:
                greet(ear, payload, binary)

        room.running.front.on_message = deaf
        async with room.client():
            await room.running.until(lambda: len(hellos()) == 2)


async def test_events_that_nobody_takes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that only buys keeps the newest events, and is told how many it lost."""
    monkeypatch.setattr("streams.client.EVENTS_WAITING_MAX", 3)
    async with playing() as room:
        room.on_hello = lambda ear, hello: room.say(ear, *[started(n) for n in range(1, 10)])
        async with room.client() as client:
            await room.running.until(lambda: client._dropped == 7)
            events = await take(client, 4)
        assert events[0] == {"type": "client.dropped", "count": 7}
        assert [event["seq"] for event in events[1:]] == [7, 8, 9]
