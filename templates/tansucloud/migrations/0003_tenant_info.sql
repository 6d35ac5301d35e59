CREATE TABLE tenant_info (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id varchar(256) NOT NULL UNIQUE,
    display_name varchar(512) NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- The latest row wins.
CREATE TABLE "__SchemaVersion" (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    database_name varchar(256) NOT NULL,
    version varchar(32) NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now(),
    description text,
    metadata jsonb
);
CREATE INDEX "__SchemaVersion_latest" ON "__SchemaVersion" (database_name, applied_at DESC);
