"""Runs seeds: `python -m tests.faults.seeded 17` one, `--seeds 1..200` many, for some minutes.

Owns the order of runs, which of them share a server, and the exit status: 0 when every seed asked
for has held, 1 when one is broken, 75 when time was up before the last (run it again: what is done
is kept). A run that did not count is played again, a few times, and why is kept; a broken one is
never played again.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import uvloop

from tests.faults.plan import SEEDS_A_TREE, plan_of
from tests.faults.results import FOLDER, Book, code_of, commit_of, table, write_down
from tests.faults.tree import Tree, grown
from tests.faults.verdict import Result, play

ATTEMPTS_MAX = 4
UNFINISHED = 75  # EX_TEMPFAIL of sysexits.h
COMMAND = "make faults"


class Garden:
    """At most one server at a time, kept for as long as the next seed can use it."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._tree: Tree | None = None
        self._seeds = 0

    def tree(self, workers: int) -> Tree:
        """Return a server with so many workers."""
        if self._tree is None or self._tree.workers != workers or self._seeds >= SEEDS_A_TREE:
            self._stack.close()
            self._tree = self._stack.enter_context(grown(workers))
            self._seeds = 0
        self._seeds += 1
        return self._tree


def run_seed(seed: int, garden: Garden) -> Result:
    """Play a seed until it counts, or until that was tried often enough."""
    plan = plan_of(seed)
    say(plan.line())
    uncounted: list[str] = []
    for attempt in range(1, ATTEMPTS_MAX + 1):
        tree = garden.tree(plan.workers)
        result = uvloop.run(play(plan, tree))
        result.uncounted = uncounted
        say(
            f"  {result.verdict} {result.why}: {result.buys:,} buys, {result.orders:,} orders,"
            f" {result.bundles:,} bundles, {result.seconds:.1f} s,"
            f" slowest answer {result.slowest_s:.2f} s"
        )
        for struck in result.struck:
            say(f"    {struck.what}: {struck.evidence or '-'}; {struck.in_flight:,} in flight")
        for what in result.broken:
            say(f"    BROKEN {what}")
        if result.broken:
            say(f"    logs: {keep_logs(seed, tree)}")
        if result.verdict != "not counted" or attempt == ATTEMPTS_MAX:
            return result
        uncounted.append(result.why)
    raise AssertionError


def keep_logs(seed: int, tree: Tree) -> Path:
    """Keep what the processes said of a broken run."""
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"seed-{seed}.log"
    path.write_text(tree.traces(2_000), "utf-8")
    return path


def run_all(seeds: Sequence[int], minutes: float, book: Book) -> int:
    """Run what has no result yet, for so long; return the exit status."""
    ends = time.monotonic() + minutes * 60
    with garden() as ours:
        for seed in seeds:
            if book.done(seed):
                continue
            if time.monotonic() > ends:
                break
            book.add(run_seed(seed, ours))
    found = [book.results[seed] for seed in seeds if seed in book.results]
    say("\n" + table(found))
    broken = [result for result in found if result.verdict == "broken"]
    for result in broken:
        say(f"\nseed {result.seed} is broken: python -m tests.faults.seeded {result.seed}")
    left = sum(not book.done(seed) for seed in seeds)
    if left:
        say(f"\n{left} of {len(seeds)} seeds have no result yet: run `{COMMAND}` again")
    return 1 if broken else UNFINISHED if left else 0


@contextmanager
def garden() -> Iterator[Garden]:
    """A garden whose server ends with the block."""
    with ExitStack() as stack:
        yield Garden(stack)


def span(text: str) -> list[int]:
    """Read `a..b`, or one number."""
    first, _, last = text.partition("..")
    seeds = list(range(int(first), int(last or first) + 1))
    if not seeds:
        raise argparse.ArgumentTypeError(f"{text} is no span of seeds")
    return seeds


def say(line: str) -> None:
    """Print at once: who waits ten minutes wants to see something."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="tests.faults.seeded", description=__doc__)
    parser.add_argument("seed", nargs="?", type=int, help="one seed, played once more")
    parser.add_argument("--seeds", type=span, default=span("1..200"), metavar="A..B")
    parser.add_argument("--minutes", type=float, default=9.5)
    parser.add_argument("--write", action="store_true", help="put the table into docs/")
    options = parser.parse_args()
    if options.seed is not None:
        with garden() as ours:
            sys.exit(run_seed(options.seed, ours).verdict != "held")
    book = Book(FOLDER / "seeds.jsonl", code_of(), commit_of())
    status = run_all(options.seeds, options.minutes, book)
    if options.write and status == 0:
        found = [book.results[seed] for seed in options.seeds]
        span_text = f"{options.seeds[0]}..{options.seeds[-1]}"
        made = f"`{COMMAND} SEEDS={span_text}` at commit `{book.commit}`:"
        write_down(f"{made}\n\n{table(found)}")
    sys.exit(status)


if __name__ == "__main__":
    main()
