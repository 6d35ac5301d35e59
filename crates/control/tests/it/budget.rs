//! Issue 4: what a grant changes, and how long what was taken back counts.

use freehold_api::pooler::PoolerReport;
use freehold_control::pooler::budget::store::{self as budget, BudgetRow, Change};
use freehold_control::pooler::{assign, counts, raise, store};
use serde_json::{Value, json};
use sqlx::types::Json;
use uuid::Uuid;

use crate::rows::Store;

impl Store {
    async fn two(&self) -> [Uuid; 2] {
        self.server("s").await;
        self.pooler("p", 100).await;
        let both = [self.database("s", "fh_a").await, self.database("s", "fh_b").await];
        assign::assign(&self.pool).await.unwrap();
        raise::raise(&self.pool, "p").await.unwrap();
        store::seen(&self.pool, "p", 2).await.unwrap();
        both
    }

    async fn give(&self, id: Uuid, pooler_grant: Option<i32>, held: Option<i32>) -> u64 {
        let mut tx = self.pool.begin().await.unwrap();
        let given = budget::give(&mut tx, &["p".to_owned()], &[Change { id, pooler_grant, held }]).await.unwrap();
        tx.commit().await.unwrap();
        given
    }

    async fn is_changed(&self) -> bool {
        store::look(&self.pool, "p").await.unwrap().unwrap().marked
    }

    async fn reported(&self, generation: i64, databases: Value) {
        let report = json!({"generation": generation, "version": null, "reloads": 0, "deaths": 0, "repaired": 0, "error": null,
            "databases": databases});
        let report: PoolerReport = serde_json::from_value(report).unwrap();
        store::record(&self.pool, "p", &report).await.unwrap();
        counts::store::record(&self.pool, "p", &report).await.unwrap();
    }

    async fn row(&self, id: Uuid) -> budget::Row {
        let rows = budget::rows(&self.pool, "s").await.unwrap();
        rows.into_iter().find(|row| row.id == id).unwrap()
    }
}

fn counted(name: &str, waiting: u32, servers: u32, transactions: u64) -> Value {
    json!({"name": name, "clients_active": 0, "clients_waiting": waiting, "servers_active": servers, "servers_idle": 1,
        "longest_wait_ms": 0, "transactions": transactions, "queries": 0, "received_bytes": 1, "sent_bytes": 1})
}

fn found(resting: Option<i32>, crowded: bool) -> BudgetRow {
    BudgetRow {
        server_id: "s".into(),
        budget: 20,
        resting,
        crowded,
        databases: 2,
        wanted: 10,
        granted: 10,
        findings: Json(Vec::new()),
    }
}

#[tokio::test]
async fn a_grant_is_a_generation_and_its_tenant_stays_pooled() {
    let store = Store::start().await;
    let [one, other] = store.two().await;
    assert!(!store.is_changed().await);
    assert_eq!(store.give(one, Some(1), Some(5)).await, 1);
    assert!(store.one::<bool>("SELECT bool_and(pooled) FROM tenant_database").await, "it is served as before");
    assert!(store.is_changed().await && raise::raise(&store.pool, "p").await.unwrap());
    let (generation, rows) = store::entries(&store.pool, "p").await.unwrap().unwrap();
    assert_eq!((generation, rows[0].pooler_grant, rows[1].pooler_grant), (3, Some(1), None));
    // The same again is nothing.
    assert_eq!(store.give(one, Some(1), Some(5)).await, 1);
    assert!(!store.is_changed().await);
    // Neither is a claim, with whatever grant.
    store.claim(one, "acme").await;
    assert!(!store.is_changed().await);
    // Whoever holds a row is not waited for.
    let mut held = store.pool.begin().await.unwrap();
    sqlx::query("SELECT FROM tenant_database WHERE id = $1 FOR UPDATE")
        .bind(other)
        .fetch_one(&mut *held)
        .await
        .unwrap();
    assert_eq!(store.give(other, Some(1), None).await, 0);
    held.rollback().await.unwrap();
    assert_eq!(store.give(other, Some(1), None).await, 1);
}

#[tokio::test]
async fn what_was_taken_back_counts_until_its_pooler_has_taken_it_over() {
    let store = Store::start().await;
    let [one, _] = store.two().await;
    store.reported(2, json!([])).await;
    store.give(one, Some(1), Some(5)).await;
    assert_eq!(store.row(one).await.held, Some(5));
    raise::raise(&store.pool, "p").await.unwrap();
    store.reported(2, json!([])).await;
    assert_eq!(store.row(one).await.held, Some(5));
    store.reported(3, json!([])).await;
    assert_eq!((store.row(one).await.held, store.row(one).await.pooler_grant), (None, Some(1)));
}

#[tokio::test]
async fn who_waits_works_and_rests_is_what_agents_say() {
    let store = Store::start().await;
    let [one, _] = store.two().await;
    let seen = async || {
        let row = store.row(one).await;
        (row.waits, row.works, row.worked, row.open)
    };
    assert_eq!(seen().await, (false, false, false, 0));
    store.reported(2, json!([counted("fh_a", 0, 0, 1)])).await;
    assert_eq!(seen().await, (false, false, true, 1));
    store.run("UPDATE pooler_stats SET active_at = now() - interval '90 s'").await;
    store.reported(2, json!([counted("fh_a", 0, 0, 1)])).await;
    assert_eq!(seen().await, (false, false, false, 1), "it did nothing");
    store.reported(2, json!([counted("fh_a", 2, 2, 1)])).await;
    assert_eq!(seen().await, (false, true, true, 3), "a short queue that moves");
    store.reported(2, json!([counted("fh_a", 3, 2, 9)])).await;
    assert_eq!(seen().await, (true, true, true, 3));
    // A pooler that was started anew tells of those that were used since.
    store.reported(2, json!([counted("fh_b", 0, 0, 1)])).await;
    assert_eq!(seen().await, (false, false, true, 0));
}

#[tokio::test]
async fn what_is_new_gets_what_others_at_rest_have_and_a_crowd_is_told_to_its_poolers() {
    let store = Store::start().await;
    store.two().await;
    let mut tx = store.pool.begin().await.unwrap();
    budget::record(&mut tx, &found(Some(2), false), None).await.unwrap();
    tx.commit().await.unwrap();
    assert!(!store.is_changed().await);
    let new = store.database("s", "fh_c").await;
    assign::assign(&store.pool).await.unwrap();
    raise::raise(&store.pool, "p").await.unwrap();
    assert_eq!(store.row(new).await.pooler_grant, Some(2));
    let mut tx = store.pool.begin().await.unwrap();
    budget::record(&mut tx, &found(Some(2), true), Some(&found(Some(2), false))).await.unwrap();
    tx.commit().await.unwrap();
    assert!(store.is_changed().await);
    let (_, rows) = store::entries(&store.pool, "p").await.unwrap().unwrap();
    assert!(rows.iter().all(|row| row.crowded));
    let groups = budget::groups(&store.pool).await.unwrap();
    assert_eq!((groups.len(), groups[0].databases, groups[0].limited, groups[0].admits), (1, 3, true, None));
}
