//! What a change costs those whom it does not concern: nothing but a moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use freehold_drivers::pooler::{Configuration, Pooler};

use crate::bench::{Bench, Tenant, ask};

pub async fn a_reload_under_load_fails_nothing(version: &str) {
    let bench = Bench::start(version).await;
    let tenants = bench.tenants(2).await;
    let (mut generation, mut reloads) = (1, 0);
    bench.apply(2, &tenants).await;
    let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut clients = Vec::new();
    for tenant in tenants.iter().chain(&tenants) {
        let session = bench.login(tenant).await.unwrap();
        let (stop, asked) = (stop.clone(), asked.clone());
        clients.push(tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                session.execute_script("begin; select 1; commit").await.unwrap();
                asked.fetch_add(1, Ordering::Relaxed);
            }
        }));
    }
    // One shape for all: their verifiers are not asked for.
    let shape = Tenant::new("shape");
    for (count, times) in [(10, 5), (1_000, 5)] {
        for _ in 0..times {
            generation += 1;
            let wanted = with_neighbours(&bench, generation + 1, &tenants, &shape, count);
            reloads += bench.driver.apply(&wanted).await.unwrap().reloads;
        }
    }
    let before = asked.load(Ordering::Relaxed);
    let deadline = Instant::now() + Duration::from_secs(30);
    while asked.load(Ordering::Relaxed) < before + 100 {
        assert!(Instant::now() < deadline && clients.iter().all(|client| !client.is_finished()));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.expect("no query failed");
    }
    assert_eq!(reloads, 10);
    assert_eq!(bench.driver.observe().await.unwrap().databases, 1_002);
}

fn with_neighbours(bench: &Bench, generation: u64, tenants: &[Tenant], shape: &Tenant, count: usize) -> Configuration {
    let mut wanted = bench.configuration(generation, tenants);
    for number in 0..count {
        let mut entry = bench.entry(shape);
        entry.name = format!("neighbour{number}-{generation}");
        entry.logins[0].role = format!("neighbour{number}");
        wanted.entries.push(entry);
    }
    wanted
}

pub async fn reloads_are_counted_and_keep_their_pace(version: &str) {
    let bench = Bench::start(version).await;
    let tenants = bench.tenants(1).await;
    let mut options = bench.keys.options(bench.pooler.directory(), bench.pooler.port());
    options.pace = Duration::from_millis(300);
    let driver = freehold_drivers::pooler::pgbouncer::PgBouncer::new(options);
    let began = Instant::now();
    let applied: Vec<_> = futures::future::join_all([2, 2, 2].map(|generation| {
        let wanted = bench.configuration(generation, &tenants);
        let driver = &driver;
        async move { driver.apply(&wanted).await.unwrap().reloads }
    }))
    .await;
    // The same one three times at once: one reload.
    assert_eq!(applied.iter().sum::<u32>(), 1, "{applied:?}");
    for generation in [3, 4] {
        assert_eq!(driver.apply(&bench.configuration(generation, &tenants)).await.unwrap().reloads, 1);
    }
    assert!(began.elapsed() >= Duration::from_millis(600), "{:?}", began.elapsed());
    let reloads = bench.pooler.log().matches("RELOAD command issued").count();
    assert_eq!(reloads, 3);

    // In any order it is the same configuration.
    let mut wanted = bench.configuration(4, &tenants);
    wanted.entries.reverse();
    assert_eq!(driver.apply(&wanted).await.unwrap().reloads, 0);
    // Another port is the next start's.
    wanted.generation = 5;
    wanted.listen.port += 1;
    let applied = driver.apply(&wanted).await.unwrap();
    assert_eq!(applied.needs_restart.into_iter().collect::<Vec<_>>(), ["listen_port"]);
    // Limits count at once.
    wanted.generation = 6;
    wanted.listen.port -= 1;
    wanted.limits.client_connections = 77;
    wanted.entries[0].client_connections = Some(9);
    wanted.extra.insert("tcp_keepidle".into(), "42".into());
    let applied = driver.apply(&wanted).await.unwrap();
    let lacks_client_limits = applied.left_out.contains("max_db_client_connections");
    assert_eq!(lacks_client_limits, version == "1.18");
    let console = bench.console().await;
    let config = console.simple_query("SHOW CONFIG").await.unwrap();
    let said = |key| config.iter().find(|row| row.get("key") == Some(key)).and_then(|row| row.get("value")).unwrap();
    assert_eq!((said("max_client_conn"), said("tcp_keepidle"), said("syslog_ident")), ("77", "42", "freehold-6"));
}

pub async fn what_a_pooler_does_is_counted(version: &str) {
    let bench = Bench::start(version).await;
    let tenants = bench.tenants(2).await;
    bench.apply(2, &tenants).await;
    let session = bench.login(&tenants[0]).await.unwrap();
    for _ in 0..5 {
        ask(&session, "select 1").await;
    }
    let stats = bench.driver.stats().await.unwrap();
    let names: Vec<&str> = stats.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["tenant0", "tenant1"]);
    let (busy, idle) = (&stats[0], &stats[1]);
    assert_eq!((busy.host.as_str(), busy.port), ("127.0.0.1", bench.cluster.port()));
    assert_eq!((busy.database.as_str(), busy.connections), ("tenant0 db", 1));
    assert!(!busy.paused && !busy.disabled);
    assert!(busy.totals.queries >= 5 && busy.totals.received_bytes > 0, "{busy:?}");
    assert_eq!(busy.client_connections, (version == "1.24").then_some(1));
    let pool = busy.pools.iter().find(|pool| pool.user == tenants[0].role).unwrap();
    assert_eq!(
        (pool.cl_active, pool.sv_idle + pool.sv_used + pool.sv_active, pool.mode.as_str()),
        (1, 1, "transaction")
    );
    assert_eq!((idle.totals.queries, idle.connections), (0, 0));
    assert!(bench.driver.version().await.unwrap().starts_with(version));
    let observed = bench.driver.observe().await.unwrap();
    assert_eq!((observed.loaded, observed.written, observed.databases), (Some(2), Some(2), 2));
    assert!(observed.edited.is_empty() && observed.paused.is_empty());
}
