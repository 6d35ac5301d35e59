//! What a create costs everybody else in its pooler: a reload where its names are made of a pattern, nothing from plain stock.

use std::time::Duration;

use freehold_testkit::{Plane, as_tenant};
use reqwest::Method;
use serde_json::{Value as Json, json};

use crate::story::{ask, dev, pooler, until};

/// Another reload would have followed by then: there is one a second at most, and what was told is reported at once.
const SETTLED: Duration = Duration::from_secs(3);
const NAMING: &str = "[naming]\nkind = \"pattern\"\ndatabase = \"app_{tenant}\"\nlogin = \"login_{tenant}\"\n";

pub async fn names_by_pattern_reload_once_and_plain_stock_never(version: &'static str) {
    let plane = dev(version, 2).await;
    let body = json!({"name": "named", "files": {"template.toml": NAMING}});
    let (status, _, added) = plane.post("/v1/templates", body).await;
    assert_eq!(status, 201, "{added}");
    until_in_stock(&plane, 4).await;
    // What is taken is not made again: a reload that follows is the create's own.
    assert_eq!(plane.post("/v1/freezes", json!({"target": "stock"})).await.0, 201);
    let before = until_quiet(&plane).await;

    for id in ["plain", "another"] {
        let made = create(&plane, id, "default").await;
        answers(&made).await;
    }
    let after = until_quiet(&plane).await;
    assert_eq!((&after["generation"], &after["reloads"]), (&before["generation"], &before["reloads"]), "{after}");

    for (count, id) in [(1, "acme"), (2, "globex")] {
        let made = create(&plane, id, "named").await;
        assert_eq!(made["pooled"]["database"], format!("app_{id}"));
        answers(&made).await;
        let after = until_quiet(&plane).await;
        assert_eq!(reloads(&after), reloads(&before) + count, "{before}\n{after}");
    }
}

async fn until_in_stock(plane: &Plane, wanted: u64) {
    until("stock is there, and in the pooler", async || {
        let status = plane.get("/v1/status").await.2;
        let ready: u64 = status["stock"].as_array().unwrap().iter().filter_map(|stock| stock["ready"].as_u64()).sum();
        if ready == wanted { Ok(()) } else { Err(status["stock"].to_string()) }
    })
    .await;
}

/// Everything that is wanted is in force, and for as long as another reload would take nothing else comes.
async fn until_quiet(plane: &Plane) -> Json {
    let mut seen = Json::Null;
    loop {
        until("the pooler is healthy", async || match pooler(plane).await {
            pooler if pooler["health"] == "healthy" => Ok(()),
            other => Err(other.to_string()),
        })
        .await;
        let now = pooler(plane).await;
        if (&now["generation"], &now["reloads"]) == (&seen["generation"], &seen["reloads"]) {
            return now;
        }
        seen = now;
        tokio::time::sleep(SETTLED).await;
    }
}

fn reloads(pooler: &Json) -> u64 {
    pooler["reloads"].as_u64().expect("the pooler counts its reloads")
}

/// In its pooler when the answer comes.
async fn create(plane: &Plane, id: &str, template: &str) -> Json {
    let headers = [("prefer", "wait=60")];
    let body = json!({"id": id, "template": template});
    let (status, _, made) = plane.request(Method::POST, "/v1/tenants", &headers, Some(body)).await;
    assert_eq!((status, &made["connection"]["pooled"]["ready"]), (201, &json!(true)), "{}", made["state"]);
    made["connection"].clone()
}

async fn answers(made: &Json) {
    let client = as_tenant(made).await.unwrap();
    assert_eq!(ask(&client, "SELECT 'in'").await.unwrap(), "in");
}
