-- What an operation that only looked has seen, until whoever asked has read it.
create table report (
    operation uuid primary key,
    tenant_id text not null,
    body      jsonb not null,
    at        timestamptz not null default now()
);
create index report_at on report (at);
create index report_tenant on report (tenant_id);
