"""Video for real: ffmpeg publishes to nginx-rtmp, livecart says who may, HLS is what comes out."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from livecart.settings import load
from livecart.worker import composed
from orders.keeper import Keeper
from tests.contract.http_rig import Shop, serving, variables
from tests.integration.ingest_rig import Nginx, free_port, lacking, nginx, publishing

WAIT_S = 40.0
LOOK_S = 0.1

if lacking() and os.environ.get("CI") != "true":
    pytest.skip(
        f"not installed: {', '.join(lacking())} (make setup-browser)", allow_module_level=True
    )


async def until(met: Callable[[], Awaitable[bool]], what: str) -> None:
    """Wait for a condition."""
    ends = time.monotonic() + WAIT_S
    while not await met():
        assert time.monotonic() < ends, what
        await asyncio.sleep(LOOK_S)


@asynccontextmanager
async def studio(
    redis_url: str, database_url: str, folder: Path, grace_s: str
) -> AsyncIterator[tuple[Shop, Nginx, Keeper]]:
    """livecart, its keeper and an nginx that asks it."""
    rtmp, http = free_port(), free_port()
    settings = {
        "LIVECART_INGEST_GRACE_S": grace_s,
        "LIVECART_PLAYBACK_URL": f"http://127.0.0.1:{http}/hls/{{name}}.m3u8",
        "LIVECART_MEDIA_SOURCES": f"http://127.0.0.1:{http}",
    }
    async with (
        serving(redis_url, database_url, **settings) as shop,
        composed(load(variables(redis_url, database_url))) as keeper,
    ):
        with nginx(folder, shop.port, (rtmp, http)) as server:
            await until(lambda: _answers(server.rtmp_port), "nginx does not listen")
            yield shop, server, keeper


async def _answers(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


async def _keyed(shop: Shop) -> tuple[str, str]:
    stream = await shop.stream(live=False)
    return stream, (await shop.made("POST", f"/v1/streams/{stream}/key"))["key"]


async def _ends_at(shop: Shop, stream: str) -> object:
    sql = "select ends_at from ingests where stream = $1"
    return await shop.services.pool.fetchval(sql, stream)


async def test_a_show_from_an_encoder_to_the_playlist(
    redis_url: str, database_url: str, tmp_path: Path
) -> None:
    """Publishing goes live, HLS with programme times is where `playback_url` says, back within the
    grace is still live, and who stays away ends it. A wrong key never gets that far."""
    studied = studio(redis_url, database_url, tmp_path, "3")
    async with studied as (shop, server, keeper), httpx.AsyncClient() as video:
        stream, key = await _keyed(shop)

        async def shown(status: str) -> bool:
            found = await shop.made("GET", f"/v1/streams/{stream}")
            return bool(found["status"] == status)

        async def playlist() -> str:
            url = (await shop.made("GET", f"/v1/streams/{stream}"))["playback_url"]
            assert key not in url
            answer = await video.get(url)
            return answer.text if answer.is_success else ""

        async def segments(least: int) -> bool:
            return (await playlist()).count("#EXTINF") >= least

        async def left() -> bool:
            return await _ends_at(shop, stream) is not None

        with publishing(f"{server.rtmp}/sk_of_nobody") as stranger:
            assert await asyncio.to_thread(stranger.wait, WAIT_S) != 0
        assert await shown("scheduled")
        with publishing(f"{server.rtmp}/{key}"):
            await until(lambda: shown("live"), "publishing did not start the stream")
            await until(lambda: segments(1), "there is no playlist")
            text = await playlist()
            assert "#EXT-X-PROGRAM-DATE-TIME:" in text
            segment = next(line for line in text.splitlines() if line.endswith(".ts"))
            answer = await video.get(f"{server.http}/hls/{segment.rpartition('/')[2]}")
            assert (answer.status_code, answer.content[:1]) == (200, b"G")
        await until(left, "the stop was not heard of")
        await keeper.round()
        assert await shown("live")
        with publishing(f"{server.rtmp}/{key}"):
            await until(lambda: _not(left), "the return was not heard of")
        await until(left, "the second stop was not heard of")

        async def ended() -> bool:
            await keeper.round()
            return await shown("ended")

        await until(ended, "the grace did not end the stream")
        with publishing(f"{server.rtmp}/{key}") as late:
            assert await asyncio.to_thread(late.wait, WAIT_S) != 0
        assert not [name for name in server.names() if key in name]
        assert key not in server.log


async def _not(met: Callable[[], Awaitable[bool]]) -> bool:
    return not await met()
