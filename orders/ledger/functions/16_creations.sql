-- What is made once per key: streams, products and offers, of a host who asks again when no answer
-- came.

-- bind_creation: bind a key to what its caller is about to make in this transaction. Back: `new` and
-- its id; or, when the key is bound already, `again` and the id of what was made then, `key_reused`
-- where something else was asked for. Without a key everything is new. Of two that come at once the
-- second waits here until the first has committed, or has not.
create or replace function bind_creation(
    p_kind text, p_owner text, p_key text, p_digest bytea, p_id text, out word text, out id text
) language plpgsql as $$
declare was creations;
begin
    word := 'new';
    id := p_id;
    if p_key is null then
        return;
    end if;
    insert into creations (kind, owner, key, digest, id)
        values (p_kind, p_owner, p_key, p_digest, p_id) on conflict do nothing;
    if not found then
        select * into was from creations c
            where c.kind = p_kind and c.owner = p_owner and c.key = p_key;
        word := case when was.digest = p_digest then 'again' else 'key_reused' end;
        id := was.id;
    end if;
end $$;

-- offer_created: what remains once create_offer has said its word: hours to ship within, where they
-- are given; or, where there is no offer, the key is free again.
create or replace function offer_created(
    p_id text, p_stream text, p_key text, p_ship_within_h integer, p_word text
) returns text language plpgsql as $$
begin
    if p_word <> 'ok' then
        delete from creations where kind = 'offer' and owner = p_stream and key = p_key;
    elsif p_ship_within_h is not null then
        perform set_ship_within(p_id, p_ship_within_h);
    end if;
    return p_word;
end $$;
