//! What is not in the log.

use std::time::Duration;

use freehold_drivers::platform::Platform;
use freehold_drivers::server::managed::Transport;
use freehold_drivers::server::sql::Session;

use super::{Machine, files};
use crate::case::{Case, settings};

/// Whatever a tenant types stays out of the log: passwords that are misspelt, slow, waited for, or deadlocked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_statement_of_a_tenant_reaches_the_log() {
    let world = Machine::new(15);
    let platform = world.processes();
    let mut case = Case::new(&world, "quiet");
    case.postgres().settings = settings(&world, &[("deadlock_timeout", "100ms"), ("log_temp_files", "0")]);
    platform.ensure(&case.service).await.unwrap();
    let admin = case.until_open(&world, &platform).await;
    let observed = platform.observe("quiet").await.unwrap();
    let dsn = case.dsn(&observed, Transport::Tls);
    let one = Session::connect(&dsn, None, "one", &[]).await.unwrap();
    let two = Session::connect(&dsn, None, "two", &[]).await.unwrap();
    one.execute_script(
        "create role victim; create table a (id int, note text unique); insert into a values (1, 'x'), (2, 'y')",
    )
    .await
    .unwrap();
    for typed in [
        "alter role victim passwort 'geheim'",
        "alter role victim password geheim",
        "select 'geheim'::int",
        "insert into a values (3, 'geheim'), (4, 'geheim')",
        "do $$ begin raise exception 'geheim'; end $$",
        "do $$ begin raise warning 'geheim'; end $$",
        "alter role nobody_knows password 'geheim'",
        "select pg_sleep(1.5), 'geheim'; alter role victim password 'geheim'",
        "set work_mem = '64kB'; select count(*) from (select g, 'geheim' || g from generate_series(1, 20000) g order by 2) s",
    ] {
        let _ = one.execute_script(typed).await;
    }
    // A wait inside a function, whose context would be the statement.
    two.execute_script("begin; alter role victim nologin").await.unwrap();
    let waits = "do $$ begin execute 'alter role victim password ''geheim'''; end $$";
    let (waited, _) = tokio::join!(one.execute_script(waits), async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        two.execute_script("rollback").await.unwrap();
    });
    waited.unwrap();
    // A deadlock, whose detail would have both statements.
    one.execute_script("begin; update a set note = 'p' where id = 1").await.unwrap();
    two.execute_script("begin; update a set note = 'q' where id = 2").await.unwrap();
    let (first, second) = tokio::join!(
        one.execute_script("update a set note = 'geheim1' where id = 2"),
        two.execute_script("update a set note = 'geheim2' where id = 1")
    );
    assert!(first.is_err() != second.is_err(), "one of two is the victim of a deadlock");
    admin.close().await;

    let mut log = Vec::new();
    files(&world.home("quiet").join("log"), &mut log);
    let text: String = log.into_iter().map(|(_, text)| text).collect();
    assert!(!text.contains("geheim"), "{text}");
    for expected in ["still waiting for", "temporary file: path", "freehold@postgres"] {
        assert!(text.contains(expected), "{expected} is not in {text}");
    }
}
