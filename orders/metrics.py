"""Figures of selling, for Prometheus; counted per batch, never per buy where a batch will do."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

BATCH_BUCKETS = (1, 2, 5, 10, 20, 50, 100, 200, 500)
LATENCY_BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)

HOLD_BATCH = Histogram("livecart_hold_batch_buys", "Buys in one hold call", buckets=BATCH_BUCKETS)
HOLD_S = Histogram("livecart_hold_seconds", "Time of one hold call", buckets=LATENCY_BUCKETS_S)
ADMIT_BATCH = Histogram(
    "livecart_admission_batch_orders", "Lines in one admission call", buckets=BATCH_BUCKETS
)
ADMIT_S = Histogram(
    "livecart_admission_seconds",
    "Time of one admission, COMMIT included",
    buckets=LATENCY_BUCKETS_S,
)
BUY_S = Histogram(
    "livecart_buy_seconds",
    "Time from a buy's arrival to its answer, the first of each batch",
    buckets=LATENCY_BUCKETS_S,
)
OUTCOMES = Counter("livecart_buys_total", "Answered buys by outcome", ["outcome"])
WAITING = Gauge("livecart_buys_waiting", "Buys not answered yet", multiprocess_mode="livesum")
BUNDLES_WAITING = Gauge(
    "livecart_bundles_waiting", "Bundles not answered yet", multiprocess_mode="livesum"
)
STOCK_LEFT = Gauge(
    "livecart_stock_left_units", "Units left, as the ledger last said", ["offer"],
    multiprocess_mode="mostrecent",
)  # fmt: skip
UNRESOLVED = Gauge(
    "livecart_holds_unresolved", "Unwritten holds past their grace, as the keeper sees them",
    multiprocess_mode="mostrecent",
)  # fmt: skip
UNWRITTEN = Gauge(
    "livecart_holds_unwritten", "Holds not known to be written, as the keeper sees them",
    multiprocess_mode="mostrecent",
)  # fmt: skip
KEEPER_LAG_S = Gauge(
    "livecart_keeper_lag_seconds", "How late the oldest due order is expired",
    multiprocess_mode="mostrecent",
)  # fmt: skip
KEEPER_ROUND_S = Histogram(
    "livecart_keeper_round_seconds",
    "Time of one round of one of the keeper's duties",
    ["duty"],
    buckets=LATENCY_BUCKETS_S,
)
KEEPER_FAILED = Counter(
    "livecart_keeper_failures_total", "Faults in one of the keeper's duties", ["duty"]
)
EXPIRED = Counter("livecart_orders_expired_total", "Orders ended by their deadline")
PROMOTED = Counter(
    "livecart_waitlist_promotions_total", "Orders of the waitlist that were brought to the gate"
)
JOINS = Counter("livecart_waitlist_joins_total", "Requests to wait, by outcome", ["outcome"])
LENT = Counter(
    "livecart_bucket_units_lent_total", "Units moved from one bucket of an offer to another"
)
FENCED = Counter("livecart_holds_fenced_total", "Holds without a row, given back behind a fence")
REBUILT = Counter("livecart_gate_rebuilds_total", "Offers rebuilt in the gate")
DIFFERENCES = Gauge(
    "livecart_reconcile_differences",
    "Differences between gates and rows that stood in two looks, as the keeper last saw them",
    multiprocess_mode="mostrecent",
)
MENDED = Counter("livecart_reconcile_mended_total", "Differences that were mended as such")
MONEY_MOVES = Counter(
    "livecart_money_moves_total", "Captures, voids and refunds, by outcome", ["kind", "outcome"]
)
MONEY_STUCK = Gauge(
    "livecart_money_stuck_payments",
    "Payments whose money should move and was refused to, or asked for several times in vain",
    multiprocess_mode="mostrecent",
)
