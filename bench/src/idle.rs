//! What a plane costs that nobody asks anything: CPU and memory of its process, without PostgreSQL's; beside it, of the
//! process that looks after its pooler.

use std::time::{Duration, Instant};

use crate::bench::Bench;
use crate::report::{Goal, Report, Row};
use crate::{Res, cpu, say};

/// Notes are written in the background, some at a time, after tenants have come.
const NOTES: Duration = Duration::from_secs(300);

pub async fn run(bench: &Bench, time: Duration, report: &mut Report) -> Res<()> {
    let store = bench.store().await?;
    let deadline = Instant::now() + NOTES;
    let unnoted = "select count(*) from tenant_database where state = 'claimed' and noted_at is null";
    while store.query_one(unnoted, &[]).await?.get::<_, i64>(0) > 0 {
        if Instant::now() > deadline {
            return Err(format!("notes are not written after {NOTES:?}").into());
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let tenants: i64 = store.query_one("select count(*) from tenant", &[]).await?.get(0);
    say(&format!("idle: {} s with {tenants} tenants", time.as_secs()));
    // What the last requests left behind settles first.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let agent = agent_of(bench.pid())?;
    let (before, of_agent, began) = (cpu::seconds(bench.pid())?, cpu::seconds(agent)?, Instant::now());
    tokio::time::sleep(time).await;
    let percent = 100.0 / began.elapsed().as_secs_f64();
    let share = (cpu::seconds(bench.pid())? - before) * percent;
    let agents = (cpu::seconds(agent)? - of_agent) * percent;
    let resident = resident_mb(bench.pid())?;
    report.add(
        Row::number(format!("idle with {tenants} tenants: CPU of the control process"), share, "% of a core").ratio(
            ("idle", share),
            ("a core's 1 %", 1.0),
            Goal::AtMost(1.0),
        ),
    );
    report.add(
        Row::number(format!("idle with {tenants} tenants: memory of the control process"), resident, "MB").ratio(
            ("resident", resident),
            ("100 MB", 100.0),
            Goal::AtMost(1.0),
        ),
    );
    let name = format!("idle with {tenants} tenants: CPU of the pooler's agent");
    report.add(Row::number(name, agents, "% of a core").note(format!("{:.0} MB", resident_mb(agent)?)));
    Ok(())
}

/// The process of the plane's that looks after its pooler.
fn agent_of(plane: u32) -> Res<u32> {
    for entry in std::fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // Whoever ended meanwhile is not it.
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        let Ok(line) = std::fs::read_to_string(format!("/proc/{pid}/cmdline")) else { continue };
        let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse().ok());
        if parent == Some(plane) && line.contains("pooler\0agent") {
            return Ok(pid);
        }
    }
    Err("the plane has no pooler's agent".into())
}

fn resident_mb(pid: u32) -> Res<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("status has no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
}
