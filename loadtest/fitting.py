"""Costs told apart: a few non-negative coefficients that explain what several sizes used.

Owns the arithmetic, pure and small. Errors are weighed by the size of what was measured, since
they grow with it: a run of 2 s is off by tenths, one of 20 ms is not; yet what is far below the
average is mostly noise, and must not decide. Called by costs.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

Row = Mapping[str, float]


def fit(rows: Sequence[Row], used: Sequence[float]) -> dict[str, float]:
    """Return the coefficient of each name, so that their sum over a row is near what it used.

    Least squares of nearly relative errors. What would be negative is left out (0), the most
    negative first: a cost is none. ValueError when the sizes cannot tell the names apart.
    """
    names = sorted({name for row in rows for name in row})
    average = statistics.fmean(map(abs, used)) or 1.0
    weights = [1.0 / (abs(value) + average / 4) for value in used]
    kept = list(names)
    while kept:
        found = _solve(rows, used, weights, kept)
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


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Return median, least and most."""
    return statistics.median(values), min(values), max(values)
