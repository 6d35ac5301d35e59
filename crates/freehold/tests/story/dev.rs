//! Issue 2, item 1: `freehold dev` keeps what it has through every end, and says what it lacks.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use freehold_testkit::{Directory, Plane, Port, as_tenant, processes_under};
use serde_json::{Value as Json, json};

use crate::common::{
    BINARY, admin, create, create_as, dev, exits, expect, log_in, postgres_port, stderr, stdout, text, until_stock,
    walk,
};

/// `freehold dev` that is expected to end by itself.
fn dev_ends(data: &Path, args: &[&str]) -> Output {
    let (port, postgres) = (Port::reserve(), Port::reserve());
    let mut command = Command::new(BINARY);
    command.args(["dev", "--data-dir"]).arg(data);
    // A settings file says it, or it is this test's.
    if !args.contains(&"--listen") && !args.contains(&"--settings") {
        command.arg("--listen").arg(format!("127.0.0.1:{}", port.number));
    }
    if !args.contains(&"--postgres-port") {
        command.arg("--postgres-port").arg(postgres.number.to_string());
    }
    command.args(args).env_remove("FREEHOLD_SETTINGS").output().unwrap()
}

async fn still_there(plane: &Plane, made: &Json) {
    let connection = plane.get("/v1/tenants/acme/connection").await;
    assert_eq!(*expect(&connection, 200), made["connection"], "the same credential, at the same place");
    let session = log_in(&made["connection"]).await;
    assert_eq!(text(&session, "SELECT body FROM kept").await, "here");
    let tenants = walk(plane, "/v1/tenants", 50).await;
    assert_eq!((&tenants[0]["name"], &tenants[0]["labels"]), (&json!("Acme"), &json!({"tier": "gold"})));
    // And it goes on working.
    for id in ["more", "acme"] {
        let answer = plane.post("/v1/tenants", json!({"id": id})).await;
        assert!(matches!(answer.0, 200 | 201), "{}", answer.2);
    }
    expect(&plane.delete("/v1/tenants/more?confirm=more&purge=true").await, 200);
}

#[tokio::test]
async fn story_dev_keeps_everything_however_it_ends() {
    let mut plane = dev().stock(2).start().await;
    let key = plane.api_key().to_owned();
    let made = create_as(&plane, json!({"id": "acme", "name": "Acme", "labels": {"tier": "gold"}})).await;
    let session = log_in(&made["connection"]).await;
    session.batch_execute("CREATE TABLE kept AS SELECT 'here'::text AS body").await.unwrap();
    drop(session);
    until_stock(&plane, "default", 2).await;

    let data = plane.data_dir();
    for (file, mode) in [("client.toml", 0o600), ("secrets/sealing.key", 0o600), ("secrets", 0o700)] {
        let found = std::fs::metadata(data.join(file)).unwrap().permissions().mode() & 0o777;
        assert_eq!(found, mode, "{file}");
    }
    let output = plane.output();
    for line in ["freehold tenant create acme", "freehold tenant psql acme", "freehold template new"] {
        assert!(output.contains(line), "{line} is not in {output}");
    }
    assert!(!output.contains(made["connection"]["direct"]["password"].as_str().unwrap()) && !output.contains(&key));

    let status = plane.sigterm_and_wait().await;
    assert_eq!(status.code(), Some(0), "{}", plane.output());
    assert_eq!(processes_under(&data), [], "something runs on");
    assert!(as_tenant(&made["connection"]).await.is_err());
    plane.start_again().await;
    assert_eq!(plane.api_key(), key);
    still_there(&plane, &made).await;

    // The process group dies; what left it may go on.
    plane.kill_group().await;
    plane.start_again().await;
    still_there(&plane, &made).await;

    // As if the power failed.
    plane.kill_everything().await;
    plane.start_again().await;
    assert_eq!(plane.api_key(), key);
    still_there(&plane, &made).await;
}

/// What moves, creates and a start after a crash need of a cluster from its first day; and Ctrl-C ends it in order.
#[tokio::test]
async fn story_dev_tunes_its_cluster_and_ends_in_order_at_an_interrupt() {
    let mut plane = dev().stock(0).start().await;
    let server = admin(&plane, "postgres").await;
    for (name, value) in [
        ("min_wal_size", "2GB"),
        ("recovery_init_sync_method", "syncfs"),
        ("wal_level", "logical"),
        ("password_encryption", "scram-sha-256"),
        ("data_checksums", "on"),
        ("listen_addresses", "127.0.0.1"),
        ("unix_socket_permissions", "0700"),
        ("fsync", "on"),
    ] {
        assert_eq!(text(&server, &format!("SELECT current_setting('{name}')")).await, value, "{name}");
    }
    for name in ["max_replication_slots", "max_wal_senders", "max_logical_replication_workers", "max_worker_processes"]
    {
        let many: i32 = text(&server, &format!("SELECT current_setting('{name}')")).await.parse().unwrap();
        assert!(many >= 32, "{name} is {many}");
    }
    let encoding =
        "SELECT string_agg(DISTINCT pg_encoding_to_char(encoding) || ' ' || datcollate, ', ') FROM pg_database";
    assert_eq!(text(&server, encoding).await, "UTF8 C.UTF-8");
    let hba = "SELECT string_agg(DISTINCT type || ' ' || auth_method, ', ' ORDER BY type || ' ' || auth_method) FROM pg_hba_file_rules WHERE type <> 'local'";
    assert_eq!(text(&server, hba).await, "host scram-sha-256");
    drop(server);
    let made = create(&plane, "acme").await;

    kill(Pid::from_raw(plane.pid().cast_signed()), Signal::SIGINT).unwrap();
    let status = plane.wait_until_dead().await;
    assert_eq!(status.code(), Some(0), "{}", plane.output());
    assert_eq!(processes_under(&plane.data_dir()), [], "something runs on");
    let control = plane.data_dir().join("servers/local-1/log");
    let said: String = std::fs::read_dir(control)
        .unwrap()
        .map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap())
        .collect();
    assert!(said.contains("database system is shut down"), "{said}");
    plane.start_again().await;
    log_in(&made["connection"]).await;
}

#[tokio::test]
async fn story_dev_killed_while_it_makes_a_tenant_finishes_it() {
    let mut plane = dev().stock(0).start().await;
    let headers = [("prefer", "wait=0")];
    for id in ["one", "two"] {
        let answer = plane.request(reqwest::Method::POST, "/v1/tenants", &headers, Some(json!({"id": id}))).await;
        expect(&answer, 202);
    }
    plane.kill_everything().await;
    plane.start_again().await;
    for id in ["one", "two"] {
        crate::common::until(id, async || match plane.get(&format!("/v1/tenants/{id}")).await.2 {
            tenant if tenant["state"] == "active" => Ok(()),
            tenant => Err(tenant.to_string()),
        })
        .await;
        log_in(&plane.get(&format!("/v1/tenants/{id}/connection")).await.2).await;
    }
}

#[tokio::test]
async fn story_dev_names_what_is_missing_or_taken_before_it_begins() {
    let directory = Directory::new();
    let data = directory.path().join("new");
    let taken = Port::reserve();
    let listener = TcpListener::bind(("127.0.0.1", taken.number)).unwrap();
    let address = format!("127.0.0.1:{}", taken.number);
    let ended = exits(dev_ends(&data, &["--listen", &address]), 3);
    assert!(stderr(&ended).contains(&address) && stderr(&ended).contains("--listen"), "{}", stderr(&ended));
    // The settings' address counts where no other is given.
    let said = directory.path().join("listen.toml");
    std::fs::write(&said, format!("listen = \"{address}\"\n")).unwrap();
    let ended = exits(dev_ends(&data, &["--settings", &said.display().to_string()]), 3);
    assert!(stderr(&ended).contains(&address), "{}", stderr(&ended));
    let port = taken.number.to_string();
    let ended = exits(dev_ends(&data, &["--postgres-port", &port]), 3);
    assert!(stderr(&ended).contains(&port) && stderr(&ended).contains("--postgres-port"), "{}", stderr(&ended));
    drop(listener);
    assert!(!data.join("servers/local-1").exists(), "nothing was made");

    let ended = exits(dev_ends(&data, &["--postgres-bin", "/nonexistent"]), 3);
    let said = stderr(&ended);
    assert!(said.contains("/nonexistent") && said.contains("apt-get install"), "{said}");
    assert!(!data.join("servers/local-1").exists(), "nothing was made");
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    exits(dev_ends(&file, &[]), 3);
    let settings = directory.path().join("bad.toml");
    for (text, named) in [
        ("[stok]\nper_template = 1\n", "stok"),
        ("[[plan]]\nname = \"a\"\n[[plan]]\nname = \"b\"\n", "default"),
        ("[[edge]]\nkind = \"other\"\n", "other"),
        ("not toml", "settings"),
    ] {
        std::fs::write(&settings, text).unwrap();
        let ended = exits(dev_ends(&data, &["--settings", &settings.display().to_string()]), 3);
        assert!(stderr(&ended).contains(named), "{text}: {}", stderr(&ended));
    }
    exits(dev_ends(&data, &["--settings", "/nonexistent.toml"]), 3);
    exits(dev_ends(&data, &["--no-such-flag"]), 2);
}

#[tokio::test]
async fn story_one_data_directory_has_one_dev_and_one_sealing_key() {
    let mut plane = dev().stock(1).start().await;
    let made = create(&plane, "acme").await;
    let data = plane.data_dir();
    let key = plane.api_key().to_owned();

    let second = exits(dev_ends(&data, &[]), 3);
    let said = stderr(&second);
    assert!(said.contains("already") || said.contains("runs") || said.contains("in use"), "{said}");
    // The first has noticed nothing, and neither its context nor its port was overwritten.
    log_in(&made["connection"]).await;
    create(&plane, "beta").await;
    let context = std::fs::read_to_string(data.join("client.toml")).unwrap();
    assert!(context.contains(plane.url()) && context.contains(&key), "{said}");
    assert_eq!(u64::from(postgres_port(&plane)), made["connection"]["direct"]["port"].as_u64().unwrap());
    plane.sigterm_and_wait().await;

    let file = data.join("secrets/sealing.key");
    let right = std::fs::read(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    let ended = exits(dev_ends(&data, &[]), 3);
    assert!(stderr(&ended).contains("sealing key") && stderr(&ended).contains("sealing.key"), "{}", stderr(&ended));
    assert!(!file.exists(), "a lost key is never replaced behind somebody's back");
    let other = Directory::new();
    let another = dev().stock(0).start().await;
    std::fs::copy(another.data_dir().join("secrets/sealing.key"), other.path().join("key")).unwrap();
    drop(another);
    std::fs::copy(other.path().join("key"), &file).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let ended = exits(dev_ends(&data, &[]), 3);
    assert!(stderr(&ended).contains("not the one"), "{}", stderr(&ended));
    std::fs::write(&file, &right).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let ended = exits(dev_ends(&data, &[]), 3);
    assert!(stderr(&ended).contains("600"), "readable by others: {}", stderr(&ended));
    std::fs::write(&file, "garbage").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    exits(dev_ends(&data, &[]), 3);
    assert_eq!(processes_under(&data), [], "a refusal leaves nothing running");
    std::fs::write(&file, &right).unwrap();
    plane.start_again().await;
    let again = plane.get("/v1/tenants/acme/connection").await.2;
    assert_eq!(again["direct"]["password"], made["connection"]["direct"]["password"]);
    // The refused starts named other ports; the plane came back to its own.
    log_in(&again).await;
    assert!(stdout(&second).is_empty(), "{}", stdout(&second));
}

async fn states_of(plane: &Plane) -> Vec<(String, String)> {
    let text = |server: &Json, name: &str| server[name].as_str().unwrap().to_owned();
    walk(plane, "/v1/servers", 50).await.iter().map(|server| (text(server, "id"), text(server, "state"))).collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(id, state)| ((*id).to_owned(), (*state).to_owned())).collect()
}

/// A tenant on this server, because the others take none meanwhile.
async fn tenant_on(plane: &Plane, server: &str) -> Json {
    let others: Vec<String> = states_of(plane).await.into_iter().map(|(id, _)| id).filter(|id| id != server).collect();
    for other in &others {
        expect(&plane.post(&format!("/v1/servers/{other}/cordon"), json!({})).await, 200);
    }
    let id = format!("on-{server}");
    let made = create(plane, &id).await;
    assert_eq!(plane.get(&format!("/v1/tenants/{id}")).await.2["server"], server);
    for other in &others {
        expect(&plane.post(&format!("/v1/servers/{other}/uncordon"), json!({})).await, 200);
    }
    made
}

#[tokio::test]
async fn story_dev_runs_several_servers_and_keeps_those_that_tenants_live_on() {
    let mut plane = dev().stock(1).arg("--servers").arg("3").start().await;
    let all = [("local-1", "active"), ("local-2", "active"), ("local-3", "active")];
    assert_eq!(states_of(&plane).await, pairs(&all));
    let output = plane.output();
    for name in ["local-1", "local-2", "local-3"] {
        assert!(output.contains(&format!("({name})")), "{name} is not in {output}");
        assert!(plane.data_dir().join("servers").join(name).join("PG_VERSION").is_file());
    }
    let made = tenant_on(&plane, "local-2").await;
    let session = log_in(&made["connection"]).await;
    session.batch_execute("CREATE TABLE kept AS SELECT 'here'::text AS body").await.unwrap();
    drop(session);

    // As if the power failed: all three come back, on their ports.
    plane.kill_everything().await;
    plane.start_again().await;
    assert_eq!(states_of(&plane).await, pairs(&all));
    assert_eq!(text(&log_in(&made["connection"]).await, "SELECT body FROM kept").await, "here");

    // Fewer are asked for: the one with a tenant runs on, the one without does not.
    let status = plane.sigterm_and_wait().await;
    assert_eq!(status.code(), Some(0), "{}", plane.output());
    assert_eq!(processes_under(&plane.data_dir()), [], "something runs on");
    let before = plane.output().len();
    plane.set_args(&["--stock", "1", "--servers", "1"]);
    plane.start_again().await;
    let parked = [("local-1", "active"), ("local-2", "active"), ("local-3", "maintenance")];
    assert_eq!(states_of(&plane).await, pairs(&parked));
    let said = plane.output()[before..].to_owned();
    assert!(said.contains("local-2 is more than --servers asks for"), "{said}");
    assert!(said.contains("local-3 is not started") && said.contains("--servers 3"), "{said}");
    let data = plane.data_dir().join("servers");
    assert_eq!(processes_under(&data.join("local-3")), []);
    assert_eq!(text(&log_in(&made["connection"]).await, "SELECT body FROM kept").await, "here");
    // What is not started is no trouble.
    let status = stdout(&plane.cli(&["status"]));
    assert!(!status.contains("local-3 does not answer"), "{status}");

    // Said nothing, it is as before; asked for again, it is there again, as it was.
    plane.sigterm_and_wait().await;
    plane.set_args(&["--stock", "1"]);
    plane.start_again().await;
    assert_eq!(states_of(&plane).await, pairs(&parked));
    plane.sigterm_and_wait().await;
    plane.set_args(&["--stock", "1", "--servers", "3"]);
    plane.start_again().await;
    assert_eq!(states_of(&plane).await, pairs(&all));
    tenant_on(&plane, "local-3").await;
}

#[tokio::test]
async fn story_dev_stops_its_servers_together() {
    let mut plane = dev().stock(0).arg("--servers").arg("3").start().await;
    let data = plane.data_dir().join("servers");
    let postmaster = |name: &str| {
        let file = std::fs::read_to_string(data.join(name).join("postmaster.pid")).unwrap();
        Pid::from_raw(file.lines().next().unwrap().parse().unwrap())
    };
    // While the second hangs, the others end.
    let hung = postmaster("local-2");
    kill(hung, Signal::SIGSTOP).unwrap();
    kill(Pid::from_raw(plane.pid().cast_signed()), Signal::SIGTERM).unwrap();
    for name in ["local-1", "local-3"] {
        crate::common::until(name, async || match processes_under(&data.join(name)) {
            none if none.is_empty() => Ok(()),
            some => Err(format!("{some:?}")),
        })
        .await;
    }
    kill(hung, Signal::SIGCONT).unwrap();
    let status = plane.sigterm_and_wait().await;
    assert_eq!(status.code(), Some(0), "{}", plane.output());
    assert_eq!(processes_under(&data), [], "something runs on");
}

#[tokio::test]
async fn story_dev_refuses_a_strange_number_of_servers() {
    let directory = Directory::new();
    let data = directory.path().join("new");
    for n in ["0", "65"] {
        let ended = exits(dev_ends(&data, &["--servers", n]), 3);
        assert!(stderr(&ended).contains("--servers"), "{}", stderr(&ended));
    }
    exits(dev_ends(&data, &["--servers", "many"]), 2);
    assert!(!data.join("servers").exists());
    std::fs::create_dir_all(&data).unwrap();
    std::fs::write(data.join("dev.toml"), "postgres_port = \"x\"").unwrap();
    let ended = exits(dev_ends(&data, &[]), 3);
    assert!(stderr(&ended).contains("dev.toml"), "{}", stderr(&ended));
}
