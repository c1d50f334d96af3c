-- Who may buy: anyone, or who brings a ticket of the shop.
alter table offers
    add column eligibility text not null default 'anyone'
                           check (eligibility in ('anyone', 'ticket'));

-- `create or replace` would leave the one with fewer arguments standing beside the new one.
drop function if exists create_offer(text, text, text, bigint, integer, integer, timestamptz,
                                     timestamptz, integer, text, text, integer, integer, integer,
                                     text);
