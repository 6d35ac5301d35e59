//! What a move has to know is read from catalogs alone, whatever a tenant has made of its database.

use std::time::{Duration, Instant};

use freehold_drivers::server::sql::movable::Contents;

use crate::bench::{Bench, Engine, Power, Tenant, ask};

const ZOO: &str = r#"
    create schema "Ärger ""x"""; create table "Ärger ""x"""."Tablé; --" (n int);
    create table keyed (id bigint generated always as identity primary key, doubled bigint generated always as (id * 2) stored) ;
    create table deferred_key (id int primary key deferrable);
    create table indexed (id int not null unique); alter table indexed replica identity using index indexed_id_key;
    create table whole (a int); alter table whole replica identity full;
    create table nothing (id int primary key); alter table nothing replica identity nothing;
    create domain doc as json; create type pair as (a int, b doc);
    create table documents (d doc); create table lists (d json[]); create table pairs (p pair);
    create type mood as enum ('ok'); create domain positive as int check (value > 0);
    create table comparable (a mood, b positive, c varchar(3), d text[], e jsonb, f int4range, g bit(3), h name, i cidr, j regclass, k char(2), l uuid, m numeric);
    create table parts (k int, v text) partition by range (k); create table parts_1 partition of parts for values from (0) to (9);
    create table parent (a int primary key); create table child () inherits (parent);
    create unlogged table scratch (a int);
    create sequence numbers; create materialized view summed as select 1 as one;
    create function fire() returns trigger language plpgsql as $$ begin return new; end $$;
    create trigger often before insert on keyed for each row execute function fire(); alter table keyed enable always trigger often;
    create trigger replica before insert on keyed for each row execute function fire(); alter table keyed enable replica trigger replica;
    create trigger plain before insert on keyed for each row execute function fire();
    alter table keyed enable row level security; alter table parent enable row level security; alter table parent force row level security;
    create policy p on keyed using (true);
    create publication keyed_only for table keyed;
    alter default privileges grant select on tables to public;
    select lo_from_bytea(0, 'large'), lo_from_bytea(0, 'larger');
"#;

async fn contents(bench: &Bench, tenant: &Tenant) -> Contents {
    let inside = bench.admin_in(&tenant.database).await;
    inside.only_look(Duration::from_secs(15)).await.unwrap();
    let ours = [tenant.roles.owner.clone(), inside.user().to_owned()];
    let seen = inside.movable_contents(&ours).await.unwrap();
    let refused = inside.client().batch_execute("create table t ()").await;
    assert!(refused.is_err(), "a session that only looks wrote");
    seen
}

pub async fn a_zoo_is_told_by_name(bench: &Bench) {
    let tenant = bench.tenant("Zoo").await;
    let session = bench.login(&tenant).await.unwrap();
    let empty = contents(bench, &tenant).await;
    assert_eq!((empty.tables.count, empty.large_objects, empty.keyless.count), (0, 0, 0), "{empty:?}");
    session.execute_script("set client_min_messages = warning").await.unwrap();
    session.execute_script(ZOO).await.unwrap();
    let seen = contents(bench, &tenant).await;
    let keyless = [
        r#""Ärger ""x"""."Tablé; --""#,
        "public.child",
        "public.comparable",
        "public.deferred_key",
        "public.documents",
        "public.lists",
        "public.nothing",
        "public.pairs",
        "public.parts_1",
    ];
    assert_eq!(seen.keyless.names, keyless);
    assert_eq!(seen.keyless.count, 9);
    assert_eq!(seen.incomparable.names, ["public.documents", "public.lists", "public.pairs"]);
    assert_eq!(seen.full_identity.names, ["public.whole"]);
    assert_eq!(seen.unlogged.names, ["public.scratch"]);
    assert_eq!(seen.sequences.names, ["public.keyed_id_seq", "public.numbers"]);
    assert_eq!(seen.materialized_views.names, ["public.summed"]);
    assert_eq!(seen.partitioned.names, ["public.parts"]);
    assert_eq!(seen.inherited.names, ["public.parent"]);
    assert_eq!(seen.generated.names, ["public.keyed"]);
    assert_eq!(seen.identity.names, ["public.keyed"]);
    assert_eq!(seen.row_security.names, ["public.keyed", "public.parent"]);
    assert_eq!(seen.forced_row_security.names, ["public.parent"]);
    assert_eq!(seen.always_triggers.names, ["often on public.keyed", "replica on public.keyed"]);
    assert_eq!(seen.publications.names, ["keyed_only"]);
    assert_eq!(seen.default_privileges.count, 1);
    assert_eq!((seen.large_objects, seen.tables.count), (2, 15));
    assert!(seen.size_bytes > seen.catalog_bytes && seen.catalog_bytes > 0, "{seen:?}");
    assert_eq!(
        seen.settings.names,
        ["app.tenant", "search_path", "work_mem"][usize::from(bench.power == Power::Weak)..]
    );
    let nothing = [
        &seen.event_triggers,
        &seen.foreign,
        &seen.publications_of_all,
        &seen.subscriptions,
        &seen.slots,
        &seen.prepared,
    ];
    for named in nothing.into_iter().chain([
        &seen.security_labels,
        &seen.in_tablespaces,
        &seen.of_superusers,
        &seen.newer,
        &seen.owners,
        &seen.wide,
    ]) {
        assert!(named.is_empty(), "{named:?}");
    }
    assert_eq!((seen.locale.encoding.as_str(), seen.sessions_with_locks), ("UTF8", 0));

    // What a superuser leaves there, and what belongs to roles of its own.
    let superuser = bench.superuser_in(&tenant.database).await;
    superuser
        .execute_script(
            "create role stranger; create schema theirs authorization stranger; grant select on public.keyed to stranger;
             create function public.on_ddl() returns event_trigger language plpgsql as 'begin end';
             create event trigger watch on ddl_command_end execute function public.on_ddl();
             create foreign data wrapper far; create server away foreign data wrapper far; create publication everything for all tables;
             create function public.c(text) returns text language internal strict as 'upper'",
        )
        .await
        .unwrap();
    session
        .execute_script(
            "set role none; create schema mine; reset role; select pg_advisory_lock(1); create temp table t ()",
        )
        .await
        .unwrap();
    let seen = contents(bench, &tenant).await;
    assert_eq!(seen.event_triggers.names, ["watch"]);
    assert_eq!(seen.foreign.names, ["server away"]);
    assert_eq!(seen.publications_of_all.names, ["everything"]);
    assert_eq!(seen.of_superusers.names, ["foreign data wrapper far", "routine public.c"]);
    assert_eq!(seen.owners.names, ["Zoo", "stranger"]);
    assert!(seen.grantees.names.contains(&"stranger".to_owned()));
    assert_eq!((seen.sessions_with_locks, seen.sessions_with_temporary_tables), (1, 1));
}

pub async fn what_only_eighteen_has_is_told(bench: &Bench) {
    let tenant = bench.tenant("newer").await;
    let session = bench.login(&tenant).await.unwrap();
    let sql = match bench.engine {
        Engine::Pg15 => "create table t (id int primary key)",
        Engine::Pg18 => {
            "create table t (id int primary key, v int generated always as (id + 1) virtual, check (id > 0) not enforced)"
        }
    };
    session.execute_script(sql).await.unwrap();
    let seen = contents(bench, &tenant).await;
    match bench.engine {
        Engine::Pg15 => assert!(seen.newer.is_empty()),
        Engine::Pg18 => {
            assert_eq!(seen.newer.names, ["constraint t_id_check of public.t", "virtual column of public.t"])
        }
    }
}

/// A tenant can hold its tables, shadow every name, and make as many of them as it likes.
pub async fn a_hostile_tenant_delays_nothing_and_runs_nothing(bench: &Bench) {
    let tenant = bench.tenant("mallory").await;
    let session = bench.login(&tenant).await.unwrap();
    session
        .execute_script(
            "set client_min_messages = warning; create table sprung (by text); grant all on sprung to public; grant all on schema public to public;
             create function attempt() returns int language plpgsql as $$ begin insert into public.sprung values (current_user); return 1; end $$;
             create table trap (a int); create function cast_trap(trap) returns text language plpgsql as $$ begin perform public.attempt(); return 'x'; end $$;
             create cast (trap as text) with function cast_trap(trap) as implicit;
             create domain typed as trap check (public.attempt() = 1);
             create function quote_ident(name) returns text language plpgsql as $$ begin perform public.attempt(); return 'x'; end $$;
             create function array_agg(text) returns text[] language plpgsql as $$ begin perform public.attempt(); return '{x}'; end $$;
             create function op(text, text) returns text language plpgsql as $$ begin perform public.attempt(); return 'x'; end $$;
             create operator public.|| (leftarg = text, rightarg = text, function = op);
             create view pg_class as select public.attempt() as oid; create view pg_namespace as select public.attempt() as oid;
             create index on trap ((1)) where a > 0;
             set role none; alter role mallory set search_path = public, pg_catalog; reset role",
        )
        .await
        .unwrap();
    // A thousand in a transaction: each holds its lock to the end.
    for thousand in 0..10 {
        let make = format!(
            "do $$ begin for n in 1..1000 loop execute 'create table public.many_{thousand}_' operator(pg_catalog.||) n operator(pg_catalog.||) ' (a int, b json)'; end loop; end $$"
        );
        session.execute_script(&make).await.unwrap();
    }
    session.execute_script("begin; lock table trap, sprung in access exclusive mode").await.unwrap();
    let began = Instant::now();
    let seen = contents(bench, &tenant).await;
    // Whoever waited for its locks would have been refused after 15 s, many times over.
    assert!(began.elapsed() < Duration::from_secs(40), "{:?}", began.elapsed());
    assert_eq!((seen.keyless.count, seen.keyless.names.len()), (10_002, 10));
    assert_eq!((seen.incomparable.count, seen.incomparable.names.len()), (10_000, 10));
    session.execute_script("commit").await.unwrap();
    assert_eq!(ask(&session, "select count(*) from public.sprung").await, "0");
}

pub async fn a_server_tells_what_a_move_needs_of_it(bench: &Bench) {
    let tenant = bench.tenant("needs").await;
    let admin = bench.admin().await;
    let wanted = ["hstore".to_owned(), "plperlu".to_owned(), "no_such".to_owned()];
    let seen = admin.movable_host(&wanted).await.unwrap();
    let strong = bench.power == Power::Superuser;
    assert_eq!(
        (seen.superuser, seen.replication, seen.create_subscription),
        (strong, strong, strong && bench.engine == Engine::Pg18)
    );
    assert!(seen.createdb && seen.createrole);
    assert!(!seen.extensions.contains_key("no_such"));
    assert_eq!((seen.slots.1, seen.senders.1, seen.logical_workers.1, seen.prepared.named.count), (0, 0, 0, 0));
    assert!(seen.slots.0 > 0 && seen.logical_workers.0 > 0);
    assert!(seen.writers.named.is_empty(), "{seen:?}");

    // A neighbour writes, and keeps its transaction open.
    let neighbour = bench.login(&tenant).await.unwrap();
    neighbour.execute_script("begin; create table t ()").await.unwrap();
    let (before, began) = (admin.movable_traffic(&tenant.database).await.unwrap(), Instant::now());
    let seen = loop {
        let seen = admin.movable_host(&[]).await.unwrap();
        if !seen.writers.named.is_empty() {
            break seen;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "nobody writes: {seen:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    assert_eq!(seen.writers.named.count, 1);
    // Also without superuser: it is a member of every owner.
    assert!(seen.writers.oldest_seconds.is_some_and(|oldest| oldest > 5.0));
    let rates = admin.movable_traffic(&tenant.database).await.unwrap().since(&before).unwrap();
    assert!(rates.0 >= 0.0 && rates.1 >= 0.0, "{rates:?}");

    let mut locale = contents(bench, &tenant).await.locale;
    assert!(admin.has_locale(&locale).await.unwrap().exists, "{locale:?}");
    locale.collate = "xx_NOWHERE.UTF-8".into();
    assert!(!admin.has_locale(&locale).await.unwrap().exists);
    (locale.provider, locale.locale) = ("b".into(), Some("C.UTF-8".into()));
    assert_eq!(admin.has_locale(&locale).await.unwrap().exists, bench.engine == Engine::Pg18);
}
