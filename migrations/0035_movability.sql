-- Whether a tenant could be moved, as it was last judged by where it is alone.
create table movability (
    tenant_id text primary key references tenant on delete cascade,
    -- Null: it never was.
    at        timestamptz,
    score     integer check (score between 0 and 100),
    -- The best one that nothing rules out; null: none is left.
    method    text check (method in ('logical', 'dump')),
    -- Of what blocks and what slows.
    codes     text[] not null default '{}',
    -- Why it could not be judged since.
    error     text,
    -- When it is judged again.
    due_at    timestamptz not null
);
create index movability_method on movability (coalesce(method, 'none'), tenant_id) where at is not null;
