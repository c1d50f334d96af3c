"""Outbound webhooks, what needs no server: addresses, secrets, signatures, seals, turns."""

from __future__ import annotations

import base64
import time
from collections import Counter
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from random import Random

import httpx
import pytest
from cryptography.fernet import Fernet
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import ip_addresses
from standardwebhooks import Webhook, WebhookVerificationError

from livecart.api.webhooks import judge
from livecart.hooks.addresses import AddressRefused, allowed, judged, literal, public
from livecart.hooks.limits import HookLimits
from livecart.hooks.names import FILTERS, NAMES
from livecart.hooks.schedule import shares, shop_key, wait_s
from livecart.hooks.signing import new_secret, signed
from livecart.settings import SettingsError, load
from orders.ledger.hooks import Waiting
from orders.sealing import CannotOpen, Sealer, new_key
from streams.ports import Refused
from streams.protocol import ORDER_EVENT

#: What must never be called, written down from the registries of IANA, not from the code.
PRIVATE = [
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
    "192.0.0.0/29", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15",
    "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4", "255.255.255.255/32",
    "::/128", "::1/128", "::/96", "100::/64", "2001::/32", "2001:10::/28", "2001:db8::/32",
    "2002::/16", "3fff::/20", "5f00::/16", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8",
    "64:ff9b:1::/48",
]  # fmt: skip
private = st.sampled_from(PRIVATE).flatmap(lambda text: ip_addresses(network=text))
private_4 = st.sampled_from([text for text in PRIVATE if ":" not in text]).flatmap(
    lambda text: ip_addresses(network=text)
)
PUBLIC = ["8.8.8.8", "1.1.1.1", "93.184.216.34", "2606:4700::1111", "2a00:1450:4001::1"]


@given(private)
def test_no_private_address_is_called(address: IPv4Address | IPv6Address) -> None:
    """Not one of any range that IANA keeps from the public Internet, nor beside a public one."""
    assert not allowed(address, ())
    with pytest.raises(AddressRefused):
        judged(["8.8.8.8", str(address)], ())


@given(private_4)
def test_an_ipv4_address_in_ipv6_clothes_is_seen_through(address: IPv4Address) -> None:
    """Mapped, translated (NAT64), 6to4: what counts is where the packet ends."""
    for prefix in (0xFFFF << 32, 0x64FF9B << 96):
        assert not allowed(IPv6Address(prefix | int(address)), ())
    assert not allowed(IPv6Address(0x2002 << 112 | int(address) << 80), ())


@pytest.mark.parametrize("text", PUBLIC)
def test_public_addresses_are_called(text: str) -> None:
    """They are what the rule is there to let through, mapped ones too; order is kept."""
    assert public(ip_address(text))
    assert judged([text, "9.9.9.9", text], ()) == [text, "9.9.9.9"]
    if ":" not in text:
        assert allowed(ip_address(f"::ffff:{text}"), ())


@given(private)
def test_what_the_operator_allows_is_called_and_nothing_else(
    address: IPv4Address | IPv6Address,
) -> None:
    """A named network opens itself alone."""
    nets = (ip_network("10.1.0.0/16"), ip_network("fd00:1::/32"))
    assert allowed(address, nets) == any(address in net for net in nets)
    assert allowed(ip_address("::ffff:10.1.2.3"), nets)


def test_a_host_that_is_an_address_is_known_as_one() -> None:
    """Bare, in brackets, with a zone; names and numbers that are none are looked up."""
    assert literal("127.0.0.1") == literal("[127.0.0.1]") == IPv4Address("127.0.0.1")
    assert literal("[::1]") == IPv6Address("::1")
    assert literal("fe80::1%eth0") == IPv6Address("fe80::1")
    assert literal("example.org") is None
    assert literal("2130706433") is None
    with pytest.raises(AddressRefused):
        judged([], ())
    with pytest.raises(AddressRefused):
        judged(["2606:4700::1%1"], ())


urls = st.builds(
    "{}://{}".format,
    st.sampled_from(["https", "https", "http"]),
    st.text(st.characters(exclude_categories=["Cs", "Cc", "Zs"]), min_size=1, max_size=40),
)


@given(urls)
def test_every_url_is_judged(url: str) -> None:
    """Taken, then it names a host that can be asked for by https; or refused, with its field."""
    with suppress(Refused):
        judge(url, HookLimits())
        parsed = httpx.URL(url)
        assert parsed.scheme == "https"
        assert parsed.raw_host
        assert not parsed.userinfo
        return
    with pytest.raises(Refused) as caught:
        judge(url, HookLimits())
    assert caught.value.field == "url"


def test_a_secret_signs_as_the_standard_has_it() -> None:
    """`whsec_` and 32 bytes; the library verifies; another body, id or secret is refused."""
    old, new = new_secret(), new_secret()
    assert new.startswith("whsec_")
    assert len(base64.b64decode(new.removeprefix("whsec_"))) == 32
    now_s = time.time()
    headers = signed("evt_1", '{"a":"é"}', [new, old], now_s)
    assert set(headers) == {"webhook-id", "webhook-timestamp", "webhook-signature"}
    for secret in (old, new):
        assert Webhook(secret).verify('{"a":"é"}', headers) == {"a": "é"}
    for secret, body, event in (
        (new_secret(), '{"a":"é"}', "evt_1"), (new, '{"a":"e"}', "evt_1"), (new, '{"a":"é"}', "2"),
    ):  # fmt: skip
        with pytest.raises(WebhookVerificationError):
            Webhook(secret).verify(body, headers | {"webhook-id": event})


def test_every_status_of_an_order_has_a_name() -> None:
    """What the protocol knows of an order can be asked for; each group has its names."""
    assert {f"order.{status}" for status in ORDER_EVENT} <= set(NAMES)
    for name in NAMES:
        assert name.partition(".")[0] + ".*" in FILTERS


def test_tries_come_later_each_time_for_three_days() -> None:
    """5 s, then three times as long each, 6 h at most: some twenty tries, and none is far apart."""
    waits = [wait_s(tries, None, lambda low, high: (low + high) / 2) for tries in range(1, 40)]
    assert waits[:4] == [5, 15, 45, 135]
    assert max(waits) == 6 * 3600
    assert waits == sorted(waits)
    within = [sum(waits[:n]) for n in range(40) if sum(waits[:n]) < HookLimits().life_s]
    assert 15 <= len(within) <= 25


@given(st.integers(1, 10_000), st.floats(0, 1e9), st.randoms())
def test_jitter_and_what_is_asked_for_are_bounded(
    tries: int, asked_s: float, random: Random
) -> None:
    """A third to either side; a receiver may ask for an hour, not for ever."""
    usual = min(5.0 * 3 ** min(tries - 1, 20), 6 * 3600)
    assert usual * 0.66 < wait_s(tries, None, random.uniform) < usual * 1.34
    assert wait_s(tries, asked_s, random.uniform) >= min(asked_s, 3600)
    assert wait_s(tries, asked_s, random.uniform) <= max(usual * 1.34, 3600)


endpoints = st.dictionaries(
    st.integers(0, 30), st.tuples(st.integers(0, 5), st.integers(0, 6), st.integers(0, 9)),
    max_size=30,
)  # fmt: skip


@given(endpoints, st.randoms())
def test_nobody_gets_more_than_his_share(
    found: dict[int, tuple[int, int, int]], random: Random
) -> None:
    """Not an endpoint, not a shop, not all; one that fails gets one; with room everybody gets."""
    limits = HookLimits(sending_max=20, shop_sending_max=8, endpoint_sending_max=4)
    waiting = [Waiting(f"wh_{n}", f"s{shop}", fails) for n, (shop, fails, _) in found.items()]
    sending: Counter[str] = Counter()
    for n, (shop, _, busy) in found.items():
        sending[f"wh_{n}"] += busy
        sending[shop_key(f"s{shop}")] += busy
    many = shares(waiting, sending, limits, random)
    assert all(n > 0 for n in many.values())
    busy_all = sum(busy for _, _, busy in found.values())
    assert sum(many.values()) <= max(0, limits.sending_max - busy_all)
    of_shop: Counter[str] = Counter()
    for one in waiting:
        mine = many.get(one.id, 0)
        of_shop[one.shop] += mine
        most = 1 if one.failures >= 3 else limits.endpoint_sending_max
        assert mine <= max(0, most - sending[one.id])
    for shop_, n in of_shop.items():
        assert n <= max(0, limits.shop_sending_max - sending[shop_key(shop_)])
    idle = not busy_all and len(waiting) <= limits.sending_max
    if idle and max(Counter(one.shop for one in waiting).values(), default=0) <= 8:
        assert set(many) == {one.id for one in waiting}


def test_what_is_sealed_is_opened_by_its_key_alone() -> None:
    """Any of the keys opens, the first seals; another one, or damage, opens nothing."""
    old, new = new_key(), new_key()
    sealed = Sealer(old).seal(b"address")
    assert b"address" not in sealed
    both = Sealer(f"{new}, {old}")
    assert both.open(sealed) == b"address"
    assert Sealer(new).open(both.renew(sealed)) == b"address"
    for wrong in (sealed[:-4] + b"AAA=", b"", b"address"):
        with pytest.raises(CannotOpen):
            both.open(wrong)
    with pytest.raises(CannotOpen):
        Sealer(new).open(sealed)
    with pytest.raises(CannotOpen):
        Sealer(new).renew(sealed)
    assert old not in repr(both)


def test_a_key_that_is_none_is_refused_and_not_shown() -> None:
    """One line that names the setting, and has nothing of its value."""
    for keys in ("k" * 44, f"{Fernet.generate_key().decode()},short", "é" * 40):
        with pytest.raises(SettingsError, match="LIVECART_DATA_KEY") as caught:
            load({"LIVECART_DATA_KEY": keys})
        assert keys not in str(caught.value)
        assert "short" not in str(caught.value)


def test_where_and_how_webhooks_go_is_a_setting() -> None:
    """By default https to public addresses alone."""
    assert load({}).hooks == HookLimits()
    assert (load({}).hooks.http, load({}).hooks.networks, load({}).data_key) == (False, (), None)
    named = load({"LIVECART_HOOKS_HTTP": "yes", "LIVECART_HOOKS_NETWORKS": "10.0.0.0/8, ::1"})
    assert named.hooks.http
    assert [str(net) for net in named.hooks.networks] == ["10.0.0.0/8", "::1/128"]
    with pytest.raises(SettingsError, match="LIVECART_HOOKS_NETWORKS"):
        load({"LIVECART_HOOKS_NETWORKS": "everywhere"})
