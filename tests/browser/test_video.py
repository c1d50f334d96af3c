"""Video on the viewer's page: from ffmpeg by nginx-rtmp as HLS to a picture that moves."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.browser.browser_rig import AWAY, PHONE, REFUSED, People
from tests.integration.ingest_rig import publishing
from tests.integration.test_ingest import studio

pytestmark = pytest.mark.asyncio(loop_scope="session")

PICTURE_MS = 60_000.0  # encoder, segments and a slow core

MOVES = """
(video) => new Promise((resolve) => {
  const look = () => (video.currentTime > 0.5 && video.videoWidth ? resolve(video.videoWidth)
    : setTimeout(look, 100));
  look();
})
"""


async def test_who_waits_sees_the_show_begin(
    people: People, redis_url: str, database_url: str, tmp_path: Path
) -> None:
    """The page of who waits plays the video as soon as there is one, without a reload; a pin says
    which moment it belongs to and is shown."""
    async with studio(redis_url, database_url, tmp_path, "30") as (shop, server, _):
        stream = await shop.stream(live=False)
        key = (await shop.made("POST", f"/v1/streams/{stream}/key"))["key"]
        ann = await people.person("ann", PHONE)
        # Until the first segment is there, the playlist is not.
        ann.bears += [REFUSED, AWAY]
        await ann.page.goto(f"http://127.0.0.1:{shop.port}/s/{stream}")
        await ann.page.evaluate("window.sameAsBefore = true")
        with publishing(f"{server.rtmp}/{key}"):
            video = await ann.page.wait_for_selector("video#video", state="attached")
            assert video is not None
            ann.page.set_default_timeout(PICTURE_MS)
            assert await video.evaluate(MOVES) == 320
            product = await shop.product()
            pin = await shop.made("POST", f"/v1/streams/{stream}/pins", {"product": product})
            assert pin["media_at"] > 0
            shown = ann.page.locator("#pinned article").filter(has_text=pin["product"]["title"])
            await shown.wait_for(state="visible")
            assert await ann.page.evaluate("window.sameAsBefore")
