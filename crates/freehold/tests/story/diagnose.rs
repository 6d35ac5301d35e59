//! Issue 3, item 6: `tenant diagnose` names the first link that is broken, whichever it is.

use std::os::fd::AsRawFd;
use std::time::Duration;

use freehold_drivers::server::managed::Authority;
use freehold_testkit::{ADMIN, ADMIN_PASSWORD, Cluster, Plane, Port};
use jiff::SignedDuration;
use secrecy::ExposeSecret;
use serde_json::{Value as Json, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use crate::common::{admin, create, dev, exits, expect, log_in, stdout, store, text, until_stock};

async fn diagnose(plane: &Plane) -> Json {
    expect(&plane.post("/v1/tenants/acme/diagnose", json!({})).await, 200).clone()
}

fn link<'a>(diagnosis: &'a Json, name: &str) -> &'a Json {
    let links = diagnosis["links"].as_array().unwrap();
    links.iter().find(|link| link["name"] == name).unwrap_or_else(|| panic!("no link {name}: {diagnosis:#}"))
}

/// This link is the first that is broken, says this, and says what to do.
#[track_caller]
fn broken<'a>(diagnosis: &'a Json, name: &str, says: &str) -> &'a Json {
    assert_eq!(diagnosis["broken"], name, "{diagnosis:#}");
    let link = link(diagnosis, name);
    assert!(link["state"] == "broken" && link["message"].as_str().unwrap().contains(says), "{link:#}");
    assert!(link["next"].as_str().is_some_and(|next| !next.is_empty()), "{link:#}");
    link
}

#[track_caller]
fn whole(diagnosis: &Json) {
    assert_eq!(diagnosis["broken"], Json::Null, "{diagnosis:#}");
    for link in diagnosis["links"].as_array().unwrap() {
        assert_eq!(link["state"], "ok", "{diagnosis:#}");
    }
}

/// Nothing is repaired, and nobody looks how full this machine's disk is.
async fn freeze(plane: &Plane) {
    expect(&plane.post("/v1/freezes", json!({"target": "all"})).await, 201);
    store(plane).await.batch_execute("UPDATE server SET data_free_bytes = NULL").await.unwrap();
}

/// A plane whose loops repair nothing, and its tenant's connection.
async fn broken_plane() -> (Plane, Json) {
    let plane = dev().stock(1).start().await;
    until_stock(&plane, "default", 1).await;
    let made = create(&plane, "acme").await;
    freeze(&plane).await;
    (plane, made["connection"].clone())
}

async fn move_address(plane: &Plane, host: &str, port: u16, sslmode: &str) {
    let sql = "UPDATE server SET tenant_host = $1, tenant_port = $2, tenant_sslmode = $3";
    store(plane).await.execute(sql, &[&host, &i32::from(port), &sslmode]).await.unwrap();
}

/// Takes no connection and refuses none: its queue is full.
fn black_hole() -> (std::net::TcpListener, Vec<std::net::TcpStream>, u16) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::new(1).unwrap()).unwrap();
    assert!(listener.as_raw_fd() > 0);
    let address = listener.local_addr().unwrap();
    let waiting =
        std::iter::from_fn(|| std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200)).ok());
    let waiting = waiting.take(16).collect();
    (listener, waiting, port)
}

/// Says this to whoever comes, and nothing else.
async fn listening(banner: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(banner.as_bytes()).await;
            kept.push(stream);
        }
    });
    port
}

#[tokio::test]
async fn story_diagnose_names_what_is_wrong_on_the_way() {
    let (plane, connection) = broken_plane().await;
    let (host, port) = ("127.0.0.1", u16::try_from(connection["direct"]["port"].as_u64().unwrap()).unwrap());
    let sslmode = connection["direct"]["sslmode"].as_str().unwrap().to_owned();
    let fine = diagnose(&plane).await;
    whole(&fine);
    let names: Vec<&str> =
        fine["links"].as_array().unwrap().iter().map(|link| link["name"].as_str().unwrap()).collect();
    let all = [
        "tenant",
        "server",
        "name",
        "port",
        "tls",
        "admin",
        "role",
        "connections",
        "login",
        "identity",
        "writes",
        "locks",
        "transactions",
        "disk",
    ];
    assert_eq!(names, all);
    assert!(link(&fine, "login")["milliseconds"].as_f64().unwrap() > 0.0);

    move_address(&plane, "db.invalid", port, &sslmode).await;
    let found = diagnose(&plane).await;
    broken(&found, "name", "db.invalid: the name does not resolve");
    for (name, state) in
        [("port", "skipped"), ("tls", "skipped"), ("login", "skipped"), ("admin", "ok"), ("role", "ok")]
    {
        assert_eq!(link(&found, name)["state"], state, "{name}");
    }

    let closed = Port::reserve();
    move_address(&plane, host, closed.number, &sslmode).await;
    broken(&diagnose(&plane).await, "port", "refused");

    let (_listener, _waiting, hole) = black_hole();
    move_address(&plane, host, hole, &sslmode).await;
    let found = diagnose(&plane).await;
    let slow = broken(&found, "port", "no answer within 5 s")["milliseconds"].as_f64().unwrap();
    assert!((5000.0..6000.0).contains(&slow), "{slow}");

    // Somebody listens, and is no PostgreSQL, or says nothing.
    for (banner, says) in
        [("SSH-2.0-OpenSSH_9.2\r\n", "no PostgreSQL"), ("220 mail\r\n", "no PostgreSQL"), ("", "no answer within 5 s")]
    {
        move_address(&plane, host, listening(banner).await, "prefer").await;
        broken(&diagnose(&plane).await, "tls", says);
    }
    move_address(&plane, host, listening("").await, "disable").await;
    broken(&diagnose(&plane).await, "login", "no answer within");

    move_address(&plane, host, port, &sslmode).await;
    whole(&diagnose(&plane).await);
    let shown = plane.cli(&["tenant", "diagnose", "acme"]);
    assert!(stdout(&exits(shown, 0)).ends_with("every link holds\n"));
}

#[tokio::test]
async fn story_diagnose_names_what_is_wrong_with_login_limits_and_locks() {
    let (plane, connection) = broken_plane().await;
    let user = connection["direct"]["user"].as_str().unwrap();
    let database = connection["direct"]["database"].as_str().unwrap();
    let superuser = admin(&plane, "postgres").await;
    let run = async |sql: &str| superuser.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    let mut seen = Vec::new();
    let mut look = async |name: &str, says: &str| {
        let found = diagnose(&plane).await;
        broken(&found, name, says);
        seen.push(found.to_string());
    };

    run(&format!("ALTER ROLE {user} NOLOGIN")).await;
    look("role", "NOLOGIN").await;
    run(&format!("ALTER ROLE {user} LOGIN; ALTER DATABASE {database} ALLOW_CONNECTIONS false")).await;
    look("role", "admits nobody").await;
    run(&format!("ALTER DATABASE {database} ALLOW_CONNECTIONS true")).await;

    // What a tenant may do to itself.
    let tenant = log_in(&connection).await;
    let owner = text(&tenant, "SELECT current_user::text").await;
    tenant.batch_execute(&format!("SET ROLE NONE; ALTER ROLE {user} SET role = 'none'")).await.unwrap();
    look("role", "role=none instead of").await;
    tenant.batch_execute(&format!("ALTER ROLE {user} SET role = '{owner}'")).await.unwrap();
    tenant.batch_execute(&format!("ALTER ROLE {user} SET default_transaction_read_only = on")).await.unwrap();
    look("writes", "read-only").await;
    tenant.batch_execute(&format!("ALTER ROLE {user} RESET default_transaction_read_only")).await.unwrap();
    let sql = "SELECT rolpassword FROM pg_authid WHERE rolname = $1";
    let verifier: String = superuser.query_one(sql, &[&user]).await.unwrap().get(0);
    tenant.batch_execute(&format!("ALTER ROLE {user} PASSWORD 'forgotten'")).await.unwrap();
    look("login", "the tenant has changed its password itself").await;
    run(&format!("ALTER ROLE {user} PASSWORD '{verifier}'")).await;
    whole(&diagnose(&plane).await);

    // A trap on every name that a diagnosis could say is not stepped into.
    tenant.batch_execute("RESET ROLE").await.unwrap();
    tenant
        .batch_execute(
            "CREATE SCHEMA trap;
             CREATE TABLE trap.sprung (by text);
             GRANT ALL ON SCHEMA trap, public TO PUBLIC; GRANT ALL ON TABLE trap.sprung TO PUBLIC;
             CREATE FUNCTION trap.pg_is_in_recovery() RETURNS bool LANGUAGE plpgsql AS
                $$ BEGIN INSERT INTO trap.sprung VALUES (current_user); RETURN true; END $$;
             CREATE FUNCTION trap.current_database() RETURNS name LANGUAGE sql AS $$ SELECT 'trap'::name $$;
             CREATE VIEW trap.pg_stat_activity AS SELECT 1 AS pid WHERE trap.pg_is_in_recovery();",
        )
        .await
        .unwrap();
    tenant
        .batch_execute(&format!("SET ROLE NONE; ALTER ROLE {user} SET search_path = trap, pg_catalog"))
        .await
        .unwrap();
    let found = diagnose(&plane).await;
    assert_eq!(found["broken"], Json::Null, "{found:#}");
    assert_eq!(text(&tenant, "SELECT count(*)::text FROM trap.sprung").await, "0");
    tenant.batch_execute(&format!("ALTER ROLE {user} RESET search_path; RESET ROLE")).await.unwrap();

    // Locks.
    tenant.batch_execute("CREATE TABLE t (n int)").await.unwrap();
    tenant.batch_execute("BEGIN; LOCK TABLE t").await.unwrap();
    let waiter = log_in(&connection).await;
    let waiting = tokio::spawn(async move { waiter.batch_execute("SELECT FROM t").await });
    tokio::time::sleep(Duration::from_millis(5500)).await;
    look("locks", "1 session wait for locks").await;
    let holder: i32 = tenant.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    let shown = stdout(&exits(plane.cli(&["tenant", "diagnose", "acme"]), 12));
    assert!(shown.contains(&format!("held by {holder} ({user}, idle in transaction")), "{shown}");
    tenant.batch_execute("COMMIT").await.unwrap();
    waiting.await.unwrap().unwrap();

    // Connections.
    let mut open = vec![tenant];
    while let Ok(another) = freehold_testkit::as_tenant(&connection).await {
        open.push(another);
    }
    look("connections", "connections open: the next is refused").await;
    assert_eq!(link(&diagnose(&plane).await, "login")["state"], "broken");
    drop(open);

    run("ALTER SYSTEM RESET ALL").await;
    expect(&plane.delete("/v1/freezes/all").await, 204);
    expect(
        &plane
            .request(
                reqwest::Method::POST,
                "/v1/tenants/acme/suspend",
                &[("prefer", "wait=30")],
                Some(json!({"reason": "unpaid"})),
            )
            .await,
        200,
    );
    freeze(&plane).await;
    look("tenant", "suspended").await;
    assert_eq!(link(&diagnose(&plane).await, "login")["state"], "skipped");
    store(&plane)
        .await
        .batch_execute("UPDATE tenant SET state = 'active'; UPDATE server SET state = 'maintenance'")
        .await
        .unwrap();
    look("server", "maintenance").await;
    store(&plane).await.batch_execute("UPDATE server SET state = 'active'").await.unwrap();
    run(&format!("DROP DATABASE {database} WITH (FORCE)")).await;
    look("role", "there is no database").await;

    let password = connection["direct"]["password"].as_str().unwrap();
    assert!(seen.iter().all(|text| !text.contains(password) && !text.contains("forgotten")), "a secret is shown");
}

#[tokio::test]
async fn story_diagnose_verifies_certificates_and_tells_a_server_that_is_away() {
    let now = "2026-01-01T00:00:00Z".parse().unwrap();
    let authority = || Authority::create(now, SignedDuration::from_hours(24 * 3650)).unwrap();
    let (trusted, other) = (authority(), authority());
    let issued = trusted.issue(&["localhost"], now, SignedDuration::from_hours(24 * 3650)).unwrap();
    let mut cluster = Cluster::start(15);
    cluster.speak_tls(&issued.certificate_pem, issued.key_pem.expose_secret());
    let plane = dev().stock(0).start().await;
    expect(&plane.post("/v1/servers/local-1/cordon", json!({})).await, 200);
    let dsn = format!("postgres://{ADMIN}:{ADMIN_PASSWORD}@localhost:{}/postgres?sslmode=verify-full", cluster.port());
    let body = json!({"id": "tls", "dsn": dsn, "ca_certificate": trusted.certificate_pem()});
    expect(&plane.post("/v1/servers", body).await, 201);
    create(&plane, "acme").await;
    freeze(&plane).await;
    let fine = diagnose(&plane).await;
    whole(&fine);
    assert_eq!(link(&fine, "tls")["message"], "the certificate of localhost is good");

    let sql = "UPDATE server SET ca_certificate = $1, tenant_sslmode = $2 WHERE id = 'tls'";
    let trust = async |authority: &Authority, sslmode: &str| {
        store(&plane).await.execute(sql, &[&authority.certificate_pem(), &sslmode]).await.unwrap();
    };
    trust(&other, "verify-full").await;
    let found = diagnose(&plane).await;
    broken(&found, "tls", "certificate");
    assert_eq!(
        (&link(&found, "login")["state"], &link(&found, "admin")["state"]),
        (&json!("skipped"), &json!("notable"))
    );
    trust(&other, "require").await;
    let found = diagnose(&plane).await;
    assert_eq!((&found["broken"], &link(&found, "tls")["state"]), (&Json::Null, &json!("notable")), "{found:#}");
    exits(plane.cli(&["tenant", "diagnose", "acme"]), 10);
    // By its address it has another name than the certificate's.
    store(&plane).await.batch_execute("UPDATE server SET tenant_host = '127.0.0.1' WHERE id = 'tls'").await.unwrap();
    trust(&trusted, "verify-full").await;
    broken(&diagnose(&plane).await, "tls", "127.0.0.1");

    cluster.stop();
    let found = diagnose(&plane).await;
    broken(&found, "port", "refused");
    let own = link(&found, "admin");
    assert!(own["state"] == "notable" && own["message"].as_str().unwrap().contains("refused"), "{own}");
    assert_eq!(link(&found, "role")["state"], "skipped");
}
