//! No step may be forgotten: what the scenarios pass is compared with what the program and its source say there is.
//!
//! `passed/` has what each scenario passes. Its kill test fails where it passes less; here it is read and not run again.

use std::collections::BTreeSet;
use std::path::PathBuf;

use freehold_control::settings::Settings;
use freehold_control::start;

use crate::inside;
use crate::kill::{Map, Runs};
use crate::points::{Point, in_source};
use crate::scenario::Scenario;

/// Set, kill tests write what they passed, and kill nobody.
pub const WRITE: &str = "FREEHOLD_PASSED";

fn file(scenario: Scenario) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fault/passed").join(format!("{scenario:?}.txt"))
}

fn told(scenario: Scenario) -> BTreeSet<Point> {
    let file = file(scenario);
    let text = std::fs::read_to_string(&file).unwrap_or_else(|error| {
        panic!("{}: {error}: {WRITE}=1 cargo nextest run -p freehold -E 'test(/kill_/)' writes it", file.display())
    });
    text.lines().map(|line| line.parse().unwrap_or_else(|error| panic!("{}: {error}", file.display()))).collect()
}

/// Whether that is all that there was to see to.
pub fn compared(scenario: Scenario, map: &Map) -> bool {
    let back = map.back.iter().flat_map(|back| &back.points);
    let passed: BTreeSet<Point> = map.forward.iter().chain(back).cloned().collect();
    if std::env::var_os(WRITE).is_some() {
        let lines: String = passed.iter().map(|point| format!("{point}\n")).collect();
        std::fs::write(file(scenario), lines).expect("write what was passed");
        return true;
    }
    let less: Vec<String> = told(scenario).difference(&passed).map(ToString::to_string).collect();
    assert!(
        less.is_empty(),
        "{scenario:?} does not pass {} any more: if it should not, take it out of {}",
        less.join(", "),
        file(scenario).display()
    );
    false
}

/// A kind, step or fault point that no scenario passes fails here, so nobody can add one without a kill test; and so does a
/// step that nothing is killed inside of, unless there is a reason.
#[tokio::test]
#[expect(clippy::print_stderr, reason = "how much is covered, for whoever asks")]
async fn coverage_every_step_and_every_point_is_passed_by_a_scenario() {
    let passed: BTreeSet<Point> = Scenario::ALL.into_iter().flat_map(told).collect();
    let runs = Runs::new(Scenario::Made).await;
    let settings = Settings::load(Some(&runs.rig.settings)).expect("read the settings");
    let store = start::store(&settings).await.expect("connect to the store");
    let steps = start::plane(settings, store).await.expect("make a plane").engine.steps();
    let has = |kind: &str, step: &str, name: &str| {
        passed.iter().any(|point| point.kind == kind && point.step == step && point.name == name)
    };
    let mut missing = Vec::new();
    for (kind, names) in &steps {
        for step in *names {
            for name in ["before", "after", "recorded"] {
                if !has(kind, step, name) {
                    missing.push(format!("{kind}/{step}/{name}"));
                }
            }
        }
    }
    let named: BTreeSet<&str> = passed.iter().map(|point| point.name.as_str()).collect();
    missing.extend(
        in_source().into_iter().filter(|name| !named.contains(name.as_str())).map(|name| format!("*/*/{name}")),
    );
    assert!(missing.is_empty(), "never passed: {}", missing.join(", "));
    let unexplained = inside::unexplained(&steps, &passed);
    assert!(unexplained.is_empty(), "{}", unexplained.join("\n"));
    let count: usize = steps.iter().map(|(_, names)| names.len()).sum();
    eprintln!("{} kinds, {count} steps, {} points", steps.len(), passed.len());
}
