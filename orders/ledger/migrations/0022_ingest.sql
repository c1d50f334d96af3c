-- Who may publish a stream's video, and what is known of who does.
create table ingests (
    stream     text primary key references streams,
    key_hash   bytea unique,                   -- SHA-256 of the stream key; null: none was made
    key_before bytea unique,                   -- of the key before: his stop must still be heard
    started    boolean not null default false, -- publishing started the stream: its stop ends it
    sessions   text[] not null default '{}',   -- the media server's names for who publishes now
    stopped    text,                           -- and for who stopped last, and when that was heard
    stopped_at timestamptz,
    ends_at    timestamptz                     -- when the stream ends unless somebody comes back
);
create index ingests_due on ingests (ends_at) where ends_at is not null;
