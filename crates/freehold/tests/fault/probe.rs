//! A database for the stock at which no login was seen to work is not handed to anybody, and why is told.

use freehold_testkit::{ADMIN, Cluster};
use reqwest::Method;
use serde_json::{Value as Json, json};

use crate::rig::{Rig, SERVER, Wanted};
use crate::scenario::{template, until_stuck};
use crate::serving::{Serve, until};
use crate::way::Way;

/// What is made for the stock is looked at by nobody else.
const SETTINGS: &str = "[stock]\nper_template = 0\n[stock.templates]\nkept = 1\n[health]\nperiod_seconds = 3600\n";
const KIND: &str = "stock.build";

/// A server whose tenants come by a way that the test can bend; its admin comes by another.
async fn registered() -> (Rig, Serve, Way) {
    let rig = Rig::new(Wanted { settings: SETTINGS, ..Wanted::default() }).await;
    let serve = rig.serve("").await;
    let way = Way::to(rig.server().port()).await;
    let address = format!("127.0.0.1:{}", way.port);
    let body = json!({"id": SERVER, "dsn": rig.server().dsn(ADMIN), "tenant_address": address, "capacity": 10});
    let (status, body) = serve.post("/v1/servers", body).await;
    assert_eq!(status, 201, "{body}\n{}", serve.output());
    (rig, serve, way)
}

async fn add_template(serve: &Serve) {
    let (status, body) = serve.post("/v1/templates", template("kept", 0)).await;
    assert_eq!(status, 201, "{body}");
}

async fn error(serve: &Serve, rig: &Rig) -> Json {
    let (_, operation) = serve.get(&format!("/v1/operations/{}", rig.newest_id(KIND).await)).await;
    assert_eq!((&operation["kind"], &operation["step"]), (&json!(KIND), &json!("Own")), "{operation}");
    operation["error"].clone()
}

async fn ready(rig: &Rig) -> i64 {
    rig.count("SELECT count(*) FROM tenant_database WHERE state = 'ready'").await
}

async fn becomes_ready(rig: &Rig) {
    until("it is ready", async || ready(rig).await == 1).await;
}

/// Nobody listens where tenants would connect: it is tried again and again, and is ready once somebody does.
#[tokio::test]
async fn probe_of_a_closed_port_keeps_stock_from_being_ready() {
    let (rig, mut serve, way) = registered().await;
    way.lead(Some(1));
    add_template(&serve).await;
    until("it was probed twice", async || {
        rig.newest(KIND).await.is_some_and(|(_, step, attempt, code)| step == "Own" && attempt >= 2 && !code.is_empty())
    })
    .await;
    let told = error(&serve, &rig).await;
    assert_eq!(told["code"], "server_unreachable", "{told}");
    let message = told["message"].as_str().unwrap_or_default();
    assert!(message.contains("log in as the tenant would"), "{told}");
    let why = "failed [0-9]+ times \\(server_unreachable\\): log in as the tenant would";
    let why = regex::Regex::new(why).expect("a regex");
    until("status says why", async || {
        let concerns = serve.get("/v1/status").await.1["concerns"].to_string();
        concerns.contains("stock_empty") && why.is_match(&concerns)
    })
    .await;
    assert_eq!(ready(&rig).await, 0);
    way.lead(Some(rig.server().port()));
    // As if the pause before the next try were over.
    serve.kill().await;
    rig.let_leases_run_out().await;
    let mut serve = rig.serve("").await;
    becomes_ready(&rig).await;
    rig.settled(&mut serve, &[("kept", 1)]).await;
}

/// Another server answers there, which does not know the login: a person has to look, and is told.
#[tokio::test]
async fn probe_at_another_server_is_for_a_person() {
    let (rig, mut serve, way) = registered().await;
    let stranger = Cluster::start(16);
    way.lead(Some(stranger.port()));
    add_template(&serve).await;
    let concern = until_stuck(&rig, &serve, KIND).await;
    assert!(concern["message"].as_str().is_some_and(|text| text.contains("log in as the tenant would")), "{concern}");
    assert_eq!(error(&serve, &rig).await["code"], "admin_denied");
    assert_eq!(ready(&rig).await, 0);
    way.lead(Some(rig.server().port()));
    let retry = format!("/v1/operations/{}/retry", rig.newest_id(KIND).await);
    let (status, body) = serve.request(Method::POST, &retry, None).await;
    assert_eq!(status, 200, "{body}");
    becomes_ready(&rig).await;
    rig.settled(&mut serve, &[("kept", 1)]).await;
}
