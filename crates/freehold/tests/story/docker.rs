//! Issue 3: a server pool on a real Swarm. The engine is the tests' own (`scripts/docker`).

use std::collections::BTreeSet;
use std::time::Duration;

use freehold_testkit::{DockerEngine, Plane, Ports};
use futures::future::join_all;
use reqwest::Method;
use serde_json::{Value as Json, json};

use crate::common::{dev_with, expect, log_in, settings, text, until_within, walk};

const MAJOR: u16 = 17;
/// Three containers begin, one after another, each with forty databases or more.
const PATIENCE: Duration = Duration::from_secs(300);

async fn pooled(plane: &Plane) -> Vec<Json> {
    walk(plane, "/v1/servers", 50).await.into_iter().filter(|server| server["pool"] == "eu").collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn story_a_swarm_grows_to_three_servers_and_brings_back_a_killed_one() {
    let engine = DockerEngine::start("freehold-story", MAJOR);
    let ports = Ports::reserve();
    let file = settings(&format!(
        "[stock]\nper_template = 0\n[placement]\nminimum_free_percent = 0\n[health]\nperiod_seconds = 1\n\
         [platform.docker]\nmode = \"swarm\"\nhost = \"unix://{}\"\ninstance = \"freehold-story\"\naddress = \"127.0.0.1\"\n\
         ports = \"{}-{}\"\nhealth_interval_seconds = 1\n\
         [[server_pool]]\nname = \"eu\"\nplatform = \"docker\"\npostgres = {MAJOR}\nimage = \"{}\"\n\
         capacity = 50\nminimum_spare = 0\nmaximum_servers = 5\ncpus = 1\nmemory = \"512M\"\nreserved_memory = \"128M\"\n\
         settings = {{ fsync = \"off\", full_page_writes = \"off\" }}\n",
        engine.socket,
        ports.first,
        ports.last,
        DockerEngine::image(MAJOR)
    ));
    let plane = dev_with(&file).start().await;
    expect(&plane.post("/v1/servers/local-1/cordon", json!({})).await, 200);

    // 120 tenants for servers of 50.
    let answers = join_all((0..120).map(|n| {
        let plane = &plane;
        async move {
            let body = json!({"id": format!("t-{n}")});
            plane.request(Method::POST, "/v1/tenants", &[("prefer", "wait=0")], Some(body)).await
        }
    }))
    .await;
    for answer in &answers {
        assert!([201, 202].contains(&answer.0), "{}", answer.2);
    }
    until_within(PATIENCE, "tenants", async || {
        let active = walk(&plane, "/v1/tenants?state=active", 200).await.len();
        if active == 120 { Ok(()) } else { Err(format!("{active} are active; {:?}", pooled(&plane).await)) }
    })
    .await;
    let servers = pooled(&plane).await;
    let names: BTreeSet<&str> = servers.iter().filter_map(|server| server["id"].as_str()).collect();
    assert_eq!(names, BTreeSet::from(["eu-1", "eu-2", "eu-3"]), "{servers:?}");
    assert!(servers.iter().all(|server| server["tenants"].as_u64() <= Some(50)), "{servers:?}");
    assert_eq!(walk(&plane, "/v1/audit?action=server.provision.begin", 100).await.len(), 3, "three were started");
    assert_eq!(engine.ids(&["service", "ls"]).len(), 3);

    let mut connections = Vec::new();
    for n in 0..120 {
        let answer = plane.get(&format!("/v1/tenants/t-{n}/connection")).await;
        let connection = expect(&answer, 200).clone();
        let client = log_in(&connection).await;
        client.batch_execute(&format!("CREATE TABLE mine AS SELECT {n} AS n")).await.unwrap();
        connections.push(connection);
    }

    for name in &names {
        let container = the_container(&engine, name);
        let definition = engine.docker(&["inspect", &container]) + &engine.docker(&["service", "inspect", name]);
        let seen: Json = serde_json::from_str(&engine.docker(&["inspect", &container])).unwrap();
        assert_eq!(seen[0]["HostConfig"]["Memory"], 512_u64 << 20, "{name}");
        assert_eq!(seen[0]["HostConfig"]["NanoCpus"], 1_000_000_000, "{name}");
        assert!(!definition.to_uppercase().contains("PASSWORD"), "{definition}");
        for connection in &connections {
            assert!(
                !definition.contains(connection["direct"]["password"].as_str().unwrap()),
                "a tenant's password is shown"
            );
        }
    }

    // One of them is killed.
    let lost = plane.get("/v1/tenants/t-0").await.2["server"].as_str().unwrap().to_owned();
    let killed = the_container(&engine, &lost);
    engine.docker(&["kill", &killed]);
    until_within(PATIENCE, "it is noticed", async || {
        let server = plane.get(&format!("/v1/servers/{lost}")).await.2;
        if server["health"] == "healthy" { Err(server.to_string()) } else { Ok(()) }
    })
    .await;
    until_within(PATIENCE, "it comes back", async || {
        let server = plane.get(&format!("/v1/servers/{lost}")).await.2;
        if server["health"] == "healthy" && server["state"] == "active" { Ok(()) } else { Err(server.to_string()) }
    })
    .await;
    assert_ne!(the_container(&engine, &lost), killed, "Swarm began another on the same data");
    for (n, connection) in connections.iter().enumerate() {
        let client = log_in(connection).await;
        assert_eq!(text(&client, "SELECT n::text FROM mine").await, n.to_string());
    }
    assert_eq!(pooled(&plane).await.len(), 3, "no fourth was begun");
}

fn the_container(engine: &DockerEngine, server: &str) -> String {
    let filter = format!("label=freehold.service={server}");
    let found = engine.ids(&["ps", "--filter", &filter]);
    assert_eq!(found.len(), 1, "the containers of {server}: {found:?}");
    found[0].clone()
}
