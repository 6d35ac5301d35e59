//! Four moves at once against one after the other.

use std::time::Instant;

use futures::future::try_join_all;
use serde_json::json;

use super::{SERVERS, done, go, seconds, settle, size, tenant};
use crate::bench::Bench;
use crate::report::Report;
use crate::samples::Samples;
use crate::{Res, Scale, say};

const TENANTS: usize = 4;

pub async fn run(bench: &Bench, scale: &Scale, report: &mut Report) -> Res<()> {
    let ids: Vec<String> = (0..TENANTS).map(|number| format!("of-four-{number}")).collect();
    say(&format!("moves: four tenants of {}", size(scale.each_of_four)));
    for id in &ids {
        tenant(bench, id, scale.each_of_four).await?;
    }
    let (mut in_turn, mut at_once) = (Samples::default(), Samples::default());
    for round in 1..=scale.fours {
        say(&format!("moves: four, one after the other and at once, {round} of {}", scale.fours));
        settle(bench).await?;
        let began = Instant::now();
        for id in &ids {
            go(bench, id, SERVERS[1]).await?;
        }
        in_turn.push(began.elapsed());
        finish(bench, &ids).await?;
        settle(bench).await?;
        let began = Instant::now();
        try_join_all(ids.iter().map(|id| go(bench, id, SERVERS[0]))).await?;
        at_once.push(began.elapsed());
        finish(bench, &ids).await?;
    }
    let each = size(scale.each_of_four);
    report.add(seconds(format!("four moves of {each}, one after the other"), &in_turn));
    report.add(seconds(format!("four moves of {each} at once"), &at_once).ratio(
        ("at once", at_once.p50()),
        ("one after the other", in_turn.p50()),
        None,
    ));
    Ok(())
}

/// Nothing of it is left where they came from.
async fn finish(bench: &Bench, ids: &[String]) -> Res<()> {
    let all =
        ids.iter().map(|id| async move { done(bench, &format!("/v1/tenants/{id}/move/finish"), &json!({})).await });
    try_join_all(all).await.map(drop)
}
