"""What one thing costs on one machine, as `calibrate` writes it down (format 1).

Owns the file's shape and the names of the costs. Measures nothing and plans nothing. Written by
costs, read by capacity, prediction and simulation.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

FORMAT: Final = 1
#: No calibration may use more: the claim is that a large sale follows from a small one.
VIEWERS_MAX: Final = 1_000


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """One unit cost, of the medians of all rounds; the least and the most that one round gave."""

    value: float
    unit: str
    least: float
    most: float
    how: str  # how it was measured


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """All costs of one machine; names are those of `COSTS`."""

    format: int = FORMAT
    machine: dict[str, str] = {}
    when_ms: int = 0
    rounds: int = 0
    viewers_max: int = 0  # the most that any of its measurements had
    costs: dict[str, Cost] = {}

    def __getitem__(self, name: str) -> float:
        """Return the median of a cost, in the unit that its name ends in."""
        return self.costs[name].value


#: Every cost that a plan needs, with what it is. Seconds are of one core unless they are elapsed.
COSTS: Final = {
    "hub_connect_s": "hub, to let one viewer with a token in",
    "hub_connection_bytes": "hub, memory of one idle viewer",
    "hub_base_bytes": "hub, memory of a process without viewers",
    "hub_idle_share": "hub, of a core, while nothing is said",
    "hub_event_s": "hub, one main event, whoever is there",
    "hub_chat_event_s": "hub, one chat message, whoever is there",
    "hub_delivery_s": "hub, one event on its own to one viewer",
    "hub_chat_delivery_s": "hub, one of 20 chat messages within a moment, to one viewer",
    "delivery_s": "elapsed, from one viewer to the next of a fan-out",
    "delivery_payload_bytes": "one main event to one viewer, TCP payload",
    "delivery_wire_bytes": "the same with headers, both ways",
    "chat_payload_bytes": "one chat message to one viewer, TCP payload",
    "hub_viewer_s": "hub, a viewer's part in a sale: frames read and written, its news",
    "hub_order_s": "hub, one order",
    "hub_refusal_s": "hub, one buy that is refused",
    "hub_again_s": "hub, one buy that asks the gate again",
    "redis_order_s": "Redis, one order",
    "redis_refusal_s": "Redis, one refusal",
    "redis_again_s": "Redis, one more question",
    "redis_order_bytes": "Redis, network of one order, both ways",
    "redis_refusal_bytes": "Redis, network of one refusal, both ways",
    "redis_hold_bytes": "Redis, memory of one live hold",
    "redis_event_s": "Redis, one event to one more hub",
    "redis_event_bytes": "Redis, network of one event to one more hub",
    "redis_sent_byte_s": "Redis, one byte published to one more hub",
    "redis_note_bytes": "Redis, news of one order to one more hub",
    "redis_lease_s": "Redis, one hub's lease on the count of viewers, each time it is added up",
    "redis_idle_share": "Redis, of a core, while nothing is said, with no hub's part",
    "redis_hub_idle_share": "Redis, of a core, for each hub while nothing is said",
    "postgres_order_s": "Postgres, one order",
    "postgres_call_s": "Postgres, one admission, however many orders",
    "postgres_sale_s": "Postgres, a sale of nothing",
    "commit_s": "elapsed, one COMMIT of a short record",
    "wal_order_bytes": "WAL of one order",
    "wal_sale_bytes": "WAL of a sale of nothing",
    "disk_order_bytes": "disk of one order, with indexes",
    "disk_sale_bytes": "disk of a sale of nothing",
    "client_viewer_s": "the load generator, one viewer of a sale",
    "client_order_s": "the load generator, one order",
    "client_refusal_s": "the load generator, one refusal",
    "elapsed_sale_s": "elapsed on this machine, client and all: a sale of nothing",
    "elapsed_work_times": "elapsed, for what hub and Redis use, which take turns",
    "elapsed_order_s": "elapsed, an order besides",
    "others_share": "of a core, what others used on this machine during the sales",
    "again_tail_count": "buys that ask again because the last units are held and not written",
    "lone_buy_p50_s": "elapsed, a lone buy, median",
    "lone_buy_p99_s": "elapsed, a lone buy, 99 of 100",
    "buy_up_bytes": "one buy from a viewer, TCP payload",
    "buy_down_bytes": "its order to the viewer, TCP payload",
    "segment_bytes": "headers of one TCP segment (assumed: Ethernet, IPv4, TCP with time stamps)",
}


class CalibrationUnreadable(Exception):
    """A file is no calibration; the message says which and why."""


def write(path: Path, calibration: Calibration) -> None:
    """Write it down, as JSON that people can read."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(calibration), indent=1) + b"\n")


def read(path: Path) -> Calibration:
    """Read a file that `write` made; CalibrationUnreadable when it is none, or lacks a cost."""
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Calibration)
    except (OSError, msgspec.DecodeError) as error:
        raise CalibrationUnreadable(f"{path}: {error}") from error
    if found.format != FORMAT:
        raise CalibrationUnreadable(f"{path}: format {found.format}, expected {FORMAT}")
    if missing := COSTS.keys() - found.costs.keys():
        raise CalibrationUnreadable(f"{path} lacks {', '.join(sorted(missing))}: calibrate again")
    return found
