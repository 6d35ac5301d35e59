//! A database that somebody else made is taken over, object by object, and given back as it was.

use freehold_drivers::server::sql::adopt::{Closing, Former, Object, Taking};
use freehold_drivers::server::sql::{Dsn, Session};

use crate::bench::{Bench, Engine, Power, Tenant, ask, tcp};

const DATABASE: &str = "legacy \"db\"";

/// Everything that can be owned, under names that need quoting, by a role that is no superuser.
const LEGACY: &str = r#"
    create schema "App"; create schema empty; create table "from public" (n int);
    create type "App".mood as enum ('ok', 'bad');
    create domain "App".positive as int check (value > 0);
    create type "App".pair as (a int, b text);
    create type "App".span as range (subtype = float8);
    create table "App"."Orders" (id serial primary key, n int generated always as identity, m "App".mood, p "App".positive,
        parent int references "App"."Orders", body text) ;
    create table parts (k int, v text) partition by range (k);
    create table parts_1 partition of parts for values from (0) to (10);
    create index on "App"."Orders" (body);
    create unlogged table scratch (x int);
    create view "App".seen as select * from "App"."Orders";
    create materialized view "App".summed as select count(*) from "App"."Orders";
    create sequence numbers;
    create function "App".f(a int, variadic b text[]) returns int language sql as 'select 1';
    create function trap() returns trigger language plpgsql as $$ begin raise exception 'sprung by %', current_user; end $$;
    create trigger spring before insert on scratch execute function trap();
    create procedure "App".p(inout x int) language plpgsql as $$ begin x := 1; end $$;
    create aggregate "App".total(int) (sfunc = int4pl, stype = int, initcond = '0');
    create aggregate anything(*) (sfunc = int8inc, stype = int8, initcond = '0');
    create operator "App".=== (leftarg = int, rightarg = int, function = int4eq);
    create operator !! (rightarg = bigint, function = int8um);
    create collation "App".c from "C";
    create text search dictionary "App".d (template = simple);
    create text search configuration "App".cfg (copy = pg_catalog.simple);
    create statistics "App".st on id, body from "App"."Orders";
    create publication pub for table "App"."Orders";
    alter table "App"."Orders" enable row level security;
    create policy mine on "App"."Orders" using (true);
    create rule nothing as on delete to scratch do instead nothing;
    grant select on "App"."Orders" to reader with grant option;
    grant usage on schema "App" to reader;
    grant execute on function "App".f(int, text[]) to reader;
    revoke execute on function trap() from public;
    comment on table "App"."Orders" is 'it''s';
    alter default privileges in schema "App" grant select on tables to reader;
    alter default privileges revoke execute on functions from public;
    insert into "App"."Orders" (m, p, body) select 'ok', 1, 'row ' || g from generate_series(1, 100) g;
    select lo_from_bytea(0, 'large');
"#;

/// Of superusers, as migrations that ran as one leave it.
const OF_SUPERUSERS: &str = r#"
    create table "App".of_postgres (n int);
    create function "App".helper() returns int language sql as 'select 2';
    create operator class "App".ops for type int using btree as operator 1 <, function 1 btint4cmp(int, int);
    create conversion "App".conv for 'LATIN1' to 'UTF8' from iso8859_1_to_utf8;
"#;

/// Owners and privileges of everything, and what is in it, as sorted lines.
const PICTURE: &str = r"
    select string_agg(line, e'\n' order by line) from (
        select format('%s %s %s', i.type, i.identity, r.rolname) as line from pg_shdepend d
            join pg_roles r on r.oid = d.refobjid, lateral pg_identify_object(d.classid, d.objid, d.objsubid) i
            where d.dbid = (select oid from pg_database where datname = current_database()) and d.deptype = 'o' and i.identity is not null
        union all select format('schema %s %s %s', nspname, nspowner::regrole, (select string_agg(a::text, ' ' order by a::text) from unnest(nspacl) a)) from pg_namespace where nspname !~ '^pg_'
        union all select format('table %s %s %s', oid::regclass, relowner::regrole, (select string_agg(a::text, ' ' order by a::text) from unnest(relacl) a)) from pg_class where oid >= 16384 and relkind not in ('i', 't', 'I') and relnamespace <> 'pg_toast'::regnamespace
        union all select format('routine %s %s %s', oid::regprocedure, proowner::regrole, (select string_agg(a::text, ' ' order by a::text) from unnest(proacl) a)) from pg_proc where oid >= 16384
        union all select format('type %s %s', oid::regtype, typowner::regrole) from pg_type where oid >= 16384 and typnamespace <> 'pg_toast'::regnamespace
        union all select format('lo %s %s', oid, lomowner::regrole) from pg_largeobject_metadata
        union all select format('default %s %s %s %s', defaclrole::regrole, defaclnamespace, defaclobjtype, defaclacl) from pg_default_acl
        union all select format('database %s %s', datdba::regrole, (select string_agg(a::text, ' ' order by a::text) from unnest(coalesce(datacl, acldefault('d', datdba))) a)) from pg_database where datname = current_database()
        union all select format('event trigger %s %s %s', evtname, evtenabled, evtowner::regrole) from pg_event_trigger) p (line)";

struct Legacy {
    dsn: Dsn,
    tenant: Tenant,
}

/// `former` made a database; `reader` reads in it.
async fn legacy(bench: &Bench) -> Legacy {
    let superuser = bench.superuser_in("postgres").await;
    let tenant = Tenant { database: DATABASE.into(), ..Tenant::new("adopted") };
    let secret = freehold_drivers::secrets::scram_verifier(&tenant.password);
    superuser
        .execute_script(&format!(
            "create role former login password '{secret}'; create role reader login password '{secret}'"
        ))
        .await
        .unwrap();
    if bench.power == Power::Weak && bench.engine == Engine::Pg18 {
        superuser.execute_script(r#"grant former to "weak-admin" with admin option"#).await.unwrap();
    }
    let database = DATABASE.replace('"', "\"\"");
    superuser.execute_script(&format!("create database \"{database}\" owner former")).await.unwrap();
    superuser
        .execute_script(&format!(
            "grant connect on database \"{database}\" to reader with grant option; alter database \"{database}\" set work_mem = '2MB'"
        ))
        .await
        .unwrap();
    let dsn = tcp(&bench.cluster).with_database(DATABASE);
    let former = Session::connect(&dsn.with_user("former", tenant.password.clone()), None, "app", &[]).await.unwrap();
    former.execute_script("set client_min_messages = warning").await.unwrap();
    former.execute_script(LEGACY).await.unwrap();
    former.close().await;
    if bench.power == Power::Superuser {
        bench.superuser_in(DATABASE).await.execute_script(OF_SUPERUSERS).await.unwrap();
    }
    Legacy { dsn, tenant }
}

async fn picture(bench: &Bench) -> String {
    ask(&bench.superuser_in(DATABASE).await, PICTURE).await
}

/// Everything, as the operation does it.
async fn take(bench: &Bench, tenant: &Tenant, kept: &[String]) -> Former {
    let home = bench.admin().await;
    let outside = home.look_at(DATABASE).await.unwrap().unwrap();
    assert_eq!((outside.owner.as_str(), outside.encoding.as_str()), ("former", "UTF8"));
    assert_eq!(outside.settings, ["work_mem=2MB"]);
    assert!(outside.connect.iter().any(|entry| entry.grantee == "reader" && entry.grantable));
    let roles = home.owner_facts(&["former".into(), "reader".into(), "nobody".into()]).await.unwrap();
    assert_eq!(roles.len(), 2);
    let joined: Vec<String> = if roles[0].admin_is_member { Vec::new() } else { vec!["former".into()] };
    assert!(joined.is_empty() || roles[0].admin_may_join);
    home.join(&joined).await.unwrap();
    let inside = home.database_exists(DATABASE).await.unwrap().then_some(bench.admin_in(DATABASE).await).unwrap();
    let seen = inside.look_into().await.unwrap();
    assert!(seen.catalog_additions.is_empty() && seen.definer_traps.is_empty(), "{seen:?}");
    assert!(!seen.has_schema_freehold && !seen.has_note, "{seen:?}");
    let limits = &tenant.limits;
    home.ensure_roles(&tenant.roles, &tenant.verifier, &tenant.maintenance_verifier, limits).await.unwrap();
    home.act_for(&tenant.roles.names()).await.unwrap();
    let objects: Vec<&Object> = seen.objects.iter().collect();
    let former = Former {
        owner: outside.owner.clone(),
        connect: outside.connect.clone(),
        joined,
        objects: objects.iter().map(|object| (*object).clone()).collect(),
        event_triggers: seen.event_triggers.clone(),
        had_note: false,
    };
    let owner = tenant.roles.owner.as_str();
    let named = ["former".to_owned(), "reader".to_owned()];
    let closing = Closing { database: DATABASE, owner, kept, named: &named, tenant_owns_database: false };
    let taking = Taking { owner, event_triggers: &seen.event_triggers, default_acls: &seen.default_acls, kept };
    // Every step may run twice.
    for _ in 0..2 {
        home.close_database(&closing).await.unwrap();
        inside.take_objects(&objects, &taking).await.unwrap();
        // What follows only now: multiranges, before 17.
        let more = inside.owned_objects().await.unwrap();
        let more: Vec<&Object> = more.iter().filter(|object| object.owner != owner).collect();
        assert!(more.len() <= 1, "{more:?}");
        inside.take_objects(&more, &taking).await.unwrap();
        inside.take_defaults(&taking).await.unwrap();
    }
    let left: Vec<_> = inside.owned_objects().await.unwrap().into_iter().filter(|found| found.owner != owner).collect();
    assert!(left.is_empty(), "{left:?}");
    home.leave(&former.joined).await.unwrap();
    home.act_no_more_for(&tenant.roles.names()).await.unwrap();
    former
}

pub async fn a_legacy_database_is_taken_over_whole(bench: &Bench) {
    let Legacy { dsn, tenant } = legacy(bench).await;
    take(bench, &tenant, &[]).await;

    // Nothing is left to whom it was: not an object, not a grant that lets him in.
    let superuser = bench.superuser_in(DATABASE).await;
    let left = "select coalesce(string_agg(i.identity, ', '), '') from pg_shdepend d, pg_identify_object(d.classid, d.objid, 0) i \
                where d.refobjid = 'former'::regrole and d.deptype = 'o' and d.dbid <> 0 and d.classid <> 'pg_default_acl'::regclass";
    assert_eq!(ask(&superuser, left).await, "");
    for role in ["former", "reader"] {
        let refused = Session::connect(&dsn.with_user(role, tenant.password.clone()), None, "app", &[]).await;
        assert!(refused.err().unwrap().to_string().contains("permission denied for database"), "{role}");
    }

    // The tenant may do with it what its owner could.
    let session = bench.login(&tenant).await.unwrap();
    assert_eq!(ask(&session, "select current_user").await, tenant.roles.owner);
    assert_eq!(ask(&session, "select count(*) from \"App\".\"Orders\"").await, "100");
    for sql in [
        "insert into \"App\".\"Orders\" (m, p, body) values ('bad', 2, 'new')",
        "alter table \"App\".\"Orders\" add column more int",
        "create table here (n int)",
        "create schema there",
        "refresh materialized view \"App\".summed",
        "drop trigger spring on scratch; drop function trap()",
        "alter type \"App\".mood add value 'fine'",
        "alter sequence numbers restart",
        "drop aggregate \"App\".total(int)",
        "alter publication pub add table here",
        "drop schema empty",
        "select lo_unlink(oid) from pg_largeobject_metadata",
        "drop text search configuration \"App\".cfg",
        "drop operator !! (none, bigint)",
        "drop type \"App\".span",
        "create table \"App\".later (n int)",
    ] {
        session.execute_script(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
    // Defaults hold as far as those they name are there: PUBLIC may not execute, `reader` was not kept.
    let acl = "select coalesce(relacl::text, 'none') from pg_class where oid = '\"App\".later'::regclass";
    assert_eq!(ask(&session, acl).await, "none");
    session.execute_script("create function born() returns int language sql as 'select 1'").await.unwrap();
    let born = "select has_function_privilege('reader', 'born()', 'execute')";
    assert_eq!(ask(&session, born).await, "f");
}

pub async fn a_kept_login_works_on_as_the_owner(bench: &Bench) {
    let Legacy { dsn, tenant } = legacy(bench).await;
    let kept = ["former".to_owned(), "reader".to_owned()];
    if bench.power == Power::Weak && bench.engine == Engine::Pg18 {
        bench
            .superuser_in("postgres")
            .await
            .execute_script(r#"grant reader to "weak-admin" with admin option"#)
            .await
            .unwrap();
    }
    take(bench, &tenant, &kept).await;
    for role in &kept {
        let session = Session::connect(&dsn.with_user(role, tenant.password.clone()), None, "app", &[]).await.unwrap();
        assert_eq!(ask(&session, "select current_user").await, tenant.roles.owner);
        session.execute_script("create table made (n int); drop table made").await.unwrap();
    }
    let session = bench.login(&tenant).await.unwrap();
    session.execute_script("create table \"App\".later (n int)").await.unwrap();
    let granted = "select has_table_privilege('reader', '\"App\".later', 'select')";
    assert_eq!(ask(&session, granted).await, "t");
}

pub async fn a_kept_login_is_refused_in_its_database_and_nowhere_else(bench: &Bench) {
    let Legacy { dsn, tenant } = legacy(bench).await;
    let superuser = bench.superuser_in("postgres").await;
    superuser.execute_script("create database elsewhere owner former").await.unwrap();
    if bench.power == Power::Weak && bench.engine == Engine::Pg18 {
        // It may administer it, and does not act for it.
        let sql = r#"grant reader to "weak-admin" with admin true, inherit false, set false"#;
        superuser.execute_script(sql).await.unwrap();
    }
    let kept = ["former", "reader"];
    take(bench, &tenant, &kept.map(str::to_owned)).await;
    let enter = async |role: &str, database: &str| {
        let dsn = dsn.with_database(database).with_user(role, tenant.password.clone());
        Session::connect(&dsn, None, "app", &[]).await
    };
    let memberships = "select coalesce(string_agg(format('%s in %s by %s', member::regrole, roleid::regrole, grantor::regrole), ', ' \
                       order by member, roleid, grantor), '') from pg_auth_members where member::regrole::text !~ '^pg_'";
    let before = ask(&superuser, memberships).await;
    for _ in 0..2 {
        let (former, reader) = (enter("former", DATABASE).await.unwrap(), enter("reader", DATABASE).await.unwrap());
        let other = enter("former", "elsewhere").await.unwrap();
        former.execute_script("begin; create table held (n int)").await.unwrap();
        let home = bench.admin().await;
        let through = tenant.roles.names();
        home.refuse_kept(DATABASE, &kept, &through).await.unwrap();
        home.refuse_kept(DATABASE, &kept, &through).await.unwrap();
        for gone in [&former, &reader] {
            assert!(gone.execute_script("select 1").await.is_err());
        }
        for role in kept {
            let refused = enter(role, DATABASE).await.err().unwrap().to_string();
            assert!(refused.contains("permission denied for database"), "{refused}");
        }
        assert_eq!(ask(&other, "select current_user").await, "former", "its session elsewhere is its own");
        enter("former", "elsewhere").await.unwrap();
        home.admit_kept(&kept, &tenant.roles.owner).await.unwrap();
        home.admit_kept(&kept, &tenant.roles.owner).await.unwrap();
    }
    let session = enter("reader", DATABASE).await.unwrap();
    assert_eq!(ask(&session, "select current_user").await, tenant.roles.owner);
    assert_eq!(ask(&superuser, memberships).await, before);
}

pub async fn a_superuser_of_before_enables_no_event_trigger(bench: &Bench) {
    if bench.power == Power::Weak {
        return;
    }
    let Legacy { dsn, tenant } = legacy(bench).await;
    let superuser = bench.superuser_in(DATABASE).await;
    let triggers = "create function watch() returns event_trigger language plpgsql as 'begin end';
        alter function watch() owner to former;
        create event trigger awake on ddl_command_end execute function watch();
        create event trigger asleep on ddl_command_end execute function watch();
        alter event trigger awake enable always; alter event trigger asleep disable;
        alter role former superuser;
        alter event trigger awake owner to former; alter event trigger asleep owner to former;
        alter role former nosuperuser";
    superuser.execute_script(triggers).await.unwrap();
    assert_eq!(bench.admin_in(DATABASE).await.event_triggers_of_others().await.unwrap(), ["awake"]);
    let former = take(bench, &tenant, &["former".to_owned()]).await;
    assert_eq!(former.event_triggers.len(), 2, "the one that is disabled too");
    let as_former = dsn.with_user("former", tenant.password.clone());
    let session = Session::connect(&as_former, None, "app", &[]).await.unwrap();
    session
        .execute_script("create or replace function watch() returns event_trigger language plpgsql as 'begin end'")
        .await
        .unwrap();
    for reset in ["", "set role none; "] {
        for name in ["awake", "asleep"] {
            let refused = session.execute_script(&format!("{reset}alter event trigger {name} enable")).await;
            assert!(refused.unwrap_err().to_string().contains("must be owner"), "{name}");
        }
    }
    session.close().await;
    // Enabled since it was looked at: nothing is altered.
    superuser.execute_script("alter event trigger asleep enable").await.unwrap();
    let inside = bench.admin_in(DATABASE).await;
    inside.quiet_event_triggers(&former.event_triggers).await.unwrap_err();
    superuser.execute_script("alter event trigger asleep disable").await.unwrap();
    // Given back they are enabled as they were. Superusers alone can own one: it stays the admin's.
    let home = bench.admin().await;
    home.reopen_database(DATABASE, &former, &tenant.roles.owner, &["former".to_owned()]).await.unwrap();
    inside.give_back_objects(&former, &tenant.roles.owner).await.unwrap();
    let told = "select string_agg(format('%s %s %s', evtname, evtenabled, evtowner::regrole = current_user::regrole), ', ' order by evtname) from pg_event_trigger";
    assert_eq!(ask(&bench.superuser_in(DATABASE).await, told).await, "asleep D t, awake A t");
}

pub async fn a_legacy_database_is_given_back_as_it_was(bench: &Bench) {
    let Legacy { dsn, tenant } = legacy(bench).await;
    if bench.power == Power::Superuser {
        let triggers =
            "create role boss superuser; create function watch() returns event_trigger language plpgsql as 'begin end';
            create event trigger awake on ddl_command_end execute function watch();
            create event trigger asleep on ddl_command_end execute function watch();
            alter event trigger awake enable always; alter event trigger asleep disable;
            alter event trigger awake owner to boss; alter event trigger asleep owner to boss";
        bench.superuser_in(DATABASE).await.execute_script(triggers).await.unwrap();
    }
    let before = picture(bench).await;
    let kept = ["reader".to_owned()];
    if bench.power == Power::Weak && bench.engine == Engine::Pg18 {
        bench
            .superuser_in("postgres")
            .await
            .execute_script(r#"grant reader to "weak-admin" with admin option"#)
            .await
            .unwrap();
    }
    let former = take(bench, &tenant, &kept).await;
    assert_ne!(picture(bench).await, before);
    // Made since, by a login that was kept: its owner's from now on is whoever the database is.
    let reader = Session::connect(&dsn.with_user("reader", tenant.password.clone()), None, "app", &[]).await.unwrap();
    reader.execute_script("create table since (n int)").await.unwrap();
    reader.close().await;

    let home = bench.admin().await;
    home.join(&former.joined).await.unwrap();
    home.act_for(&tenant.roles.names()).await.unwrap();
    for _ in 0..2 {
        home.reopen_database(DATABASE, &former, &tenant.roles.owner, &kept).await.unwrap();
        let inside = bench.admin_in(DATABASE).await;
        inside.give_back_objects(&former, &tenant.roles.owner).await.unwrap();
        inside.close().await;
    }
    home.drop_roles(&tenant.roles.names()).await.unwrap();
    home.leave(&former.joined).await.unwrap();
    let as_former = dsn.with_user("former", tenant.password.clone());
    let session = Session::connect(&as_former, None, "app", &[]).await.unwrap();
    session.execute_script("drop table since").await.unwrap();
    assert_eq!(picture(bench).await, before);
}
