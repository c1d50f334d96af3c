"""What answers tell browsers not to do: on every answer, strict on pages, loose nowhere."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from importlib import resources

import pytest

from livecart.serve import configure
from livecart.settings import SettingsError, load
from tests.contract.http_rig import SECRET, Shop, serving, variables

PAGES = ("/host", "/s/st_x", "/pay", "/docs")
ALWAYS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}


@pytest.fixture
async def shop(redis_url: str, database_url: str) -> AsyncIterator[Shop]:
    """A server of this test's own."""
    async with serving(redis_url, database_url) as shop:
        yield shop


def rules(policy: str) -> dict[str, list[str]]:
    """Return the sources of each directive."""
    parts = [part.split() for part in policy.split(";")]
    assert len({part[0] for part in parts}) == len(parts), policy
    return {name: sources for name, *sources in parts}


async def test_every_answer_has_them(shop: Shop) -> None:
    """Pages, files, calls, lists that flow, events, refusals, redirects and what is not there."""
    stream = await shop.stream()
    offer = await shop.offer(stream)
    for method, path in (
        *(("GET", page) for page in PAGES),
        ("GET", "/"), ("GET", "/static/dom.js"), ("GET", "/words.js"), ("GET", "/healthz"),
        ("GET", "/openapi.json"), ("GET", "/v1/streams"), ("GET", "/v1/orders"),
        ("GET", f"/v1/streams/{stream}/orders.csv"), ("GET", f"/v1/streams/{stream}/events"),
        ("GET", "/none"), ("PUT", "/v1/streams"), ("POST", f"/v1/offers/{offer}/orders"),
        ("DELETE", "/host"), ("OPTIONS", "/v1/streams"),
    ):  # fmt: skip
        headers = {"Authorization": f"Bearer {shop.host}"} if "csv" in path else {}
        async with shop.http.stream(method, path, headers=headers) as answer:
            for name, value in ALWAYS.items():
                assert answer.headers.get_list(name) == [value], (method, path, name)
            (policy,) = answer.headers.get_list("content-security-policy")
            assert rules(policy)["default-src"] == ["'none'"], path
            assert rules(policy)["frame-ancestors"] == ["'none'"], path
            if path in PAGES and method == "GET":
                assert answer.headers["cross-origin-opener-policy"] == "same-origin"
                assert "camera=()" in answer.headers["permissions-policy"]
            else:  # nothing but a page obeys these
                assert "permissions-policy" not in answer.headers
            assert "strict-transport-security" not in answer.headers


async def test_pages_load_our_own_files_and_video_over_tls(
    redis_url: str, database_url: str
) -> None:
    """Nothing inline, no other scripts; video also from where the setting has it."""
    settings = {
        "LIVECART_PLAYBACK_URL": "http://{name}.cdn.example:8080/x.m3u8",
        "LIVECART_MEDIA_SOURCES": "https://video.example",
    }
    async with serving(redis_url, database_url, **settings) as shop:
        for page in PAGES:
            answer = await shop.call("GET", page, headers={"Host": "shop.example"})
            policy = answer.headers["content-security-policy"]
            assert "unsafe" not in policy
            found = rules(policy)
            video = ["https://video.example", "http://*.cdn.example:8080"]
            assert found["script-src"] == found["style-src"] == ["'self'"]
            assert found["connect-src"] == ["'self'", "ws://shop.example", "wss://shop.example",
                                            *video]  # fmt: skip
            assert found["media-src"] == ["'self'", "blob:", *video]
            assert found["frame-src"] == found["base-uri"] == ["'none'"]
            assert found["form-action"] == ["'self'"]


async def test_on_ones_own_machine_video_may_come_without_tls(shop: Shop) -> None:
    """The page that was asked for by a loopback name, and no other."""
    for host, may in (
        ("localhost:8000", True), ("127.0.0.1", True), ("[::1]:80", True),
        ("127.0.0.1.example", False), ("shop.example", False),
    ):  # fmt: skip
        answer = await shop.call("GET", "/s/x", headers={"Host": host})
        found = rules(answer.headers["content-security-policy"])
        assert ("http:" in found["media-src"]) == may, host


async def test_no_host_gets_a_word_into_the_policy(shop: Shop) -> None:
    """A Host that is none is left out."""
    for host in ("x; script-src *", "x 'unsafe-inline'", "a,b", "*", "x" * 300, ""):
        answer = await shop.call("GET", "/host", headers={"Host": host})
        found = rules(answer.headers["content-security-policy"])
        assert found["connect-src"] == ["'self'", "https:"], host
        assert found["script-src"] == ["'self'"]


async def test_the_checkout_lets_stripes_form_in_where_it_is_used(
    redis_url: str, database_url: str
) -> None:
    """Its scripts, frames and calls on /pay alone, which may ask the browser to pay."""
    settings = {
        "LIVECART_PAYMENTS": "stripe", "LIVECART_STRIPE_KEY": "sk_test_" + "x" * 32,
        "LIVECART_STRIPE_SIGNING_SECRETS": "whsec_" + "x" * 32,
        "LIVECART_STRIPE_PUBLISHABLE_KEY": "pk_test_x",
    }  # fmt: skip
    async with serving(redis_url, database_url, **settings) as shop:
        pay = await shop.call("GET", "/pay")
        found = rules(pay.headers["content-security-policy"])
        assert found["script-src"] == ["'self'", "https://js.stripe.com"]
        assert found["frame-src"] == ["https://js.stripe.com", "https://hooks.stripe.com"]
        assert "https://api.stripe.com" in found["connect-src"]
        assert "unsafe" not in pay.headers["content-security-policy"]
        (permissions,) = pay.headers.get_list("permissions-policy")
        assert 'payment=(self "https://js.stripe.com")' in permissions
        host = await shop.call("GET", "/host")
        assert "stripe" not in host.headers["content-security-policy"]
        assert "payment=()" in host.headers["permissions-policy"]


async def test_who_came_by_tls_is_told_to_stay_there(redis_url: str, database_url: str) -> None:
    """A proxy says so; the setting says for how long, or that nothing is said."""
    for seconds in ("600", "0"):
        async with serving(redis_url, database_url, LIVECART_HSTS_S=seconds) as shop:
            for proto, said in (("https", seconds != "0"), ("http", False)):
                answer = await shop.call("GET", "/host", headers={"X-Forwarded-Proto": proto})
                hsts = answer.headers.get("strict-transport-security")
                assert hsts == (f"max-age={seconds}" if said else None)


def test_no_page_has_anything_inline() -> None:
    """No script, style or handler in any HTML of ours, which the policy would stop anyway."""
    pages = [e for e in (resources.files("livecart") / "web").iterdir() if e.name.endswith(".html")]
    assert len(pages) >= 4
    for page in pages:
        text = page.read_text()
        scripts = re.findall(r"<script\b[^>]*>", text)
        assert all(" src=" in script for script in scripts), page.name
        assert not re.search(r"<style\b|\sstyle=|\son[a-z]+=|javascript:", text), page.name


def test_no_address_is_logged() -> None:
    """Servers of ours have no access log: what a client puts into an address stays unwritten."""
    settings = load(variables("redis://localhost", "postgresql://localhost/x"))
    assert configure(settings).access_log is False


@pytest.mark.parametrize("odd", ["https:; script-src *", "'unsafe-inline'", "a,b"])
def test_sources_are_nothing_but_sources(odd: str) -> None:
    """A setting cannot open the policy beyond video."""
    with pytest.raises(SettingsError, match="MEDIA_SOURCES"):
        load({"LIVECART_MEDIA_SOURCES": odd, "LIVECART_SECRET": SECRET})
