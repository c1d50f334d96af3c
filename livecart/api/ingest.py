"""What media servers tell us: who publishes with which stream key, and who went.

Owns stream keys and `POST /v1/hooks/ingest/...`; a refusal here is what makes the media server
refuse the publisher. A key that is another stream's must not publish under this one's name. The
words of each server are in `livecart.ingest`; what follows from them is in Postgres.
"""

from __future__ import annotations

import msgspec

from livecart import ingest
from livecart.api.bounds import hosted_stream
from livecart.api.calls import Call, header
from livecart.api.operations import Operation, in_time
from livecart.api.problems import Answer
from livecart.commands import refusal
from livecart.ingest import MediaMtxNotice, Notice, NotSigned, SrsNotice, Unreadable
from orders.ledger import ingest as ledger
from streams.codes import Code
from streams.ports import Refused

SECRET_HEADER = b"livecart-ingest-secret"


class StreamKey(msgspec.Struct, kw_only=True):
    """What an encoder publishes with; in the answer of the call that made it, and never again."""

    stream: str
    key: str


class Heard(msgspec.Struct, kw_only=True):
    """A yes, as SRS has it."""

    code: int = 0


class IngestQuery(msgspec.Struct, kw_only=True):
    """For media servers that cannot send a header."""

    secret: str | None = None


async def make_key(call: Call) -> StreamKey:
    """Make a new stream key; the one before is good no more, but to say that its publisher went."""
    stream, _ = await hosted_stream(call)
    key = ingest.new_key()
    word = await ledger.rekey(call.services.ledger, stream, ingest.hash_of(key))
    if word == "not_found":
        raise Refused(Code.NOT_FOUND)
    if word == "conflict":
        raise Refused(Code.CONFLICT, "The stream has ended.")
    return StreamKey(stream=stream, key=key)


async def rtmp(call: Call, body: bytes) -> Heard | Answer:
    """Take a notice of nginx-rtmp.

    To a key that stands in place of a name the answer is 302 with the stream's id, under which
    nginx-rtmp then publishes.
    """
    _knows_secret(call)
    notice = _read(lambda: ingest.of_nginx(body))
    if notice.kind == "nothing":
        return Heard()
    if notice.key is not None:
        await _take(call, notice, await _keyed(call, notice))
        return Heard()
    stream = await _stream_of(call, notice.name, notice.kind)
    await _take(call, notice, stream)
    if notice.kind == "start":
        headers = [(b"location", stream.encode()), (b"cache-control", b"no-store")]
        return Answer(302, b"", headers)
    return Heard()


def going_on(body: bytes) -> Heard | None:
    """Return a yes to an update: nginx-rtmp takes a 503 for a no, and puts the publisher out."""
    try:
        return Heard() if ingest.of_nginx(body).goes_on else None
    except Unreadable:
        return None


async def srs(call: Call, body: SrsNotice) -> Heard:
    """Take a notice of SRS."""
    _knows_secret(call)
    return await _heard(call, ingest.of_srs(body))


async def mediamtx(call: Call, body: MediaMtxNotice) -> Heard:
    """Answer a question of MediaMTX, or take a notice of its hooks."""
    _knows_secret(call)
    return await _heard(call, ingest.of_mediamtx(body))


async def livekit(call: Call, body: bytes) -> Heard:
    """Take a webhook of LiveKit, signed with its API secret; a room is called as its stream's id.

    LiveKit decides by its own tokens who may publish.
    """
    services = call.services
    secret = services.settings.ingest.livekit_secret
    if secret is None:
        raise Refused(Code.FORBIDDEN, "LIVECART_LIVEKIT_SECRET is not set.")
    token = (header(call.headers, b"authorization") or b"").decode("latin-1")
    token = token.removeprefix("Bearer ").strip()
    now_s = services.clock.now_ms() / 1000
    try:
        notice = _read(lambda: ingest.of_livekit(body, token, secret, now_s))
    except NotSigned:
        what = "The signature does not fit, or is too old."
        raise Refused(Code.UNAUTHENTICATED, what) from None
    if notice.kind != "nothing":
        await _take(call, notice, notice.name)
    return Heard()


# --- what these share ------------------------------------------------------------------------


def _knows_secret(call: Call) -> None:
    """Raise `Refused` when there is a secret, and the caller does not know it.

    Where there is none anybody may call, and guess keys: all of one address count as one.
    """
    secret = call.services.settings.ingest.secret
    if secret is None:
        in_time(call)
        return
    given = header(call.headers, SECRET_HEADER)
    word = call.query.secret if given is None else given.decode("latin-1")
    if not ingest.same(secret, word):
        raise Refused(Code.UNAUTHENTICATED, "This is not who may call here.")


def _read(reading: ingest.Reading) -> Notice:
    try:
        return reading()
    except Unreadable:
        raise Refused(Code.BAD_REQUEST, "The notice cannot be read.") from None


async def _heard(call: Call, notice: Notice) -> Heard:
    if notice.kind != "nothing":
        await _take(call, notice, await _keyed(call, notice))
    return Heard()


async def _keyed(call: Call, notice: Notice) -> str:
    """Return the stream of the notice's key, which must be the one that is published."""
    stream = await _stream_of(call, notice.key or "", notice.kind)
    if notice.name != stream:
        raise Refused(Code.FORBIDDEN, "The key is of another stream than the name.")
    return stream


async def _stream_of(call: Call, key: str, kind: ingest.Kind) -> str:
    """Return the stream of a key; who goes may have come with the key before."""
    hashed = ingest.hash_of(key)
    stream = await ledger.stream_of(call.services.ledger, hashed, before=kind == "stop")
    if stream is None:
        raise Refused(Code.UNAUTHENTICATED, "There is no such stream key.")
    return stream


async def _take(call: Call, notice: Notice, stream: str) -> None:
    """Do what follows from a notice about a stream."""
    services, settings = call.services, call.services.settings.ingest
    if notice.kind == "stop":
        word = await ledger.stop(services.ledger, stream, notice.session, settings.grace_s)
        if word == "not_found":
            raise Refused(Code.NOT_FOUND)
    elif notice.kind == "start":
        refused = await services.changes.start_ingest(
            stream,
            notice.session or "",
            notice.late_s,
            ingest.playback_url(settings.playback_url, stream),
            notice.beside,
        )
        if refused is not None:
            raise refusal(refused)


_HOOKS = "/v1/hooks/ingest"
_REFUSALS = (Code.FORBIDDEN, Code.NOT_FOUND, Code.CONFLICT)
_OPEN_REFUSALS = (*_REFUSALS, Code.RATE_LIMITED)  # where there is no secret

OPERATIONS = (
    Operation(
        method="POST", path="/v1/streams/{id}/key", handle=make_key, who="host", status=201,
        summary="Make a stream key", result=StreamKey,
        refusals=(Code.NOT_FOUND, Code.CONFLICT),
    ),
    Operation(
        method="POST", path=f"{_HOOKS}/rtmp", handle=rtmp, raw=True, unpaced=True, bare=True,
        raw_as="application/x-www-form-urlencoded", who="anyone", query=IngestQuery,
        summary="Take a notice of nginx-rtmp", result=Heard, refusals=_OPEN_REFUSALS,
        spares=going_on,
    ),
    Operation(
        method="POST", path=f"{_HOOKS}/srs", handle=srs, body=SrsNotice, unpaced=True, bare=True,
        who="anyone", query=IngestQuery,
        summary="Take a notice of SRS", result=Heard, refusals=_OPEN_REFUSALS,
    ),
    Operation(
        method="POST", path=f"{_HOOKS}/mediamtx", handle=mediamtx, body=MediaMtxNotice,
        unpaced=True, bare=True, who="anyone", query=IngestQuery,
        summary="Answer MediaMTX", result=Heard, refusals=_OPEN_REFUSALS,
    ),
    Operation(
        method="POST", path=f"{_HOOKS}/livekit", handle=livekit, raw=True, unpaced=True, bare=True,
        who="anyone", summary="Take a webhook of LiveKit", result=Heard, refusals=_REFUSALS,
    ),
)  # fmt: skip
