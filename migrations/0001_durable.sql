-- The engine of operations. It has never heard of tenants: `subject` is whatever its user says must be worked on by one at a time.
-- Every decision about time is made with the database's clock, so a worker whose clock is wrong does no harm.

create table operation (
    id               uuid primary key,
    kind             text not null,
    -- The version of the steps' definition that wrote `step`.
    definition       integer not null default 1,
    subject          text,
    state            text not null check (state in ('queued', 'running', 'waiting', 'succeeded', 'undoing', 'failed', 'cancelled', 'stuck')),
    -- The step to run next, with what it needs. A worker dies, another goes on from here.
    step             jsonb not null,
    step_name        text not null,
    progress         jsonb,
    -- How often this step was begun; raised when it is claimed, so a step that kills its process is counted too.
    attempt          integer not null default 0,
    -- Raised by every claim. Whoever writes or acts under an older one is fenced.
    epoch            bigint not null default 0,
    holder           text,
    lease_until      timestamptz,
    next_run_at      timestamptz not null default now(),
    deadline         timestamptz,
    error            jsonb,
    cancel_requested boolean not null default false,
    undo_reason      text check (undo_reason in ('failed', 'cancelled', 'timed_out')),
    -- Why the undo began; `error` is about the step that runs now.
    failed_error     jsonb,
    requested_by     text,
    request_id       text,
    created_at       timestamptz not null default now(),
    updated_at       timestamptz not null default now(),
    finished_at      timestamptz,
    check ((lease_until is null) = (holder is null))
);

-- One operation in flight per subject. A stuck one still holds it.
create unique index operation_one_per_subject on operation (subject)
    where subject is not null and state not in ('succeeded', 'failed', 'cancelled');
-- What is due: a time to run at has come, or a lease ran out. Holds only what is in flight, so an idle poll reads one empty page.
create index operation_due on operation (kind, (coalesce(lease_until, next_run_at)))
    where state in ('queued', 'running', 'waiting', 'undoing');
create index operation_kind on operation (kind, id);
create index operation_state on operation (state, id);
create index operation_subject on operation (subject, id) where subject is not null;
create index operation_finished on operation (finished_at) where finished_at is not null;

-- No foreign key: only the engine writes here, and it removes an operation and its events in one statement.
create table operation_event (
    operation uuid not null,
    seq       bigint generated always as identity,
    at        timestamptz not null default clock_timestamp(),
    kind      text not null,
    state     text not null,
    step_name text not null,
    attempt   integer not null,
    epoch     bigint not null,
    error     jsonb,
    primary key (operation, seq)
);

create table loop_lease (
    name        text primary key,
    epoch       bigint not null,
    holder      text not null,
    lease_until timestamptz not null,
    -- Before it, only a signal makes the loop run.
    next_run_at timestamptz not null,
    started_at  timestamptz not null,
    finished_at timestamptz,
    error       jsonb
);

-- `target` is a loop's name, 'operations' or 'all'.
create table "freeze" (
    target text primary key,
    until  timestamptz,
    by     text,
    at     timestamptz not null default now()
);
