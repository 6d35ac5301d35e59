//! What more servers bring: creates per second on one and on four, each 20 ms away; and what a thousand servers cost a
//! create.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use freehold_testkit::{ADMIN, Cluster, ClusterBuilder};
use futures::future::try_join_all;
use serde_json::json;

use crate::bench::{Bench, Kind};
use crate::delay::Delay;
use crate::report::{Goal, Report, Row};
use crate::samples::{Samples, timed};
use crate::{Res, Scale, say};

const ROUND_TRIP: Duration = Duration::from_millis(20);
const FOUR: [&str; 4] = ["far-1", "far-2", "far-3", "far-4"];
const ONE: [&str; 1] = ["far-0"];
/// Per server, which makes two databases at a time: one server gets a quarter of what four get, as a fleet's load grows with
/// it. All of them share this machine's cores: with more callers it is those that are measured.
const CALLERS: usize = 2;
/// As a server of Freehold's own has them; tests' are smaller and forget.
const SETTINGS: [(&str, &str); 5] = [
    ("fsync", "on"),
    ("full_page_writes", "on"),
    ("shared_buffers", "256MB"),
    ("min_wal_size", "2GB"),
    ("max_wal_size", "4GB"),
];

pub async fn run(binary: &Path, scale: &Scale, report: &mut Report) -> Res<()> {
    far(binary, scale, report).await?;
    many(binary, scale, report).await
}

pub fn settings(cluster: ClusterBuilder) -> ClusterBuilder {
    SETTINGS.iter().fold(cluster, |cluster, (name, value)| cluster.setting(name, value))
}

/// The one is another server than the four: both sides stay equally empty.
async fn far(binary: &Path, scale: &Scale, report: &mut Report) -> Res<()> {
    say("servers: starting five, each behind a proxy");
    let bench = Bench::start(binary, &[]).await?;
    bench.add_template("app", Kind::Plain).await?;
    bench.post("/v1/servers/local-1/cordon", &json!({})).await?;
    let mut clusters = Vec::new();
    for name in ONE.into_iter().chain(FOUR) {
        let cluster = settings(Cluster::builder(15).own_identity()).start();
        let delay = Delay::before(cluster.port(), ROUND_TRIP).await?;
        let dsn = cluster.dsn(ADMIN).replace(&format!(":{}/", cluster.port()), &format!(":{}/", delay.port));
        bench.post("/v1/servers", &json!({"id": name, "dsn": dsn, "capacity": 5000})).await?;
        clusters.push((cluster, delay));
    }
    let next = AtomicU64::new(0);
    let (mut one, mut four) = (Samples::default(), Samples::default());
    // The first turn builds the template on each.
    for turn in 0..=scale.turns {
        say(&format!("servers: turn {turn} of {}", scale.turns));
        for (open, shut, samples) in [(&ONE[..], &FOUR[..], &mut one), (&FOUR[..], &ONE[..], &mut four)] {
            for (names, verb) in [(open, "uncordon"), (shut, "cordon")] {
                for name in names {
                    bench.post(&format!("/v1/servers/{name}/{verb}"), &json!({})).await?;
                }
            }
            let rate = rate(&bench, &next, open.len() * CALLERS, scale.turn).await?;
            if turn > 0 {
                samples.push_ms(rate);
            }
        }
    }
    report.add(Row::number("creates without stock, one server 20 ms away", one.p50(), "creates/s"));
    report.add(
        Row::number("creates without stock, four servers 20 ms away", four.p50(), "creates/s")
            .note(format!("{CALLERS} callers for each, median of {} turns", scale.turns))
            .ratio(("four", four.p50()), ("one", one.p50()), Goal::AtLeast(3.0)),
    );
    Ok(())
}

async fn rate(bench: &Bench, next: &AtomicU64, callers: usize, time: Duration) -> Res<f64> {
    let began = Instant::now();
    let callers = (0..callers).map(|_| async {
        let mut made = 0;
        while began.elapsed() < time {
            bench.create(&format!("far-{}", next.fetch_add(1, Ordering::Relaxed)), "app").await?;
            made += 1;
        }
        Res::Ok(f64::from(made) / began.elapsed().as_secs_f64())
    });
    Ok(try_join_all(callers).await?.into_iter().sum())
}

/// A thousand servers and the tenants of the listing in one store, one server in the other.
async fn many(binary: &Path, scale: &Scale, report: &mut Report) -> Res<()> {
    say("servers: two planes, one with a thousand servers in its store");
    let wanted = u32::try_from(scale.creates + 8)?;
    let few = Bench::start(binary, &[("app", wanted)]).await?;
    let many = Bench::start(binary, &[("app", wanted)]).await?;
    for bench in [&few, &many] {
        bench.add_template("app", Kind::Plain).await?;
        bench.need_stock("app", wanted, scale.patience).await?;
        // Nobody is to look for servers that are nowhere, or to fill them.
        bench.post("/v1/freezes", &json!({"target": "all"})).await?;
    }
    crate::listing::fill(&many, scale.store_tenants).await?;
    let sql = format!(
        "INSERT INTO server (id, kind, state, health, capacity, dsn, dsn_sealed, dsn_seal_id, tenant_host, tenant_port, tenant_sslmode)
         SELECT 'nowhere-' || n, 'shared', 'active', 'healthy', 500, 'postgres://nobody@127.0.0.1:1/postgres', '', gen_random_uuid(),
             '127.0.0.1', 1, 'disable' FROM generate_series(1, {}) n;
         UPDATE tenant SET server_id = 'nowhere-' || 1 + abs(hashtext(id)) % {0};
         UPDATE tenant_database d SET server_id = t.server_id FROM tenant t WHERE t.id = d.tenant_id;
         UPDATE login l SET server_id = d.server_id FROM tenant_database d WHERE d.id = l.database_id;
         ANALYZE",
        scale.servers
    );
    many.store().await?.batch_execute(&sql).await?;
    let (mut create_few, mut create_many) = (Samples::default(), Samples::default());
    let (mut explain_few, mut explain_many) = (Samples::default(), Samples::default());
    for index in 0..scale.creates + 8 {
        let (mut warm_few, mut warm_many) = (Samples::default(), Samples::default());
        let warm = index < 8;
        let id = format!("placed-{index}");
        timed(if warm { &mut warm_few } else { &mut create_few }, few.create(&id, "app")).await?;
        timed(if warm { &mut warm_many } else { &mut create_many }, many.create(&id, "app")).await?;
        let body = json!({"template": "app"});
        timed(if warm { &mut warm_few } else { &mut explain_few }, few.post("/v1/placements/explain", &body)).await?;
        timed(if warm { &mut warm_many } else { &mut explain_many }, many.post("/v1/placements/explain", &body))
            .await?;
    }
    let about = format!("{} servers, {} tenants", scale.servers, scale.store_tenants);
    report.add(Row::of("create with stock, one server", &create_few));
    report.add(Row::of(format!("create with stock, {about}"), &create_many).ratio(
        ("many", create_many.p50()),
        ("one", create_few.p50()),
        Goal::AtMost(1.5),
    ));
    report.add(
        Row::of(format!("placement explained, {about}"), &explain_many)
            .ratio(("many", explain_many.p50()), ("one", explain_few.p50()), None)
            .note("answers a line per server"),
    );
    Ok(())
}
