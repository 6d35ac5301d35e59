//! ext4 without a journal, as many virtual machines have it, does not give an inode away again in the minute after it was
//! freed (in the five minutes, while that is not written), and looks past all of those each time that a file is made. A
//! database is three hundred files: where many were dropped, whatever makes one takes three times as long, whoever it is.
//! Nothing of that is to be in what is compared.

use std::time::Duration;

use tokio::process::Command;

use crate::{Res, say};

/// ext4's `RECENTCY_MIN`, and a little more.
const RECENT: Duration = Duration::from_secs(65);

/// After many databases were dropped: what was freed is written, and may be used again.
pub async fn settle() -> Res<()> {
    say(&format!("waiting {} s until the disk has forgotten what was dropped", RECENT.as_secs()));
    Command::new("sync").status().await?;
    tokio::time::sleep(RECENT).await;
    Ok(())
}
