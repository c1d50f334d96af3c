"""The opening handshake as a pure function."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

import pytest

from streams.handshake import NO_STREAM, NoUpgrade, Upgrade, overloaded, shake_hands

GOOD = {
    "host": "x",
    "upgrade": "websocket",
    "connection": "Upgrade",
    "sec-websocket-version": "13",
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
}
PATH = "/v1/streams/st_1/ws"


def shake(
    path: str = PATH, method: str = "GET", more: tuple[str, ...] = (), **changes: str | None
) -> Upgrade | NoUpgrade:
    renamed = {name.replace("_", "-"): value for name, value in changes.items()}
    headers = [f"{n}: {v}" for n, v in (GOOD | renamed).items() if v is not None]
    return shake_hands("\r\n".join([f"{method} {path} HTTP/1.1", *headers, *more]).encode())


def upgraded(verdict: Upgrade | NoUpgrade) -> Upgrade:
    assert isinstance(verdict, Upgrade), verdict
    return verdict


def status(verdict: Upgrade | NoUpgrade) -> int:
    assert isinstance(verdict, NoUpgrade), verdict
    head, _, body = verdict.response.partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {verdict.status.value} ".encode())
    assert b"\r\nContent-Type: application/problem+json\r\n" in head
    assert f"\r\nContent-Length: {len(body)}\r\n".encode() in head
    assert json.loads(body)["status"] == verdict.status
    return verdict.status.value


def test_the_example_of_the_rfc() -> None:
    """The accept header is that of RFC 6455, section 1.3."""
    assert upgraded(shake()).response == (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("offered", "agreed", "binary"),
    [
        (None, None, False),
        ("", None, False),
        ("livecart.v1.json", b"livecart.v1.json", False),
        ("livecart.v1.msgpack", b"livecart.v1.msgpack", True),
        ("livecart.v1.msgpack, livecart.v1.json", b"livecart.v1.msgpack", True),
        ("livecart.v1.json,livecart.v1.msgpack", b"livecart.v1.json", False),
        ("chat, livecart.v2.json , livecart.v1.msgpack", b"livecart.v1.msgpack", True),
    ],
)
def test_the_first_known_subprotocol_is_agreed_on(
    offered: str | None, agreed: bytes | None, binary: bool
) -> None:
    """The client's order decides among what is known; nothing offered means JSON, unnamed."""
    verdict = upgraded(shake(sec_websocket_protocol=offered))
    assert verdict.binary is binary
    line = b"\r\nSec-WebSocket-Protocol: " + (agreed or b"") + b"\r\n"
    assert (line in verdict.response) is (agreed is not None)
    assert (b"Sec-WebSocket-Protocol" in verdict.response) is (agreed is not None)


def test_subprotocols_of_several_lines_count_as_one_list() -> None:
    """A repeated Sec-WebSocket-Protocol header is a list that goes on."""
    more = ("Sec-WebSocket-Protocol: chat", "Sec-WebSocket-Protocol: livecart.v1.msgpack")
    assert upgraded(shake(more=more)).binary


def test_extensions_are_not_agreed_to() -> None:
    """permessage-deflate is offered by every browser, and not taken."""
    verdict = upgraded(shake(sec_websocket_extensions="permessage-deflate"))
    assert b"xtension" not in verdict.response


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"sec_websocket_protocol": "chat"}, 400),
        ({"sec_websocket_protocol": "LIVECART.V1.JSON"}, 400),
        ({"sec_websocket_key": None}, 400),
        ({"sec_websocket_key": ""}, 400),
        ({"sec_websocket_key": "dGhlIHNhbXBsZQ=="}, 400),
        ({"sec_websocket_key": "dGhlIHNhbXBsZSBub25jZQ"}, 400),
        ({"sec_websocket_key": "!" * 24}, 400),
        ({"sec_websocket_key": "é" * 12}, 400),
        ({"upgrade": "h2c"}, 400),
        ({"upgrade": None}, 400),
        ({"sec_websocket_version": "8"}, 426),
        ({"sec_websocket_version": "13, 8"}, 426),
        ({"sec_websocket_version": None}, 426),
        ({"method": "POST"}, 405),
        ({"path": "/"}, 404),
        ({"path": "/v1/streams/st_1"}, 404),
        ({"path": "/v1/streams//ws"}, 404),
        ({"path": "/v1/streams/st_1/ws/"}, 404),
        ({"path": "/v1/streams/a/b/ws"}, 404),
        ({"path": "/v2/streams/st_1/ws"}, 404),
        ({"path": "/x?/v1/streams/st_1/ws"}, 404),
        ({"more": ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",)}, 400),
        ({"more": ("Authorization: Bearer a", "Authorization: Bearer b")}, 400),
    ],
)
def test_what_is_no_handshake_gets_a_problem_document(
    changes: dict[str, Any], expected: int
) -> None:
    """Each thing that is wrong has its status, and a body that says what to do."""
    assert status(shake(**changes)) == expected


def test_an_old_version_is_told_the_right_one() -> None:
    """426 names the version that is spoken."""
    verdict = shake(sec_websocket_version="12")
    assert status(verdict) == HTTPStatus.UPGRADE_REQUIRED
    assert b"\r\nSec-WebSocket-Version: 13\r\n" in verdict.response


def test_overload_says_when_to_come_back() -> None:
    """503 carries Retry-After, and the same in milliseconds."""
    verdict = overloaded()
    assert status(verdict) == HTTPStatus.SERVICE_UNAVAILABLE
    assert b"\r\nRetry-After: 2\r\n" in verdict.response
    assert json.loads(verdict.response.partition(b"\r\n\r\n")[2])["retry_after_ms"] == 2000


@pytest.mark.parametrize(
    ("path", "stream_id"),
    [
        (PATH, "st_1"),
        (PATH + "?a=b/c", "st_1"),
        ("/v1/streams/st%5F1/ws", "st_1"),
        ("/v1/streams/%E7%9B%B4%E6%92%AD/ws", "直播"),
        ("/v1/streams/" + "a" * 128 + "/ws", "a" * 128),
    ],
)
def test_stream_ids_are_percent_decoded(path: str, stream_id: str) -> None:
    """The id is what was encoded; a query is ignored."""
    assert upgraded(shake(path=path)).stream_id == stream_id


@pytest.mark.parametrize(
    "odd", ["a%2Fb", "%ff", "a%00", "a%0d%0ab", "a%20b", "%20", "a" * 129, "a" * 60_000]
)
def test_an_id_that_no_stream_has_is_left_to_hello(odd: str) -> None:
    """It is a stream's address in its form: accepted, so that `reject` and 4404 can say it."""
    assert upgraded(shake(path=f"/v1/streams/{odd}/ws")).stream_id == NO_STREAM


@pytest.mark.parametrize(
    ("value", "token"),
    [
        (None, None),
        ("Bearer a.b.c", "a.b.c"),
        ("bearer   a.b.c ", "a.b.c"),
        ("Bearer", None),
        ("Bearer ", None),
        ("Basic dTpw", None),
    ],
)
def test_only_a_bearer_token_is_passed_on(value: str | None, token: str | None) -> None:
    """Another scheme is a proxy's business; the viewer is then a guest."""
    assert upgraded(shake(authorization=value)).token == token
