"""What a process is made of, as one typed value; and whether it is there yet.

Owns no behaviour beyond that. Built by `app`; read by routes, pages and the process commands.
"""

from __future__ import annotations

from dataclasses import dataclass

import asyncpg
from redis.asyncio import Redis

from livecart.announce import Announcer
from livecart.auth import TokenVerifier
from livecart.catalog.store import Catalog
from livecart.commands import Commands
from livecart.comments import ChatClerk
from livecart.contacts import Contacts
from livecart.entrance import Entrance
from livecart.figures import Figures
from livecart.links import Links
from livecart.rooms import Rooms
from livecart.settings import Settings
from orders.changes import Changes
from orders.comments.clerk import Clerk
from orders.ids import Ids
from orders.ledger.hooks import HookLedger
from orders.ledger.ledger import Ledger
from orders.payments.cashier import Cashier
from orders.rebuild import Rebuilder
from orders.sealing import Sealer
from orders.selling import Selling
from orders.stock.cluster import ClusterClient
from orders.stock.gate import Gate
from streams.bus import Bus
from streams.clock import RedisClock
from streams.codes import Close, Code
from streams.hub import Hub
from streams.log import EventLog
from streams.ports import Ear, Refused, Socket
from streams.tasks import Tasks


@dataclass(frozen=True, slots=True)
class Services:
    """Everything of one server process, each built once."""

    settings: Settings
    redis: Redis | ClusterClient
    pool: asyncpg.Pool[asyncpg.Record]
    clock: RedisClock
    ledger: Ledger
    gate: Gate
    ids: Ids
    catalog: Catalog
    announcer: Announcer
    rebuilder: Rebuilder
    changes: Changes
    selling: Selling
    rooms: Rooms
    verifier: TokenVerifier
    events: EventLog
    bus: Bus
    commands: Commands
    clerk: Clerk
    ear: ChatClerk
    hub: Hub
    figures: Figures
    cashier: Cashier
    contacts: Contacts
    links: Links
    entrance: Entrance
    hooks: HookLedger
    sealer: Sealer | None  # None: there is no LIVECART_DATA_KEY


class Site:
    """The services once they are there; until then every call is answered `retry`.

    Also the front of the sockets (`streams.ports.Front`): upgrades get HTTP 503 until then.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.body_bytes_max = settings.http.body_bytes_max
        self.waits_for = "the first connections"  # why the services are not there
        self._services: Services | None = None
        self._draining = False
        self.changes = Tasks("changes")  # that HTTP calls asked for

    @property
    def services(self) -> Services:
        """The services; raise `Refused(RETRY)` while they are not there."""
        if self._services is None:
            raise Refused(Code.RETRY, f"Not ready: waiting for {self.waits_for}.")
        return self._services

    @property
    def built(self) -> Services | None:
        """The services, None while they are not there."""
        return self._services

    @property
    def draining(self) -> bool:
        """Tell whether this process is about to end."""
        return self._draining

    def open(self, services: Services) -> None:
        """Serve from now on."""
        self._services = services

    # --- the end, as `serve` brings it about -----------------------------------------------------

    def end(self) -> None:
        """Be ready no more."""
        self._draining = True

    @property
    def selling(self) -> Counters:
        """What is drained first."""
        return Counters(self)

    async def drain(self, grace_s: float) -> None:
        """Send the viewers elsewhere, spread over the grace."""
        if self._services is not None:
            await self._services.hub.drain(grace_s)

    # --- streams.ports.Front ---------------------------------------------------------------------

    def client(self, peer: str, forwarded: str) -> str:
        """Return whose address counts."""
        return peer if self._services is None else self._services.hub.client(peer, forwarded)

    def turns_away(self, client: str) -> bool:
        """Tell whether a new connection is to be answered HTTP 503."""
        return self._services is None or self._services.hub.turns_away(client)

    def deflates(self) -> bool:
        """Tell whether messages may be deflated."""
        return self._services is not None and self._services.hub.deflates()

    def accept(self, socket: Socket, stream_id: str, header_token: str | None, client: str) -> Ear:
        """Hand a connection to the hub."""
        if self._services is None:  # `turns_away` was asked in the same breath
            socket.close(Close.DRAINING, "not ready")
            return _Deaf()
        return self._services.hub.accept(socket, stream_id, header_token, client)


class Counters:
    """The buys of a site that may not be there yet."""

    def __init__(self, site: Site) -> None:
        self._site = site

    async def drain(self, timeout_s: float) -> bool:
        """Take no more buys and wait until all are answered; tell whether they are."""
        self._site.end()
        built = self._site.built
        return built is None or await built.selling.drain(timeout_s)


class _Deaf:
    """The ear of a connection that nobody serves."""

    def received(self, payload: bytes, binary: bool) -> None:
        """Hear nothing."""

    def stalled(self) -> None:
        """Nothing more is written anyway."""

    def drained(self) -> None:
        """Nothing waits here."""

    def choked(self) -> None:
        """There was no snapshot."""

    def lost(self) -> None:
        """Nothing to forget."""
