"""What a comparison says: ratios of the same round, and plainly where livecart is behind."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any, cast

import pytest
from rich.console import Console
from typer.testing import CliRunner

from loadtest.bench import rivals
from loadtest.bench.comparison import Comparison, Contest, entries_of
from loadtest.bench.crowded import Options, attempt, rounds_of
from loadtest.bench.stations import Failed, Station, chosen, starters
from loadtest.bench.subject import EVENT_BYTES
from loadtest.bench.table import markdown, rows, show, verdict
from loadtest.bench.tally import let_in
from loadtest.cli import app
from loadtest.peers.pgbench import Ran, Unreadable, parse
from loadtest.result import Result, write
from tests.bench.bench import contests

UPGRADED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"
OPEN = b'0{"sid":"abc","upgrades":[],"pingTimeout":20000}'
PGBENCH = """pgbench (18.6 (Debian 18.6-1))
transaction type: /tmp/x.sql
number of clients: 16
number of transactions actually processed: 4969
number of failed transactions: 0 (0.000%)
tps = 1240.512345 (without initial connection time)
"""


def comparison() -> Comparison:
    """One contest that is won and lost, and one in which less is better."""
    rates = {"slow": [50.0, 40.0, 60.0], "livecart": [100.0, 120.0, 60.0], "fast": [200.0] * 3}
    memory = {"livecart": [2.0], "heavy": [9.0], "light": [0.5]}
    return Comparison(
        began="2026-01-02 03:04 UTC",
        took_s=12.3,
        options={"viewers": 7},
        machine={"processor": "A | B", "cores": "2"},
        versions={"nginx": "1.2"},
        contests=[
            Contest(
                name="fan-out", what="Events.", unit="deliveries/s", rounds=3,
                entries=entries_of(rates), notes=["Noted."],
            ),
            Contest(
                name="memory", what="RSS.", unit="KB", more_is_better=False,
                entries=entries_of(memory, more_is_better=False, notes={"heavy": "as told"}),
            ),
        ],
        absent={"nchan": "no nginx; apt install it"},
        left_out={"orders": "not asked for"},
    )  # fmt: skip


def test_a_ratio_is_of_the_same_round() -> None:
    """The median of the rounds' ratios, which the ratio of the medians is not."""
    ours, slow, fast = entries_of(
        {"slow": [50.0, 40.0, 60.0], "livecart": [100.0, 120.0, 60.0], "fast": [200.0] * 3}
    )
    assert (ours.name, ours.figure, ours.ratio) == ("livecart", 100.0, None)
    assert (slow.ratio, slow.ratio_low, slow.ratio_high) == (2.0, 1.0, 3.0)
    assert (fast.ratio, fast.low, fast.high) == (0.5, 200.0, 200.0)


def test_where_less_is_better_a_ratio_still_says_how_many_times_as_good() -> None:
    """Twice the memory is half as good."""
    _, light = entries_of({"livecart": [2.0], "light": [1.0]}, more_is_better=False)
    assert light.ratio == 0.5
    assert light.behind


def test_what_is_too_little_to_measure_is_not_compared() -> None:
    """A memory of nothing at all has no ratio, and is no victory of anybody."""
    _, peer = entries_of({"livecart": [0.0], "peer": [3.0]}, more_is_better=False)
    assert peer.ratio is None
    assert not peer.behind


def test_rounds_that_do_not_pair_are_refused() -> None:
    """A side that missed a round is not compared by the wrong pairs."""
    with pytest.raises(ValueError, match="zip"):
        entries_of({"livecart": [1.0, 2.0], "peer": [1.0]})


def test_the_table_says_where_livecart_is_behind() -> None:
    """A ratio below one is called by its name, in its line and below the table."""
    found = comparison()
    lines = [(row.what, row.side, row.ratio) for row in rows(found)]
    assert lines == [
        ("fan-out, deliveries/s", "livecart", ""),
        ("", "slow", "2.00 (1.00 to 3.00)"),
        ("", "fast", "0.50 (0.30 to 0.60), behind"),
        ("memory, KB", "livecart", ""),
        ("", "heavy", "4.50"),
        ("", "light", "0.25, behind"),
    ]
    assert verdict(found) == (
        "livecart is behind in: fan-out beside fast (0.50); memory beside light (0.25)."
    )


def test_the_page_has_machine_versions_and_what_is_not_in_it() -> None:
    """Who reads the page can tell what ran, on what, and what did not."""
    page = markdown(comparison())
    for told in (
        "| nginx | 1.2 |", "| processor | A \\| B |", "2026-01-02 03:04 UTC, 12 s (viewers: 7)",
        "- nchan, which is not here: no nginx; apt install it", "- orders: not asked for",
        "**fan-out**, 3 rounds: Events. Noted.", "**memory**, once: RSS.",
    ):  # fmt: skip
        assert told in page


def test_the_terminal_shows_the_same() -> None:
    """Every side, every ratio and every peer that is absent is printed."""
    out = io.StringIO()
    show(Console(file=out, width=120), comparison())
    for told in (
        "4.50",
        "0.50 (0.30 to 0.60), behind",
        "nchan, which is not here",
        "heavy: as told",
    ):
        assert told in out.getvalue()


def test_a_machine_that_was_busy_is_told() -> None:
    """Figures that others may have spoilt are not shown without a word."""
    quiet, busy = comparison(), comparison()
    busy.load_before = 3.14
    assert "not quiet" not in markdown(quiet)
    assert "not quiet: a load of 3.1 in the minute before" in markdown(busy)


def test_pgbench_is_read() -> None:
    """Rate, transactions and version are what it printed."""
    assert parse(PGBENCH) == Ran(4969, 1240.512345, "18.6")


def test_pgbench_without_a_rate_is_no_rate() -> None:
    """A run that failed is not read as a slow one."""
    with pytest.raises(Unreadable, match="aborted"):
        parse("pgbench: error: client 3 aborted\n")


def test_an_event_of_socket_io_is_as_large_as_the_others() -> None:
    """Its frame to a viewer has the size that every server's has; the client's says the event."""
    frame = rivals.emitting("chat", EVENT_BYTES)(12)
    assert frame[0] == 0x81  # one whole text frame
    assert frame[1] & 0x80  # masked, as a client's must be
    assert int.from_bytes(frame[2:4], "big") == len(frame) - 8
    mask = frame[4:8]
    payload = bytes(byte ^ mask[at % 4] for at, byte in enumerate(frame[8:]))
    assert payload.startswith(b'42["say","chat",')
    _, event, message = json.loads(payload[2:])
    assert message["n"] == "00000012"
    assert len(b"42" + json.dumps([event, message], separators=(",", ":")).encode()) == EVENT_BYTES


def test_a_server_that_speaks_first_is_waited_for() -> None:
    """A viewer of Socket.IO is let in when Engine.IO's first packet is whole, not before."""
    greeted = UPGRADED + bytes([0x81, len(OPEN)]) + OPEN
    assert [let_in(greeted[:cut], b'0{"sid"', True) for cut in (20, len(UPGRADED), -1)] == [
        False
    ] * 3
    assert let_in(greeted, b'0{"sid"', True)
    assert let_in(UPGRADED, b"", True)


def test_a_viewer_who_is_turned_away_is_not_let_in() -> None:
    """Any other status than 101 fails, and so does a frame before hello where none may come."""
    with pytest.raises(ConnectionError, match="503"):
        let_in(b"HTTP/1.1 503 Service Unavailable\r\n\r\n", b"", True)
    with pytest.raises(ValueError, match="before hello"):
        let_in(UPGRADED + b"\x81\x01x", b"", True)


class _Named:
    def __init__(self, name: str) -> None:
        self.subject = self
        self.name = name


async def test_a_peer_that_fails_is_out_and_named() -> None:
    """The others go on without it; livecart's own failure ends the contest."""

    async def fail(_: Station) -> None:
        raise Failed("the crowd ended")

    said: list[str] = []
    options = Options(1, 1, {}, said.append)
    all_ = {name: cast(Station, _Named(name)) for name in ("livecart", "peer")}
    assert not await attempt(options, all_, all_["peer"], fail)
    assert list(all_) == ["livecart"]
    assert options.failed == {"peer": "the crowd ended"}
    assert said == ["  peer is out: the crowd ended"]
    with pytest.raises(Failed):
        await attempt(options, all_, all_["livecart"], fail)


def test_slow_rounds_are_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow machine gets its three rounds and then no more; a fast one gets all."""
    said: list[str] = []
    options = Options(1, 5, {}, said.append)
    assert list(rounds_of(options)) == [1, 2, 3, 4, 5]
    assert said == []
    monkeypatch.setattr("loadtest.bench.crowded.ROUNDS_S_MAX", -1.0)
    assert list(rounds_of(options)) == [1, 2, 3]
    assert said == ["  3 rounds are enough here: they take long"]


def test_peers_are_chosen_by_name() -> None:
    """livecart is there whoever is named, and a name that nobody has is an error."""
    starts = starters("python3")
    assert list(chosen(starts, ["socket.io"])) == ["livecart", "Socket.IO"]
    assert chosen(starts, []) == starts
    with pytest.raises(KeyError):
        chosen(starts, ["ably"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a.json"], "name two results"),
        (["--worse-than", "1.1"], "needs two results"),
        (["--only", "fan-in"], "no such contest: fan-in"),
        (["--peers", "ably"], "no such peer: ably"),
    ],
)
def test_what_makes_no_sense_is_a_usage_error(arguments: list[str], said: str) -> None:
    """It is said in the usual way, and nothing is measured."""
    found = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["compare", *arguments])
    assert found.exit_code == 2
    assert said in found.output


def test_two_results_are_compared(tmp_path: Path) -> None:
    """With two files nothing is run: what differs between them is told, and judged if asked."""
    paths = [str(tmp_path / f"{name}.json") for name in "ab"]
    for path, rate in zip(paths, (1000.0, 500.0), strict=True):
        figures = {"orders_per_s": rate}
        write(Path(path), Result(scenario="flash", title="Flash", seed=1, figures=figures))
    plain = CliRunner().invoke(app, ["compare", *paths])
    judged = CliRunner().invoke(app, ["compare", *paths, "--worse-than", "1.5", "--json"])
    assert (plain.exit_code, judged.exit_code) == (0, 1)
    assert "orders_per_s" in judged.stdout


def test_a_library_that_is_missing_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra the command says how to get it, with status 2."""

    def missing(*_: Any, **__: Any) -> None:
        raise ModuleNotFoundError("No module named 'hdrh'", name="hdrh")

    monkeypatch.setattr("loadtest.cli_peers.hold", missing)
    found = CliRunner().invoke(app, ["compare"])
    assert found.exit_code == 2
    assert found.output.strip() == (
        "livecart-loadtest: hdrh is not installed: make loadtest, or"
        " pip install 'livecart[loadtest]'"
    )


def test_make_bench_holds_what_the_command_cannot() -> None:
    """The table's order is that of a sale: told, sold, held, and who came at what price."""
    assert list(contests()) == ["fan-out", "orders", "reservations", "connects", "memory"]
