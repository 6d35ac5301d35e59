//! A platform whose poolers have a certificate and know their servers' authority: nothing travels in the clear.

use freehold_drivers::server::managed::{Authority, Issued};
use freehold_testkit::{ADMIN, ADMIN_PASSWORD, Cluster, as_tenant, unprivileged_user};
use jiff::{SignedDuration, Timestamp};
use secrecy::ExposeSecret;
use serde_json::json;

use crate::platform::{Place, all_are_healthy, pooled};
use crate::story::{ask, create};

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
