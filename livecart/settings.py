"""Every setting of livecart: one table, one reader of the environment.

Owns the names, defaults, meanings and bounds of the `LIVECART_…` variables; hands small frozen
structs down. Nothing else in the project reads the environment. Must never print a secret. Called
by the command line, by the composition root and by tests.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Literal, TypeVar

import msgspec

from livecart.hooks.limits import DAY_S, HookLimits
from orders import failpoints
from orders.keeper import KeeperLimits
from orders.limits import SellingLimits
from orders.sealing import Sealer
from streams.addresses import Network, networks
from streams.log import LogLimits
from streams.pace import Rate, Rates
from streams.rooms import HubLimits

SECRET_BYTES_MIN = 32  # HS256: RFC 7518 wants a key of the hash's size at the least

Kind = Literal["text", "secret", "url", "int", "float", "word"]
Value = str | int | float | None
Number = TypeVar("Number", int, float)


class SettingsError(ValueError):
    """A setting that cannot be used; the message is one line for a person."""


class Variable(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the table."""

    name: str
    kind: Kind
    default: Value
    meaning: str
    least: float = 0
    most: float = 2**53 - 1
    schemes: tuple[str, ...] = ()  # of a url
    words: tuple[str, ...] = ()  # of a word

    @property
    def allowed(self) -> str:
        """Say what values are allowed."""
        if self.kind in ("int", "float"):
            what = "a whole number" if self.kind == "int" else "a number"
            return f"{what} from {self.least:.16g} to {self.most:.16g}"
        if self.kind == "url":
            return "a URL that begins with " + " or ".join(f"{s}://" for s in self.schemes)
        if self.kind == "word":
            return "one of " + ", ".join(self.words)
        if self.kind == "secret":
            return f"at least {SECRET_BYTES_MIN} bytes"
        return "text without control characters"

    def read(self, text: str) -> Value:
        """Return the value of a text; raise `SettingsError`."""
        value = self._parse(text)
        if value is None:
            shown = "(not shown)" if self.kind in ("secret", "url") else ascii(text[:80])
            raise SettingsError(f"{self.name}={shown} is not {self.allowed}")
        return value

    def _parse(self, text: str) -> Value:
        if self.kind == "int":
            return self._within(int(text)) if re.fullmatch(r"-?[0-9]{1,16}", text) else None
        if self.kind == "float":
            try:
                return self._within(float(text))
            except ValueError:
                return None
        if re.search(r"[\x00-\x1f\x7f]", text):
            return None
        if self.kind == "secret":
            return text if len(text.encode(errors="surrogateescape")) >= SECRET_BYTES_MIN else None
        if self.kind == "url":
            return text if text.startswith(tuple(f"{s}://" for s in self.schemes)) else None
        if self.kind == "word":
            return text if text in self.words else None
        return text

    def _within(self, number: Number) -> Number | None:
        return number if math.isfinite(number) and self.least <= number <= self.most else None

    def shown(self, value: Value) -> str:
        """Return a value as it may be printed."""
        if self.kind == "secret":
            return "not set" if value is None else "set"
        if value is None:
            return "not set"
        if self.kind == "url":  # a password may be in it
            return re.sub(r"//[^/@]*@", "//…@", str(value))
        return str(value)


_HUB, _LOG, _SELLING, _KEEPER = HubLimits(), LogLimits(), SellingLimits(), KeeperLimits()
_RATES, _HOOKS = Rates(), HookLimits()


def _paces(name: str, rate: Rate, of: str) -> tuple[Variable, Variable]:
    return (
        Variable(name=f"LIVECART_{name}_PER_S", kind="float", default=rate.per_s,
                 least=0.01, most=10_000_000, meaning=f"{of}: how many a second"),
        Variable(name=f"LIVECART_{name}_BURST", kind="int", default=rate.burst,
                 least=1, most=10_000_000, meaning=f"{of}: how many at once after a pause"),
    )  # fmt: skip


#: The one table. A variable that is set but empty counts as not set.
VARIABLES: tuple[Variable, ...] = (
    Variable(name="LIVECART_SECRET", kind="secret", default=None,
             meaning="key that tokens are signed with (HS256); none by default"),
    Variable(name="LIVECART_JWKS_URL", kind="url", default=None, schemes=("https", "http"),
             meaning="where the public keys of RS256 or ES256 tokens are; HS256 is refused then"),
    Variable(name="LIVECART_JWT_AUDIENCE", kind="text", default=None,
             meaning="`aud` that a token must have; not checked when not set"),
    Variable(name="LIVECART_JWT_ISSUER", kind="text", default=None,
             meaning="`iss` that a token must have; not checked when not set"),
    Variable(name="LIVECART_TICKET_SECRET", kind="secret", default=None,
             meaning="key that a shop's tickets are signed with (HS256); none by default"),
    Variable(name="LIVECART_ELIGIBILITY", kind="text", default=None,
             meaning="async function `package.module:name` that is asked who may buy"),
    Variable(name="LIVECART_LINK_SECRET", kind="secret", default=None,
             meaning="key that checkout links are signed with; when not set, one that is made from"
                     " LIVECART_SECRET"),
    Variable(name="LIVECART_PAGE_SESSION_S", kind="int", default=86_400, least=60,
             most=30 * 86_400,
             meaning="how long a page may renew the token that it got for a code"),
    Variable(name="LIVECART_PAYMENTS", kind="text", default=None,
             meaning="through whom viewers may pay, with commas between, the usual one first:"
                     " stripe, manual, trial; when not set, hosts mark orders as paid by hand"),
    Variable(name="LIVECART_STRIPE_KEY", kind="secret", default=None,
             meaning="secret key of the Stripe account"),
    Variable(name="LIVECART_STRIPE_SIGNING_SECRETS", kind="secret", default=None,
             meaning="secrets of the webhook endpoint at Stripe, with commas between while they"
                     " are rolled"),
    Variable(name="LIVECART_STRIPE_PUBLISHABLE_KEY", kind="text", default=None,
             meaning="the key that buyers' clients begin with"),
    Variable(name="LIVECART_STRIPE_URL", kind="url", default=None, schemes=("https", "http"),
             meaning="where Stripe's API is, if elsewhere"),
    Variable(name="LIVECART_MANUAL_TEXT", kind="text", default=None,
             meaning="what a buyer who pays by hand is told, such as the account to transfer to"),
    Variable(name="LIVECART_TRIAL_BANK", kind="text", default=None,
             meaning="for tests alone: file of the bank that `trial` pays through"),
    Variable(name="LIVECART_DATA_KEY", kind="secret", default=None,
             meaning="keys that webhook secrets and contacts are sealed with, each 32 bytes in"
                     " URL-safe base64, commas between: the first seals, all open; no default"),
    Variable(name="LIVECART_REDIS_URL", kind="url", default=None,
             schemes=("redis", "rediss", "unix"),
             meaning="the Redis or Valkey server, or any node of the cluster"),
    Variable(name="LIVECART_GATE_URL", kind="url", default=None,
             schemes=("redis", "rediss", "unix"),
             meaning="the Redis or Valkey server, or any node of the cluster, that the gate of the"
                     " offers is on; when not set, LIVECART_REDIS_URL"),
    Variable(name="LIVECART_DATABASE_URL", kind="url", default=None,
             schemes=("postgresql", "postgres"), meaning="the PostgreSQL database"),
    Variable(name="LIVECART_HOST", kind="text", default="127.0.0.1",
             meaning="address to listen on"),
    Variable(name="LIVECART_PORT", kind="int", default=8000, most=65_535,
             meaning="port to listen on; 0 takes a free one"),
    Variable(name="LIVECART_WORKERS", kind="int", default=1, least=1, most=64,
             meaning="server processes that share the port"),
    Variable(name="LIVECART_DATA_DIR", kind="text", default=".livecart",
             meaning="folder of the embedded servers' data"),
    Variable(name="LIVECART_LOG_LEVEL", kind="word", default="info",
             words=("debug", "info", "warning", "error"), meaning="how much is logged"),
    Variable(name="LIVECART_METRICS_PORT", kind="int", default=0, most=65_535,
             meaning="port of the keeper's /metrics; 0 serves none"),
    Variable(name="LIVECART_DRAIN_S", kind="float", default=5.0, most=300,
             meaning="seconds over which connections end when a process stops"),
    Variable(name="LIVECART_CONNECTIONS_MAX", kind="int", default=_HUB.connections_max,
             least=1, most=1_000_000, meaning="connections of viewers to one process"),
    Variable(name="LIVECART_USER_CONNECTIONS_MAX", kind="int", default=_HUB.user_connections_max,
             least=1, most=1_000_000, meaning="of these, to one stream with one user's tokens"),
    Variable(name="LIVECART_ADDRESS_CONNECTIONS_MAX", kind="int",
             default=_HUB.address_connections_max, least=1, most=1_000_000,
             meaning="of these, from one address (of IPv6, one /64)"),
    Variable(name="LIVECART_TRUSTED_PROXIES", kind="text", default=None,
             meaning="addresses and networks, with commas between, whose X-Forwarded-For says where"
                     " a connection comes from; without them the address is the proxy's"),
    *_paces("CONNECTS", _HUB.connects, "new viewers' connections of one process"),
    *_paces("SELL", _RATES.sell, "of one user: buys, cancels, extensions, waiting"),
    *_paces("HOST", _RATES.host, "of one host: commands and calls that change something"),
    *_paces("CHAT", _RATES.chat, "of one user: chat messages"),
    *_paces("REACT", _RATES.react, "of one user: reactions"),
    Variable(name="LIVECART_QUEUE_BYTES_MAX", kind="int", default=_HUB.queue_bytes_max,
             least=16_384, most=64 * 2**20,
             meaning="bytes that may wait for one slow connection, beside a snapshot"),
    Variable(name="LIVECART_QUEUES_BYTES_MAX", kind="int", default=_HUB.queues_bytes_max,
             least=2**20, most=2**40, meaning="bytes that may wait for all of a process"),
    Variable(name="LIVECART_DEFLATE", kind="word", default="no", words=("no", "yes"),
             meaning="yes: WebSocket messages are deflated for clients that offer it"),
    Variable(name="LIVECART_HEARTBEAT_MS", kind="int", default=_HUB.heartbeat_ms,
             least=1_000, most=300_000, meaning="how often a connection is pinged"),
    Variable(name="LIVECART_HELLO_DEADLINE_MS", kind="int", default=_HUB.hello_deadline_ms,
             least=100, most=60_000, meaning="how long a connection may wait with its hello"),
    Variable(name="LIVECART_LOG_EVENTS_MAX", kind="int", default=_LOG.main_entries_max,
             least=10, most=1_000_000,
             meaning="events of each sequence of a stream that Redis keeps for recovery"),
    Variable(name="LIVECART_LOG_RETENTION_S", kind="int", default=_LOG.retention_ms // 1000,
             least=60, most=30 * 86_400,
             meaning="how long Redis keeps them after the last event or viewer of a stream"),
    Variable(name="LIVECART_MEMORY_EVENTS_MAX", kind="int", default=_HUB.memory_entries_max,
             least=10, most=1_000_000,
             meaning="events of each sequence of a stream that each process has in memory"),
    Variable(name="LIVECART_MEMORY_BYTES_MAX", kind="int", default=_HUB.memory_bytes_max,
             least=64 * 1024, most=2**32, meaning="payload bytes of these"),
    Variable(name="LIVECART_MEMORY_S", kind="int", default=_HUB.memory_ms // 1000,
             least=10, most=30 * 86_400, meaning="and how long they stay there"),
    Variable(name="LIVECART_REPLAY_EVENTS_MAX", kind="int", default=_HUB.replay_events_max,
             most=1_000_000,
             meaning="main events that Redis has no more and that are read from Postgres for one"
                     " viewer who comes back; 0: none"),
    Variable(name="LIVECART_POOL_CONNECTIONS_MAX", kind="int", default=8, least=2, most=1_000,
             meaning="Postgres connections of one process"),
    Variable(name="LIVECART_REDIS_CONNECTIONS_MAX", kind="int", default=32, least=4, most=10_000,
             meaning="Redis connections of one process (on a cluster, to each node), beside those"
                     " that listen"),
    Variable(name="LIVECART_HTTP_BODY_BYTES_MAX", kind="int", default=128 * 1024,
             least=1_024, most=16 * 2**20, meaning="bytes of one HTTP request's body"),
    Variable(name="LIVECART_HSTS_S", kind="int", default=365 * DAY_S, most=10 * 365 * DAY_S,
             meaning="how long browsers that came by TLS come by nothing else; 0: not said"),
    Variable(name="LIVECART_MEDIA_SOURCES", kind="text", default="https:",
             meaning="where pages may load video from, with spaces between, as a content policy has"
                     " it; beside LIVECART_PLAYBACK_URL"),
    Variable(name="LIVECART_BUYS_WAITING_MAX", kind="int", default=_SELLING.waiting_max,
             least=1, most=10_000_000, meaning="buys of one process that have no answer yet"),
    Variable(name="LIVECART_KEEPER_ROUND_S", kind="float", default=_KEEPER.round_s,
             least=0.02, most=60, meaning="how often the keeper looks at what is due"),
    Variable(name="LIVECART_HOOKS_HTTP", kind="word", default="no", words=("no", "yes"),
             meaning="yes: webhooks may be sent to http URLs beside https"),
    Variable(name="LIVECART_HOOKS_NETWORKS", kind="text", default=None,
             meaning="private networks, with commas between, that webhooks may be sent into;"
                     " without them to public addresses alone"),
    Variable(name="LIVECART_HOOKS_TIMEOUT_S", kind="float", default=_HOOKS.timeout_s,
             least=0.1, most=120, meaning="seconds within which a webhook must be answered"),
    Variable(name="LIVECART_HOOKS_SENDING_MAX", kind="int", default=_HOOKS.sending_max,
             least=1, most=1_000, meaning="webhooks that are sent at once"),
    Variable(name="LIVECART_HOOKS_LIFE_S", kind="int", default=int(_HOOKS.life_s),
             least=60, most=30 * DAY_S,
             meaning="how long a webhook is tried, and an endpoint may fail before it is off"),
    Variable(name="LIVECART_HOOKS_KEPT_S", kind="int", default=int(_HOOKS.kept_s),
             least=60, most=365 * DAY_S,
             meaning="how long a webhook is kept, to be replayed, once it is done or given up"),
    Variable(name="LIVECART_INGEST_GRACE_S", kind="float", default=30.0, most=3_600,
             meaning="how long a stream that publishing started stays live without a publisher"),
    Variable(name="LIVECART_INGEST_SECRET", kind="secret", default=None,
             meaning="what media servers must send with a notice; without it the stream key is"
                     " enough"),
    Variable(name="LIVECART_LIVEKIT_SECRET", kind="secret", default=None,
             meaning="API secret that LiveKit signs its webhooks with"),
    Variable(name="LIVECART_PLAYBACK_URL", kind="url", default=None, schemes=("https", "http"),
             meaning="where viewers find a published stream, as https://cdn.example/{name}.m3u8:"
                     " {name} is the stream's id"),
    Variable(name="LIVECART_FAILPOINTS", kind="text", default=None,
             meaning="for tests alone: faults that processes do to themselves at named points"),
    Variable(name="LIVECART_TESTING", kind="word", default="no", words=("no", "yes"),
             meaning="yes: this server is there to be broken, and failpoints are allowed"),
)  # fmt: skip
_BY_NAME = {variable.name: variable for variable in VARIABLES}


class AuthSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How tokens are judged."""

    secret: str | None = None
    jwks_url: str | None = None
    audience: str | None = None
    issuer: str | None = None

    ticket_secret: str | None = None
    link_secret: str | None = None
    page_session_s: int = 86_400
    eligibility: str | None = None

    def __repr__(self) -> str:
        return "AuthSettings(…)"  # the secret must not get into a log by way of a traceback


class ServeSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How processes serve."""

    host: str
    port: int
    workers: int
    drain_s: float
    log_level: str
    metrics_port: int


class PaymentSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Through whom viewers may pay, and what that takes."""

    names: tuple[str, ...] = ()
    stripe_key: str | None = None
    stripe_signing_secrets: tuple[str, ...] = ()
    stripe_url: str | None = None
    stripe_publishable_key: str | None = None
    manual_text: str | None = None
    trial_bank: str | None = None

    def __repr__(self) -> str:
        return "PaymentSettings(…)"  # keys must not get into a log by way of a traceback


class IngestSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How streams start and end by their video."""

    grace_s: float = 30.0
    secret: str | None = None
    livekit_secret: str | None = None
    playback_url: str | None = None  # a template with {name}

    def __repr__(self) -> str:
        return "IngestSettings(…)"


class HttpLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of the HTTP side."""

    body_bytes_max: int = 128 * 1024
    hsts_s: int = 365 * DAY_S
    media_sources: str = "https:"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything, by who needs it."""

    auth: AuthSettings
    serve: ServeSettings
    redis_url: str | None
    gate_url: str | None  # as it is set; see `gate_at`
    database_url: str | None
    data_dir: str
    pool_connections_max: int
    redis_connections_max: int
    http: HttpLimits
    hub: HubLimits
    rates: Rates
    log: LogLimits
    selling: SellingLimits
    keeper: KeeperLimits
    payments: PaymentSettings = PaymentSettings()
    hooks: HookLimits
    ingest: IngestSettings = IngestSettings()
    data_key: str | None = None  # see `orders.sealing`
    failpoints: str | None = None

    @property
    def gate_at(self) -> str | None:
        """The URL of the server, or of a node of the cluster, that the gate is on."""
        return self.gate_url or self.redis_url

    def __repr__(self) -> str:
        return "Settings(…)"


def values(environ: Mapping[str, str]) -> dict[str, Value]:
    """Return the value of every variable; raise `SettingsError` on the first bad one."""
    found: dict[str, Value] = {}
    for variable in VARIABLES:
        text = environ.get(variable.name, "")
        found[variable.name] = variable.read(text) if text else variable.default
    return found


def load(environ: Mapping[str, str]) -> Settings:
    """Return the settings of an environment; raise `SettingsError` on the first bad value."""
    found = values(environ)
    events_max = _int(found, "LOG_EVENTS_MAX")
    return Settings(
        auth=AuthSettings(
            secret=_text(found, "SECRET"),
            jwks_url=_text(found, "JWKS_URL"),
            audience=_text(found, "JWT_AUDIENCE"),
            issuer=_text(found, "JWT_ISSUER"),
            ticket_secret=_text(found, "TICKET_SECRET"),
            link_secret=_text(found, "LINK_SECRET"),
            page_session_s=_int(found, "PAGE_SESSION_S"),
            eligibility=_text(found, "ELIGIBILITY"),
        ),
        serve=ServeSettings(
            host=_text(found, "HOST") or "",
            port=_int(found, "PORT"),
            workers=_int(found, "WORKERS"),
            drain_s=_float(found, "DRAIN_S"),
            log_level=_text(found, "LOG_LEVEL") or "",
            metrics_port=_int(found, "METRICS_PORT"),
        ),
        redis_url=_text(found, "REDIS_URL"),
        gate_url=_text(found, "GATE_URL"),
        database_url=_text(found, "DATABASE_URL"),
        data_dir=_text(found, "DATA_DIR") or "",
        pool_connections_max=_int(found, "POOL_CONNECTIONS_MAX"),
        redis_connections_max=_int(found, "REDIS_CONNECTIONS_MAX"),
        http=HttpLimits(
            body_bytes_max=_int(found, "HTTP_BODY_BYTES_MAX"),
            hsts_s=_int(found, "HSTS_S"),
            media_sources=_media_sources(found),
        ),
        hub=HubLimits(
            connections_max=_int(found, "CONNECTIONS_MAX"),
            queue_bytes_max=_int(found, "QUEUE_BYTES_MAX"),
            queues_bytes_max=_int(found, "QUEUES_BYTES_MAX"),
            deflate=_text(found, "DEFLATE") == "yes",
            heartbeat_ms=_int(found, "HEARTBEAT_MS"),
            hello_deadline_ms=_int(found, "HELLO_DEADLINE_MS"),
            user_connections_max=_int(found, "USER_CONNECTIONS_MAX"),
            address_connections_max=_int(found, "ADDRESS_CONNECTIONS_MAX"),
            connects=_rate(found, "CONNECTS"),
            memory_entries_max=_int(found, "MEMORY_EVENTS_MAX"),
            memory_bytes_max=_int(found, "MEMORY_BYTES_MAX"),
            memory_ms=1000 * _int(found, "MEMORY_S"),
            replay_events_max=_int(found, "REPLAY_EVENTS_MAX"),
            proxies=_networks(found, "TRUSTED_PROXIES"),
        ),
        rates=Rates(
            sell=_rate(found, "SELL"),
            host=_rate(found, "HOST"),
            chat=_rate(found, "CHAT"),
            react=_rate(found, "REACT"),
        ),
        log=LogLimits(
            main_entries_max=events_max,
            chat_entries_max=events_max,
            retention_ms=1000 * _int(found, "LOG_RETENTION_S"),
            tail_entries_max=max(_LOG.tail_entries_max, 2 * events_max),
        ),
        selling=SellingLimits(waiting_max=_int(found, "BUYS_WAITING_MAX")),
        keeper=KeeperLimits(round_s=_float(found, "KEEPER_ROUND_S")),
        payments=_payments(found),
        hooks=HookLimits(
            http=_text(found, "HOOKS_HTTP") == "yes",
            networks=_networks(found, "HOOKS_NETWORKS"),
            timeout_s=_float(found, "HOOKS_TIMEOUT_S"),
            sending_max=_int(found, "HOOKS_SENDING_MAX"),
            life_s=_int(found, "HOOKS_LIFE_S"),
            kept_s=_int(found, "HOOKS_KEPT_S"),
        ),
        ingest=IngestSettings(
            grace_s=_float(found, "INGEST_GRACE_S"),
            secret=_text(found, "INGEST_SECRET"),
            livekit_secret=_text(found, "LIVEKIT_SECRET"),
            playback_url=_playback_url(found),
        ),
        data_key=_data_key(found),
        failpoints=_failpoints(found),
    )


PROVIDERS = ("stripe", "manual", "trial")


def _payments(found: Mapping[str, Value]) -> PaymentSettings:
    """Return through whom viewers may pay; raise `SettingsError` when something is missing."""
    names = _names(found, "PAYMENTS")
    for name in names:
        if name not in PROVIDERS:
            raise SettingsError(f"LIVECART_PAYMENTS: {name!a} is none of {PROVIDERS}")
    if "trial" in names and _text(found, "TESTING") != "yes":
        raise SettingsError(
            "LIVECART_PAYMENTS names `trial`, whose money is not real: it is refused unless"
            " LIVECART_TESTING=yes"
        )
    needed = {
        "stripe": ("STRIPE_KEY", "STRIPE_SIGNING_SECRETS", "STRIPE_PUBLISHABLE_KEY"),
        "manual": ("MANUAL_TEXT",),
        "trial": ("TRIAL_BANK",),
    }
    for name in names:
        for variable in needed[name]:
            if _text(found, variable) is None:
                raise SettingsError(_missing(f"LIVECART_{variable}"))
    return PaymentSettings(
        names=names,
        stripe_key=_text(found, "STRIPE_KEY"),
        stripe_signing_secrets=_names(found, "STRIPE_SIGNING_SECRETS"),
        stripe_url=_text(found, "STRIPE_URL"),
        stripe_publishable_key=_text(found, "STRIPE_PUBLISHABLE_KEY"),
        manual_text=_text(found, "MANUAL_TEXT"),
        trial_bank=_text(found, "TRIAL_BANK"),
    )


def _names(found: Mapping[str, Value], name: str) -> tuple[str, ...]:
    parts = (part.strip() for part in (_text(found, name) or "").split(","))
    return tuple(dict.fromkeys(part for part in parts if part))


def _media_sources(found: Mapping[str, Value]) -> str:
    """Return the sources, once they can be nothing but sources in a policy."""
    sources = _text(found, "MEDIA_SOURCES") or ""
    if not re.fullmatch(r"[A-Za-z0-9.:/*_\-\[\] ]+", sources):
        raise SettingsError(
            "LIVECART_MEDIA_SOURCES is not sources with spaces between, as https://cdn.example"
        )
    return sources


def _playback_url(found: Mapping[str, Value]) -> str | None:
    """Return the template, once it names the stream."""
    template = _text(found, "PLAYBACK_URL")
    if template is not None and "{name}" not in template:
        raise SettingsError("LIVECART_PLAYBACK_URL lacks {name}, where the stream's id goes")
    return template


def _data_key(found: Mapping[str, Value]) -> str | None:
    """Return the keys that data is sealed with, once they are keys."""
    keys = _text(found, "DATA_KEY")
    if keys is not None:
        try:
            Sealer(keys)
        except ValueError as error:
            raise SettingsError(f"LIVECART_DATA_KEY: {error}") from error
    return keys


def _failpoints(found: Mapping[str, Value]) -> str | None:
    """Return the plan of failpoints; nobody has one by mistake."""
    plan = _text(found, "FAILPOINTS")
    if plan is None:
        return None
    if _text(found, "TESTING") != "yes":
        raise SettingsError(
            "LIVECART_FAILPOINTS does harm on purpose: it is refused unless LIVECART_TESTING=yes"
        )
    try:
        failpoints.check(plan)
    except ValueError as error:
        raise SettingsError(f"LIVECART_FAILPOINTS: {error}") from error
    return plan


def demand(settings: Settings, *names: Literal["redis", "database", "tokens"]) -> None:
    """Raise `SettingsError` when something that has no default is missing."""
    for name in names:
        if name == "redis" and settings.redis_url is None:
            raise SettingsError(_missing("LIVECART_REDIS_URL"))
        if name == "database" and settings.database_url is None:
            raise SettingsError(_missing("LIVECART_DATABASE_URL"))
        if name == "tokens" and settings.auth.secret is None and settings.auth.jwks_url is None:
            raise SettingsError(f"{_missing('LIVECART_SECRET')} (or set LIVECART_JWKS_URL)")


def _missing(name: str) -> str:
    variable = _BY_NAME[name]
    return f"{name} is not set: {variable.meaning}; it is {variable.allowed}"


def _text(found: Mapping[str, Value], name: str) -> str | None:
    value = found[f"LIVECART_{name}"]
    return None if value is None else str(value)


def _rate(found: Mapping[str, Value], name: str) -> Rate:
    return Rate(_float(found, f"{name}_PER_S"), _int(found, f"{name}_BURST"))


def _networks(found: Mapping[str, Value], name: str) -> tuple[Network, ...]:
    try:
        return networks(_text(found, name) or "")
    except ValueError as error:
        raise SettingsError(f"LIVECART_{name}: {error}") from error


def _int(found: Mapping[str, Value], name: str) -> int:
    value = found[f"LIVECART_{name}"]
    assert isinstance(value, int)
    return value


def _float(found: Mapping[str, Value], name: str) -> float:
    value = found[f"LIVECART_{name}"]
    assert isinstance(value, int | float)
    return float(value)
