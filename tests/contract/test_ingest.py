"""Media servers that tell who publishes: each server's words, and what becomes of the stream."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import httpx
import jwt
import msgspec
import pytest

from livecart.settings import load
from livecart.worker import composed
from orders.keeper import Keeper
from tests.contract.http_rig import Shop, problem, serving, token, variables

LIVEKIT = "what LiveKit signs with in tests: 012345"
SETTINGS = {
    "LIVECART_DATA_KEY": base64.urlsafe_b64encode(b"0123456789abcdef" * 2).decode(),
    "LIVECART_INGEST_GRACE_S": "0",
    "LIVECART_LIVEKIT_SECRET": LIVEKIT,
    "LIVECART_PLAYBACK_URL": "https://cdn.example/hls/{name}.m3u8",
}
HOOKS = "/v1/hooks/ingest"


@pytest.fixture
async def shop(redis_url: str, database_url: str) -> AsyncIterator[Shop]:
    """A server whose grace is over at once, as soon as a keeper looks."""
    async with serving(redis_url, database_url, **SETTINGS) as shop:
        yield shop


@asynccontextmanager
async def keeping(redis_url: str, database_url: str) -> AsyncIterator[Keeper]:
    """A keeper's process, whose rounds the test makes."""
    async with composed(load(variables(redis_url, database_url))) as keeper:
        yield keeper


async def rtmp(
    shop: Shop, stream: str, key: str, kind: str, who: str = "7", secret: str = ""
) -> httpx.Response:
    """Post what nginx-rtmp posts of a publisher whose key is the name."""
    call = {"start": "publish", "stop": "publish_done", "alive": "update_publish"}[kind]
    form = {"app": "live", "addr": "127.0.0.1", "clientid": who, "call": call, "name": key}
    query = f"?secret={secret}" if secret else ""
    return await shop.http.post(f"{HOOKS}/rtmp{query}", data=form)


async def rtmp_with_name(
    shop: Shop, stream: str, key: str, kind: str, who: str = "7"
) -> httpx.Response:
    """Post the same of one who names the stream, with the key in the arguments."""
    call = {"start": "publish", "stop": "publish_done"}[kind]
    form = {"clientid": who, "call": call, "name": stream, "type": "live", "key": key}
    return await shop.http.post(f"{HOOKS}/rtmp", data=form)


async def srs(shop: Shop, stream: str, key: str, kind: str, who: str = "7") -> httpx.Response:
    """Post what SRS posts."""
    action = {"start": "on_publish", "stop": "on_unpublish"}[kind]
    body = {
        "action": action, "client_id": who, "ip": "127.0.0.1", "vhost": "__defaultVhost__",
        "app": "live", "tcUrl": "rtmp://x/live", "stream": stream, "param": f"?key={key}",
    }  # fmt: skip
    return await shop.http.post(f"{HOOKS}/srs", json=body)


async def mediamtx(shop: Shop, stream: str, key: str, kind: str, who: str = "7") -> httpx.Response:
    """Post what MediaMTX asks, and once it has a yes, what its hooks post."""
    body = {"path": f"live/{stream}", "query": f"key={key}", "id": who}
    if kind == "start":
        asked = body | {"action": "publish", "user": "", "password": "", "protocol": "rtmp"}
        answer = await shop.http.post(f"{HOOKS}/mediamtx", json=asked)
        if not answer.is_success:
            return answer
    action = {"start": "ready", "stop": "notready"}[kind]
    return await shop.http.post(f"{HOOKS}/mediamtx", json=body | {"action": action})


async def livekit(
    shop: Shop, stream: str, key: str, kind: str, who: str = "7", secret: str = LIVEKIT,
    **more: Any,
) -> httpx.Response:  # fmt: skip
    """Post a webhook of LiveKit; its ingress has a key of its own."""
    event = {"start": "ingress_started", "stop": "ingress_ended"}[kind]
    ingress = {"ingressId": "IN_1", "roomName": stream, "state": {"startedAt": who}}
    body = msgspec.json.encode({"event": event, "ingressInfo": ingress} | more)
    return await signed(shop, body, secret)


async def signed(shop: Shop, body: bytes, secret: str = LIVEKIT, **claims: Any) -> httpx.Response:
    """Post a body with LiveKit's signature of it."""
    digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
    now_s = shop.services.clock.now_ms() // 1000
    said = {"iss": "APIkey", "nbf": now_s, "exp": now_s + 300, "sha256": digest} | claims
    headers = {
        "Authorization": jwt.encode(said, secret, algorithm="HS256"),
        "Content-Type": "application/webhook+json",
    }
    return await shop.http.post(f"{HOOKS}/livekit", content=body, headers=headers)


Server = Callable[..., Awaitable[httpx.Response]]
SERVERS: dict[str, Server] = {
    "rtmp": rtmp, "rtmp with a name": rtmp_with_name, "srs": srs, "mediamtx": mediamtx,
    "livekit": livekit,
}  # fmt: skip


async def keyed_stream(shop: Shop) -> tuple[str, str]:
    """Return a scheduled stream and its key."""
    stream = await shop.stream(live=False)
    return stream, (await shop.made("POST", f"/v1/streams/{stream}/key"))["key"]


async def status(shop: Shop, stream: str) -> str:
    """Return the status of a stream."""
    word: str = (await shop.made("GET", f"/v1/streams/{stream}"))["status"]
    return word


def well(answer: httpx.Response) -> None:
    """Hold an answer to what each media server takes as a yes."""
    assert answer.status_code in (200, 302), answer.text
    if answer.status_code == 200:
        assert answer.json() == {"code": 0}


async def test_a_stream_lives_while_somebody_publishes(
    shop: Shop, redis_url: str, database_url: str
) -> None:
    """Publishing starts it with a URL that has no key in it; a stop ends it after the grace."""
    async with keeping(redis_url, database_url) as keeper:
        for name, server in SERVERS.items():
            stream, key = await keyed_stream(shop)
            say = partial(server, shop, stream, key)
            well(await say("start"))
            live = await shop.made("GET", f"/v1/streams/{stream}")
            expected = ("live", f"https://cdn.example/hls/{stream}.m3u8")
            assert (live["status"], live["playback_url"]) == expected, name
            well(await say("start"))  # said twice
            await keeper.round()
            assert await status(shop, stream) == "live", name
            well(await say("stop"))
            well(await say("stop"))
            assert await status(shop, stream) == "live", name  # until the keeper looks
            await keeper.round()
            assert await status(shop, stream) == "ended", name
            well(await say("stop"))
            problem(await say("start"), 409, "conflict", name)
            assert await status(shop, stream) == "ended", name


async def test_who_comes_back_within_the_grace_keeps_it_live(
    redis_url: str, database_url: str
) -> None:
    """Neither his own stop before, nor one that comes late, ends the stream under him."""
    settings = SETTINGS | {"LIVECART_INGEST_GRACE_S": "600"}
    async with (
        serving(redis_url, database_url, **settings) as shop,
        keeping(redis_url, database_url) as keeper,
    ):
        for name, server in SERVERS.items():
            stream, key = await keyed_stream(shop)
            say = partial(server, shop, stream, key)
            well(await say("start", who="1"))
            well(await say("stop", who="1"))
            assert await ends_at(shop, stream) is not None, name
            well(await say("start", who="2"))
            assert await ends_at(shop, stream) is None, name
            well(await say("stop", who="1"))
            well(await say("start", who="1"))  # sent again: who 1 was has gone
            assert await ends_at(shop, stream) is None, name
            well(await say("stop", who="2"))
            assert await ends_at(shop, stream) is not None, name
            await keeper.round()
            assert await status(shop, stream) == "live", name


async def ends_at(shop: Shop, stream: str) -> object:
    """Return when a stream ends unless somebody publishes."""
    sql = "select ends_at from ingests where stream = $1"
    return await shop.services.pool.fetchval(sql, stream)


async def test_a_stop_that_overtakes_its_start_leaves_nothing_live(shop: Shop) -> None:
    """Of a session that is known to have stopped, a start that comes late starts nothing."""
    for name, server in SERVERS.items():
        stream, key = await keyed_stream(shop)
        say = partial(server, shop, stream, key)
        well(await say("stop"))
        well(await say("start"))
        assert await status(shop, stream) == "scheduled", name
        well(await say("start", who="8"))
        assert await status(shop, stream) == "live", name


async def test_the_grace_outlives_who_heard_of_the_stop(redis_url: str, database_url: str) -> None:
    """The process that was told is gone: the keeper ends the stream all the same."""
    streams = []
    async with serving(redis_url, database_url, **SETTINGS) as shop:
        for server in SERVERS.values():
            stream, key = await keyed_stream(shop)
            well(await server(shop, stream, key, "start"))
            well(await server(shop, stream, key, "stop"))
            streams.append(stream)
    async with keeping(redis_url, database_url) as keeper:
        await keeper.round()
    async with serving(redis_url, database_url) as shop:
        assert [await status(shop, stream) for stream in streams] == ["ended"] * len(SERVERS)


async def test_a_wrong_key_is_refused(shop: Shop) -> None:
    """No key, one that was replaced, another stream's: refused, and nothing is started."""
    for name, server in SERVERS.items():
        if server is livekit:  # it has no keys of ours
            continue
        stream, old = await keyed_stream(shop)
        other, others = await keyed_stream(shop)
        new = (await shop.made("POST", f"/v1/streams/{stream}/key"))["key"]
        assert new != old
        for kind in ("start", "stop"):
            for key in (old, "", "sk_ä\u0000"):
                if (key, kind) == (old, "stop"):  # whoever came with it goes with it
                    continue
                answer = await server(shop, stream, key, kind)
                problem(answer, 401, "unauthenticated", name)
            if server is not rtmp:  # there the key is all there is
                problem(await server(shop, stream, others, kind), 403, "forbidden", name)
        assert [await status(shop, s) for s in (stream, other)] == ["scheduled"] * 2, name
        well(await server(shop, stream, new, "start"))


async def test_livekit_is_who_has_its_secret(shop: Shop) -> None:
    """Another signature, body or time is refused, and so is a room that no stream is called as."""
    stream, key = await keyed_stream(shop)
    bad = await livekit(shop, stream, key, "start", secret="y" * 40)
    problem(bad, 401, "unauthenticated")
    body = msgspec.json.encode({"event": "room_finished", "room": {"name": stream}})
    for claims in ({"sha256": "AAAA"}, {"exp": 1}, {"nbf": 2**33}, {"sha256": 5}):
        problem(await signed(shop, body, **claims), 401, "unauthenticated")
    nobody = await shop.http.post(f"{HOOKS}/livekit", content=body)
    problem(nobody, 401, "unauthenticated")
    problem(await livekit(shop, "st_none", key, "start"), 404, "not_found")
    problem(await livekit(shop, "st_none", key, "stop"), 404, "not_found")
    problem(await signed(shop, b'{"event": "room_finished"}'), 400, "bad_request")
    problem(await signed(shop, b"no JSON"), 400, "bad_request")
    assert await status(shop, stream) == "scheduled"


async def told_of_track(
    shop: Shop, stream: str, event: str, kind: str, sid: str, who: str = "STANDARD", track: int = 1
) -> None:
    """Post what LiveKit says of a participant's track."""
    tells = {"sid": f"TR_{track}"} | ({"type": kind} if kind else {})
    body = {
        "event": event, "room": {"name": stream}, "participant": {"sid": sid, "kind": who},
        "track": tells,
    }  # fmt: skip
    well(await signed(shop, msgspec.json.encode(body)))


async def test_of_several_pictures_the_last_one_ends_it(shop: Shop) -> None:
    """A shared screen may come and go beside the camera; who publishes again has started again."""
    stream, _ = await keyed_stream(shop)
    say = partial(told_of_track, shop, stream)
    for track in (1, 2):
        await say("track_published", "VIDEO", "PA_1", track=track)
    await say("track_unpublished", "VIDEO", "PA_1", track=2)
    assert await ends_at(shop, stream) is None
    await say("track_unpublished", "VIDEO", "PA_1", track=1)
    assert await ends_at(shop, stream) is not None
    await say("track_published", "VIDEO", "PA_1", track=3)
    assert await ends_at(shop, stream) is None
    await say("track_published", "VIDEO", "PA_1", track=4)
    await say("track_published", "VIDEO", "PA_11", track=5)
    await say("participant_left", "", "PA_1")
    assert await ends_at(shop, stream) is None
    await say("participant_left", "", "PA_11")
    assert await ends_at(shop, stream) is not None


async def test_a_second_encoder_that_srs_refuses_ends_nothing(shop: Shop) -> None:
    """SRS asks about it, refuses it as busy and says that it went, in whatever order."""
    stream, key = await keyed_stream(shop)
    say = partial(srs, shop, stream, key)
    well(await say("start", who="1"))
    for kinds in (("start", "stop"), ("stop", "start")):
        for kind in kinds:
            well(await say(kind, who=f"of {kinds}"))
        assert await ends_at(shop, stream) is None
    well(await say("stop", who="1"))
    assert await ends_at(shop, stream) is not None


async def test_the_key_before_is_good_to_go_with(shop: Shop) -> None:
    """Who published when another key was made can be heard to stop, and cannot come back."""
    for name, server in SERVERS.items():
        if server is livekit:
            continue
        stream, old = await keyed_stream(shop)
        well(await server(shop, stream, old, "start"))
        await shop.made("POST", f"/v1/streams/{stream}/key")
        problem(await server(shop, stream, old, "start"), 401, "unauthenticated", name)
        assert await ends_at(shop, stream) is None, name
        well(await server(shop, stream, old, "stop"))
        assert await ends_at(shop, stream) is not None, name


async def test_a_picture_in_a_room_is_a_publisher(shop: Shop) -> None:
    """A video track starts the stream; sound does not, nor do the tracks of an ingress."""
    stream, _ = await keyed_stream(shop)

    say = partial(told_of_track, shop, stream)
    await say("track_published", "", "PA_1")
    await say("track_published", "VIDEO", "PA_1", "INGRESS")
    await say("room_started", "", "PA_1")
    assert await status(shop, stream) == "scheduled"
    await say("track_published", "VIDEO", "PA_1")
    assert await status(shop, stream) == "live"
    await say("participant_left", "", "PA_2")
    assert await ends_at(shop, stream) is None
    await say("participant_left", "", "PA_1")
    assert await ends_at(shop, stream) is not None
    await say("track_published", "VIDEO", "PA_3")
    assert await ends_at(shop, stream) is None
    well(await signed(shop, msgspec.json.encode(
        {"event": "room_finished", "room": {"name": stream}})))  # fmt: skip
    assert await ends_at(shop, stream) is not None


async def test_what_a_host_started_by_hand_a_host_ends(
    shop: Shop, redis_url: str, database_url: str
) -> None:
    """The video of such a stream may come and go; its own URL stays."""
    made = await shop.made(
        "POST", "/v1/streams", {"title": "x", "playback_url": "https://own.example/x.m3u8"}
    )
    stream = made["id"]
    key = (await shop.made("POST", f"/v1/streams/{stream}/key"))["key"]
    await shop.made("POST", f"/v1/streams/{stream}/start")
    well(await rtmp(shop, stream, key, "start"))
    well(await rtmp(shop, stream, key, "stop"))
    async with keeping(redis_url, database_url) as keeper:
        await keeper.round()
    now = await shop.made("GET", f"/v1/streams/{stream}")
    assert (now["status"], now["playback_url"]) == ("live", "https://own.example/x.m3u8")
    await shop.made("POST", f"/v1/streams/{stream}/end")
    problem(await shop.call("POST", f"/v1/streams/{stream}/key", token=shop.host), 409, "conflict")
    problem(await rtmp(shop, stream, key, "alive"), 409, "conflict")  # who still publishes is out


async def test_nginx_is_told_the_name_and_no_field_is_there_twice(shop: Shop) -> None:
    """The key becomes the stream's id; what the publisher's URL adds cannot pass for a field."""
    stream, key = await keyed_stream(shop)
    answer = await rtmp(shop, stream, key, "start")
    assert (answer.status_code, answer.headers["location"]) == (302, stream)
    assert key not in answer.text + str(answer.headers)
    other, others = await keyed_stream(shop)
    for forged in (
        f"call=publish&clientid=1&name={stream}&key={others}&name={other}",
        f"call=publish&clientid=1&name={other}&key={others}&key={key}",
        f"call=publish&name={others}&call=play",
        "name=x",
        "&".join(f"a{n}=1" for n in range(200)) + "&call=publish",
        "call=%ff",
    ):
        answer = await shop.http.post(f"{HOOKS}/rtmp", content=forged)
        assert answer.status_code in (200, 400), forged
    assert await status(shop, other) == "scheduled"
    playing = await shop.http.post(f"{HOOKS}/rtmp", data={"call": "play", "name": stream})
    well(playing)


async def test_an_update_mends_what_was_taken_for_an_end(shop: Shop) -> None:
    """nginx-rtmp says every few seconds that somebody publishes: no end is due while it does."""
    stream, key = await keyed_stream(shop)
    for kind in ("start", "stop"):
        well(await rtmp(shop, stream, key, kind))
    assert await ends_at(shop, stream) is not None
    well(await rtmp(shop, stream, key, "alive", who="8"))
    assert await ends_at(shop, stream) is None


async def test_mediamtx_may_let_read_but_not_rule(shop: Shop) -> None:
    """Its readers are let in; a question about its own API is not answered with a yes."""
    for action, code in (("read", 200), ("playback", 200), ("api", 400), ("", 400)):
        body = {"action": action, "path": "x", "query": "", "id": None}
        answer = await shop.http.post(f"{HOOKS}/mediamtx", json=body)
        assert answer.status_code == code, action


async def test_who_guesses_keys_is_paced(redis_url: str, database_url: str) -> None:
    """All of one address count as one; who publishes stays; with the secret nobody is paced."""
    secret = "what media servers know: 0123456789abcdef"
    slow = SETTINGS | {"LIVECART_SELL_PER_S": "0.1", "LIVECART_SELL_BURST": "2"}
    async with serving(redis_url, database_url, **slow) as shop:
        stream, key = await keyed_stream(shop)
        for server in (srs, mediamtx):
            problem(await server(shop, stream, "sk_x", "stop"), 401, "unauthenticated")
        for server in (rtmp, srs, mediamtx):
            answer = await server(shop, stream, key, "start")
            problem(answer, 429, "rate_limited")
            assert int(answer.headers["retry-after"]) >= 1
        well(await rtmp(shop, stream, key, "alive"))
    async with serving(redis_url, database_url, **slow, LIVECART_INGEST_SECRET=secret) as shop:
        shop.http.headers["Livecart-Ingest-Secret"] = secret
        for _ in range(5):
            well(await srs(shop, stream, key, "start"))


async def test_with_a_secret_a_key_is_not_enough(redis_url: str, database_url: str) -> None:
    """Media servers must send it, in a header or in the query."""
    secret = "what media servers know: 0123456789abcdef"
    async with serving(redis_url, database_url, **SETTINGS, LIVECART_INGEST_SECRET=secret) as shop:
        stream, key = await keyed_stream(shop)
        for server in (rtmp, srs, mediamtx):
            problem(await server(shop, stream, key, "start"), 401, "unauthenticated")
        problem(await rtmp(shop, stream, key, "start", secret="x"), 401, "unauthenticated")
        assert await status(shop, stream) == "scheduled"
        well(await rtmp(shop, stream, key, "start", secret=secret))
        shop.http.headers["Livecart-Ingest-Secret"] = secret
        well(await srs(shop, stream, key, "stop"))


async def test_who_may_make_a_key_and_that_it_is_nowhere(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    """The host of the stream alone; the key is in one answer, and in no row and no log line."""
    with caplog.at_level(logging.DEBUG):
        stream, key = await keyed_stream(shop)
        stranger = token("host", "h", shop="shop-2")
        path = f"/v1/streams/{stream}/key"
        problem(await shop.call("POST", path, token=stranger), 403, "forbidden")
        for server in (rtmp, rtmp_with_name, srs, mediamtx):
            await server(shop, stream, key, "start")
            await server(shop, stream, key + "x", "start")
        await shop.http.post(f"{HOOKS}/srs", json={"action": "on_publish", "stream": [key]})
    rows = await shop.services.pool.fetch("select * from ingests")
    assert rows
    assert key not in str(rows)
    ours = [r.getMessage() for r in caplog.records if not r.name.startswith(("httpx", "httpcore"))]
    assert ours
    assert not [line for line in ours if key in line]


async def test_viewers_who_wait_learn_where_the_video_is(shop: Shop) -> None:
    """`stream.started` has the URL that publishing brought."""
    stream, key = await keyed_stream(shop)
    path = f"/v1/streams/{stream}/events"
    async with shop.http.stream("GET", path) as feed, asyncio.timeout(10):
        lines = feed.aiter_lines()
        async for line in lines:
            if '"welcome"' in line:
                break
        well(await rtmp(shop, stream, key, "start"))
        async for line in lines:
            if '"stream.started"' in line:
                break
    assert f'"playback_url":"https://cdn.example/hls/{stream}.m3u8"' in line


async def test_video_that_comes_later_is_told_and_starts_nothing_anew(shop: Shop) -> None:
    """Viewers of a stream that a host started get the URL once, and webhooks no second start."""
    stream, key = await keyed_stream(shop)
    hook = {"url": "https://shop.example/hook", "events": ["stream.*"]}
    await shop.made("POST", "/v1/webhooks", hook)
    live = await shop.made("POST", f"/v1/streams/{stream}/start")
    told = "select count(*) from hook_outbox where stream = $1"
    before = await shop.services.pool.fetchval(told, stream)
    path = f"/v1/streams/{stream}/events"
    async with shop.http.stream("GET", path) as feed, asyncio.timeout(10):
        lines = feed.aiter_lines()
        async for line in lines:
            if '"welcome"' in line:
                break
        for _ in range(2):
            well(await rtmp(shop, stream, key, "start"))
        await shop.made("POST", f"/v1/streams/{stream}/end")
        kinds = []
        async for line in lines:
            if line.startswith("data:") and '"stream.' in line:
                kinds.append(msgspec.json.decode(line.removeprefix("data:")))
                if kinds[-1]["type"] == "stream.ended":
                    break
    *_, started, ended = kinds
    assert ended["type"] == "stream.ended"
    assert [one.get("reason") for one in kinds].count("video") == 1
    assert (started["type"], started["at"], started["playback_url"]) == (
        "stream.started", live["started_at"], f"https://cdn.example/hls/{stream}.m3u8",
    )  # fmt: skip
    after = await shop.services.pool.fetchval(told, stream)
    assert (before, after) == (1, 2)  # the start, and the end


async def test_a_stream_that_cannot_be_ended_keeps_no_other_from_it(
    shop: Shop, redis_url: str, database_url: str
) -> None:
    """What Postgres refuses to end is tried again each round, and whoever is behind it ends."""
    streams = []
    for _ in range(3):
        stream, key = await keyed_stream(shop)
        for kind in ("start", "stop"):
            well(await rtmp(shop, stream, key, kind))
        streams.append(stream)
    pool, bad = shop.services.pool, streams[0]
    await pool.execute(f"""
        create function stay() returns trigger language plpgsql as
            $$ begin raise 'it stays'; end $$;
        create trigger stay before update on streams for each row
            when (new.id = '{bad}' and new.status = 'ended') execute function stay();
    """)
    async with keeping(redis_url, database_url) as keeper:
        await keeper.end_unfed()
        assert [await status(shop, stream) for stream in streams] == ["live", "ended", "ended"]
        await pool.execute("drop trigger stay on streams")
        await keeper.end_unfed()
        assert await status(shop, bad) == "ended"
