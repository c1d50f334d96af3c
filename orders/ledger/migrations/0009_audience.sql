-- What a show's chat allows, and how many were there at once.
alter table streams
    add column chat_every_s integer not null default 0 check (chat_every_s between 0 and 3600),
    add column peak_viewers integer not null default 0;
