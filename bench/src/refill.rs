//! Creates that go on after the stock is used up, against the same effects by hand. Both take turns.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::bench::{Bench, Kind, Place};
use crate::report::{Goal, Report, Row};
use crate::samples::Samples;
use crate::turn::{self, Turn};
use crate::{Res, Scale, disk, hand, say};

pub const STOCK: u32 = 10;
const CALLERS: usize = 4;

pub async fn run(binary: &Path, scale: &Scale, report: &mut Report) -> Res<()> {
    say("sustained: starting");
    let bench = Bench::start(binary, &[("app", STOCK)]).await?;
    bench.add_template("app", Kind::Plain).await?;
    turns(&bench, &Place::Own(&bench), "", scale, report).await
}

/// On a server that is the only one open; what is said of it in the table.
pub async fn turns(bench: &Bench, place: &Place<'_>, about: &str, scale: &Scale, report: &mut Report) -> Res<()> {
    let (mut by_freehold, mut by_hand, mut ratios) = (Side::default(), Side::default(), Samples::default());
    // An odd number has a middle.
    let turns = scale.turns + 1;
    for turn in 0..turns {
        say(&format!("sustained: turn {} of {turns}", turn + 1));
        // Whoever comes second finds what the first left in memory and must write it: they take turns at that too.
        let hand_first = turn % 2 == 0;
        for is_hand in [hand_first, !hand_first] {
            if is_hand {
                let one = hand::rate(bench, place, "app", STOCK, scale.turn);
                by_hand.measure(bench, place, scale, one).await?;
                hand::clear(place).await?;
                if !scale.is_quick {
                    disk::settle().await?;
                }
            } else {
                by_freehold.measure(bench, place, scale, rate(bench, turn, scale.turn)).await?;
            }
        }
        ratios.push_ms(by_freehold.rate.last() / by_hand.rate.last());
        say(&format!("sustained: {}; by hand {}", by_freehold.last(), by_hand.last()));
    }
    let named = |what: &str| match about {
        "" => what.to_owned(),
        about => format!("{what}, {about}"),
    };
    let of_hand = format!("{:.0} ms of a core each", by_hand.cpu_ms.p50());
    report.add(Row::number(named("by hand, two at a time"), by_hand.rate.p50(), "creates/s").note(of_hand));
    let of_freehold = by_freehold.cpu_ms.p50();
    report.add(
        Row::number(named("sustained creates once stock is used up"), by_freehold.rate.p50(), "creates/s")
            .note(format!("{CALLERS} callers, median of {turns} turns, {of_freehold:.0} ms of a core each"))
            .ratio_of_turns("sustained", "by hand", &ratios, Goal::AtLeast(0.85)),
    );
    Ok(())
}

#[derive(Default)]
struct Side {
    rate: Samples,
    cpu_ms: Samples,
}

impl Side {
    fn last(&self) -> String {
        format!("{:.1}/s, {:.0} ms of a core", self.rate.last(), self.cpu_ms.last())
    }

    /// With stock and with nothing left to write.
    async fn measure(
        &mut self,
        bench: &Bench,
        place: &Place<'_>,
        scale: &Scale,
        side: impl Future<Output = Res<Turn>>,
    ) -> Res<()> {
        bench.need_stock("app", STOCK, scale.patience).await?;
        place.admin("postgres").await?.batch_execute("CHECKPOINT").await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let turn = side.await?;
        self.rate.push_ms(turn.per_second);
        self.cpu_ms.push_ms(turn.cpu_ms);
        Ok(())
    }
}

/// Creates, once as many were made as there was stock, and as many again.
async fn rate(bench: &Bench, turn: usize, time: Duration) -> Res<Turn> {
    let next = AtomicU64::new(0);
    let one = async || {
        let index = next.fetch_add(1, Ordering::Relaxed);
        bench.create(&format!("sustained-{turn}-{index}"), "app").await.map(drop)
    };
    for _ in 0..STOCK * 2 {
        one().await?;
    }
    turn::of(CALLERS, time, one).await
}
