//! Creates that go on after the stock is used up, against the same effects by hand. Both take turns.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::future::try_join_all;

use crate::bench::{Bench, Kind};
use crate::report::{Goal, Report, Row};
use crate::samples::Samples;
use crate::{Res, Scale, hand, say};

const STOCK: u32 = 10;
const CALLERS: usize = 4;

pub async fn run(binary: &Path, scale: &Scale, report: &mut Report) -> Res<()> {
    say("sustained: starting");
    let bench = Bench::start(binary, &[("app", STOCK)]).await?;
    bench.add_template("app", Kind::Plain).await?;
    let (mut by_freehold, mut by_hand) = (Samples::default(), Samples::default());
    for turn in 0..scale.turns {
        say(&format!("sustained: turn {} of {}", turn + 1, scale.turns));
        bench.need_stock("app", STOCK, scale.patience).await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        by_hand.push_ms(hand::rate(&bench, "app", scale.turn).await?);
        by_freehold.push_ms(rate(&bench, turn, scale.turn).await?);
    }
    report.add(Row::number("by hand, two at a time", by_hand.p50(), "creates/s"));
    report.add(
        Row::number("sustained creates once stock is used up", by_freehold.p50(), "creates/s")
            .note(format!("{CALLERS} callers, median of {} turns", scale.turns))
            .ratio(("sustained", by_freehold.p50()), ("by hand", by_hand.p50()), Goal::AtLeast(0.85)),
    );
    Ok(())
}

/// Creates per second, once as many were made as there was stock.
async fn rate(bench: &Bench, turn: usize, time: Duration) -> Res<f64> {
    let next = AtomicU64::new(0);
    let one = async || {
        let index = next.fetch_add(1, Ordering::Relaxed);
        bench.create(&format!("sustained-{turn}-{index}"), "app").await.map(drop)
    };
    for _ in 0..STOCK * 2 {
        one().await?;
    }
    let began = Instant::now();
    let callers = (0..CALLERS).map(|_| {
        let one = &one;
        async move {
            let mut made = 0;
            while began.elapsed() < time {
                one().await?;
                made += 1;
            }
            Res::Ok(f64::from(made) / began.elapsed().as_secs_f64())
        }
    });
    Ok(try_join_all(callers).await?.into_iter().sum())
}
