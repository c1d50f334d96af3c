"""Tokens: what counts as one, and whom it speaks for."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st

from livecart import auth
from livecart.auth import TokenVerifier, issue
from livecart.settings import AuthSettings, SettingsError
from streams.codes import Code
from streams.ports import Refused

SECRET = "a secret of at least 32 bytes, for tests"
NOW_MS = 1_800_000_000_000
GOOD: dict[str, Any] = {"sub": "ann", "role": "viewer", "exp": NOW_MS // 1000 + 60}


class Clock:
    """A clock that the test sets."""

    now = NOW_MS

    def now_ms(self) -> int:
        """Return the time as set."""
        return self.now


def verifier(clock: Clock | None = None, **settings: Any) -> TokenVerifier:
    """Return a verifier of tokens signed with SECRET."""
    chosen = AuthSettings(**({"secret": SECRET} | settings))
    return TokenVerifier(chosen, (clock or Clock()).now_ms)


def signed(**claims: Any) -> str:
    """Return a token with these claims in place of, or beside, the good ones; None leaves out."""
    merged = {key: value for key, value in (GOOD | claims).items() if value is not None}
    return jwt.encode(merged, SECRET, algorithm="HS256")


async def refused(of: TokenVerifier, token: str) -> Refused:
    """Return how a token was refused."""
    with pytest.raises(Refused) as caught:
        await of.verify(token)
    return caught.value


async def test_claims_become_an_identity() -> None:
    """Name and shop default to the sub; streams limit; a fractional exp counts."""
    plain = await verifier().verify(signed())
    assert (plain.sub, plain.role, plain.name, plain.shop) == ("ann", "viewer", "ann", "ann")
    assert plain.exp_ms == NOW_MS + 60_000
    assert plain.may_enter("st_any")
    more = await verifier().verify(
        signed(role="host", name="安", shop="s", streams=["st_1"], exp=NOW_MS / 1000 + 0.5)
    )
    assert (more.name, more.shop, more.exp_ms) == ("安", "s", NOW_MS + 500)
    assert more.may_enter("st_1")
    assert not more.may_enter("st_2")
    assert more.may_host("s")
    assert not more.may_host("ann")


@pytest.mark.parametrize(
    "claims",
    [
        {"sub": None}, {"sub": 7}, {"sub": ["a"]}, {"sub": "\ud800"},
        {"role": None}, {"role": "guest"}, {"role": "Viewer"}, {"role": ["viewer"]}, {"role": 1},
        {"exp": None}, {"exp": "1"}, {"exp": True}, {"exp": float("nan")}, {"exp": float("inf")},
        {"exp": []}, {"exp": NOW_MS // 1000}, {"exp": -1}, {"exp": 0},
        {"name": 1}, {"shop": 1},
        {"streams": "st_1"}, {"streams": [1]}, {"streams": {"st_1": 1}},
        {"nbf": NOW_MS // 1000 + 5}, {"nbf": "now"},
    ],
    ids=repr,
)  # fmt: skip
async def test_odd_claims_are_unauthenticated(claims: dict[str, Any]) -> None:
    """Whatever is wrong with a claim, the answer is `unauthenticated` and says which."""
    refusal = await refused(verifier(), signed(**claims))
    assert refusal.code is Code.UNAUTHENTICATED
    assert "token" in refusal.message


@pytest.mark.parametrize(
    "claims",
    [
        {"sub": ""}, {"sub": "a" * 129}, {"sub": "茶" * 43}, {"sub": "a\x00"}, {"sub": "a\n"},
        {"sub": "\x9f"}, {"name": "x" * 41}, {"name": "a\nb"}, {"name": ""},
        {"shop": "x" * 129}, {"shop": "a\x7f"}, {"streams": ["st_" + "x" * 5_000]},
    ],
    ids=lambda claims: repr(claims)[:40],
)  # fmt: skip
async def test_what_passes_a_limit_is_a_bad_request(claims: dict[str, Any]) -> None:
    """A token, or a claim of it, beyond the protocol's limits is `bad_request` of `token`."""
    refusal = await refused(verifier(), signed(**claims))
    assert (refusal.code, refusal.field) == (Code.BAD_REQUEST, "token")


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
                    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)),
       st.sampled_from(["sub", "role", "exp", "nbf", "iat", "jti", "aud", "iss", "name", "shop",
                        "streams"]))  # fmt: skip
def test_no_claim_breaks_the_verifier(value: Any, claim: str) -> None:
    """Any JSON in any claim gives an identity, or a refusal."""
    header = jwt.encode({}, SECRET, algorithm="HS256").split(".")[0]
    try:
        payload = json.dumps(GOOD | {claim: value}).encode()
    except ValueError:
        return
    signing = f"{header}.{jwt.utils.base64url_encode(payload).decode()}"
    algorithm = jwt.get_algorithm_by_name("HS256")
    signature = algorithm.sign(signing.encode(), algorithm.prepare_key(SECRET))
    token = f"{signing}.{jwt.utils.base64url_encode(signature).decode()}"
    code: Code | None = None
    try:
        asyncio.run(verifier().verify(token))
    except Refused as refusal:
        code = refusal.code
    assert code in (None, Code.UNAUTHENTICATED, Code.BAD_REQUEST)


@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda b: b.decode("latin-1")))
def test_no_text_breaks_the_verifier(token: str) -> None:
    """Any text at all is `unauthenticated`."""
    with pytest.raises(Refused) as caught:
        asyncio.run(verifier().verify(token))
    assert caught.value.code is Code.UNAUTHENTICATED


async def test_exp_is_judged_by_the_clock_each_time() -> None:
    """A token that was good ends when the service's clock says so, cached or not."""
    clock = Clock()
    of, token = verifier(clock), signed()
    await of.verify(token)
    assert of.known(token) is not None
    clock.now = NOW_MS + 60_000
    await refused(of, token)
    with pytest.raises(Refused, match="expired"):
        of.known(token)


async def test_verified_tokens_are_kept_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the bound the oldest is forgotten; forged ones are never kept."""
    monkeypatch.setattr(auth, "CACHED_TOKENS_MAX", 2)
    of = verifier()
    tokens = [signed(sub=f"v{n}") for n in range(3)]
    for token in tokens:
        await of.verify(token)
    assert [of.known(token) is not None for token in tokens] == [False, True, True]
    await refused(of, tokens[2] + "x")
    assert of.known(tokens[2] + "x") is None


async def test_the_algorithm_is_pinned() -> None:
    """`none`, another HMAC and an RSA signature are refused, whatever the header says."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    for token in (
        jwt.encode(GOOD, "", algorithm="none"),
        jwt.encode(GOOD, "x" * 64, algorithm="HS512"),
        jwt.encode(GOOD, key, algorithm="RS256"),
        jwt.encode(GOOD, "another secret of at least 32 bytes", algorithm="HS256"),
    ):
        await refused(verifier(), token)


async def test_audience_and_issuer_are_checked_when_set() -> None:
    """With either configured, a token without it or with another is refused."""
    of = verifier(audience="live", issuer="me")
    await of.verify(signed(aud="live", iss="me"))
    for claims in ({}, {"aud": "live"}, {"aud": "x", "iss": "me"}, {"aud": "live", "iss": "x"}):
        await refused(of, signed(**claims))
    await verifier().verify(signed(aud="anything", iss="anybody"))


def test_a_token_that_could_not_be_used_is_not_issued() -> None:
    """`issue` refuses claims that `verify` would refuse, in one line."""
    assert issue(SECRET, role="host", sub="h", shop="s", streams=["st_1"], name="n")
    for role, sub in (("king", "h"), ("host", ""), ("host", "a\n")):
        with pytest.raises(SettingsError):
            issue(SECRET, role=role, sub=sub)
    with pytest.raises(SettingsError, match="fewer streams"):
        issue(SECRET, role="host", sub="h", streams=[f"st_{n:028}" for n in range(200)])


# --- published keys -----------------------------------------------------------------------------


class KeyServer(HTTPServer):
    """Publishes a key set and counts how often it is asked."""

    document: dict[str, Any] = {}
    asked = 0


class _Publish(BaseHTTPRequestHandler):
    server: KeyServer

    def do_GET(self) -> None:
        self.server.asked += 1
        body = json.dumps(self.server.document).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def keys() -> Iterator[KeyServer]:
    """A server of published keys on a free port."""
    server = KeyServer(("127.0.0.1", 0), _Publish)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _published(keys: KeyServer) -> TokenVerifier:
    return verifier(secret=None, jwks_url=f"http://127.0.0.1:{keys.server_port}/keys")


def _public(key: Any, kid: str) -> dict[str, Any]:
    algorithm = jwt.get_algorithm_by_name(
        "RS256" if isinstance(key, rsa.RSAPrivateKey) else "ES256"
    )
    published: dict[str, Any] = json.loads(algorithm.to_jwk(key.public_key()))
    return published | {"kid": kid, "use": "sig"}


async def test_published_keys_verify_and_are_fetched_seldom(keys: KeyServer) -> None:
    """RS256 and ES256 pass by their kid; unknown kids and HS256 do not, and ask no more often."""
    rs, es = rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP256R1())
    keys.document = {"keys": [_public(rs, "r"), _public(es, "e")]}
    of = _published(keys)
    tokens = [
        jwt.encode(GOOD, rs, algorithm="RS256", headers={"kid": "r"}),
        jwt.encode(GOOD, es, algorithm="ES256", headers={"kid": "e"}),
    ]
    for identity in await asyncio.gather(*(of.verify(token) for token in tokens * 5)):
        assert identity.sub == "ann"
    for token in (
        jwt.encode(GOOD, rs, algorithm="RS256", headers={"kid": "other"}),
        jwt.encode(GOOD, rs, algorithm="RS256", headers={"kid": "e"}),
        jwt.encode(GOOD, rs, algorithm="RS256"),
        jwt.encode(GOOD, "x" * 40, algorithm="HS256", headers={"kid": "r"}),
        "no.token.atall",
    ):
        assert (await refused(of, token)).code is Code.UNAUTHENTICATED
    assert keys.asked == 1


async def test_keys_that_cannot_be_read_are_a_retry(keys: KeyServer) -> None:
    """While no key was ever read, the answer is `retry`: the token may well be good."""
    keys.document = {"no": "keys"}
    key = rsa.generate_private_key(65537, 2048)
    token = jwt.encode(GOOD, key, algorithm="RS256", headers={"kid": "r"})
    assert (await refused(_published(keys), token)).code is Code.RETRY


async def test_a_withdrawn_key_takes_its_tokens_along(
    keys: KeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token that was verified before is no good once its key is published no more."""
    old, new = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    keys.document = {"keys": [_public(old, "old"), _public(new, "new")]}
    of = _published(keys)
    tokens = [
        jwt.encode(GOOD, key, algorithm="ES256", headers={"kid": kid})
        for key, kid in ((old, "old"), (new, "new"))
    ]
    for token in tokens:
        await of.verify(token)
    keys.document = {"keys": [_public(new, "new")]}
    assert of.known(tokens[0]) is not None  # nobody has looked yet
    monkeypatch.setattr(auth, "KEYS_REFRESH_S", 0.0)
    monkeypatch.setattr(auth, "KEYS_COOLDOWN_S", 0.0)
    assert of.known(tokens[0]) is None
    assert (await refused(of, tokens[0])).code is Code.UNAUTHENTICATED
    assert (await of.verify(tokens[1])).sub == "ann"


async def test_keys_that_stay_away_leave_verified_tokens_good(
    keys: KeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key server that publishes nonsense for a while ends nobody's token."""
    key = ec.generate_private_key(ec.SECP256R1())
    keys.document = {"keys": [_public(key, "k")]}
    of, token = _published(keys), jwt.encode(GOOD, key, algorithm="ES256", headers={"kid": "k"})
    await of.verify(token)
    monkeypatch.setattr(auth, "KEYS_REFRESH_S", 0.0)
    monkeypatch.setattr(auth, "KEYS_COOLDOWN_S", 0.0)
    keys.document = {"keys": [_public(key, "k") | {"kid": ["k"]}]}
    for _ in range(2):
        assert (await of.verify(token)).sub == "ann"


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"what?\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
@pytest.mark.parametrize("how", ["end", "reset"])
async def test_a_key_server_that_breaks_off_is_a_retry(said: bytes, how: str) -> None:
    """Half an answer, no HTTP and a reset connection are all keys that cannot be read."""
    key = ec.generate_private_key(ec.SECP256R1())
    token = jwt.encode(GOOD, key, algorithm="ES256", headers={"kid": "k"})
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            peer, _ = listening.accept()
            with peer:
                peer.recv(65_536)
                peer.sendall(said)
                if how == "reset":
                    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        thread = threading.Thread(target=serve)
        thread.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/keys"
        refusal = await refused(verifier(secret=None, jwks_url=url), token)
        thread.join()
    assert refusal.code is Code.RETRY
