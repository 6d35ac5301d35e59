-- Poolers that somebody else runs: the plane itself writes its entries into files that it reaches by a path, and speaks to
-- the pooler over its admin console.

create table pooler_external (
    pooler_id      text primary key references pooler on delete cascade,
    -- pgbouncer.ini or pgcat.toml. Two poolers in one file would undo each other's work.
    file           text not null unique,
    -- What PgBouncer has as its auth_file; PgCat has none.
    users_file     text,
    -- The console's administrator without the password, and the whole of it, sealed.
    admin          text not null,
    admin_sealed   bytea not null,
    admin_version  integer not null default 1,
    seal_id        uuid not null,
    -- Of the login that proves that the list of users was read.
    check_sealed   bytea not null,
    check_verifier text not null,
    -- Entries that it is not given, and why: their names are somebody's already, or cannot be written.
    withheld       jsonb not null default '{}'
);
