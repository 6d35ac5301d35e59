-- How far sealed events were taken by whoever is sent them. What is not certain is sent again, with the same places.
create table audit_stream (
    -- `file` or `url`
    receiver text primary key,
    place    bigint not null,
    taken_at timestamptz not null default now()
);
