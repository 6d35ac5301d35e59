//! What a move costs those who write meanwhile, beside a bare turn of a pooler and beside dump and restore; how long it
//! takes; and four of them at once. Writes a picture of one.

mod clients;
mod hand;
mod many;
mod picture;
mod sized;

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::bench::{Bench, Kind};
use crate::report::{Goal, Report, Row};
use crate::samples::Samples;
use crate::{Res, Scale, say};
use clients::Clients;
use hand::{Hand, Place};

/// The two servers.
const SERVERS: [&str; 2] = ["local-1", "local-2"];
/// From here on a move may take so many times as long as dump and restore.
const LARGE: u64 = 1_000;
/// Of a pool by hand, for each move.
const TURNS: usize = 4;
/// Between two of them, and before and after what is looked at.
const REST: Duration = Duration::from_secs(1);
/// One scale of pgbench, with its index.
const KB_OF_SCALE: u64 = 15_000;
const ACCOUNTS: u64 = 100_000;

pub async fn run(binary: &Path, scale: &Scale, report: &mut Report) -> Res<()> {
    say("moves: starting two servers");
    let bench = Bench::start_two(binary, hand::POOLER, &[("app", 0)]).await?;
    bench.add_template("app", Kind::Plain).await?;
    let hand = Hand::start(&bench).await?;
    let bare = Bare::make(&bench, &hand).await?;
    let mut smallest: Option<(String, f64)> = None;
    for &(mb, moves) in scale.moved {
        let found = sized::measure(&bench, &hand, &bare, mb, moves, scale).await?;
        let size = size(mb);
        let stall = found.there.p50();
        report.add(Row::of(
            format!("a client waits at most, PAUSE + RELOAD + RESUME by hand, beside {size}"),
            &found.bare,
        ));
        let mut row = Row::of(format!("a client waits at most, a move of {size}"), &found.there)
            .note(format!("{moves} moves; in all of a move at most {:.0}", found.longest.quantile(1.0)))
            .ratio(("move", stall), ("by hand", found.bare.p50()), Goal::AtMost(4.0))
            .ratio(("p95", found.there.quantile(0.95)), ("1 ms", 1.0), Goal::AtMost(100.0));
        match &smallest {
            Some((least, of_least)) => {
                let goal = (mb == scale.moved[scale.moved.len() - 1].0).then_some(Goal::AtMost(1.5));
                row = row.ratio((&size, stall), (least, *of_least), goal);
            }
            None => smallest = Some((size.clone(), stall)),
        }
        report.add(row);
        report.add(Row::of(format!("a client waits at most, {size} moved back"), &found.back));
        report.add(Row::of(format!("the stall as the controller sees it, a move of {size}"), &found.controller));
        let goal = (mb >= LARGE).then_some(Goal::AtMost(1.6));
        for (name, whole) in [("while eight clients write", &found.whole), ("nobody at work", &found.alone)] {
            report.add(seconds(format!("{size} are moved, in all, {name}"), whole).ratio(
                ("move", whole.p50()),
                ("pg_dump | psql", found.downtime * 1000.0),
                goal,
            ));
        }
        report.add(Row::number(format!("{size} by pg_dump | psql: writes stop for"), found.downtime, "s").ratio(
            ("pg_dump | psql", found.downtime * 1000.0),
            ("stall", stall),
            None,
        ));
    }
    many::run(&bench, scale, report).await
}

/// Bare turns of a pooler, between two databases that hardly hold anything.
struct Bare([Place; 2]);

impl Bare {
    async fn make(bench: &Bench, hand: &Hand) -> Res<Self> {
        let places = [hand.place(bench, 0, "bare").await?, hand.place(bench, 1, "bare").await?];
        for place in &places {
            hand.begin_at(place).await?;
            fill(&hand.endpoint(), 1).await?;
        }
        Ok(Self(places))
    }

    /// What each client waited at most, for each turn.
    async fn turns(&self, hand: &Hand) -> Res<Samples> {
        hand.begin_at(&self.0[0]).await?;
        let clients = Clients::start(&hand.endpoint(), ACCOUNTS).await?;
        let mut turns = Vec::new();
        for turn in 1..=TURNS {
            tokio::time::sleep(REST).await;
            turns.push(hand.turn(&self.0[turn % 2]).await?);
        }
        tokio::time::sleep(REST).await;
        let seen = clients.end().await?;
        let mut waits = Samples::default();
        turns.into_iter().for_each(|(from, to)| waits.extend(seen.waits_between(from, to)));
        Ok(waits)
    }
}

/// pgbench's tables, filled at the server.
async fn fill(endpoint: &Value, scale: u64) -> Res<()> {
    crate::pooled::pgbench(endpoint, &["-i", "-q", "-I", "dtGvp", "-s", &scale.to_string()]).await.map(drop)
}

/// A tenant of that size on the first server; its connection, and how many accounts it has.
async fn tenant(bench: &Bench, id: &str, mb: u64) -> Res<(Value, u64)> {
    bench.post(&format!("/v1/servers/{}/cordon", SERVERS[1]), &json!({})).await?;
    bench.create(id, "app").await?;
    bench.post(&format!("/v1/servers/{}/uncordon", SERVERS[1]), &json!({})).await?;
    let deadline = Instant::now() + Duration::from_secs(30);
    let connection = loop {
        match bench.get(&format!("/v1/tenants/{id}/connection")).await? {
            connection if connection["pooled"]["ready"] == true => break connection,
            _ if Instant::now() > deadline => return Err(format!("{id} is not pooled").into()),
            _ => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    };
    let scale = (mb * 1000 / KB_OF_SCALE).max(1);
    fill(&connection["direct"], scale).await?;
    Ok((connection, scale * ACCOUNTS))
}

/// What was asked for, until it is done; answers how long that took.
async fn done(bench: &Bench, path: &str, body: &Value) -> Res<Duration> {
    let began = Instant::now();
    let (status, begun) = bench.post(path, body).await?;
    if status != 202 {
        return Ok(began.elapsed());
    }
    let operation = format!("/v1/operations/{}", begun["id"].as_str().ok_or("an operation without an id")?);
    loop {
        let now = bench.get(&operation).await?;
        match now["state"].as_str().unwrap_or_default() {
            "succeeded" => return Ok(began.elapsed()),
            "failed" | "cancelled" | "stuck" => return Err(format!("{path}: {now}").into()),
            _ => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn go(bench: &Bench, id: &str, server: &str) -> Res<Duration> {
    let body = json!({"to": {"server": server}, "deadline_seconds": 10});
    done(bench, &format!("/v1/tenants/{id}/move"), &body).await
}

/// Nothing is left to be written when something begins to be looked at.
async fn settle(bench: &Bench) -> Res<()> {
    for port in bench.ports()? {
        bench.admin_at(port, "postgres").await?.batch_execute("CHECKPOINT").await?;
    }
    Ok(())
}

fn size(mb: u64) -> String {
    match mb {
        mb if mb >= 1_000 => format!("{} GB", mb as f64 / 1000.0),
        mb => format!("{mb} MB"),
    }
}

/// One number: the median.
fn seconds(name: impl Into<String>, samples: &Samples) -> Row {
    Row::number(name, samples.p50() / 1000.0, "s")
}
