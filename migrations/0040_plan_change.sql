-- Tenants get other plans: now, which is an operation, or at a time, which is a row here until then.

create table plan_change (
    -- One at a time: another takes its place.
    tenant_id       text primary key references tenant on delete cascade,
    plan            text not null,
    step            text not null check (step in ('upgrade', 'downgrade', 'lateral')),
    due_at          timestamptz not null,
    -- Also where the database is larger than the plan allows.
    over_quota      boolean not null default false,
    requested_at    timestamptz not null default now(),
    requested_by    text not null,
    -- Carries it out, or tried to last.
    operation       uuid,
    -- Why it waits though it is due, and when it is tried again.
    waits_code      text,
    waits_message   text,
    tries           integer not null default 0,
    retry_at        timestamptz,
    check ((waits_code is null) = (retry_at is null) and (waits_code is null) = (waits_message is null))
);
create index plan_change_due on plan_change (due_at);

alter table tenant_move
    -- Of a move that another plan made necessary: both change with who serves. Null: the plan stays.
    add column plan_before text,
    add column plan_after text,
    add constraint tenant_move_plans check ((plan_before is null) = (plan_after is null));

alter table tenant
    -- Whoever waits for a server of a pool as a tenant of another plan than its own.
    add column waiting_plan text;
