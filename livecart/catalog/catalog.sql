-- name: create_stream
-- A new show; its times come from the wire in ms. $7 a key under which it is made once, $8 the digest
-- of what was asked for. Back: bind_creation's word, and the id of what there is now.
with bound as materialized (select * from bind_creation('stream', $2, $7, $8, $1)),
made as (
    insert into streams (id, shop, title, starts_at, playback_url, language)
    select b.id, $2, $3, from_ms($4), $5, $6 from bound b where b.word = 'new')
select word, id from bound

-- name: streams_by_id
-- Streams, in any order.
select id, shop, title, status, ms(starts_at) as starts_at, ms(started_at) as started_at,
       ms(ended_at) as ended_at, playback_url, language,
       nullif(chat_every_s, 0) as chat_every_s, nullif(peak_viewers, 0) as peak_viewers
  from streams where id = any ($1::text[])

-- name: streams_page
-- A page of streams, newest first; null filters do not filter. $1 shop, $2 status, $3 before id,
-- $4 limit.
select id, shop, title, status, ms(starts_at) as starts_at, ms(started_at) as started_at,
       ms(ended_at) as ended_at, playback_url, language,
       nullif(chat_every_s, 0) as chat_every_s, nullif(peak_viewers, 0) as peak_viewers
  from streams
 where ($1::text is null or shop = $1)
   and ($2::text is null or status = $2)
   and ($3::text is null or id < $3)
 order by id desc limit $4

-- name: create_product
-- A new product of a shop, once per key ($11, $12) as a stream is; $13 what it is found by.
with bound as materialized (select * from bind_creation('product', $2, $11, $12, $1)),
made as (
    insert into products (id, shop, sku, title, price_minor, currency, description, image_url, gtin,
                          tax_bp, found_by)
    select b.id, $2, $3, $4, $5, $6, $7, $8, $9, $10, $13 from bound b where b.word = 'new')
select word, id from bound

-- name: products_by_id
-- Products, in any order.
select id, shop, sku, title, price_minor, currency, description, image_url, gtin, tax_bp
  from products where id = any ($1::text[])

-- name: products_page
-- A page of products, newest first. $1 shop, $2 before id, $3 limit.
select id, shop, sku, title, price_minor, currency, description, image_url, gtin, tax_bp
  from products
 where ($1::text is null or shop = $1) and ($2::text is null or id < $2)
 order by id desc limit $3

-- name: products_found
-- A page of a shop's products that all patterns match, newest first. $1 shop, $2 patterns, $3 before
-- id, $4 limit, $5 patterns as they were typed: a row of the release before is found by how it is
-- written, too, since a database may know no case but ASCII's. The shop's rows are looked at one by
-- one: 19 ms for 10,000 of them without a match, 0.24 s for 90,000, on a core that others wanted,
-- too. Trigrams (pg_trgm) would not help: Chinese is searched by words of one and two characters,
-- which have none.
select id, shop, sku, title, price_minor, currency, description, image_url, gtin, tax_bp
  from products
 where shop = $1 and ($3::text is null or id < $3)
   and (coalesce(found_by, lower(title || ' ' || sku)) like all ($2::text[])
        or found_by is null and title || ' ' || sku ilike all ($5::text[]))
 order by id desc limit $4

-- name: offers_page
-- A page of a stream's offers, newest first, those never announced only for their shop. $1 stream,
-- $2 with those, $3 before id, $4 limit.
select o.id, o.stream, s.shop, o.product, o.price_minor, p.currency, o.quantity, o.taken,
       o.confirmed, o.per_viewer, o.status, s.status as stream_status, o.hold_s, o.payment, o.epoch,
       o.version, o.last_movement, ms(o.opens_at) as opens_at, ms(o.closes_at) as closes_at,
       o.keyword, o.keyword_mode, o.ship_within_h, o.announced, o.extends, o.waiting, o.waitlist_max, o.waitlist_hold_s, o.mode,
       o.seed_hash, o.seed, o.eligibility, o.buckets
  from offers o join streams s on s.id = o.stream join products p on p.id = o.product
 where o.stream = $1 and o.parent is null and ($2::boolean or o.announced) and ($3::text is null or o.id < $3)
 order by o.id desc limit $4

-- name: pin_of_stream
-- One pin that is shown, to see whether it is of that stream.
select id from pins where id = $1 and stream = $2 and unpinned_at is null

-- name: room
-- What a newcomer is shown. One statement is one snapshot: the state and the last fact that it has
-- the effect of belong together.
select jsonb_build_object(
         'id', s.id, 'shop', s.shop, 'title', s.title, 'status', s.status,
         'starts_at', ms(s.starts_at), 'started_at', ms(s.started_at), 'ended_at', ms(s.ended_at),
         'playback_url', s.playback_url, 'language', s.language,
         'chat_every_s', nullif(s.chat_every_s, 0),
         'peak_viewers', nullif(s.peak_viewers, 0))::text as stream,
       (select jsonb_agg(jsonb_build_object('id', x.id, 'product', x.product, 'offer', x.offer,
                                            'media_at', x.media_at) order by x.n desc)
          from pins x where x.stream = s.id and x.unpinned_at is null)::text as pins,
       (select jsonb_agg(jsonb_build_object(
                 'id', o.id, 'stream', o.stream, 'shop', s.shop, 'product', o.product,
                 'price_minor', o.price_minor, 'currency', p.currency, 'quantity', o.quantity,
                 'taken', o.taken, 'confirmed', o.confirmed, 'per_viewer', o.per_viewer,
                 'status', o.status, 'stream_status', s.status, 'hold_s', o.hold_s,
                 'payment', o.payment, 'epoch', o.epoch, 'version', o.version,
                 'last_movement', o.last_movement, 'opens_at', ms(o.opens_at),
                 'closes_at', ms(o.closes_at), 'keyword', o.keyword,
                 'keyword_mode', o.keyword_mode, 'ship_within_h', o.ship_within_h,
                 'announced', o.announced, 'extends', o.extends, 'waiting', o.waiting,
                 'waitlist_max', o.waitlist_max, 'waitlist_hold_s', o.waitlist_hold_s,
                 'mode', o.mode, 'seed_hash', o.seed_hash, 'seed', o.seed,
                 'eligibility', o.eligibility, 'buckets', o.buckets) order by o.id desc)
          from offers o join products p on p.id = o.product
         where o.stream = s.id and o.parent is null and o.status not in ('draft', 'closed'))::text as offers,
       (select n from fact_heads where stream = s.id) as fact_n
  from streams s where s.id = $1

-- name: standings
-- The standing of these viewers in a stream; who has none has no row.
select viewer, banned,
       case when muted_until = 'infinity' then 9007199254740991
            else coalesce(ms(muted_until), 0) end as muted_until_ms
  from standings where stream = $1 and viewer = any ($2::text[])

-- name: banned
-- Who is banned from a stream.
select viewer from standings where stream = $1 and banned limit 10000

-- name: slow_chat
-- Slow mode of a stream; 0: none.
update streams set chat_every_s = $2 where id = $1

-- name: note_peaks
-- The most viewers so far of these streams: two parallel arrays.
update streams s set peak_viewers = x.viewers
  from unnest($1::text[], $2::integer[]) as x (id, viewers)
 where s.id = x.id and s.peak_viewers < x.viewers

-- name: mute
-- Mute until unmuted.
insert into standings (stream, viewer, muted_until) values ($1, $2, 'infinity')
    on conflict (stream, viewer) do update set muted_until = 'infinity'

-- name: unmute
-- Let somebody in and speak again: the only way back from a ban, too.
update standings set muted_until = null, banned = false where stream = $1 and viewer = $2

-- name: ban
-- Keep somebody out for good.
insert into standings (stream, viewer, banned) values ($1, $2, true)
    on conflict (stream, viewer) do update set banned = true

-- name: newest_live
-- The stream that a visitor without an address most likely looks for.
select id from streams where status = 'live' order by id desc limit 1

-- name: schema_files
-- What was migrated.
select name from schema_files
