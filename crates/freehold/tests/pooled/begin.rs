//! What an agent needs before it begins: named where it is missing, used where it is there.

use std::net::TcpListener;

use freehold_drivers::server::managed::Authority;
use freehold_drivers::server::sql::{Session, SslMode};
use freehold_testkit::{Port, unprivileged_user};
use jiff::{SignedDuration, Timestamp};
use nix::sys::signal::Signal;
use secrecy::ExposeSecret;

use crate::bench::{Bench, ask};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_missing_or_taken_is_named_before_it_begins() {
    let mut bench = Bench::new("1.18").await;
    let refused = |args: &[&str], words: &[&str]| {
        let output = bench.command(args).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(3), "{args:?}: {said}");
        for word in words {
            assert!(said.contains(word), "{args:?} does not say {word:?}: {said}");
        }
    };
    refused(&["--listen", "*:6432"], &["unencrypted", "--tls-certificate", "--tls off"]);
    refused(&["--listen", "6432"], &["ADDRESS:PORT", "10.0.0.7:6432"]);
    refused(&["--tls", "required"], &["--tls-certificate"]);
    refused(&["--server-ca", "/nowhere/ca.pem"], &["/nowhere/ca.pem"]);
    refused(&["--run-as", "nobody-of-this-name"], &["nobody-of-this-name"]);
    std::fs::rename(bench.key_file(), bench.key_file().with_extension("gone")).unwrap();
    refused(&[], &["read the API key in", "key"]);
    std::fs::rename(bench.key_file().with_extension("gone"), bench.key_file()).unwrap();
    let taken = Port::reserve();
    let listener = TcpListener::bind(("127.0.0.1", taken.number)).unwrap();
    refused(&["--listen", &format!("127.0.0.1:{}", taken.number)], &["port", &taken.number.to_string()]);
    drop(listener);

    bench.say(1, &[], &[]);
    bench.start(&[]);
    bench.plane.until_in_force(1).await;
    let output = bench.command(&[]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(3) && said.contains("another agent works in"), "{said}");
    assert!(bench.end(Signal::SIGINT).success());
    // A key that the plane refuses is read again: somebody may have put another one there.
    std::fs::write(bench.key_file(), "fh_old").unwrap();
    bench.say(2, &[], &[]);
    bench.start(&["--stop-with-me"]);
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    std::fs::write(bench.key_file(), crate::fake::KEY).unwrap();
    bench.plane.until_in_force(2).await;
    assert!(bench.end(Signal::SIGTERM).success());
}

/// With a certificate nobody gets in without TLS, and servers are verified by name.
pub async fn both_sides_are_encrypted_where_certificates_are(version: &'static str) {
    let mut bench = Bench::new(version).await;
    let row = bench.cluster.connect("postgres").await;
    let row = row.query_one("SELECT extract(epoch FROM now())::bigint", &[]).await.unwrap();
    let now = Timestamp::from_second(row.get(0)).unwrap();
    let authority = Authority::create(now, SignedDuration::from_hours(48)).unwrap();
    let issue = || authority.issue(&["localhost", "127.0.0.1"], now, SignedDuration::from_hours(48)).unwrap();
    let (server, front) = (issue(), issue());
    bench.cluster.speak_tls(&server.certificate_pem, server.key_pem.expose_secret());
    let put = |name: &str, text: &str| {
        let path = bench.key_file().with_file_name(name);
        std::fs::write(&path, text).unwrap();
        if let Some(user) = unprivileged_user() {
            std::os::unix::fs::chown(&path, Some(user.uid.as_raw()), Some(user.gid.as_raw())).unwrap();
        }
        path.display().to_string()
    };
    let (certificate, key) =
        (put("front.crt", &front.certificate_pem), put("front.pem", front.key_pem.expose_secret()));
    let ca = put("ca.crt", authority.certificate_pem());
    let tenant = bench.tenant("acme").await;
    bench.say(1, std::slice::from_ref(&tenant), &[]);
    bench.start(&["--tls-certificate", &certificate, "--tls-key", &key, "--server-ca", &ca]);
    bench.plane.until_in_force(1).await;
    assert!(bench.login(&tenant).await.is_err(), "nobody gets in without");
    let dsn = bench.dsn(&tenant).with_host("localhost", bench.port.number);
    let dsn = dsn.with_ca_pem(authority.certificate_pem().as_bytes()).with_sslmode(SslMode::VerifyFull);
    let session = Session::connect(&dsn, Some("acme"), "app", &[]).await.unwrap();
    assert_eq!(ask(&session, "select ssl from pg_stat_ssl where pid = pg_backend_pid()").await, "t");
}
