//! Servers that go away, answer wrongly, or are not the servers they were; what health makes of them, and what it leaves.

use freehold_testkit::{ADMIN, Cluster};
use reqwest::Method;
use serde_json::{Value as Json, json};

use crate::rig::{Rig, Wanted};
use crate::serving::{Serve, until};
use crate::way::Way;

/// Looks come when they are asked for, not in between.
const SELDOM: &str = "[stock]\nper_template = 0\n[health]\nperiod_seconds = 3600\ntimeout_seconds = 2\n";
const OFTEN: &str = "[stock]\nper_template = 0\n[health]\nperiod_seconds = 1\ntimeout_seconds = 2\n";

async fn rig(settings: &'static str, cluster: Cluster) -> (Rig, Serve) {
    let rig = Rig::new(Wanted { apart: Some(cluster), settings, ..Wanted::default() }).await;
    let serve = rig.serve("").await;
    (rig, serve)
}

/// Registered by a way that the test can bend.
async fn registered(settings: &'static str) -> (Rig, Serve, Way) {
    let (rig, serve) = rig(settings, Cluster::start(15)).await;
    let way = Way::to(rig.server().port()).await;
    rig.add_server(&serve, 10, Some(way.dsn(&rig.server().dsn(ADMIN)))).await;
    (rig, serve, way)
}

async fn check(serve: &Serve) -> Json {
    let (status, body) = serve.post("/v1/servers/one/check", json!({})).await;
    assert_eq!(status, 200, "{body}\n{}", serve.output());
    body
}

fn told(server: &Json) -> (&str, &str, &str) {
    let text = |name: &str| server[name].as_str().unwrap_or_default();
    (text("state"), text("health"), text("health_code"))
}

async fn events(rig: &Rig) -> Vec<String> {
    let sql = "SELECT action || ' ' || outcome || coalesce(' ' || reason, '') FROM audit WHERE action IN ('server.fail', 'server.recover') ORDER BY seq";
    let rows = rig.sql.query(sql, &[]).await.expect("read the audit");
    rows.iter().map(|row| row.get(0)).collect()
}

/// Without anybody asking: not chosen from the third look on, and back by itself.
#[tokio::test]
async fn health_fails_a_server_that_died_and_brings_it_back() {
    let (mut rig, serve) = rig(OFTEN, Cluster::start(15)).await;
    rig.add_server(&serve, 10, None).await;
    let state = async || serve.get("/v1/servers/one").await.1;
    until("it is looked at", async || !state().await["observed"].is_null()).await;
    let well = state().await;
    assert_eq!(told(&well), ("active", "healthy", ""), "{well}");
    rig.apart.as_mut().expect("a server of its own").kill();
    until("it failed", async || state().await["state"] == "failed").await;
    let failed = state().await;
    assert_eq!(told(&failed), ("failed", "unhealthy", "server_unreachable"), "{failed}");
    assert_eq!(failed["observed"], state().await["observed"], "what was last seen stays");
    let (status, body) = serve.post("/v1/tenants", json!({"id": "acme"})).await;
    assert_eq!((status, body["code"].as_str()), (503, Some("no_room")), "{body}");
    assert!(body["detail"].as_str().is_some_and(|detail| detail.contains("it is failed")), "{body}");
    // Registering it again does not make a new server of it.
    let again = json!({"id": "one", "dsn": rig.server().dsn(ADMIN), "capacity": 10});
    let (status, body) = serve.post("/v1/servers", again).await;
    assert_eq!((status, body["state"].as_str()), (200, Some("failed")), "{body}");
    let (_, status) = serve.get("/v1/status").await;
    assert!(status["concerns"].to_string().contains("server_failed"), "{status}");
    rig.apart.as_mut().expect("a server of its own").start_again();
    until("it is back", async || state().await["state"] == "active").await;
    assert_eq!(told(&state().await), ("active", "healthy", ""));
    let (status, body) = serve.post("/v1/tenants", json!({"id": "acme"})).await;
    assert_eq!(status, 201, "{body}");
    rig.logs_in(&serve, "acme").await.expect("the tenant logs in");
    assert_eq!(events(&rig).await, ["server.fail failure server_unreachable", "server.recover success"]);
}

/// One or two missed looks are no reason to give up a server; and a server that an operator took out stays out.
#[tokio::test]
async fn health_degrades_first_and_leaves_other_states_alone() {
    let (_rig, serve, way) = registered(SELDOM).await;
    way.lead(None);
    for expected in ["degraded", "degraded"] {
        assert_eq!(told(&check(&serve).await), ("active", expected, "server_unreachable"));
    }
    way.lead(Some(_rig.server().port()));
    assert_eq!(told(&check(&serve).await), ("active", "healthy", ""));
    assert_eq!(serve.post("/v1/servers/one/cordon", json!({})).await.0, 200);
    way.lead(None);
    for expected in ["degraded", "degraded", "unhealthy", "unhealthy"] {
        assert_eq!(told(&check(&serve).await), ("cordoned", expected, "server_unreachable"));
    }
    way.lead(Some(_rig.server().port()));
    assert_eq!(told(&check(&serve).await), ("cordoned", "healthy", ""));
}

/// Another cluster at the same address, with the same admin and password: out at once, and nothing is written there.
#[tokio::test]
async fn health_refuses_another_cluster_at_the_address() {
    let (rig, serve, way) = registered(SELDOM).await;
    let (status, body) = serve.post("/v1/tenants", json!({"id": "acme"})).await;
    assert_eq!(status, 201, "{body}");
    // Clusters of one version are copies here, with one identity.
    let other = Cluster::builder(16).log_statements().start();
    way.lead(Some(other.port()));
    let swapped = check(&serve).await;
    assert_eq!(told(&swapped), ("failed", "unhealthy", "cluster_swapped"), "{swapped}");
    assert!(swapped["health_message"].as_str().is_some_and(|text| text.contains("system identifier")), "{swapped}");
    let (_, status) = serve.get("/v1/status").await;
    let concern =
        status["concerns"].as_array().into_iter().flatten().find(|concern| concern["code"] == "cluster_swapped");
    assert!(concern.is_some_and(|concern| concern["severity"] == "high"), "{status}");
    let (status, body) = serve.post("/v1/tenants", json!({"id": "beta"})).await;
    assert_eq!((status, body["code"].as_str()), (503, Some("no_room")), "{body}");
    // Work that was begun before waits, and does nothing there.
    serve.begin(Method::POST, "/v1/tenants/acme/suspend", Some(json!({}))).await;
    until("the suspend is parked", async || {
        rig.newest("tenant.suspend").await.is_some_and(|newest| newest.0 == "stuck")
    })
    .await;
    check(&serve).await;
    let wrote =
        regex::Regex::new(r"(?i)(statement|execute [^:]*): *(create|alter|drop|grant|revoke|insert|update|delete)")
            .expect("a pattern");
    let log = other.log();
    assert!(log.contains("pg_control_system"), "nobody came:\n{log}");
    assert!(!wrote.is_match(&log), "written on a foreign cluster: {:?}", wrote.find(&log));
    way.lead(Some(rig.server().port()));
    assert_eq!(told(&check(&serve).await), ("active", "healthy", ""));
}

/// A standby answers and takes no writes.
#[tokio::test]
async fn health_refuses_a_standby() {
    let (mut rig, serve, _way) = registered(SELDOM).await;
    let signal = rig.server().data().join("standby.signal");
    let apart = rig.apart.as_mut().expect("a server of its own");
    apart.stop();
    std::fs::write(&signal, "").expect("make it a standby");
    apart.start_again();
    let standby = check(&serve).await;
    assert_eq!(told(&standby), ("failed", "unhealthy", "standby"), "{standby}");
    let apart = rig.apart.as_mut().expect("a server of its own");
    apart.stop();
    std::fs::remove_file(&signal).expect("make it a primary");
    apart.start_again();
    assert_eq!(told(&check(&serve).await), ("active", "healthy", ""));
}

/// The admin gets in, tenants do not, or the other way round: said as it is.
#[tokio::test]
async fn health_tells_who_gets_in_and_who_does_not() {
    let (rig, serve) = rig(SELDOM, Cluster::start(15)).await;
    let way = Way::to(rig.server().port()).await;
    let body = json!({"id": "one", "dsn": rig.server().dsn(ADMIN), "capacity": 10, "tenant_address": format!("127.0.0.1:{}", way.port)});
    let (status, body) = serve.post("/v1/servers", body).await;
    assert_eq!(status, 201, "{body}\n{}", serve.output());
    way.lead(None);
    let shut = check(&serve).await;
    assert_eq!(told(&shut), ("active", "degraded", "tenants_shut_out"), "{shut}");
    assert!(shut["observed"]["connections"].is_number(), "what the admin saw is kept: {shut}");
    way.lead(Some(rig.server().port()));
    assert_eq!(told(&check(&serve).await), ("active", "healthy", ""));

    let admin = rig.server().connect("postgres").await;
    admin.batch_execute("ALTER ROLE admin PASSWORD 'somethingElse1'").await.expect("change the password");
    let denied = check(&serve).await;
    assert_eq!(told(&denied), ("active", "degraded", "admin_denied"), "{denied}");
    assert!(denied["health_message"].as_str().is_some_and(|text| text.starts_with("tenants get in")), "{denied}");

    // Where tenants connect, there is another cluster.
    let sql = format!("ALTER ROLE admin PASSWORD '{}'", freehold_testkit::ADMIN_PASSWORD);
    admin.batch_execute(&sql).await.expect("put the password back");
    let other = Cluster::start(16);
    let visitor = "SELECT rolname::text, rolpassword FROM pg_authid WHERE rolname LIKE 'fh_visitor_%'";
    let row = admin.query_one(visitor, &[]).await.expect("health has a login");
    let sql = format!("CREATE ROLE {} LOGIN PASSWORD '{}'", row.get::<_, String>(0), row.get::<_, String>(1));
    other.connect("postgres").await.batch_execute(&sql).await.expect("copy the login");
    way.lead(Some(other.port()));
    let swapped = check(&serve).await;
    assert_eq!(told(&swapped), ("failed", "unhealthy", "cluster_swapped"), "{swapped}");
}

/// Its own login, dropped or bent: made again at the next look, and nobody hears of it.
#[tokio::test]
async fn health_mends_its_own_login() {
    let (rig, serve, _way) = registered(SELDOM).await;
    let admin = rig.server().connect("postgres").await;
    let name: String = admin
        .query_one("SELECT rolname::text FROM pg_roles WHERE rolname LIKE 'fh_visitor_%'", &[])
        .await
        .expect("registration made it")
        .get(0);
    for bend in ["ALTER ROLE {} PASSWORD NULL", "ALTER ROLE {} NOLOGIN", "DROP OWNED BY {}; DROP ROLE {}"] {
        admin.batch_execute(&bend.replace("{}", &name)).await.expect(bend);
        let server = check(&serve).await;
        assert_eq!(told(&server), ("active", "healthy", ""), "after {bend}: {server}");
    }
    let only = "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'fh_visitor_%'";
    assert_eq!(admin.query_one(only, &[]).await.expect("count").get::<_, i64>(0), 1);
}

/// A server that never was one is not brought to life by answering.
#[tokio::test]
async fn health_does_not_resurrect_what_could_not_be_registered() {
    let (rig, serve) = rig(OFTEN, Cluster::start(15)).await;
    let wrong = rig.server().dsn_with(ADMIN, "wrong", "postgres");
    let (status, body) = serve.post("/v1/servers", json!({"id": "one", "dsn": wrong})).await;
    assert_eq!(status, 422, "{body}");
    let admin = rig.server().connect("postgres").await;
    admin.batch_execute("ALTER ROLE admin PASSWORD 'wrong'").await.expect("now the password is right");
    let sweeps = "SELECT count(*) FROM loop_lease WHERE name = 'health' AND started_at > clock_timestamp() - interval '1 second'";
    for _ in 0..3 {
        until("a sweep", async || rig.count(sweeps).await == 1).await;
        tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    }
    let (_, server) = serve.get("/v1/servers/one").await;
    assert_eq!((server["state"].as_str(), &server["observed"]), (Some("failed"), &Json::Null), "{server}");
    check(&serve).await;
    assert_eq!(serve.get("/v1/servers/one").await.1["state"], "failed");
}

/// Connections, old transactions, clocks: found where they are, and gone when they are.
#[tokio::test]
async fn health_finds_what_a_person_should_know() {
    let library = ["x86_64-linux-gnu", "aarch64-linux-gnu"]
        .map(|arch| format!("/usr/lib/{arch}/faketime/libfaketimeMT.so.1"))
        .into_iter()
        .find(|path| std::path::Path::new(path).exists());
    let library = library.expect("libfaketime is not on this machine; run: apt-get install faketime");
    let cluster =
        Cluster::builder(15).setting("max_connections", "103").env("LD_PRELOAD", &library).env("FAKETIME", "+60s");
    let (rig, serve) = rig(SELDOM, cluster.env("FAKETIME_DONT_FAKE_MONOTONIC", "1").start()).await;
    rig.add_server(&serve, 10, None).await;
    let codes = async || {
        let server = check(&serve).await;
        let mut codes: Vec<String> = Vec::new();
        for finding in server["findings"].as_array().into_iter().flatten() {
            if ["connections_near_max", "clock_skew", "old_transaction"].iter().any(|code| finding["code"] == *code) {
                codes.push(format!(
                    "{} {}",
                    finding["code"].as_str().unwrap_or_default(),
                    finding["severity"].as_str().unwrap_or_default()
                ));
            }
        }
        (codes, server)
    };
    assert_eq!(codes().await.0, ["clock_skew medium"]);
    let mut held = Vec::new();
    while held.len() < 84 {
        held.push(rig.server().connect("postgres").await);
    }
    let (found, server) = codes().await;
    assert_eq!(found, ["connections_near_max medium", "clock_skew medium"], "{server}");
    let observed = &server["observed"];
    assert_eq!(observed["connections_max"].as_u64(), Some(100), "{observed}");
    assert!(observed["databases"].as_u64().is_some_and(|count| count >= 3), "{observed}");
    assert!(
        observed["xid_age"].as_u64().is_some_and(|age| age > 0) && observed["data_free_bytes"].is_u64(),
        "{observed}"
    );
    drop(held);
    until("they are gone", async || codes().await.0 == ["clock_skew medium"]).await;
}

/// An admin that does not own the database it comes in by cannot let health's login into it: said, and no harm done.
#[tokio::test]
async fn health_of_a_weak_admins_server() {
    for version in [15, 18] {
        let (rig, serve) = rig(SELDOM, Cluster::start(version)).await;
        let dsn = rig.server().weak_admin().await;
        let admin = rig.server().connect("postgres").await;
        let close = "REVOKE CONNECT ON DATABASE postgres FROM PUBLIC; GRANT CONNECT ON DATABASE postgres TO weak_admin";
        admin.batch_execute(close).await.expect("close it");
        rig.add_server(&serve, 10, Some(dsn)).await;
        let server = check(&serve).await;
        assert_eq!(told(&server), ("active", "healthy", ""), "{server}");
        let findings = server["findings"].to_string();
        assert!(findings.contains("visitor_not_admitted"), "{findings}");
        let observed = &server["observed"];
        assert!(observed["connections_max"].is_u64() && observed["data_free_bytes"].is_null(), "{observed}");
        let name = "SELECT rolname::text FROM pg_roles WHERE rolname LIKE 'fh_visitor_%'";
        let name: String = admin.query_one(name, &[]).await.expect("there is one").get(0);
        admin.batch_execute(&format!("GRANT CONNECT ON DATABASE postgres TO {name}")).await.expect("let it in");
        let server = check(&serve).await;
        assert!(!server["findings"].to_string().contains("visitor_not_admitted"), "{server}");
    }
}
