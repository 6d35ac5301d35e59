//! Issue 4: who gets which pooler, and what raises a generation.

use std::time::Duration;

use freehold_api::pooler::PoolerReport;
use freehold_control::pooler::pause::store as pauses;
use freehold_control::pooler::{assign, raise, store};
use futures::future::join_all;
use uuid::Uuid;

use crate::rows::Store;

impl Store {
    async fn generation(&self, pooler: &str) -> i64 {
        self.one(&format!("SELECT generation FROM pooler WHERE id = '{pooler}'")).await
    }

    async fn entry(&self, database: Uuid) -> Option<String> {
        self.one(&format!("SELECT pooler_entry FROM tenant_database WHERE id = '{database}'")).await
    }

    async fn is_marked(&self) -> bool {
        store::look(&self.pool, "p").await.unwrap().unwrap().marked
    }

    /// One database, assigned and in a generation.
    async fn settled(&self) -> Uuid {
        self.server("s").await;
        self.pooler("p", 100).await;
        let database = self.database("s", "fh_a").await;
        assign::assign(&self.pool).await.unwrap();
        assert!(raise::raise(&self.pool, "p").await.unwrap());
        assert!(!self.is_marked().await);
        database
    }
}

#[tokio::test]
async fn the_last_slots_go_to_as_many_as_fit_whoever_asks_at_once() {
    let store = Store::start().await;
    store.server("s").await;
    store.pooler("p", 7).await;
    let mut databases = Vec::new();
    for n in 0..50 {
        databases.push(store.database("s", &format!("fh_{n}")).await);
    }
    let asked = databases.iter().map(|database| assign::assign_one(&store.pool, *database));
    let got: Vec<_> = join_all(asked).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(got.iter().flatten().count(), 7);
    assert_eq!(store.one::<i64>("SELECT count(*) FROM tenant_database WHERE pooler_id = 'p'").await, 7);

    // The rest fill the fullest first, and end where nothing has room.
    store.pooler("q", 20).await;
    store.pooler("r", 10).await;
    store.run("UPDATE pooler SET state = 'cordoned' WHERE id = 'r'").await;
    let (one, other) = tokio::join!(assign::assign(&store.pool), assign::assign(&store.pool));
    assert!(one.is_ok() && other.is_ok());
    let count = async |id: &str| {
        store.one::<i64>(&format!("SELECT count(*) FROM tenant_database WHERE pooler_id = '{id}'")).await
    };
    assert_eq!((count("p").await, count("q").await, count("r").await), (7, 20, 0));
    // What is on its way out holds no slot.
    store.run("UPDATE tenant_database SET state = 'dropping' WHERE pooler_id = 'p'").await;
    assign::assign(&store.pool).await.unwrap();
    assert_eq!(
        store.one::<i64>("SELECT count(*) FROM tenant_database WHERE pooler_id = 'p' AND state = 'ready'").await,
        7
    );
}

#[tokio::test]
async fn a_store_that_is_older_than_its_pooler_goes_ahead_of_it() {
    let store = Store::start().await;
    let database = store.settled().await;
    store::seen(&store.pool, "p", 2).await.unwrap();
    assert!(!store::surpass(&store.pool, "p", 2).await.unwrap(), "that is what was wanted");
    assert!(store.one::<bool>("SELECT pooled FROM tenant_database").await);
    assert!(store::surpass(&store.pool, "p", 500).await.unwrap());
    assert!(!store.one::<bool>("SELECT pooled FROM tenant_database").await, "what is there is unknown");
    assert!(raise::raise(&store.pool, "p").await.unwrap());
    assert_eq!(store.generation("p").await, 501);
    assert_eq!(store.entry(database).await.as_deref(), Some("fh_a"));
}

#[tokio::test]
async fn a_claim_from_stock_raises_nothing() {
    let store = Store::start().await;
    let database = store.settled().await;
    store.claim(database, "acme").await;
    assert!(!store.is_marked().await);
    assert!(!raise::raise(&store.pool, "p").await.unwrap());
    assert_eq!(store.generation("p").await, 2);
}

#[tokio::test]
async fn whatever_is_rendered_raises_the_generation_once_for_all_that_changed() {
    let store = Store::start().await;
    let database = store.settled().await;
    store.claim(database, "acme").await;
    for change in [
        "UPDATE tenant_database SET database = 'app_acme'",
        "UPDATE tenant_database SET plan = 'big'",
        "UPDATE login SET role = 'app_acme' WHERE purpose = 'tenant'",
        "UPDATE login SET verifier = 'SCRAM-SHA-256$4096:x' WHERE purpose = 'tenant'",
        "UPDATE tenant SET state = 'suspended'",
        "UPDATE tenant SET state = 'active'",
        "UPDATE server SET tenant_port = 5433",
        "UPDATE tenant SET state_before = 'active', state = 'deleted', deleted_at = now(), purge_at = now()",
        "UPDATE tenant SET purge_began_at = now()",
    ] {
        let before = store.generation("p").await;
        store.run(change).await;
        assert!(store.is_marked().await, "{change}");
        assert!(raise::raise(&store.pool, "p").await.unwrap(), "{change}");
        assert_eq!(store.generation("p").await, before + 1, "{change}");
    }
    assert_eq!(store.entry(database).await, None, "what is being purged is served no more");
    for nothing in [
        "UPDATE login SET role = 'other_m' WHERE purpose = 'maintenance'",
        "UPDATE tenant SET name = 'x', revision = revision + 1",
        "UPDATE tenant_database SET noted_at = now(), probed_at = now()",
        "UPDATE server SET health = 'unhealthy'",
    ] {
        store.run(nothing).await;
        assert!(!store.is_marked().await, "{nothing}");
    }
    // A hundred changes are one generation, and what is gone is a change too.
    let mut more = Vec::new();
    for n in 0..100 {
        more.push(store.database("s", &format!("fh_more{n}")).await);
    }
    let before = store.generation("p").await;
    store.run("UPDATE pooler SET capacity = 1000").await;
    assign::assign(&store.pool).await.unwrap();
    let rivals = join_all((0..8).map(|_| raise::raise(&store.pool, "p"))).await;
    assert_eq!(rivals.into_iter().filter(|raised| *raised.as_ref().unwrap()).count(), 1);
    assert_eq!(store.generation("p").await, before + 1);
    store.run(&format!("DELETE FROM tenant_database WHERE id = '{}'", more[0])).await;
    assert!(store.is_marked().await);
    let (_, rows) = store::entries(&store.pool, "p").await.unwrap().unwrap();
    assert_eq!(rows.len(), 99);
}

#[tokio::test]
async fn an_entry_is_called_as_its_database_where_that_can_be() {
    let store = Store::start().await;
    let first = store.settled().await;
    store.server("t").await;
    let second = store.database("t", "fh_b").await;
    let third = store.database("t", "fh_c").await;
    assign::assign(&store.pool).await.unwrap();
    store.run(&format!("UPDATE tenant_database SET database = 'app' WHERE id IN ('{first}', '{second}')")).await;
    store.run(&format!("UPDATE tenant_database SET database = 'with \"quotes\"' WHERE id = '{third}'")).await;
    raise::raise(&store.pool, "p").await.unwrap();
    assert_eq!(store.entry(first).await.as_deref(), Some("app"));
    assert_eq!(store.entry(second).await.as_deref(), Some("fh_b"), "another has its name");
    assert_eq!(store.entry(third).await.as_deref(), Some("fh_c"), "an ini file's key cannot hold its name");
    // It keeps what it is called, whatever comes.
    store.run("UPDATE tenant_database SET plan = 'big'").await;
    raise::raise(&store.pool, "p").await.unwrap();
    assert_eq!(store.entry(first).await.as_deref(), Some("app"));
    // Two logins of one name cannot be in one list: the one that was there stays.
    let sql =
        format!("UPDATE login SET role = 'app' WHERE purpose = 'tenant' AND database_id IN ('{first}', '{second}')");
    store.run(&sql).await;
    raise::raise(&store.pool, "p").await.unwrap();
    assert_eq!((store.entry(first).await.is_some(), store.entry(second).await), (true, None));
    let row = store::find(&store.pool, "p").await.unwrap().unwrap();
    assert_eq!(row.unserved, 1);
}

#[tokio::test]
async fn stock_is_ready_once_its_pooler_was_seen_to_have_it() {
    let store = Store::start().await;
    store.settled().await;
    let waiting = store.database("s", "fh_w").await;
    store.run(&format!("UPDATE tenant_database SET state = 'building', ready_at = NULL, pooling_since = now() WHERE id = '{waiting}'")).await;
    assign::assign(&store.pool).await.unwrap();
    raise::raise(&store.pool, "p").await.unwrap();
    let generation = store.generation("p").await;
    let state =
        async || store.one::<String>(&format!("SELECT state FROM tenant_database WHERE id = '{waiting}'")).await;
    store::seen(&store.pool, "p", generation - 1).await.unwrap();
    assert_eq!(state().await, "building");
    store::seen(&store.pool, "p", generation).await.unwrap();
    assert_eq!(state().await, "ready");
    assert!(store.one::<bool>("SELECT bool_and(pooled) FROM tenant_database").await);
    assert!(!store.is_marked().await, "being seen changes nothing that is served");
}

#[tokio::test]
async fn a_pause_is_wanted_until_it_is_released_told_to_be_over_or_too_old() {
    let store = Store::start().await;
    let database = store.settled().await;
    let seconds = Duration::from_secs;
    let wanted = async || pauses::wanted(&store.pool, "p").await.unwrap();
    let revision = async || store::look(&store.pool, "p").await.unwrap().unwrap().pauses;
    assert_eq!(revision().await, None);
    let one = pauses::want(&store.pool, database, seconds(5), seconds(60)).await.unwrap().unwrap();
    let other = pauses::want(&store.pool, database, seconds(5), seconds(60)).await.unwrap().unwrap();
    assert_eq!(wanted().await.iter().map(|pause| pause.id).collect::<Vec<_>>(), [one, other]);
    assert_eq!(wanted().await[0].database, "fh_a");
    let both = revision().await;
    pauses::release(&store.pool, one).await.unwrap();
    assert_ne!(revision().await, both);
    let told: PoolerReport = serde_json::from_value(serde_json::json!({
        "generation": 1, "version": null, "reloads": 0, "deaths": 0, "repaired": 0, "error": null,
        "pauses": [{"id": other, "state": "held", "detail": "app from 10.0.0.1, active"}],
    }))
    .unwrap();
    pauses::record(&store.pool, "p", &told.pauses).await.unwrap();
    let (_, why) = pauses::told(&store.pool, other).await.unwrap().unwrap();
    assert_eq!(why.as_deref(), Some("app from 10.0.0.1, active"));
    assert_eq!(wanted().await, []);
    let old = pauses::want(&store.pool, database, seconds(1), seconds(1)).await.unwrap().unwrap();
    store.run(&format!("UPDATE pooler_pause SET created_at = now() - interval '3 s' WHERE id = '{old}'")).await;
    assert_eq!(wanted().await, []);
    let unpooled = store.database("s", "fh_u").await;
    assert_eq!(pauses::want(&store.pool, unpooled, seconds(1), seconds(1)).await.unwrap(), None);
}
