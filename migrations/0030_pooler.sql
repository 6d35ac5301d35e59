-- Connection poolers, and which database is served by which.
--
-- A database that changed is marked by its own row (pooler_generation is null), in the transaction that changes it and
-- without a touch of its pooler's row: thousands may change at once. Whoever next looks raises the pooler's generation,
-- once for all that is marked. A claim from stock changes nothing that is served, and marks nothing.

create table pooler (
    id                  text primary key,
    kind                text not null check (kind in ('pgbouncer', 'pgcat')),
    management          text not null check (management in ('agent', 'external')),
    state               text not null default 'active' check (state in ('active', 'cordoned')),
    -- Where tenants connect; it never changes.
    host                text not null,
    port                integer not null check (port between 1 and 65535),
    sslmode             text not null,
    ca_certificate      text,
    capacity            integer not null check (capacity > 0),
    -- What is wanted, counted up with every change.
    generation          bigint not null default 1,
    -- What no database's row can tell: one is gone, the settings differ, somebody asked for all of it again.
    changed             boolean not null default false,
    -- What the settings add to what is served, as of this generation.
    settings            text,
    -- What its agent said last.
    observed_generation bigint,
    observed_at         timestamptz,
    error               text,
    version             text,
    reloads             bigint not null default 0,
    deaths              bigint not null default 0,
    repaired            bigint not null default 0,
    needs_restart       text[] not null default '{}',
    created_at          timestamptz not null default now()
);

alter table tenant_database
    -- For life. Null: it has none yet.
    add column pooler_id text references pooler,
    -- What clients ask it for. Null: it is not in any generation, or cannot be served there.
    add column pooler_entry text,
    -- The generation in which its entry last changed. Null: it changed since.
    add column pooler_generation bigint,
    -- Whether the pooler was seen to have of it what it should: its entry, or nothing.
    add column pooled boolean not null default false,
    -- Since when it waits for that, made and probed. It is built, and not ready yet.
    add column pooling_since timestamptz,
    -- Checked at the end: two may change names with each other.
    add constraint tenant_database_pooler_entry unique (pooler_id, pooler_entry) deferrable initially deferred;
-- What waits for a pooler, or for a generation, or to be seen. Small while all is well.
create index tenant_database_unpooled on tenant_database (pooler_id) where not pooled;
-- What a claim takes: of what is ready, first what its pooler serves already.
drop index tenant_database_stock;
create index tenant_database_stock on tenant_database (template, template_version, server_id, pooled, created_at) where state = 'ready';

-- Whoever changes a database, its login, its tenant or its server need not think of poolers.
create function pooler_changed(changed_id text) returns void language sql as $$
    update pooler set changed = true where id = changed_id and not changed
$$;

create function tenant_database_changed() returns trigger language plpgsql as $$
begin
    new.pooler_generation := null;
    new.pooled := false;
    if old.pooler_id is distinct from new.pooler_id then
        new.pooler_entry := null;
        perform pooler_changed(old.pooler_id);
    end if;
    return new;
end
$$;
create trigger tenant_database_changed before update on tenant_database for each row
    when (old.pooler_id is distinct from new.pooler_id or old.database <> new.database or old.plan <> new.plan
        or old.server_id <> new.server_id
        or (old.state in ('ready', 'claimed') or old.state = 'building' and old.pooling_since is not null)
            <> (new.state in ('ready', 'claimed') or new.state = 'building' and new.pooling_since is not null))
    execute function tenant_database_changed();

create function tenant_database_gone() returns trigger language plpgsql as $$
begin
    perform pooler_changed(old.pooler_id);
    return null;
end
$$;
create trigger tenant_database_gone after delete on tenant_database for each row
    when (old.pooler_entry is not null) execute function tenant_database_gone();

create function login_changed() returns trigger language plpgsql as $$
begin
    update tenant_database set pooler_generation = null, pooled = false
        where id = new.database_id and pooler_id is not null;
    return null;
end
$$;
create trigger login_changed after update of role, verifier on login for each row
    when (new.purpose = 'tenant' and (old.role <> new.role or old.verifier <> new.verifier))
    execute function login_changed();

create function tenant_changed() returns trigger language plpgsql as $$
begin
    update tenant_database set pooler_generation = null, pooled = false
        where tenant_id = new.id and pooler_id is not null;
    return null;
end
$$;
create trigger tenant_changed after update of state, purge_began_at on tenant for each row
    when ((old.state in ('suspended', 'deleted')) <> (new.state in ('suspended', 'deleted'))
        or (old.purge_began_at is null) <> (new.purge_began_at is null))
    execute function tenant_changed();

create function server_moved() returns trigger language plpgsql as $$
begin
    update tenant_database set pooler_generation = null, pooled = false
        where server_id = new.id and pooler_id is not null;
    return null;
end
$$;
create trigger server_moved after update of tenant_host, tenant_port on server for each row
    when (old.tenant_host <> new.tenant_host or old.tenant_port <> new.tenant_port)
    execute function server_moved();

-- Databases that are to be paused, until somebody releases them or their time is over.
create table pooler_pause (
    id          uuid primary key,
    pooler_id   text not null references pooler on delete cascade,
    entry       text not null,
    drain_ms    bigint not null check (drain_ms > 0),
    hold_ms     bigint not null check (hold_ms > 0),
    created_at  timestamptz not null default now(),
    released_at timestamptz,
    -- What the agent told last, and when.
    told        text check (told in ('draining', 'paused', 'held', 'resumed', 'failed')),
    detail      text,
    told_at     timestamptz
);
create index pooler_pause_open on pooler_pause (pooler_id) where released_at is null;

-- One row per database, latest only; the counters are the pooler's own, since it started.
create table pooler_stats (
    database_id     uuid primary key references tenant_database on delete cascade,
    clients_active  integer not null,
    clients_waiting integer not null,
    servers_active  integer not null,
    servers_idle    integer not null,
    longest_wait_ms bigint not null,
    transactions    bigint not null,
    queries         bigint not null,
    received_bytes  bigint not null,
    sent_bytes      bigint not null
);
