//! A kill inside a step is one between two of its effects. Whatever step has no point there is named here, with the reason.

use std::collections::BTreeSet;

use crate::points::Point;

const ENGINE: [&str; 3] = ["before", "after", "recorded"];

const LOOKS: &str = "it looks, and what it saw comes with its record";
const WAITS: &str = "it waits for its pooler, and changes nothing before its record";
const STORE: &str = "it changes the store alone, in the transaction of its record";
const PLATFORM: &str = "one call of the platform, whose own kill tests are the drivers'";

/// Kind, steps, why there is nothing between two effects of theirs.
const ONE_EFFECT: &[(&str, &[&str], &str)] = &[
    ("tenant.create", &["Pool"], WAITS),
    ("tenant.purge", &["Erase"], STORE),
    ("tenant.rotate", &["Plan", "HandOut"], STORE),
    ("tenant.rotate", &["Pool"], WAITS),
    ("tenant.rotate", &["Disown"], "one transaction in the tenant's database"),
    ("tenant.rotate", &["Change"], "one statement: the password"),
    ("tenant.rotate", &["Prove"], "it logs in, and changes nothing"),
    ("tenant.rotate", &["Settle"], "it waits for its pooler, then ends sessions, and no more"),
    ("tenant.retire_login", &["Disown"], "one transaction in the tenant's database"),
    ("tenant.adopt", &["Record"], LOOKS),
    ("tenant.adopt", &["Probe"], "it logs in, then gives up in one transaction what it had joined"),
    ("tenant.adopt_check", &["Look"], LOOKS),
    ("tenant.import_check", &["Look"], LOOKS),
    ("tenant.import", &["Place"], "it looks, and takes the slot in the transaction of its record"),
    ("tenant.import", &["Make"], "one message of SQL, and so one transaction: the roles"),
    ("tenant.import", &["Probe"], "it logs in, and changes nothing"),
    ("tenant.import", &["Pool"], WAITS),
    ("tenant.diagnose", &["Walk"], LOOKS),
    ("tenant.movability", &["Look"], LOOKS),
    ("tenant.sessions", &["Look"], LOOKS),
    ("tenant.terminate_sessions", &["End"], "one statement ends all of them"),
    ("tenant.plan", &["Pool", "PoolBack"], WAITS),
    ("tenant.move", &["Reserve", "Plan"], LOOKS),
    ("tenant.move", &["Copy"], "PostgreSQL copies: it looks how far that is"),
    ("tenant.move", &["Verify"], WAITS),
    (
        "tenant.move",
        &["Define"],
        "one verb of the driver, which passes over what is there already: its own test breaks it off",
    ),
    ("tenant.move", &["Release"], STORE),
    ("tenant.roll_back_move", &["Forget"], STORE),
    ("tenant.finish_move", &["Forget"], STORE),
    ("server.register", &["Probe"], LOOKS),
    ("server.provision", &["Ready"], LOOKS),
    ("server.update", &["Revert"], STORE),
    ("server.update", &["Ready"], LOOKS),
    ("server.update", &["Resume", "Recover"], "it closes the server to strangers; the rest comes with its record"),
    ("server.remove", &["Service", "Data", "Restore"], PLATFORM),
    ("server.purge", &["Data"], PLATFORM),
    ("server.drain", &["Settle"], "one statement: the rest of the stock is to go"),
    ("server.drain_check", &["Look"], LOOKS),
    ("server.rebalance", &["Settle"], LOOKS),
    ("pooler.start", &["Ready"], LOOKS),
    ("pooler.start", &["Remove"], PLATFORM),
];

/// What is neither passed inside nor has a reason, and what has a reason that does not hold.
pub fn unexplained(steps: &[(&'static str, &'static [&'static str])], passed: &BTreeSet<Point>) -> Vec<String> {
    let mut wrong = Vec::new();
    let reasons = |kind: &str, step: &str| {
        ONE_EFFECT.iter().filter(|(of, names, _)| *of == kind && names.contains(&step)).count()
    };
    for (kind, names) in steps {
        for step in *names {
            let inside = passed
                .iter()
                .any(|point| point.kind == *kind && point.step == *step && !ENGINE.contains(&point.name.as_str()));
            match (inside, reasons(kind, step)) {
                (true, 0) | (false, 1) => {}
                (false, 0) => wrong.push(format!("{kind}/{step} has no point inside, and no reason why")),
                (true, _) => wrong.push(format!("{kind}/{step} has a point inside, and a reason to have none")),
                (false, _) => wrong.push(format!("{kind}/{step} has more than one reason")),
            }
        }
    }
    let exists = |kind: &str, step: &str| steps.iter().any(|(of, names)| *of == kind && names.contains(&step));
    let gone = ONE_EFFECT.iter().flat_map(|(kind, names, _)| names.iter().map(move |step| (*kind, *step)));
    wrong.extend(
        gone.filter(|(kind, step)| !exists(kind, step)).map(|(kind, step)| format!("there is no {kind}/{step}")),
    );
    wrong
}
