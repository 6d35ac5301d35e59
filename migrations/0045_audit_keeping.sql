-- What may go out of the audit: what is about persons in an event, and its oldest events; and what keeps both from going.
alter table audit
    -- The hash over the private part that was taken out. The salt that made it unguessable went with it.
    add column redacted bytea,
    drop constraint audit_sealed_whole,
    add constraint audit_sealed_whole check (case when redacted is null
        then num_nulls(place, previous, hash, salt) in (0, 4)
        else num_nulls(place, previous, hash) = 0 and num_nonnulls(salt, actor_name, client) = 0 and details = '{}' end);

create table audit_hold (
    id         uuid primary key,
    reason     text not null,
    -- What is null is any.
    subject    text,
    actor      text,
    since      timestamptz,
    until      timestamptz,
    by         text not null,
    created_at timestamptz not null default now()
);

-- Where the chain begins since its head was removed: signed, so that nobody else can take a head away.
create table audit_beginning (
    one       boolean primary key default true check (one),
    place     bigint not null,
    -- Of the last event that was removed.
    hash      bytea not null,
    at        timestamptz not null,
    key       text not null,
    signature text not null,
    -- Whether it was written outside of the store, where that is asked for.
    anchored  boolean not null default false
);
