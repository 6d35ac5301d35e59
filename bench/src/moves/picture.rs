//! What clients waited for, second by second, during a move and during dump and restore: `move.svg`, and its samples as
//! `move.csv` beside it. Drawn here, without a library: lines and words.

use std::fmt::Write as _;
use std::path::Path;

use crate::Res;

/// Writes of all clients, and what happened meanwhile, in seconds.
pub struct Run {
    /// When a write began, and its milliseconds.
    pub points: Vec<(f64, f64)>,
    pub began: f64,
    /// When another server took over, where that is one moment.
    pub turned: Option<f64>,
    pub over: f64,
}

const WIDTH: f64 = 860.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 846.0;
const HEIGHT: f64 = 150.0;
const TOPS: [f64; 2] = [46.0, 256.0];
/// A line is so wide, and shows the longest of its time.
const LINE: f64 = 2.0;
/// Milliseconds at the bottom and at the top; what lies between is ten times as much for each line across.
const LEAST: f64 = 1.0;
const DECADES: f64 = 5.0;

const STYLE: &str = "<style>
svg{font:14px ui-sans-serif,system-ui,sans-serif}
.frame{fill:#f6f8fa}.grid{stroke:#d0d7de;stroke-width:1}.moved{stroke:#0969da;stroke-width:2}.dumped{stroke:#cf222e;stroke-width:2}
.mark{stroke:#57606a;stroke-width:1.2;stroke-dasharray:4 3}text{fill:#1f2328}.small{font-size:12px;fill:#57606a}.head{font-weight:600}
@media(prefers-color-scheme:dark){.frame{fill:#161b22}.grid{stroke:#30363d}.moved{stroke:#58a6ff}.dumped{stroke:#ff7b72}
.mark{stroke:#8b949e}text{fill:#e6edf3}.small{fill:#9da7b1}}
</style>
";

pub fn write(size: &str, moved: &Run, dumped: &Run) -> Res<()> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bench");
    std::fs::create_dir_all(&directory)?;
    let mut samples = "run,second,milliseconds\n".to_owned();
    for (name, run) in [("move", moved), ("dump", dumped)] {
        for (second, ms) in &run.points {
            let _ = writeln!(samples, "{name},{second:.4},{ms:.3}");
        }
    }
    std::fs::write(directory.join("move.csv"), samples)?;
    Ok(std::fs::write(directory.join("move.svg"), draw(size, moved, dumped))?)
}

fn draw(size: &str, moved: &Run, dumped: &Run) -> String {
    let last = |run: &Run| run.points.iter().map(|(second, ms)| second + ms / 1000.0).fold(run.over, f64::max);
    let seconds = last(moved).max(last(dumped));
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} 460\" role=\"img\" aria-label=\"How long clients \
         wait for a write while a tenant of {size} is moved, and while it is dumped and restored\">\n{STYLE}"
    );
    let stall = moved.turned.map_or(0.0, |turned| longest_at(moved, turned));
    let heads = [
        (format!("A move of {size}"), format!("another server takes over: {}", time(stall))),
        (
            format!("pg_dump | psql of {size}, writes stopped"),
            format!("nobody is answered: {}", time((dumped.over - dumped.began) * 1000.0)),
        ),
    ];
    for (((run, class), (head, note)), top) in [(moved, "moved"), (dumped, "dumped")].into_iter().zip(heads).zip(TOPS) {
        panel(&mut svg, run, class, seconds, top);
        let x = |second: f64| place(second, seconds);
        let _ = writeln!(svg, "<text class=\"head\" x=\"{LEFT}\" y=\"{}\">{head}</text>", top - 24.0);
        for (second, what) in [(run.began, "begins"), (run.over, "done")] {
            mark(&mut svg, x(second), top, what);
        }
        let at = run.turned.unwrap_or((run.began + run.over) / 2.0);
        let (x, anchor) = if x(at) > (LEFT + RIGHT) / 2.0 { (x(at) - 6.0, "end") } else { (x(at) + 6.0, "start") };
        let y = if run.turned.is_some() { top + 34.0 } else { top + 16.0 };
        let _ = writeln!(svg, "<text x=\"{x:.0}\" y=\"{y}\" text-anchor=\"{anchor}\">{note}</text>");
    }
    let _ = writeln!(
        svg,
        "<text class=\"small\" x=\"{RIGHT}\" y=\"446\" text-anchor=\"end\">seconds; each line is the longest wait for a write of \
         any of {} clients at that time</text>\n</svg>",
        super::clients::CLIENTS
    );
    svg
}

fn panel(svg: &mut String, run: &Run, class: &str, seconds: f64, top: f64) {
    let bottom = top + HEIGHT;
    let _ = writeln!(
        svg,
        "<rect class=\"frame\" x=\"{LEFT}\" y=\"{top}\" width=\"{}\" height=\"{HEIGHT}\"/>",
        RIGHT - LEFT
    );
    for (decade, label) in ["1 ms", "10 ms", "100 ms", "1 s", "10 s", "100 s"].into_iter().enumerate() {
        let y = height(LEAST * 10f64.powi(i32::try_from(decade).unwrap_or(0)), top);
        let _ = writeln!(svg, "<path class=\"grid\" d=\"M{LEFT},{y:.0} H{RIGHT}\"/>");
        let _ = writeln!(
            svg,
            "<text class=\"small\" x=\"{}\" y=\"{:.0}\" text-anchor=\"end\">{label}</text>",
            LEFT - 6.0,
            y + 4.0
        );
    }
    let step = [1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0];
    let step = step.into_iter().find(|step| seconds / step <= 12.0).unwrap_or(600.0);
    let mut second = 0.0;
    while second <= seconds {
        let x = place(second, seconds);
        let _ = writeln!(
            svg,
            "<text class=\"small\" x=\"{x:.0}\" y=\"{}\" text-anchor=\"middle\">{second:.0}</text>",
            bottom + 16.0
        );
        second += step;
    }
    let mut lines = String::new();
    for (index, longest) in by_line(run, seconds).into_iter().enumerate().filter(|(_, longest)| *longest > LEAST) {
        let x = LEFT + LINE * (index as f64 + 0.5);
        let _ = write!(lines, "M{x:.0},{bottom:.0}V{:.1}", height(longest, top));
    }
    let _ = writeln!(svg, "<path class=\"{class}\" d=\"{lines}\"/>");
}

/// The longest write that was under way in the time of each line.
fn by_line(run: &Run, seconds: f64) -> Vec<f64> {
    let count = ((RIGHT - LEFT) / LINE) as usize;
    let mut longest = vec![0.0; count];
    let line = |second: f64| ((place(second, seconds) - LEFT) / LINE) as usize;
    for (second, ms) in &run.points {
        let (first, last) = (line(*second), line(second + ms / 1000.0));
        for value in &mut longest[first.min(count - 1)..=last.min(count - 1)] {
            *value = f64::max(*value, *ms);
        }
    }
    longest
}

fn longest_at(run: &Run, moment: f64) -> f64 {
    let near = run.points.iter().filter(|(second, ms)| *second <= moment && second + ms / 1000.0 >= moment);
    near.map(|(_, ms)| *ms).fold(0.0, f64::max)
}

fn mark(svg: &mut String, x: f64, top: f64, what: &str) {
    let _ = writeln!(svg, "<path class=\"mark\" d=\"M{x:.0},{} V{}\"/>", top - 6.0, top + HEIGHT);
    let anchor = if x > RIGHT - 60.0 { "end" } else { "middle" };
    let _ =
        writeln!(svg, "<text class=\"small\" x=\"{x:.0}\" y=\"{}\" text-anchor=\"{anchor}\">{what}</text>", top - 10.0);
}

fn place(second: f64, seconds: f64) -> f64 {
    LEFT + (RIGHT - LEFT) * (second / seconds).clamp(0.0, 1.0)
}

fn height(ms: f64, top: f64) -> f64 {
    let share = ((ms / LEAST).log10() / DECADES).clamp(0.0, 1.0);
    top + HEIGHT * (1.0 - share)
}

fn time(ms: f64) -> String {
    match ms {
        ms if ms >= 1000.0 => format!("{:.1} s", ms / 1000.0),
        ms => format!("{ms:.0} ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn picture_says_what_was_waited_for() {
        let quick = |second: u32| (f64::from(second) / 10.0, 2.0);
        let mut moved = Run { points: (0..300).map(quick).collect(), began: 3.0, turned: Some(20.0), over: 25.0 };
        moved.points.push((19.99, 31.4));
        let mut dumped = Run { points: (0..30).map(quick).collect(), began: 3.0, turned: None, over: 15.3 };
        dumped.points.push((3.0, 12_300.0));
        let svg = draw("1 GB", &moved, &dumped);
        for said in ["A move of 1 GB", "takes over: 31 ms", "nobody is answered: 12.3 s", "begins", "done"] {
            assert!(svg.contains(said), "{said}: {svg}");
        }
        assert_eq!(svg.matches('<').count(), svg.matches('>').count());
        let waiting = by_line(&dumped, 30.0).into_iter().filter(|longest| *longest > 10_000.0).count();
        assert!((155..=165).contains(&waiting), "12.3 of 30 seconds in lines: {waiting}");
    }
}
