//! Looks for every password and key that was ever issued, wherever an operator or an intruder would look: nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use freehold_testkit::{ADMIN_PASSWORD, Cluster, WEAK_ADMIN_PASSWORD, processes_under};
use reqwest::Method;
use serde_json::{Value as Json, json};

use crate::issued;
use crate::world::{Power, Tenant, World};

/// In connection strings that are refused, or lead nowhere.
const WRONG: &str = "wrongButSecretPassword1";
const SEALING_KEY: &str = "Zm9yIGlzb2xhdGlvbiB0ZXN0cyBhbmQgbm90aGluZyE";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leak_15_superuser() {
    no_secret_is_found_anywhere(15, Power::Superuser).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leak_18_weak_admin() {
    no_secret_is_found_anywhere(18, Power::Weak).await;
}

async fn no_secret_is_found_anywhere(version: u32, power: Power) {
    let cluster = Cluster::builder(version)
        .log_statements()
        .setting("shared_preload_libraries", "pg_stat_statements")
        .setting("pg_stat_statements.track_utility", "on")
        .setting("pg_stat_statements.track", "all")
        .setting("log_min_messages", "debug1")
        .setting("log_error_verbosity", "verbose")
        .setting("log_parameter_max_length_on_error", "-1")
        .setting("track_activity_query_size", "64kB");
    let edge = "[[edge]]\nkind = \"tansucloud\"";
    let world = World::serve_on(cluster, power, &[("FREEHOLD_LOG", "trace")], edge).await;
    let admin = world.superuser("postgres").await;
    admin.batch_execute("create extension pg_stat_statements").await.unwrap();

    let done = AtomicBool::new(false);
    let (mut places, (mut secrets, said)) = futures::join!(look_while(&world, &done), async {
        let worked = work(&world).await;
        done.store(true, Ordering::Relaxed);
        worked
    });
    secrets.push(("the superuser's password".into(), ADMIN_PASSWORD.into()));
    secrets.push(("the weak admin's password".into(), WEAK_ADMIN_PASSWORD.into()));
    secrets.push(("a password of a bad connection string".into(), WRONG.into()));
    secrets.push(("the sealing key".into(), SEALING_KEY.into()));
    secrets.push(("the sealing key, in plain".into(), "for isolation tests and nothing!".into()));
    secrets.push(("the first API key".into(), world.key.clone()));
    assert!(secrets.len() > 22 && secrets.iter().all(|(_, secret)| secret.len() >= 16));

    places.insert("answers without a credential".into(), said);
    for path in [
        "/metrics",
        "/v1/audit?limit=500",
        "/v1/operations?limit=500",
        "/v1/keys",
        "/v1/servers",
        "/v1/tenants",
        "/v1/status",
    ] {
        places.insert(path.into(), world.get(path).await.to_string());
    }
    let operations = world.get("/v1/operations?limit=500").await;
    let mut each = String::new();
    for operation in operations["items"].as_array().unwrap() {
        each.push_str(&world.get(&format!("/v1/operations/{}", operation["id"].as_str().unwrap())).await.to_string());
    }
    places.insert("each operation".into(), each);
    let cluster = world.cluster.as_ref().unwrap();
    places.insert("PostgreSQL's log".into(), cluster.log());
    places.insert("Freehold's log".into(), world.output());
    for (name, sql) in [
        ("pg_stat_statements", "select string_agg(query, ' ') from pg_stat_statements"),
        ("pg_stat_activity at the end", "select string_agg(a::text, ' ') from pg_stat_activity a"),
        ("stored settings", "select string_agg(s::text, ' ') from pg_db_role_setting s"),
        ("pg_authid", "select string_agg(a::text, ' ') from pg_authid a"),
    ] {
        let row = admin.query_one(sql, &[]).await.unwrap();
        places.insert(name.into(), row.get::<_, Option<String>>(0).unwrap_or_default());
    }
    let dump = Command::new(cluster.bin().join("pg_dump"))
        .env("PGPASSWORD", ADMIN_PASSWORD)
        .args(["-h", "127.0.0.1", "-U", "admin", "-p", &cluster.port().to_string(), "freehold_control"])
        .output()
        .unwrap();
    assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
    places.insert("a dump of the control store".into(), String::from_utf8_lossy(&dump.stdout).into_owned());

    for (place, least) in [
        ("Freehold's log", 100_000),
        ("PostgreSQL's log", 100_000),
        ("pg_stat_statements", 10_000),
        ("a dump of the control store", 50_000),
        ("ps", 500),
        ("environments", 500),
    ] {
        assert!(places[place].len() > least, "{place} has only {} bytes: was it looked at?", places[place].len());
    }
    let mut found = Vec::new();
    for (place, text) in &places {
        for (what, secret) in &secrets {
            for form in forms(secret) {
                if let Some(at) = text.find(&form) {
                    let line = text[..at].rsplit('\n').next().unwrap_or_default();
                    found.push(format!(
                        "{what} is in {place}, after: {}",
                        line.chars().rev().take(200).collect::<Vec<_>>().into_iter().rev().collect::<String>()
                    ));
                }
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
    // Passwords that nobody was told (of maintenance logins and builders): servers only ever see verifiers.
    let plain = regex::Regex::new(r"(?i)password\s+'([^']*)'").unwrap();
    let log = &places["PostgreSQL's log"];
    let seen: Vec<&str> = plain.captures_iter(log).map(|found| found.get(1).unwrap().as_str()).collect();
    assert!(seen.len() > 20 && seen.iter().all(|value| value.starts_with("SCRAM-SHA-256$4096:")), "{seen:?}");
}

/// As it is, and as PostgreSQL, a URL or a dump would write it.
fn forms(secret: &str) -> Vec<String> {
    let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    let base64 = {
        // The middle of what base64 makes of it, whatever comes before: three alignments.
        const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        (0..3).map(move |skip| {
            secret.as_bytes()[skip..]
                .chunks_exact(3)
                .flat_map(|three| {
                    let bits = u32::from(three[0]) << 16 | u32::from(three[1]) << 8 | u32::from(three[2]);
                    [18, 12, 6, 0].map(|shift| char::from(ALPHABET[(bits >> shift & 63) as usize]))
                })
                .collect::<String>()
        })
    };
    [secret.to_owned(), hex].into_iter().chain(base64).collect()
}

/// Everything that issues, reads, refuses and fails. Answers what was issued, and every text that must hold none of it.
async fn work(world: &World) -> (Vec<(String, String)>, String) {
    let mut secrets = Vec::new();
    let mut said = String::new();
    let mut say = |(status, body): (u16, Json)| said.push_str(&format!("{status} {body}\n"));
    let key = |name: &'static str, scopes: Json| async move {
        let (status, body) = world.post("/v1/keys", json!({"name": name, "scopes": scopes})).await;
        assert_eq!(status, 201, "{body}");
        body["key"].as_str().unwrap().to_owned()
    };
    let reader = key("reader", json!(["read"])).await;
    let credentials = key("credentials", json!(["credentials", "read"])).await;
    let provision = key("provision", json!(["provision"])).await;
    // One after another: all at once, with every statement and every trace logged, is a test of patience.
    let mut tenants: Vec<Tenant> = Vec::new();
    for n in 0..10 {
        tenants.push(world.create(json!({"id": format!("t{n}")})).await);
    }
    for tenant in &tenants {
        let path = format!("/v1/tenants/{}/connection", tenant.id);
        let (status, body) = world.request(Method::GET, &path, &credentials, None).await;
        assert_eq!((status, &body["direct"]["password"]), (200, &tenant.direct["password"]));
        secrets.push((format!("the password of {}", tenant.id), tenant.password().to_owned()));
        drop(tenant.session().await);
        // Who may not see it does not.
        say(world.request(Method::GET, &path, &reader, None).await);
        say(world.request(Method::GET, &format!("/v1/tenants/{}", tenant.id), &reader, None).await);
        say(world.request(Method::POST, "/v1/tenants", &provision, Some(json!({"id": tenant.id}))).await);
    }
    for tenant in &tenants[..4] {
        world.tell(tenant, "suspend").await;
        world.tell(tenant, "resume").await;
    }
    let session = tenants[4].session().await;
    session
        .batch_execute(&format!("set role none; alter role \"{}\" password null", tenants[4].login()))
        .await
        .unwrap();
    world.until_mended("the credential works again", || async { tenants[4].connect().await.is_ok() }).await;
    world.delete(&tenants[5], true).await;
    world.delete(&tenants[6], false).await;
    secrets.extend(issued::by_rotations(world, &tenants[7]).await);
    secrets.push(issued::by_adoption(world).await);
    let (issued, answer) = issued::by_the_edge(world, &provision).await;
    secrets.push(issued);
    say(answer);

    for body in [
        json!({"id": "x", "plan": "none"}),
        json!({"id": "x", "template": "none"}),
        json!({"id": "X; drop"}),
        json!({"id": "x", "password": WRONG}),
        json!({"id": "x", "template": "broken"}),
        json!([tenants[0].password()]),
    ] {
        say(world.post("/v1/tenants", body).await);
    }
    let broken = json!({"name": "broken", "files": {"template.toml": "description = \"broken\"\n", "migrations/0001_broken.sql": "select 1/0;"}});
    assert_eq!(world.post("/v1/templates", broken).await.0, 201);
    let (status, failed) = world.post("/v1/tenants", json!({"id": "x", "template": "broken"})).await;
    assert!(status >= 400, "{failed}");
    say((status, failed));
    let port = world.cluster.as_ref().unwrap().port();
    let dsns = [
        format!("postgres://admin:{WRONG}@127.0.0.1:{port}/postgres?sslmode=disable"),
        format!("postgres://admin:{WRONG}@127.0.0.1:1/postgres?sslmode=disable"),
        format!("postgres://admin:{WRONG}@[::1/postgres"),
        format!("postgres://admin:{WRONG}@/postgres?nonsense=1"),
        format!("host=127.0.0.1 password={WRONG} port=x"),
        format!("postgres://{WRONG}"),
    ];
    for (n, dsn) in dsns.into_iter().enumerate() {
        for dsn in [json!(dsn), json!([dsn])] {
            let body = json!({"id": format!("other-{n}"), "dsn": dsn});
            // Long enough for a refusal by the server, not for one that is not there.
            let headers = [("prefer", "wait=1")];
            say(world.request_with(Method::POST, "/v1/servers", &world.key, &headers, Some(body)).await);
            let path = format!("/v1/tenants/imported-{n}/import");
            say(world.request_with(Method::POST, &path, &world.key, &headers, Some(json!({"from": dsn}))).await);
        }
    }
    for key in [format!("{}x", world.key), world.key[..world.key.len() - 1].to_owned()] {
        say(world.request(Method::GET, "/v1/tenants", &key, None).await);
    }
    say(world.request(Method::GET, "/v1/nowhere", &world.key, None).await);
    for (name, key) in [("reader", reader), ("credentials", credentials), ("provision", provision)] {
        secrets.push((format!("the API key {name}"), key));
    }
    (secrets, said)
}

/// What whoever may look at processes and sessions sees while the work is done.
async fn look_while(world: &World, done: &AtomicBool) -> BTreeMap<String, String> {
    // Once each: what does not change is not kept again.
    let mut seen: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let admin = world.superuser("postgres").await;
    let cluster = world.cluster.as_ref().unwrap();
    while !done.load(Ordering::Relaxed) {
        let rows = admin.query("select a::text from pg_stat_activity a", &[]).await.unwrap();
        seen.entry("pg_stat_activity".into()).or_default().extend(rows.iter().map(|row| row.get::<_, String>(0)));
        let mut ours: Vec<i32> = [world.directory.path(), cluster.data()]
            .into_iter()
            .flat_map(processes_under)
            .map(|pid| pid.as_raw())
            .collect();
        ours.push(world.freehold.as_ref().unwrap().pid().cast_signed());
        for pid in ours {
            for (name, file) in [("ps", "cmdline"), ("environments", "environ")] {
                let bytes = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
                let text = String::from_utf8_lossy(&bytes).replace('\0', " ");
                seen.entry(name.into()).or_default().insert(text);
            }
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    seen.into_iter().map(|(place, texts)| (place, texts.into_iter().collect::<Vec<_>>().join("\n"))).collect()
}
