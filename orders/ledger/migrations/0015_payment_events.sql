-- The timeline of an order asks for the words that were said of its payments.
-- phase: pre
-- transaction: none

-- step: index the words of providers by payment
create index concurrently if not exists payment_events_payment on payment_events (payment)
    where payment is not null
