//! What people connect with: each gets in with what `tenant url` prints for it, prepares statements, and commits, on two
//! connections that take turns at the pooler's.

use std::path::{Path, PathBuf};
use std::process::Command;

use freehold_testkit::{Plane, engine, node_postgres};
use sqlx::{Connection, Executor, PgConnection};

use crate::story::{create, dev};

pub async fn every_driver_gets_in_with_what_is_printed(version: &'static str) {
    let plane = dev(version, 1).await;
    let pooled = create(&plane, "acme").await["pooled"].clone();
    let url = printed(&plane, &["tenant", "url", "acme"]);
    assert!(url.contains(&format!("127.0.0.1:{}/", pooled["port"])), "it is not the pooler's");
    let jdbc = printed(&plane, &["tenant", "url", "acme", "--format", "jdbc"]);

    assert_eq!(said(Command::new("psql").args(["-XAtc", "SELECT 'in'"]).arg(&url)), "in");
    let pgbench = engine(15).join("pgbench");
    said(Command::new(&pgbench).args(["-i", "-q", "-s", "1"]).arg(&url));
    let told = said(Command::new(&pgbench).args(["-n", "-M", "prepared", "-c", "4", "-j", "2", "-t", "50"]).arg(&url));
    assert!(told.contains("number of failed transactions: 0 "), "{told}");

    // Debian's own, which has Debian's psycopg.
    assert_eq!(said(Command::new("/usr/bin/python3").arg(program("with_psycopg.py")).arg(&url)), "20");
    let node = said(Command::new("node").arg(program("with_node.js")).arg(&url).env("NODE_PATH", node_postgres()));
    assert_eq!(node, "20");
    let driver = "/usr/share/java/postgresql.jar";
    assert_eq!(said(Command::new("java").args(["-cp", driver]).arg(program("WithJdbc.java")).arg(&jdbc)), "20");
    assert_eq!(with_sqlx(&url).await.expect("sqlx gets in"), 20);
}

async fn with_sqlx(url: &str) -> sqlx::Result<i64> {
    let mut connections = [PgConnection::connect(url).await?, PgConnection::connect(url).await?];
    connections[0].execute("CREATE TABLE sqlx (n int)").await?;
    for n in 0..20 {
        let mut tx = connections[n % 2].begin().await?;
        sqlx::query("INSERT INTO sqlx VALUES ($1)").bind(i32::try_from(n).unwrap_or(0)).execute(&mut *tx).await?;
        tx.commit().await?;
    }
    sqlx::query_scalar("SELECT count(*) FROM sqlx").fetch_one(&mut connections[1]).await
}

fn printed(plane: &Plane, arguments: &[&str]) -> String {
    String::from_utf8(plane.cli(arguments).stdout).expect("text").trim().to_owned()
}

fn program(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pooled/clients").join(name)
}

/// Its output. Panics where it fails, or is not there: `make engines` installs it.
fn said(command: &mut Command) -> String {
    let program = command.get_program().to_owned();
    let output = command.output().unwrap_or_else(|error| panic!("{}: {error}; run `make engines`", program.display()));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {stderr}", program.display());
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
