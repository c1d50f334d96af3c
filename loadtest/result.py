"""What came of a run: the one document that is printed, charted, compared, merged and kept.

Owns its shape (format 1) and the verdict over it. `run --json` and `run --out` write it, the HTML
report draws it, `compare` reads two of them, Locust's workers send parts that are merged into one.
It measures nothing. Fields are added, never renamed: files of older releases are read again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec

from loadtest.judge import Audit
from loadtest.timings import Timing

FORMAT = 1
#: Exit statuses of `run`: 2 is for a run that could not be played at all.
EXIT = {"passed": 0, "failed": 1, "overloaded": 3}

#: Refusals that a sale of scarce units owes its viewers; any other code is a failure.
DUE = frozenset({"sold_out", "limit_reached"})

Verdict = Literal["passed", "failed", "overloaded"]


class Line(msgspec.Struct, kw_only=True):
    """One curve over time, a value for each step of the run; None where there was nothing.

    `group` says what it is drawn with: `throughput`, `latency`, `stock`, `connections`, `cpu` (of
    a core: 1.0 is one core used whole), `memory` (MiB), `lag`, `server` (its own metrics).
    """

    name: str
    unit: str
    group: str
    values: list[float | None] = []


class Moment(msgspec.Struct, kw_only=True):
    """Something that happened, in seconds since the run began: `the offer opens`."""

    at_s: float
    what: str


class Limit(msgspec.Struct, kw_only=True):
    """One threshold with what was measured; `passed` is None when it could not be judged.

    A limit on the server's speed is not judged when the client was overloaded.
    """

    name: str  # as in the file: `timings.order.p99`
    rule: str  # `<= 250`
    value: float | None = None
    passed: bool | None = None
    why: str = ""  # why it was not judged


class Client(msgspec.Struct, kw_only=True):
    """How the harness itself fared; what it cannot keep up with is not the server's fault."""

    processes: int = 1
    cpu_share: list[float] = []  # of a core, of each process, over the hot phases
    cpu_s: float = 0.0
    lag: Timing = msgspec.field(default_factory=Timing)  # how late its own timers fired
    overloads: list[str] = []  # reasons to believe that it was its own bottleneck
    #: Kinds of timings that are its own; with `overloads` and none of these, all of them.
    spoilt: list[str] = []


class Result(msgspec.Struct, kw_only=True):
    """One run as a whole."""

    format: int = FORMAT
    scenario: str
    title: str
    seed: int
    began_ms: int = 0
    duration_s: float = 0.0
    configuration: dict[str, Any] = {}  # every option, by name; no secret
    machine: dict[str, str] = {}  # processor, cores, memory, kernel, versions
    outcomes: dict[str, int] = {}  # buys by their final answer: `order.reserved`, `sold_out` …
    counts: dict[str, int] = {}  # commands, answers, events, reconnects, retries …
    figures: dict[str, float] = {}  # headline numbers by name with unit: `orders_per_s`
    timings: dict[str, Timing] = {}  # `connect`, `order`, `refusal`, `delivery`, `chat`, `ping` …
    step_s: float = 1.0  # between two values of a line
    lines: list[Line] = []
    moments: list[Moment] = []
    client: Client = msgspec.field(default_factory=Client)
    audits: list[Audit] = []
    missing: int = 0  # commands without a final answer
    lost: list[str] = []  # processes of the crowd that took what they saw with them
    faults: list[str] = []  # where the server broke the protocol
    unexpected: dict[str, int] = {}  # refusals with a code that was not due
    limits: list[Limit] = []
    notes: list[str] = []  # what else must be known: nothing was audited, a metric was not there

    @property
    def verdict(self) -> Verdict:
        """Return what the run proved.

        `failed` whenever something is wrong in what was sold or sent, however busy the client was;
        `overloaded` when all else is right, but the client's own limits spoilt the figures that
        were to be judged; where no limit on speed was set, any of them.
        """
        wrong = self.missing or self.lost or self.faults or self.unexpected
        broken = any(not audit.passed for audit in self.audits)
        if wrong or broken or any(limit.passed is False for limit in self.limits):
            return "failed"
        if not self.client.overloads:
            return "passed"
        speed = [limit for limit in self.limits if limit.name.startswith(("timings.", "figures."))]
        judged = speed and all(limit.passed is not None for limit in speed)
        return "passed" if judged else "overloaded"


class ResultUnreadable(Exception):
    """A file is no result of a run; the message says which and why."""


def write(path: Path, result: Result) -> None:
    """Write it down, as JSON that people can read."""
    path.write_bytes(msgspec.json.format(encode(result), indent=1))


def encode(result: Result) -> bytes:
    """Return one line of JSON with the verdict in it."""
    document = msgspec.to_builtins(result)
    document["verdict"] = result.verdict
    return msgspec.json.encode(document)


def read(path: Path) -> Result:
    """Read a file that `write` made; ResultUnreadable when it is none."""
    try:
        result = msgspec.json.decode(path.read_bytes(), type=Result)
    except (OSError, msgspec.DecodeError) as error:
        raise ResultUnreadable(f"{path}: {error}") from error
    if result.format > FORMAT:
        raise ResultUnreadable(f"{path}: format {result.format}, of a later release")
    return result
