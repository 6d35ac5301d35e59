-- Poolers that Freehold starts itself.
--
-- starting → active ⇄ cordoned → removing → gone; starting → failed → starting.

alter table pooler drop constraint pooler_state_check;
alter table pooler add constraint pooler_state_check
    check (state in ('starting', 'active', 'cordoned', 'removing', 'failed'));

create table pooler_service (
    pooler_id    text primary key references pooler on delete cascade,
    platform     text not null check (platform in ('process', 'docker')),
    -- The machine or engine that it is started on. Null: nothing was ever begun on any.
    place        text,
    -- What its agent shows the plane; sealed beside its hash, because a machine that lost it gets it again.
    key_id       uuid references api_key,
    key_sealed   bytea,
    key_seal_id  uuid,
    -- Why it could not be started, how often in a row, and when the next try may begin.
    reason       text,
    failures     integer not null default 0,
    retry_at     timestamptz
);

-- A name means one pooler, also in the audit of years ago.
create sequence pooler_number;
