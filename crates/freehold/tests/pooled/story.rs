//! Stories of the whole: `freehold dev` with its agent and its PgBouncer, and tenants who connect.

use std::future::Future;
use std::time::{Duration, Instant};

use freehold_testkit::{Plane, as_tenant, processes_under};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value as Json, json};
use tokio_postgres::Client;

use crate::bench::{BINARY, PATIENCE};

pub async fn dev(version: &str, stock: u32) -> Plane {
    let plane = Plane::dev(BINARY).pooler(version).stock(stock).start().await;
    until("the pooler is healthy", async || match pooler(&plane).await {
        pooler if pooler["health"] == "healthy" => Ok(()),
        other => Err(other.to_string()),
    })
    .await;
    until("stock is there, and in the pooler", async || {
        let status = plane.get("/v1/status").await.2;
        let ready = status["stock"][0]["ready"].as_u64().unwrap_or_default();
        if ready >= u64::from(stock) { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
    plane
}

pub async fn until<F, Fut>(what: &str, mut ask: F)
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<(), String>>,
{
    let deadline = Instant::now() + PATIENCE;
    while let Err(seen) = ask().await {
        assert!(Instant::now() < deadline, "{what}: {seen}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub async fn pooler(plane: &Plane) -> Json {
    plane.get("/v1/poolers/local").await.2
}

pub async fn create(plane: &Plane, id: &str) -> Json {
    let (status, _, made) = plane.post("/v1/tenants", json!({"id": id})).await;
    if status == 202 {
        // A busy machine took longer than an answer waits.
        let is_active = async || match plane.get(&format!("/v1/tenants/{id}")).await.2 {
            found if found["state"] == "active" => Ok(()),
            found => Err(found.to_string()),
        };
        until("the tenant is there", is_active).await;
        return connection(plane, id).await;
    }
    assert_eq!(status, 201, "{made}");
    made["connection"].clone()
}

pub async fn connection(plane: &Plane, id: &str) -> Json {
    plane.get(&format!("/v1/tenants/{id}/connection")).await.2
}

pub async fn ask(client: &Client, sql: &str) -> Result<String, tokio_postgres::Error> {
    Ok(client.query_one(sql, &[]).await?.get(0))
}

/// PgBouncer 1.18 lets who is in already wait for a connection that the server refuses, until its patience is over.
pub async fn is_answered(client: &Client) -> bool {
    let asked = tokio::time::timeout(Duration::from_secs(3), ask(client, "SELECT 'in'"));
    matches!(asked.await, Ok(Ok(_)))
}

/// Says why, where it is not.
pub async fn is_served(client: &Client, what: &str) {
    let asked = tokio::time::timeout(PATIENCE, ask(client, "SELECT 'in'")).await;
    match asked {
        Ok(answer) => assert!(answer.is_ok(), "{what}: {answer:?}"),
        Err(_) => panic!("{what}: no answer in {PATIENCE:?}"),
    }
}

/// Through the pooler, as soon as that is possible. One that is dying still greets, and its server may refuse a while.
pub async fn until_in(connection: &Json) -> Client {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let why = match as_tenant(&connection["pooled"]).await {
            Ok(client) if is_answered(&client).await => return client,
            Ok(_) => "let in, and not answered".to_owned(),
            Err(error) => error.to_string(),
        };
        assert!(Instant::now() < deadline, "{why}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn agent(plane: &Plane) -> Pid {
    let pid = std::fs::read_to_string(plane.data_dir().join("pooler/agent/lock")).unwrap();
    Pid::from_raw(pid.trim().parse().unwrap())
}

pub fn pgbouncer(plane: &Plane) -> Option<Pid> {
    processes_under(&plane.data_dir().join("pooler/run")).first().copied()
}

pub async fn a_tenant_is_pooled_from_its_first_query(version: &'static str) {
    let plane = dev(version, 3).await;
    let before = pooler(&plane).await;
    for id in ["acme", "globex", "initech"] {
        let made = create(&plane, id).await;
        assert_eq!(made["pooled"]["ready"], true, "{}", made["pooled"]["ready"]);
        assert_ne!(made["pooled"]["port"], made["direct"]["port"]);
        let client = as_tenant(&made["pooled"]).await.unwrap();
        client.batch_execute("CREATE TABLE first (n int); INSERT INTO first VALUES (1)").await.unwrap();
        assert_eq!(ask(&client, "SELECT count(*)::text FROM first").await.unwrap(), "1");
    }
    assert_eq!(before["version"].as_str().map(|found| found.starts_with(version)), Some(true), "{before}");
    let output = plane.output();
    assert!(output.contains(&format!("127.0.0.1:{}  (PgBouncer {version}", before["port"])), "{output}");

    // What the command line prints is that, and psql gets in by it.
    let printed = plane.cli(&["tenant", "url", "acme"]);
    let url = String::from_utf8(printed.stdout).unwrap();
    assert!(url.contains(&format!("127.0.0.1:{}/", before["port"])), "it is not the pooler's");
    let said =
        std::process::Command::new("psql").args(["-XAtc", "SELECT n FROM first"]).arg(url.trim()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&said.stdout), "1\n", "{}", String::from_utf8_lossy(&said.stderr));
}

pub async fn every_pair_of_tenants_stays_apart(version: &'static str) {
    const TENANTS: usize = 20;
    let plane = dev(version, 20).await;
    let mut all = Vec::new();
    for number in 0..TENANTS {
        all.push(create(&plane, &format!("t{number}")).await["pooled"].clone());
    }
    let (mut refused, began) = (0, Instant::now());
    for own in &all {
        let client = as_tenant(own).await.unwrap();
        assert_eq!(ask(&client, "SELECT current_database()::text").await.unwrap(), own["database"].as_str().unwrap());
        for other in all.iter().filter(|other| other["database"] != own["database"]) {
            let mut stranger = own.clone();
            stranger["database"] = other["database"].clone();
            assert!(as_tenant(&stranger).await.is_err(), "{} is in {}", own["user"], other["database"]);
            refused += 1;
        }
        for foreign in ["postgres", "freehold_control", "pgbouncer"] {
            let mut stranger = own.clone();
            stranger["database"] = json!(foreign);
            assert!(as_tenant(&stranger).await.is_err(), "{} is in {foreign}", own["user"]);
        }
        let mut thief = own.clone();
        thief["password"] = all[(refused / (TENANTS - 1)) % TENANTS]["password"].clone();
        let is_own = thief["password"] == own["password"];
        assert_eq!(as_tenant(&thief).await.is_ok(), is_own);
    }
    assert_eq!(refused, TENANTS * (TENANTS - 1));
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
}

pub async fn who_dies_costs_a_reconnect_at_most(version: &'static str) {
    let mut plane = dev(version, 1).await;
    let made = create(&plane, "acme").await;
    // Somebody is always at work, and connects again when they are thrown out.
    let working = {
        let made = made.clone();
        tokio::spawn(async move {
            let (mut thrown_out, mut longest) = (0, Duration::ZERO);
            let mut client = until_in(&made).await;
            let end = Instant::now() + Duration::from_secs(6);
            while Instant::now() < end {
                if ask(&client, "SELECT 'at work'").await.is_err() {
                    let began = Instant::now();
                    client = until_in(&made).await;
                    thrown_out += 1;
                    longest = longest.max(began.elapsed());
                }
            }
            (thrown_out, longest)
        })
    };
    tokio::time::sleep(Duration::from_secs(1)).await;
    // The agent: nobody notices. The next one takes over what runs.
    let (first, pooled) = (agent(&plane), pgbouncer(&plane));
    kill(first, Signal::SIGKILL).unwrap();
    until("another agent", async || if agent(&plane) == first { Err("none".into()) } else { Ok(()) }).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(pgbouncer(&plane), pooled);
    // PgBouncer.
    kill(pooled.unwrap(), Signal::SIGKILL).unwrap();
    let (thrown_out, longest) = working.await.unwrap();
    assert_eq!(thrown_out, 1);
    assert!(longest < Duration::from_secs(5), "{longest:?}");
    until("the death is counted", async || match pooler(&plane).await {
        pooler if pooler["deaths"] == 1 => Ok(()),
        other => Err(other.to_string()),
    })
    .await;

    // The plane with its whole group: what it left is the next one's.
    let client = until_in(&made).await;
    let pooled = pgbouncer(&plane);
    plane.kill_group().await;
    assert_eq!(pgbouncer(&plane), pooled, "it is in no group but its own");
    plane.start_again().await;
    assert_eq!(pgbouncer(&plane), pooled);
    drop(client);
    assert_eq!(connection(&plane, "acme").await["pooled"]["port"], made["pooled"]["port"]);
    until_in(&made).await;
    until("the agent is heard again", async || match pooler(&plane).await {
        pooler if pooler["health"] == "healthy" => Ok(()),
        other => Err(other.to_string()),
    })
    .await;
    // As if the power failed.
    plane.kill_everything().await;
    plane.start_again().await;
    until_in(&made).await;
    // In order: nothing is left.
    assert_eq!(plane.sigterm_and_wait().await.code(), Some(0), "{}", plane.output());
    assert_eq!(processes_under(&plane.data_dir()), []);
}

pub async fn suspended_resumed_and_purged(version: &'static str) {
    let plane = dev(version, 1).await;
    let made = create(&plane, "acme").await;
    let warm = as_tenant(&made["pooled"]).await.unwrap();
    assert_eq!(ask(&warm, "SELECT 'in'").await.unwrap(), "in");
    assert_eq!(plane.post("/v1/tenants/acme/suspend", json!({})).await.0, 200);
    assert!(!is_answered(&warm).await, "its session is ended");
    // At once nobody gets to the database, and a moment later nobody into the pooler.
    if let Ok(let_in) = as_tenant(&made["pooled"]).await {
        assert!(!is_answered(&let_in).await);
    }
    until("the pooler refuses it", async || match as_tenant(&made["pooled"]).await {
        Ok(_) => Err("let in".into()),
        Err(_) => Ok(()),
    })
    .await;
    assert_eq!(plane.post("/v1/tenants/acme/resume", json!({})).await.0, 200);
    // PgBouncer remembers for a second that the server refused it.
    until_in(&made).await;
    let served = || std::fs::read_to_string(plane.data_dir().join("pooler/run/pgbouncer.ini")).unwrap();
    let entry = format!("{} = ", made["pooled"]["database"].as_str().unwrap());
    assert!(served().contains(&entry));
    assert_eq!(plane.delete("/v1/tenants/acme?confirm=acme&purge=true").await.0, 200);
    until("its entry is gone", async || if served().contains(&entry) { Err(entry.clone()) } else { Ok(()) }).await;
    assert!(as_tenant(&made["pooled"]).await.is_err());
}

pub async fn a_pooler_that_is_down_catches_up(version: &'static str) {
    let plane = dev(version, 0).await;
    let stopped = [agent(&plane), pgbouncer(&plane).unwrap()];
    for pid in stopped {
        kill(pid, Signal::SIGSTOP).unwrap();
    }
    until("it is missed", async || match pooler(&plane).await {
        pooler if pooler["health"] == "unhealthy" => Ok(()),
        other => Err(other.to_string()),
    })
    .await;
    let made = create(&plane, "acme").await;
    assert_ne!(made["pooled"]["ready"], true, "{made}");
    as_tenant(&made["direct"]).await.unwrap();
    for pid in stopped {
        kill(pid, Signal::SIGCONT).unwrap();
    }
    until("it has caught up", async || match connection(&plane, "acme").await["pooled"]["ready"].clone() {
        Json::Bool(true) => Ok(()),
        other => Err(other.to_string()),
    })
    .await;
    let made = connection(&plane, "acme").await;
    assert_eq!(ask(&as_tenant(&made).await.unwrap(), "SELECT 'in'").await.unwrap(), "in");
}
