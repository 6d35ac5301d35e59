//! No step may be forgotten: what the scenarios pass is compared with what the program and its source say there is.

use std::collections::BTreeSet;

use freehold_control::settings::Settings;
use freehold_control::start;

use crate::kill::Runs;
use crate::points::in_source;
use crate::scenario::Scenario;

/// A kind, step or fault point that no scenario passes fails here, so nobody can add one without a kill test.
#[tokio::test]
#[expect(clippy::print_stderr, reason = "how much is covered, for whoever asks")]
async fn coverage_every_step_and_every_point_is_passed_by_a_scenario() {
    let mut passed = BTreeSet::new();
    let mut steps: Option<Vec<(&'static str, &'static [&'static str])>> = None;
    let mut rig: Option<Runs> = None;
    // Of a suspended tenant the same is passed.
    for scenario in Scenario::ALL.into_iter().filter(|scenario| !scenario.is_suspended()) {
        // Those that want the same rig share one.
        let mut runs = match rig.take().filter(|runs| runs.scenario.shares_rig_with(scenario)) {
            Some(runs) => runs.with(scenario),
            None => Runs::new(scenario).await,
        };
        if steps.is_none() {
            let settings = Settings::load(Some(&runs.rig.settings)).expect("read the settings");
            let store = start::store(&settings).await.expect("connect to the store");
            steps = Some(start::plane(settings, store).await.expect("make a plane").engine.steps());
        }
        let (map, _) = runs.map().await;
        passed.extend(map.forward);
        passed.extend(map.back.into_iter().map(|(_, point)| point));
        rig = Some(runs);
    }
    let has = |kind: &str, step: &str, name: &str| {
        passed.iter().any(|point| point.kind == kind && point.step == step && point.name == name)
    };
    let mut missing = Vec::new();
    let steps = steps.expect("there are scenarios");
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
    let count: usize = steps.iter().map(|(_, names)| names.len()).sum();
    eprintln!("{} kinds, {count} steps, {} points", steps.len(), passed.len());
}
