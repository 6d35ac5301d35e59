-- Plain SQL, run in the order of the file names as the owner of the database.
-- Existing tenants keep the version that they were made from; a new file makes a new version.

CREATE TABLE note (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    body       text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
