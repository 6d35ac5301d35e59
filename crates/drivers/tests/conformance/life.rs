//! From the first role to the last drop.

use freehold_drivers::secrets::{Password, scram_verifier};
use freehold_drivers::server::sql::{CreateDatabase, Ensured, Names, OwnDatabase, Roles, SqlErrorKind, assert_login};

use crate::bench::{Bench, Engine, Power, Tenant, ask};

pub async fn a_database_lives_its_whole_life_and_every_step_may_run_twice(bench: &Bench) {
    live(bench, "acme").await;
}

pub async fn names_that_need_quoting_or_are_not_ascii_work_everywhere(bench: &Bench) {
    for name in ["we\"ird; DROP", "größe-日本", "back\\slash's"] {
        live(bench, name).await;
    }
}

async fn live(bench: &Bench, name: &str) {
    let admin = bench.admin().await;
    let mut tenant = Tenant::new(name);
    for _ in 0..2 {
        tenant.ensure(bench, &admin).await;
    }
    assert_eq!(admin.ensure_database(&tenant.database, &CreateDatabase::default()).await.unwrap(), Ensured::Existed);
    assert_login(&bench.dsn_of(&tenant), &tenant.database, &tenant.roles.owner).await.unwrap();
    let session = bench.login(&tenant).await.unwrap();
    if bench.power == Power::Superuser {
        assert_eq!(ask(&session, "show app.tenant").await, "it's");
    }
    assert_eq!(ask(&session, "show search_path").await, "public, pg_catalog");
    assert_eq!(ask(&session, "show work_mem").await, "2MB");
    let expected = if bench.power == Power::Superuser { "10MB" } else { "-1" };
    assert_eq!(ask(&session, "show temp_file_limit").await, expected);
    session.close().await;

    let inside = bench.admin_in(&tenant.database).await;
    for _ in 0..2 {
        assert_eq!(
            admin.apply_limits(&tenant.roles.login, &tenant.limits).await.unwrap().is_empty(),
            bench.power == Power::Superuser
        );
        inside.ensure_extension("plpgsql", None).await.unwrap();
        if bench.engine == Engine::Pg15 {
            inside.ensure_extension("hstore", Some("exten sions")).await.unwrap();
        }
        inside.write_note(b"sealed").await.unwrap();
        assert_eq!(inside.read_note().await.unwrap().as_deref(), Some(b"sealed".as_slice()));
        admin.restore_grants(&tenant.database, &tenant.roles.owner).await.unwrap();
    }
    inside.close().await;

    let (database, login) = (format!("{name} 2"), format!("{name} login2"));
    for _ in 0..2 {
        let from = Names { database: &tenant.database, login: &tenant.roles.login };
        admin.rename(from, Names { database: &database, login: &login }).await.unwrap();
    }
    (tenant.database, tenant.roles.login) = (database, login);
    let clash = admin.rename(
        Names { database: &tenant.database, login: &tenant.roles.login },
        Names { database: "postgres", login: &tenant.roles.login },
    );
    assert_eq!(clash.await.unwrap_err().kind, SqlErrorKind::AlreadyExists);
    assert_login(&bench.dsn_of(&tenant), &tenant.database, &tenant.roles.owner).await.unwrap();

    for _ in 0..2 {
        admin.refuse_logins(&[&tenant.roles.login]).await.unwrap();
    }
    assert_eq!(bench.login(&tenant).await.err().unwrap().kind, SqlErrorKind::AuthFailed);
    for _ in 0..2 {
        admin.admit_logins(&[&tenant.roles.login]).await.unwrap();
        admin.restore_login(&tenant.roles, &tenant.verifier, &tenant.limits, true).await.unwrap();
    }
    let _connected = bench.login(&tenant).await.unwrap();

    let observed = admin.observe(&tenant.roles.names(), &[&tenant.database]).await.unwrap();
    assert_eq!((observed.roles.len(), observed.databases.len()), (3, 1));
    let database = &observed.databases[0];
    assert!(
        !database.public_connect && database.owner == admin.user() && database.connect == [tenant.roles.owner.clone()]
    );
    let role = observed.roles.iter().find(|role| role.name == tenant.roles.login).unwrap();
    assert!(role.can_login && role.conn_limit == 5 && role.member_of == [tenant.roles.owner.clone()]);
    assert!(role.config.contains(&format!("role={}", tenant.roles.owner)), "{:?}", role.config);
    assert_eq!(role.verifier.as_ref(), (bench.power == Power::Superuser).then_some(&tenant.verifier));

    for _ in 0..2 {
        admin.drop_database(&tenant.database).await.unwrap();
        admin.drop_roles(&tenant.roles.names()).await.unwrap();
    }
    let left = admin.observe_all().await.unwrap();
    assert!(left.roles.iter().all(|role| !role.name.contains(name)));
    assert!(!admin.database_exists(&tenant.database).await.unwrap());
    assert_eq!(admin.drop_database("postgres").await.unwrap_err().kind, SqlErrorKind::NotSupported);
}

pub async fn a_rotation_overlaps_two_logins_and_leaves_nothing_of_the_first(bench: &Bench) {
    let tenant = bench.tenant("rot").await;
    let admin = bench.admin().await;
    let old = bench.login(&tenant).await.unwrap();
    old.execute_script("set role none; create schema s; create table s.t (); alter default privileges grant select on tables to public").await.unwrap();

    let password = Password::random(32);
    let second = Tenant {
        roles: Roles { login: "rot second".into(), ..tenant.roles.clone() },
        database: tenant.database.clone(),
        verifier: scram_verifier(&password),
        password,
        maintenance_password: tenant.maintenance_password.clone(),
        maintenance_verifier: tenant.maintenance_verifier.clone(),
        limits: tenant.limits.clone(),
    };
    admin.ensure_roles(&second.roles, &second.verifier, &second.maintenance_verifier, &second.limits).await.unwrap();
    assert_login(&bench.dsn_of(&second), &second.database, &second.roles.owner).await.unwrap();
    old.execute_script("select 1").await.unwrap();

    let inside = bench.admin_in(&tenant.database).await;
    let early = inside.disown_login(&tenant.roles.login, &tenant.roles.owner).await.unwrap_err();
    assert_eq!(early.kind, SqlErrorKind::InUse);
    admin.refuse_logins(&[&tenant.roles.login]).await.unwrap();
    for _ in 0..2 {
        inside.disown_login(&tenant.roles.login, &tenant.roles.owner).await.unwrap();
        admin.drop_roles(&[&tenant.roles.login]).await.unwrap();
    }
    let session = bench.login(&second).await.unwrap();
    session.execute_script("drop table s.t").await.unwrap();
}

pub async fn no_plain_password_reaches_the_log(bench: &Bench) {
    let tenant = bench.tenant("quiet").await;
    bench.login(&tenant).await.unwrap().execute_script("select 'marker'").await.unwrap();
    let admin = bench.admin().await;
    admin.restore_login(&tenant.roles, &tenant.verifier, &tenant.limits, true).await.unwrap();
    let wrong = bench.dsn_of(&tenant).with_user(&tenant.roles.login, Password::new("wrong-password-text"));
    let error = freehold_drivers::server::sql::Session::connect(&wrong, None, "app", &[]).await.err().unwrap();
    assert!(!format!("{error} {error:?}").contains("wrong-password-text"));
    assert_eq!((error.kind, error.code()), (SqlErrorKind::AuthFailed, "admin_denied"));
    bench.cluster.stop().await;

    let mut log = String::new();
    for entry in std::fs::read_dir(bench.cluster.options().data_dir.join("log")).unwrap() {
        log.push_str(&std::fs::read_to_string(entry.unwrap().path()).unwrap());
    }
    assert!(log.contains("marker") && log.contains("ALTER ROLE"), "statements are logged");
    for password in [tenant.password.expose(), tenant.maintenance_password.expose(), "wrong-password-text"] {
        assert!(!log.contains(password));
    }
}

pub async fn facts_name_what_the_admin_cannot_do(bench: &Bench) {
    let facts = bench.admin().await.facts().await.unwrap();
    assert_eq!(facts.refusal(), None);
    assert_eq!(facts.version_num / 10_000, if bench.engine == Engine::Pg15 { 15 } else { 18 });
    assert_eq!(facts.settings["wal_level"], "logical");
    assert!(facts.available_extensions.contains_key("plpgsql"));
    let has = |code: &str| facts.findings.iter().any(|finding| finding.code == code);
    assert!(has("fsync_off") && has("min_wal_size_small"));
    for code in [
        "subscriptions_not_creatable",
        "slots_not_creatable",
        "temp_file_limit_not_settable",
        "no_superuser_verifiers",
        "admin_slots_not_reserved",
    ] {
        assert_eq!(has(code), bench.power == Power::Weak, "{code}");
    }
    assert_eq!(facts.superuser, bench.power == Power::Superuser);
    if bench.power == Power::Superuser {
        assert!(!facts.system_identifier.is_empty());
    }
}

/// Before 16, where each membership costs, and where one transaction has it: none is left behind.
pub async fn an_admin_is_a_member_no_longer_than_it_must(bench: &Bench) {
    let (first, second) = (bench.tenant("first").await, bench.tenant("second").await);
    let superuser = bench.superuser_in("postgres").await;
    let memberships = async || {
        let sql = "select coalesce(string_agg(distinct g.rolname, ', ' order by g.rolname), '') from pg_auth_members m \
                   join pg_roles g on g.oid = m.roleid join pg_roles a on a.oid = m.member \
                   where a.rolname = 'weak-admin' and g.rolname not like 'pg\\_%'";
        ask(&superuser, sql).await
    };
    let of_both = match (bench.power, bench.engine) {
        (Power::Weak, Engine::Pg18) => "first, first maint, first owner, second, second maint, second owner",
        _ => "",
    };
    assert_eq!(memberships().await, of_both);

    let session = bench.login(&first).await.unwrap();
    session.execute_script("set role none; create table mine ()").await.unwrap();
    let inside = bench.admin_in(&first.database).await;
    inside.reassign_from_login("first", "first owner").await.unwrap();
    inside.restore_database_owner(&first.database, "first owner", false).await.unwrap();
    let admin = bench.admin().await;
    admin.refuse_logins(&["first"]).await.unwrap();
    assert!(session.execute_script("select 1").await.is_err(), "ended");
    inside.disown_login("first", "first owner").await.unwrap();
    inside.forget_roles(&["second"], Some("first owner")).await.unwrap();
    assert_eq!(memberships().await, of_both);

    // Whose database it is lets nobody else in.
    let theirs = OwnDatabase { tenant_owns_database: true, ..OwnDatabase::default() };
    bench.admin_in(&second.database).await.own_database(&second.roles, &theirs).await.unwrap();
    bench.admin_in(&second.database).await.ping().await.unwrap();
    if (bench.power, bench.engine) == (Power::Weak, Engine::Pg15) {
        assert_eq!(memberships().await, "second owner");
    }
    inside.close().await;
    for tenant in [&first, &second] {
        admin.drop_database(&tenant.database).await.unwrap();
        admin.drop_roles(&tenant.roles.names()).await.unwrap();
    }
    assert_eq!(memberships().await, "");
}
