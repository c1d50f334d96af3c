-- Payments (R13). The money of a payment follows its orders: what it should keep is the sum over
-- those of them that live, less what was given back of each; whatever it has beyond that is let go or
-- refunded. So no step remembers what to do with money: it is reckoned anew from what is committed,
-- and a step that died in between changes nothing.

-- act: note on whose behalf this transaction changes orders, for their timeline.
create or replace function act(p_who text, p_why text default null) returns void
language plpgsql as $$
begin
    perform set_config('livecart.who', coalesce(p_who, ''), true),
            set_config('livecart.why', coalesce(p_why, ''), true);
end $$;

-- live_amount: what an order is to be paid with now.
create or replace function live_amount(r orders) returns bigint language sql immutable
return case when r.status in ('reserved', 'confirmed', 'shipped')
            then r.qty * r.unit_price_minor - coalesce(r.refunded_minor, 0) else 0 end;

-- begin_payment: note that a viewer is about to pay for reserved orders of one stream, before the
-- provider is asked. An open payment of the same orders with that provider is `again`: it is gone on
-- with. Words: ok, again, not_found (an order, or not his), conflict (one is not reserved any more,
-- asks for no payment, or they are of several streams, shops or currencies).
create or replace function begin_payment(
    p_id text, p_provider text, p_viewer text, p_orders text[],
    out word text, out payment text, out ref text, out amount_minor bigint, out currency text,
    out shop text, out about text
) language plpgsql as $$
declare
    n integer;
    streams_n integer;
    currencies_n integer;
    all_reserved boolean;
    of_stream text;
begin
    -- In id order, so that two taps of one button wait for each other.
    perform 1 from orders r where r.id = any (p_orders) order by r.id for no key update;
    select count(*), count(distinct r.stream), count(distinct p.currency),
           bool_and(r.status = 'reserved' and o.payment = 'required'), min(r.stream),
           sum(live_amount(r)), min(p.currency), min(s.shop), string_agg(distinct p.title, ', ')
      into n, streams_n, currencies_n, all_reserved, of_stream,
           amount_minor, currency, shop, about
      from orders r join offers o on o.id = r.offer join products p on p.id = o.product
      join streams s on s.id = r.stream
     where r.id = any (p_orders) and r.viewer = p_viewer;
    if n <> cardinality(p_orders) then
        word := 'not_found';
        return;
    elsif streams_n <> 1 or currencies_n <> 1 or not all_reserved then
        word := 'conflict';
        return;
    end if;
    select x.id, x.ref into payment, ref from payments x
     where x.provider = p_provider and x.state in ('new', 'open') and x.odd is null
       and x.id in (select y.payment from payment_orders y where y.order_id = p_orders[1])
       and (select array_agg(y.order_id order by y.order_id) from payment_orders y
             where y.payment = x.id) = (select array_agg(z order by z) from unnest(p_orders) z)
     order by x.id desc limit 1;
    if found then
        word := 'again';
        return;
    end if;
    payment := p_id;
    insert into payments (id, shop, stream, viewer, provider, amount_minor, currency)
        values (p_id, shop, of_stream, p_viewer, p_provider, amount_minor, currency);
    insert into payment_orders (payment, order_id, amount_minor)
        select p_id, r.id, live_amount(r) from orders r where r.id = any (p_orders);
    word := 'ok';
end $$;

-- confirm_order: a reserved order of a locked offer is paid for.
create or replace function confirm_order(p_order orders, p_captured boolean) returns void
language plpgsql as $$
begin
    update orders set status = 'confirmed', version = version + 1, expires_at = null,
                      confirmed_at = clock_timestamp(),
                      captured_at = case when p_captured then clock_timestamp() end
        where id = p_order.id;
    -- The movement has nothing for the gate: it has the viewer told should we die here.
    update offers o set confirmed = o.confirmed + p_order.qty, version = o.version + 1,
                        last_movement = move(o.id, o.last_movement, o.epoch, 'order', 0,
                                             p_order.id, 'paid')
        where o.id = home_of(p_order.offer, p_order.bucket);
end $$;

-- money_heard: a provider's word on a payment, asked for or not (`p_event` null: it was asked for).
-- Words come late, twice and in any order: figures only grow, states only go on, and what a payment
-- does to its orders it does once. Words: ok, again (this event was heard), unknown (no payment of
-- ours). `changed`: the orders that are in another state now.
create or replace function money_heard(
    p_provider text, p_event text, p_kind text, p_ref text, p_payment text, p_state text,
    p_amount bigint, p_currency text, p_capturable bigint, p_captured bigint, p_refunded bigint,
    p_disputed boolean,
    out word text, out payment text, out changed text[]
) language plpgsql as $$
declare
    m payments;
    r orders;
    became text;
    own bigint;
    rest bigint;
    given_up boolean;  -- the provider would not begin it, as one of us heard
begin
    changed := '{}';
    perform act('payment', p_kind);
    if p_event is not null then
        insert into payment_events (provider, event, payment, kind)
            values (p_provider, p_event, p_payment, p_kind) on conflict do nothing;
        if not found then
            word := 'again';
            return;
        end if;
    end if;
    select * into m from payments x where x.provider = p_provider and x.ref = p_ref
       for no key update;
    if not found then
        -- The answer to our asking may be lost, or be behind this word.
        select * into m from payments x
         where x.id = p_payment and x.provider = p_provider and (x.ref is null or x.ref = p_ref)
           for no key update;
        if not found then
            word := 'unknown';
            return;
        end if;
    end if;
    word := 'ok';
    payment := m.id;
    given_up := m.state = 'failed' and m.ref is null;
    m.ref := p_ref;
    m.authorised_minor := greatest(m.authorised_minor, p_capturable, p_captured);
    m.captured_minor := greatest(m.captured_minor, p_captured);
    m.refunded_minor := greatest(m.refunded_minor, p_refunded);
    m.disputed := m.disputed or p_disputed;
    became := case when 'captured' in (p_state, m.state) then 'captured'
                   when m.state in ('failed', 'voided') and not given_up then m.state
                   when p_state in ('failed', 'voided') then p_state
                   when 'authorised' in (p_state, m.state) then 'authorised'
                   else 'open' end;
    if became in ('authorised', 'captured') and m.settled_at is null then
        m.odd := case when p_amount <> m.amount_minor then 'amount'
                      when upper(p_currency) <> m.currency then 'currency'
                      when became = 'captured' and m.captured_minor < m.amount_minor then 'captured'
                 end;
    end if;
    select coalesce(sum(v.amount_minor), 0) into own from payment_moves v
     where v.payment = m.id and v.kind = 'refund' and v.state <> 'failed';
    rest := m.refunded_minor - own;
    -- All at once and before anything is told: what follows may touch several offers.
    if rest > 0 or (became in ('authorised', 'captured') and m.settled_at is null) then
        perform lock_homes(m.id, rest > 0);
    end if;

    if became in ('authorised', 'captured') and m.settled_at is null then
        m.settled_at := clock_timestamp();
        for r in select x.* from orders x
                  where x.id in (select y.order_id from payment_orders y where y.payment = m.id)
                  order by x.id for update loop
            if r.status = 'reserved' and m.odd is null then
                perform confirm_order(r, became = 'captured');
                changed := changed || r.id;
            end if;
            update payment_orders y
               set outcome = case when m.odd is not null then 'refused'
                                  when r.status = 'reserved' then 'paid'
                                  when r.status = 'expired' then 'late' else 'refused' end
             where y.payment = m.id and y.order_id = r.id;
        end loop;
    elsif became = 'captured' and m.state <> 'captured' and m.captured_minor < (
            select coalesce(sum(live_amount(x)), 0) from payment_orders y
              join orders x on x.id = y.order_id
             where y.payment = m.id and y.outcome = 'paid') then
        -- Somebody captured less, past us: nothing is shipped for a part of its price.
        m.odd := 'captured';
        changed := changed || unpaid(m.id);
    elsif became = 'captured' and m.state <> 'captured' then
        perform 1 from orders x
          where x.id in (select y.order_id from payment_orders y where y.payment = m.id)
          order by x.id for no key update;
        with now_captured as (
            update orders x set captured_at = clock_timestamp(), version = x.version + 1
             where x.captured_at is null and x.status in ('confirmed', 'shipped')
               and x.id in (select y.order_id from payment_orders y
                             where y.payment = m.id and y.outcome = 'paid')
            returning x.id)
        select changed || coalesce(array_agg(c.id), '{}') into changed from now_captured c;
    elsif became in ('failed', 'voided') and m.state = 'authorised' then
        changed := changed || unpaid(m.id);
    end if;

    -- What was given back at the provider, by hand, is given back here: no units come back by it.
    if rest > 0 then
        insert into payment_moves (id, payment, kind, amount_minor, state, error, ended_at)
            values ('mv_' || replace(gen_random_uuid()::text, '-', ''), m.id, 'refund', rest, 'done',
                    'not asked for by us', clock_timestamp());
        for r in select x.* from orders x join payment_orders y on y.order_id = x.id
                  where y.payment = m.id and y.outcome = 'paid'
                    and x.status in ('confirmed', 'shipped') order by x.id loop
            exit when rest <= 0;
            own := least(rest, live_amount(r));
            continue when own <= 0;
            perform give_money_back(r.id, own, false, 'refunded at the provider');
            changed := changed || r.id;
            rest := rest - own;
        end loop;
    end if;

    update payments x set ref = m.ref, state = became, authorised_minor = m.authorised_minor,
                          captured_minor = m.captured_minor, refunded_minor = m.refunded_minor,
                          disputed = m.disputed, odd = m.odd, settled_at = m.settled_at
     where x.id = m.id;
    if p_event is not null then
        update payment_events e set payment = m.id
         where e.provider = p_provider and e.event = p_event and e.payment is distinct from m.id;
    end if;
    insert into payments_due (payment) values (m.id);
end $$;

-- lock_homes: lock the offers that a payment's orders are under, by id; `p_whole`: with all buckets of
-- those that have any, as giving back without the units needs them.
create or replace function lock_homes(p_payment text, p_whole boolean) returns void
language plpgsql as $$
begin
    perform 1 from offers o
      where o.id in (
            select case when p_whole then x.offer else home_of(x.offer, x.bucket) end
              from payment_orders y join orders x on x.id = y.order_id where y.payment = p_payment
            union all
            select b.id from payment_orders y join orders x on x.id = y.order_id
              join offers b on b.parent = x.offer
             where p_whole and y.payment = p_payment)
      order by o.id for update;
end $$;

-- unpaid: the money of confirmed orders will not come; they end and give their units back. The caller
-- holds the payment's lock. Returns the orders.
create or replace function unpaid(p_payment text) returns text[] language plpgsql as $$
declare
    o offers;
    r orders;
    ended text[] := '{}';
begin
    perform act('payment', 'payment_failed');
    perform lock_homes(p_payment, false);
    for r in select x.* from orders x join payment_orders y on y.order_id = x.id
              where y.payment = p_payment and y.outcome = 'paid' and x.status = 'confirmed'
                and x.captured_at is null order by x.id for update of x loop
        select * into o from offers x where x.id = home_of(r.offer, r.bucket);
        perform give_back(o, array[r.id], 'cancelled', 'payment_failed');
        ended := ended || r.id;
    end loop;
    return ended;
end $$;

-- money_next: what is to be done now about the money of a payment, if anything. `what`: move (ask the
-- provider: `move` is the key), replace (buy an order anew that was paid too late), wait (another is
-- at it), nothing. Committed before anybody is asked.
create or replace function money_next(p_payment text, p_lease_s double precision) returns table (
    what text, move text, kind text, amount_minor bigint, ref text, provider text, currency text,
    asked_s_ago double precision, tries integer, order_id text, offer text, stream text,
    viewer text, qty integer
) language plpgsql as $$
declare
    m payments;
    v payment_moves;
    now_at timestamptz;
    owed bigint;
    pending boolean;
begin
    select * into m from payments x where x.id = p_payment for no key update;
    if not found then
        delete from payments_due d where d.payment = p_payment;
        return;
    end if;
    now_at := clock_timestamp();
    -- All that fell due by now is answered by what follows, since it is reckoned from here on.
    delete from payments_due d where d.payment = p_payment;
    ref := m.ref;
    provider := m.provider;
    currency := m.currency;
    what := 'nothing';

    select y.order_id, x.offer, x.stream, x.viewer, x.qty
      into order_id, offer, stream, viewer, qty
      from payment_orders y join orders x on x.id = y.order_id
     where y.payment = m.id and y.outcome = 'late' order by y.order_id limit 1;
    if found then
        what := 'replace';
    else
        select * into v from payment_moves z where z.payment = m.id and z.state = 'open';
        if not found then
            select coalesce(sum(live_amount(x)) filter (where y.outcome = 'paid'), 0),
                   coalesce(bool_or(x.status = 'reserved'), false)
              into owed, pending
              from payment_orders y join orders x on x.id = y.order_id where y.payment = m.id;
            v.payment := m.id;
            if m.state = 'authorised' then
                v.kind := case when owed > 0 then 'capture' else 'void' end;
                v.amount_minor := least(owed, m.authorised_minor);
            elsif m.state = 'open' and not pending then
                v.kind := 'void';
                v.amount_minor := 0;
            elsif m.state = 'captured' and m.captured_minor - m.refunded_minor > owed then
                v.kind := 'refund';
                v.amount_minor := m.captured_minor - m.refunded_minor - owed;
            end if;
            if v.kind is not null then
                select count(*) into v.tries from payment_moves z
                 where z.payment = m.id and z.state = 'failed' and z.kind = v.kind;
                if v.tries > 0 and now_at < (
                    select max(z.ended_at) + backoff(v.tries) from payment_moves z
                     where z.payment = m.id and z.state = 'failed') then
                    insert into payments_due (payment, due_at)
                        values (m.id, now_at + backoff(v.tries));
                    what := 'wait';
                    return next;
                    return;
                end if;
                v.id := 'mv_' || replace(gen_random_uuid()::text, '-', '');
                insert into payment_moves (id, payment, kind, amount_minor)
                    values (v.id, m.id, v.kind, v.amount_minor)
                    returning * into v;
            end if;
        end if;
        if v.id is not null then
            if v.tried_at > now_at - make_interval(secs => p_lease_s) then
                what := 'wait';
            else
                what := 'move';
                update payment_moves z set tried_at = now_at, tries = z.tries + 1 where z.id = v.id
                    returning z.tries into tries;
            end if;
            move := v.id;
            kind := v.kind;
            amount_minor := v.amount_minor;
            asked_s_ago := extract(epoch from now_at - v.created_at);
        end if;
    end if;
    if what <> 'nothing' then  -- should whoever is at it die
        insert into payments_due (payment, due_at)
            values (m.id, now_at + make_interval(secs => p_lease_s)
                          + backoff(coalesce(tries, 1) - 1));
    end if;
    return next;
end $$;

-- backoff: how long to wait after so many tries in vain: from 10 s to an hour.
create or replace function backoff(p_tries integer) returns interval language sql immutable
return case when p_tries <= 0 then interval '0'
            else least(interval '1 hour', interval '10 s' * power(2, least(p_tries, 20) - 1)) end;

-- money_moved: what became of a move: done, or (`p_error`) refused for good. A capture that is refused
-- ends the orders that it was for. The next is reckoned anew. Returns the orders that changed.
create or replace function money_moved(p_move text, p_error text) returns text[]
language plpgsql as $$
declare
    v payment_moves;
    of_payment text;
    changed text[] := '{}';
begin
    select z.payment into of_payment from payment_moves z where z.id = p_move;
    perform 1 from payments x where x.id = of_payment for no key update;
    update payment_moves z set state = case when p_error is null then 'done' else 'failed' end,
                               error = p_error, ended_at = clock_timestamp()
     where z.id = p_move and z.state = 'open' returning * into v;
    if found and v.state = 'failed' and v.kind = 'capture' then
        changed := unpaid(of_payment);
    elsif found and v.state = 'done' and v.kind = 'refund' then
        -- What was given back counts at once: a figure of the provider's that lags behind (of what
        -- people do by hand there is none) must not have the same money go back again.
        update payments x set refunded_minor = greatest(x.refunded_minor, (
                   select sum(z.amount_minor) from payment_moves z
                    where z.payment = of_payment and z.kind = 'refund' and z.state = 'done'))
         where x.id = of_payment;
    elsif found and v.state = 'done' and v.kind = 'void' then
        update payments x set state = 'voided' where x.id = of_payment and x.provider = 'manual';
    end if;
    insert into payments_due (payment) values (of_payment);
    return changed;
end $$;

-- refunds_failed: refunds that came to nothing after all, days later maybe: that money is with the shop
-- again, and owed. `p_refunded`: what the provider says was given back, without them. Both figures and
-- states go back here, and nowhere else.
create or replace function refunds_failed(
    p_provider text, p_ref text, p_moves text[], p_refunded bigint
) returns void language plpgsql as $$
declare
    of_payment text;
begin
    select x.id into of_payment from payments x where x.provider = p_provider and x.ref = p_ref
       for no key update;
    update payment_moves z set state = 'failed', error = 'refund_failed',
                               ended_at = clock_timestamp()
     where z.id = any (p_moves) and z.payment = of_payment and z.kind = 'refund'
       and z.state <> 'failed';
    if found then
        update payments x set refunded_minor = p_refunded where x.id = of_payment;
        insert into payments_due (payment) values (of_payment);
    end if;
end $$;

-- replace_order: the order `p_new` stands for `p_old`, which was paid for too late. Words: ok; refused
-- (it ended meanwhile, somebody else pays for it, or it costs something else).
create or replace function replace_order(p_payment text, p_old text, p_new text) returns text
language plpgsql as $$
declare
    r orders;
    paid bigint;
begin
    perform 1 from payments x where x.id = p_payment for no key update;
    select y.amount_minor into paid from payment_orders y
     where y.payment = p_payment and y.order_id = p_old and y.outcome = 'late';
    if not found then
        return 'again';
    end if;
    perform act('payment', 'paid late');
    perform 1 from offers o where o.id = (select home_of(x.offer, x.bucket) from orders x
                                           where x.id = p_new) for update;
    select * into r from orders x where x.id = p_new for update;
    if r.status is distinct from 'reserved' or live_amount(r) <> paid then
        return refuse_late(p_payment, p_old);
    end if;
    perform confirm_order(r, false);
    update orders x set replaces = p_old, version = x.version + 1,
                        captured_at = (select case when p.state = 'captured'
                                                   then clock_timestamp() end
                                         from payments p where p.id = p_payment)
     where x.id = p_new;
    update payment_orders y set outcome = 'replaced'
     where y.payment = p_payment and y.order_id = p_old;
    insert into payment_orders (payment, order_id, amount_minor, outcome)
        values (p_payment, p_new, paid, 'paid');
    insert into payments_due (payment) values (p_payment);
    return 'ok';
end $$;

-- refuse_late: nothing can be had for a payment that came too late; its money goes back.
create or replace function refuse_late(p_payment text, p_old text) returns text
language plpgsql as $$
begin
    perform 1 from payments x where x.id = p_payment for no key update;
    update payment_orders y set outcome = 'refused'
     where y.payment = p_payment and y.order_id = p_old and y.outcome = 'late';
    insert into payments_due (payment) values (p_payment);
    return 'refused';
end $$;

-- give_money_back: money of a confirmed or shipped order goes back, whole or in part. With the whole of
-- it the order ends; its units come back for sale (`p_restock`), or the offer has so many less from
-- then on, in the same transaction (I4). The caller has checked the amount; offers are locked here,
-- an offer in buckets with all of them.
create or replace function give_money_back(
    p_order text, p_amount bigint, p_restock boolean, p_reason text
) returns void language plpgsql as $$
declare
    r orders;
    o offers;
    p offers;
begin
    select x.* into r from orders x where x.id = p_order;
    if r.bucket > 0 and not p_restock then
        p := lock_offer(r.offer);
    end if;
    select * into o from offers x where x.id = home_of(r.offer, r.bucket) for update;
    select * into r from orders x where x.id = p_order for update;
    if r.status not in ('confirmed', 'shipped') then
        return;  -- it ended before this had the locks, and its units with it
    end if;
    if coalesce(r.refunded_minor, 0) + p_amount < r.qty * r.unit_price_minor then
        update orders x set refunded_minor = coalesce(x.refunded_minor, 0) + p_amount,
                            version = x.version + 1
         where x.id = p_order;
        update offers x set last_movement = move(x.id, x.last_movement, x.epoch, 'order', 0, p_order,
                                                 'refunded_in_part')
         where x.id = o.id;
        return;
    end if;
    update orders x set refunded_minor = x.qty * x.unit_price_minor where x.id = p_order;
    if not p_restock then
        -- Before the units are free, so that nobody gets them: not who waits, not the gate.
        o.quantity := o.quantity - r.qty;
        o.last_movement := move(o.id, o.last_movement, o.epoch, 'quantity', -r.qty, null,
                                'not_restocked');
    end if;
    o := give_back(o, array[p_order], 'refunded', p_reason);
    if p.id is not null then
        p := in_sum(p);
        update offers x set quantity = p.quantity - r.qty, taken = p.taken, confirmed = p.confirmed,
                            waiting = p.waiting, version = x.version + 1,
                            last_movement = move(x.id, x.last_movement, x.epoch, 'quantity', -r.qty,
                                                 null, 'not_restocked')
         where x.id = p.id;
    end if;
end $$;

-- refund: a host gives money back, all that is left of the order's (`p_amount` null) or a part, once
-- a key. Units are whole: only a whole refund may bring them back. Words: ok, again, not_found,
-- conflict, key_reused, bad_amount, bad_restock.
create or replace function refund(
    p_order text, p_key text, p_amount bigint, p_restock boolean, p_reason text, p_who text,
    out word text, out now order_rows
) language plpgsql as $$
declare
    r orders;
    was refunds;
    have bigint;
begin
    perform lock_home(p_order);
    select * into r from orders x where x.id = p_order for update;
    if not found then
        word := 'not_found';
        return;
    end if;
    have := r.qty * r.unit_price_minor - coalesce(r.refunded_minor, 0);
    select * into was from refunds f where f.order_id = p_order and f.key = p_key;
    word := case
        when was.key is not null then
            case when was.amount_minor = coalesce(p_amount, was.amount_minor)
                      and was.restock = p_restock then 'again' else 'key_reused' end
        when r.status = 'refunded' and p_amount is null then 'again'
        when r.status not in ('confirmed', 'shipped') then 'conflict'
        when coalesce(p_amount, have) > have then 'bad_amount'
        when p_restock and coalesce(p_amount, have) < have then 'bad_restock'
        else 'ok' end;
    if word = 'ok' then
        perform act(p_who, p_reason);
        perform give_money_back(p_order, coalesce(p_amount, have), p_restock,
                                coalesce(p_reason, 'refunded'));
        if p_key is not null and coalesce(p_amount, have) > 0 then
            insert into refunds (order_id, key, amount_minor, restock)
                values (p_order, p_key, coalesce(p_amount, have), p_restock);
        end if;
    end if;
    select * into now from order_rows x where x.id = p_order;
end $$;

-- lock_home: lock the offer that an order is under, with the other buckets of it if there are any:
-- what follows may have to lock them all, and must not begin with one in the middle.
create or replace function lock_home(p_order text) returns void language plpgsql as $$
declare r orders;
begin
    select * into r from orders x where x.id = p_order;
    if found and r.bucket > 0 then
        perform lock_offer(r.offer);
    elsif found then
        perform 1 from offers o where o.id = r.offer for update;
    end if;
end $$;

-- ship: a confirmed order is on its way, once its money has moved (R13); said again with another
-- tracking number it is corrected. Words: ok, again, not_found, conflict.
create or replace function ship(
    p_order text, p_carrier text, p_tracking text, p_who text, out word text, out now order_rows
) language plpgsql as $$
declare
    o offers;
    r orders;
begin
    select x.* into o from offers x
     where x.id = (select home_of(y.offer, y.bucket) from orders y where y.id = p_order) for update;
    select * into r from orders x where x.id = p_order for update;
    if not found then
        word := 'not_found';
        return;
    end if;
    word := case
        when r.status = 'shipped'
             and coalesce(p_carrier, r.carrier) is not distinct from r.carrier
             and coalesce(p_tracking, r.tracking) is not distinct from r.tracking then 'again'
        when r.status = 'shipped' then 'ok'
        when r.status = 'confirmed' and (o.payment = 'none' or r.captured_at is not null) then 'ok'
        else 'conflict' end;
    if word = 'ok' then
        perform act(p_who);
        update orders x set status = 'shipped', version = x.version + 1,
                            shipped_at = coalesce(x.shipped_at, clock_timestamp()),
                            carrier = coalesce(p_carrier, x.carrier),
                            tracking = coalesce(p_tracking, x.tracking)
         where x.id = p_order;
        update offers x set last_movement = move(x.id, x.last_movement, x.epoch, 'order', 0, p_order,
                                                 'shipped')
         where x.id = o.id;
    end if;
    select * into now from order_rows x where x.id = p_order;
end $$;

-- mark_late: note up to p_limit confirmed orders that were not shipped in time. Returns them.
create or replace function mark_late(p_limit integer) returns setof order_rows
language plpgsql as $$
declare ids text[];
begin
    perform act('clock');
    with due as (
        select r.id from orders r join offers o on o.id = r.offer
         where r.status = 'confirmed' and r.late_at is null
           and r.confirmed_at < (select clock_timestamp()) - interval '1 hour'  -- for the index
           and r.confirmed_at < clock_timestamp() - make_interval(hours => o.ship_within_h)
         order by r.confirmed_at limit p_limit for update of r skip locked),
    marked as (
        update orders x set late_at = clock_timestamp(), version = x.version + 1
          from due where x.id = due.id returning x.id)
    select array_agg(m.id) into ids from marked m;
    return query select r.* from order_rows r where r.id = any (ids);
end $$;

-- ask_return: a viewer wants to send a shipped order back. Words: ok, again (it is asked already),
-- not_found, conflict.
create or replace function ask_return(
    p_id text, p_order text, p_viewer text, p_reason text, p_photo text, out word text,
    out now returns
) language plpgsql as $$
declare r orders;
begin
    select * into r from orders x where x.id = p_order and x.viewer = p_viewer for update;
    if not found then
        word := 'not_found';
        return;
    end if;
    select * into now from returns t where t.order_id = p_order and t.state = 'asked';
    if found then
        word := 'again';
    elsif r.status <> 'shipped' then
        word := 'conflict';
    else
        insert into returns (id, order_id, viewer, reason, photo_url)
            values (p_id, p_order, p_viewer, p_reason, p_photo) returning * into now;
        word := 'ok';
    end if;
end $$;

-- decide_return: the shop accepts or refuses; what it gives back is a refund of its own. Words: ok,
-- again, not_found, conflict (it was decided otherwise).
create or replace function decide_return(
    p_id text, p_state text, p_note text, p_who text, out word text, out now returns
) language plpgsql as $$
begin
    select * into now from returns t where t.id = p_id for update;
    if not found then
        word := 'not_found';
    elsif now.state = p_state then
        word := 'again';
    elsif now.state <> 'asked' then
        word := 'conflict';
    else
        update returns t set state = p_state, note = p_note, decided_at = clock_timestamp(),
                             decided_by = p_who
         where t.id = p_id returning * into now;
        word := 'ok';
    end if;
end $$;

-- set_ship_within: how long the shop takes to ship orders of an offer; of those that are not late yet.
-- Words: ok, again, not_found.
create or replace function set_ship_within(p_offer text, p_hours integer) returns text
language plpgsql as $$
declare o offers;
begin
    select * into o from offers where id = p_offer for update;
    if not found then
        return 'not_found';
    elsif o.ship_within_h = p_hours then
        return 'again';
    end if;
    update offers set ship_within_h = p_hours, version = version + 1 where id = p_offer;
    return 'ok';
end $$;
