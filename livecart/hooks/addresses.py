"""Which addresses a webhook may call: public ones, and what the operator allows besides.

A shop names any host it likes, and the caller sits inside the operator's network: without this rule
it would reach databases, metadata services and neighbours for whoever has a host's token. Each
address that a name leads to is judged, and the connection goes to one that was: a name may lead
elsewhere at the next look. Pure; called by `post` and by the routes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from streams.addresses import Network

Address = IPv4Address | IPv6Address

#: The IPv6 addresses that are given out to networks at all (RFC 4291, 2.4).
_GLOBAL_6 = ip_network("2000::/3")
#: Within these: protocol assignments with Teredo and ORCHID, documentation, 6to4, documentation,
#: and segment routing's. What is reached through them is not what they say.
_SPECIAL_6 = tuple(
    ip_network(text) for text in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")
)
_NAT64 = ip_network("64:ff9b::/96")
#: Beside what the library calls not global: 6to4 relays, AS112, AMT, which lead elsewhere.
_SPECIAL_4 = tuple(
    ip_network(text) for text in ("192.88.99.0/24", "192.31.196.0/24", "192.52.193.0/24")
)


class AddressRefused(Exception):
    """Nothing may be sent there; the text is for the log of deliveries, and names no address."""


def literal(host: str) -> Address | None:
    """Return the address that a URL's host is, None when it is a name."""
    try:
        return ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return None


def public(address: Address) -> bool:
    """Tell whether an address is one of the public Internet's."""
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped
        if inner is None and address in _NAT64:
            inner = IPv4Address(int(address) & 0xFFFF_FFFF)
        if inner is not None:
            return public(inner)
        return address in _GLOBAL_6 and not any(address in net for net in _SPECIAL_6)
    return (
        address.is_global
        and not address.is_multicast
        and not address.is_reserved
        and not any(address in net for net in _SPECIAL_4)
    )


def allowed(address: Address, networks: Sequence[Network]) -> bool:
    """Tell whether an address may be called: it is public, or in one of the networks."""
    plain: Address = address
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        plain = address.ipv4_mapped
    return any(plain in net for net in networks) or public(plain)


def judged(addresses: Iterable[str], networks: Sequence[Network]) -> list[str]:
    """Return all addresses of a name in their order; raise `AddressRefused` if any is not allowed.

    One private address among public ones is a trap, not a spare.
    """
    found: dict[str, None] = {}
    for text in addresses:
        address = literal(text)
        if address is None or "%" in text or not allowed(address, networks):
            raise AddressRefused("the name leads to an address that must not be called")
        found[str(address)] = None
    if not found:
        raise AddressRefused("the name leads nowhere")
    return list(found)
