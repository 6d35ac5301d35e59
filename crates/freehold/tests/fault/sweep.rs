//! A fleet of which some never answer: the others are looked at in time, and creates do not notice.

use std::time::{Duration, Instant};

use freehold_control::server::hands;
use freehold_drivers::secrets::Sealer;
use freehold_testkit::{ADMIN, Cluster};
use serde_json::json;
use uuid::Uuid;

use crate::rig::{Rig, Wanted};
use crate::serving::{Serve, until};
use crate::way::{Dropping, Way};

const SETTINGS: &str = "[stock]\nper_template = 120\n[health]\nperiod_seconds = 3600\ntimeout_seconds = 5\n[stats]\nperiod_seconds = 3600\n";
const LIMIT: Duration = Duration::from_secs(5);
const ANSWER: usize = 90;

/// Ninety servers that answer (one cluster under many names: nothing is placed there), and ten that do not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::print_stderr, reason = "how long it took, for whoever asks")]
async fn perf_a_sweep_waits_for_nobody_longer_than_its_limit() {
    let apart = Cluster::builder(15).setting("max_connections", "400").start();
    let rig = Rig::new(Wanted { apart: Some(apart), settings: SETTINGS, ..Wanted::default() }).await;
    let serve = rig.serve("").await;
    rig.add_server(&serve, 500, None).await;
    until("there is stock", async || {
        rig.count("SELECT count(*) FROM tenant_database WHERE state = 'ready'").await == 120
    })
    .await;

    let direct = rig.server().dsn(ADMIN);
    let port = rig.server().port();
    for n in 1..ANSWER {
        another(&rig, &format!("well-{n}"), &direct, port).await;
    }
    let (mut silent, mut dropping) = (Vec::new(), Vec::new());
    for n in 0..4 {
        silent.push(Way::silent().await);
        let way = &silent[n];
        another(&rig, &format!("silent-{n}"), &way.dsn(&direct), way.port).await;
    }
    for n in 0..3 {
        dropping.push(Dropping::new().await);
        let port = dropping[n].port;
        let dsn = direct.replace(&format!(":{}/", rig.server().port()), &format!(":{port}/"));
        another(&rig, &format!("dropping-{n}"), &dsn, port).await;
    }
    for (n, way) in silent.iter().enumerate().take(3) {
        // The admin gets in, and tenants hang.
        another(&rig, &format!("half-{n}"), &direct, way.port).await;
    }
    let well =
        "SELECT count(*) FROM server WHERE health = 'healthy' AND observed_at IS NOT NULL AND health_code IS NULL";
    for _ in 0..3 {
        // The first brings health's logins to all of them.
        sweep(&rig).await;
        if rig.count(well).await == ANSWER as i64 {
            break;
        }
    }
    assert_eq!(rig.count(well).await, ANSWER as i64, "{}", serve.output());

    let alone = creates(&serve, "alone", Duration::from_secs(2)).await;
    let (took, meanwhile) = tokio::join!(sweep(&rig), creates(&serve, "meanwhile", LIMIT));
    assert!(took >= LIMIT, "the black holes were not waited for: {took:?}");
    assert!(took <= LIMIT + Duration::from_secs(1), "a sweep over 100 servers took {took:?}");
    let (before, during) = (median(&alone), median(&meanwhile));
    let slowest = meanwhile.iter().max().expect("there were creates");
    eprintln!("sweep {took:?}; creates {before:?} alone, {during:?} meanwhile, the slowest {slowest:?}");
    assert!(during <= before * 3 + Duration::from_millis(20), "creates took {during:?} instead of {before:?}");
    assert!(*slowest < Duration::from_secs(1), "a create waited for {slowest:?}");

    assert_eq!(rig.count(well).await, ANSWER as i64);
    let codes = "SELECT string_agg(code || ' ' || count, ', ' ORDER BY code) FROM (SELECT health_code, count(*) FROM server WHERE health_code IS NOT NULL GROUP BY 1) x (code, count)";
    let codes: String = rig.sql.query_one(codes, &[]).await.expect("read the servers").get(0);
    assert_eq!(codes, "server_unreachable 7, tenants_shut_out 3");
}

/// A server row of its own, with its own connection string. Cordoned: looked at, and left alone otherwise.
async fn another(rig: &Rig, id: &str, dsn: &str, port: u16) {
    let sealer = Sealer::from_file(&rig.directory().join("sealing.key")).expect("read the key");
    let seal = Uuid::now_v7();
    let sealed = sealer.seal(&hands::dsn_context(seal, 1), dsn.as_bytes());
    let sql = "INSERT INTO server (id, kind, state, capacity, dsn, dsn_sealed, dsn_seal_id, tenant_host, tenant_port, tenant_sslmode)
        VALUES ($1, 'shared', 'cordoned', 1, '', $2, $3, '127.0.0.1', $4, 'disable')";
    rig.sql.execute(sql, &[&id, &sealed, &seal, &i32::from(port)]).await.expect("add a server");
}

/// How long one took, by the store's clock.
async fn sweep(rig: &Rig) -> Duration {
    let ended = "SELECT coalesce(extract(epoch FROM finished_at), 0)::float8, coalesce(extract(epoch FROM finished_at - started_at), 0)::float8
        FROM loop_lease WHERE name = 'health'";
    let look = async || {
        let row = rig.sql.query_one(ended, &[]).await.expect("read the loop");
        (row.get::<_, f64>(0), row.get::<_, f64>(1))
    };
    let before = look().await.0;
    let sql = "UPDATE loop_lease SET next_run_at = now() WHERE name = 'health'; NOTIFY freehold_loop, 'health'";
    rig.sql.batch_execute(sql).await.expect("wake the loop");
    until("the sweep is over", async || look().await.0 > before).await;
    Duration::from_secs_f64(look().await.1)
}

async fn creates(serve: &Serve, name: &str, during: Duration) -> Vec<Duration> {
    let (began, mut took) = (Instant::now(), Vec::new());
    while began.elapsed() < during {
        let asked = Instant::now();
        let (status, body) = serve.post("/v1/tenants", json!({"id": format!("{name}-{}", took.len())})).await;
        assert_eq!(status, 201, "{body}");
        took.push(asked.elapsed());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    took
}

fn median(times: &[Duration]) -> Duration {
    let mut times = times.to_vec();
    times.sort();
    times[times.len() / 2]
}
