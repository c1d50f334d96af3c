"""How often one user may do what, and where connections come from."""

from __future__ import annotations

import pytest

from streams.addresses import NOWHERE, Addresses, networks
from streams.pace import SAID_S, SWEEP_EVERY_S, Bucket, Pace, Rate, Rates, Turns


def test_a_burst_passes_and_then_the_rate() -> None:
    """So many at once; after that one each period, and a refused one costs nothing."""
    bucket = Bucket(Rate(10, 3))
    assert [bucket.wait_ms("ann", 5.0) for _ in range(3)] == [0, 0, 0]
    assert [bucket.wait_ms("ann", 5.0) for _ in range(50)] == [100] * 50
    assert bucket.wait_ms("ann", 5.05) == 50
    assert bucket.wait_ms("ann", 5.1001) == 0
    assert bucket.wait_ms("ann", 5.1001) == 100


def test_waiting_as_long_as_told_is_enough() -> None:
    """A client that comes again after exactly `wait_ms` is let through, whatever the figures."""
    for per_s in (0.3, 7, 33, 1_000):
        bucket, now_s = Bucket(Rate(per_s, 2)), 1e6
        for _ in range(200):
            wait_ms = bucket.wait_ms("ann", now_s)
            if wait_ms:
                now_s += wait_ms / 1000
                assert bucket.wait_ms("ann", now_s) == 0


def test_the_long_run_is_the_rate() -> None:
    """Somebody who tries all the time gets the burst, then exactly the rate."""
    bucket = Bucket(Rate(20, 40))
    passed = sum(bucket.wait_ms("ann", 100 + n / 1000) == 0 for n in range(10_000))
    assert 238 <= passed <= 240


def test_a_pause_fills_the_burst_and_no_more() -> None:
    """Credit does not pile up beyond the burst."""
    bucket = Bucket(Rate(1, 5))
    for now_s in (0.0, 1_000.0):
        assert sum(bucket.wait_ms("ann", now_s) == 0 for _ in range(20)) == 5


def test_users_and_kinds_do_not_share() -> None:
    """One user's haste is not another's, nor does chatting keep from buying."""
    pace = Pace(Rates(sell=Rate(1, 1), chat=Rate(1, 1)))
    assert pace.wait_ms("ann", "sell", 0.0) == 0
    assert pace.wait_ms("ann", "sell", 0.0) == 1_000
    assert pace.wait_ms("ann", "chat", 0.0) == 0
    assert pace.wait_ms("bob", "sell", 0.0) == 0


def test_who_is_idle_is_forgotten() -> None:
    """Memory is for those who did something lately."""
    bucket = Bucket(Rate(10, 10))
    for n in range(1_000):
        bucket.wait_ms(f"v{n}", 1.0)
    bucket.wait_ms("ann", 1.0 + 2 * SWEEP_EVERY_S)
    assert len(bucket) == 1


def test_an_address_has_so_many_connections() -> None:
    """It is full at the bound, and has room again when one has left."""
    addresses = Addresses(2)
    for _ in range(2):
        assert not addresses.full("10.0.0.1")
        addresses.enter("10.0.0.1")
    assert addresses.full("10.0.0.1")
    assert not addresses.full("10.0.0.2")
    addresses.leave("10.0.0.1")
    assert not addresses.full("10.0.0.1")
    addresses.leave("10.0.0.1")
    assert len(addresses) == 0


def test_a_unix_socket_without_a_word_is_not_counted() -> None:
    """All who come through one would count as one."""
    addresses = Addresses(1)
    for _ in range(3):
        client = addresses.client("", "")
        assert not addresses.full(client)
        addresses.enter(client)
    addresses.leave(NOWHERE)
    assert len(addresses) == 0


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("203.0.113.9", "198.51.100.7", "203.0.113.9"),  # nobody's word but a proxy's is taken
        ("10.1.2.3", "198.51.100.7", "198.51.100.7"),
        (
            "10.1.2.3",
            "1.2.3.4, 198.51.100.7",
            "198.51.100.7",
        ),  # the client's own is first
        ("10.1.2.3", "1.2.3.4, 198.51.100.7, 192.0.2.1", "198.51.100.7"),  # two proxies
        ("10.1.2.3", "", ""),
        ("10.1.2.3", "rubbish", "rubbish"),
        ("::ffff:10.1.2.3", "198.51.100.7", "198.51.100.7"),
        ("10.1.2.3", "2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("", "198.51.100.7", "198.51.100.7"),  # a proxy on this machine
    ],
)
def test_whose_address_counts(peer: str, forwarded: str, client: str) -> None:
    """The one before the trusted proxies, read from the right."""
    addresses = Addresses(1, networks("10.0.0.0/8, 192.0.2.1"))
    assert addresses.client(peer, forwarded) == client


def test_without_proxies_the_header_says_nothing() -> None:
    """Anybody could send it."""
    assert Addresses(1).client("10.1.2.3", "198.51.100.7") == "10.1.2.3"
    assert Addresses(1).client("::ffff:10.1.2.3", "") == "10.1.2.3"
    with pytest.raises(ValueError, match="300"):
        networks("300.1.1.1")


def test_each_has_his_turn_once_and_the_same_words_are_no_other() -> None:
    """What is sent again with its key is answered again; the next turn comes in its time."""
    turns = Turns(10)
    assert turns.wait_ms("ann", "k1", 100.0) == 0
    assert turns.wait_ms("ann", "k2", 101.0) == 9_000
    assert turns.wait_ms("ann", "k1", 101.0) == 0
    assert turns.wait_ms("bob", "k1", 101.0) == 0
    assert turns.wait_ms("bob", "k1", 115.0) == 0  # late: his turn is over, and this is none
    assert turns.wait_ms("bob", "k2", 115.0) == 0
    assert turns.wait_ms("ann", "k2", 110.0) == 0
    assert turns.wait_ms("ann", "k1", 110.5) == 9_500
    assert len(turns) == 2


def test_turns_of_those_who_are_silent_are_forgotten() -> None:
    """A crowd that spoke once leaves nothing behind."""
    turns = Turns(1)
    for n in range(1_000):
        turns.wait_ms(f"viewer-{n}", "k", 100.0)
    turns.wait_ms("ann", "k", 101.0 + SAID_S + SWEEP_EVERY_S)
    assert len(turns) == 1
