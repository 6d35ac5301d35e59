-- Drains of servers: whom each has to let go, and what became of it. Of a server the newest one.
create table server_drain (
    server_id text primary key references server on delete cascade,
    operation uuid not null,
    begun_at  timestamptz not null default now()
);

-- What became of a move is said by its operation, and where the tenant is by the tenant: neither is written down twice.
create table server_drain_tenant (
    server_id text not null references server_drain on delete cascade,
    tenant_id text not null references tenant on delete cascade,
    -- As it was last measured when it was listed.
    bytes     bigint,
    -- The operation that moves it, written in the transaction that begins it: a drain begins one of each.
    moved_by  uuid,
    -- How often it found that somebody else had taken the last slot.
    tries     integer not null default 0,
    -- Why it is left where it is, where no move was begun for it.
    code      text,
    message   text,
    primary key (server_id, tenant_id)
);
create index server_drain_tenant_of on server_drain_tenant (tenant_id);
