//! Whatever fails where, an operation's effects end all done or all undone.

use freehold_durable::{New, Operation, State, fault};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

use crate::toy::{Step, Toy, World, all, over, run};

const CASES: usize = 60;

#[tokio::test(flavor = "multi_thread")]
async fn fault_any_pattern_ends_all_done_or_all_undone() {
    let world = World::new().await;
    let mut runner = TestRunner::deterministic();
    let (mut builder, mut faults, mut kinds) = (world.builder(), Vec::new(), Vec::new());
    for case in 0..CASES {
        let kind: &'static str = format!("toy{case}").leak();
        builder = builder.register(Toy { kind });
        kinds.push(kind);
        faults.extend(pattern(&mut runner).into_iter().map(|fault| format!("{kind}/{fault}")));
    }
    fault::arm(&faults.join(","));
    // Two engines share the work.
    let engine = builder.build();
    let mut other = world.builder();
    for kind in &kinds {
        other = other.register(Toy { kind });
    }
    let other = other.build();
    let _guards = (run(&engine), run(&other));
    let mut ids = Vec::new();
    for kind in kinds {
        ids.push((kind, world.go::<Toy>(&engine, New::of(kind, Step::First)).await));
    }
    let mut undone = 0;
    for (kind, id) in ids {
        let row = over(&other, id).await;
        let effects = world.effects(id).await;
        let faults: Vec<_> = faults.iter().filter(|fault| fault.starts_with(&format!("{kind}/"))).collect();
        match row.state {
            State::Succeeded => assert_eq!(effects, all(), "{faults:?} {row:?}"),
            State::Failed => {
                undone += 1;
                assert!(effects.is_empty(), "{faults:?} {effects:?} {row:?}");
            }
            other => panic!("{other:?} {faults:?} {row:?}"),
        }
    }
    assert!(fault::fired() > CASES && undone > CASES / 10 && undone < CASES, "the patterns reach something: {undone}");
}

/// A few faults; permanent ones only on the way forward, because in an undo they are for a person.
fn pattern(runner: &mut TestRunner) -> Vec<String> {
    use freehold_durable::StepNames;
    let step = proptest::sample::select(<Toy as Operation>::Step::NAMES);
    let point = proptest::sample::select(vec!["before", "after", "recorded"]);
    let action = proptest::sample::select(vec!["fail*1", "fail*2", "fail*1", "permanent*1"]);
    let fault = (step, point, action).prop_map(|(step, point, action)| {
        let action = if step.starts_with("Undo") { "fail*1" } else { action };
        format!("{step}/{point}={action}")
    });
    proptest::collection::vec(fault, 1..5).new_tree(runner).expect("a pattern").current()
}
