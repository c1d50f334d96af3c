-- name: invoices_of
-- The documents of an order, its invoice first.
select invoice_number(i) as number, i.kind, i.shop, i.order_id as "order", ms(i.issued_at) as issued_at,
       i.currency, i.amount_minor, i.tax_minor, i.body
  from invoices i where i.order_id = $1 order by i.part
