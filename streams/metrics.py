"""The numbers of `streams` for Prometheus; right in prometheus-client's multiprocess mode too.

Owns the metric objects and the plain counters that the hot path bumps: those are handed over once a
tick, since a Prometheus counter costs more than a frame. Knows no message. Used by hub and rooms.
"""

from __future__ import annotations

from collections import Counter as Tally

from prometheus_client import Counter, Gauge, Histogram

CONNECTIONS = Gauge(
    "livecart_connections", "WebSocket connections now", multiprocess_mode="livesum"
)
ROOMS = Gauge("livecart_rooms", "Streams with viewers on this hub", multiprocess_mode="livesum")
WAITING_BYTES = Gauge(
    "livecart_waiting_bytes", "Bytes that sockets have not taken", multiprocess_mode="livesum"
)
MEMORY_BYTES = Gauge(
    "livecart_memory_bytes",
    "Payload of log entries kept for viewers who come back",
    multiprocess_mode="livesum",
)
MESSAGES_IN = Counter("livecart_messages_in", "Messages from clients")
MESSAGES_OUT = Counter("livecart_messages_out", "Frames written to clients")
CLOSED = Counter("livecart_closed", "Connections that the server ended", ["code"])
HASTY = Counter("livecart_hasty", "Commands and calls that came too early, and were refused")
TURNED_AWAY = Counter(
    "livecart_turned_away", "Connections that were refused, by the limit that was met", ["limit"]
)
CHAT_SHED = Counter("livecart_chat_shed_bytes", "Chat that slow connections were not sent")
LOG_APPENDS = Counter(
    "livecart_log_appends", "Facts and chat lines sent to the log, those that it had already too"
)
LOG_DELIVERED = Counter("livecart_log_delivered", "Log entries delivered to rooms")
RESYNCS = Counter("livecart_resyncs", "Rooms whose viewers were told to replace all state")
RECOVERIES = Counter("livecart_recoveries", "Hellos with `since`", ["outcome"])
REPLAYED = Counter(
    "livecart_replayed", "Main events that were read from Postgres for viewers who came back"
)
FAN_OUT = Histogram(
    "livecart_fan_out_seconds",
    "From the first to the last socket of a room that a batch is written to",
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0),
)


class Meter:
    """What the hot path counts between two ticks; plain integers."""

    __slots__ = (
        "closed",
        "delivered",
        "hasty",
        "messages_in",
        "messages_out",
        "recoveries",
        "replayed",
        "turned_away",
    )

    def __init__(self) -> None:
        self.messages_in = 0
        self.messages_out = 0
        self.delivered = 0
        self.hasty = 0
        self.replayed = 0
        self.closed: Tally[int] = Tally()
        self.recoveries: Tally[bool] = Tally()
        self.turned_away: Tally[str] = Tally()  # by the limit that was met

    def flush(self, connections: int, rooms: int) -> None:
        """Hand everything over to Prometheus."""
        CONNECTIONS.set(connections)
        ROOMS.set(rooms)
        MESSAGES_IN.inc(self.messages_in)
        MESSAGES_OUT.inc(self.messages_out)
        LOG_DELIVERED.inc(self.delivered)
        HASTY.inc(self.hasty)
        REPLAYED.inc(self.replayed)
        for code, count in self.closed.items():
            CLOSED.labels(str(code)).inc(count)
        for recovered, count in self.recoveries.items():
            RECOVERIES.labels("recovered" if recovered else "snapshot").inc(count)
        self.messages_in = self.messages_out = self.delivered = self.hasty = 0
        for limit, count in self.turned_away.items():
            TURNED_AWAY.labels(limit).inc(count)
        self.replayed = 0
        self.closed.clear()
        self.turned_away.clear()
        self.recoveries.clear()
