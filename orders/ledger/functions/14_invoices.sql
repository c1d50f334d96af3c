-- Invoices and credit notes, numbered without gaps (migration 0013).

-- invoice_number: what stands on the document.
create or replace function invoice_number(i invoices) returns text language sql immutable
return i.series || '-' || i.year || '-'
       || case when i.n < 1000000 then lpad(i.n::text, 6, '0') else i.n::text end;

-- tax_in: the tax in an amount, rounded half up; null where none is stated. `orders.money` alike.
create or replace function tax_in(p_amount bigint, p_tax_bp integer) returns bigint
language sql immutable
return div(2 * p_amount::numeric * p_tax_bp + 10000 + p_tax_bp, 2 * (10000 + p_tax_bp))::bigint;

-- next_invoice: take the next number of a series. The series' row is the last lock but fact_heads
-- that a transaction takes, and is held until its end: numbers are given one after the other, and
-- one that is rolled back is given again.
create or replace function next_invoice(p_shop text, p_series text, p_year integer) returns bigint
language sql as $$
    insert into invoice_series as s (shop, series, year, last) values (p_shop, p_series, p_year, 1)
        on conflict (shop, series, year) do update set last = s.last + 1
        returning last;
$$;

-- issue_invoice: give an order whose money has moved its invoice, and a credit note over whatever
-- of that is due back since the last one; asked again, only what is missing. A document's tax is
-- that of all given back so far less what earlier notes had, so that notes over the whole cancel
-- the invoice to the unit. The order is locked, so that it has one invoice. Words: ok, again
-- (nothing was missing), not_found, conflict (no money has moved).
create or replace function issue_invoice(
    p_order text, p_series text, p_credit_series text, p_who text
) returns text language plpgsql as $$
declare
    r orders;
    of_shop text;
    p products;
    pay record;
    seen record;
    now_at timestamptz;
    of_year integer;
    amount bigint;
    back bigint;
    tax bigint;
    word text := 'again';
begin
    select * into r from orders x where x.id = p_order for no key update;
    if not found then
        return 'not_found';
    elsif r.captured_at is null then
        return 'conflict';
    end if;
    select s.shop into of_shop from streams s where s.id = r.stream;
    select q.* into p from offers o join products q on q.id = o.product where o.id = r.offer;
    select y.provider, y.ref into pay from payment_orders x join payments y on y.id = x.payment
     where x.order_id = r.id and x.outcome = 'paid';
    now_at := clock_timestamp();
    of_year := extract(year from now_at at time zone 'UTC');
    amount := r.qty * r.unit_price_minor;

    select count(*) as n, count(*) filter (where i.part > 0) as notes,
           coalesce(sum(i.amount_minor) filter (where i.part > 0), 0)::bigint as amount_minor,
           sum(i.tax_minor) filter (where i.part > 0)::bigint as tax_minor
      into seen from invoices i where i.order_id = r.id;
    if seen.n = 0 then
        word := 'ok';
        insert into invoices (shop, series, year, n, kind, order_id, part, issued_at, issued_by,
                              currency, amount_minor, tax_minor, body)
            values (of_shop, p_series, of_year, next_invoice(of_shop, p_series, of_year), 'invoice',
                    r.id, 0, now_at, p_who, p.currency, amount, tax_in(amount, p.tax_bp),
                    jsonb_build_object(
                        'buyer', r.viewer, 'stream', r.stream, 'offer', r.offer, 'product', p.id,
                        'sku', p.sku, 'title', p.title, 'qty', r.qty,
                        'unit_price_minor', r.unit_price_minor, 'tax_bp', p.tax_bp,
                        'ordered_at', ms(r.reserved_at), 'paid_at', ms(r.captured_at),
                        'provider', pay.provider, 'payment_ref', pay.ref));
    end if;
    back := amount - live_amount(r);
    if back > seen.amount_minor then
        word := 'ok';
        tax := tax_in(back, p.tax_bp) - coalesce(seen.tax_minor, 0);
        insert into invoices (shop, series, year, n, kind, order_id, part, issued_at, issued_by,
                              currency, amount_minor, tax_minor, body)
            values (of_shop, p_credit_series, of_year,
                    next_invoice(of_shop, p_credit_series, of_year), 'credit_note', r.id,
                    seen.notes + 1, now_at, p_who, p.currency, back - seen.amount_minor, tax,
                    jsonb_build_object('tax_bp', p.tax_bp, 'reason', r.ended_reason));
    end if;
    return word;
end $$;
