"""Costs told apart: a few non-negative coefficients that explain what several sizes used.

Owns the arithmetic, pure and small. Errors are weighed by the size of what was measured, since
they grow with it: a run of 2 s is off by tenths, one of 20 ms is not; yet what is far below the
average is mostly noise, and must not decide. Called by costs.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import TypeVar, cast

import msgspec

Row = Mapping[str, float]
T = TypeVar("T")


def fit(rows: Sequence[Row], used: Sequence[float], small: str = "") -> dict[str, float]:
    """Return the coefficient of each name, so that their sum over a row is near what it used.

    Least squares of nearly relative errors. What would be negative is left out (0), the most
    negative first: a cost is none. `small` is 0 where it cannot be told from the others, as in
    crowds that are tiny; ValueError when others cannot be told apart.
    """
    names = sorted({name for row in rows for name in row})
    average = statistics.fmean(map(abs, used)) or 1.0
    weights = [1.0 / (abs(value) + average / 4) for value in used]
    kept = list(names)
    while kept:
        try:
            found = _solve(rows, used, weights, kept)
        except ValueError:
            if small not in kept:
                raise
            kept.remove(small)
            continue
        worst = min(kept, key=lambda name: found[name])
        if found[worst] >= 0:
            return {name: found.get(name, 0.0) for name in names}
        kept.remove(worst)
    return dict.fromkeys(names, 0.0)


def _solve(
    rows: Sequence[Row], used: Sequence[float], weights: Sequence[float], names: Sequence[str]
) -> dict[str, float]:
    """Solve the normal equations by elimination with pivots."""
    size = len(names)
    scale = [max(abs(row.get(name, 0.0)) for row in rows) or 1.0 for name in names]
    table = [[0.0] * (size + 1) for _ in range(size)]
    for row, value, weight in zip(rows, used, weights, strict=True):
        line = [row.get(name, 0.0) / unit * weight for name, unit in zip(names, scale, strict=True)]
        for at in range(size):
            for to in range(size):
                table[at][to] += line[at] * line[to]
            table[at][size] += line[at] * value * weight
    for at in range(size):
        pivot = max(range(at, size), key=lambda one: abs(table[one][at]))
        # Far below the diagonal of the rest: what is left is rounding.
        if abs(table[pivot][at]) < 1e-9 * max(abs(table[one][one]) for one in range(size)):
            raise ValueError(f"these sizes do not tell {', '.join(names)} apart")
        table[at], table[pivot] = table[pivot], table[at]
        for other in range(size):
            if other != at:
                factor = table[other][at] / table[at][at]
                table[other] = [
                    mine - factor * theirs
                    for mine, theirs in zip(table[other], table[at], strict=True)
                ]
    return {name: table[at][size] / table[at][at] / scale[at] for at, name in enumerate(names)}


def middle(records: Sequence[T]) -> T:
    """Return one record with the median of each number in these, which are made alike.

    A cost is made of such medians, not as the median of costs: within one round an error in what an
    order costs is made up for by one in what a refusal does, and their medians need not be.
    """
    first = records[0]
    if isinstance(first, bool | str):
        return first
    if isinstance(first, int):  # of an even number the lower one: there are no half viewers
        return cast("T", statistics.median_low(cast("Sequence[int]", records)))
    if isinstance(first, float):
        return cast("T", statistics.median(cast("Sequence[float]", records)))
    if isinstance(first, list | tuple):
        columns = zip(*cast("Sequence[Sequence[object]]", records), strict=True)
        return cast("T", [middle(column) for column in columns])
    if isinstance(first, msgspec.Struct):
        names = first.__struct_fields__
        changes = {name: middle([getattr(one, name) for one in records]) for name in names}
        return cast("T", msgspec.structs.replace(first, **changes))
    assert is_dataclass(first)
    assert not isinstance(first, type)
    changes = {
        one.name: middle([getattr(record, one.name) for record in records]) for one in fields(first)
    }
    return cast("T", replace(first, **changes))
