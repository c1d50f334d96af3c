"""The judgement of bundles: each is whole or not there, whatever was lost on the way.

Pure functions; audit reads, and calls these. That each line's order is one, was told right and fits
its offer is judged with the offer's other buys.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from loadtest.history import Asked
from loadtest.judge import Breach, Finding, finding


@dataclass(slots=True, frozen=True)
class BundleRow:
    """One order as Postgres has it."""

    id: str
    viewer: str
    key: str
    offer: str
    qty: int
    bundle: str | None
    reserved_ms: int = 0


def judge_bundles(asked: Sequence[Asked], rows: Sequence[BundleRow]) -> Finding:
    """All lines of a bundle are orders of it, and no others, or none is; as its buyer was told."""
    by_key: dict[tuple[str, str], list[BundleRow]] = defaultdict(list)
    of_bundle: dict[str, int] = defaultdict(int)
    for row in rows:
        by_key[row.viewer, row.key].append(row)
        of_bundle[row.bundle or ""] += 1
    wrong = []
    for one in asked:
        found = by_key.pop((one.viewer, one.key), [])
        ids = {row.bundle for row in found}
        units = sorted((row.offer, row.qty) for row in found)
        what = ""
        if found and (units != sorted(one.lines.items()) or len(ids) != 1 or None in ids):
            what = f"asked for {one.lines}, has {units} of {ids}"
        elif found and of_bundle[found[0].bundle or ""] != len(found):
            what = f"{found[0].bundle} has orders of another key too"
        elif one.bundle and ids != {one.bundle}:
            what = f"told {one.bundle}, has {ids or 'no order'}"
        if what:
            wrong.append(_breach(what, one.viewer, one.key, found))
    for (viewer, key), found in by_key.items():
        wrong.append(_breach(f"{found[0].bundle}: nobody asked for it", viewer, key, found))
    return finding("I2", "every bundle is whole or not there", wrong)


def _breach(what: str, viewer: str, key: str, rows: Sequence[BundleRow]) -> Breach:
    order = rows[0].id if rows else ""
    return Breach(what, order, key, viewer, rows[0].reserved_ms or None if rows else None)
