-- Draws: units go to the entries whose HMAC-SHA256(seed, viewer) is lowest. The seed was committed to
-- by its hash before anybody entered, and is shown with the result, so that anyone can check.

-- draw_pad: the 64 bytes that HMAC puts before the inner (0x36) or the outer (0x5c) message, for a
-- key of at most 64 bytes (RFC 2104). Made once a draw; sha256 is in Postgres, its HMAC is not.
create or replace function draw_pad(p_seed bytea, p_byte integer) returns bytea
language plpgsql immutable strict as $$
declare pad bytea := decode(repeat(lpad(to_hex(p_byte), 2, '0'), 64), 'hex');
begin
    for i in 0 .. length(p_seed) - 1 loop
        pad := set_byte(pad, i, get_byte(p_seed, i) # p_byte);
    end loop;
    return pad;
end $$;

-- draw_score: HMAC-SHA256(seed, the viewer's id in UTF-8), of the seed's two pads.
create or replace function draw_score(p_inner bytea, p_outer bytea, p_viewer text) returns bytea
language sql immutable strict parallel safe
return sha256(p_outer || sha256(p_inner || convert_to(p_viewer, 'UTF8')));

-- commit_draw: make the secret seed of an offer's draw, and write its hash, which is shown at once, into
-- the offer. It is born here, so that it is in no statement, no log and no memory of a process of ours;
-- three random uuids have 366 random bits.
create or replace function commit_draw(p_offer text) returns offers language plpgsql as $$
declare
    o offers;
    secret bytea := sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())
                           || uuid_send(gen_random_uuid()));
begin
    insert into draws (offer, seed) values (p_offer, secret);
    update offers set mode = 'draw', seed_hash = encode(sha256(secret), 'hex')
        where id = p_offer returning * into o;
    return o;
end $$;

-- forget_draw: the draft is to be sold, not drawn. Nobody outside its shop saw the hash.
create or replace function forget_draw(p_offer text) returns void language sql as $$
    delete from draws where offer = p_offer;
    update offers set mode = 'sale', seed_hash = null where id = p_offer;
$$;

-- gathers: whether people may enter the draw of a locked offer: it waits for its window's close.
create or replace function gathers(p_offer offers) returns boolean language sql immutable
return p_offer.mode = 'draw' and p_offer.seed is null and p_offer.status = 'scheduled';

-- hold_draw: draw a locked offer, once. The entries in the order of their scores get their ranks in
-- ascending order: each was given by the gate, so they stay unique (I6). Those that fit, one after the
-- other, get orders under the offer's own hold; the others wait on in that order, so that what is not
-- paid for goes to the next lowest (R12). In sets: ten thousand entries are drawn under one lock.
-- As promote, it writes what it changed of the offer; exempt from the fence for the same reason.
create or replace function hold_draw(p_offer offers, p_at timestamptz) returns offers
language plpgsql as $$
declare
    o offers := p_offer;
    secret bytea;
    inner_pad bytea;
    outer_pad bytea;
    viewers text[];
    keys text[];
    qtys integer[];
    joined timestamptz[];
    scores bytea[];
    ranks bigint[];
    ids text[] := '{}';     -- the order of each entry that won, null for the others
    free integer := o.quantity - o.taken;
    won integer := 0;
    last_won integer := 0;
    q integer;
begin
    select d.seed into strict secret from draws d where d.offer = o.id;
    inner_pad := draw_pad(secret, 54);
    outer_pad := draw_pad(secret, 92);
    with entries as (
        delete from waitlist w where w.offer = o.id and w.left_at is null
        returning w.viewer, w.key, w.qty, w.rank, w.joined_at),
    placed as (
        select e.*, s.score, row_number() over (order by s.score, e.viewer) as place
          from entries e
         cross join lateral (select draw_score(inner_pad, outer_pad, e.viewer) as score) s
         where not exists (select 1 from standings b where b.stream = o.stream
                              and b.viewer = e.viewer and b.banned))
    select array_agg(viewer order by place), array_agg(key order by place),
           array_agg(qty order by place), array_agg(joined_at order by place),
           array_agg(score order by place), array_agg(rank order by rank)
      into viewers, keys, qtys, joined, scores, ranks from placed;
    foreach q in array coalesce(qtys, '{}') loop
        if q <= free then
            free := free - q;
            won := won + 1;
            ids := ids || new_order_id(p_at);
            last_won := cardinality(ids);
        else
            ids := ids || null::text;
        end if;
    end loop;

    insert into draw_entries (offer, place, viewer, qty, score, rank, won)
        select o.id, e.place, e.viewer, e.qty, e.score, e.rank, e.id is not null
          from unnest(ids, viewers, qtys, scores, ranks) with ordinality
               as e (id, viewer, qty, score, rank, place);
    insert into orders (id, offer, stream, viewer, key, qty, unit_price_minor, status, rank,
                        reserved_at, expires_at, confirmed_at, epoch)
        select e.id, o.id, o.stream, e.viewer, e.key, e.qty, o.price_minor,
               case o.payment when 'none' then 'confirmed' else 'reserved' end, e.rank, p_at,
               case o.payment when 'none' then null
                              else p_at + make_interval(secs => o.hold_s) end,
               case o.payment when 'none' then p_at end, o.epoch
          from unnest(ids, viewers, keys, qtys, ranks) as e (id, viewer, key, qty, rank)
         where e.id is not null;
    insert into movements (offer, n, kind, units, order_id, reason, epoch, at)
        select o.id, o.last_movement + row_number() over (order by e.place), 'take', -e.qty, e.id,
               'drawn', o.epoch, p_at
          from unnest(ids, qtys) with ordinality as e (id, qty, place)
         where e.id is not null;
    insert into waitlist (offer, viewer, key, qty, rank, joined_at)
        select o.id, e.viewer, e.key, e.qty, e.rank, e.joined_at
          from unnest(ids, viewers, keys, qtys, ranks, joined)
               as e (id, viewer, key, qty, rank, joined_at)
         where e.id is null;

    update draws set drawn_at = p_at, entries = cardinality(ids), winners = won,
                     units = o.quantity - o.taken - free, threshold = scores[last_won]
        where offer = o.id;
    o.seed := encode(secret, 'hex');
    o.confirmed := o.confirmed
        + case o.payment when 'none' then o.quantity - o.taken - free else 0 end;
    o.taken := o.quantity - free;
    o.waiting := cardinality(ids) - won;
    o.last_movement := o.last_movement + won;
    update offers set seed = o.seed, taken = o.taken, confirmed = o.confirmed, waiting = o.waiting,
                      last_movement = o.last_movement
        where id = o.id;
    return o;
end $$;
