//! Two clusters, and a tenant on the first of them, made by the verbs that make tenants.

use std::path::PathBuf;
use std::process::Command;

use freehold_drivers::pooler::Verifier;
use freehold_drivers::secrets::{Password, scram_verifier};
use freehold_drivers::server::sql::moving::{DumpBinary, Login, Side, Tenant, find_pg_dump};
use freehold_drivers::server::sql::{Admin, CreateDatabase, Dsn, ExtraRole, Limits, OwnDatabase, Roles, Session};
use freehold_testkit::{ADMIN, Cluster, ClusterBuilder, engine};

pub struct World {
    pub old: Cluster,
    pub new: Cluster,
    pub tenant: Tenant,
    pub password: Password,
    pub maintenance_password: Password,
    pub pg_dump: DumpBinary,
    /// CREATEDB, CREATEROLE, REPLICATION and pg_create_subscription, as a managed service gives them.
    pub weak: bool,
}

fn cluster(version: u32) -> ClusterBuilder {
    Cluster::builder(version)
        .setting("wal_level", "logical")
        .setting("max_logical_replication_workers", "8")
        .setting("max_sync_workers_per_subscription", "4")
        .setting("max_worker_processes", "16")
        .setting("wal_retrieve_retry_interval", "100ms")
}

impl World {
    pub async fn start(old: u32, new: u32, schema: &str) -> Self {
        Self::of([old, new].map(|version| cluster(version).log_statements().start()), false, schema).await
    }

    pub async fn weak(old: u32, new: u32, schema: &str) -> Self {
        let clusters = [old, new].map(|version| cluster(version).start());
        for cluster in &clusters {
            cluster.weak_admin().await;
            let sql = "alter role weak_admin replication; grant pg_create_subscription to weak_admin; grant connect on database postgres to weak_admin";
            cluster.connect("postgres").await.batch_execute(sql).await.unwrap();
        }
        Self::of(clusters, true, schema).await
    }

    async fn of([old, new]: [Cluster; 2], weak: bool, schema: &str) -> Self {
        let (password, maintenance_password) = (Password::random(32), Password::random(32));
        let login = |name: &str, password: &Password| Login {
            name: name.into(),
            verifier: Verifier::parse(scram_verifier(password)).unwrap(),
        };
        let tenant = Tenant {
            database: "Zoo \"d'b".into(),
            owner: "zoo owner".into(),
            maintenance: login("zoo maint", &maintenance_password),
            logins: vec![login("zoo", &password)],
            extra: vec!["zoo_reporting".into()],
        };
        let pg_dump = find_pg_dump(&[engine(18)], i32::try_from(new.version()).unwrap() * 10_000).unwrap();
        let world = Self { old, new, tenant, password, maintenance_password, pg_dump, weak };
        world.make().await;
        let session = world.login(&world.old).await;
        session.execute_script(schema).await.unwrap();
        session.close().await;
        world
    }

    async fn make(&self) {
        let admin = self.admin(&self.old).await;
        let tenant = &self.tenant;
        let roles = Roles {
            owner: tenant.owner.clone(),
            login: tenant.logins[0].name.clone(),
            maintenance: tenant.maintenance.name.clone(),
            extra: vec![ExtraRole { name: tenant.extra[0].clone(), write: false }],
        };
        let limits = Limits {
            connection_limit: 20,
            statement_timeout_ms: 30_000,
            work_mem_kb: Some(2048),
            temp_file_limit_kb: Some(10_240),
            ..Limits::unlimited()
        };
        let (login, maintenance) = (tenant.logins[0].verifier.as_str(), tenant.maintenance.verifier.as_str());
        admin.ensure_roles(&roles, login, maintenance, &limits).await.unwrap();
        admin.ensure_database(&tenant.database, &CreateDatabase::default()).await.unwrap();
        let inside = Admin::connect(&self.admin_dsn(&self.old), Some(&tenant.database), "test").await.unwrap();
        let settings =
            [("app.tenant", "it's"), ("search_path", "\"$user\", public, \"App\""), ("statement_timeout", "20s")];
        let own = OwnDatabase { settings: &settings, ..OwnDatabase::default() };
        inside.own_database(&roles, &own).await.unwrap();
        inside.ensure_extension("hstore", Some("public")).await.unwrap();
        inside.close().await;
        for cluster in [&self.old, &self.new] {
            let superuser = Admin::connect(&dsn(cluster), Some("postgres"), "test").await.unwrap();
            assert!(superuser.secure_server().await.unwrap().is_empty());
        }
    }

    pub fn admin_dsn(&self, cluster: &Cluster) -> Dsn {
        match self.weak {
            true => Dsn::parse(&cluster.dsn("weak_admin")).unwrap(),
            false => dsn(cluster),
        }
    }

    pub async fn admin(&self, cluster: &Cluster) -> Admin {
        Admin::connect(&self.admin_dsn(cluster), Some("postgres"), "fh:test:1").await.unwrap()
    }

    pub async fn side(&self, cluster: &Cluster) -> Side {
        let maintenance = dsn(cluster).with_user(&self.tenant.maintenance.name, self.maintenance_password.clone());
        Side::open(&self.admin_dsn(cluster), &maintenance, &self.tenant.database, &self.tenant.owner, "fh:test:1")
            .await
            .unwrap()
    }

    pub fn dsn_of_login(&self, cluster: &Cluster) -> Dsn {
        dsn(cluster).with_user(&self.tenant.logins[0].name, self.password.clone()).with_database(&self.tenant.database)
    }

    pub async fn login(&self, cluster: &Cluster) -> Session {
        Session::connect(&self.dsn_of_login(cluster), None, "app", &[]).await.unwrap()
    }

    /// The last of what a server's log calls an error.
    pub fn errors(&self, cluster: &Cluster) -> String {
        let log = cluster.log();
        let wrong = |line: &&str| ["ERROR:", "FATAL:", "CONTEXT:"].iter().any(|word| line.contains(word));
        let lines: Vec<&str> = log.lines().filter(wrong).collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }

    /// As its maintenance login, by one `pg_dump` for all servers, without what says which server it was.
    pub fn dump(&self, cluster: &Cluster) -> String {
        let output = Command::new(engine(18).join("pg_dump"))
            .args([
                "--schema-only",
                "--exclude-schema=freehold",
                "--no-subscriptions",
                "-h",
                "127.0.0.1",
                "-U",
                "zoo maint",
            ])
            .env("PGDATABASE", &self.tenant.database)
            .env("PGPASSWORD", self.maintenance_password.expose())
            .arg("-p")
            .arg(cluster.port().to_string())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        let named = ["-- Dumped ", "\\restrict ", "\\unrestrict "];
        text.lines().filter(|line| !named.iter().any(|name| line.starts_with(name))).collect::<Vec<_>>().join("\n")
    }

    /// Everything on a server that a move could leave behind.
    pub async fn picture(&self, cluster: &Cluster) -> Vec<String> {
        const SERVER: &str = "select 'role ' || rolname || ' ' || (to_jsonb(r) - 'oid')::text || (select coalesce(string_agg(g.rolname, ',' order by g.rolname), '') \
                from pg_auth_members m join pg_roles g on g.oid = m.roleid where m.member = r.oid) from pg_roles r \
            union all select 'database ' || datname || ' ' || coalesce(datacl::text, '') || datconnlimit from pg_database \
            union all select 'slot ' || slot_name from pg_replication_slots \
            union all select 'subscription ' || subname from pg_subscription \
            union all select 'setting ' || setrole || setdatabase || setconfig::text from pg_db_role_setting \
            union all select 'origin ' || roname from pg_replication_origin order by 1";
        const INSIDE: &str = "select 'publication ' || pubname from pg_publication union all select 'table of freehold ' || relname from pg_class where relnamespace = 'freehold'::regnamespace order by 1";
        let admin = Admin::connect(&dsn(cluster), Some("postgres"), "test").await.unwrap();
        let mut lines = texts(admin.client(), SERVER).await;
        if admin.database_exists(&self.tenant.database).await.unwrap() {
            let inside = Admin::connect(&dsn(cluster), Some(&self.tenant.database), "test").await.unwrap();
            lines.extend(texts(inside.client(), INSIDE).await);
            inside.close().await;
        }
        admin.close().await;
        lines
    }
}

pub fn dsn(cluster: &Cluster) -> Dsn {
    Dsn::parse(&cluster.dsn(ADMIN)).unwrap()
}

pub fn engines() -> Vec<PathBuf> {
    [15, 18].map(engine).to_vec()
}

async fn texts(client: &tokio_postgres::Client, sql: &str) -> Vec<String> {
    client.query(sql, &[]).await.unwrap().iter().map(|row| row.get::<_, String>(0)).collect()
}

/// The first column of the first row.
pub async fn ask(session: &Session, sql: &str) -> String {
    let rows = session.simple_query(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    rows[0].get(0).unwrap_or_default().to_owned()
}
