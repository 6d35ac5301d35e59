-- What was last seen on servers. Null: not known (yet), which is another thing than zero.

alter table server
    -- All databases together, each as of when it was last measured.
    add column size_bytes bigint,
    -- Client sessions, and how many the server admits besides those it reserves.
    add column connections integer,
    add column connections_max integer,
    add column databases integer,
    add column oldest_transaction_seconds double precision,
    -- Transactions since the oldest row that is not frozen: the server takes no writes near 2^31.
    add column xid_age bigint,
    -- Of the standby, subscriber or slot that is furthest behind; null where there is none.
    add column replication_lag_bytes bigint,
    -- Of the file system that holds the data; null where only the server's own machine could tell.
    add column data_free_bytes bigint,
    add column data_total_bytes bigint,
    -- When the columns above were read.
    add column observed_at timestamptz,
    -- What a server was before health made it failed, and becomes again when it answers; counts while it is failed.
    -- Null: it failed for another reason.
    add column state_before text check (state_before in ('active', 'cordoned', 'draining')),
    -- For programs: what health_message tells people.
    add column health_code text,
    -- What health found worth knowing; `findings` is what registration did.
    add column health_findings jsonb not null default '[]',
    -- When store and server were last compared, and why they could not be since.
    add column truth_at timestamptz,
    add column truth_error text;

-- One cluster registered twice would be counted twice. One that health made failed comes back.
drop index server_cluster;
create unique index server_cluster on server (system_identifier)
    where system_identifier is not null and state <> 'removed' and (state <> 'failed' or state_before is not null);

-- Since when a database has what could not be repaired.
alter table tenant_database add column drift_since timestamptz;
create index tenant_database_drift on tenant_database (server_id) where drift <> '[]';

-- The login that health comes in with, where tenants do. Sealed like any other.
create table visitor (
    server_id  text primary key references server on delete cascade,
    id         uuid not null unique,
    role       text not null,
    password   bytea not null,
    verifier   text not null,
    created_at timestamptz not null default now()
);

-- What is on a server and not in the store.
create table stray (
    server_id  text not null references server on delete cascade,
    kind       text not null check (kind in ('database', 'role')),
    name       text not null,
    -- Freehold made it. Else it is foreign, and nobody's business here.
    ghost      boolean not null,
    -- What tells that: its name, its owner, the note in it.
    reason     text not null,
    -- Whose it was, where a note says so.
    tenant_id  text,
    -- A database that was looked into for a note.
    read       boolean not null default false,
    first_seen timestamptz not null default now(),
    primary key (server_id, kind, name)
);

-- A server's databases together: counters that go on where the server's own begin again, and what they make per second.
create table server_stats (
    server_id               text primary key references server on delete cascade,
    at                      timestamptz not null,
    transactions            bigint not null default 0,
    blocks_hit              bigint not null default 0,
    blocks_read             bigint not null default 0,
    deadlocks               bigint not null default 0,
    temp_bytes              bigint not null default 0,
    -- Of the last round; null before the second.
    transactions_per_second double precision,
    -- Of the last round that read anything.
    last_blocks_hit         bigint not null default 0,
    last_blocks_read        bigint not null default 0
);

-- One row per database, latest only; counters are the server's own. A database in which nothing happens is not written again.
create table database_stats (
    server_id               text not null references server on delete cascade,
    database                text not null,
    transactions            bigint not null,
    blocks_hit              bigint not null,
    blocks_read             bigint not null,
    deadlocks               bigint not null,
    temp_bytes              bigint not null,
    -- Of the tenant's login, anywhere; where it is no tenant's, of anybody in it.
    connections             integer not null,
    transactions_per_second double precision,
    cache_hit_ratio         double precision,
    size_bytes              bigint,
    size_at                 timestamptz,
    -- `transactions` when it was measured: nothing happened since, nothing grew.
    size_transactions       bigint,
    primary key (server_id, database)
);

-- How much of its quota a tenant uses, in steps. No row: less than that.
create table quota_level (
    tenant_id   text not null references tenant on delete cascade,
    resource    text not null check (resource in ('storage', 'connections')),
    level       integer not null check (level in (80, 100)),
    since       timestamptz not null default now(),
    -- It is to be suspended for this, and something else is working on it still.
    suspend_due boolean not null default false,
    primary key (tenant_id, resource)
);
