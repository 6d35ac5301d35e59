CREATE TABLE collections (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name varchar(200) NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE documents (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    collection_id uuid NOT NULL REFERENCES collections (id) ON DELETE CASCADE,
    content jsonb,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX documents_collection_id ON documents (collection_id);

CREATE TABLE vector_embeddings (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    document_id uuid NOT NULL REFERENCES documents (id) ON DELETE CASCADE,
    model varchar(200) NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX vector_embeddings_document_id ON vector_embeddings (document_id);

-- The extension is not everywhere. Where it is missing, embeddings are kept all the same, only not searched by distance.
-- Neither type fixes a number of dimensions: that is the model's, and tenants choose their models.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_catalog.pg_extension WHERE extname = 'vector') THEN
        ALTER TABLE vector_embeddings ADD COLUMN embedding vector NOT NULL;
    ELSE
        ALTER TABLE vector_embeddings ADD COLUMN embedding real[] NOT NULL;
    END IF;
END
$$;
