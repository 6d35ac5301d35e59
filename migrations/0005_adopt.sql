-- Databases that somebody else made and that were taken over in place.

-- What one was before, until its adoption is done: all that giving it back needs.
create table adoption (
    database_id uuid primary key references tenant_database on delete cascade,
    record      jsonb not null,
    at          timestamptz not null default now()
);

-- Logins of before that stay: not Freehold's to make or to drop, refused and admitted with the tenant.
create table kept_login (
    database_id uuid not null references tenant_database on delete cascade,
    role        text not null,
    primary key (database_id, role)
);
