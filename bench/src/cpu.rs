//! Time of the processors that was spent.

use crate::Res;

/// A tick of `/proc`, which Linux fixes at a hundredth of a second for programs.
const TICKS: f64 = 100.0;

/// By one process and those of its children that have ended.
pub fn seconds(pid: u32) -> Res<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in parentheses may hold spaces; what follows it starts with the third field.
    let fields: Vec<&str> = stat.rsplit_once(')').ok_or("no name")?.1.split_whitespace().collect();
    let ticks: f64 =
        fields.get(11).ok_or("no utime")?.parse::<f64>()? + fields.get(12).ok_or("no stime")?.parse::<f64>()?;
    Ok(ticks / TICKS)
}

/// By everything on this machine.
pub fn machine_seconds() -> Res<f64> {
    let stat = std::fs::read_to_string("/proc/stat")?;
    let line = stat.lines().next().ok_or("no first line")?;
    let ticks: Vec<f64> = line.split_whitespace().skip(1).map(str::parse).collect::<Result<_, _>>()?;
    // user nice system idle iowait irq softirq: what is idle or waits for a disk is not spent.
    let spent = ticks.iter().take(8).enumerate().filter(|(index, _)| ![3, 4].contains(index));
    Ok(spent.map(|(_, ticks)| ticks).sum::<f64>() / TICKS)
}
