"""What the live view shows of a run, at several widths and where nothing can be redrawn."""

from __future__ import annotations

import re
from io import StringIO

import pytest
from rich.console import Console

from loadtest.live import MOMENTS_MAX, Screen, View
from loadtest.picture import spark
from loadtest.pulse import Pulse
from loadtest.result import Moment
from loadtest.timings import Timer, Timing


def timing(*ms: float) -> Timing:
    timer = Timer()
    for one in ms:
        timer.note_us(one * 1000)
    return timer.written()


def pulse(at_s: float, commands: int, **more: object) -> Pulse:
    return Pulse(at_s=at_s, counts={"commands": commands, "answers": commands // 2}, **more)  # type: ignore[arg-type]


def a_view() -> View:
    """Two seconds of a sale."""
    view = View("flash: 300 viewers", "http://127.0.0.1:1, seed 7", duration_s=90)
    view.note(pulse(1, 4000, timings={"order": timing(2, 70), "chat": timing(3)}))
    view.note(
        pulse(
            2,
            5200,
            outcomes={"order.reserved": 1500, "sold_out": 500},
            timings={"order": timing(8, 12)},
            gauges={
                "cpu:worker 1": 0.97,
                "memory:worker 1": 181.4,
                "cpu:client 1": 0.5,
                "lag:client 1": 3.25,
                "stock:left": 12,
                "connections:open": 300,
                "server:commit ms": 4.31,
            },
        )
    )
    view.happened(Moment(at_s=1.25, what="the offer opens [bold]"))
    return view


def drawn(view: View, width: int) -> list[str]:
    console = Console(file=StringIO(), record=True, width=width)
    console.print(view)
    return console.export_text().splitlines()


def row(lines: list[str], name: str) -> list[str]:
    """The words of the row that begins with a name."""
    found = next(line for line in lines if line.startswith(name))
    return found.removeprefix(name).split()


def test_rates_have_now_peak_and_total() -> None:
    """Each count is shown by the second, with its highest rate and its total."""
    lines = drawn(a_view(), 80)
    assert row(lines, "commands")[:3] == ["1,200", "4,000", "5,200"]
    assert row(lines, "answers")[:3] == ["600", "2,000", "2,600"]


def test_latency_is_of_the_latest_step_and_the_worst_of_all() -> None:
    """Percentiles are the newest there are; the worst and the count are the whole run's."""
    lines = drawn(a_view(), 80)
    assert row(lines, "order ") == ["8.00", "12.0", "70.0", "4"]
    assert row(lines, "chat") == ["3.00", "3.00", "3.00", "1"]


def test_what_was_measured_before_is_paler() -> None:
    """A percentile of an earlier step stays to be read, and is told apart from a new one."""
    console = Console(file=StringIO(), record=True, width=80, color_system="standard")
    console.print(a_view())
    text = console.export_text(styles=True)
    assert re.search(r"chat .*\x1b\[2m3\.00", text)
    assert re.search(r"order .*\x1b\[1m8\.00", text)


def test_answers_are_shown_by_code() -> None:
    """Every code has its count and share."""
    lines = drawn(a_view(), 80)
    assert row(lines, "order.reserved")[:2] == ["1,500", "75.0%"]
    assert row(lines, "sold_out")[:2] == ["500", "25.0%"]


def test_the_server_is_beside_the_client() -> None:
    """Parts of the server come with cores and memory, the client's processes after them."""
    lines = drawn(a_view(), 80)
    assert row(lines, "worker 1")[:2] == ["0.97", "181"]
    assert row(lines, "client 1")[:3] == ["0.50", "–", "3.25"]
    text = "\n".join(lines)
    assert text.index("worker 1") < text.index("client 1")
    for told in ("stock left", "connections open", "server: commit ms", "4.31"):
        assert told in text


@pytest.mark.parametrize("width", [80, 100, 140, 200])
def test_it_fits_its_terminal(width: int) -> None:
    """Nothing is wider than the terminal, and nothing that counts is lost at any width."""
    lines = drawn(a_view(), width)
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    for told in ("flash: 300 viewers", "0:02 of 1:30", "5,200", "181", "the offer opens [bold]"):
        assert told in text
    heads = next(line for line in lines if "per second" in line)
    assert ("share" in heads) is (width >= 112)  # beside it, where there is room


@pytest.mark.parametrize(("width", "height"), [(80, 24), (80, 40), (132, 24), (200, 60)])
def test_it_fits_the_height_of_its_terminal(width: int, height: int) -> None:
    """A low terminal has shorter tables in two halves; none of them is cut off, nor the moments."""
    view = a_view()
    for n in range(20):
        view.happened(Moment(at_s=n, what=f"moment {n}"))
        view.note(
            Pulse(
                at_s=3 + n,
                counts={f"count {m}": 9 for m in range(n)},
                outcomes={f"code_{m}": m for m in range(n)},
                timings={f"kind {n}": timing(1)},
                gauges={f"server:figure {m}": 1 for m in range(n)} | {"cpu:worker 1": 0.5},
            )
        )
    console = Console(file=StringIO(), force_terminal=True, record=True, width=width, height=height)
    console.print(view)
    lines = console.export_text().splitlines()
    assert len(lines) <= height
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    for told in ("per second", "latency, ms", "answers", "machine", "server:", "moment 19"):
        assert told in text


def test_nothing_yet_is_drawn_too() -> None:
    """Before the first pulse there is a title and no empty table."""
    lines = drawn(View("soak"), 80)
    assert lines[0].split() == ["soak", "0:00"]
    assert "".join(lines[1:]).strip() == ""


def test_only_the_latest_moments_stay() -> None:
    """Older moments make room."""
    view = View("soak")
    for n in range(MOMENTS_MAX + 3):
        view.happened(Moment(at_s=n, what=f"moment {n}"))
    text = "\n".join(drawn(view, 80))
    assert "moment 2" not in text
    assert f"moment {MOMENTS_MAX + 2}" in text


def test_words_of_a_server_move_no_cursor() -> None:
    """What a moment is called may come from outside; it stays on its line, as text."""
    view = a_view()
    view.happened(Moment(at_s=2, what="\x1b[2J\x07gone\r\nnext"))
    console = Console(file=StringIO(), force_terminal=True, width=80)
    console.print(view)
    assert isinstance(console.file, StringIO)
    assert "\x1b[2J" not in console.file.getvalue()
    assert "\x07" not in console.file.getvalue()


def test_a_line_says_it_all_in_short() -> None:
    """Rates, latency, codes, stock and who is busy fit in one line."""
    assert a_view().line() == (
        "0:02  commands 1,200/s, answers 600/s; order p99 12.0 ms;"
        " order.reserved 1,500, sold_out 500; stock left 12; busy: worker 1 0.97"
    )
    assert View("soak").line() == "0:00"


def test_plain_lines_come_once_a_second() -> None:
    """Where nothing can be redrawn there is a line a second, and one for each moment."""
    output = StringIO()
    view = View("soak")
    with Screen(view, Console(file=output, width=40)) as screen:
        view.happened(Moment(at_s=0, what="viewers come"))
        screen.refresh()
        for n in range(1, 11):
            view.note(Pulse(at_s=n / 4, counts={"commands": n}))
            if n == 3:
                view.happened(Moment(at_s=0.7, what="the offer opens"))
            screen.refresh()
    lines = output.getvalue().splitlines()
    assert lines == [
        "0:00  viewers come",
        "0:00  commands 4/s",
        "0:00  the offer opens",
        "0:01  commands 4/s",
        "0:02  commands 4/s",
    ]


def test_a_terminal_is_redrawn() -> None:
    """On a terminal the picture replaces itself, and its last state stays."""
    output = StringIO()
    view = a_view()
    with Screen(view, Console(file=output, force_terminal=True, width=80)) as screen:
        view.note(pulse(3, 9999))
        screen.refresh()
    assert "9,999" in output.getvalue()
    assert "\x1b[" in output.getvalue()


def test_sparks_are_in_proportion() -> None:
    """The highest bar is the peak; a run without any is flat."""
    assert spark([0, 50, 100], 100) == "▁▅█"
    assert spark([0, 0], 0) == "▁▁"
