//! `scripts/schemathesis` against a `freehold dev` of its own: no 5xx, and no answer that the document does not describe.

use std::path::Path;
use std::process::Command;

use crate::world::BINARY;

#[test]
fn schemathesis_finds_nothing() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/schemathesis");
    let output = Command::new(&script).env("FREEHOLD_BIN", BINARY).env_remove("FREEHOLD_URL").output();
    let output = output.unwrap_or_else(|error| panic!("start {}: {error}", script.display()));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    // 3: python3 or its venv is missing, or the Python index cannot be reached; it says which.
    assert!(output.status.success(), "{}\n{}\n{}", output.status, text(&output.stderr), text(&output.stdout));
    assert!(text(&output.stdout).contains("Schemathesis v"), "{}", text(&output.stdout));
}
