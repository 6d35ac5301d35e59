-- Servers that Freehold runs itself, on a platform, for a server pool of the settings.

alter table server
    -- The pool it was made for and the platform it runs on. Null: external, registered by its connection string.
    add column pool text,
    add column platform text,
    -- What is asked of the platform: version, image, limits, storage, … A pool's settings make new servers and change none.
    add column definition jsonb,
    -- Raised with every change that is asked for; platforms refuse an older one.
    add column generation bigint not null default 0,
    -- Of a platform that gives each server a port of its own.
    add column port integer check (port between 1 and 65535),
    -- What the platform is told of the admin's password.
    add column admin_verifier text,
    add column certificate text,
    -- Sealed with dsn_seal_id.
    add column certificate_key_sealed bytea,
    add column certificate_until timestamptz,
    -- When it first let its admin in. From then on its data is never made anew, and no undo purges it.
    add column provisioned_at timestamptz,
    -- How often in a row it could not be provisioned, and when that is tried again.
    add column failures integer not null default 0,
    add column retry_at timestamptz,
    add column labels jsonb not null default '{}',
    -- Lower ones are filled first.
    add column priority integer not null default 100,
    -- What a server in maintenance, or on its way out, becomes again.
    add column resume_to text check (resume_to in ('active', 'cordoned', 'failed')),
    add column state_since timestamptz not null default now(),
    -- When the data of a removed one was destroyed.
    add column purged_at timestamptz,
    add constraint server_managed check ((platform is null) = (definition is null) and (platform is null) = (pool is null));

-- Exactly one server at a time comes into being for a pool, however many tenants wait for it.
create unique index server_growing on server (pool) where pool is not null and state = 'provisioning';
create unique index server_port on server (platform, port) where port is not null and state <> 'removed';

-- Whoever changes a state need not think of it.
create function server_state_since() returns trigger language plpgsql as $$
begin
    new.state_since := now();
    return new;
end
$$;
create trigger server_state_since before update of state on server
    for each row when (old.state is distinct from new.state) execute function server_state_since();

-- The authority that vouches for managed servers. Its key is sealed with its id.
create table certificate_authority (
    id          uuid primary key,
    certificate text not null,
    key_sealed  bytea not null,
    created_at  timestamptz not null default now(),
    retired_at  timestamptz
);
create unique index certificate_authority_current on certificate_authority ((true)) where retired_at is null;

-- The pool whose next server a tenant waits for.
alter table tenant add column waiting_for text;
create index tenant_waiting on tenant (waiting_for) where waiting_for is not null;
