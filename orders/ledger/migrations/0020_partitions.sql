-- Which tables are in partitions, by what, and from when on; empty unless somebody asked for them
-- (`livecart migrate --partitions`, see docs/database.md).
create table partition_bounds (
    parent  text primary key,
    key     text not null,        -- the column that decides: an id whose digits begin with a time,
    prefix  text not null,        -- after these letters
    from_at timestamptz not null, -- ids from before, and those with no time, stay where they are:
    first   text not null,        -- up to this id,
    beyond  text not null         -- and from this on
);
