"""`make model`: explore the configurations that are too large for every run of the tests too."""

from __future__ import annotations

import sys
import time

from tests.model.explorer import explore
from tests.model.sales import IN_TEST, LARGE

STATES_MAX = 1_000_000  # of one configuration; about 1 GB


def main() -> int:
    """Print a line a configuration; the first broken one ends it, with the way there."""
    total = 0
    for sale in (*IN_TEST, *LARGE):
        started = time.monotonic()
        found = explore(sale.small, STATES_MAX)
        total += found.states
        took_s = time.monotonic() - started
        _tell(f"{found.states:9,} states {took_s:6.1f} s  {sale.small.name}")
        if found.broken:
            _tell(found.trace)
            return 1
        if found.states < sale.states_min:
            _tell(f"fewer than the {sale.states_min:,} that there are to see")
            return 1
    _tell(f"{total:9,} states, none broken")
    return 0


def _tell(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
