//! The last slots of a server, with fifty callers at once: as many tenants as slots, and never more databases than fit.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use crate::rig::{Rig, STORE, Wanted};
use crate::serving::until;

const SLOTS: u32 = 4;

#[tokio::test]
async fn room_the_last_slots_go_to_as_many_callers_as_there_are() {
    for stock in ["[stock]\nper_template = 0\n", "[stock]\nper_template = 2\n"] {
        let rig = Rig::new(Wanted { settings: stock, ..Wanted::default() }).await;
        let mut serve = rig.serve("").await;
        rig.add_server(&serve, SLOTS, None).await;
        rig.settled(&mut serve, &[("default", if stock.contains("= 2") { 2 } else { 0 })]).await;
        // Somebody counts all the time: tenants and stock never take more than there is.
        let over = Arc::new(AtomicBool::new(false));
        let counting = tokio::spawn({
            let (sql, over) = (rig.store.connect(STORE).await, over.clone());
            async move {
                loop {
                    let row =
                        sql.query_one("SELECT count(*) FROM tenant_database WHERE state <> 'dropping'", &[]).await;
                    let used: i64 = row.expect("count").get(0);
                    over.fetch_or(used > i64::from(SLOTS), Ordering::Relaxed);
                    tokio::task::yield_now().await;
                }
            }
        });
        let creates = (0..50).map(|n| {
            let serve = &serve;
            async move { serve.post("/v1/tenants", json!({"id": format!("caller-{n}")})).await }
        });
        let answers = futures::future::join_all(creates).await;
        let made = answers.iter().filter(|(status, _)| *status == 201 || *status == 202).count();
        assert_eq!(made, SLOTS as usize, "{answers:?}");
        for (status, body) in answers.iter().filter(|(status, _)| *status != 201 && *status != 202) {
            assert_eq!((*status, body["code"].as_str()), (503, Some("no_room")), "{body}");
            let why = body["detail"].as_str().unwrap_or_default();
            assert!(why.contains(&format!("one: all {SLOTS} slots are taken")), "{body}");
        }
        let active = "SELECT count(*) FROM tenant WHERE state = 'active'";
        until("all are active", async || rig.count(active).await == i64::from(SLOTS)).await;
        assert_eq!(rig.count("SELECT count(*) FROM tenant").await, i64::from(SLOTS), "who was refused left nothing");
        rig.settled(&mut serve, &[]).await;
        counting.abort();
        assert!(!over.load(Ordering::Relaxed), "more databases than slots");
        let admin = rig.server().connect("postgres").await;
        let row = admin.query_one("SELECT count(*) FROM pg_database WHERE datname ~ '^fh_[a-z2-7]{16}$'", &[]).await;
        assert_eq!(row.expect("count databases").get::<_, i64>(0), i64::from(SLOTS));
    }
}
