-- The newest rebalance of the fleet: whom it sends where, and what became of it.
create table rebalance (
    one       boolean primary key default true check (one),
    operation uuid not null,
    begun_at  timestamptz not null default now()
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
