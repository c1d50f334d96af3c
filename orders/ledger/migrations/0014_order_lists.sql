-- The indexes of hosts' lists of orders: see `shelf` in 0013.
-- phase: pre
-- transaction: none

-- step: the lists of streams
create index concurrently if not exists orders_by_stream
    on orders (shelf(status, captured_at, refunded_minor, late_at), stream, reserved_at)

-- step: the lists of offers
create index concurrently if not exists orders_by_offer
    on orders (shelf(status, captured_at, refunded_minor, late_at), offer, reserved_at)
