//! Issue 3, item 2: a server of several hosts is followed to whichever takes writes, by Freehold and by its tenants.

use std::time::Duration;

use freehold_testkit::{ADMIN, ADMIN_PASSWORD, Answer, Cluster, Plane};
use reqwest::Method;
use serde_json::{Value as Json, json};
use tokio_postgres::{Client, NoTls};

use crate::common::{SettingsFile, create, dev_with, exits, expect, problem, settings, stdout, text, until};

/// Looks often: following takes a period of health.
fn quick() -> SettingsFile {
    settings("[health]\nperiod_seconds = 1\n")
}

/// As libpq does with a URL of several hosts.
async fn by_url(connection: &Json) -> Result<Client, tokio_postgres::Error> {
    let url = connection["direct"]["url"].as_str().unwrap().replace("sslmode=verify-full&", "");
    let (client, driving) = tokio_postgres::connect(&url, NoTls).await?;
    tokio::spawn(driving);
    Ok(client)
}

async fn add(plane: &Plane, id: &str, clusters: &[&Cluster]) -> Answer {
    let hosts: Vec<String> = clusters.iter().map(|cluster| format!("127.0.0.1:{}", cluster.port())).collect();
    let dsn = format!("postgres://{ADMIN}:{ADMIN_PASSWORD}@{}/postgres?sslmode=disable", hosts.join(","));
    plane.request(Method::POST, "/v1/servers", &[("prefer", "wait=30")], Some(json!({"id": id, "dsn": dsn}))).await
}

async fn until_health(plane: &Plane, wanted: &str, when: &str) -> Json {
    until(&format!("server is {wanted} {when}"), async || {
        let seen = plane.get("/v1/servers/pair").await.2;
        if seen["health"] == wanted && (wanted != "healthy" || seen["state"] == "active") {
            return Ok(seen);
        }
        Err(format!("{} {} {}", seen["state"], seen["health"], seen["health_message"]))
    })
    .await
}

#[tokio::test]
async fn story_failover_to_a_promoted_standby_is_followed() {
    let mut primary = Cluster::start(15);
    let standby = Cluster::standby_of(&primary);
    let settings = quick();
    let plane = dev_with(&settings).stock(0).start().await;
    expect(&plane.post("/v1/servers/local-1/cordon", json!({})).await, 200);

    // The standby first: it is not taken for the primary. Alone it is refused.
    problem(&add(&plane, "alone", &[&standby]).await, 422, "prerequisite");
    let added = add(&plane, "pair", &[&standby, &primary]).await;
    let hosts = format!("127.0.0.1:{},127.0.0.1:{}", standby.port(), primary.port());
    assert_eq!(expect(&added, 201)["host"], hosts);
    assert!(added.2["dsn"].as_str().unwrap().ends_with("target_session_attrs=read-write"));

    let acme = create(&plane, "acme").await["connection"].clone();
    let direct = &acme["direct"];
    assert_eq!(
        direct["hosts"],
        json!([{"host": "127.0.0.1", "port": standby.port()}, {"host": "127.0.0.1", "port": primary.port()}])
    );
    assert!(direct["url"].as_str().unwrap().ends_with("?sslmode=disable&target_session_attrs=read-write"), "{direct}");
    let libpq = stdout(&exits(plane.cli(&["tenant", "url", "acme", "--format", "libpq"]), 0));
    assert!(libpq.contains(&format!("port={},{}", standby.port(), primary.port())), "{libpq}");
    let tenant = by_url(&acme).await.unwrap();
    tenant.batch_execute("CREATE TABLE kept (n int); INSERT INTO kept VALUES (7)").await.unwrap();
    standby.catch_up(&primary).await;

    primary.kill();
    until_health(&plane, "unhealthy", "without its primary").await;
    standby.promote().await;
    let promoted = std::time::Instant::now();
    until_health(&plane, "healthy", "with another primary").await;
    assert!(promoted.elapsed() < Duration::from_secs(20), "{:?}", promoted.elapsed());

    // The tenant as before, with the string that it has; and new ones.
    let tenant = by_url(&acme).await.unwrap();
    assert_eq!(text(&tenant, "SELECT n::text FROM kept").await, "7");
    tenant.batch_execute("INSERT INTO kept VALUES (8)").await.unwrap();
    let beta = create(&plane, "beta").await["connection"].clone();
    by_url(&beta).await.unwrap().batch_execute("CREATE TABLE t (n int)").await.unwrap();
    let diagnosis = plane.post("/v1/tenants/acme/diagnose", json!({})).await;
    let found = expect(&diagnosis, 200);
    assert_eq!(found["broken"], Json::Null, "{found:#}");
    let port = found["links"].as_array().unwrap().iter().find(|link| link["name"] == "port").unwrap();
    assert!(port["state"] == "notable" && port["message"].as_str().unwrap().contains("refused"), "{port}");

    // What comes up at the dead primary's address is another cluster: nothing is done there, and everybody hears of it.
    drop(standby);
    // Clusters of one version are copies of one `initdb` here, identifier and all.
    let mut stranger = Cluster::start(16);
    stranger.set("port", &primary.port().to_string());
    stranger.stop();
    stranger.start_again();
    let seen = until_health(&plane, "unhealthy", "with a stranger").await;
    let message = until("the swap is told", async || {
        let seen = plane.get("/v1/servers/pair").await.2;
        let message = seen["health_message"].as_str().unwrap_or_default().to_owned();
        if message.contains("another cluster answers") { Ok(message) } else { Err(message) }
    })
    .await;
    assert!(message.contains("system identifier"), "{message}: {seen}");
    let refused =
        plane.request(Method::POST, "/v1/tenants", &[("prefer", "wait=5")], Some(json!({"id": "gamma"}))).await;
    assert!(refused.0 >= 400, "{}", refused.2);
    let status = stdout(&plane.cli(&["status"]));
    assert!(status.contains("pair"), "{status}");
}
