//! Poolers that Freehold starts itself, as processes of this machine.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use freehold_testkit::{Directory, Plane, Port, Ports, as_tenant, pooler_engine, processes_under};
use futures::future::join_all;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpgid};
use serde_json::{Value as Json, json};
use tokio_postgres::Client;

use crate::bench::BINARY;
use crate::external::store_of;
use crate::small_disk::SmallDisk;
use crate::story::{ask, connection, create, is_answered, until, until_in};

/// Where its poolers are. Ends what runs there.
pub struct Place {
    directory: Directory,
    ports: Ports,
}

impl Place {
    pub fn new() -> Self {
        Self { directory: Directory::new(), ports: Ports::reserve() }
    }

    fn home(&self, pooler: &str) -> PathBuf {
        self.directory.path().join("q").join(pooler)
    }

    /// For what its settings name.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub async fn plane(&self, version: &str, capacity: usize, more: &str) -> Plane {
        let Ports { first, last, .. } = &self.ports;
        let settings = format!(
            "[pooler]\ncapacity = {capacity}\n[pooler.platform]\nkind = \"process\"\ndata_dir = \"{}\"\nports = \"{first}-{last}\"\n\
             pgbouncer = \"{}\"\nheadroom = 1\nmaximum_poolers = 3\n{more}",
            self.directory.path().join("q").display(),
            pooler_engine(version).display()
        );
        let path = self.directory.path().join("settings.toml");
        std::fs::write(&path, settings).unwrap();
        Plane::dev(BINARY)
            .arg("--settings")
            .arg(path.display().to_string())
            .arg("--capacity")
            .arg("4000")
            .stock(0)
            .start()
            .await
    }

    fn agent(&self, pooler: &str) -> Pid {
        let home = self.home(pooler);
        let all = processes_under(&home);
        let of_pgbouncer = processes_under(&home.join("run"));
        let agents: Vec<Pid> = all.into_iter().filter(|pid| !of_pgbouncer.contains(pid)).collect();
        assert_eq!(agents.len(), 1, "{pooler} has {agents:?}");
        agents[0]
    }

    pub fn pgbouncer(&self, pooler: &str) -> Pid {
        let found = processes_under(&self.home(pooler).join("run"));
        assert_eq!(found.len(), 1, "{pooler} has {found:?}");
        found[0]
    }

    fn pids(&self, poolers: &[&str]) -> Vec<(Pid, Pid)> {
        poolers.iter().map(|pooler| (self.agent(pooler), self.pgbouncer(pooler))).collect()
    }
}

pub async fn poolers(plane: &Plane) -> Vec<Json> {
    plane.get("/v1/poolers").await.2["items"].as_array().unwrap().clone()
}

pub async fn all_are_healthy(plane: &Plane, names: &[&str]) {
    until("the poolers are healthy", async || {
        let found = poolers(plane).await;
        let well: Vec<&str> = found
            .iter()
            .filter(|pooler| pooler["health"] == "healthy" && pooler["state"] == "active")
            .filter_map(|pooler| pooler["id"].as_str())
            .collect();
        if well == names { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
}

/// Through the pooler, once it serves the tenant.
pub async fn pooled(plane: &Plane, tenant: &str) -> Json {
    until("the tenant is in its pooler", async || match connection(plane, tenant).await {
        found if found["pooled"]["ready"] == true => Ok(()),
        found => Err(found["pooled"].to_string()),
    })
    .await;
    connection(plane, tenant).await
}

async fn begun(plane: &Plane) -> usize {
    let audit = plane.get("/v1/audit?action=pooler.start.begin&limit=100").await.2;
    audit["items"].as_array().unwrap().len()
}

pub async fn poolers_come_by_themselves_and_outlive_the_plane(version: &'static str) {
    let place = Place::new();
    let mut plane = place.plane(version, 3, "").await;
    // Before there is any tenant.
    all_are_healthy(&plane, &["pooler-1"]).await;

    let names: Vec<String> = (0..8).map(|number| format!("t{number}")).collect();
    join_all(names.iter().map(|name| create(&plane, name))).await;
    let mut at = BTreeMap::new();
    let mut clients: Vec<(String, Client)> = Vec::new();
    for name in &names {
        let found = pooled(&plane, name).await;
        let client = as_tenant(&found["pooled"]).await.unwrap();
        assert_eq!(ask(&client, "SELECT 'in'").await.unwrap(), "in");
        let port = found["pooled"]["port"].as_u64().unwrap();
        at.entry(port).or_insert_with(Vec::new).push(name.clone());
        clients.push((name.clone(), client));
    }
    all_are_healthy(&plane, &["pooler-1", "pooler-2", "pooler-3"]).await;
    let mut sizes: Vec<usize> = at.values().map(Vec::len).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [2, 3, 3], "{at:?}");
    assert_eq!(begun(&plane).await, 3);
    assert!(poolers(&plane).await.iter().all(|pooler| pooler["platform"] == "process"));

    // Each agent leads a process group of its own, and nobody reads its key anywhere but in its file.
    for pooler in ["pooler-1", "pooler-2", "pooler-3"] {
        let (agent, file) = (place.agent(pooler), place.home(pooler).join("key"));
        assert_eq!(getpgid(Some(agent)).unwrap(), agent);
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let key = std::fs::read_to_string(&file).unwrap();
        for place in ["cmdline", "environ"] {
            let text = std::fs::read(format!("/proc/{agent}/{place}")).unwrap();
            assert!(!String::from_utf8_lossy(&text).contains(&key), "{place}");
        }
        assert!(!plane.output().contains(&key));
    }
    // That key opens its own pooler alone, and no other key opens that.
    let key = std::fs::read_to_string(place.home("pooler-1").join("key")).unwrap();
    let theirs = format!("Bearer {}", key.trim());
    for (key, pooler, status) in
        [(Some(&theirs), "pooler-1", 200), (Some(&theirs), "pooler-2", 403), (None, "pooler-1", 403)]
    {
        let headers: Vec<_> = key.iter().map(|key| ("authorization", key.as_str())).collect();
        let path = format!("/v1/poolers/{pooler}/assignment");
        let (answered, _, body) = plane.request(reqwest::Method::GET, &path, &headers, None).await;
        assert_eq!(answered, status, "{pooler}: {body}");
    }

    // An agent and its PgBouncer die: the others' tenants notice nothing, and it is back at its address.
    let victim = connection(&plane, "t0").await["pooled"].clone();
    let port = victim["port"].as_u64().unwrap();
    let dead = poolers(&plane).await.into_iter().find(|pooler| pooler["port"] == port).unwrap();
    let dead = dead["id"].as_str().unwrap();
    let before = (place.agent(dead), place.pgbouncer(dead));
    for pid in [before.0, before.1] {
        kill(pid, Signal::SIGKILL).unwrap();
    }
    for (name, client) in &clients {
        assert_eq!(is_answered(client).await, !at[&port].contains(name), "{name}");
    }
    for name in &at[&port] {
        let own = connection(&plane, name).await;
        assert_eq!(own["pooled"]["port"], port);
        until_in(&own).await;
    }
    assert_ne!((place.agent(dead), place.pgbouncer(dead)), before);
    all_are_healthy(&plane, &["pooler-1", "pooler-2", "pooler-3"]).await;

    // The plane is killed: tenants are let in, and the next one finds what runs.
    let running = ["pooler-1", "pooler-2", "pooler-3"];
    let before = place.pids(&running);
    let victim = connection(&plane, "t0").await;
    plane.kill_group().await;
    until_in(&victim).await;
    plane.start_again().await;
    all_are_healthy(&plane, &running).await;
    assert_eq!(place.pids(&running), before, "what runs is left alone");
    assert_eq!(begun(&plane).await, 3, "and nothing is begun anew");
    assert_eq!(connection(&plane, "t0").await["pooled"]["port"], port, "an address is for life");

    // There are as many as there may be: who comes now is served directly, and a person is told.
    create(&plane, "t8").await;
    pooled(&plane, "t8").await;
    let direct = create(&plane, "t9").await;
    assert_ne!(direct["pooled"]["ready"], true, "{direct}");
    as_tenant(&direct["direct"]).await.unwrap();
    let check = plane.get("/v1/poolers/pooler-1/check").await.2;
    assert_eq!(check["findings"][0]["code"], "pooler_full", "{check}");
    let (status, _, refused) = plane.post("/v1/poolers", json!({"id": "more", "platform": "process"})).await;
    assert_eq!((status, &refused["code"]), (409, &json!("wrong_state")), "{refused}");

    // One that is emptied is ended whole, and its key opens nothing.
    let (status, _, refused) = plane.delete(&format!("/v1/poolers/{dead}")).await;
    assert_eq!((status, &refused["code"]), (409, &json!("wrong_state")), "{refused}");
    let key = std::fs::read_to_string(place.home(dead).join("key")).unwrap();
    assert_eq!(plane.post(&format!("/v1/poolers/{dead}/cordon"), json!({})).await.0, 200);
    for name in names.iter().map(String::as_str).chain(["t8"]) {
        if connection(&plane, name).await["pooled"]["port"] == port {
            assert_eq!(plane.delete(&format!("/v1/tenants/{name}?confirm={name}&purge=true")).await.0, 200);
        }
    }
    let removed = plane.cli(&["pooler", "remove", dead]);
    assert!(removed.status.success(), "{}", String::from_utf8_lossy(&removed.stderr));
    assert!(!place.home(dead).exists());
    assert_eq!(plane.get(&format!("/v1/poolers/{dead}")).await.0, 404);
    let bearer = format!("Bearer {key}");
    let path = "/v1/poolers/pooler-2/assignment";
    assert_eq!(plane.request(reqwest::Method::GET, path, &[("authorization", &bearer)], None).await.0, 401);
    // Who waits gets another one, which no other was ever called.
    assert_eq!(
        ask(&as_tenant(&pooled(&plane, "t9").await["pooled"]).await.unwrap(), "SELECT 'in'").await.unwrap(),
        "in"
    );
    let found = poolers(&plane).await;
    assert!(found.iter().any(|pooler| pooler["id"] == "pooler-4"), "{found:?}");
}

pub async fn what_cannot_be_started_says_why_and_is_tried_again(version: &'static str) {
    let place = Place::new();
    let taken = std::net::TcpListener::bind(("127.0.0.1", place.ports.first)).unwrap();
    let plane = place.plane(version, 3, "").await;
    // The first port is somebody else's: it takes the next one.
    all_are_healthy(&plane, &["pooler-1"]).await;
    assert_eq!(poolers(&plane).await[0]["port"], json!(place.ports.first + 1));
    drop(taken);
    // Somebody else's directory is left alone.
    let precious = place.home("front").join("precious");
    std::fs::create_dir_all(precious.parent().unwrap()).unwrap();
    std::fs::write(&precious, "somebody else's").unwrap();
    let (status, _, refused) = plane.post("/v1/poolers", json!({"id": "front"})).await;
    assert_eq!(status, 422, "{refused}");
    assert!(refused["detail"].as_str().unwrap().contains("did not put there"), "{refused}");
    assert!(precious.exists());
    let front = plane.get("/v1/poolers/front").await.2;
    assert_eq!(front["state"], "failed", "{front}");
    let status = plane.get("/v1/status").await.2;
    assert!(status.to_string().contains("pooler_failed"), "{status}");
    // Moved away, the next try is made by hand.
    std::fs::remove_dir_all(place.home("front")).unwrap();
    let added = plane.cli(&["pooler", "add", "front", "--platform", "process", "--capacity", "7"]);
    assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
    let front = plane.get("/v1/poolers/front").await.2;
    assert_eq!((&front["state"], &front["capacity"]), (&json!("active"), &json!(7)), "{front}");
    // What is lost is brought back, with the same key.
    let key = std::fs::read_to_string(place.home("front").join("key")).unwrap();
    let (agent, pgbouncer) = (place.agent("front"), place.pgbouncer("front"));
    std::fs::remove_file(place.home("front").join("service.json")).unwrap();
    for pid in [agent, pgbouncer] {
        kill(pid, Signal::SIGKILL).unwrap();
    }
    std::fs::remove_dir_all(place.home("front")).unwrap();
    until("it is back", async || match std::fs::read_to_string(place.home("front").join("key")) {
        Ok(found) if found == key => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    all_are_healthy(&plane, &["front", "pooler-1"]).await;
    assert_eq!(plane.get("/v1/poolers/front").await.2["port"], front["port"]);
}

/// The tenant that comes meanwhile; what begins it, what it is called, what ends it.
type Trouble = (&'static str, fn(&SmallDisk), &'static str, fn(&SmallDisk));

pub async fn a_full_or_locked_disk_of_an_agent_hinders_no_create(version: &'static str) {
    let place = Place::new();
    let home = place.home("pooler-1");
    std::fs::create_dir_all(&home).unwrap();
    let disk = SmallDisk::at(&home);
    let plane = place.plane(version, 10, "").await;
    all_are_healthy(&plane, &["pooler-1"]).await;
    create(&plane, "first").await;
    let first = pooled(&plane, "first").await;

    let troubles: [Trouble; 2] = [
        ("full", SmallDisk::fill, "the disk is full", SmallDisk::empty),
        ("locked", SmallDisk::lock, "not possible for this user", SmallDisk::unlock),
    ];
    for (id, begin, why, end) in troubles {
        begin(&disk);
        let made = create(&plane, id).await;
        assert_eq!(made["pooled"]["ready"], false, "{id}");
        as_tenant(&made["direct"]).await.unwrap();
        until(why, async || match poolers(&plane).await[0]["message"].as_str() {
            Some(message) if message.contains(why) => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
        // Who was served before is served.
        assert_eq!(ask(&as_tenant(&first["pooled"]).await.unwrap(), "SELECT 'in'").await.unwrap(), "in");
        assert_eq!(connection(&plane, id).await["pooled"]["ready"], false, "{id}");
        end(&disk);
        let own = pooled(&plane, id).await;
        assert_eq!(ask(&as_tenant(&own["pooled"]).await.unwrap(), "SELECT 'in'").await.unwrap(), "in");
        all_are_healthy(&plane, &["pooler-1"]).await;
        // The next agent would begin with it.
        let kept = std::fs::read_to_string(home.join("agent/assignment.json")).unwrap();
        assert!(kept.contains(own["direct"]["database"].as_str().unwrap()), "{kept}");
    }
}

pub async fn what_hangs_at_its_start_says_why(version: &'static str) {
    let place = Place::new();
    // Nobody is there: its agent asks in vain.
    let nowhere = Port::reserve();
    let plane = place.plane(version, 3, &format!("plane_url = \"http://127.0.0.1:{}\"\n", nowhere.number)).await;
    let found = async || plane.get("/v1/poolers/pooler-1/check").await.2["findings"].clone();
    let store = store_of(&plane).await;
    let waiting = "SELECT count(*)::text FROM operation WHERE kind = 'pooler.start' AND error ->> 'message' LIKE '%not heard of%'";
    until("it waits for its agent", async || match ask(&store, waiting).await.unwrap().as_str() {
        "1" => Ok(()),
        other => Err(other.to_owned()),
    })
    .await;
    assert_eq!(found().await, json!([]));
    let later = "UPDATE operation SET created_at = created_at - interval '2 minutes' WHERE kind = 'pooler.start'";
    assert_eq!(store.execute(later, &[]).await.unwrap(), 1);
    let said = found().await;
    assert!(said[0]["code"] == "pooler_slow" && said[0]["message"].to_string().contains("not heard of"), "{said}");
    let status = plane.get("/v1/status").await.2;
    assert!(status["concerns"].to_string().contains("pooler_slow"), "{status}");
}
