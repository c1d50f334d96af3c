"""Stream keys, and what media servers say of those who publish with one.

Owns the words of nginx-rtmp, SRS, MediaMTX and LiveKit, and turns each notice into one of ours.
Pure: knows no table and no route. A key must never be logged; what is kept of it is its hash.
Called by `livecart.api.ingest`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Callable
from typing import Any, Literal
from urllib.parse import parse_qsl

import jwt
import msgspec

from livecart.auth import NOT_A_TOKEN

PREFIX = "sk_"
KEY_BYTES = 24
FIELDS_MAX = 100  # of a form, arguments of the publisher's URL included
DAY_S = 86_400.0
LATE_S = 5.0  # nginx-rtmp counts its sessions from 1 whenever it starts: a name soon comes again
CLOCKS_APART_S = 60.0  # of LiveKit and us

Kind = Literal["start", "stop", "check", "nothing"]
#: Reads a notice, or raises `Unreadable`.
Reading = Callable[[], "Notice"]


class Unreadable(ValueError):
    """Not a notice of that server."""


class NotSigned(Exception):
    """Not signed by whom it should be."""


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """What happened: who (session, by the media server's name) publishes what as which name."""

    kind: Kind
    name: str = ""  # as the publisher called the stream
    key: str | None = None  # in the arguments; None: the name is all there is
    session: str | None = None  # None: whoever it is
    late_s: float = DAY_S  # how late a notice of that session may come
    beside: bool = False  # he takes nobody's place, and not each who starts comes through
    goes_on: bool = False  # asked of one who publishes already, again and again

    def __repr__(self) -> str:
        return f"Notice({self.kind})"  # the name may be the key


class SrsNotice(msgspec.Struct, kw_only=True):
    """What SRS posts to `on_publish` and `on_unpublish`; the key is `key` in `param`."""

    action: str
    stream: str
    param: str | None = None
    client_id: str | int | None = None


class MediaMtxNotice(msgspec.Struct, kw_only=True):
    """What MediaMTX asks at `authHTTPAddress` (`action: publish`), and what its hooks are to post:

    `ready` and `notready`, with path, query and id. Its other questions are about its API, which
    a yes would open to everybody: they are none of these.
    """

    action: Literal["publish", "ready", "notready", "read", "playback"]
    path: str
    query: str | None = None
    id: str | None = None


def new_key() -> str:
    """Return a key that nobody can guess, of characters that every encoder takes."""
    return PREFIX + secrets.token_urlsafe(KEY_BYTES)


def hash_of(key: str) -> bytes:
    """Return what is kept of a key; it is random enough to need no salt."""
    return hashlib.sha256(key.encode(errors="surrogatepass")).digest()


def playback_url(template: str | None, name: str) -> str | None:
    """Return where viewers find a stream, by the setting; None without one."""
    return None if template is None else template.replace("{name}", name)


def same(secret: str, given: str | None) -> bool:
    """Compare in a time that says nothing about the secret."""
    return given is not None and hmac.compare_digest(secret.encode(), given.encode())


# --- the servers' words ----------------------------------------------------------------------


def of_nginx(body: bytes) -> Notice:
    """Read a form of nginx-rtmp: its own fields first, then the arguments of the publisher's URL.

    A field that is there twice was put there by the publisher, to pass for another stream.
    """
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=FIELDS_MAX)
    except ValueError as error:
        raise Unreadable from error
    fields = dict(pairs)
    names = [name for name, _ in pairs]
    if any(names.count(name) > 1 for name in ("call", "name", "clientid", "key")):
        raise Unreadable
    if "call" not in fields:
        raise Unreadable
    kind = _KINDS_OF_NGINX.get(fields["call"], "nothing")
    if kind == "nothing":
        return Notice(kind="nothing")
    return Notice(
        kind=kind,
        name=fields.get("name", ""),
        key=fields.get("key"),
        session=f"rtmp:{fields.get('clientid', '')}",
        late_s=LATE_S,
        goes_on=fields["call"] == "update_publish",
    )


def of_srs(notice: SrsNotice) -> Notice:
    """Read a notice of SRS."""
    kind = _KINDS_OF_SRS.get(notice.action, "nothing")
    return Notice(
        kind=kind,
        name=notice.stream,
        key=_key_in(notice.param),
        session=f"srs:{notice.client_id or ''}",
        beside=True,  # one too many is asked about, refused as busy, and said to go
    )


def of_mediamtx(notice: MediaMtxNotice) -> Notice:
    """Read a notice of MediaMTX; the name is the last part of the path."""
    return Notice(
        kind=_KINDS_OF_MEDIAMTX[notice.action],
        name=notice.path.rpartition("/")[2],
        key=_key_in(notice.query),
        session=f"mediamtx:{notice.id or ''}",
    )


#: `update_publish` comes every `notify_update_timeout`: what was mistaken for an end is mended.
_KINDS_OF_NGINX: dict[str, Kind] = {
    "publish": "start",
    "update_publish": "start",
    "publish_done": "stop",
}
_KINDS_OF_SRS: dict[str, Kind] = {"on_publish": "start", "on_unpublish": "stop"}
_KINDS_OF_MEDIAMTX: dict[str, Kind] = {
    "publish": "check",  # it may still come to nothing: `ready` is what starts
    "ready": "start",
    "notready": "stop",
    "read": "nothing",
    "playback": "nothing",
}


def _key_in(query: str | None) -> str | None:
    """Return `key` of a query; one that is there twice is none."""
    try:
        pairs = parse_qsl((query or "").removeprefix("?"), max_num_fields=FIELDS_MAX)
    except ValueError:
        return None
    keys = [value for name, value in pairs if name == "key"]
    return keys[0] if len(keys) == 1 else None


def of_livekit(body: bytes, token: str, secret: str, now_s: float) -> Notice:
    """Read a webhook of LiveKit; raise `NotSigned` or `Unreadable`. The room is the stream's id."""
    _signed(body, token, secret, now_s)
    try:
        event: dict[str, Any] = msgspec.json.decode(body, type=dict[str, Any])
        match event.get("event"):
            case "ingress_started" | "ingress_ended" as word:
                ingress = msgspec.convert(event.get("ingressInfo"), _Ingress)
                return Notice(
                    kind="start" if word == "ingress_started" else "stop",
                    name=ingress.roomName,
                    session=f"livekit:{ingress.ingressId}:{ingress.state.startedAt}",
                    beside=True,
                )
            case "track_published" | "track_unpublished" as word:
                return _of_track(event, word == "track_published")
            case "participant_left":
                who, room = _participant(event), msgspec.convert(event.get("room"), _Room)
                return Notice(kind="stop", name=room.name, session=f"livekit:{who.sid}")
            case "room_finished":
                room = msgspec.convert(event.get("room"), _Room)
                return Notice(kind="stop", name=room.name)
    except (ValueError, msgspec.ValidationError) as error:
        raise Unreadable from error
    return Notice(kind="nothing")


class _Room(msgspec.Struct):
    name: str


class _Participant(msgspec.Struct):
    sid: str
    kind: str = "STANDARD"


class _Track(msgspec.Struct):
    sid: str
    type: str = "AUDIO"  # protobuf's JSON leaves out what is zero


class _State(msgspec.Struct):
    startedAt: str | int = ""


class _Ingress(msgspec.Struct):
    ingressId: str
    roomName: str
    state: _State = msgspec.field(default_factory=_State)


def _participant(event: dict[str, Any]) -> _Participant:
    return msgspec.convert(event.get("participant"), _Participant)


def _of_track(event: dict[str, Any], published: bool) -> Notice:
    """Read that a picture came or went; an ingress says so itself, and sound alone is no show."""
    who = _participant(event)
    track = msgspec.convert(event.get("track"), _Track)
    if who.kind == "INGRESS" or track.type != "VIDEO":
        return Notice(kind="nothing")
    room = msgspec.convert(event.get("room"), _Room)
    return Notice(
        kind="start" if published else "stop",
        name=room.name,
        session=f"livekit:{who.sid}:{track.sid}",
        beside=True,
    )


def _signed(body: bytes, token: str, secret: str, now_s: float) -> None:
    """Raise `NotSigned` unless the token is good, of this time and of this body."""
    try:
        claims: dict[str, Any] = jwt.decode(
            token, secret, algorithms=["HS256"],
            options={"verify_exp": False, "verify_nbf": False, "verify_iat": False,
                     "verify_aud": False},
        )  # fmt: skip
        digest = base64.b64decode(claims["sha256"], validate=True)
        good = hmac.compare_digest(digest, hashlib.sha256(body).digest())
        # By the clock of the service (R8).
        good = good and float(claims["exp"]) > now_s - CLOCKS_APART_S
        good = good and float(claims.get("nbf", 0)) < now_s + CLOCKS_APART_S
    except NOT_A_TOKEN as error:
        raise NotSigned from error
    if not good:
        raise NotSigned
