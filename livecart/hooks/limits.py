"""The bounds of outbound webhooks, each with its default and unit."""

from __future__ import annotations

import msgspec

from streams.addresses import Network

DAY_S = 86_400


class HookLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How much is sent, how long it is tried and kept, and where to."""

    http: bool = False  # whether `http` URLs are taken beside `https`
    networks: tuple[Network, ...] = ()  # private ones that may be called nevertheless
    timeout_s: float = 15.0  # of one attempt, from the look-up of the name to the answer's end
    sending_max: int = 64  # attempts at once, of one sender;
    shop_sending_max: int = 16  # of these, to the endpoints of one shop,
    endpoint_sending_max: int = 8  # and to one endpoint
    lookups_max: int = 8  # names looked up at once: a slow one must not be all others' delay
    life_s: float = 3 * DAY_S  # how long a delivery is tried, and an endpoint may fail
    kept_s: float = 7 * DAY_S  # how long a delivery is kept after its end
    answer_bytes_max: int = 65_536  # of a response, before its connection is dropped;
    answer_kept_max: int = 512  # characters of it in the log
    endpoints_max: int = 20  # of one shop
    secrets_max: int = 4  # of one endpoint that sign at one time
    replay_max: int = 5_000  # deliveries sent again by one call
    outbox_rows_max: int = 100  # looked at in one go,
    events_max: int = 2_000  # and events made deliveries of in one transaction
    sweep_max: int = 1_000  # rows deleted in one transaction
    sweep_every_s: float = 30.0
    round_s: float = 0.25  # how often it is looked for what is due
    fault_pause_s: float = 1.0  # before a duty is tried again that failed as nobody foresaw
    put_off_s: float = 300.0  # how long an outbox row waits that could not be read

    @property
    def lease_s(self) -> float:
        """How long a delivery is its sender's: an attempt, its noting, and a late loop."""
        return self.timeout_s + 15.0
