-- Work that was done in one transaction, told as an operation that is over. A function, so that such work can be one
-- statement; whoever calls it writes nothing else about operations.
create function operation_finished(id uuid, kind text, subject text, step_name text, requested_by text, request_id text) returns uuid
language plpgsql as $$
begin
    insert into operation (id, kind, subject, state, step, step_name, attempt, requested_by, request_id, finished_at)
    values ($1, $2, $3, 'succeeded', 'null', $4, 1, $5, $6, now());
    insert into operation_event (operation, kind, state, step_name, attempt, epoch)
    values ($1, 'finished', 'succeeded', $4, 1, 0);
    return $1;
end
$$;
