//! Poolers with a certificate. Those of a platform that know their servers' authority: nothing travels in the clear. That of
//! `freehold dev`: who asks for it is encrypted, and nobody has to.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use freehold_drivers::server::managed::{Authority, Issued};
use freehold_testkit::{ADMIN, ADMIN_PASSWORD, Cluster, as_tenant, unprivileged_user};
use jiff::{SignedDuration, Timestamp};
use secrecy::ExposeSecret;
use serde_json::{Value as Json, json};

use crate::platform::{Place, all_are_healthy, pooled};
use crate::story::{ask, connection, create, dev, until_in};

pub async fn poolers_of_a_platform_speak_tls_to_both_sides(version: &'static str) {
    let mut cluster = Cluster::start(15);
    let row = cluster.connect("postgres").await;
    let row = row.query_one("SELECT extract(epoch FROM now())::bigint", &[]).await.unwrap();
    let now = Timestamp::from_second(row.get(0)).unwrap();
    let days = SignedDuration::from_hours(48);
    let (of_poolers, of_servers) = (Authority::create(now, days).unwrap(), Authority::create(now, days).unwrap());
    let issue = |authority: &Authority| -> Issued { authority.issue(&["localhost", "127.0.0.1"], now, days).unwrap() };
    let (front, server) = (issue(&of_poolers), issue(&of_servers));
    cluster.speak_tls(&server.certificate_pem, server.key_pem.expose_secret());

    let place = Place::new();
    let put = |name: &str, text: &str| {
        let path = place.file(name);
        std::fs::write(&path, text).unwrap();
        if let Some(user) = unprivileged_user() {
            std::os::unix::fs::chown(&path, Some(user.uid.as_raw()), Some(user.gid.as_raw())).unwrap();
        }
        path.display().to_string()
    };
    let settings = format!(
        "certificate = {:?}\ncertificate_key = {:?}\nca_certificate = {:?}\nserver_ca = {:?}\n",
        put("front.crt", &front.certificate_pem),
        put("front.key", front.key_pem.expose_secret()),
        put("poolers.pem", of_poolers.certificate_pem()),
        put("servers.pem", of_servers.certificate_pem()),
    );
    let plane = place.plane(version, 3, &settings).await;
    all_are_healthy(&plane, &["pooler-1"]).await;
    // The plane's own server speaks no TLS: these poolers would not go there.
    assert_eq!(plane.post("/v1/servers/local-1/cordon", json!({})).await.0, 200);
    let dsn = format!("postgres://{ADMIN}:{ADMIN_PASSWORD}@127.0.0.1:{}/postgres?sslmode=verify-full", cluster.port());
    let body = json!({"id": "tls", "dsn": dsn, "ca_certificate": of_servers.certificate_pem()});
    let (status, _, added) = plane.post("/v1/servers", body).await;
    assert_eq!(status, 201, "{added}");
    create(&plane, "acme").await;

    let found = pooled(&plane, "acme").await;
    assert_eq!(found["pooled"]["sslmode"], "verify-full", "{found}");
    let client = as_tenant(&found).await.unwrap();
    let database = found["direct"]["database"].as_str().unwrap();
    assert_eq!(ask(&client, "SELECT current_database()::text").await.unwrap(), database);
    let sql = "SELECT count(*), bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE datname = $1";
    let row = cluster.connect("postgres").await.query_one(sql, &[&database]).await.unwrap();
    assert!(row.get::<_, i64>(0) > 0 && row.get::<_, bool>(1), "the pooler's connections to its server are encrypted");
    // Neither in the clear, nor where another authority vouches for it.
    let mut other = found.clone();
    other["pooled"]["ca_certificate"] = json!(of_servers.certificate_pem());
    assert!(as_tenant(&other).await.is_err(), "the certificate is verified");
    other["pooled"]["ca_certificate"] = json!(null);
    let refused = as_tenant(&other).await.expect_err("nobody gets in without TLS").to_string();
    assert!(!refused.contains("password"), "{refused}");
}

pub async fn the_pooler_of_dev_speaks_tls_to_whoever_asks(version: &'static str) {
    let mut plane = dev(version, 1).await;
    let made = create(&plane, "acme").await["pooled"].clone();
    // What is printed adds no handshake to a connect on loopback.
    assert_eq!(made["sslmode"], "disable");
    let plain = as_tenant(&made).await.unwrap();
    let now = ask(&plain, "SELECT extract(epoch FROM now())::bigint::text").await.unwrap();
    let now = Timestamp::from_second(now.parse().unwrap()).unwrap();
    let stranger = Authority::create(now, SignedDuration::from_hours(48)).unwrap();
    let put = |name: &str, pem: &str| {
        let path = plane.directory().join(name);
        std::fs::write(&path, pem).unwrap();
        path
    };
    let authority = made["ca_certificate"].as_str().expect("the answer has the authority").to_owned();
    let (known, other) = (put("known.pem", &authority), put("other.pem", stranger.certificate_pem()));

    let enters = |how: &str, authority: &Path| psql(&made, &format!("{how} sslrootcert={}", authority.display()));
    let verified = || {
        for host in ["127.0.0.1", "localhost"] {
            let said = enters(&format!("host={host} sslmode=verify-full"), &known).unwrap();
            assert!(said.contains("TLSv1"), "{said}");
        }
    };
    verified();
    let said = enters("host=127.0.0.1 sslmode=disable", &known).unwrap();
    assert!(!said.contains("TLSv1"), "{said}");
    let refused = enters("host=127.0.0.1 sslmode=verify-full", &other).unwrap_err();
    assert!(refused.contains("certificate verify failed"), "{refused}");
    let refused = enters("host=elsewhere.example hostaddr=127.0.0.1 sslmode=verify-full", &known).unwrap_err();
    assert!(refused.contains("does not match host name"), "{refused}");
    // Whatever follows libpq is as particular.
    let mut asked = made.clone();
    asked["sslmode"] = json!("verify-full");
    assert_eq!(ask(&as_tenant(&asked).await.unwrap(), "SELECT 'in'").await.unwrap(), "in");
    asked["ca_certificate"] = json!(stranger.certificate_pem());
    assert!(as_tenant(&asked).await.is_err(), "the certificate is verified");
    let key = plane.data_dir().join("pooler/run/client.key");
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);

    // Whoever was told the authority once needs no other: after a start in order, and on the PgBouncer that a kill left.
    plane.restart(&[]).await;
    until_in(&connection(&plane, "acme").await).await;
    verified();
    plane.kill_group().await;
    verified();
    plane.start_again().await;
    until_in(&connection(&plane, "acme").await).await;
    verified();
    assert_eq!(connection(&plane, "acme").await["pooled"]["ca_certificate"], json!(authority));
}

/// What psql says of its connection, or why there is none.
fn psql(pooled: &Json, how: &str) -> Result<String, String> {
    let text = |name: &str| pooled[name].as_str().unwrap();
    let place = format!("port={} dbname={} user={} {how}", pooled["port"], text("database"), text("user"));
    let mut psql = Command::new("psql");
    psql.args(["-XAt", "-c", "\\conninfo", "-c", "SELECT 'in'", &place]).env("PGPASSWORD", text("password"));
    let output = psql.output().expect("psql is installed");
    let (said, why) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.success() && said.ends_with("in\n") { Ok(said.into_owned()) } else { Err(why.into_owned()) }
}
