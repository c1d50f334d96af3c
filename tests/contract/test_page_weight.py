"""What a viewer's page weighs over the wire before the video, as it is really served."""

from __future__ import annotations

import re
from urllib.parse import urljoin

import pytest

from tests.contract.http_rig import serving

BYTES_MAX = 60_000
LANGUAGES = ("en", "zh-TW", "zh-CN")
ASKED_BY = (
    r'<(?:script|img)[^>]*\ssrc="([^"]+)"',
    r'<link rel="(?!apple)[^>]*\shref="([^"]+)"',  # that one is fetched by an iPhone which installs
    r'\bfrom "([^"]+)"',
    r'@import "([^"]+)"',
    r'url\("?([^")]+)"?\)',
)


@pytest.mark.parametrize("language", LANGUAGES)
async def test_a_viewers_page_is_light(redis_url: str, database_url: str, language: str) -> None:
    """The page and everything that it loads come to at most 60 kB, headers of answers included."""
    weights: dict[str, int] = {}
    async with serving(redis_url, database_url) as shop:
        waiting = ["/s/st_any"]
        while waiting:
            address = waiting.pop()
            if address in weights or address.startswith(("data:", "#")):
                continue
            answer = await shop.call(
                "GET",
                address,
                headers={"Accept-Encoding": "gzip", "Accept-Language": language},
            )
            assert answer.status_code == 200, address
            heads = sum(len(name) + len(value) + 4 for name, value in answer.headers.raw)
            weights[address] = int(answer.headers["content-length"]) + heads
            if answer.headers["content-type"].startswith(("text/", "application/manifest")):
                for pattern in ASKED_BY:
                    waiting += [urljoin(address, one) for one in re.findall(pattern, answer.text)]
    assert {"/static/viewer.js", "/static/livecart.js", "/words.js"} <= weights.keys()
    assert sum(weights.values()) <= BYTES_MAX, sorted(weights.items(), key=lambda one: -one[1])
