"""Where connections come from: whose address counts, and how many each has.

Owns the reading of `X-Forwarded-For` behind proxies that the operator names, and the count for each
address of this process. An IPv6 host has a whole /64 to itself, which counts as one. Must never
know a socket. Called by hub.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from ipaddress import IPv4Network as IPv4Net

Network = IPv4Net | IPv6Network
NOWHERE = ""  # a Unix socket, or what no proxy names: not counted

_HOST_BITS_OF_IPV6 = 64


def networks(text: str) -> tuple[Network, ...]:
    """Read addresses and networks with commas between; raise ValueError."""
    return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())


class Addresses:
    """The addresses of one process' connections."""

    def __init__(self, each_max: int, proxies: Sequence[Network] = ()) -> None:
        self._each_max = each_max
        self._proxies = tuple(proxies)
        self._counts: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._counts)

    def client(self, peer: str, forwarded: str) -> str:
        """Return whose address counts: the peer's, or the last one before the trusted proxies.

        `peer` is "" for a Unix socket, which only a proxy on this machine speaks to.
        """
        if self._proxies and (not peer or self._trusted(peer)):
            for hop in reversed(forwarded.split(",")):
                peer = hop.strip()
                if not self._trusted(peer):
                    break
        return _place(peer)

    def full(self, client: str) -> bool:
        """Tell whether an address has as many connections as it may."""
        return self._counts.get(client, 0) >= self._each_max and client != NOWHERE

    def enter(self, client: str) -> None:
        """Count a connection."""
        if client != NOWHERE:
            self._counts[client] = self._counts.get(client, 0) + 1

    def leave(self, client: str) -> None:
        """Count it no more."""
        if client != NOWHERE:
            left = self._counts[client] - 1
            if left:
                self._counts[client] = left
            else:
                del self._counts[client]

    def _trusted(self, address: str) -> bool:
        try:
            found = _plain(address)
        except ValueError:
            return False
        return any(found in network for network in self._proxies)


def _plain(address: str) -> IPv4Address | IPv6Address:
    found = ip_address(address)
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        return found.ipv4_mapped
    return found


def _place(address: str) -> str:
    if ":" not in address:  # the most part; what is no address at all is a place of its own
        return address
    try:
        found = _plain(address)
    except ValueError:
        return address
    if isinstance(found, IPv4Address):
        return str(found)
    return str(IPv6Network((int(found) >> _HOST_BITS_OF_IPV6 << _HOST_BITS_OF_IPV6, 64)))
