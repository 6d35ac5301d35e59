use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use freehold_testkit::{ADMIN, Cluster, Port, as_tenant, processes_under};
use nix::sys::signal::Signal;
use serde_json::json;
use tokio_postgres::NoTls;

async fn starts_dies_and_starts_again(version: u32) {
    let mut cluster = Cluster::builder(version).setting("wal_level", "logical").log_statements().start();
    let client = cluster.connect("postgres").await;
    let said: String = client.query_one("SHOW server_version", &[]).await.unwrap().get(0);
    assert_eq!(said.split('.').next(), Some(version.to_string().as_str()));
    let level: String = client.query_one("SHOW wal_level", &[]).await.unwrap().get(0);
    assert_eq!(level, "logical");
    client.batch_execute("CREATE TABLE kept (a int); INSERT INTO kept VALUES (41)").await.unwrap();

    let weak = cluster.weak_admin().await;
    assert_eq!(cluster.weak_admin().await, weak);
    let (admin, connection) = tokio_postgres::connect(&weak, NoTls).await.unwrap();
    tokio::spawn(connection);
    let row = admin
        .query_one("SELECT rolsuper, rolcreatedb, rolcreaterole FROM pg_roles WHERE rolname = current_user", &[])
        .await;
    let row = row.unwrap();
    assert_eq!((row.get::<_, bool>(0), row.get::<_, bool>(1), row.get::<_, bool>(2)), (false, true, true));
    assert!(cluster.connect_as(ADMIN, "wrong", "postgres").await.is_err());

    cluster.kill();
    assert!(client.query_one("SELECT 1", &[]).await.is_err());
    cluster.start_again();
    cluster.stop_immediate();
    cluster.start_again();
    cluster.signal(Signal::SIGSTOP);
    cluster.stop();
    cluster.set("work_mem", "5MB");
    cluster.start_again();
    let endpoint = json!({"direct": {
        "host": "127.0.0.1", "port": cluster.port(), "user": ADMIN, "password": freehold_testkit::ADMIN_PASSWORD, "database": "postgres",
    }});
    let client = as_tenant(&endpoint).await.unwrap();
    let kept: i32 = client.query_one("SELECT a FROM kept", &[]).await.unwrap().get(0);
    let memory: String = client.query_one("SHOW work_mem", &[]).await.unwrap().get(0);
    assert_eq!((kept, memory.as_str()), (41, "5MB"));
    assert!(cluster.log().contains("INSERT INTO kept"));

    let data = cluster.data().to_owned();
    let pid = cluster.pid();
    drop(cluster);
    assert!(!data.exists());
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
}

#[tokio::test]
async fn a_cluster_of_15() {
    starts_dies_and_starts_again(15).await;
}

#[tokio::test]
async fn a_cluster_of_16() {
    starts_dies_and_starts_again(16).await;
}

#[tokio::test]
async fn a_cluster_of_18() {
    starts_dies_and_starts_again(18).await;
}

#[tokio::test]
async fn clusters_do_not_share_a_port() {
    let clusters = [Cluster::start(15), Cluster::start(15), Cluster::start(15)];
    let mut ports: Vec<u16> = clusters.iter().map(Cluster::port).chain([Port::reserve().number]).collect();
    ports.sort();
    ports.dedup();
    assert_eq!(ports.len(), 4);
}

/// Not a test of its own: what the next one kills.
#[test]
#[ignore = "waits to be killed"]
fn wait_to_be_killed() {
    if std::env::var_os("TESTKIT_WAIT").is_none() {
        return;
    }
    let cluster = Cluster::start(15);
    use std::io::Write;
    writeln!(std::io::stdout().lock(), "\ndata={}", cluster.data().display()).unwrap();
    std::thread::sleep(Duration::from_secs(60));
}

#[test]
fn nothing_is_left_of_a_test_that_is_killed() {
    let mut test = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", "clusters::wait_to_be_killed"])
        .env("TESTKIT_WAIT", "1")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(test.stdout.take().unwrap()).lines();
    let data = lines.map_while(Result::ok).find_map(|line| line.strip_prefix("data=").map(PathBuf::from)).unwrap();
    assert!(!processes_under(&data).is_empty());
    test.kill().unwrap();
    test.wait().unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while data.exists() || !processes_under(&data).is_empty() {
        assert!(Instant::now() < deadline, "{} is still there", data.display());
        std::thread::sleep(Duration::from_millis(20));
    }
}
