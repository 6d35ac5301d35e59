-- The audit as a chain: each event gets a place and a hash over itself and the one before it. The loop `audit` gives them,
-- beside the writers, which know nothing of it.
alter table audit
    add column place    bigint,
    -- The hash of the event before it, its own, and what makes its private part unguessable.
    add column previous bytea,
    add column hash     bytea,
    add column salt     bytea,
    add constraint audit_sealed_whole check (num_nulls(place, previous, hash, salt) in (0, 4));
create unique index audit_place on audit (place) where place is not null;
-- The queue of what is to be sealed. Not a highest number that was: an event that began earlier may be committed later.
create index audit_unsealed on audit (seq) where place is null;
-- Each event is written twice, once without and once with its place: the first is to make room for the next soon.
alter table audit set (autovacuum_vacuum_scale_factor = 0.02);

-- The end of the chain, apart from the events, so that a tail that was cut off is missed. Its only row is locked by whoever seals.
create table audit_end (
    one              boolean primary key default true check (one),
    -- Which store this is, to whoever reads a checkpoint.
    store            uuid not null default gen_random_uuid(),
    place            bigint not null default 0,
    -- Before the first event a hash over the store's name: `genesis` in crates/chain has the same.
    hash             bytea,
    -- How far the last checkpoint reached, and when it was made.
    checkpoint_place bigint not null default 0,
    checkpoint_at    timestamptz
);
insert into audit_end default values;
update audit_end set hash = sha256(convert_to('freehold audit chain of ' || store::text, 'UTF8'));
alter table audit_end alter column hash set not null;
