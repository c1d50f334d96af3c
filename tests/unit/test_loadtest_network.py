"""Networks between a viewer and the server: what they do to bytes, and to the connection."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.network import FIRE_EARLY_S, NETWORKS, Between, Network, NetworkUnknown, mix
from tests.property.stepped_loop import SteppedLoop

Moments = list[tuple[float, bytes]]


class Wire:
    """The link below: what reaches it when, and bytes of the server that wait while it is paused.

    A read brings at most `read_bytes` of what waits, as a socket's does.
    """

    def __init__(self, loop: SteppedLoop, read_bytes: int = 2**20) -> None:
        self.loop = loop
        self.read_bytes = read_bytes
        self.protocol: asyncio.Protocol | None = None
        self.sent: Moments = []
        self.pauses: list[tuple[float, float]] = []
        self.ends: list[str] = []
        self._waiting = b""
        self._paused_s: float | None = None

    def comes(self, data: bytes) -> None:
        self._waiting += data
        self._read()

    def _read(self) -> None:
        if self._waiting and self._paused_s is None and not self.ends:
            data, self._waiting = (
                self._waiting[: self.read_bytes],
                self._waiting[self.read_bytes :],
            )
            assert self.protocol is not None
            self.protocol.data_received(data)
            self.loop.call_soon(self._read)

    def write(self, data: bytes) -> None:
        assert not self.ends, "written to a connection that has ended"
        self.sent.append((self.loop.time(), data))

    def close(self) -> None:
        self._end("closed")

    def abort(self) -> None:
        self._end("aborted")

    def _end(self, how: str) -> None:
        if not self.ends:
            assert self.protocol is not None
            self.loop.call_soon(self.protocol.connection_lost, None)
        self.ends.append(how)

    def pause_reading(self) -> None:
        assert self._paused_s is None, "paused twice"
        self._paused_s = self.loop.time()

    def resume_reading(self) -> None:
        assert self._paused_s is not None, "not paused"
        self.pauses.append((self._paused_s, self.loop.time()))
        self._paused_s = None
        self._read()


class Ear(asyncio.Protocol):
    """The viewer above: what it was told when."""

    def __init__(self, loop: SteppedLoop) -> None:
        self.loop = loop
        self.wire: Any = None
        self.heard: Moments = []
        self.lost = 0
        self.on_data: Callable[[], None] = lambda: None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.wire = transport

    def data_received(self, data: bytes) -> None:
        assert not self.lost, "told something after the end"
        self.heard.append((self.loop.time(), data))
        self.on_data()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost += 1


Story = Callable[[SteppedLoop, Ear, Wire], Coroutine[Any, Any, None]]


def told(network: Network, story: Story, seed: int = 1, read_bytes: int = 2**20) -> None:
    """Tell a story on one connection over a network, on a clock that moves when all wait."""
    with asyncio.Runner(loop_factory=SteppedLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, SteppedLoop)

        async def whole() -> None:
            ear, wire = Ear(loop), Wire(loop, read_bytes)
            wire.protocol = Between(network, ear, random.Random(seed))
            wire.protocol.connection_made(cast("asyncio.Transport", wire))
            await story(loop, ear, wire)
            if not wire.ends:
                ear.wire.abort()
                await asyncio.sleep(0)
            timers = cast("Any", loop)._scheduled
            assert [timer for timer in timers if not timer.cancelled()] == []
            assert ear.lost == 1

        runner.run(whole())


def joined(moments: Moments) -> bytes:
    return b"".join(data for _, data in moments)


def numbered(count: int) -> list[bytes]:
    return [b"%05d " % number for number in range(count)]


@given(
    seed=st.integers(0, 2**32),
    delay_ms=st.sampled_from((0.0, 0.3, 5.0, 80.0)),
    spread=st.sampled_from((0.0, 0.5, 3.0)),
    bytes_per_s=st.sampled_from((0.0, 500.0)),
    pocket_every_s=st.sampled_from((0.0, 0.5)),
    gaps_s=st.lists(st.sampled_from((0.0, 0.0004, 0.003, 0.2)), min_size=1, max_size=40),
)
@settings(max_examples=50, deadline=None)
def test_bytes_keep_their_order_whatever_the_delays(
    seed: int,
    delay_ms: float,
    spread: float,
    bytes_per_s: float,
    pocket_every_s: float,
    gaps_s: list[float],
) -> None:
    """Both ways each byte arrives once, behind the one before it, and never before its delay."""
    network = Network(
        name="drawn",
        delay_ms=delay_ms,
        spread=spread,
        bytes_per_s=bytes_per_s,
        pocket_every_s=pocket_every_s,
        pocket_s=0.4,
    )
    pieces = numbered(len(gaps_s))

    async def story(loop: SteppedLoop, ear: Ear, wire: Wire) -> None:
        began_s: dict[bytes, float] = {}
        for gap_s, piece in zip(gaps_s, pieces, strict=True):
            began_s[piece] = loop.time()
            wire.comes(piece)
            ear.wire.write(piece)
            await asyncio.sleep(gap_s)
        await asyncio.sleep(60.0)
        for moments in (ear.heard, wire.sent):
            assert joined(moments) == b"".join(pieces)
            for at_s, data in moments:
                last = data[-len(pieces[0]) :]  # a read may bring several
                late_s = at_s - began_s[last]
                assert late_s >= -FIRE_EARLY_S
                if not spread:
                    assert late_s >= delay_ms / 1000 - FIRE_EARLY_S

    told(network, story, seed)


def test_without_a_spread_everything_is_late_by_the_same() -> None:
    """A delay alone shifts both ways by itself, and by nothing else."""

    async def story(loop: SteppedLoop, ear: Ear, wire: Wire) -> None:
        began_s = loop.time()
        wire.comes(b"x")
        ear.wire.write(b"y")
        await asyncio.sleep(1.0)
        assert (joined(ear.heard), joined(wire.sent)) == (b"x", b"y")
        late_s = [at_s - began_s for at_s, _ in ear.heard + wire.sent]
        assert late_s == pytest.approx([0.08, 0.08])

    told(Network(name="far", delay_ms=80), story)


@pytest.mark.parametrize("seed", range(5))
def test_a_lost_connection_is_told_once_and_nothing_after_it(seed: int) -> None:
    """Loss aborts the link, drops what is under way, and the viewer is told once."""

    async def story(loop: SteppedLoop, ear: Ear, wire: Wire) -> None:
        pieces = numbered(20_000)
        for piece in pieces:
            if ear.lost:
                break
            wire.comes(piece)
            ear.wire.write(piece)
            await asyncio.sleep(0.01)
        sent = len(wire.sent)
        await asyncio.sleep(5.0)
        assert wire.ends == ["aborted"]
        assert 0 < sent == len(wire.sent) < len(pieces)
        assert 0 < len(ear.heard) < len(pieces)
        assert b"".join(pieces).startswith(joined(ear.heard))

    told(Network(name="lossy", delay_ms=50, spread=0.5, lost_every_s=5), story, seed)


def test_a_phone_in_a_pocket_hears_and_says_nothing_until_it_is_looked_at() -> None:
    """While it is away nothing is read, told or sent; afterwards all of it comes, in its order."""
    delay_s = 0.05

    async def story(loop: SteppedLoop, ear: Ear, wire: Wire) -> None:
        pieces, written = numbered(3_000), {}
        for piece in pieces:
            wire.comes(piece)
            written[piece] = loop.time()
            ear.wire.write(piece)
            await asyncio.sleep(0.02)
        await asyncio.sleep(60.0)
        assert joined(ear.heard) == joined(wire.sent) == b"".join(pieces)
        away = [(began_s, ended_s) for began_s, ended_s in wire.pauses if ended_s - began_s > 0.2]
        assert len(away) > 3, "it was hardly ever away: nothing was tried"
        for began_s, ended_s in away:
            quiet = range(int(began_s * 1000) + 1, int(ended_s * 1000) - 1)
            assert not [at_s for at_s, _ in ear.heard if int(at_s * 1000) in quiet]
            for at_s, piece in wire.sent:
                # What had left the phone before is in the network, and goes on.
                if began_s < written[piece] < ended_s:
                    assert at_s >= ended_s - FIRE_EARLY_S
                elif written[piece] <= began_s:
                    assert at_s <= began_s + delay_s + 0.001

    network = Network(name="pocket", delay_ms=delay_s * 1000, pocket_every_s=3, pocket_s=2)
    told(network, story)


def test_a_slow_reader_takes_so_many_bytes_a_second() -> None:
    """However much waits, no more is read than its rate allows, and no less."""

    async def story(loop: SteppedLoop, ear: Ear, wire: Wire) -> None:
        began_s = loop.time()
        data = b"".join(numbered(2_000))
        wire.comes(data)
        await asyncio.sleep(60.0)
        assert joined(ear.heard) == data
        for number, (at_s, _) in enumerate(ear.heard):
            assert at_s - began_s == pytest.approx(number * 600 / 2_000, abs=0.002)

    told(Network(name="slow", bytes_per_s=2_000), story, read_bytes=600)


def test_who_reads_nothing_at_all_is_not_woken_by_his_network() -> None:
    """A viewer that paused reading stays paused when the phone is out of its pocket again."""

    async def story(loop: SteppedLoop, ear: Ear, wire: Wire) -> None:
        ear.wire.pause_reading()
        wire.comes(b"x")
        await asyncio.sleep(30.0)
        assert ear.heard == []
        ear.wire.resume_reading()
        await asyncio.sleep(30.0)
        assert joined(ear.heard) == b"x"

    told(Network(name="pocket", pocket_every_s=1, pocket_s=1), story)


def test_closing_goes_behind_what_is_under_way() -> None:
    """A viewer that closes has all that it had written sent first."""

    async def story(loop: SteppedLoop, ear: Ear, wire: Wire) -> None:
        for piece in numbered(50):
            ear.wire.write(piece)
        ear.wire.close()
        await asyncio.sleep(30.0)
        assert joined(wire.sent) == b"".join(numbered(50))
        assert wire.ends == ["closed"]

    told(Network(name="far", delay_ms=80, spread=1.0), story)


def test_who_aborts_is_told_nothing_more() -> None:
    """Bytes that were under way to a viewer when it aborted never reach it, as on any wire."""

    async def story(loop: SteppedLoop, ear: Ear, wire: Wire) -> None:
        ear.on_data = lambda: ear.wire.abort()
        for piece in numbered(3):
            wire.comes(piece)
        ear.wire.write(b"under way")
        await asyncio.sleep(1.0)
        assert joined(ear.heard) == numbered(1)[0]
        assert wire.ends[0] == "aborted"

    told(Network(name="far", delay_ms=80), story)


def test_the_same_seed_draws_the_same_network() -> None:
    """What happens to a connection is a function of its seed."""
    runs: list[Moments] = []

    async def story(loop: SteppedLoop, ear: Ear, wire: Wire) -> None:
        for piece in numbered(300):
            wire.comes(piece)
            await asyncio.sleep(0.02)
        runs.append(ear.heard)

    for seed in (1, 1, 2):
        told(NETWORKS["pocket"], story, seed)
    assert runs[0] == runs[1] != runs[2]


def test_a_mix_is_read() -> None:
    """Shares are scaled to one; a name alone is all of it."""
    assert mix("wifi") == [(NETWORKS["wifi"], 1.0)]
    assert mix(" 4g:3 , train:1 ") == [(NETWORKS["4g"], 0.75), (NETWORKS["train"], 0.25)]
    assert [network.name for network, share in mix("slow,3g") if share == 0.5] == ["slow", "3g"]
    assert [name for name, network in NETWORKS.items() if network.perfect] == ["none"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("5g", "no network '5g': there are none, wifi, 4g, 3g, train, pocket, slow"),
        ("", "no network ''"),
        ("wifi,,4g", "no network ''"),
        ("wifi:much", "'wifi:much': a share is a number"),
        ("wifi:0", "'wifi:0': a share is above 0"),
        ("wifi:-1", "'wifi:-1': a share is above 0"),
        ("wifi:nan", "'wifi:nan': a share is above 0"),
        ("wifi:inf", "'wifi:inf': a share is above 0"),
    ],
)
def test_a_mix_that_means_nothing_is_refused(text: str, says: str) -> None:
    """What is no network or no share is named, with what there is."""
    with pytest.raises(NetworkUnknown) as refused:
        mix(text)
    assert str(refused.value).startswith(says)
