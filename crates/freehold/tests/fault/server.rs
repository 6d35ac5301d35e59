//! A tenant's server goes away, loses its admin's password, or its admin's rights: waited for, or parked with the reason.

use std::time::Duration;

use freehold_testkit::{ADMIN_PASSWORD, Cluster};
use reqwest::Method;
use serde_json::json;

use crate::points::sample;
use crate::rig::{Rig, Wanted};
use crate::scenario::{until_stuck, until_tenant};
use crate::serving::{Serve, stops, until};

async fn rig(weak: bool) -> (Rig, Serve) {
    let rig = Rig::new(Wanted { apart: Some(Cluster::start(15)), ..Wanted::default() }).await;
    let mut serve = rig.serve("").await;
    let dsn = if weak { Some(rig.server().weak_admin().await) } else { None };
    rig.add_server(&serve, 10, dsn).await;
    rig.settled(&mut serve, &[("default", 0)]).await;
    (rig, serve)
}

async fn create(serve: &Serve, id: &str) {
    serve.begin(Method::POST, "/v1/tenants", Some(json!({"id": id}))).await;
}

/// Dies inside each step of a create: seen in operation and tenant, retried, done when it is back.
#[tokio::test]
async fn server_dying_in_mid_create_is_retried_and_visible() {
    let (mut rig, mut serve) = rig(false).await;
    serve.kill().await;
    rig.let_leases_run_out().await;
    let points = ["Create/before", "Create/roles", "Own/before", "Own/owned", "Own/made"];
    for (n, point) in sample(&points, 2).into_iter().enumerate() {
        let id = format!("dying-{n}");
        let mut serve = rig.serve(&format!("tenant.create/{point}=stop*1")).await;
        stops(&serve, point, create(&serve, &id)).await;
        rig.apart.as_mut().expect("a server of its own").kill();
        serve.signal(nix::sys::signal::Signal::SIGCONT);
        until("it is tried again", async || {
            rig.newest("tenant.create").await.is_some_and(|(state, _, attempt, _)| state == "waiting" && attempt >= 2)
        })
        .await;
        let (_, tenant) = serve.get(&format!("/v1/tenants/{id}")).await;
        assert_eq!(tenant["state"], "creating", "{tenant}");
        let operation = tenant["operation"].as_str().expect("the tenant names its operation");
        let (_, operation) = serve.get(&format!("/v1/operations/{operation}")).await;
        let code = operation["error"]["code"].as_str().unwrap_or_default().to_owned();
        assert!(["server_unreachable", "connection_terminated"].contains(&code.as_str()), "{operation}");
        rig.apart.as_mut().expect("a server of its own").start_again();
        until_tenant(&serve, &id, "active").await;
        rig.logs_in(&serve, &id).await.expect("the tenant logs in");
        serve.kill().await;
        rig.let_leases_run_out().await;
    }
}

/// One server that is down leaves the service ready, and is named.
#[tokio::test]
async fn server_down_leaves_the_service_ready_and_is_reported() {
    let (mut rig, serve) = rig(false).await;
    rig.apart.as_mut().expect("a server of its own").kill();
    for _ in 0..3 {
        let (status, body) = serve.post("/v1/servers/one/check", json!({})).await;
        assert_eq!(status, 200, "{body}");
    }
    let (status, body) = serve.get("/health/ready").await;
    assert_eq!(status, 200, "{body}");
    until("readiness names the server", async || {
        let (_, body) = serve.get("/health/ready").await;
        let checks = body["checks"].as_array().cloned().unwrap_or_default();
        checks.iter().any(|check| check["name"] == "server:one" && check["healthy"] == false)
    })
    .await;
    let (_, body) = serve.get("/v1/status").await;
    assert!(body["concerns"].to_string().contains("server_failed"), "{body}");
}

/// Stuck with the reason, not tried again and again; a retry after the password is right goes through.
#[tokio::test]
async fn server_wrong_admin_password_is_stuck_not_a_loop() {
    let (rig, serve) = rig(false).await;
    let admin = rig.server().connect("postgres").await;
    admin.batch_execute("ALTER ROLE admin PASSWORD 'somethingElse1'").await.expect("change the password");
    create(&serve, "acme").await;
    stuck_then_mended(&rig, &serve, "admin_denied", async || {
        let sql = format!("ALTER ROLE admin PASSWORD '{ADMIN_PASSWORD}'");
        admin.batch_execute(&sql).await.expect("put the password back");
    })
    .await;
}

/// The same for an admin that lost CREATEROLE: the privilege is named.
#[tokio::test]
async fn server_revoked_createrole_is_stuck_not_a_loop() {
    let (rig, serve) = rig(true).await;
    let admin = rig.server().connect("postgres").await;
    admin.batch_execute("ALTER ROLE weak_admin NOCREATEROLE").await.expect("revoke");
    create(&serve, "acme").await;
    stuck_then_mended(&rig, &serve, "privilege_missing", async || {
        admin.batch_execute("ALTER ROLE weak_admin CREATEROLE").await.expect("grant");
    })
    .await;
}

async fn stuck_then_mended<F: AsyncFnOnce()>(rig: &Rig, serve: &Serve, code: &str, mend: F) {
    let concern = until_stuck(rig, serve, "tenant.create").await;
    assert!(concern["message"].as_str().is_some_and(|text| text.contains(code)), "{concern}");
    let (_, _, attempt, _) = rig.newest("tenant.create").await.expect("there is one");
    // Two polls of a worker later it is still where it was.
    tokio::time::sleep(Duration::from_millis(2200)).await;
    let (state, _, again, found) = rig.newest("tenant.create").await.expect("there is one");
    assert_eq!((state.as_str(), again, found.as_str()), ("stuck", attempt, code));
    let (_, tenant) = serve.get("/v1/tenants/acme").await;
    assert_eq!(tenant["state"], "creating", "{tenant}");
    mend().await;
    let operation = rig.newest_id("tenant.create").await;
    let (status, body) = serve.request(Method::POST, &format!("/v1/operations/{operation}/retry"), None).await;
    assert_eq!(status, 200, "{body}");
    until_tenant(serve, "acme", "active").await;
    rig.logs_in(serve, "acme").await.expect("the tenant logs in");
}
