CREATE TABLE outbox_events (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    occurred_at timestamptz NOT NULL DEFAULT now(),
    type varchar(200) NOT NULL,
    payload jsonb,
    status smallint NOT NULL DEFAULT 0,
    attempts integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz,
    idempotency_key varchar(200)
);
-- What the dispatcher asks for: events that are due.
CREATE INDEX outbox_events_due ON outbox_events (status, next_attempt_at);
-- Unique, which the original's is not: an event that is written twice must be one event.
CREATE UNIQUE INDEX outbox_events_idempotency_key ON outbox_events (idempotency_key) WHERE idempotency_key IS NOT NULL;
