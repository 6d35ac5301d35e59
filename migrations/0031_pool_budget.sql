-- What the pools on one server may open together, and what each database is given of it.

alter table tenant_database
    -- Server connections that its pooler may open for it. Null: all that its plan says.
    add column pooler_grant integer check (pooler_grant > 0),
    -- What it may still have open, until its pooler has brought this generation into force. Null: no more than it is given.
    add column pooler_held integer,
    add column pooler_held_until bigint;

create function pooler_grant_changed() returns trigger language plpgsql as $$
begin
    perform pooler_changed(new.pooler_id);
    return null;
end
$$;
-- Another limit, and the same entry: who connects is served as before, so `pooled` stays as it is.
create trigger pooler_grant_changed after update of pooler_grant on tenant_database for each row
    when (old.pooler_id = new.pooler_id and old.pooler_grant is distinct from new.pooler_grant)
    execute function pooler_grant_changed();

-- When somebody was last seen at work.
alter table pooler_stats add column active_at timestamptz not null default now();

-- Of the grants of all its databases.
alter table pooler add column granted integer not null default 0;

-- One row for each server that has pooled databases and was looked at.
create table server_budget (
    server_id text primary key references server on delete cascade,
    -- Connections that are there for pools.
    budget    integer not null,
    -- What one that rests may open at once. Null: all that its plan says.
    resting   integer,
    -- There are more databases than connections: those that nobody uses are closed soon.
    crowded   boolean not null,
    databases integer not null,
    -- What their plans say, and what they are given.
    wanted    integer not null,
    granted   integer not null,
    findings  jsonb not null
);
