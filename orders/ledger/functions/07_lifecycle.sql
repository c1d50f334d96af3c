-- What happens to an offer and its orders between opening and the end: pause, resume, extend.

-- pause_offer: sell no more until it is resumed; held orders stay payable. Units that come back
-- meanwhile wait. One that is due is open for its buyers already, so it is opened first.
create or replace function pause_offer(p_offer text, p_reason text) returns text
language plpgsql as $$
declare o offers;
begin
    perform open_offer(p_offer, true);
    o := lock_offer(p_offer);
    if o.id is null then
        return 'not_found';
    elsif o.status = 'paused' then
        return 'again';
    elsif o.status <> 'open' then
        return 'conflict';
    end if;
    o.status := 'paused';
    o := note_state(o, coalesce(p_reason, 'paused'));
    perform tell(o.stream, 'offer.paused', o.id, p_reason, offer_body(o));
    return 'ok';
end $$;

-- resume_offer: sell what is left of a paused offer; with nothing left it is sold out.
create or replace function resume_offer(p_offer text) returns text
language plpgsql as $$
declare was text;
begin
    select status into was from offers where id = p_offer for update;
    if not found then
        return 'not_found';
    elsif was not in ('paused', 'open', 'sold_out') then
        return 'conflict';
    end if;
    return open_offer(p_offer, false);
end $$;

-- extend: move the deadline of a reserved order, `hold_s` from now, once for the version that the
-- caller saw. Nothing but an extension raises the version of an order while it is reserved, so its
-- n-th one was of version n: sent again, a request up to there changes nothing. Against pay, cancel
-- and expire it runs under the same locks; who is due by this server's clock is theirs (I8, R8).
-- The word is ok, again, not_found or conflict; `now` is the order as it is then.
create or replace function extend(
    p_order text, p_version bigint, p_who text default null, out word text, out now order_rows
) language plpgsql as $$
declare
    offer_id text;
    o offers;
    r orders;
    now_at timestamptz;
begin
    select home_of(x.offer, x.bucket) into offer_id from orders x where x.id = p_order;
    if not found then
        word := 'not_found';
        return;
    end if;
    select * into o from offers where id = offer_id for update;
    select * into r from orders x where x.id = p_order for update;
    now_at := clock_timestamp();
    word := 'conflict';
    if p_version between 1 and r.extended and r.status in ('reserved', 'confirmed', 'shipped') then
        word := 'again';
    elsif r.status = 'reserved' and r.version = p_version and r.extended < o.extends
          and r.expires_at > now_at then
        perform act(p_who);
        update orders set extended = extended + 1, version = version + 1,
                          expires_at = now_at + make_interval(secs => o.hold_s)
            where id = p_order;
        -- As in pay: the movement has the viewer told should we die here.
        update offers set last_movement = move(o.id, o.last_movement, o.epoch, 'order', 0,
                                               p_order, 'extended')
            where id = o.id;
        word := 'ok';
    end if;
    select * into now from order_rows x where x.id = p_order;
end $$;
