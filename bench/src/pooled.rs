//! Through the pooler: from sending a create to the first row, and many small queries, each beside the direct way.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::process::Command;

use crate::bench::{Bench, Kind, Place, config, connect, first_row};
use crate::floor::Floor;
use crate::report::{Goal, Report, Row};
use crate::samples::{Samples, timed};
use crate::{Res, Scale, say};

/// Of Debian's package, on the version the bench runs on.
const PGBENCH: [&str; 3] =
    ["/usr/lib/postgresql/15/bin/pgbench", "/usr/lib/postgresql/17/bin/pgbench", "/usr/bin/pgbench"];
const CLIENTS: &str = "8";

pub async fn run(binary: &Path, scale: &Scale, report: &mut Report) -> Res<()> {
    for version in ["1.18", "1.24"] {
        one(binary, version, scale, report).await?;
    }
    Ok(())
}

async fn one(binary: &Path, version: &str, scale: &Scale, report: &mut Report) -> Res<()> {
    say(&format!("pooled: PgBouncer {version}: starting, filling stock"));
    let (stock, named) = (u32::try_from(scale.first + 8)?, u32::try_from(scale.special + 2)?);
    let bench = Bench::start_pooled(binary, version, &[("app", stock), ("app-named", named)]).await?;
    for (name, kind, wanted) in [("app", Kind::Plain, stock), ("app-named", Kind::Named, named)] {
        bench.add_template(name, kind).await?;
        bench.need_stock(name, wanted, scale.patience).await?;
    }
    bench.freeze().await?;
    let floor = Floor::start(&Place::Own(&bench)).await?;
    let warm = pooled(&bench, "warm", "app").await?;
    first_row(&warm["pooled"]).await?;
    let reloads = reloads(&bench).await?;

    say("pooled: first query");
    let (mut commit, mut direct, mut again, mut first): (Samples, Samples, Samples, Samples) = Default::default();
    for index in 0..scale.first {
        floor.commit(&mut commit).await?;
        floor.connect(&mut direct, &warm["direct"]).await?;
        let known = config(&warm["pooled"])?;
        timed(&mut again, connect(&known)).await?;
        timed(&mut first, async {
            let connection = pooled(&bench, &format!("first-{index}"), "app").await?;
            first_row(&connection["pooled"]).await
        })
        .await?;
    }
    let reloaded = self::reloads(&bench).await? - reloads;

    say("pooled: names by pattern, which the pooler must be told of");
    pooled(&bench, "named-warm", "app-named").await?;
    let (reloads, mut by_pattern) = (self::reloads(&bench).await?, Samples::default());
    for index in 0..scale.special {
        timed(&mut by_pattern, async {
            let connection = pooled(&bench, &format!("named-{index}"), "app-named").await?;
            first_row(&connection["pooled"]).await
        })
        .await?;
    }
    let told = self::reloads(&bench).await? - reloads;

    say("pooled: many small queries");
    let (mut through, mut beside) = (Samples::default(), Samples::default());
    pgbench(&warm["direct"], &["-i", "-q", "-s", "5"]).await?;
    for _ in 0..scale.turns {
        beside.push_ms(per_second(&warm["direct"], scale.turn).await?);
        through.push_ms(per_second(&warm["pooled"], scale.turn).await?);
    }

    report.add(Row::of(format!("connect to the pooler {version}, a tenant that was here before"), &again).ratio(
        ("pooled", again.p50()),
        ("direct", direct.p50()),
        None,
    ));
    report.add(
        Row::of(format!("from sending the create to the first row, through PgBouncer {version}"), &first)
            .note(format!("commit {:.1}, direct connect {:.1}; {reloaded} reloads", commit.p50(), direct.p50()))
            .ratio(
                ("first pooled row", first.p50()),
                ("commit + connect", commit.p50() + direct.p50()),
                Goal::AtMost(1.5),
            ),
    );
    report.add(
        Row::of(format!("the same with a name by pattern, PgBouncer {version}"), &by_pattern)
            .note(format!("{told} reloads for {} creates", scale.special))
            .ratio(("with a name by pattern", by_pattern.p50()), ("first pooled row", first.p50()), None),
    );
    report.add(Row::number(format!("pgbench -S, direct, beside {version}"), beside.p50(), "queries/s"));
    report.add(
        Row::number(format!("pgbench -S, through PgBouncer {version}"), through.p50(), "queries/s")
            .note(format!("{CLIENTS} clients"))
            .ratio(("pooled", through.p50()), ("direct", beside.p50()), None),
    );
    Ok(())
}

/// The whole connection; its pooler has it already, or the bench measures something else.
async fn pooled(bench: &Bench, id: &str, template: &str) -> Res<Value> {
    let (status, mut body) = bench.post("/v1/tenants", &json!({"id": id, "template": template})).await?;
    match (status, body["connection"]["pooled"]["ready"].as_bool()) {
        (201, Some(true)) => Ok(body["connection"].take()),
        _ => Err(format!("create {id}: {status}: pooled.ready is {}", body["connection"]["pooled"]["ready"]).into()),
    }
}

async fn reloads(bench: &Bench) -> Res<u64> {
    let pooler = bench.get("/v1/poolers/local").await?;
    Ok(pooler["reloads"].as_u64().ok_or("the pooler does not count its reloads")?)
}

async fn per_second(endpoint: &Value, time: Duration) -> Res<f64> {
    let seconds = time.as_secs().to_string();
    let said = pgbench(endpoint, &["-S", "-n", "-M", "simple", "-c", CLIENTS, "-j", "2", "-T", &seconds]).await?;
    let rate = said.lines().find_map(|line| line.strip_prefix("tps = ")?.split_whitespace().next()?.parse().ok());
    rate.ok_or_else(|| format!("pgbench told no tps: {said}").into())
}

pub async fn pgbench(endpoint: &Value, arguments: &[&str]) -> Res<String> {
    let program = PGBENCH.into_iter().find(|path| Path::new(path).exists()).ok_or("pgbench is not installed")?;
    let text = |name: &str| endpoint[name].as_str().unwrap_or_default();
    let output = Command::new(program)
        .args(arguments)
        .args(["-h", text("host"), "-p", &endpoint["port"].to_string(), "-U", text("user"), text("database")])
        .env("PGPASSWORD", text("password"))
        .stdin(Stdio::null())
        .output()
        .await?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(format!("pgbench: {}", String::from_utf8_lossy(&output.stderr).trim()).into()),
    }
}
