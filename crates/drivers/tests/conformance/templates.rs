//! Templates: built, frozen, copied, and handed over.

use freehold_drivers::server::sql::{CreateDatabase, ExtraRole, OwnDatabase, SqlErrorKind};

use crate::bench::{Bench, Tenant, ask};

pub async fn a_frozen_template_is_copied_and_its_objects_change_hands(bench: &Bench) {
    let admin = bench.admin().await;
    let builder = Tenant { database: "tpl work".into(), ..Tenant::new("builder") };
    builder.ensure(bench, &admin).await;
    let session = bench.maintenance(&builder).await;
    session.execute_script("create schema app; create table app.t (id int generated always as identity primary key); insert into app.t default values").await.unwrap();
    let inside = bench.admin_in("tpl work").await;
    inside.vacuum_freeze().await.unwrap();
    inside.close().await;
    for _ in 0..2 {
        admin.freeze_template("tpl work", "tpl_1").await.unwrap();
    }
    assert!(session.execute_script("select 1").await.is_err(), "disconnected");
    assert_eq!(admin.freeze_template("nothing", "nowhere").await.unwrap_err().kind, SqlErrorKind::Missing);

    let tenant = Tenant::new("copy");
    admin.ensure_roles(&tenant.roles, &tenant.verifier, &tenant.maintenance_verifier, &tenant.limits).await.unwrap();
    let create = CreateDatabase { template: Some("tpl_1"), ..CreateDatabase::default() };
    admin.ensure_database(&tenant.database, &create).await.unwrap();
    let inside = bench.admin_in(&tenant.database).await;
    for tenant_owns_database in [false, false, true, true] {
        let from_role = Some(builder.roles.owner.as_str());
        let own = OwnDatabase { from_role, settings: &[("search_path", "app, public")], tenant_owns_database };
        inside.own_database(&tenant.roles, &own).await.unwrap();
        let owner = &inside.observe(&[], &[&tenant.database]).await.unwrap().databases[0].owner;
        assert_eq!(owner, if tenant_owns_database { &tenant.roles.owner } else { admin.user() });
    }
    inside.forget_activity().await.unwrap();
    if inside.is_superuser() {
        let changed =
            "select coalesce(max(n_mod_since_analyze), 0)::text from pg_stat_sys_tables where relname = 'pg_class'";
        let changed: String = inside.client().query_one(changed, &[]).await.unwrap().get(0);
        assert_eq!(changed, "0", "autovacuum has no business there");
    }
    inside.write_note(b"whose").await.unwrap();
    inside.close().await;
    let session = bench.login(&tenant).await.unwrap();
    session.execute_script("insert into t default values; alter table t add column x int").await.unwrap();
    assert_eq!(ask(&session, "select max(id) from t").await, "2");
    let template = admin.observe(&[], &["tpl_1"]).await.unwrap().databases.remove(0);
    assert!(!template.allow_connections && template.owner == admin.user());

    admin.drop_database("tpl_1").await.unwrap();
    admin.drop_database(&tenant.database).await.unwrap();
    admin.drop_roles(&tenant.roles.names()).await.unwrap();
    admin.drop_roles(&builder.roles.names()).await.unwrap();
}

pub async fn extra_roles_read_or_write_what_comes_later(bench: &Bench) {
    let admin = bench.admin().await;
    let mut tenant = Tenant::new("extra");
    tenant.roles.extra =
        vec![ExtraRole { name: "extra ro".into(), write: false }, ExtraRole { name: "extra rw".into(), write: true }];
    for _ in 0..2 {
        tenant.ensure(bench, &admin).await;
    }
    let session = bench.login(&tenant).await.unwrap();
    session.execute_script("create table later (id serial)").await.unwrap();
    session.execute_script("set role \"extra ro\"; select * from later").await.unwrap();
    assert_eq!(
        session.execute_script("insert into later default values").await.unwrap_err().kind,
        SqlErrorKind::Privilege
    );
    session.execute_script("set role \"extra rw\"; insert into later default values; delete from later").await.unwrap();
    assert_eq!(session.execute_script("drop table later").await.unwrap_err().kind, SqlErrorKind::Privilege);
    admin.drop_database(&tenant.database).await.unwrap();
    admin.drop_roles(&tenant.roles.names()).await.unwrap();
}
