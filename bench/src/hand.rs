//! The effects of making one tenant's database, by hand: the statements that Freehold sends, and nothing around them.
//! No store, no sealing, no probe: what a tight program without a memory would do.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::try_join_all;

use crate::Res;
use crate::bench::{Bench, Place};
use crate::turn::{self, Turn};

const VERIFIER: &str = "SCRAM-SHA-256$4096:AAECAwQFBgcICQoLDA0ODw==$\
    wOmH0jLZpbCPAhHRd+XHNFtDpZZqvPBZE0xLE4Xblf0=:PeKhJPeVzcrOdTUUVTZ9cHN9YKmNvAG/t+Ay3yJxfFk=";
const WORKERS: usize = 2;

/// Databases made by two workers, after so many that are not counted.
pub async fn rate(bench: &Bench, place: &Place<'_>, template: &str, before: u32, time: Duration) -> Res<Turn> {
    let sql = "select database, owner from template_build where name = $1 and server_id = $2 and state = 'ready'";
    let row = bench.store().await?.query_one(sql, &[&template, &place.server()]).await?;
    let (from, role): (String, String) = (row.get(0), row.get(1));
    let admins = try_join_all((0..WORKERS).map(|_| place.as_maker("postgres"))).await?;
    for _ in 0..before {
        make(place, &admins[0], &from, &role).await?;
    }
    let idle = Mutex::new(admins);
    let one = async || {
        let admin = idle.lock().map_err(|_| "a worker panicked")?.pop().ok_or("more workers than sessions")?;
        make(place, &admin, &from, &role).await?;
        idle.lock().map_err(|_| "a worker panicked")?.push(admin);
        Ok(())
    };
    turn::of(WORKERS, time, one).await
}

/// Takes away what was made. Otherwise whoever has the next turn pays for it: autovacuum goes through each new database,
/// and Freehold looks at those that it does not know.
pub async fn clear(place: &Place<'_>) -> Res<()> {
    let admin = place.admin("postgres").await?;
    for (what, catalog, name) in [("DATABASE", "pg_database", "datname"), ("ROLE", "pg_roles", "rolname")] {
        for row in admin.query(&format!("select {name}::text from {catalog} where {name} ~ '^hand_'"), &[]).await? {
            admin.batch_execute(&format!("DROP {what} {}", row.get::<_, String>(0))).await?;
        }
    }
    Ok(())
}

async fn make(place: &Place<'_>, admin: &tokio_postgres::Client, from: &str, role: &str) -> Res<()> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let name = format!("hand_{}", COUNT.fetch_add(1, Ordering::Relaxed));
    let (owner, login, maintenance) = (&name, format!("{name}_l"), format!("{name}_m"));
    let (me, superuser) = place.maker();
    let mut roles = vec![
        format!("CREATE ROLE {owner} NOLOGIN INHERIT"),
        format!("CREATE ROLE {login} NOLOGIN INHERIT"),
        format!("CREATE ROLE {maintenance} NOLOGIN INHERIT"),
        format!("GRANT {owner} TO {login}, {maintenance}"),
        format!("ALTER ROLE {login} CONNECTION LIMIT 20"),
        format!("ALTER ROLE {login} SET statement_timeout = '0'"),
        format!("ALTER ROLE {login} SET idle_in_transaction_session_timeout = '60000'"),
        format!("ALTER ROLE {login} RESET work_mem"),
        format!("ALTER ROLE {login} SET role = '{owner}'"),
        format!("ALTER ROLE {login} LOGIN PASSWORD '{VERIFIER}'"),
        format!("ALTER ROLE {maintenance} LOGIN PASSWORD '{VERIFIER}'"),
        format!("ALTER ROLE {maintenance} SET role = '{owner}'"),
    ];
    if superuser {
        roles.push(format!("ALTER ROLE {login} RESET temp_file_limit"));
    }
    admin.batch_execute(&roles.join(";\n")).await?;
    admin.batch_execute(&format!("CREATE DATABASE {name} STRATEGY WAL_LOG TEMPLATE {from}")).await?;
    let mut own = vec![
        format!("REASSIGN OWNED BY {role} TO {owner}"),
        format!("ALTER DATABASE {name} OWNER TO {me}"),
        format!("REVOKE ALL ON DATABASE {name} FROM PUBLIC"),
        format!("GRANT ALL ON DATABASE {name} TO {owner}"),
        format!("ALTER SCHEMA public OWNER TO {owner}"),
        "CREATE SCHEMA IF NOT EXISTS freehold".into(),
        "REVOKE ALL ON SCHEMA freehold FROM PUBLIC".into(),
        "CREATE TABLE IF NOT EXISTS freehold.note (id int PRIMARY KEY DEFAULT 1 CHECK (id = 1), \
         written_at timestamptz NOT NULL DEFAULT now(), sealed bytea NOT NULL)"
            .into(),
        "REVOKE ALL ON TABLE freehold.note FROM PUBLIC".into(),
    ];
    if !superuser {
        // Whoever is given a table must be allowed to create one there.
        own.insert(0, format!("GRANT ALL ON DATABASE {name} TO {owner}; ALTER SCHEMA public OWNER TO {owner}"));
    }
    if !place.joins_what_it_makes() {
        own.insert(0, format!("GRANT {owner} TO {me}"));
        own.push(format!("REVOKE {owner} FROM {me}"));
    }
    Ok(place.as_maker(&name).await?.batch_execute(&own.join(";\n")).await?)
}
