"""The report of a run as one HTML file: charts, limits, audits, and how it was made; no request.

Owns the page. plotly.js, style and script are inside, and its own content policy lets it load
nothing and run nothing else, so that it can be kept, sent and opened years later. Every word of a
result is text in it, never markup. Called by `run` and `report`.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any, Final

import msgspec

from loadtest.plots import Plot, plots
from loadtest.result import Result
from loadtest.timings import SHARES, Timing, name_of
from loadtest.wording import VERDICTS, clock, figure, limit_value, number, reasons

PAGE: Final = Path(__file__).parent / "page"
CLASSES: Final = {"passed": "good", "failed": "bad", "overloaded": "doubt"}
MARKS: Final = {
    True: ("good", "holds"),
    False: ("bad", "BROKEN"),
    None: ("doubt", "not judged"),
}
ROWS_MAX: Final = 500  # of one table; what is beyond is counted

Cell = str | tuple[str, str]  # text, or its class and the text


def write_html(path: Path, result: Result) -> None:
    """Write the report of a result; OSError when it cannot be written."""
    path.write_text(html(result), encoding="utf-8")


def html(result: Result) -> str:
    """Return the report of a result as one page."""
    from plotly.offline import get_plotlyjs

    drawn = plots(result)
    scripts = [get_plotlyjs(), (PAGE / "report.js").read_text(encoding="utf-8")]
    policy = (
        "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src "
        + " ".join(f"'sha256-{_digest(script)}'" for script in scripts)
    )
    data = msgspec.json.encode(drawn).decode().replace("<", "\\u003c")
    return "\n".join([
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(result.title)}: {VERDICTS[result.verdict].lower()}</title>",
        f"<style>{(PAGE / 'report.css').read_text(encoding='utf-8')}</style>",
        f"</head><body>{_body(result, drawn)}",
        f'<script type="application/json" id="plots">{data}</script>',
        *(f"<script>{script}</script>" for script in scripts),
        "</body></html>\n",
    ])  # fmt: skip


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _body(result: Result, drawn: Sequence[Plot]) -> str:
    parts = [
        _head(result),
        _tiles(result),
        _section("Limits", _limits(result)),
        _section("Over time", _charts(drawn)),
        _section("Latency, ms", _timings(result.timings)),
        _section("What happened", _moments(result)),
        _section("Audit", "".join(_audits(result))),
        _section("Answers and counts", _counts(result)),
        _section("The client", _client(result)),
        _section("Configuration", _pairs(result.configuration)),
        _section("Machine and versions", _pairs(result.machine)),
    ]
    return "".join(parts)


def _head(result: Result) -> str:
    began = ""
    if result.began_ms:
        when = datetime.fromtimestamp(result.began_ms / 1000, UTC)
        began = f", {when:%Y-%m-%d %H:%M:%S} UTC"
    told = f"{result.scenario}, seed {result.seed}, {clock(result.duration_s)} long{began}"
    why = "".join(f"<li>{escape(reason)}</li>" for reason in reasons(result)[:ROWS_MAX])
    return (
        f'<header><h1>{escape(result.title)}</h1><p class="pale">{escape(told)}</p></header>'
        f'<section class="verdict {CLASSES[result.verdict]}">'
        f"<strong>{VERDICTS[result.verdict]}</strong>{f'<ul>{why}</ul>' if why else ''}</section>"
    )


def _tiles(result: Result) -> str:
    tiles = [figure(name, value) for name, value in result.figures.items()]
    shown = "".join(
        f'<div><b>{escape(value)}</b><span class="pale">{escape(name)}</span></div>'
        for name, value in tiles
    )
    return f'<section class="tiles">{shown}</section>' if shown else ""


def _section(title: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{content}</section>" if content else ""


def _charts(drawn: Sequence[Plot]) -> str:
    cards = [
        f'<div class="card"><h3>{escape(plot.title)}</h3>'
        + (f'<p class="pale">{escape(plot.note)}</p>' if plot.note else "")
        + f'<div class="chart" id="plot-{n}"></div></div>'
        for n, plot in enumerate(drawn)
    ]
    return f'<div class="grid">{"".join(cards)}</div>' if cards else ""


def _limits(result: Result) -> str:
    words = {True: ("good", "passed"), False: ("bad", "FAILED"), None: ("doubt", "not judged")}
    rows: list[list[Cell]] = [
        [
            words[limit.passed],
            limit.name,
            ("rule", limit.rule),
            ("n", limit_value(limit)),
            limit.why,
        ]
        for limit in result.limits
    ]
    return _table(["", "limit", "rule", ("n", "measured"), ""], rows)


def _timings(timings: Mapping[str, Timing]) -> str:
    names = [name_of(share) for share in SHARES]
    headings: list[Cell] = ["", *(("n", name) for name in ("count", "mean", *names))]
    rows: list[list[Cell]] = []
    for kind, timing in timings.items():
        shares = [timing.percentiles_ms.get(name) for name in names]
        values = [timing.mean_ms if timing.count else None, *shares]
        cells: list[Cell] = [("n", "–" if v is None else number(v)) for v in values]
        rows.append([kind, ("n", f"{timing.count:,}"), *cells])
    return _table(headings, rows)


def _moments(result: Result) -> str:
    ordered = sorted(result.moments, key=lambda moment: moment.at_s)
    return _table([], [[f"{moment.at_s:,.2f} s", moment.what] for moment in ordered])


def _audits(result: Result) -> Iterable[str]:
    for audit in result.audits:
        rows: list[list[Cell]] = [
            [finding.name, MARKS[finding.passed], finding.claim, finding.detail]
            for finding in audit.findings
        ]
        told = [f"{name} = {value}" for name, value in audit.settings.items()]
        if audit.quantity:  # an audit of what a stream's viewers were sent has none
            told.append(f"{audit.rows:,} orders, {audit.live:,} of {audit.quantity:,} units live")
        yield _table(["", "verdict", "claim", "detail"], rows, caption=audit.offer)
        yield f'<p class="pale">{escape("; ".join(told))}</p>'


def _counts(result: Result) -> str:
    rows: list[list[Cell]] = [[name, ("n", f"{n:,}")] for name, n in result.outcomes.items()]
    rows += [[f"count: {name}", ("n", f"{n:,}")] for name, n in result.counts.items()]
    rows += [
        [("bad", f"not due: {name}"), ("n", f"{n:,}")] for name, n in result.unexpected.items()
    ]
    return _table([], rows)


def _client(result: Result) -> str:
    client = result.client
    rows: list[list[Cell]] = [
        ["processes", f"{client.processes}"],
        ["processor time", f"{number(client.cpu_s)} s"],
        ["of a core, each", ", ".join(f"{share:.2f}" for share in client.cpu_share)],
    ]
    if client.lag.count:
        lag = (f"{name} {number(ms)}" for name, ms in client.lag.percentiles_ms.items())
        rows.append(["timers late, ms", ", ".join(lag)])
    rows += [["overloaded", ("doubt", why)] for why in client.overloads]
    return _table([], rows)


def _pairs(pairs: Mapping[str, Any]) -> str:
    return _table([], [[name, plain(value)] for name, value in pairs.items()])


def plain(value: Any) -> str:
    """Write an option's value: text as it is, all else as JSON."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _table(headings: Sequence[Cell], rows: Sequence[Sequence[Cell]], caption: str = "") -> str:
    if not rows:
        return ""
    head = f"<thead><tr>{_cells('th', headings)}</tr></thead>" if headings else ""
    body = "".join(f"<tr>{_cells('td', row)}</tr>" for row in rows[:ROWS_MAX])
    more = len(rows) - ROWS_MAX
    rest = f'<p class="pale">and {more:,} more</p>' if more > 0 else ""
    name = f"<caption>{escape(caption)}</caption>" if caption else ""
    kind = "" if headings else ' class="pairs"'
    table = f"<table{kind}>{name}{head}<tbody>{body}</tbody></table>"
    return f'<div class="card scroll">{table}{rest}</div>'


def _cells(tag: str, cells: Sequence[Cell]) -> str:
    pairs = [("", cell) if isinstance(cell, str) else cell for cell in cells]
    return "".join(
        f'<{tag} class="{kind}">{escape(text)}</{tag}>'
        if kind
        else f"<{tag}>{escape(text)}</{tag}>"
        for kind, text in pairs
    )
