-- The fleet as the plane wants it. What was last seen is in columns that say so (health, findings, observed_*).
-- 0001 holds the engine of operations, which has never heard of tenants.

create table meta (
    key   text primary key,
    value text not null
);

create table template (
    name       text not null,
    version    text not null,
    manifest   jsonb not null,
    files      jsonb not null,
    current    boolean not null,
    -- Whether servers keep stock of it: false for a shipped template that nobody has used yet.
    stocked    boolean not null,
    shipped    boolean not null,
    created_at timestamptz not null default now(),
    primary key (name, version)
);
create unique index template_current on template (name) where current;

create table server (
    id                text primary key,
    kind              text not null check (kind in ('shared', 'dedicated', 'system')),
    state             text not null check (state in ('provisioning', 'active', 'cordoned', 'draining', 'maintenance', 'failed', 'removed')),
    health            text not null default 'unknown' check (health in ('healthy', 'degraded', 'unhealthy', 'unknown')),
    health_message    text,
    health_failures   integer not null default 0,
    checked_at        timestamptz,
    capacity          integer not null check (capacity > 0),
    region            text,
    -- The connection string of the admin without its password, and the whole of it, sealed.
    dsn               text not null,
    dsn_sealed        bytea not null,
    dsn_seal_id       uuid not null,
    dsn_version       integer not null default 1,
    tenant_host       text not null,
    tenant_port       integer not null,
    tenant_sslmode    text not null,
    ca_certificate    text,
    version_num       integer,
    version           text,
    system_identifier text,
    superuser         boolean,
    extensions        jsonb not null default '{}',
    findings          jsonb not null default '[]',
    created_at        timestamptz not null default now()
);
-- One cluster registered twice would be counted twice.
create unique index server_cluster on server (system_identifier) where system_identifier is not null and state not in ('removed', 'failed');

-- The database that a template's version is copied from, on one server.
create table template_build (
    server_id  text not null references server,
    name       text not null,
    version    text not null,
    database   text not null,
    owner      text not null,
    state      text not null check (state in ('building', 'ready', 'failed', 'dropping')),
    error      text,
    -- How often in a row a copy of it could not be made, and when the stock loop tries again.
    failures   integer not null default 0,
    retry_at   timestamptz,
    -- Extensions that the template asks for, does not require, and that the server lacks.
    missing    text[] not null default '{}',
    created_at timestamptz not null default now(),
    primary key (server_id, name, version),
    foreign key (name, version) references template (name, version)
);

create table tenant (
    id                  text primary key,
    name                text not null,
    plan                text not null,
    region              text,
    template            text not null,
    template_version    text,
    state               text not null check (state in ('creating', 'active', 'failed', 'suspended', 'deleted')),
    state_since         timestamptz not null default now(),
    state_reason        text,
    -- What a deleted tenant was before, and becomes again when it is undeleted.
    state_before        text check (state_before in ('active', 'suspended', 'failed')),
    server_id           text references server,
    deletion_protection boolean not null default false,
    deleted_at          timestamptz,
    purge_at            timestamptz,
    -- Set before anything of it is destroyed: from then on there is no way back.
    purge_began_at      timestamptz,
    missing_extensions  text[] not null default '{}',
    revision            bigint not null default 1,
    created_by          uuid,
    created_at          timestamptz not null default now(),
    updated_at          timestamptz not null default now(),
    check ((state = 'deleted') = (deleted_at is not null)),
    check ((state = 'deleted') = (purge_at is not null))
);
-- One index per filter, each ending in the order of the list, so that a page is read and nothing is sorted.
create index tenant_plan on tenant (plan, id);
create index tenant_state on tenant (state, id);
create index tenant_server on tenant (server_id, id);
create index tenant_template on tenant (template, id);
create index tenant_id_prefix on tenant (id text_pattern_ops);
create index tenant_name_prefix on tenant ((lower(name)) collate "C", id collate "C");
create index tenant_purge on tenant (purge_at) where state = 'deleted';

create table tenant_label (
    tenant_id text not null references tenant on delete cascade,
    key       text not null,
    value     text not null,
    primary key (tenant_id, key)
);
create index tenant_label_value on tenant_label (key, value, tenant_id);

-- One database on one server: being made, in stock, a tenant's, or going.
create table tenant_database (
    id               uuid primary key,
    server_id        text not null references server,
    template         text not null,
    template_version text not null,
    -- Whose limits its roles carry.
    plan             text not null,
    state            text not null check (state in ('building', 'ready', 'claimed', 'dropping')),
    tenant_id        text unique,
    database         text not null,
    owner            text not null,
    missing          text[] not null default '{}',
    created_at       timestamptz not null default now(),
    ready_at         timestamptz,
    claimed_at       timestamptz,
    -- When the sealed note of whom it belongs to was written into it.
    noted_at         timestamptz,
    -- When the truth loop last logged in to it, where its admin may not read verifiers.
    probed_at        timestamptz,
    -- What the truth loop found and could not repair.
    drift            jsonb not null default '[]',
    unique (server_id, database),
    unique (server_id, owner),
    check (state <> 'ready' or tenant_id is null),
    check (state <> 'claimed' or tenant_id is not null)
);
create index tenant_database_stock on tenant_database (template, template_version, server_id, created_at) where state = 'ready';
create index tenant_database_server on tenant_database (server_id);
-- What the stock loop counts: everything that is nobody's yet.
create index tenant_database_free on tenant_database (server_id, template, template_version, plan, state) where tenant_id is null;
create index tenant_database_unnoted on tenant_database (claimed_at) where state = 'claimed' and noted_at is null;

-- A login role and its password, sealed with (id, field, version) as associated data.
create table login (
    id          uuid primary key,
    database_id uuid not null references tenant_database on delete cascade,
    server_id   text not null,
    purpose     text not null check (purpose in ('tenant', 'maintenance')),
    role        text not null,
    password    bytea not null,
    version     integer not null default 1,
    verifier    text not null,
    created_at  timestamptz not null default now(),
    unique (server_id, role),
    unique (database_id, purpose)
);

-- Who a compatibility edge's external id is here. Ids that are no slug live only in this table.
create table edge_tenant (
    edge        text not null,
    external_id text not null,
    tenant_id   text not null,
    created_at  timestamptz not null default now(),
    primary key (edge, external_id),
    unique (edge, tenant_id)
);
create index edge_tenant_tenant on edge_tenant (tenant_id);

create table api_key (
    id           uuid primary key,
    name         text not null,
    prefix       text not null,
    hash         bytea not null unique,
    scopes       text[] not null,
    tenants      text[],
    expires_at   timestamptz,
    revoked_at   timestamptz,
    last_used_at timestamptz,
    created_at   timestamptz not null default now()
);

-- Holds references and public answers, never a password.
create table idempotency (
    key_id       uuid not null,
    key          text not null,
    request_hash bytea not null,
    -- Null while the first request is being answered.
    status       integer,
    headers      jsonb,
    body         jsonb,
    -- The tenant whose connection was in the answer, and is put into the replay.
    connection_of text,
    created_at   timestamptz not null default now(),
    primary key (key_id, key)
);
create index idempotency_created on idempotency (created_at);
create index idempotency_connection on idempotency (connection_of) where connection_of is not null;

create table audit (
    seq        bigint generated always as identity primary key,
    id         uuid not null unique,
    at         timestamptz not null default now(),
    actor      text not null,
    actor_name text,
    action     text not null,
    subject    text,
    outcome    text not null check (outcome in ('success', 'failure', 'denied')),
    reason     text,
    request_id text,
    client     text,
    details    jsonb not null default '{}'
);
create index audit_subject on audit (subject, seq);
create index audit_actor on audit (actor, seq);
create index audit_action on audit (action, seq);
create index audit_request on audit (request_id) where request_id is not null;
create index audit_at on audit (at);
