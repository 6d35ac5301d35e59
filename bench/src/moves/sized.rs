//! A tenant of one size: dump and restore by hand, then moves there and back, all while clients write.

use jiff::Timestamp;
use serde_json::json;

use super::clients::Clients;
use super::hand::{Hand, place_of};
use super::picture::{self, Run};
use super::{Bare, REST, SERVERS, done, go, settle, size, tenant};
use crate::bench::Bench;
use crate::samples::Samples;
use crate::{Res, Scale, say};

pub struct Found {
    /// Of turns by hand, beside the moves.
    pub bare: Samples,
    /// What each client waited at most, for each move.
    pub there: Samples,
    pub back: Samples,
    /// Of the whole of each move: not only when it turns around.
    pub longest: Samples,
    pub controller: Samples,
    pub whole: Samples,
    /// The same while nobody is at work, as nobody is while it is dumped and restored.
    pub alone: Samples,
    /// Of dump and restore, in seconds.
    pub downtime: f64,
}

pub async fn measure(bench: &Bench, hand: &Hand, bare: &Bare, mb: u64, moves: usize, scale: &Scale) -> Res<Found> {
    say(&format!("moves: a tenant of {}", size(mb)));
    let id = format!("sized-{mb}");
    let (connection, accounts) = tenant(bench, &id, mb).await?;

    say("moves: pg_dump | psql while everybody waits");
    let (from, to) = (place_of(&connection["direct"])?, hand.place(bench, 1, "dumped").await?);
    settle(bench).await?;
    hand.begin_at(&from).await?;
    let clients = Clients::start(&hand.endpoint(), accounts).await?;
    tokio::time::sleep(REST * 3).await;
    let (began, over) = hand.carry(&from, &to).await?;
    tokio::time::sleep(REST * 3).await;
    let seen = clients.end().await?;
    let downtime = (over - began).as_secs_f64();
    let dumped = Run { points: seen.points(), began: seen.second(began), turned: None, over: seen.second(over) };
    hand.drop(bench, to).await?;

    let mut found = Found {
        bare: Samples::default(),
        there: Samples::default(),
        back: Samples::default(),
        longest: Samples::default(),
        controller: Samples::default(),
        whole: Samples::default(),
        alone: Samples::default(),
        downtime,
    };
    for number in 1..=moves {
        say(&format!("moves: {} there and back, {number} of {moves}", size(mb)));
        settle(bench).await?;
        found.bare.extend(bare.turns(hand).await?);
        let clients = Clients::start(&connection["pooled"], accounts).await?;
        tokio::time::sleep(REST * 3).await;
        let began = Timestamp::now();
        found.whole.push(go(bench, &id, SERVERS[1]).await?);
        let over = Timestamp::now();
        say(&format!("moves: {}", steps(bench, &id).await?));
        let stands = bench.get(&format!("/v1/tenants/{id}/move")).await?;
        if stands["digests"] != "equal" {
            return Err(format!("what was moved is not the same on both servers: {stands}").into());
        }
        found.controller.push_ms(stands["stall_ms"].as_f64().ok_or("a move without its stall")?);
        tokio::time::sleep(REST * 3).await;
        let seen = clients.end().await?;
        let turned = when(bench, &id, "tenant.move").await?;
        found.there.extend(seen.waits_at(turned)?);
        found.longest.extend(seen.longest());
        let moved = Run {
            points: seen.points(),
            began: seen.second_of(began),
            turned: Some(seen.second_of(turned)),
            over: seen.second_of(over),
        };
        if number == 1 && mb == scale.pictured {
            picture::write(&size(mb), &moved, &dumped)?;
        }

        let clients = Clients::start(&connection["pooled"], accounts).await?;
        tokio::time::sleep(REST).await;
        done(bench, &format!("/v1/tenants/{id}/move/rollback"), &json!({})).await?;
        tokio::time::sleep(REST).await;
        let seen = clients.end().await?;
        found.back.extend(seen.waits_at(when(bench, &id, "tenant.roll_back_move").await?)?);
    }
    say(&format!("moves: {} there, nobody at work", size(mb)));
    settle(bench).await?;
    found.alone.push(go(bench, &id, SERVERS[1]).await?);
    say(&format!("moves: {}", steps(bench, &id).await?));
    done(bench, &format!("/v1/tenants/{id}/move/rollback"), &json!({})).await?;
    bench.delete(&format!("/v1/tenants/{id}?confirm={id}&purge=true")).await?;
    Ok(found)
}

/// How long each step of the newest move was at work or waited.
async fn steps(bench: &Bench, id: &str) -> Res<String> {
    let sql = "SELECT step_name, extract(epoch FROM sum(took))::float8 FROM (
            SELECT e.step_name, e.seq, lead(e.at) OVER (ORDER BY e.seq) - e.at AS took FROM operation_event e
            WHERE e.operation = (SELECT id FROM operation WHERE subject = $1 AND kind = 'tenant.move' ORDER BY id DESC LIMIT 1)) x
        WHERE took IS NOT NULL GROUP BY step_name ORDER BY min(seq)";
    let rows = bench.store().await?.query(sql, &[&format!("tenant:{id}")]).await?;
    let told = rows.iter().map(|row| format!("{} {:.2} s", row.get::<_, String>(0), row.get::<_, f64>(1)));
    Ok(told.collect::<Vec<_>>().join(", "))
}

/// The commit by which another server serves, by the audit.
async fn when(bench: &Bench, id: &str, action: &str) -> Res<Timestamp> {
    let page = bench.get(&format!("/v1/audit?subject=tenant:{id}&action={action}&limit=1")).await?;
    Ok(page["items"][0]["at"].as_str().ok_or("it is not in the audit")?.parse()?)
}
