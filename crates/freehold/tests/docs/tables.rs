//! The tables of the documentation hold what the code holds: no row more, no row less.

use std::collections::{BTreeMap, BTreeSet};

use freehold_api::audit::AuditFindingKind;
use freehold_api::movability::MoveCode;
use freehold_api::problem::Code;
use freehold_control::guard::Rule;
use freehold_control::settings;
use freehold_control::tenant::movability::judge;
use regex::Regex;

use crate::{read, root};

/// The rows of the table under this heading, as cells without backticks.
pub fn table(page: &str, heading: &str) -> Vec<Vec<String>> {
    let text = read(page);
    let (_, below) = text.split_once(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("{page} has no {heading:?}"));
    let lines = below.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let cells = |line: &str| {
        let cells = line.trim_matches('|').split('|').map(|cell| cell.trim().replace('`', ""));
        cells.collect::<Vec<String>>()
    };
    lines.skip(2).map(cells).collect()
}

pub fn firsts(rows: &[Vec<String>]) -> BTreeSet<String> {
    rows.iter().map(|row| row[0].clone()).collect()
}

#[test]
fn problem_codes_are_the_api_s() {
    let rows: Vec<String> = table("docs/api.md", "## Problem codes").iter().map(|row| row[..3].join(" | ")).collect();
    let codes: Vec<String> =
        Code::ALL.iter().map(|code| format!("{code} | {} | {}", code.status(), code.title())).collect();
    assert_eq!(rows, codes, "docs/api.md should list:\n{}", codes.join("\n"));
}

#[test]
fn findings_about_a_move_are_the_api_s_with_what_they_cost() {
    let rows: Vec<String> = table("docs/move.md", "## Findings").iter().map(|row| row[..2].join(" | ")).collect();
    let codes: Vec<String> = MoveCode::ALL.iter().map(|code| format!("{} | {}", code.as_str(), code.cost())).collect();
    assert_eq!(rows, codes, "docs/move.md should list:\n{}", codes.join("\n"));
}

#[test]
fn findings_about_the_audit_are_the_api_s() {
    let rows: Vec<String> = table("docs/audit.md", "## Findings").iter().map(|row| row[..2].join(" | ")).collect();
    let kinds: Vec<String> =
        AuditFindingKind::ALL.iter().map(|kind| format!("{} | {}", kind.as_str(), kind.severity().as_str())).collect();
    assert_eq!(rows, kinds, "docs/audit.md should list:\n{}", kinds.join("\n"));
}

/// What the page says of the rates is what is reckoned with.
#[test]
fn rates_of_a_move_are_the_judge_s() {
    let rows = table("docs/move.md", "## Time");
    let row = |what: &str| rows.iter().find(|row| row[0] == what).unwrap_or_else(|| panic!("no row {what}"));
    let mebibytes = |bytes: u64| format!("{} MiB per second", bytes >> 20);
    assert_eq!(row("bytes of rows")[1..], [mebibytes(judge::COPIED_BYTES), mebibytes(judge::DUMPED_BYTES)]);
    assert_eq!(row("bytes of indexes")[1..], [mebibytes(judge::INDEXED_BYTES), mebibytes(judge::INDEXED_BYTES)]);
    assert_eq!(row("rows compared")[2], mebibytes(judge::COMPARED_BYTES));
    assert!(judge::APPLIED_ROWS == 10_000.0 && read("docs/move.md").contains("per second with 10,000"));
}

#[test]
fn exit_codes_are_the_command_line_s() {
    let source = read("crates/cli/src/failure.rs");
    let doc: String = source.lines().take_while(|line| line.starts_with("//!")).map(|line| &line[3..]).collect();
    let listed = doc.split(['·', '.']).filter_map(|part| part.trim().split_once(' '));
    let listed: BTreeSet<&str> =
        listed.map(|(code, _)| code).filter(|code| code.starts_with(|c: char| c.is_ascii_digit())).collect();
    let listed: BTreeSet<String> = listed.iter().flat_map(|codes| codes.split('/')).map(str::to_owned).collect();
    let rows = firsts(&table("docs/operate.md", "## Exit codes"));
    assert_eq!(rows, listed);
}

/// Whoever brakes must know what there is to be braked.
#[test]
fn loops_are_all_named_where_they_are_frozen() {
    let named = Regex::new(r#"impl Loop for \w+ \{\s*fn name\(&self\) -> &'static str \{\s*(?:"(\w+)"|LOOP)"#)
        .expect("a pattern");
    let shared = Regex::new(r#"pub const LOOP: &str = "(\w+)""#).expect("a pattern");
    let sources = sources("crates/control/src");
    let constant = |source: &String| shared.captures(source).map(|found| found[1].to_owned());
    // Of a module whose loop is in another file.
    let mut apart = sources.iter().filter(|source| !named.is_match(source)).filter_map(constant);
    let apart = (apart.next().expect("a loop's name"), apart.next());
    assert_eq!(apart.1, None, "two files have a loop's name, and not its loop");
    let loops: BTreeSet<String> = sources
        .iter()
        .flat_map(|source| named.captures_iter(source).map(move |found| (source, found)))
        .map(|(source, found)| match found.get(1) {
            Some(literal) => literal.as_str().to_owned(),
            None => constant(source).unwrap_or_else(|| apart.0.clone()),
        })
        .collect();
    let help = read("crates/cli/src/freeze.rs");
    let listed: Vec<BTreeSet<String>> = help
        .lines()
        .filter_map(|line| {
            Some(line.split_once("/// A loop (")?.1.split_once(')')?.0.split(", ").map(str::to_owned).collect())
        })
        .collect();
    assert_eq!(listed, [loops.clone(), loops.clone()]);
    let page = read("docs/operate.md");
    let (_, brake) = page.split_once("\n## The brake\n").expect("the brake");
    let (brake, _) = brake.split_once("\n## ").expect("what comes after it");
    for name in loops {
        assert!(brake.contains(&format!("`{name}`")), "docs/operate.md does not say that {name} can be frozen");
    }
}

#[test]
fn codes_of_imports_are_those_that_are_judged() {
    let source = read("crates/control/src/tenant/import/judge.rs");
    let judged = |pattern: &str| -> BTreeSet<String> {
        let pattern = Regex::new(pattern).expect("a pattern");
        pattern.captures_iter(&source).map(|found| found[1].to_owned()).collect()
    };
    let told = |heading: &str| -> BTreeSet<String> {
        let rows = table("docs/import.md", heading);
        rows.iter().flat_map(|row| row[0].split(", ").map(str::to_owned)).collect()
    };
    assert_eq!(told("## What is refused"), judged(r#"refuse\(\s*"([a-z_]+)""#));
    assert_eq!(told("## What becomes of it"), judged(r#"(?:note|of)\(\s*"([a-z_]+)""#));
}

#[test]
fn findings_are_the_drivers() {
    let pattern = Regex::new(
        r#"(?:[Ff]inding(?:::new)?\(|Low,|Medium,|High,|when\()\s*"([a-z_]+)"|,\s*"([a-z_]+)",\s*(?:Low|Medium|High)"#,
    )
    .expect("a pattern");
    let found: BTreeSet<String> = ["crates/drivers/src/server/sql", "crates/drivers/src/server/managed"]
        .iter()
        .flat_map(|directory| sources(directory))
        .flat_map(|source| {
            pattern
                .captures_iter(&source)
                .filter_map(|found| found.get(1).or(found.get(2)).map(|code| code.as_str().to_owned()))
                .collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(firsts(&table("docs/secure.md", "## Findings")), found);
}

#[test]
fn metrics_are_those_that_are_counted() {
    let pattern = r#"(?:metrics::(?:counter|gauge|histogram)!|scrape\.(?:gauge|counter|known))\(\s*"([a-z_]+)""#;
    let pattern = Regex::new(pattern).expect("a pattern");
    let found: BTreeSet<String> = ["crates/control/src", "crates/durable/src", "crates/drivers/src"]
        .iter()
        .flat_map(|directory| sources(directory))
        .flat_map(|source| pattern.captures_iter(&source).map(|found| found[1].to_owned()).collect::<Vec<_>>())
        .collect();
    assert_eq!(firsts(&table("docs/operate.md", "## Metrics")), found);
}

#[test]
fn settings_page_and_schema_are_what_the_types_say() {
    for (file, verb, made) in [
        ("docs/settings.md", "reference", settings::page()),
        ("docs/settings.schema.json", "schema", settings::schema_text()),
    ] {
        assert!(
            read(file) == made,
            "{file} is not what `freehold settings {verb}` prints: freehold settings {verb} > {file}"
        );
    }
}

#[test]
fn rules_of_the_production_guard_are_those_that_are_judged() {
    let rows: Vec<String> =
        table("docs/secure.md", "## The production guard").iter().map(|row| format!("{} {}", row[0], row[2])).collect();
    let accepted = |rule: &Rule| if rule.may_be_accepted() { "yes" } else { "no" };
    let rules: Vec<String> = Rule::ALL.iter().map(|rule| format!("{} {}", rule.as_str(), accepted(rule))).collect();
    assert_eq!(rows, rules);
}

/// Whoever sets it must know what it does.
#[test]
fn settings_all_have_a_meaning() {
    let page = settings::page();
    let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| `")).collect();
    let silent: Vec<&&str> = rows.iter().filter(|row| row.ends_with("| |")).collect();
    assert!(rows.len() > 120 && silent.is_empty(), "of {} settings these say nothing: {silent:#?}", rows.len());
}

#[test]
fn keys_of_template_toml_are_those_that_are_read() {
    let rows = firsts(&table("docs/templates.md", "## template.toml"));
    let source = read("crates/api/src/template.rs");
    let of = |name: &str| fields(&source, name);
    let mut known: BTreeSet<String> = BTreeSet::new();
    for (field, kind) in of("Manifest") {
        match kind.as_str() {
            "Naming" => known.extend(of("Naming").into_keys().map(|key| format!("naming.{key}"))),
            "Vec<Extension>" => known.extend(of("Extension").into_keys().map(|key| format!("extension.{key}"))),
            "Vec<ExtraRole>" => known.extend(of("ExtraRole").into_keys().map(|key| format!("role.{key}"))),
            "Option<Migrate>" => known.extend(of("Migrate").into_keys().map(|key| format!("migrate.{key}"))),
            "PasswordRule" => known.extend(of("PasswordRule").into_keys().map(|key| format!("password.{key}"))),
            "BTreeMap<String, String>" => {
                known.insert(format!("{field}.*"));
            }
            _ => {
                known.insert(field);
            }
        }
    }
    assert_eq!(rows, known);
}

/// The public fields of a struct, with their types; none where there is no such struct.
fn fields(source: &str, name: &str) -> BTreeMap<String, String> {
    let Some((_, body)) = source.split_once(&format!("pub struct {name} {{")) else { return BTreeMap::new() };
    let body = body.split("\n}").next().unwrap_or_default();
    let pattern = Regex::new(r"(?m)^\s+pub ([a-z_]+): (.+),$").expect("a pattern");
    pattern.captures_iter(body).map(|found| (found[1].to_owned(), found[2].to_owned())).collect()
}

fn sources(directory: &str) -> Vec<String> {
    let mut sources = Vec::new();
    let mut left = vec![root().join(directory)];
    while let Some(directory) = left.pop() {
        for entry in std::fs::read_dir(&directory).expect("read a directory of sources").flatten() {
            match entry.path() {
                path if path.is_dir() => left.push(path),
                path => sources.extend(std::fs::read_to_string(path)),
            }
        }
    }
    sources
}
