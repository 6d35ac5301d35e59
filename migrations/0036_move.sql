-- Moves of tenants between two servers, until nothing of the side that does not serve is left.
--
-- Which server serves is said in one place, as always: tenant_database.server_id. The other side holds its slot and its
-- names by a row of tenant_database with the move's id, that is nobody's and in the state `moving`: at the target until the
-- flip, at the source from then on. The flip changes both in one transaction.

alter table tenant_database
    drop constraint tenant_database_state_check,
    add constraint tenant_database_state_check check (state in ('building', 'ready', 'claimed', 'dropping', 'moving'));

create table tenant_move (
    -- One at a time, its grace included.
    tenant_id       text primary key references tenant on delete cascade,
    -- Also of the row of tenant_database that holds the other side.
    id              uuid not null unique,
    database_id     uuid not null references tenant_database on delete cascade,
    from_server     text not null references server,
    to_server       text not null references server,
    -- What was found, on record before it is acted on: the way back stands on it.
    plan            jsonb not null default '{}',
    -- Logins of the two directions, sealed for their ids. They are gone with the move.
    there_login     uuid not null,
    there_password  bytea not null,
    there_verifier  text not null,
    back_login      uuid not null,
    back_password   bytea not null,
    back_verifier   text not null,
    -- Null: `from_server` serves. Else `to_server` does, and nothing is undone any more.
    flipped_at      timestamptz,
    -- How long nobody could work, as the plane saw it.
    stall_ms        integer,
    -- Whether both sides held the same at the flip: compared then, not compared because the process died, or not the same.
    digests         text check (digests in ('equal', 'unread', 'different')),
    -- Whether the side that was left follows the one that serves.
    follows         boolean not null default false,
    -- Until when the side that was left is kept. Null: the move is not done.
    keep_until      timestamptz
);
create index tenant_move_due on tenant_move (keep_until) where keep_until is not null;
