-- Which failure of a tenant's making its edge has told to whoever asked: told once, the next request begins again.
alter table edge_tenant add column failure_told timestamptz;
