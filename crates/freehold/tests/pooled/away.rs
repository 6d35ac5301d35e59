//! The control store is away while a pooler that has no agent holds a pause: the plane ends it all the same.

use freehold_testkit::processes_under;
use nix::sys::signal::{Signal, kill};

use crate::external::{His, logs_in, store_of};
use crate::story::{ask, create, until};

pub async fn a_pause_ends_by_its_deadline_while_the_store_is_away(version: &'static str) {
    let his = His::start(version).await;
    create(&his.plane, "acme").await;
    his.register().await;
    let made = his.until_ready("acme", true).await;
    let store = store_of(&his.plane).await;
    let sql = "INSERT INTO pooler_pause (id, pooler_id, entry, drain_ms, hold_ms)
        SELECT gen_random_uuid(), pooler_id, pooler_entry, 1000, 4000 FROM tenant_database WHERE tenant_id = 'acme'";
    assert_eq!(store.execute(sql, &[]).await.unwrap(), 1);
    until("it is paused", async || {
        match ask(&store, "SELECT coalesce(told, 'nothing') FROM pooler_pause").await.unwrap() {
            told if told == "paused" => Ok(()),
            other => Err(other),
        }
    })
    .await;
    assert!(his.is_paused(&made));

    // All of PostgreSQL: no turn of the plane's comes to its end.
    let servers = processes_under(&his.plane.data_dir().join("servers"));
    let signal = |signal: Signal| servers.iter().for_each(|process| kill(*process, signal).unwrap_or_default());
    signal(Signal::SIGSTOP);
    until("it is resumed", async || if his.is_paused(&made) { Err("it is paused".into()) } else { Ok(()) }).await;
    signal(Signal::SIGCONT);
    his.until_health("healthy").await;
    logs_in(&his.until_ready("acme", true).await).await;
}
