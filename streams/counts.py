"""Numbers that hubs share through Redis: who is present, totals of reactions, and of buys.

Owns the keys `{log:NN}:<stream>:present`, `…:users:<hub>`, `…:reactions` and `…:buys` and their
scripts. A count is a lease, so a hub that was killed is forgotten within `lease_ms`. Must never
know a session. Called by hub, by livecart's figures, and by the call that shows a host his
audience. Every method raises `Refused(RETRY)` when Redis is away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from streams.calls import CALL_TIMEOUT_S, Arg, Caller, Client, Script
from streams.log import KEYS_PER_CALL_MAX, tag_of

RETENTION_MS = 24 * 3600 * 1000
USERS_LEASE_MS = 10_000
USERS_PER_CALL_MAX = 4_000  # Lua hands over fewer than 8,000 values at once


class Counts:
    """One hub's part in the shared numbers."""

    def __init__(self, redis: Client, hub_id: str, lease_ms: int) -> None:
        self._caller = Caller(redis, CALL_TIMEOUT_S)
        self._hub_id = hub_id
        self._lease_ms = lease_ms
        self._presence = Script("presence", prelude=False)
        self._react = Script("react", prelude=False)
        self._users = Script("users", prelude=False)
        self._audience = Script("audience", prelude=False)
        self._tally = Script("tally", prelude=False)

    async def close(self) -> None:
        """Wait for the calls under way; before the client is closed."""
        await self._caller.close()

    async def present(self, own: Sequence[tuple[str, int]]) -> list[int]:
        """Renew this hub's count of viewers per stream, of one tag; return the sums of all hubs."""
        sums: list[int] = []
        for start in range(0, len(own), KEYS_PER_CALL_MAX):
            part = own[start : start + KEYS_PER_CALL_MAX]
            keys = [f"{tag_of(stream_id)}:{stream_id}:present" for stream_id, _ in part]
            args: list[Arg] = [self._hub_id, self._lease_ms, RETENTION_MS]
            args += [count for _, count in part]
            sums += cast("list[int]", await self._caller.script(self._presence, keys, args))
        return sums

    async def tell_users(self, stream_id: str, users: Sequence[str]) -> None:
        """Say who is in a stream on this hub; it is believed for USERS_LEASE_MS."""
        key = f"{tag_of(stream_id)}:{stream_id}:users:{self._hub_id}"
        for start in range(0, max(1, len(users)), USERS_PER_CALL_MAX):
            part = users[start : start + USERS_PER_CALL_MAX]
            args: list[Arg] = [USERS_LEASE_MS, "more" if start else "new", *part]
            await self._caller.script(self._users, [key], args)

    async def audience(self, stream_id: str) -> tuple[int, int]:
        """Return the connections of a stream on all hubs, and about how many users they are."""
        key = f"{tag_of(stream_id)}:{stream_id}"
        reply = await self._caller.script(self._audience, [f"{key}:present"], [f"{key}:users:"])
        viewers, users = cast("list[int]", reply)
        return viewers, users

    async def react(self, stream_id: str, kinds: Sequence[tuple[str, int, int]]) -> dict[str, int]:
        """Add reactions (kind, total known here, how many); return the totals of all hubs."""
        args: list[Arg] = [RETENTION_MS]
        for kind, known, n in kinds:
            args += (kind, known, n)
        key = f"{tag_of(stream_id)}:{stream_id}:reactions"
        reply = cast("list[bytes]", await self._caller.script(self._react, [key], args))
        return {reply[i].decode(): int(reply[i + 1]) for i in range(0, len(reply), 2)}

    async def tally(
        self, stream_id: str, words: Mapping[str, int], orders: int
    ) -> tuple[int, dict[str, int]]:
        """Add to what a stream's buys came to, by word, and to the orders of this second.

        Return the orders of the last ten full seconds, and the totals of all hubs by word.
        """
        args: list[Arg] = [RETENTION_MS, orders]
        for word, n in words.items():
            args += (word, n)
        key = f"{tag_of(stream_id)}:{stream_id}:buys"
        reply = await self._caller.script(self._tally, [key], args)
        lately, *told = cast("list[int | bytes]", reply)
        pairs = zip(told[::2], told[1::2], strict=True)
        return int(lately), {cast(bytes, word).decode(): int(n) for word, n in pairs}
