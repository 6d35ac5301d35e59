-- One audit event. A function, so that what is recorded and the record can be one statement.
create function audit_record(id uuid, actor text, actor_name text, action text, subject text, outcome text, reason text,
    request_id text, client text, details jsonb) returns uuid
language plpgsql as $$
begin
    insert into audit (id, actor, actor_name, action, subject, outcome, reason, request_id, client, details)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10);
    return $1;
end
$$;
