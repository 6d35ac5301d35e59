-- Runs once when a tenant takes the database, and again if that was interrupted: both statements may run twice.
-- What is known only now is read from settings; nothing is put into the text of this file.

-- TansuCloud knows tenants by ids that need not be slugs; where it gave one, it is the label external_id.
INSERT INTO tenant_info (tenant_id, display_name, created_at)
VALUES (
    coalesce(nullif(current_setting('freehold.label_external_id', true), ''), current_setting('freehold.tenant_id')),
    current_setting('freehold.tenant_name'),
    current_setting('freehold.created_at')::timestamptz
)
ON CONFLICT (tenant_id) DO NOTHING;

INSERT INTO "__SchemaVersion" (database_name, version, applied_at, description, metadata)
SELECT
    current_setting('freehold.database'),
    '1.0.0',
    current_setting('freehold.created_at')::timestamptz,
    'Made by Freehold',
    jsonb_build_object('plan', current_setting('freehold.tenant_plan', true), 'region', nullif(current_setting('freehold.tenant_region', true), ''))
WHERE NOT EXISTS (
    SELECT FROM "__SchemaVersion" WHERE database_name = current_setting('freehold.database') AND version = '1.0.0'
);
