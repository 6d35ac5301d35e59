//! A server whose admin has CREATEDB and CREATEROLE alone, as managed services give it, with 500 tenants: what is promised
//! of a create is promised there too. On 15, and on 18, where such an admin is a member of all that it makes. The floor and
//! the script are the superuser's of the same cluster, who is faster; by hand is the same admin's.

use std::path::Path;

use freehold_testkit::Cluster;

use crate::bench::{Bench, Kind, Place, first_row};
use crate::floor::Floor;
use crate::report::{Goal, Report, Row};
use crate::samples::timed;
use crate::today::Script;
use crate::{Res, Scale, refill, say, servers};

const SERVER: &str = "managed";

const VERSIONS: [u32; 2] = [15, 18];

pub async fn run(binary: &Path, scale: &Scale, report: &mut Report) -> Res<()> {
    for version in VERSIONS {
        on(version, binary, scale, report).await?;
    }
    Ok(())
}

async fn on(version: u32, binary: &Path, scale: &Scale, report: &mut Report) -> Res<()> {
    say(&format!("weak: filling a server of PostgreSQL {version} with {} tenants", scale.weak_tenants));
    let cluster = servers::settings(Cluster::builder(version).own_identity()).start();
    let mut bench = Bench::start(binary, &[("app", scale.weak_tenants)]).await?;
    // Its own server is not to be used: nothing is kept ready there either.
    bench.post("/v1/servers/local-1/cordon", &serde_json::json!({})).await?;
    let server = serde_json::json!({"id": SERVER, "dsn": cluster.weak_admin().await, "capacity": 5000});
    bench.post("/v1/servers", &server).await?;
    bench.add_template("app", Kind::Plain).await?;
    bench.need_stock("app", scale.weak_tenants, scale.patience).await?;
    bench.freeze().await?;
    for index in 0..scale.weak_tenants {
        bench.create(&format!("there-{index}"), "app").await?;
    }
    bench.thaw().await?;
    let per_round = scale.first.div_ceil(scale.slow.max(1));
    let wanted = u32::try_from(per_round * scale.slow * 2 + 8)?;
    bench.set_stock(&[("app", wanted)]).await?;
    bench.need_stock("app", wanted, scale.patience).await?;
    bench.freeze().await?;

    say("weak: floor, creates, first query, script, taking turns");
    let place = Place::Given(SERVER, &cluster);
    let floor = Floor::start(&place).await?;
    let script = Script::new(&bench, &place)?;
    let warm = bench.create("warm", "app").await?;
    first_row(&warm).await?;
    let (mut commit, mut connect, mut create, mut first, mut by_script) = Default::default();
    for round in 0..scale.slow {
        for index in 0..per_round {
            floor.commit(&mut commit).await?;
            floor.connect(&mut connect, &warm).await?;
            timed(&mut create, bench.create(&format!("quiet-{round}-{index}"), "app")).await?;
            let id = format!("first-{round}-{index}");
            let one = async { first_row(&bench.create(&id, "app").await?).await };
            timed(&mut first, one).await?;
        }
        script.create(&mut by_script, &format!("script_{round}")).await?;
    }
    let about = format!("an admin without superuser on {version}, {} tenants", scale.weak_tenants);
    report.add(Row::of(format!("floor: one commit ({about})"), &commit));
    report.add(Row::of(format!("floor: connect with SCRAM ({about})"), &connect));
    report.add(
        Row::of(format!("create with stock, {about}"), &create)
            .ratio(("create", create.p50()), ("commit", commit.p50()), Goal::AtMost(12.0))
            .ratio(("script", by_script.p50()), ("create", create.p50()), Goal::AtLeast(30.0)),
    );
    report.add(Row::of(format!("from sending the create to the first row, {about}"), &first).ratio(
        ("first row", first.p50()),
        ("commit + connect", commit.p50() + connect.p50()),
        Goal::AtMost(2.0),
    ));
    bench.thaw().await?;
    bench.set_stock(&[("app", refill::STOCK)]).await?;
    refill::turns(&bench, &place, &about, scale, report).await
}
