"""One webhook over a real connection: where it goes, whom it trusts, and how much it reads."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from livecart.hooks.limits import HookLimits
from livecart.hooks.post import Poster, Resolve, Sent
from streams.addresses import networks
from tests.hooks_rig import LIMITS, receiving, said

BODY = b'{"type":"webhook.test"}'
OUTSIDE = HookLimits(http=True, timeout_s=5.0)  # nothing private may be called
HEADERS = {"webhook-id": "evt_1"}


@asynccontextmanager
async def poster(
    limits: HookLimits = LIMITS, resolve: Resolve | None = None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Poster]:
    one = Poster(limits, resolve, tls)
    try:
        yield one
    finally:
        await one.close()


async def sent(url: str, limits: HookLimits = LIMITS, resolve: Resolve | None = None) -> Sent:
    """Return how one message went."""
    async with poster(limits, resolve) as one:
        return await one.post(url, HEADERS, BODY)


def leads_to(*answers: list[str]) -> Resolve:
    """Return a name server that gives these answers in turn, the last for ever."""
    left = list(answers)

    async def resolve(host: str, port: int) -> list[str]:
        return left.pop(0) if len(left) > 1 else left[0]

    return resolve


async def test_a_message_arrives_as_it_was_given() -> None:
    """Path, query, Host and headers as the URL and the signature have them; one connection."""
    async with receiving() as there, poster() as one:
        for _ in range(3):
            assert (await one.post(there.url + "?a=%20b", HEADERS, BODY)).ok
        got = there.got[0]
        assert (got.path, got.body) == ("/in?a=%20b", BODY.decode())
        assert got.headers["host"] == f"127.0.0.1:{there.port}"
        assert got.headers["content-type"] == "application/json"
        assert got.id == "evt_1"
        assert there.connections == 1


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.1", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]", "localhost", "0.0.0.0"],
)
async def test_no_spelling_of_here_is_called(host: str) -> None:
    """However a URL writes a private address, it is refused before anything is connected."""
    async with receiving() as there:
        found = await sent(f"http://{host}:{there.port}/", OUTSIDE)
        assert (found.ok, found.status, there.connections) == (False, None, 0)
        assert "not be called" in str(found.error) or "nowhere" in str(found.error), found


async def test_a_name_with_one_private_address_is_refused() -> None:
    """Among public ones too, wherever it stands in the list."""
    async with receiving() as there:
        for names in (["8.8.8.8", "127.0.0.1"], ["127.0.0.1", "8.8.8.8"], ["::1"], []):
            found = await sent(f"http://hooks.test:{there.port}/", OUTSIDE, leads_to(names))
            assert not found.ok
        assert there.connections == 0


async def test_a_name_is_looked_up_once_a_connection() -> None:
    """Rebinding: no second look comes between judging and connecting; a later one is judged too."""
    asked = 0

    async def rebinding(host: str, port: int) -> list[str]:
        nonlocal asked
        asked += 1
        return ["127.0.0.1"] if asked == 1 else ["127.0.0.2"]

    only_first = msgspec.structs.replace(LIMITS, networks=networks("127.0.0.1/32"))
    async with receiving() as there, poster(only_first, rebinding) as one:
        url = f"http://hooks.test:{there.port}/in"
        assert (await one.post(url, HEADERS, BODY)).ok
        assert (await one.post(url, HEADERS, BODY)).ok  # over the connection that is there
        assert (asked, there.connections) == (1, 1)
        assert there.got[0].headers["host"] == f"hooks.test:{there.port}"
        there.answer = lambda _: said(200, b"ok", b"Connection: close")
        await one.post(url, HEADERS, BODY)
        found = await one.post(url, HEADERS, BODY)
        assert (found.ok, asked, there.connections) == (False, 2, 1)


async def test_the_next_address_is_tried_when_one_is_silent() -> None:
    """All of them are judged first; then they are tried in order."""
    async with receiving() as there:
        url = f"http://hooks.test:{there.port}/"
        assert (await sent(url, resolve=leads_to(["127.0.0.9", "127.0.0.1"]))).ok


async def test_no_redirect_is_followed() -> None:
    """A 3xx is a failure: it could lead where no URL of a host may."""
    async with receiving() as there:
        there.answer = lambda _: said(307, b"", b"Location: " + there.url.encode())
        found = await sent(there.url)
        assert (found.ok, found.status, len(there.got)) == (False, 307, 1)


async def test_of_a_long_answer_little_is_read() -> None:
    """The beginning is kept as clean text; past the bound the connection is dropped."""
    limits = msgspec.structs.replace(LIMITS, answer_bytes_max=1_000, answer_kept_max=20)
    async with receiving() as there, poster(limits) as one:
        there.answer = lambda _: said(500, b"caf\xc3\xa9\x00\xff" + b"x" * 5_000_000)
        for n in (1, 2):
            found = await one.post(there.url, HEADERS, BODY)
            assert (found.status, found.answer) == (500, "café��" + "x" * 14)
            assert there.connections == n


async def test_who_does_not_answer_is_not_waited_for() -> None:
    """One deadline for all of it: a silent receiver, and a name that is never found."""
    limits = msgspec.structs.replace(LIMITS, timeout_s=0.05)

    async def never(host: str, port: int) -> list[str]:
        await asyncio.Event().wait()
        return []

    async with receiving() as there:
        there.held = asyncio.Event()
        for resolve in (leads_to(["127.0.0.1"]), never):
            found = await sent(f"http://hooks.test:{there.port}/", limits, resolve)
            assert found.error == "no answer within 0.05 s"


async def test_what_is_no_http_and_nobody_at_all_are_failures() -> None:
    """Each is told apart in the log, and none raises."""
    async with receiving() as there:
        there.answer = lambda _: b"SSH-2.0-x\r\n\r\n"
        assert str((await sent(there.url)).error).startswith("not understood")
        there.answer = lambda _: said(429, b"", b"Retry-After: 7")
        assert (await sent(there.url)).asked_s == 7.0
        url = there.url
    assert str((await sent(url)).error).startswith("not reached")


async def test_tls_goes_by_the_name_and_not_by_the_address(tmp_path: Path) -> None:
    """The checked address is connected to; SNI, the certificate and Host are the name's."""
    serving, trusting = _certified("hooks.test", tmp_path)
    names: list[str | None] = []
    serving.sni_callback = lambda _, name, __: names.append(name)
    async with (
        receiving(serving) as there,
        poster(resolve=leads_to(["127.0.0.1"]), tls=trusting) as one,
    ):
        assert (await one.post(f"https://hooks.test:{there.port}/", HEADERS, BODY)).ok
        assert names == ["hooks.test"]
        assert there.got[0].headers["host"] == f"hooks.test:{there.port}"
        other = await one.post(f"https://other.test:{there.port}/", HEADERS, BODY)
        assert (other.ok, len(there.got)) == (False, 1)
        assert "certificate" in str(other.error).lower()


def _certified(name: str, folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return the context of a server with that name, and of who trusts its certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    who = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(who)
        .issuer_name(who)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    form = serialization.Encoding.PEM
    cert, private = folder / "cert.pem", folder / "key.pem"
    cert.write_bytes(made.public_bytes(form))
    private.write_bytes(
        key.private_bytes(form, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(cert, private)
    return serving, ssl.create_default_context(cafile=str(cert))
