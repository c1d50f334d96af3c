-- name: orders_page
-- A page of orders, newest first; nulls do not filter. $1 viewer, $2 shop, $3 streams, $4 offer, $5
-- product, $6 shelves, $7 since and $8 until in ms (as the wire rounds times), $9 an order's id or
-- how a viewer's begins, $10 the last order of the page before, $11 limit.
select * from orders_page($1, $2, $3, $4, $5, $6::smallint[],
                          from_ms($7) - interval '500 us', from_ms($8) - interval '500 us',
                          $9, $10, $11)
