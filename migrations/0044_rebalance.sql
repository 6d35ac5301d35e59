-- The newest rebalance of the fleet: whom it sends where, and what became of it.
create table rebalance (
    one       boolean primary key default true check (one),
    operation uuid not null
);

-- As of a drain (server_drain_tenant): what became of a move is said by its operation, and where the tenant is by the tenant.
create table rebalance_tenant (
    tenant_id   text primary key references tenant on delete cascade,
    -- Its turn.
    number      integer not null,
    from_server text not null references server on delete cascade,
    to_server   text not null references server on delete cascade,
    bytes       bigint,
    moved_by    uuid,
    tries       integer not null default 0,
    code        text,
    message     text
);

-- Whom a rebalance could not move: nobody suggests the same again for a while.
create table rebalance_failure (
    tenant_id text primary key references tenant on delete cascade,
    -- The move, or the rebalance where none was begun: each is written down once.
    operation uuid not null,
    at        timestamptz not null default now(),
    code      text not null,
    message   text not null
);

-- When a move brought it to its server: what was measured there before is of a copy. Null: it was made there.
alter table tenant_database add column arrived_at timestamptz;
