//! Servers that come, change and go: what the scenarios about them need, and what is left on the platform.

use reqwest::Method;
use serde_json::json;

use crate::rig::Rig;
use crate::scenario::{Scenario, until_stuck};
use crate::serving::{Serve, until};

/// A pool whose servers come when somebody asks for one, and not before.
pub const POOL: &str = r#"
[stock]
per_template = 0
[placement]
minimum_free_percent = 0
[[plan]]
name = "standard"
default = true
[[plan]]
name = "big"
rank = 1
server = "dedicated"
[[server_pool]]
name = "own"
platform = "process"
postgres = 15
kind = "dedicated"
memory = "256M"
settings = { fsync = "off", full_page_writes = "off" }
"#;

pub const MANAGED: &str = "own-1";

impl Scenario {
    /// Whether its rig is the one with a pool.
    pub fn has_pool(self) -> bool {
        matches!(
            self,
            Self::Grow
                | Self::WaitForRoom
                | Self::UpdateServer
                | Self::RemoveServer
                | Self::RemoveWithData
                | Self::PurgeServer
        )
    }

    pub(crate) async fn prepare_server(self, serve: &Serve) {
        if matches!(self, Self::UpdateServer | Self::RemoveServer | Self::RemoveWithData | Self::PurgeServer) {
            let (status, body) = serve.post("/v1/server-pools/own/grow", json!({})).await;
            assert_eq!(status, 202, "{body}");
            until("the server is active", async || {
                serve.get(&format!("/v1/servers/{MANAGED}")).await.1["state"] == "active"
            })
            .await;
        }
        if self == Self::PurgeServer {
            remove(serve, MANAGED, false).await;
        }
    }

    pub(crate) fn act_on_server(self, id: &str) -> (Method, String, Option<serde_json::Value>) {
        let remove = |server: &str, purge: &str| format!("/v1/servers/{server}?confirm={server}{purge}");
        match self {
            Self::Grow => (Method::POST, "/v1/server-pools/own/grow".into(), None),
            Self::WaitForRoom => (Method::POST, "/v1/tenants".into(), Some(json!({"id": id, "plan": "big"}))),
            Self::UpdateServer => (
                Method::POST,
                format!("/v1/servers/{MANAGED}/update"),
                Some(json!({"limits": {"memory_bytes": 300 << 20}})),
            ),
            Self::RemoveServer => (Method::DELETE, remove(MANAGED, ""), None),
            Self::RemoveWithData | Self::PurgeServer => (Method::DELETE, remove(MANAGED, "&purge=true"), None),
            Self::Forget => (Method::DELETE, remove("another", ""), None),
            other => unreachable!("{other:?} is not about servers"),
        }
    }

    /// As before the first run: nothing on the platform, and no server of it ever was.
    pub(crate) async fn clean_servers(self, rig: &Rig, serve: &Serve, id: &str) {
        if serve.get(&format!("/v1/tenants/{id}")).await.0 == 200 {
            serve.purge(id).await;
        }
        let (status, server) = serve.get(&format!("/v1/servers/{MANAGED}")).await;
        let provisioned =
            rig.count("SELECT count(*) FROM server WHERE id = 'own-1' AND provisioned_at IS NOT NULL").await;
        if status == 200 && provisioned == 1 && (server["state"] != "removed" || !rig.platform().is_empty()) {
            remove(serve, MANAGED, true).await;
        }
        let sql = "DELETE FROM template_build WHERE server_id = 'own-1'; DELETE FROM server WHERE id = 'own-1'";
        rig.sql.batch_execute(sql).await.expect("forget the server");
        assert_eq!(rig.platform(), Vec::<String>::new(), "something is left on the platform");
    }
}

async fn remove(serve: &Serve, server: &str, purge: bool) {
    let path = format!("/v1/servers/{server}?confirm={server}{}", if purge { "&purge=true" } else { "" });
    let (status, body) = serve.request(Method::DELETE, &path, None).await;
    assert!(status == 200 || status == 202, "remove {server}: {status} {body}\n{}", serve.output());
    until(&format!("{server} is removed"), async || {
        let server = serve.get(&format!("/v1/servers/{server}")).await.1;
        server["state"] == "removed" && server["operation"].is_null()
    })
    .await;
}

impl Rig {
    /// Every service that the `process` platform knows, whether it is wanted, and whether its data is there.
    pub fn platform(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.platform_dir()) else { return Vec::new() };
        let mut services: Vec<String> = entries
            .flatten()
            .map(|entry| {
                let record = std::fs::read_to_string(entry.path().join("service.json")).unwrap_or_default();
                let record: serde_json::Value = serde_json::from_str(&record).unwrap_or_default();
                let data = entry.path().join("data/PG_VERSION").is_file();
                format!("service {} desired={} data={data}", entry.file_name().to_string_lossy(), record["desired"])
            })
            .collect();
        services.sort();
        services
    }
}

/// What cannot be made is taken back whole, with the reason; whoever waits gets it; and the next try goes by the same name.
#[tokio::test]
async fn server_that_cannot_be_made_leaves_nothing_and_tells_why() {
    let (rig, mut serve) = Scenario::WaitForRoom.rig().await;
    serve.kill().await;
    rig.let_leases_run_out().await;
    let mut serve = rig.serve("server.provision/Ready/before=permanent*1").await;
    let (status, body) = serve.post("/v1/tenants", json!({"id": "acme", "plan": "big"})).await;
    assert_eq!((status, body["code"].as_str()), (503, Some("no_room")), "{body}");
    let why = body["detail"].as_str().unwrap_or_default();
    assert!(why.contains("server pool own: it could not start a server: fault point"), "{why}");
    rig.settled(&mut serve, &[]).await;
    assert_eq!(rig.platform(), Vec::<String>::new());
    let server = serve.get("/v1/servers/own-1").await.1;
    assert_eq!(server["state"], "failed", "{server}");
    // Whoever comes while it rests is told at once.
    let (status, body) = serve.post("/v1/tenants", json!({"id": "beta", "plan": "big"})).await;
    assert_eq!((status, body["code"].as_str()), (503, Some("no_room")), "{body}");
    let pool = serve.get("/v1/server-pools/own").await.1;
    assert!(pool["retry_at"].is_string(), "{pool}");
    assert_eq!(rig.count("SELECT count(*) FROM audit WHERE action = 'server.provision.begin'").await, 1);
    // As if the rest were over.
    rig.sql.batch_execute("UPDATE server SET retry_at = now()").await.expect("let time pass");
    let (status, body) = serve.post("/v1/tenants", json!({"id": "acme", "plan": "big"})).await;
    assert!(status == 201 || status == 202, "{body}");
    until("the tenant is active", async || serve.get("/v1/tenants/acme").await.1["state"] == "active").await;
    rig.logs_in(&serve, "acme").await.expect("the tenant logs in");
    assert_eq!(rig.count("SELECT count(*) FROM server").await, 1, "the same name");
}

/// Something else lies where its server would: another name is taken for the next try, also when a person ends the undo.
#[tokio::test]
async fn server_whose_name_is_somebody_elses_gives_it_up_even_when_it_is_resolved_by_hand() {
    let (rig, mut serve) = Scenario::Grow.rig().await;
    serve.kill().await;
    rig.let_leases_run_out().await;
    let precious = rig.platform_dir().join("own-1/precious");
    std::fs::create_dir_all(precious.parent().expect("it has one")).expect("make a directory");
    std::fs::write(&precious, "somebody else's").expect("write a file");
    let serve = rig.serve("server.provision/Remove/before=permanent*1").await;
    let (status, body) = serve.post("/v1/server-pools/own/grow", json!({})).await;
    assert_eq!(status, 202, "{body}");
    rig.until_operation("server.provision", "stuck").await;
    let operation = rig.newest_id("server.provision").await;
    let body = json!({"as": "undone", "reason": "nothing of it is there"});
    let (status, body) = serve.post(&format!("/v1/operations/{operation}/resolve"), body).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(serve.get(&format!("/v1/servers/{MANAGED}")).await.1["state"], "removed");
    let (status, body) = serve.post("/v1/server-pools/own/grow", json!({})).await;
    assert_eq!(status, 202, "{body}");
    until("another server is active", async || serve.get("/v1/servers/own-2").await.1["state"] == "active").await;
    assert!(precious.exists());
}

/// A managed server that failed long ago and has no tenants is removed; its data is kept until somebody purges it.
#[tokio::test]
async fn server_that_failed_long_ago_is_removed_and_its_data_kept() {
    let (rig, serve) = Scenario::UpdateServer.rig().await;
    Scenario::UpdateServer.prepare_server(&serve).await;
    let sql = "UPDATE server SET state = 'failed', state_before = 'active' WHERE id = 'own-1';
        UPDATE server SET state_since = now() - interval '25 hours' WHERE id = 'own-1';
        UPDATE loop_lease SET next_run_at = now();";
    rig.sql.batch_execute(sql).await.expect("let it fail a day ago");
    until("it is removed", async || serve.get("/v1/servers/own-1").await.1["state"] == "removed").await;
    assert_eq!(rig.platform(), ["service own-1 desired=\"removed\" data=true"]);
    let (status, body) = serve.get("/v1/servers").await;
    assert_eq!((status, body["items"].as_array().map(Vec::len)), (200, Some(0)), "{body}");
    let (_, body) = serve.get("/v1/servers?state=removed").await;
    assert_eq!(body["items"][0]["id"], "own-1", "{body}");
    remove(&serve, MANAGED, true).await;
    assert_eq!(rig.platform(), Vec::<String>::new());
}

/// What waiting does not mend is not waited for, also on the way back: a person is told.
#[tokio::test]
async fn server_that_lets_nobody_in_after_an_update_is_stuck_and_says_so() {
    let (rig, mut serve) = Scenario::UpdateServer.rig().await;
    Scenario::UpdateServer.prepare_server(&serve).await;
    let sql = "UPDATE server SET dsn_sealed = overlay(dsn_sealed PLACING '\\xff'::bytea FROM 1) WHERE id = 'own-1'";
    rig.sql.batch_execute(sql).await.expect("spoil its secret");
    let (method, path, body) = Scenario::UpdateServer.act_on_server("");
    serve.begin(method, &path, body).await;
    let concern = until_stuck(&rig, &serve, "server.update").await;
    assert!(concern.to_string().contains("sealed_secret_unreadable"), "{concern}");
    let newest = rig.newest("server.update").await.expect("there is one");
    assert_eq!((newest.1.as_str(), newest.3.as_str()), ("Recover", "sealed_secret_unreadable"));
    // Mended and tried again, it is what it was.
    let sql = "UPDATE server SET dsn_sealed = overlay(dsn_sealed PLACING '\\x01'::bytea FROM 1) WHERE id = 'own-1'";
    rig.sql.batch_execute(sql).await.expect("mend its secret");
    let operation = rig.newest_id("server.update").await;
    let (status, body) = serve.post(&format!("/v1/operations/{operation}/retry"), json!({})).await;
    assert_eq!(status, 200, "{body}");
    rig.settled(&mut serve, &[]).await;
    let server = serve.get("/v1/servers/own-1").await.1;
    assert_eq!(
        (&server["state"], &server["limits"]["memory_bytes"]),
        (&json!("active"), &json!(256 << 20)),
        "{server}"
    );
}

/// What is there for nobody stays Freehold's where the removal comes to nothing: no ghosts.
#[tokio::test]
async fn server_whose_removal_comes_to_nothing_keeps_what_was_made_there() {
    let (rig, mut serve) = Scenario::RemoveServer.rig().await;
    Scenario::RemoveServer.prepare_server(&serve).await;
    // A tenant leaves a built template behind.
    let (status, body) = serve.post("/v1/tenants", json!({"id": "acme", "plan": "big"})).await;
    assert_eq!(status, 201, "{body}");
    serve.purge("acme").await;
    let there = async || {
        rig.count("SELECT count(*) FROM template_build WHERE server_id = 'own-1'").await
            + rig.count("SELECT count(*) FROM visitor WHERE server_id = 'own-1'").await
    };
    assert_eq!(there().await, 2);
    serve.kill().await;
    rig.let_leases_run_out().await;
    let mut serve = rig.serve("server.remove/Service/before=permanent*1").await;
    let (method, path, body) = Scenario::RemoveServer.act_on_server("");
    serve.begin(method, &path, body).await;
    rig.until_operation("server.remove", "failed").await;
    rig.settled(&mut serve, &[]).await;
    assert_eq!(serve.get("/v1/servers/own-1").await.1["state"], "active");
    assert_eq!(there().await, 2);
    remove(&serve, MANAGED, false).await;
    assert_eq!(there().await, 0);
}
