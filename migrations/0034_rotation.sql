-- Rotation of a tenant's credential: a second login beside the one that is handed out.
--
-- tenant is the login that is handed out; next is made beside it, and becomes it once it is proven; retiring is the one
-- before, until its grace is over. replacement is a next one that takes over the name of the login as well: its row holds
-- the new password under a name that no role has.

alter table login
    drop constraint login_purpose_check,
    add constraint login_purpose_check check (purpose in ('tenant', 'next', 'replacement', 'retiring', 'maintenance')),
    -- Of a name by pattern that alternates: the name that it alternates with, and was made from.
    add column second_of text,
    -- Of a retiring one: when its grace is over.
    add column retire_at timestamptz,
    -- From then on nobody is to come in by it, whatever its tenant may.
    add column refused_at timestamptz,
    -- The pooler's generation in which it came or was refused. Null: it is in none yet. 0: with its database.
    add column pooler_generation bigint default 0,
    -- Which request of whom made it.
    add column asked_by uuid,
    add column asked_once text;
create index login_retiring on login (retire_at) where purpose = 'retiring';
-- What a pooler has besides one login for each database. Small: most databases are not being rotated.
create index login_beside on login (database_id) where purpose in ('next', 'retiring');

-- The pooler is told. Its database is not marked: that is served as before, by the login that is handed out.
create function login_beside_changed() returns trigger language plpgsql as $$
declare
    changed login;
begin
    changed := case when tg_op = 'DELETE' then old else new end;
    -- Always written: whoever counts the generation up at this moment is waited for, and is asked again.
    update pooler set changed = true
        where id = (select pooler_id from tenant_database where id = changed.database_id);
    return null;
end
$$;
create trigger login_beside_came after insert on login for each row
    when (new.purpose = 'next') execute function login_beside_changed();
create trigger login_beside_refused after update of refused_at on login for each row
    when (new.purpose = 'retiring' and (old.refused_at is null) <> (new.refused_at is null))
    execute function login_beside_changed();
create trigger login_beside_gone after delete on login for each row
    when (old.purpose in ('next', 'retiring')) execute function login_beside_changed();
