"""Named points of the order path where a test has a fault done to the process that reaches them.

Owns the points, the reading of a plan and the doing of it. Off, as everywhere but in tests, a point
is one call of an empty function a batch; `livecart` arms it, and only where settings say that the
process is there to be tested. Called by counter, undo, bundles, changes, keeper, rebuild, the
publisher and the webhooks.
process is there to be tested. Called by counter, undo, bundles, changes, keeper, rebuild, clerk
and the publisher.

A plan is a list of shots, `point=action[@n]` with commas between them: the n-th time (1 without)
that this process reaches the point it does the action, once. Or it is the absolute path of a folder
in which each file's name is a shot (what follows a `#` only makes names differ): it may come and go
while processes run, and whoever fires removes it, so that of all processes, also those started
anew, one fires. The actions:

    kill            SIGKILL to ourselves
    stop            SIGSTOP to ourselves; somebody must send SIGCONT
    drop:redis      shut all our connections to Redis down, in the middle of what they are doing
    drop:postgres   the same to Postgres
    sleep:MS        let this one task wait, while the process goes on
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec

log = logging.getLogger(__name__)

#: Every point, and what has happened when it is reached.
POINTS = {
    "mark.due": "buyers were answered, and the gate is not told yet that their rows exist",
    "hold.sent": "a hold call is under way",
    "hold.replied": "holds were taken, and nobody but Redis knows",
    "admit.due": "holds are known here, and were not sent to the ledger",
    "admit.sent": "an admission is under way",
    "admit.committed": "rows are committed, and nobody was answered",
    "undo.due": "fresh holds were refused, and are not given back",
    "change.committed": "a payment or a cancellation is committed, and nobody was told",
    "host.committed": "a host's change is committed, and nobody was told",
    "gate.due": "a change is committed, and the gate does not know",
    "gate.told": "the gate knows of a change, and its figures and facts are not told",
    "follow.read": "movements were read that the gate does not have",
    "expire.committed": "overdue orders were ended, and nobody was told",
    "fence.raised": "ranks were fenced, and the rows are not read yet",
    "fence.read": "the rows of stale holds were read, and nothing was done about them",
    "fence.marked": "stale holds with a row were marked, and the orphans are not given back",
    "catch_up.due": "the gate lacks movements that nobody is about to bring it",
    "rebuild.raised": "an offer has a new epoch in Postgres, and the old one in Redis",
    "rebuild.read": "a page of a rebuild was read, and is not staged",
    "rebuild.staged": "a rebuild is staged, and not installed",
    "rebuild.installed": "a rebuild is installed, and lacks what was committed since its snapshot",
    "bundle.held": "every line of a bundle is held, and none was sent to the ledger",
    "bundle.committed": "the rows of a bundle are committed, and nobody was answered",
    "lend.held": "a bucket set units aside for another, and no row says so",
    "transfer.committed": "units were moved to another bucket, and no gate knows",
    "transfer.borrowed": "the gate that borrowed units has them, and the lender's does not know",
    "payment.noted": "a payment is noted, and its provider was not asked",
    "payment.begun": "a provider began a payment, and the ledger does not know",
    "notice.committed": "what a notice did is committed, and nobody was told",
    "move.claimed": "a move of money is noted, and its provider was not asked",
    "move.done": "money moved, and the ledger does not know",
    "move.heard": "the ledger knows of moved money, and has the move still open",
    "replace.bought": "an order paid too late was bought anew, and is not confirmed",
    "comment.recorded": "comments are in their table, and nothing was bought for them",
    "comment.bought": "a comment's orders are committed, and nobody was told",
    "comment.told": "a comment's viewer was told, and its row does not know",
    "publish.read": "facts were read that the log does not have",
    "publish.appended": "facts are in the log, and the ledger does not know",
    "hooks.taken": "rows of the webhooks' outbox were read, and no delivery is made of them",
    "hooks.made": "deliveries are made and their rows gone, and nothing was sent",
    "hooks.claimed": "a delivery is leased, and not sent",
    "hooks.sent": "a delivery was answered, and that is not noted",
}
SERVERS = ("redis", "postgres")
SLEEP_MS_MAX = 60_000


class Shot(msgspec.Struct, frozen=True):
    """One fault that waits for its point to be reached."""

    point: str
    action: str
    value: str  # of drop: the server; of sleep: the time in ms
    nth: int


def shot_of(text: str) -> Shot:
    """Return the shot that `point=action[@n][#…]` names; raise ValueError saying what is wrong."""
    what = text.partition("#")[0].strip()
    head, _, count = what.partition("@")
    point, _, does = head.partition("=")
    action, _, value = does.partition(":")
    if point not in POINTS:
        raise ValueError(f"{point!r} is no failpoint: {', '.join(POINTS)}")
    known = {
        "kill": value == "",
        "stop": value == "",
        "drop": value in SERVERS,
        "sleep": value.isdecimal() and int(value) <= SLEEP_MS_MAX,
    }
    if not known.get(action, False):
        raise ValueError(f"{does!r} is no action: kill, stop, drop:redis, drop:postgres, sleep:MS")
    if count and not (count.isdecimal() and int(count) > 0):
        raise ValueError(f"{what!r}: what follows @ counts from 1")
    return Shot(point, action, value, int(count or 1))


def check(plan: str) -> None:
    """Raise ValueError when a plan cannot be read."""
    if not plan.startswith("/"):
        for text in plan.split(","):
            shot_of(text)


async def _pass(point: str) -> None:
    """Do nothing: no plan is armed."""


#: Awaited at each point; `arm` puts something in its place.
reach: Callable[[str], Awaitable[None]] = _pass


def arm(plan: str, urls: Mapping[str, str]) -> None:
    """Have the plan carried out in this process; `urls` are those of the two servers."""
    global reach
    check(plan)
    reach = _Range(plan, urls).reach
    log.warning("failpoints are armed: this process is here to be tested (%s)", plan)


class _Range:
    """The shots of one plan, and how often their points were reached here."""

    def __init__(self, plan: str, urls: Mapping[str, str]) -> None:
        self._folder = plan if plan.startswith("/") else None
        self._listed = [] if self._folder else [text.strip() for text in plan.split(",")]
        self._peers = {name: peer_of(url) for name, url in urls.items()}
        self._times: dict[str, int] = {}  # by the shot's text

    async def reach(self, point: str) -> None:
        """Fire what waits for this point, if it is its turn."""
        for text in self._waiting():
            shot = shot_of(text)
            if shot.point != point:
                continue
            self._times[text] = self._times.get(text, 0) + 1
            if self._times[text] >= shot.nth and self._take(text):
                log.warning("failpoint fired: %s", text)
                await self._do(shot)

    def _waiting(self) -> list[str]:
        if self._folder is None:
            return list(self._listed)
        try:
            return os.listdir(self._folder)
        except FileNotFoundError:
            return []

    def _take(self, text: str) -> bool:
        """Tell whether the shot is ours; nobody else fires it then."""
        if self._folder is None:
            self._listed.remove(text)
            return True
        try:
            os.unlink(os.path.join(self._folder, text))
        except FileNotFoundError:
            return False
        return True

    async def _do(self, shot: Shot) -> None:
        if shot.action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif shot.action == "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        elif shot.action == "sleep":
            await asyncio.sleep(int(shot.value) / 1000)
        else:
            for _ in range(2):  # what was just begun gets on its way
                await asyncio.sleep(0)
            log.warning("%d connections dropped", _drop(self._peers[shot.value]))


def peer_of(url: str) -> str | int:
    """Return what tells a connection to this server from others: its socket's path, or its port."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return unquote(parts.path)
    host = parse_qs(parts.query).get("host", [""])[0]
    default = 5432 if parts.scheme.startswith("postgres") else 6379
    if host.startswith("/"):
        return f"{host}/.s.PGSQL.{parts.port or default}"
    return parts.port or default


def _drop(peer: str | int) -> int:
    """Shut down every connection of this process to `peer`; return how many there were.

    By the kernel and behind the client libraries' backs, as when a network goes away.
    """
    dropped = 0
    for entry in os.listdir("/dev/fd"):
        with suppress(OSError):  # no socket, not connected, or closed meanwhile
            connection = socket.socket(fileno=int(entry))
            try:
                name = connection.getpeername()
                if peer == (name[1] if isinstance(name, tuple) else name):
                    connection.shutdown(socket.SHUT_RDWR)
                    dropped += 1
            finally:
                connection.detach()
    return dropped
