//! Which fault points there are: told by the program that passes them, and by its source.

use std::collections::BTreeSet;
use std::path::Path;

use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

/// Every fault point that is passed is logged, and nothing else happens.
pub const TRACE: &str = "*/*/*=sleep:0";

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Point {
    pub kind: String,
    pub step: String,
    pub name: String,
}

impl std::fmt::Display for Point {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}", self.kind, self.step, self.name)
    }
}

impl std::str::FromStr for Point {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split('/').collect::<Vec<_>>()[..] {
            [kind, step, name] => Ok(Self { kind: kind.into(), step: step.into(), name: name.into() }),
            _ => Err(format!("{text:?} is not KIND/STEP/POINT")),
        }
    }
}

/// The points that a traced process passed, in order, each once.
pub fn passed(output: &str, kinds: &[&str]) -> Vec<Point> {
    let colour = regex::Regex::new("\u{1b}\\[[0-9;]*m").expect("a regex");
    let field = |line: &str, name: &str| {
        let at = line.find(&format!(" {name}=\""))? + name.len() + 3;
        Some(line[at..].split('"').next()?.to_owned())
    };
    let mut points: Vec<Point> = Vec::new();
    for line in output.lines().filter(|line| line.contains("fault point fires")) {
        let line = colour.replace_all(line, "");
        let line = &line[line.find("fault point fires").unwrap_or(0)..];
        let (Some(kind), Some(step), Some(name)) = (field(line, "kind"), field(line, "step"), field(line, "point"))
        else {
            panic!("unreadable: {line}");
        };
        let point = Point { kind, step, name };
        if kinds.contains(&point.kind.as_str()) && !points.contains(&point) {
            points.push(point);
        }
    }
    points
}

/// The names of all points in the source besides the engine's three.
pub fn in_source() -> BTreeSet<String> {
    fn walk(dir: &Path, found: &mut BTreeSet<String>) {
        let call = regex::Regex::new(r#"\.fault\(\s*"([a-z_]+)""#).expect("a regex");
        for entry in std::fs::read_dir(dir).expect("read the source").flatten() {
            let path = entry.path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).expect("read the source");
                found.extend(call.captures_iter(&text).map(|found| found[1].to_owned()));
            }
        }
    }
    let mut found = BTreeSet::new();
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../control/src"), &mut found);
    found
}

/// All of them in a soak; else `count` of them, by a seed that is printed and may be given again.
#[expect(clippy::print_stderr, reason = "whoever reads a failure needs the seed")]
pub fn sample<T: Clone + Ord>(all: &[T], count: usize) -> Vec<T> {
    if freehold_testkit::is_soak() || all.len() <= count {
        return all.to_vec();
    }
    let seed = match std::env::var("FREEHOLD_SEED") {
        Ok(seed) => seed.parse().expect("FREEHOLD_SEED is a number"),
        Err(_) => rand::rng().random_range(0..1_000_000),
    };
    eprintln!("a sample of {count} of {}: FREEHOLD_SEED={seed} repeats it, FREEHOLD_SOAK=1 takes all", all.len());
    let mut all = all.to_vec();
    all.shuffle(&mut rand::rngs::StdRng::seed_from_u64(seed));
    all.truncate(count);
    all
}
