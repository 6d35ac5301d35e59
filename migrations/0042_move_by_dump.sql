-- Moves by dump and restore, for what logical replication does not carry: nobody is let in from the stop on.

alter table tenant_move
    add column method text not null default 'logical' check (method in ('logical', 'dump')),
    -- Since when nobody is let in, where the method is dump. Null: the move has not got so far.
    add column stopped_at timestamptz;
