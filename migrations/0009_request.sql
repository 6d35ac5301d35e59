-- A request that is repeated is known again, also when the process that answered it first died before it kept its answer.

alter table idempotency
    -- Until when the first request counts as being answered; whoever answers it renews this.
    add column lease_until timestamptz not null default now();

alter table tenant
    -- The Idempotency-Key of the request that made it, a name within `created_by`.
    add column created_once text;
