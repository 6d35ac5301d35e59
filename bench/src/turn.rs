//! Several callers who do the same again and again for a time.

use std::time::{Duration, Instant};

use futures::future::try_join_all;

use crate::{Res, cpu};

pub struct Turn {
    pub per_second: f64,
    /// Of all cores, by everybody on this machine, for each.
    pub cpu_ms: f64,
}

/// What was begun in time and ended late counts for its own time.
pub async fn of(callers: usize, time: Duration, one: impl AsyncFn() -> Res<()>) -> Res<Turn> {
    let (spent, began) = (cpu::machine_seconds()?, Instant::now());
    let callers = (0..callers).map(async |_| {
        let mut made = 0;
        while began.elapsed() < time {
            one().await?;
            made += 1;
        }
        Res::Ok((f64::from(made), f64::from(made) / began.elapsed().as_secs_f64()))
    });
    let done = try_join_all(callers).await?;
    let spent = cpu::machine_seconds()? - spent;
    let made: f64 = done.iter().map(|(made, _)| made).sum();
    Ok(Turn { per_second: done.iter().map(|(_, rate)| rate).sum(), cpu_ms: spent * 1000.0 / made })
}
