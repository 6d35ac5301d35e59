//! What a caller waits for: a create from stock and without, against one commit, the script and django-tenants.
//! Everything that is compared takes turns in one run on one cluster, so that noise hits all of it alike.

use std::path::Path;
use std::time::Duration;

use futures::future::try_join_all;

use crate::bench::{Bench, Kind, Place, first_row};
use crate::floor::Floor;
use crate::report::{Goal, Report, Row};
use crate::samples::{Samples, timed};
use crate::today::{Django, Script};
use crate::{Res, Scale, say};

const CALLERS: usize = 8;

pub async fn run(binary: &Path, scale: &Scale, report: &mut Report) -> Res<()> {
    // One sample of what is slow a round, several of what is fast.
    let per_round = scale.creates.div_ceil(scale.rounds);
    let quiet = per_round * scale.rounds;
    let burst = scale.burst.div_ceil(CALLERS) * CALLERS;
    let plain = u32::try_from(quiet * 2 + burst + scale.first + 8)?;
    let special = u32::try_from(scale.special + 2)?;

    say("create: starting, filling stock");
    let bench =
        Bench::start(binary, &[("app", plain), ("app-claim", special), ("app-named", special), ("app-cold", 0)])
            .await?;
    for (name, kind) in
        [("app", Kind::Plain), ("app-claim", Kind::Claim), ("app-named", Kind::Named), ("app-cold", Kind::Plain)]
    {
        bench.add_template(name, kind).await?;
    }
    let version: String = bench.store().await?.query_one("select version()", &[]).await?.get(0);
    report.about.push(("postgres".into(), version.into()));
    let django = Django::start(&bench).await;
    let mut django = match django {
        Ok(django) => Some(django),
        Err(error) => {
            report.add(Row::skipped("django-tenants, one tenant", error.to_string()));
            None
        }
    };
    bench.need_stock("app", plain, scale.patience).await?;
    bench.need_stock("app-claim", special, scale.patience).await?;
    bench.need_stock("app-named", special, scale.patience).await?;
    // The stock is exactly what the samples take; refilling is measured by itself, below.
    bench.freeze().await?;

    let mut floor = Floor::start(&Place::Own(&bench)).await?;
    let script = Script::new(&bench, &Place::Own(&bench))?;
    let warm = bench.create("warm", "app").await?;
    first_row(&warm).await?;

    say("create: floor, creates, script, django-tenants, taking turns");
    let (mut commit, mut rename, mut connect, mut create) = Default::default();
    let (mut by_script, mut by_django) = (Samples::default(), Samples::default());
    for round in 0..scale.rounds {
        for index in 0..per_round {
            floor.commit(&mut commit).await?;
            timed(&mut create, bench.create(&format!("quiet-{round}-{index}"), "app")).await?;
            floor.rename(&mut rename).await?;
            floor.connect(&mut connect, &warm).await?;
        }
        if round < scale.slow {
            script.create(&mut by_script, &format!("script_{round}")).await?;
            if let Some(django) = &mut django {
                django.create(&mut by_django, &format!("django_{round}")).await?;
            }
        }
    }
    if let Some(django) = django {
        django.stop();
    }

    say("create: claim.sql, names by pattern, first query, eight callers");
    let (mut claim, mut named, mut first): (Samples, Samples, Samples) = Default::default();
    // One of each that does not count: the first opens connections.
    bench.create("claim-warm", "app-claim").await?;
    bench.create("named-warm", "app-named").await?;
    for index in 0..scale.special {
        timed(&mut claim, bench.create(&format!("claim-{index}"), "app-claim")).await?;
        timed(&mut named, bench.create(&format!("named-{index}"), "app-named")).await?;
    }
    let (mut first_commit, mut first_connect, mut first_create): (Samples, Samples, Samples) = Default::default();
    for index in 0..scale.first {
        floor.commit(&mut first_commit).await?;
        floor.connect(&mut first_connect, &warm).await?;
        timed(&mut first, async {
            let connection = timed(&mut first_create, bench.create(&format!("first-{index}"), "app")).await?;
            first_row(&connection).await
        })
        .await?;
    }
    let mut eight = Samples::default();
    let callers = (0..CALLERS).map(|caller| {
        let bench = &bench;
        async move {
            let mut mine = Samples::default();
            for index in 0..burst / CALLERS {
                timed(&mut mine, bench.create(&format!("eight-{caller}-{index}"), "app")).await?;
            }
            Res::Ok(mine)
        }
    });
    for mine in try_join_all(callers).await? {
        eight.extend(mine);
    }

    say("create: while stock is refilled at full speed");
    bench.thaw().await?;
    tokio::time::sleep(Duration::from_secs(6)).await;
    let (mut busy_commit, mut busy) = (Samples::default(), Samples::default());
    for index in 0..quiet {
        floor.commit(&mut busy_commit).await?;
        timed(&mut busy, bench.create(&format!("busy-{index}"), "app")).await?;
    }
    bench.freeze().await?;
    tokio::time::sleep(Duration::from_secs(1)).await;

    say("create: without stock");
    let mut cold = Samples::default();
    // Builds the template's database, once per version and server.
    bench.create("cold-warm", "app-cold").await?;
    for index in 0..scale.cold {
        timed(&mut cold, bench.create(&format!("cold-{index}"), "app-cold")).await?;
    }

    let commit_of = ("commit", commit.p50());
    report.add(Row::of("floor: one commit", &commit));
    report.add(Row::of("floor: rename role and database, one message", &rename));
    report.add(Row::of("floor: connect with SCRAM", &connect));
    report.add(Row::of("createuser; createdb; psql -f (30 tables)", &by_script));
    if by_django.len() > 0 {
        report.add(Row::of("django-tenants, one tenant (30 tables)", &by_django));
    }
    let of_create = ("create", create.p50());
    let mut row = Row::of("create with stock, one caller", &create)
        .ratio(of_create, commit_of, Goal::AtMost(12.0))
        .ratio(("script", by_script.p50()), of_create, Goal::AtLeast(30.0));
    if by_django.len() > 0 {
        row = row.ratio(("django-tenants", by_django.p50()), of_create, Goal::AtLeast(150.0));
    }
    report.add(row);
    report.add(Row::of("create with stock, eight callers", &eight).ratio(
        ("one of eight", eight.p50()),
        of_create,
        None,
    ));
    report.add(
        Row::of("create with stock, while stock is refilled", &busy)
            .ratio(("create", busy.p50()), ("commit, refilling", busy_commit.p50()), None)
            .ratio(("script", by_script.p50()), ("create, refilling", busy.p50()), None),
    );
    report.add(Row::of("create with stock and claim.sql", &claim).ratio(
        ("with claim.sql", claim.p50()),
        of_create,
        None,
    ));
    report.add(
        Row::of("create with stock and a name by pattern", &named)
            .ratio(("with rename", named.p50()), ("rename by hand", rename.p50()), None)
            .ratio(("script", by_script.p50()), ("with rename", named.p50()), None),
    );
    report.add(Row::of("create without stock", &cold).ratio(
        ("without stock", cold.p50()),
        ("script", by_script.p50()),
        None,
    ));
    let parts = format!(
        "create {:.1}, floor: commit {:.1}, connect {:.1}",
        first_create.p50(),
        first_commit.p50(),
        first_connect.p50()
    );
    report.add(Row::of("from sending the create to the first row", &first).note(parts).ratio(
        ("first row", first.p50()),
        ("commit + connect", first_commit.p50() + first_connect.p50()),
        Goal::AtMost(2.0),
    ));
    Ok(())
}

pub async fn first_query(bench: &Bench, id: &str) -> Res<()> {
    let connection = bench.create(id, "app").await?;
    first_row(&connection).await.map(drop)
}
