//! A tenant that lays traps for whoever moves it gains nothing, at the source or at the target.

use std::collections::BTreeSet;

use crate::recipe::{Move, follow_back, go_over, prepare};
use crate::world::{World, ask};
use crate::writer::Writers;

/// Whoever runs any of it says who he is, and tries to become more. Nothing of it fails, so the move goes on.
const TRAPS: &str = r#"
    set client_min_messages = error;
    create table ledger (id bigint primary key, ticket bigint unique not null, note text, at timestamptz default now());
    create table "keyless" (id bigint, what text);
    create table audited (id bigint);
    create table counters (who bigint primary key, n bigint not null);
    insert into counters select g, 0 from generate_series(0, 9) g;
    create sequence tickets;
    create function spring(place text) returns bool language plpgsql as $$
    begin
        raise log 'sprung %,%,%,%', current_user, session_user, (select rolsuper from pg_catalog.pg_roles where rolname = current_user), place;
        begin execute 'alter role zoo superuser'; exception when others then null; end;
        begin execute 'set role none; alter role zoo superuser'; exception when others then null; end;
        begin execute 'reset session authorization; alter role zoo createrole'; exception when others then null; end;
        begin execute 'grant pg_write_server_files to zoo'; exception when others then null; end;
        begin execute 'create role trapped superuser login'; exception when others then null; end;
        return true;
    end $$;
    create function as_text(ledger) returns text language plpgsql as $$ begin perform public.spring('cast'); return 'x'; end $$;
    create cast (ledger as text) with function as_text(ledger) as implicit;
    create function pg_temp_free() returns text language sql as 'select 1::text';
    create schema zoo_path;
    create function public.format(text, public.ledger) returns text language plpgsql as $$ begin perform public.spring('format'); return 'x'; end $$;
    create function public.count(public.ledger) returns bigint language plpgsql as $$ begin perform public.spring('count'); return 0; end $$;
    create function checked(text) returns bool language plpgsql as $$ begin return public.spring('check'); end $$;
    alter table ledger add constraint checked check (public.checked(note));
    create domain spied as int check (public.spring('domain') and value is not null);
    create table of_domain (id int primary key, s spied);
    insert into of_domain values (1, 1);
    create function indexed(text) returns bool language plpgsql immutable as $$ begin return public.spring('index'); end $$;
    create index spied on ledger (public.indexed(note));
    create function made(text) returns bool language plpgsql immutable as $$ begin return public.spring('generated'); end $$;
    create table generated (id int primary key, v text, g bool generated always as (public.made(v)) stored);
    insert into generated values (1, 'v');
    create function fired() returns trigger language plpgsql as $$ begin perform public.spring('trigger'); return new; end $$;
    create trigger fired after insert or update on ledger for each row execute function fired();
    alter table ledger enable always trigger fired;
    create constraint trigger deferred after insert on ledger deferrable initially deferred for each row execute function fired();
    alter table ledger enable always trigger deferred;
    create function audit() returns trigger language plpgsql as $$ begin insert into public.audited values (new.id); return new; end $$;
    create trigger audit after insert on ledger for each row execute function audit();
    create view looks as select public.spring('view');
    create materialized view looked as select public.spring('matview') as b;
    create rule spied as on insert to audited do also select public.spring('rule');
    alter table ledger enable row level security;
    create policy spied on ledger using (public.spring('policy'));
    create policy spied_on on ledger for insert with check (public.spring('policy'));
    create publication p for table ledger where (id > 0);
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moving_hostile_pg15_to_pg15() {
    hostile(15, 15).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moving_hostile_pg15_to_pg18() {
    hostile(15, 18).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moving_hostile_pg18_to_pg18() {
    hostile(18, 18).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moving_hostile_pg17_to_pg17() {
    hostile(17, 17).await;
}

async fn hostile(old: u32, new: u32) {
    let world = World::start(old, new, TRAPS).await;
    let mut writers = Writers::start(world.dsn_of_login(&world.old), 2);
    let mut plan = Move::new("trap");
    prepare(&world).await;
    let (from, to) = (world.side(&world.old).await, world.side(&world.new).await);
    go_over(&world, &mut plan, &from, &to, &writers).await;
    follow_back(&world, &plan, &from, &to).await;
    // Awake on the side that applies, as a tenant would have them: what applies is no more than the tenant.
    from.wake_triggers(&plan.waking).await.unwrap();
    writers.more(50).await;
    writers.stop().await;
    let mut seen = BTreeSet::new();
    for cluster in [&world.old, &world.new] {
        let admin = cluster.connect(&world.tenant.database).await;
        for line in cluster.log().lines() {
            if let Some((_, told)) = line.split_once("LOG:  sprung ") {
                seen.insert(told.to_owned());
            }
        }
        let raised = "select coalesce(string_agg(rolname, ' '), '') from pg_roles where (rolsuper or rolcreaterole or rolcreatedb) and rolname not in ('admin') and rolname !~ '^pg_'";
        let raised: String = admin.query_one(raised, &[]).await.unwrap().get(0);
        assert_eq!(raised, "", "on {}", cluster.version());
        let granted = "select count(*) from pg_auth_members m join pg_roles r on r.oid = m.member join pg_roles g on g.oid = m.roleid where r.rolname ~ '^zoo' and g.rolname !~ '^zoo'";
        let granted: i64 = admin.query_one(granted, &[]).await.unwrap().get(0);
        assert_eq!(granted, 0);
    }
    assert!(seen.len() > 5, "the traps are not laid: {seen:?}");
    // Who ran it, and as whom he had logged in: the tenant, its maintenance login, or a writer of the move.
    let may = |who: &str| {
        who.starts_with("zoo") || who.starts_with("fh_move_trap_writer") || who.starts_with("fh_back_trap_writer")
    };
    let bad: Vec<_> = seen
        .iter()
        .filter(|told| {
            let parts: Vec<&str> = told.split(',').collect();
            !may(parts[0]) || !may(parts[1]) || parts[2] != "f"
        })
        .collect();
    assert!(bad.is_empty(), "{bad:?}");
    let session = world.login(&world.new).await;
    assert_eq!(ask(&session, "select count(*) from pg_roles where rolname = 'trapped'").await, "0");
}
