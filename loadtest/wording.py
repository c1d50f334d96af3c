"""How numbers, figures and reasons are written for people: in the terminal and in the report alike.

Owns words and places behind the point; measures, judges and draws nothing.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from rich.text import Text

if TYPE_CHECKING:  # the demo runs without what a result's histograms need
    from loadtest.result import Limit, Result

VERDICTS: Final = {
    "passed": "PASSED",
    "failed": "FAILED",
    "overloaded": "CLIENT OVERLOADED",
}
#: How the name of a figure ends, and how its unit is written. Longer endings first.
UNITS: Final = {
    "_per_s": "/s",
    "_ms": " ms",
    "_us": " µs",
    "_s": " s",
    "_mib": " MiB",
    "_bytes": " bytes",
}


def clock(seconds: float) -> str:
    """Write a time since the start as minutes and seconds: `0:07`, `1:02:03`."""
    minutes, whole = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{whole:02}" if hours else f"{minutes}:{whole:02}"


def number(value: float) -> str:
    """Write a number with the places that it deserves."""
    if value != 0 and abs(value) < 0.01:
        return f"{value:.3g}"
    places = 0 if abs(value) >= 100 or value == int(value) else 1 if abs(value) >= 10 else 2
    return f"{value:,.{places}f}"


def figure(name: str, value: float) -> tuple[str, str]:
    """Return a figure's name without its unit, and its value with it: `orders`, `9,012/s`.

    A figure of several parts has each one's name behind a dot: `cpu_s.worker 1`.
    """
    its, _, part = name.partition(".")
    ending = next((ending for ending in UNITS if its.endswith(ending)), "")
    shown = its.removesuffix(ending).replace("_", " ") + (f", {part}" if part else "")
    return shown, number(value) + UNITS.get(ending, "")


def printable(text: str) -> str:
    """Return text that moves no terminal's cursor: what a server said may hold anything."""
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in text)


def words(text: str, style: str = "") -> Text:
    """Return text for a terminal, which is neither markup nor a command to it."""
    return Text(printable(text), style)


def limit_value(limit: Limit) -> str:
    """Write what was measured for a limit."""
    return "" if limit.value is None else number(limit.value)


def reasons(result: Result) -> list[str]:
    """Return why a run did not pass, what is wrong in the sale first; empty when it did."""
    missed = [
        f"{limit.name} {limit.rule}: {limit.why or f'it is {limit_value(limit)}'}"
        for limit in result.limits
        if limit.passed is False
    ]
    busy = [f"the client was overloaded: {why}" for why in result.client.overloads]
    return reasons_of_sale(result) + missed + busy


def reasons_of_sale(result: Result) -> list[str]:
    """Return what is wrong in what was sold or sent, whatever its speed."""
    missing = [f"{result.missing:,} commands have no final answer"] if result.missing else []
    broken = [
        f"{audit.offer}: {finding.name} is broken, {finding.claim}: {finding.detail}".rstrip(": ")
        for audit in result.audits
        for finding in audit.findings
        if finding.passed is False
    ]
    faults = [
        f"the server broke the protocol: {fault}" + (f" ({times:,} times)" if times > 1 else "")
        for fault, times in Counter(result.faults).items()
    ]
    codes = [f"{n:,} times {code}, which was not due" for code, n in result.unexpected.items()]
    lost = [f"lost with what it saw: {who}" for who in result.lost]
    return missing + lost + broken + faults + codes
