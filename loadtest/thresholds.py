"""Thresholds: what a run's result must hold to pass, read from a TOML file.

Owns the words of that file, and the judgement. No threshold passes by being mistyped: a name or a
rule that means nothing in any run is an error before the run, and one that this run has no value
for fails after it; both say what there is. Called by `run` before it plays (`read`) and after it
(`judge`).

    [limits]
    "timings.order.p99" = "<= 250"          # ms
    "figures.orders_per_s" = ">= 9000"
    "outcomes.sold_out" = ">= 1"
    "missing" = "== 0"

    [flash.limits]                          # of that scenario alone; wins over [limits]
    "figures.to_last_order_s" = "<= 1.5"
"""

from __future__ import annotations

import math
import operator
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from loadtest.result import Client, Limit, Result
from loadtest.timings import Timer, Timing
from streams.codes import Code

OPERATORS: Final[Mapping[str, Callable[[float, float], bool]]] = {
    "<=": operator.le,
    "<": operator.lt,
    ">=": operator.ge,
    ">": operator.gt,
    "==": operator.eq,
    "!=": operator.ne,
}
#: Names that stand alone. Of `faults` and `unexpected` it is how many there were.
ALONE: Final = ("missing", "faults", "unexpected", "duration_s")
#: Names with more behind a dot.
GROUPS: Final = ("timings", "figures", "outcomes", "counts", "client")
#: Final answers that a run may have; one that never came is 0.
OUTCOMES: Final = (
    *("order.reserved", "order.confirmed", "order.shipped"),
    *("order.expired", "order.cancelled", "order.refunded"),
    *(code.value for code in Code),
)
#: What figures are drawn from, by how their names begin; all others are of sales.
SOLD: Final = ("order", "refusal")
FIGURES_OF: Final[Mapping[str, tuple[str, ...]]] = {
    "connects": ("connect",),
    "back": ("reconnect",),
    "reach": ("delivery",),
    "deliveries": ("delivery",),
}
SHARE: Final = re.compile(r"p(\d{1,2}(?:\.\d{1,4})?|100)")
RULE: Final = re.compile(r"\s*([<>=!]+)\s*(\S.*?)\s*")

Limits = dict[str, str]  # rules by name


class ThresholdError(Exception):
    """A threshold that cannot be meant; the message says where it is and what there is."""


def read(path: Path, scenario: str) -> Limits:
    """Read the limits of a scenario; ThresholdError for a file that cannot be meant."""
    try:
        text = path.read_text(encoding="utf-8")
        document = tomllib.loads(text)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ThresholdError(f"{path}: {error}") from error
    limits: Limits = {}
    own: Limits = {}
    for table, content in document.items():
        if table == "limits":
            header, inside, found = "limits", content, limits
        elif isinstance(content, dict) and set(content) == {"limits"}:
            header, inside = f"{table}.limits", content["limits"]
            found = own if table == scenario else {}
        else:
            raise ThresholdError(f"{path}: [{table}] is neither [limits] nor [<scenario>.limits]")
        if not isinstance(inside, dict):
            raise ThresholdError(f"{path}: [{header}] is a table of rules by name")
        for name, rule in _flat(inside):
            # Other scenarios' limits are looked at as well: they are mistyped just as easily.
            try:
                check(name, rule)
            except ThresholdError as error:
                where = f"{path}, line {_line(text, header, name)}"
                raise ThresholdError(f"{where}: {error}") from error
            found[name] = str(rule)
    return {**limits, **own}


def check(name: str, rule: Any) -> None:
    """Raise ThresholdError for a name or a rule that can hold for no result."""
    _parsed(name, rule)
    group, _, rest = name.partition(".")
    if name in ALONE:
        return
    if group not in GROUPS or not rest:
        raise ThresholdError(
            f"{name}: there is no such value; there are {', '.join(ALONE)}, and"
            f" {', '.join(f'{known}.…' for known in GROUPS)}"
        )
    if group == "timings":
        kind, _, measure = rest.partition(".")
        if not (kind and _is_measure(measure)):
            raise ThresholdError(f"{name}: it is timings.<kind>.<p50, p99.9 …, max, mean or count>")
    if group == "client" and not (rest.startswith("lag.") and _is_measure(rest[4:])):
        raise ThresholdError(f"{name}: of the client there is client.lag.<p50, p99, max …>")
    if group == "outcomes" and rest not in OUTCOMES:
        raise ThresholdError(f"{name}: no such answer; there are {', '.join(OUTCOMES)}")


def judge(result: Result, limits: Mapping[str, str]) -> list[Limit]:
    """Hold a result against limits; ThresholdError for one that `check` refuses.

    What this result has no value for fails, and says what there is. Speed (`timings.…` and
    `figures.…`) is not judged where the client was overloaded: it would be the client's.
    """
    return [_judged(result, name, rule) for name, rule in limits.items()]


def _judged(result: Result, name: str, rule: str) -> Limit:
    check(name, rule)
    holds, bound = _parsed(name, rule)
    found = _value(result, name)
    if isinstance(found, str):
        return Limit(name=name, rule=rule, passed=False, why=found)
    limit = Limit(name=name, rule=rule, value=found)
    if _is_speed(name) and _is_spoilt(name, result.client):
        limit.why = "the client was overloaded: " + "; ".join(result.client.overloads)
    else:
        limit.passed = holds(found, bound)
    return limit


def _is_speed(name: str) -> bool:
    """Whether the client's own speed goes into it; how many there were is no speed."""
    return name.startswith(("timings.", "figures.")) and not name.endswith(".count")


def _is_spoilt(name: str, client: Client) -> bool:
    """Whether what it names was measured by a client that was late itself."""
    if not client.overloads or not client.spoilt:
        return bool(client.overloads)
    group, _, rest = name.partition(".")
    if group == "timings":
        kinds: tuple[str, ...] = (rest.partition(".")[0],)
    else:
        kinds = next((of for start, of in FIGURES_OF.items() if rest.startswith(start)), SOLD)
    return any(kind in client.spoilt for kind in kinds)


def _value(result: Result, name: str) -> float | str:
    """The value of a name in a result, or why there is none."""
    group, _, rest = name.partition(".")
    match group:
        case "missing":
            return result.missing
        case "faults":
            return len(result.faults)
        case "unexpected":
            return sum(result.unexpected.values())
        case "duration_s":
            return result.duration_s
        case "outcomes":
            return result.outcomes.get(rest, 0)
        case "client":
            return _measured(result.client.lag, rest[4:])
        case "timings":
            kind, _, measure = rest.partition(".")
            if kind in result.timings:
                return _measured(result.timings[kind], measure)
            return _absent(f"nothing called {kind} was timed", result.timings)
        case "figures":
            return result.figures.get(rest, _absent("there is no such figure", result.figures))
        case _:
            return result.counts.get(rest, _absent("there is no such count", result.counts))


def _absent(why: str, known: Iterable[str]) -> str:
    return f"{why} in this run; there are {', '.join(sorted(known)) or 'none at all'}"


def _is_measure(measure: str) -> bool:
    return measure in ("max", "mean", "count") or SHARE.fullmatch(measure) is not None


def _measured(timing: Timing, measure: str) -> float | str:
    if measure == "count":
        return timing.count
    if not timing.count:
        return "nothing was timed in this run"
    if measure == "mean":
        return timing.mean_ms
    if measure in timing.percentiles_ms:
        return timing.percentiles_ms[measure]
    return Timer(timing).percentile_ms(100.0 if measure == "max" else float(measure[1:]))


def _parsed(name: str, rule: Any) -> tuple[Callable[[float, float], bool], float]:
    if not isinstance(rule, str):
        raise ThresholdError(f'{name}: a rule is text, as in "== {rule}"')
    parts = RULE.fullmatch(rule)
    if parts is None or parts[1] not in OPERATORS:
        raise ThresholdError(
            f'{name}: "{rule}" begins with no operator; there are {" ".join(OPERATORS)}'
        )
    try:
        bound = float(parts[2])
    except ValueError as error:
        raise ThresholdError(
            f'{name}: "{parts[2]}" is no number; units are those of the value'
        ) from error
    if not math.isfinite(bound):
        raise ThresholdError(f'{name}: "{parts[2]}" bounds nothing')
    return OPERATORS[parts[1]], bound


def _flat(table: Mapping[str, Any], before: str = "") -> Iterable[tuple[str, Any]]:
    """Names with dots, however they were quoted: TOML reads a bare `a.b` as a table in a table."""
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value


def _line(text: str, header: str, name: str) -> int:
    """The number of the line with a name in its table; of the table when it is written oddly."""
    inside, at = False, 1
    for number, line in enumerate(text.splitlines(), 1):
        bare = line.replace('"', "").replace("'", "").strip()
        if bare.startswith("["):
            inside = bare.split("#")[0].strip(" []") == header
            at = number if inside else at
        elif inside and bare.split("=")[0].strip() == name:
            return number
    return at
