//! A server with thousands of databases beside one with few: first query and refill, taking turns.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::bench::{Bench, Kind};
use crate::create::first_query;
use crate::report::{Goal, Report, Row};
use crate::samples::{Samples, timed};
use crate::{Res, Scale, idle, say};

/// Taken from stock and refilled in each round.
const TAKEN: u32 = 20;
/// As `freehold dev` runs where there is a pgbouncer.
const POOLER: &str = "1.18";

pub async fn run(binary: &Path, scale: &Scale, report: &mut Report) -> Res<()> {
    say("fleet: filling");
    let mut large = Bench::start_pooled(binary, POOLER, &[("app", scale.idle_tenants)]).await?;
    large.add_template("app", Kind::Plain).await?;
    large.need_stock("app", scale.idle_tenants, scale.patience).await?;
    large.freeze().await?;
    for index in 0..scale.idle_tenants {
        large.create(&format!("idle-{index}"), "app").await?;
    }
    large.thaw().await?;
    large.set_stock(&[("app", 0)]).await?;
    idle::run(&large, scale.idle, report).await?;

    let rest = scale.many - scale.idle_tenants;
    say(&format!("fleet: filling up to {} databases", scale.many));
    large.set_stock(&[("app", rest)]).await?;
    let began = Instant::now();
    let ready = large.wait_for_stock("app", rest, scale.patience).await?;
    say(&format!("fleet: {ready} databases in {} s", began.elapsed().as_secs()));
    if ready < TAKEN {
        return Err("the large server has no stock".into());
    }
    if ready < rest {
        // As many as there are, then: nothing more is to be made in the background.
        large.set_stock(&[("app", ready)]).await?;
        large.need_stock("app", ready, scale.patience).await?;
    }
    let wanted_large = ready;
    let small = Bench::start_pooled(binary, POOLER, &[("app", TAKEN)]).await?;
    small.add_template("app", Kind::Plain).await?;
    small.need_stock("app", TAKEN, scale.patience).await?;

    let (mut first_small, mut first_large) = (Samples::default(), Samples::default());
    let (mut refill_small, mut refill_large) = (Samples::default(), Samples::default());
    for round in 0..scale.many_rounds {
        say(&format!("fleet: round {} of {}", round + 1, scale.many_rounds));
        small.freeze().await?;
        large.freeze().await?;
        // The first of a round opens connections.
        first_query(&small, &format!("warm-{round}")).await?;
        first_query(&large, &format!("warm-{round}")).await?;
        for index in 1..TAKEN {
            let id = format!("first-{round}-{index}");
            timed(&mut first_small, first_query(&small, &id)).await?;
            timed(&mut first_large, first_query(&large, &id)).await?;
        }
        refill_small.push_ms(refill(&small, TAKEN, scale.patience).await?);
        refill_large.push_ms(refill(&large, wanted_large, scale.patience).await?);
    }
    let (few, many) = (small.databases().await?, large.databases().await?);
    report.add(Row::of(format!("first query with at most {few} databases on the server"), &first_small));
    report.add(Row::of(format!("first query with {many} databases on the server"), &first_large).ratio(
        ("many", first_large.p50()),
        ("few", first_small.p50()),
        Goal::AtMost(1.5),
    ));
    report.add(Row::number(format!("refill with at most {few} databases"), refill_small.p50(), "databases/s"));
    report.add(Row::number(format!("refill with {many} databases"), refill_large.p50(), "databases/s").ratio(
        ("many", refill_large.p50()),
        ("few", refill_small.p50()),
        Goal::AtLeast(0.67),
    ));
    Ok(())
}

/// Databases per second, from the first that is ready to the last.
async fn refill(bench: &Bench, wanted: u32, patience: Duration) -> Res<f64> {
    let store = bench.store().await?;
    let began: String = store.query_one("select now()::text", &[]).await?.get(0);
    bench.thaw().await?;
    bench.need_stock("app", wanted, patience).await?;
    let sql = "select (count(*) - 1)::float8 / extract(epoch from max(ready_at) - min(ready_at))::float8 \
               from tenant_database where ready_at > $1::text::timestamptz";
    Ok(store.query_one(sql, &[&began]).await?.get(0))
}
