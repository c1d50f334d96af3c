"""Figures of outbound webhooks, for Prometheus; none has a label that a shop could choose."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

OUTBOX_S = Gauge(
    "livecart_hook_outbox_seconds", "Age of the oldest event that no delivery was made of",
    multiprocess_mode="mostrecent",
)  # fmt: skip
BACKLOG_S = Gauge(
    "livecart_hook_backlog_seconds",
    "How long the delivery that waits longest, of an endpoint that is on, has been due",
    multiprocess_mode="mostrecent",
)
DISABLED = Gauge(
    "livecart_hook_endpoints_disabled", "Endpoints switched off for their failures",
    multiprocess_mode="mostrecent",
)  # fmt: skip
MADE = Counter("livecart_hook_deliveries_total", "Deliveries made, one an event and endpoint")
UNREADABLE = Counter("livecart_hook_events_put_off_total", "Outbox rows that could not be read")
ATTEMPTS = Counter("livecart_hook_attempts_total", "Attempts by what followed", ["outcome"])
FAILED = Counter("livecart_hook_failures_total", "Faults in one of the sender's duties", ["duty"])
