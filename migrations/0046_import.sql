-- Databases that came from servers that are not Freehold's.

-- Where one comes from, for as long as somebody reads from there: gone with the end of the operation.
create table import_source (
    operation      uuid primary key references operation on delete cascade,
    -- What the connection string is sealed for.
    id             uuid not null unique,
    dsn            bytea not null,
    ca_certificate text
);

-- What a tenant came from, and as of when: what was written there later is not here.
create table tenant_import (
    tenant_id   text primary key references tenant on delete cascade,
    -- Without the password.
    source      text not null,
    -- As server_version_num says it.
    version_num integer not null,
    -- By the clock of the control store, before the first row was read. Null: it is not here yet.
    as_of       timestamptz,
    -- What is different here, as it was found then.
    notes       jsonb not null default '[]'
);
