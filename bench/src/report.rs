//! What was measured, as a table for people and as JSON for programs.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::samples::Samples;

#[derive(Debug, Clone)]
pub struct Row {
    name: String,
    unit: &'static str,
    count: usize,
    /// p50, p95, p99; the first alone where there is only one number.
    values: Vec<f64>,
    note: String,
    checks: Vec<Check>,
}

#[derive(Debug, Clone)]
struct Check {
    left: String,
    right: String,
    ratio: f64,
    goal: Option<Goal>,
}

#[derive(Debug, Clone, Copy)]
pub enum Goal {
    AtLeast(f64),
    AtMost(f64),
}

impl Goal {
    fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
        }
    }

    fn text(self) -> String {
        match self {
            Self::AtLeast(least) => format!("≥ {least}"),
            Self::AtMost(most) => format!("≤ {most}"),
        }
    }
}

impl Row {
    pub fn of(name: impl Into<String>, samples: &Samples) -> Self {
        let values = [0.5, 0.95, 0.99].map(|q| samples.quantile(q)).to_vec();
        Self { name: name.into(), unit: "ms", count: samples.len(), values, note: String::new(), checks: Vec::new() }
    }

    pub fn number(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { name: name.into(), unit, count: 1, values: vec![value], note: String::new(), checks: Vec::new() }
    }

    pub fn skipped(name: impl Into<String>, why: impl Into<String>) -> Self {
        Self { name: name.into(), unit: "", count: 0, values: Vec::new(), note: why.into(), checks: Vec::new() }
    }

    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    /// `left` divided by `right`.
    pub fn ratio(mut self, left: (&str, f64), right: (&str, f64), goal: impl Into<Option<Goal>>) -> Self {
        let check = Check { left: left.0.into(), right: right.0.into(), ratio: left.1 / right.1, goal: goal.into() };
        self.checks.push(check);
        self
    }

    /// The median of the turns' own ratios: both sides of a turn met the same neighbours on this machine.
    pub fn ratio_of_turns(mut self, left: &str, right: &str, turns: &Samples, goal: impl Into<Option<Goal>>) -> Self {
        let check = Check { left: left.into(), right: right.into(), ratio: turns.p50(), goal: goal.into() };
        self.checks.push(check);
        self
    }

    fn json(&self) -> Value {
        let value = |index: usize| self.values.get(index).copied();
        let checks: Vec<Value> = self
            .checks
            .iter()
            .map(|check| {
                json!({"left": check.left, "right": check.right, "ratio": check.ratio,
                    "goal": check.goal.map(Goal::text), "met": check.goal.map(|goal| goal.is_met(check.ratio))})
            })
            .collect();
        json!({"name": self.name, "unit": self.unit, "samples": self.count, "p50": value(0), "p95": value(1), "p99": value(2),
            "ratios": checks, "note": self.note})
    }
}

#[derive(Debug, Default)]
pub struct Report {
    rows: Vec<Row>,
    pub about: Vec<(String, Value)>,
}

impl Report {
    pub fn add(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// Goals that were missed, in words.
    pub fn missed(&self) -> Vec<String> {
        let mut missed = Vec::new();
        for row in &self.rows {
            for check in &row.checks {
                if let Some(goal) = check.goal.filter(|goal| !goal.is_met(check.ratio)) {
                    missed.push(format!(
                        "{}: {} / {} is {}, goal {}",
                        row.name,
                        check.left,
                        check.right,
                        short(check.ratio),
                        goal.text()
                    ));
                }
            }
        }
        missed
    }

    pub fn json(&self) -> Value {
        let rows: Vec<Value> = self.rows.iter().map(Row::json).collect();
        let about: serde_json::Map<String, Value> = self.about.iter().cloned().collect();
        json!({"about": about, "rows": rows, "missed": self.missed()})
    }

    pub fn table(&self) -> String {
        let head = ["what", "n", "p50", "p95", "p99", "unit", "ratio", "", "goal", "met"];
        let mut lines: Vec<[String; 10]> = vec![head.map(str::to_owned)];
        for row in &self.rows {
            let value = |index: usize| row.values.get(index).map(|value| short(*value)).unwrap_or_default();
            let count = if row.count > 1 { row.count.to_string() } else { String::new() };
            let name = if row.note.is_empty() { row.name.clone() } else { format!("{} ({})", row.name, row.note) };
            let begin = [name, count, value(0), value(1), value(2), row.unit.to_owned()];
            let empty = || std::array::from_fn::<String, 6, _>(|_| String::new());
            if row.checks.is_empty() {
                lines.push(line(begin, empty()));
                continue;
            }
            for (index, check) in row.checks.iter().enumerate() {
                let end = [
                    format!("{} / {}", check.left, check.right),
                    short(check.ratio),
                    check.goal.map(Goal::text).unwrap_or_default(),
                    check.goal.map(|goal| if goal.is_met(check.ratio) { "yes" } else { "NO" }).unwrap_or("").to_owned(),
                    String::new(),
                    String::new(),
                ];
                lines.push(line(if index == 0 { begin.clone() } else { empty() }, end));
            }
        }
        let widths: Vec<usize> =
            (0..10).map(|column| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0)).collect();
        let mut text = String::new();
        for line in &lines {
            let mut out = String::new();
            for (column, cell) in line.iter().enumerate() {
                let pad = " ".repeat(widths[column] - cell.chars().count());
                let is_number = matches!(column, 1..=4 | 7);
                let _ = if is_number { write!(out, "{pad}{cell}  ") } else { write!(out, "{cell}{pad}  ") };
            }
            let _ = writeln!(text, "{}", out.trim_end());
        }
        text
    }
}

fn line(begin: [String; 6], end: [String; 6]) -> [String; 10] {
    let [a, b, c, d, e, f] = begin;
    let [g, h, i, j, ..] = end;
    [a, b, c, d, e, f, g, h, i, j]
}

/// Three figures.
fn short(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_says_which_goals_are_missed() {
        let mut samples = Samples::default();
        for ms in 1..=100 {
            samples.push_ms(f64::from(ms));
        }
        let mut report = Report::default();
        let row = Row::of("create", &samples);
        report.add(row.ratio(("script", 5000.0), ("create", 50.0), Goal::AtLeast(30.0)).ratio(
            ("create", 50.0),
            ("commit", 1.0),
            Goal::AtMost(12.0),
        ));
        assert_eq!(report.missed(), ["create: create / commit is 50.0, goal ≤ 12"]);
        assert_eq!(report.json()["rows"][0]["p95"], 95.0);
        assert!(report.table().contains("script / create"));
    }
}
