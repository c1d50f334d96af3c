"""One connection: its states, its roles, its answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import msgspec
import pytest

from streams.codes import Close
from streams.log import Line, Said
from streams.ports import Standing
from tests.hub_rig import QUICK, Screen, Stage, Truth, open_stage, until


@pytest.fixture
async def stage(redis_url: str) -> AsyncIterator[Stage]:
    async with open_stage(redis_url, Truth(fact_n=0)) as stage:
        yield stage


HOST_COMMANDS = [
    ("pin", {"product": "pr_1"}),
    ("unpin", {"pin": "pin_1"}),
    ("offer.open", {"offer": "of_1"}),
    ("offer.close", {"offer": "of_1"}),
    ("offer.pause", {"offer": "of_1"}),
    ("offer.resume", {"offer": "of_1"}),
    ("offer.restock", {"offer": "of_1", "add": 1, "key": "k"}),
    ("mute", {"user": "ann"}),
    ("unmute", {"user": "ann"}),
    ("ban", {"user": "ann"}),
    ("chat.remove", {"message": "msg_1"}),
]
BUY = ("buy", {"offer": "of_1", "qty": 1, "key": "k"})
BUNDLE = ("buy", {"lines": [{"offer": "of_1", "qty": 1}], "key": "k"})
EXTEND = ("extend", {"order": "or_1", "version": 1})
CANCEL = ("cancel", {"order": "or_1"})
CHAT = ("chat", {"text": "hi", "key": "k"})


@pytest.mark.parametrize(
    "payload",
    [
        b"{", b"[]", b'"x"', b"NaN", b'{"type":"ping","id":1,"t0":2}', b"{}", b'{"id":1}',
        b'{"type":"buy","id":1}', b'{"type":7,"id":1}', b'{"type":"hellow","id":1}',
    ],
)  # fmt: skip
async def test_anything_but_hello_first_is_4400(stage: Stage, payload: bytes) -> None:
    """What is not a message, or not a hello, ends a connection that has not said hello."""
    screen = stage.connect()
    screen.say_raw(payload)
    assert await screen.closing() == 4400


async def test_an_ill_typed_hello_may_be_said_again(stage: Stage) -> None:
    """A hello with a wrong field is refused with its path; a right one is welcomed after it."""
    screen = stage.connect()
    screen.say_raw(b'{"type":"hello"}')
    refused = await screen.get("reject")
    assert (refused.get("re"), refused["code"], refused["field"]) == (None, "bad_request", "id")
    re = screen.say("hello", since={"epoch": "e", "seq": "1", "cseq": 0})
    refused = await screen.answer(re)
    assert (refused["code"], refused["field"]) == ("bad_request", "since.seq")
    screen.say("hello")
    await screen.get("welcome")


@pytest.mark.parametrize(
    ("token", "code", "close"),
    [
        ("nonsense", "unauthenticated", 4401),
        ("", "unauthenticated", 4401),
        ("viewer/ann/1", "unauthenticated", 4401),
        ("viewer/ann//st_other", "forbidden", 4403),
        ("viewer/banned", "forbidden", 4403),
    ],
)
async def test_a_refused_hello_is_told_why_then_closed(
    stage: Stage, token: str, code: str, close: int
) -> None:
    """`reject` comes first, then the close code that goes with it."""
    stage.truth.standings["banned"] = Standing(banned=True)
    screen = stage.connect()
    answer = await screen.answer(screen.say("hello", token=token))
    assert (answer["type"], answer["code"]) == ("reject", code)
    assert await screen.closing() == close
    assert screen.of("welcome") == []


async def test_no_such_stream_is_4404_and_leaves_no_key(stage: Stage) -> None:
    """A made-up stream id opens no room."""
    screen = stage.connect("st_nowhere")
    assert (await screen.answer(screen.say("hello")))["code"] == "not_found"
    assert await screen.closing() == 4404
    assert not stage.hub.rooms
    assert not stage.hub.by_tag


async def test_the_headers_token_serves_when_hello_has_none(stage: Stage) -> None:
    """`Authorization` is used without `hello.token`, which wins otherwise."""
    for in_hello, expected in ((None, "ann"), ("viewer/bob", "bob")):
        screen = Screen()
        screen.ear = stage.hub.accept(screen, stage.truth.stream_id, "viewer/ann", "peer")
        screen.say("hello", token=in_hello)
        assert (await screen.get("welcome"))["you"]["id"] == expected


async def test_commands_behind_hello_are_taken_in_order_after_welcome(stage: Stage) -> None:
    """Pipelined commands wait for the welcome, each is answered once."""
    screen = stage.connect()
    screen.say("hello", token="viewer/ann")
    for n in range(5):
        screen.say("buy", offer="of_1", qty=1, key=f"k{n}")
    assert screen.events == []
    await screen.get("order.reserved", 5)
    answers = [e["order"]["key"] for e in screen.of("order.reserved")]
    assert screen.events[0]["type"] == "welcome"
    assert answers == [f"k{n}" for n in range(5)]


async def test_the_line_behind_hello_is_bounded(stage: Stage) -> None:
    """A client that floods before its welcome is closed with 4429."""
    screen = stage.connect()
    screen.say("hello", token="viewer/ann")
    for n in range(100):
        screen.say("buy", offer="of_1", qty=1, key=f"k{n}")
    assert await screen.closing() == 4429


async def test_a_second_hello_is_a_bad_request(stage: Stage) -> None:
    """Hello is said once; the connection stays."""
    screen = await stage.enter()
    assert (await screen.answer(screen.say("hello")))["code"] == "bad_request"
    assert screen.closed_with is None


@pytest.mark.parametrize(("type_", "fields"), [*HOST_COMMANDS, BUY, BUNDLE, EXTEND, CANCEL, CHAT])
async def test_a_guest_may_only_watch_and_react(
    stage: Stage, type_: str, fields: dict[str, object]
) -> None:
    """Everything that needs a name is `unauthenticated` for a guest."""
    screen = await stage.enter()
    answer = await screen.answer(screen.say(type_, **fields))
    assert answer["code"] == "unauthenticated"
    assert stage.desk.commands == []


@pytest.mark.parametrize(("type_", "fields"), HOST_COMMANDS)
async def test_a_viewer_may_not_host(stage: Stage, type_: str, fields: dict[str, object]) -> None:
    """Host commands are `forbidden` for a viewer."""
    screen = await stage.enter("viewer/ann")
    assert (await screen.answer(screen.say(type_, **fields)))["code"] == "forbidden"
    assert stage.desk.commands == []


@pytest.mark.parametrize(("type_", "fields"), [BUY, BUNDLE, CANCEL])
async def test_a_host_may_not_buy(stage: Stage, type_: str, fields: dict[str, object]) -> None:
    """Selling and buying are different roles."""
    screen = await stage.enter("host/shop")
    assert (await screen.answer(screen.say(type_, **fields)))["code"] == "forbidden"


@pytest.mark.parametrize(
    ("token", "type_", "code"),
    [
        (None, "buy", "unauthenticated"),
        (None, "chat", "unauthenticated"),
        (None, "pin", "unauthenticated"),
        ("viewer/ann", "pin", "forbidden"),
        ("viewer/ann", "buy", "bad_request"),
        ("host/shop", "buy", "forbidden"),
        ("host/shop", "pin", "bad_request"),
        ("host/elsewhere", "pin", "forbidden"),
    ],
)
async def test_the_token_is_judged_before_the_shape(
    stage: Stage, token: str | None, type_: str, code: str
) -> None:
    """Who may not say a thing is told so, however ill it is typed."""
    screen = await stage.enter(token)
    answer = await screen.answer(screen.say(type_, qty=0, text=7))
    assert (answer["type"], answer["code"]) == ("reject", code)
    assert screen.closed_with is None


@pytest.mark.parametrize(
    ("token", "may"),
    [("viewer/a", True), ("host/shop", True), ("admin/a", True), ("host/x", False),
     ("service/s", False)],
)  # fmt: skip
async def test_viewers_and_the_streams_hosts_chat(stage: Stage, token: str, may: bool) -> None:
    """A service has no voice in a room, nor has the host of another shop."""
    screen = await stage.enter(token)
    answer = await screen.answer(screen.say("chat", text="hi", key="k"))
    assert (answer["type"] == "ok") is may
    assert answer.get("code") == (None if may else "forbidden")


async def test_only_the_streams_own_host_removes_chat(stage: Stage) -> None:
    """`chat.remove` is `forbidden` to another shop's host, and told once from the own."""
    own, other = await stage.enter("host/shop"), await stage.enter("host/elsewhere")
    said = (await own.answer(own.say("chat", text="hi", key="k")))["message"]["id"]
    refused = await other.answer(other.say("chat.remove", message=said))
    assert refused["code"] == "forbidden"
    unknown = await own.answer(own.say("chat.remove", message="msg_1"))
    assert (unknown["code"], unknown["field"]) == ("not_found", "message")
    for _ in range(2):
        assert (await own.answer(own.say("chat.remove", message=said)))["type"] == "ok"
    await own.answer(own.say("chat", text="last", key="l"))
    await other.get("chat", 2)
    assert [event["message"] for event in other.of("chat.removed")] == [said]


async def test_ping_is_answered_on_the_clock_of_redis(stage: Stage) -> None:
    """`pong` repeats t0 and tells the server's time."""
    screen = await stage.enter()
    pong = await screen.answer(screen.say("ping", t0=-5))
    assert (pong["type"], pong["t0"]) == ("pong", -5)
    assert abs(pong["now"] - stage.hub.clock.now_ms()) < 5_000


async def test_each_malformed_command_is_answered_and_the_connection_stays(stage: Stage) -> None:
    """Thousands of unknown types are thousands of rejects, and nothing else."""
    screen = await stage.enter("viewer/ann")
    for _ in range(2_000):
        screen.say("nothing.known")
    screen.say("buy", offer="of_1", qty="1", key="k")
    await screen.get("reject", 2_001)
    assert screen.events[-1]["field"] == "qty"
    assert screen.closed_with is None


async def test_what_is_not_a_message_ends_an_open_connection(stage: Stage) -> None:
    """Unparsable bytes are 4400 at any time."""
    screen = await stage.enter("viewer/ann")
    screen.say_raw(b'{"type":')
    assert await screen.closing() == 4400


async def test_a_fresh_token_prolongs_and_a_bad_one_keeps_the_connection(stage: Stage) -> None:
    """`auth` takes a token of the same user only; what is refused changes nothing."""
    soon = stage.hub.clock.now_ms() + 1_500
    screen = await stage.enter(f"viewer/ann/{soon}")
    for token in ("nonsense", "viewer/bob", "viewer/ann//st_other"):
        refused = await screen.answer(screen.say("auth", token=token))
        assert refused["code"] == "unauthenticated"
    assert (await screen.answer(screen.say("auth", token="viewer/ann")))["type"] == "ok"
    await until(lambda: stage.hub.clock.now_ms() > soon + 1_200, "the old token's end")
    assert screen.closed_with is None


async def test_an_expired_token_ends_the_connection(stage: Stage) -> None:
    """The clock of Redis says when: 4401."""
    screen = await stage.enter(f"viewer/ann/{stage.hub.clock.now_ms() + 500}")
    assert await screen.closing() == 4401


async def test_a_muted_user_is_told_at_hello_and_refused(stage: Stage) -> None:
    """A mute from before holds for a new connection, and only its chat."""
    stage.truth.standings["ann"] = Standing(muted_until_ms=2**53 - 1)
    screen = await stage.enter("viewer/ann")
    assert "until" not in await screen.get("muted")
    assert (await screen.answer(screen.say(*CHAT[:1], **CHAT[1])))["code"] == "muted"
    assert (await screen.answer(screen.say("ping", t0=1)))["type"] == "pong"


async def test_a_name_is_cut_to_forty_code_points(stage: Stage) -> None:
    """Names that others see are bounded in code points, not bytes."""
    screen = await stage.enter("viewer/" + "直" * 60)
    assert screen.events[0]["you"]["name"] == "直" * 40


async def test_silence_ends_a_connection_and_so_does_no_hello(redis_url: str) -> None:
    """No hello in time, and no byte for two heartbeats, are 4408; who answers pings stays."""
    limits = msgspec.structs.replace(QUICK, hello_deadline_ms=200, heartbeat_ms=200)
    async with open_stage(redis_url, Truth(fact_n=0), limits) as stage:
        mute, deaf, alive = stage.connect(), await stage.enter(), await stage.enter()
        loop = asyncio.get_running_loop()

        def beat() -> bool:
            alive.heard_at = loop.time()
            return mute.closed_with is not None and deaf.closed_with is not None

        await until(beat, "both closes")
        assert (mute.closed_with, deaf.closed_with) == (Close.TIMEOUT, Close.TIMEOUT)
        assert alive.closed_with is None
        assert alive.pings > 0
        assert len(stage.hub.sessions) == 1


async def test_nothing_is_kept_of_a_connection_that_ended(stage: Stage) -> None:
    """Sessions, users and token buckets are empty once everybody has left."""
    soon = stage.hub.clock.now_ms() + 60_000
    screens = [await stage.enter(f"viewer/u{n}/{soon + n}") for n in range(5)]
    half = stage.connect()
    half.say("hello", token="viewer/late")
    for screen in (*screens, half):
        screen.abort()
    await until(lambda: not stage.hub.sessions, "the end of the sessions")
    room = stage.hub.rooms[stage.truth.stream_id]
    await until(lambda: not room.users, "the end of the users")
    assert not room.sessions
    assert len(room.lanes) == 0
    assert stage.hub.wheel.watched() == (0, 0)


async def test_a_failing_collaborator_is_internal_and_not_silence(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A fault while hello is answered is told to the client and logged."""

    async def broken(stream_id: str) -> None:
        raise ValueError("a fault")

    monkeypatch.setattr(stage.truth, "room", broken)
    screen = stage.connect()
    assert (await screen.answer(screen.say("hello")))["code"] == "internal"
    assert await screen.closing() == 4503
    assert "a fault" in caplog.text


async def test_a_fault_while_a_token_is_judged_is_internal(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """`auth` is answered whatever happens; the connection stays, and may try again."""
    screen = await stage.enter("viewer/ann")

    async def broken(token: str, stream_id: str) -> None:
        raise ValueError("a fault")

    with monkeypatch.context() as patch:
        patch.setattr(stage.hub, "verify", broken)
        for _ in range(2):
            answer = await screen.answer(screen.say("auth", token="viewer/ann"))
            assert (answer["type"], answer["code"]) == ("reject", "internal")
    assert (await screen.answer(screen.say("auth", token="viewer/ann")))["type"] == "ok"
    assert "a fault" in caplog.text


async def test_a_fault_while_chat_is_appended_is_internal_for_that_batch(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Every line of the batch is answered, and those behind it are said."""
    screen = await stage.enter("viewer/ann")
    append, faults = stage.log.append_lines, [ValueError("a fault")]

    async def broken(stream_id: str, lines: Sequence[Line]) -> list[Said | None]:
        if faults:
            raise faults.pop()
        return await append(stream_id, lines)

    monkeypatch.setattr(stage.log, "append_lines", broken)
    asked = [screen.say("chat", text="hi", key=f"k{n}") for n in range(150)]
    answers = [await screen.answer(re) for re in asked]
    assert [answer.get("code") for answer in answers] == ["internal"] * 100 + [None] * 50
    assert "a fault" in caplog.text
