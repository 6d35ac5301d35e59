//! Imports that are cancelled, or whose servers die: nothing is left of what came to nothing, and what went on is whole.

use std::time::Duration;

use freehold_testkit::{ADMIN, ADMIN_PASSWORD, Cluster};
use reqwest::Method;
use serde_json::{Value as Json, json};

use crate::moves::SLOW;
use crate::rig::{Rig, Wanted};
use crate::scenario::{SETTINGS, add_templates, until_tenant};
use crate::serving::{Serve, until};
use crate::sides::over_by_itself;

const IMPORT: &str = "tenant.import";
const OPEN: &str = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'fh:%' AND datname = 'shop'";

/// A server for tenants beside the store's, and one of somebody else's, whose rows take their time.
async fn world() -> (Rig, Serve, Cluster) {
    let rig = Rig::new(Wanted { apart: Some(Cluster::start(15)), settings: SETTINGS, ..Wanted::default() }).await;
    let serve = rig.serve("").await;
    rig.stop_filling().await;
    rig.freeze("health").await;
    add_templates(&serve).await;
    rig.add_server(&serve, 50, None).await;
    let source = Cluster::builder(15).own_identity().start();
    source.connect("postgres").await.batch_execute("CREATE DATABASE shop").await.expect("make a database");
    let shop = source.connect("shop").await;
    shop.batch_execute(SLOW).await.expect("fill it");
    shop.batch_execute("SELECT lo_from_bytea(0, 'large'); CREATE SEQUENCE tickets").await.expect("fill it");
    (rig, serve, source)
}

async fn begin(serve: &Serve, source: &Cluster) {
    let body = json!({"from": source.dsn_with(ADMIN, ADMIN_PASSWORD, "shop"), "template": "made"});
    serve.begin(Method::POST, "/v1/tenants/acme/import", Some(body)).await;
}

/// In the midst of the rows.
async fn is_copying(rig: &Rig) {
    until("it copies", async || rig.newest(IMPORT).await.is_some_and(|(_, step, ..)| step == "Carry")).await;
    tokio::time::sleep(Duration::from_millis(700)).await;
}

async fn has_all(rig: &Rig, serve: &Serve) {
    until_tenant(serve, "acme", "active").await;
    rig.logs_in(serve, "acme").await.expect("the tenant logs in");
    let (_, connection) = serve.get("/v1/tenants/acme/connection").await;
    let client = freehold_testkit::as_tenant(&connection).await.expect("the tenant logs in");
    let count: i64 = client.query_one("SELECT count(*) FROM slow", &[]).await.expect("count").get(0);
    assert_eq!(count, 40);
}

#[tokio::test]
async fn import_that_is_cancelled_leaves_nothing_here_and_nothing_there() {
    let (rig, serve, source) = world().await;
    let since = rig.since().await;
    let before = rig.picture(&since, "acme").await.server;
    begin(&serve, &source).await;
    is_copying(&rig).await;
    assert_eq!(rig.count("SELECT count(*) FROM import_source").await, 1);
    let operation = rig.newest_id(IMPORT).await;
    let (status, body) = serve.request(Method::POST, &format!("/v1/operations/{operation}/cancel"), None).await;
    assert_eq!(status / 100, 2, "{body}");
    rig.until_operation(IMPORT, "cancelled").await;
    let tenant: Json = until_tenant(&serve, "acme", "failed").await;
    assert!(tenant["server"].is_null(), "{tenant}");
    crate::picture::same("a cancelled import left", &before, &rig.picture(&since, "acme").await.server);
    for table in ["import_source", "tenant_import", "tenant_database", "login"] {
        assert_eq!(rig.count(&format!("SELECT count(*) FROM {table}")).await, 0, "{table}");
    }
    let there = source.connect("postgres").await;
    until("nothing is open at the source", async || {
        there.query_one(OPEN, &[]).await.expect("look").get::<_, i64>(0) == 0
    })
    .await;
    // The same again, under the same id.
    begin(&serve, &source).await;
    has_all(&rig, &serve).await;
    assert_eq!(rig.count("SELECT count(*) FROM import_source").await, 0);
}

/// Kill -9 of either server while rows come over: it is seen, and begun anew once that server is back.
#[tokio::test]
async fn import_goes_on_when_a_server_that_died_is_back() {
    for is_source in [true, false] {
        let (mut rig, serve, mut source) = world().await;
        begin(&serve, &source).await;
        is_copying(&rig).await;
        let server = if is_source { &mut source } else { rig.apart.as_mut().expect("two servers") };
        server.kill();
        until("it is noticed", async || {
            rig.newest(IMPORT).await.is_some_and(|(state, _, _, code)| state != "running" && !code.is_empty())
        })
        .await;
        let (_, step, _, code) = rig.newest(IMPORT).await.expect("it was begun");
        assert_eq!(step, "Carry");
        assert!(!is_source || code == "source_unreachable", "{code}");
        let server = if is_source { &mut source } else { rig.apart.as_mut().expect("two servers") };
        server.start_again();
        over_by_itself(&rig, &serve, IMPORT, "a server died").await;
        has_all(&rig, &serve).await;
    }
}

/// A table that is made in the midst of it: the moment is another one then.
#[tokio::test]
async fn import_of_a_schema_that_changes_meanwhile_is_begun_anew() {
    let (rig, serve, source) = world().await;
    let shop = source.connect("shop").await;
    begin(&serve, &source).await;
    is_copying(&rig).await;
    shop.batch_execute("CREATE TABLE late (id int PRIMARY KEY); INSERT INTO late VALUES (1)").await.expect("change it");
    over_by_itself(&rig, &serve, IMPORT, "its schema changed").await;
    has_all(&rig, &serve).await;
    let (_, connection) = serve.get("/v1/tenants/acme/connection").await;
    let client = freehold_testkit::as_tenant(&connection).await.expect("the tenant logs in");
    let late: i32 = client.query_one("SELECT id FROM late", &[]).await.expect("it is there").get(0);
    assert_eq!(late, 1);
}
