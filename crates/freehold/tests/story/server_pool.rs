//! Issue 3, items 2, 3 and 5: servers that come by themselves, however many wait for them; on the `process` platform.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use freehold_testkit::{Directory, Plane, Ports};
use futures::future::join_all;
use serde_json::{Value as Json, json};

use crate::common::{SettingsFile, dev_with, expect, log_in, problem, settings, until, walk};

/// Where a plane's pools put their servers. Ends what runs there.
pub struct Place {
    directory: Directory,
    pub ports: Ports,
}

impl Place {
    pub fn new() -> Self {
        Self { directory: Directory::new(), ports: Ports::reserve() }
    }

    /// Where a server's data is.
    pub fn data(&self, server: &str) -> PathBuf {
        self.directory.path().join("s").join(server).join("data")
    }

    /// The settings of a plane with this platform, and more.
    pub fn settings(&self, more: &str) -> SettingsFile {
        settings(&format!(
            "[stock]\nper_template = 0\n[placement]\nminimum_free_percent = 0\n[platform.process]\ndata_dir = \"{}\"\nports = \"{}-{}\"\n{more}",
            self.directory.path().join("s").display(),
            self.ports.first,
            self.ports.last
        ))
    }
}

/// A pool of small servers.
pub fn pool(name: &str, more: &str) -> String {
    format!(
        "[[server_pool]]\nname = \"{name}\"\nplatform = \"process\"\npostgres = 15\nmemory = \"256M\"\n\
         settings = {{ fsync = \"off\", full_page_writes = \"off\" }}\n{more}\n"
    )
}

/// The dev's own server is out of the way: tenants have nowhere to go but pools.
async fn only_pools(plane: &Plane) {
    expect(&plane.post("/v1/servers/local-1/cordon", json!({})).await, 200);
}

async fn servers(plane: &Plane) -> Vec<Json> {
    let all = walk(plane, "/v1/servers", 50).await;
    all.into_iter().filter(|server| server["id"] != "local-1").collect()
}

async fn begun(plane: &Plane) -> usize {
    walk(plane, "/v1/audit?action=server.provision.begin", 100).await.len()
}

async fn all_are_active(plane: &Plane, count: usize) {
    until("tenants", async || {
        let tenants = walk(plane, "/v1/tenants", 200).await;
        let active = tenants.iter().filter(|tenant| tenant["state"] == "active").count();
        if active == count {
            return Ok(());
        }
        let other: Vec<&Json> = tenants.iter().filter(|tenant| tenant["state"] != "active").take(2).collect();
        Err(format!("{active} of {count} are active; {other:?}; servers {:?}", servers(plane).await))
    })
    .await;
}

#[tokio::test]
async fn story_fifty_callers_for_a_pool_without_a_server_get_one_server() {
    let place = Place::new();
    let file = place.settings(&pool("eu", "capacity = 50\nminimum_spare = 0\nregion = \"eu-west\""));
    // Slow enough that all of them come before it is there.
    let plane = dev_with(&file).env("FREEHOLD_FAULTS", "server.provision/Secrets/before=sleep:4000*1").start().await;
    only_pools(&plane).await;
    let answers = join_all((0..50).map(|n| {
        let plane = &plane;
        async move {
            let headers = [("prefer", "wait=0")];
            let body = json!({"id": format!("t-{n}"), "region": "eu-west"});
            plane.request(reqwest::Method::POST, "/v1/tenants", &headers, Some(body)).await
        }
    }))
    .await;
    let first = expect(&answers[0], 202);
    assert_eq!(first["kind"], "tenant.create");
    for answer in &answers {
        expect(answer, 202);
    }
    // What they wait for is seen wherever somebody looks.
    until("the reason is told", async || {
        let tenant = plane.get("/v1/tenants/t-7").await;
        let operation = tenant.2["operation"].as_str().unwrap_or_default().to_owned();
        let operation = plane.get(&format!("/v1/operations/{operation}")).await;
        let told = tenant.2["state_reason"].as_str().is_some_and(|text| text.contains("server pool eu"));
        let said = operation.2["error"]["code"] == "waiting_for_server" && operation.2["step"] == "Place";
        if told && said { Ok(()) } else { Err(format!("{} {}", tenant.2, operation.2)) }
    })
    .await;
    let pool = plane.get("/v1/server-pools/eu").await;
    assert_eq!(expect(&pool, 200)["waiting"], 50, "{}", pool.2);
    assert_eq!(pool.2["growing"], "eu-1");
    all_are_active(&plane, 50).await;
    assert_eq!(begun(&plane).await, 1, "exactly one server was started");
    let found = servers(&plane).await;
    assert_eq!(found.len(), 1, "{found:?}");
    let server = &found[0];
    for (field, value) in [("id", "eu-1"), ("pool", "eu"), ("platform", "process"), ("sslmode", "verify-full")] {
        assert_eq!(server[field], value, "{server}");
    }
    assert_eq!((server["tenants"].as_u64(), server["has_room"].as_bool()), (Some(50), Some(false)), "{server}");
    assert_eq!(server["limits"]["memory_bytes"], 256 << 20);
    let made = plane.post("/v1/tenants", json!({"id": "t-7", "region": "eu-west"})).await;
    let connection = plane.get("/v1/tenants/t-7/connection").await;
    assert_eq!(expect(&made, 200)["server"], "eu-1");
    assert!(expect(&connection, 200)["ca_certificate"].as_str().is_some_and(|pem| pem.contains("BEGIN CERTIFICATE")));
    log_in(&connection.2).await;
}

#[tokio::test]
async fn story_the_last_slots_of_a_pool_are_given_once() {
    let place = Place::new();
    let file = place.settings(&pool("eu", "capacity = 3\nminimum_spare = 0\nmaximum_servers = 1"));
    let plane = dev_with(&file).start().await;
    only_pools(&plane).await;
    let most = Arc::new(AtomicI64::new(0));
    let answers = join_all((0..50).map(|n| {
        let plane = &plane;
        async move { plane.post("/v1/tenants", json!({"id": format!("t-{n}")})).await }
    }))
    .await;
    for answer in answers.iter().filter(|(status, _, _)| *status != 201 && *status != 202) {
        let body = problem(answer, 503, "no_room");
        let why = body["detail"].as_str().unwrap_or_default();
        assert!(why.contains("server pool eu"), "{why}");
    }
    until("nobody waits", async || {
        let states: Vec<String> =
            walk(&plane, "/v1/tenants", 200).await.iter().map(|t| t["state"].as_str().unwrap().to_owned()).collect();
        let servers = servers(&plane).await;
        let used = servers.iter().filter_map(|server| server["tenants"].as_i64()).max().unwrap_or(0);
        most.fetch_max(used, Ordering::Relaxed);
        if states.iter().any(|state| state == "creating") { Err(format!("{states:?}")) } else { Ok(()) }
    })
    .await;
    let active = walk(&plane, "/v1/tenants?state=active", 200).await;
    assert_eq!(active.len(), 3, "as many as there are slots");
    assert!(most.load(Ordering::Relaxed) <= 3);
    let found = servers(&plane).await;
    assert_eq!((found.len(), found[0]["tenants"].as_u64()), (1, Some(3)), "{found:?}");
    let refused = plane.post("/v1/tenants", json!({"id": "late"})).await;
    let why = problem(&refused, 503, "no_room")["detail"].as_str().unwrap().to_owned();
    assert!(why.contains("eu-1: all 3 slots are taken") && why.contains("it has its 1 servers"), "{why}");
    let explained = plane.post("/v1/placements/explain", json!({})).await;
    let explained = expect(&explained, 200);
    assert_eq!(explained["choice"]["kind"], "none", "{explained}");
    assert!(explained["pools"][0]["obstacles"][0].as_str().unwrap().contains("all slots are taken"), "{explained}");
}

#[tokio::test]
async fn story_a_hundred_and_twenty_tenants_over_fifty_slots_get_three_servers() {
    let place = Place::new();
    let file = place.settings(&pool("eu", "capacity = 50\nminimum_spare = 0\nmaximum_servers = 5"));
    let plane = dev_with(&file).start().await;
    only_pools(&plane).await;
    let answers = join_all((0..120).map(|n| {
        let plane = &plane;
        async move {
            let headers = [("prefer", "wait=0")];
            let body = json!({"id": format!("t-{n}")});
            plane.request(reqwest::Method::POST, "/v1/tenants", &headers, Some(body)).await
        }
    }))
    .await;
    for answer in &answers {
        assert!([201, 202].contains(&answer.0), "{}", answer.2);
    }
    all_are_active(&plane, 120).await;
    let found = servers(&plane).await;
    let names: BTreeSet<&str> = found.iter().filter_map(|server| server["id"].as_str()).collect();
    assert_eq!(names, BTreeSet::from(["eu-1", "eu-2", "eu-3"]), "{found:?}");
    let tenants: u64 = found.iter().filter_map(|server| server["tenants"].as_u64()).sum();
    assert_eq!(tenants, 120);
    assert!(found.iter().all(|server| server["tenants"].as_u64() <= Some(50)), "{found:?}");
    assert_eq!(begun(&plane).await, 3);
}

#[tokio::test]
async fn story_a_dedicated_plan_has_a_server_for_each_tenant() {
    let place = Place::new();
    let plans =
        "[[plan]]\nname = \"small\"\ndefault = true\n[[plan]]\nname = \"big\"\nrank = 1\nserver = \"dedicated\"\n";
    let own = pool("own", "kind = \"dedicated\"\nminimum_spare = 1\nmaximum_servers = 2");
    let file = place.settings(&format!("{own}{plans}"));
    let plane = dev_with(&file).start().await;
    // A spare one comes by itself, with a database that waits.
    let spare = async |name: &str| {
        until("a spare server with stock", async || {
            let server = plane.get(&format!("/v1/servers/{name}")).await.2;
            if server["state"] == "active" && server["stock"] == 1 { Ok(()) } else { Err(server.to_string()) }
        })
        .await;
    };
    spare("own-1").await;
    let one = plane.post("/v1/tenants", json!({"id": "one", "plan": "big"})).await;
    assert_eq!(expect(&one, 201)["server"], "own-1");
    let operation = walk(&plane, "/v1/operations?subject=tenant:one", 5).await;
    assert_eq!(operation[0]["step"], "Activate", "nothing was left to do: {operation:?}");
    log_in(&one.2["connection"]).await;
    spare("own-2").await;
    let two = plane.post("/v1/tenants", json!({"id": "two", "plan": "big", "template": "default"})).await;
    assert_eq!(expect(&two, 201)["server"], "own-2");
    log_in(&two.2["connection"]).await;
    // There is no third.
    let three = plane.post("/v1/tenants", json!({"id": "three", "plan": "big"})).await;
    let why = problem(&three, 503, "no_room")["detail"].as_str().unwrap().to_owned();
    assert!(why.contains("own-1: all 1 slots are taken") && why.contains("it has its 2 servers"), "{why}");
    // The shared plan never goes there.
    let small = plane.post("/v1/tenants", json!({"id": "small"})).await;
    assert_eq!(expect(&small, 201)["server"], "local-1");
}
