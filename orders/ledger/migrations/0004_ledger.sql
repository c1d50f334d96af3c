-- The books: which epoch admitted an order, what an offer began with, and no way to rewrite either.

alter table orders
    add column epoch integer;  -- of the gate that admitted it (R2); null: before this was noted

-- What an offer began with is its movement 0, below the watermark of every gate: no gate needs it,
-- since the snapshot that one is built from has it already.
insert into movements (offer, n, kind, units, reason, epoch, at)
    select o.id, 0, 'quantity', o.quantity - coalesce(sum(m.units), 0), 'created', 1, o.created_at
      from offers o left join movements m on m.offer = o.id and m.kind = 'quantity'
     group by o.id;

-- What was written stays as it was written. Triggers of statements, and of the columns that they
-- name: an insert never meets one, nor does the update of a status.
create function refuse_rewriting() returns trigger language plpgsql as $$
begin
    raise exception '% of % is refused: what was written there stays', lower(tg_op), tg_table_name
        using errcode = 'restrict_violation';
end $$;

create trigger movements_stay before update or delete or truncate on movements
    for each statement execute function refuse_rewriting();
create trigger orders_stay before delete or truncate on orders
    for each statement execute function refuse_rewriting();
create trigger orders_stay_as_admitted
    before update of id, offer, viewer, key, qty, rank, reserved_at, epoch on orders
    for each statement execute function refuse_rewriting();
