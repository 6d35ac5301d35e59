//! What an agent needs before it begins, named where it is missing.

use std::net::TcpListener;

use freehold_testkit::Port;
use nix::sys::signal::Signal;

use crate::bench::Bench;

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
