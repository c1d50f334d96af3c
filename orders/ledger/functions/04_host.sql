-- What a host does to offers and streams. Each returns one word: ok, again (it is so already),
-- not_found, conflict, key_reused. Streams are locked FOR NO KEY UPDATE, which lets the foreign keys
-- of facts pass.

-- note_state: write a locked offer's new state, one version and one movement on.
create or replace function note_state(p_offer offers, p_reason text) returns offers
language plpgsql as $$
declare o offers := p_offer;
begin
    o.version := o.version + 1;
    o.last_movement := move(o.id, o.last_movement, o.epoch, 'state', 0, null, p_reason);
    update offers set status = o.status, opens_at = o.opens_at, closes_at = o.closes_at,
                      version = o.version, last_movement = o.last_movement,
                      announced = announced or o.status not in ('draft', 'closed'),
                      closed_at = case when o.status = 'closed' then clock_timestamp() end,
                      gate_movement = case when o.buckets > 1 then o.last_movement  -- it has no gate
                                           else gate_movement end
        where id = o.id;
    if o.buckets > 1 then
        perform note_in_buckets(o, p_reason);
    end if;
    return o;
end $$;

-- open_offer: open an offer now, or, with p_if_due, only when its time has come. A paused one is
-- resumed; one of mode `draw` that has not been drawn is drawn with it. Past its end nothing is.
create or replace function open_offer(p_offer text, p_if_due boolean) returns text
language plpgsql as $$
declare
    o offers;
    stream_status text;
    why text;
    now_at timestamptz;
begin
    o := lock_offer(p_offer);
    if o.id is null then
        return 'not_found';
    end if;
    now_at := clock_timestamp();
    select s.status into stream_status from streams s where s.id = o.stream;
    if o.status in ('open', 'sold_out') then
        return 'again';
    elsif o.status = 'closed' or stream_status = 'ended' then
        return 'conflict';
    elsif p_if_due and (o.status <> 'scheduled' or o.opens_at > now_at) then
        return 'again';
    elsif o.mode = 'draw' and o.seed is null and o.closes_at <= now_at then
        return 'conflict';
    end if;
    why := case when o.status = 'paused' then 'resumed' end;
    o.status := 'open';
    if o.mode = 'draw' and o.seed is null then
        o := hold_draw(o, now_at);
    else
        o := promote(o, now_at);  -- what came back while it was paused
    end if;
    o := note_state(o, coalesce(why, 'opened'));
    perform tell(o.stream, 'offer.opened', o.id, why, offer_body(o));
    if o.taken = o.quantity then
        o.status := 'sold_out';
        o := note_state(o, 'sold_out');
        perform tell(o.stream, 'offer.sold_out', o.id, null, offer_body(o));
    end if;
    return 'ok';
end $$;

-- close_offer: end an offer; held orders stay payable. With p_if_due only when its time has come.
create or replace function close_offer(p_offer text, p_reason text, p_if_due boolean)
returns text language plpgsql as $$
declare
    o offers;
    was text;
begin
    o := lock_offer(p_offer);
    if o.id is null then
        return 'not_found';
    elsif o.status = 'closed' then
        return 'again';
    elsif p_if_due and (o.closes_at is null or o.closes_at > clock_timestamp()) then
        return 'again';
    end if;
    was := o.status;
    o.status := 'closed';
    o := drop_waitlist(o);
    o := note_state(o, coalesce(p_reason, 'closed'));
    if was <> 'draft' then  -- nobody outside the shop knew of a draft
        perform tell(o.stream, 'offer.closed', o.id, p_reason, offer_body(o));
    end if;
    return 'ok';
end $$;

-- set_quantity: the absolute new quantity, not below what is taken (R7). Units that appear are first
-- for who waits (R12); those that stay free reopen a sold-out offer; none left on an open one sells
-- it out.
create or replace function set_quantity(p_offer text, p_quantity integer, p_reason text)
returns text language plpgsql as $$
declare
    o offers;
    units integer;
    now_at timestamptz;
begin
    o := lock_offer(p_offer);
    if o.id is null then
        return 'not_found';
    elsif o.status = 'closed' or p_quantity < o.taken or p_quantity > 1000000 then
        return 'conflict';
    end if;
    units := p_quantity - o.quantity;
    if units = 0 then
        return 'again';
    end if;
    o.quantity := p_quantity;
    o.version := o.version + 1;
    now_at := clock_timestamp();
    if o.buckets > 1 and o.status <> 'draft' then
        o := spread(o, units, p_reason);
        update offers set taken = o.taken, confirmed = o.confirmed, waiting = o.waiting,
                          quantity = o.quantity
            where id = o.id;
    else
        o := promote(o, now_at);
    end if;
    o.last_movement := move(o.id, o.last_movement, o.epoch, 'quantity', units, null, p_reason,
                            now_at);
    if o.status = 'open' and o.taken = o.quantity then
        o := sell_out(o);
    elsif units > 0 and o.status in ('open', 'sold_out') and o.taken < o.quantity then
        o.status := 'open';
        perform tell(o.stream, 'offer.restocked', o.id, 'host', offer_body(o));
    elsif units > 0 and o.status = 'scheduled' then
        perform tell(o.stream, 'offer.restocked', o.id, 'host', offer_body(o));
    elsif o.status in ('open', 'scheduled') then  -- `stock` tells what is left, and of no total
        perform tell(o.stream, case o.status when 'open' then 'offer.opened'
                               else 'offer.scheduled' end, o.id, 'revised', offer_body(o));
    end if;
    update offers set quantity = o.quantity, version = o.version, status = o.status,
                      last_movement = o.last_movement
        where id = o.id;
    return 'ok';
end $$;

-- restock: add units once per key. One more word: too_many.
create or replace function restock(p_offer text, p_key text, p_units integer) returns text
language plpgsql as $$
declare
    o offers;
    before integer;
    word text;
begin
    o := lock_offer(p_offer);
    if o.id is null then
        return 'not_found';
    end if;
    select k.units into before from restocks k where k.offer = p_offer and k.key = p_key;
    if found then
        return case when before = p_units then 'again' else 'key_reused' end;
    end if;
    if o.status <> 'closed' and o.quantity + p_units > 1000000 then
        return 'too_many';
    end if;
    word := set_quantity(p_offer, o.quantity + p_units, 'restock');
    if word = 'ok' then
        insert into restocks (offer, key, units) values (p_offer, p_key, p_units);
    end if;
    return word;
end $$;

-- start_stream: go live; the gate learns it through a movement of each active offer.
create or replace function start_stream(p_stream text) returns text language plpgsql as $$
declare
    s streams;
    o offers;
begin
    select * into s from streams where id = p_stream for no key update;
    if not found then
        return 'not_found';
    elsif s.status = 'live' then
        return 'again';
    elsif s.status = 'ended' then
        return 'conflict';
    end if;
    update streams set status = 'live', started_at = clock_timestamp() where id = p_stream;
    -- Drafts too: one that is being opened at this moment must learn it as well.
    perform 1 from offers where stream = p_stream order by id for update;
    for o in select * from offers where stream = p_stream and status <> 'closed'
                and parent is null order by id loop
        perform note_state(o, 'stream_started');
    end loop;
    perform tell(p_stream, 'stream.started', p_stream, null, null);
    return 'ok';
end $$;

-- end_stream: close every offer, then end; held orders stay payable.
create or replace function end_stream(p_stream text) returns text language plpgsql as $$
declare
    s streams;
    offer_id text;
begin
    select * into s from streams where id = p_stream for no key update;
    if not found then
        return 'not_found';
    elsif s.status = 'ended' then
        return 'again';
    end if;
    -- All offers before the first fact: an admission holds its offer while it waits for the head.
    perform 1 from offers where stream = p_stream order by id for update;
    for offer_id in select id from offers where stream = p_stream and status <> 'closed'
                        and parent is null order by id loop
        perform close_offer(offer_id, 'stream_ended', false);
    end loop;
    update streams set status = 'ended', ended_at = clock_timestamp() where id = p_stream;
    perform tell(p_stream, 'stream.ended', p_stream, null, null);
    return 'ok';
end $$;

-- pin_product: show a product; past p_max the oldest pin goes first.
create or replace function pin_product(
    p_stream text, p_pin text, p_product text, p_offer text, p_media_at bigint, p_max integer
) returns text language plpgsql as $$
declare
    s streams;
    oldest text;
begin
    select * into s from streams where id = p_stream for no key update;
    if not found then
        return 'not_found';
    elsif s.status = 'ended' then
        return 'conflict';
    end if;
    -- The lock that the new pin's foreign key takes, before the first fact: an admission holds
    -- its offer while it waits for the head.
    perform 1 from offers where id = p_offer for key share;
    for oldest in select id from pins where stream = p_stream and unpinned_at is null
                  order by n desc offset p_max - 1 loop
        update pins set unpinned_at = clock_timestamp() where id = oldest;
        perform tell(p_stream, 'unpinned', oldest, null, null);
    end loop;
    insert into pins (id, stream, product, offer, media_at)
        values (p_pin, p_stream, p_product, p_offer, p_media_at);
    perform tell(p_stream, 'pinned', p_pin, null,
                 jsonb_build_object('product', p_product, 'offer', p_offer,
                                    'media_at', p_media_at));
    return 'ok';
end $$;

create or replace function unpin_product(p_stream text, p_pin text) returns text
language plpgsql as $$
begin
    perform 1 from streams where id = p_stream for no key update;
    update pins set unpinned_at = clock_timestamp()
        where id = p_pin and stream = p_stream and unpinned_at is null;
    if not found then
        return 'not_found';
    end if;
    perform tell(p_stream, 'unpinned', p_pin, null, null);
    return 'ok';
end $$;

-- create_offer: a draft, or scheduled when it has a time to open. One more word: keyword_taken.
create or replace function create_offer(
    p_id text, p_stream text, p_product text, p_price_minor bigint, p_quantity integer,
    p_per_viewer integer, p_opens_at timestamptz, p_closes_at timestamptz, p_hold_s integer,
    p_payment text, p_keyword text, p_keyword_form text, p_keyword_mode text, p_extends integer,
    p_waitlist_max integer, p_waitlist_hold_s integer, p_mode text, p_eligibility text,
    p_buckets integer
) returns text language plpgsql as $$
declare
    s streams;
    o offers;
begin
    select * into s from streams where id = p_stream for no key update;
    if not found then
        return 'not_found';
    elsif s.status = 'ended' then
        return 'conflict';
    elsif keyword_taken(p_stream, p_id, p_keyword_form) then
        return 'keyword_taken';
    end if;
    insert into offers (id, stream, product, price_minor, quantity, per_viewer, status, announced,
                        opens_at, closes_at, hold_s, payment, keyword, keyword_form, keyword_mode,
                        extends, waitlist_max,
                        waitlist_hold_s, eligibility, buckets)
        values (p_id, p_stream, p_product, p_price_minor, p_quantity, p_per_viewer,
                case when p_opens_at is null then 'draft' else 'scheduled' end,
                p_opens_at is not null, p_opens_at, p_closes_at, p_hold_s, p_payment, p_keyword,
                p_keyword_form, p_keyword_mode, p_extends, p_waitlist_max, p_waitlist_hold_s, p_eligibility, p_buckets)
        returning * into o;
    if p_mode = 'draw' then
        o := commit_draw(o.id);
    end if;
    -- Movement 0: what the offer begins with; no gate ever has to apply it.
    insert into movements (offer, n, kind, units, reason, epoch)
        values (o.id, 0, 'quantity', o.quantity, 'created', o.epoch);
    if o.buckets > 1 and o.status <> 'draft' then
        perform into_buckets(o);
    end if;
    if o.status = 'scheduled' then
        perform tell(o.stream, 'offer.scheduled', o.id, null, offer_body(o));
    end if;
    return 'ok';
end $$;

-- revise_offer: change what `p` names. A draft may change altogether (a time to open schedules it);
-- later only quantity and closes_at may. A keyword that a live show was told of stays what it is. Null
-- empties keyword and closes_at; what is empty already is not changed. `if_quantity`: what it is as
-- far as the caller knows, or as he wants it by now. More words: keyword_taken, quantity_differs.
create or replace function revise_offer(p_offer text, p jsonb) returns text
language plpgsql as $$
declare
    o offers;
    before integer;
    closes timestamptz;
    word text;
begin
    if p ? 'keyword_form' then  -- of its stream's keywords only one call at a time decides
        perform 1 from streams where id = (select stream from offers where id = p_offer)
            for no key update;
    end if;
    o := lock_offer(p_offer);
    if o.id is null then
        return 'not_found';
    elsif o.status = 'closed' then
        return 'conflict';
    elsif o.quantity not in ((p ->> 'if_quantity')::integer, coalesce((p ->> 'quantity')::integer, -1)) then
        return 'quantity_differs';
    end if;
    select coalesce(jsonb_object_agg(key, value), '{}') into p
      from jsonb_each(p - 'if_quantity') each
     where value <> 'null' or to_jsonb(o) -> key <> 'null';
    if p = '{}'::jsonb then
        return 'again';
    end if;
    if o.status = 'draft' then
        word := may_be_called(o, case when p ? 'keyword_form'
                                      then coalesce(p ->> 'keyword_form', '') end,
                              p ->> 'keyword_mode');
        if word <> 'ok' then
            return word;
        end if;
        before := o.quantity;
        if p ->> 'mode' = 'sale' and o.mode = 'draw' then
            perform forget_draw(o.id);
        end if;
        update offers set
            product = coalesce(p ->> 'product', product),
            price_minor = coalesce((p ->> 'price_minor')::bigint, price_minor),
            quantity = coalesce((p ->> 'quantity')::integer, quantity),
            per_viewer = coalesce((p ->> 'per_viewer')::integer, per_viewer),
            opens_at = coalesce(from_ms((p ->> 'opens_at')::bigint), opens_at),
            closes_at = case when p ? 'closes_at' then from_ms((p ->> 'closes_at')::bigint)
                             else closes_at end,
            hold_s = coalesce((p ->> 'hold_s')::integer, hold_s),
            payment = coalesce(p ->> 'payment', payment),
            keyword = case when p ? 'keyword' then p ->> 'keyword' else keyword end,
            keyword_form = case when p ? 'keyword_form' then p ->> 'keyword_form'
                                else keyword_form end,
            keyword_mode = coalesce(p ->> 'keyword_mode', keyword_mode),
            extends = coalesce((p ->> 'extends')::integer, extends),
            waitlist_max = coalesce((p ->> 'waitlist_max')::integer, waitlist_max),
            waitlist_hold_s = coalesce((p ->> 'waitlist_hold_s')::integer, waitlist_hold_s),
            eligibility = coalesce(p ->> 'eligibility', eligibility),
            buckets = coalesce((p ->> 'buckets')::smallint, buckets),
            version = version + 1
            where id = p_offer returning * into o;
        if p ->> 'mode' = 'draw' and o.mode = 'sale' then
            o := commit_draw(o.id);
        end if;
        if o.quantity <> before then
            o.last_movement := move(o.id, o.last_movement, o.epoch, 'quantity',
                                    o.quantity - before, null, 'revised');
            update offers set last_movement = o.last_movement where id = o.id;
        end if;
        if o.opens_at is not null then
            o.status := 'scheduled';
            o := note_state(o, 'scheduled');
            perform tell(o.stream, 'offer.scheduled', o.id, null, offer_body(o));
        end if;
        return 'ok';
    end if;
    if (p - 'quantity' - 'closes_at') <> '{}'::jsonb then
        return 'conflict';
    end if;
    if p ? 'quantity' then
        word := set_quantity(p_offer, (p ->> 'quantity')::integer, 'revised');
        if word = 'conflict' then
            return word;
        end if;
    end if;
    if p ? 'closes_at' then
        select * into o from offers where id = p_offer;
        closes := from_ms((p ->> 'closes_at')::bigint);
        if closes is distinct from o.closes_at then
            o.closes_at := closes;
            o := sell_out(promote(o, clock_timestamp()));  -- what came back when it had passed
            o := note_state(o, 'closes_at');
            if o.status in ('scheduled', 'open') then  -- countdowns run on it
                perform tell(o.stream, case o.status when 'open' then 'offer.opened'
                                       else 'offer.scheduled' end, o.id, 'revised', offer_body(o));
            end if;
        end if;
    end if;
    return 'ok';
end $$;
