//! Encrypted on both sides, and nobody stands in for a server.

use std::path::{Path, PathBuf};

use freehold_drivers::pooler::{ClientTls, Pooler, ServerTls};
use freehold_drivers::server::managed::Authority;
use freehold_drivers::server::sql::{Session, SslMode};
use freehold_testkit::Cluster;
use jiff::SignedDuration;
use secrecy::ExposeSecret;

use crate::bench::{Bench, ask};

pub async fn clients_and_servers_are_spoken_to_over_tls(version: &str) {
    let now: jiff::Timestamp = server_time().await;
    let (authority, other) = (authority(now), authority(now));
    let mut cluster = Cluster::start(15);
    let issued = authority.issue(&["localhost", "127.0.0.1"], now, SignedDuration::from_hours(48)).unwrap();
    cluster.speak_tls(&issued.certificate_pem, issued.key_pem.expose_secret());
    let mut bench = Bench::stopped(version, cluster);
    let home = bench.pooler.directory().to_owned();
    let put = |name: &str, text: &str| put(&bench, &home, name, text);
    let front = authority.issue(&["localhost", "127.0.0.1"], now, SignedDuration::from_hours(48)).unwrap();
    let (certificate, key) =
        (put("server.crt", &front.certificate_pem), put("server.key", front.key_pem.expose_secret()));
    let (ca, wrong_ca) = (put("ca.crt", authority.certificate_pem()), put("other.crt", other.certificate_pem()));
    bench = bench.started().await;

    let tenants = bench.tenants(2).await;
    let wanted = |generation, ca: &PathBuf| {
        let mut wanted = bench.configuration(generation, &tenants);
        wanted.client_tls = ClientTls::Required { certificate: certificate.clone(), key: key.clone() };
        wanted.server_tls = ServerTls::VerifyFull { ca: ca.clone() };
        for entry in &mut wanted.entries {
            entry.server.host = "127.0.0.1".into();
        }
        wanted
    };
    bench.driver.apply(&wanted(2, &ca)).await.unwrap_or_else(|error| panic!("{error}\n{}", bench.pooler.log()));
    let plain = bench.dsn(&tenants[0]);
    let tls = plain.with_host("localhost", bench.pooler.port()).with_ca_pem(authority.certificate_pem().as_bytes());
    let tls = tls.with_sslmode(SslMode::VerifyFull);
    let enter =
        async |dsn: &freehold_drivers::server::sql::Dsn| Session::connect(dsn, Some("tenant0"), "app", &[]).await;
    let session = enter(&tls).await.unwrap_or_else(|error| panic!("{error}\n{}", bench.pooler.log()));
    assert_eq!(ask(&session, "select ssl from pg_stat_ssl where pid = pg_backend_pid()").await, "t");
    assert!(enter(&plain).await.is_err(), "nobody gets in without");

    // A server that another authority vouches for is not spoken to.
    bench.driver.apply(&wanted(3, &wrong_ca)).await.unwrap();
    let stranger = bench.dsn(&tenants[1]).with_host("localhost", bench.pooler.port());
    let stranger = stranger.with_ca_pem(authority.certificate_pem().as_bytes()).with_sslmode(SslMode::VerifyFull);
    let refused = Session::connect(&stranger, Some("tenant1"), "app", &[]);
    let refused = tokio::time::timeout(std::time::Duration::from_secs(3), refused).await;
    assert!(!matches!(refused, Ok(Ok(_))), "it spoke to a stranger");
}

fn authority(now: jiff::Timestamp) -> Authority {
    Authority::create(now, SignedDuration::from_hours(48)).unwrap()
}

fn put(bench: &Bench, home: &Path, name: &str, text: &str) -> PathBuf {
    let path = home.join(name);
    std::fs::write(&path, text).unwrap();
    bench.pooler.give_away(&path);
    path
}

/// Certificates are dated by somebody's clock: here by a server's.
async fn server_time() -> jiff::Timestamp {
    let cluster = Cluster::start(15);
    let client = cluster.connect("postgres").await;
    let row = client.query_one("select extract(epoch from now())::bigint", &[]).await.unwrap();
    jiff::Timestamp::from_second(row.get(0)).unwrap()
}
