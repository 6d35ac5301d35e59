//! The tables of the documentation hold what the code holds: no row more, no row less.

use std::collections::{BTreeMap, BTreeSet};

use freehold_api::audit::AuditFindingKind;
use freehold_api::movability::MoveCode;
use freehold_api::plan::Plan;
use freehold_api::problem::Code;
use freehold_control::settings::{
    DockerPlatform, NomadPlatform, PoolerPlatform, ProcessPlatform, ServerPool, Settings,
};
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

/// Setting → default, where there is one that can be written down.
#[test]
fn settings_are_those_that_are_read_with_their_defaults() {
    let rows = table("docs/operate.md", "## Settings");
    assert_eq!(
        firsts(&rows),
        declared(),
        "the settings that docs/operate.md lists, and those of crates/control/src/settings"
    );
    let head = "[store]\nurl = \"postgres://x\"\n[secrets]\nkey_file = \"k\"\n";
    let settings: Settings = toml::from_str(head).expect("two settings are enough");
    let pool = "name = \"p\"\nplatform = \"process\"\npostgres = 18";
    let pool: ServerPool = toml::from_str(pool).expect("a pool needs three");
    let process: ProcessPlatform = toml::from_str("data_dir = \"/d\"").expect("a directory is enough");
    let (docker, nomad) = (DockerPlatform::default(), NomadPlatform::default());
    let poolers: PoolerPlatform = toml::from_str("kind = \"process\"").expect("a kind is enough");
    let plan: Plan = toml::from_str("name = \"p\"").expect("a plan needs a name");
    let defaults = BTreeMap::from([
        ("listen", settings.listen.to_string()),
        ("store.connections", settings.store.connections.to_string()),
        ("stock.per_template", settings.stock.per_template.to_string()),
        ("stock.concurrency", settings.stock.concurrency.to_string()),
        ("tenants.default_template", settings.tenants.default_template.to_string()),
        ("tenants.deletion_grace_seconds", settings.tenants.deletion_grace_seconds.to_string()),
        ("tenants.move_grace_seconds", settings.tenants.move_grace_seconds.to_string()),
        ("tenants.create_deadline_seconds", settings.tenants.create_deadline_seconds.to_string()),
        ("templates.allow_commands", settings.templates.allow_commands.to_string()),
        ("operations.lease_seconds", settings.operations.lease_seconds.to_string()),
        ("operations.keep_days", settings.operations.keep_days.to_string()),
        ("http.timeout_seconds", settings.http.timeout_seconds.to_string()),
        ("http.body_limit", settings.http.body_limit.to_string()),
        ("health.period_seconds", settings.health.period_seconds.to_string()),
        ("health.timeout_seconds", settings.health.timeout_seconds.to_string()),
        ("stats.period_seconds", settings.stats.period_seconds.to_string()),
        ("stats.size_period_seconds", settings.stats.size_period_seconds.to_string()),
        ("audit.checkpoint_seconds", settings.audit.checkpoint_seconds.to_string()),
        ("audit.checkpoint_records", settings.audit.checkpoint_records.to_string()),
        ("plan.on_storage_quota", plan.on_storage_quota.as_str().to_owned()),
        ("server_pool.kind", pool.kind.as_str().to_owned()),
        ("server_pool.maximum_servers", pool.maximum_servers.to_string()),
        ("server_pool.priority", pool.priority.to_string()),
        ("server_pool.storage_mode", pool.storage_mode.clone()),
        ("server_pool.tls", pool.tls.to_string()),
        ("server_pool.provision_deadline_seconds", pool.provision_deadline_seconds.to_string()),
        ("servers.remove_failed_after_seconds", settings.servers.remove_failed_after_seconds.to_string()),
        ("placement.minimum_free_percent", settings.placement.minimum_free_percent.to_string()),
        ("placement.maximum_connections_percent", settings.placement.maximum_connections_percent.to_string()),
        ("platform.process.address", process.address.clone()),
        ("platform.process.ports", process.ports.to_string()),
        ("platform.docker.host", docker.host.clone()),
        ("platform.docker.ports", docker.ports.to_string()),
        ("platform.docker.instance", docker.instance.clone()),
        ("platform.docker.bind_address", docker.bind_address.clone()),
        ("platform.docker.log_driver", docker.log_driver.clone()),
        ("platform.docker.health_interval_seconds", docker.health_interval_seconds.to_string()),
        ("platform.docker.prepare_deadline_seconds", docker.prepare_deadline_seconds.to_string()),
        ("platform.nomad.url", nomad.url.clone()),
        ("platform.nomad.ports", nomad.ports.to_string()),
        ("platform.nomad.namespace", nomad.namespace.clone()),
        ("platform.nomad.instance", nomad.instance.clone()),
        ("platform.nomad.mhz_per_core", nomad.mhz_per_core.to_string()),
        ("platform.nomad.prepare_deadline_seconds", nomad.prepare_deadline_seconds.to_string()),
        ("plan.rank", plan.rank.to_string()),
        ("plan.server", plan.server.as_str().to_owned()),
        ("plan.connection_limit", plan.connection_limit.to_string()),
        ("plan.pool_size", plan.pool_size.to_string()),
        ("plan.pool_reserve", plan.pool_reserve.to_string()),
        ("compat.pgcat", settings.compat.pgcat.to_string()),
        ("pooler.capacity", settings.pooler.capacity.to_string()),
        ("pooler.client_connections", settings.pooler.client_connections.to_string()),
        ("pooler.client_wait_seconds", settings.pooler.client_wait_seconds.to_string()),
        ("pooler.server_idle_seconds", settings.pooler.server_idle_seconds.to_string()),
        ("pooler.platform.maximum_poolers", poolers.maximum_poolers.to_string()),
        ("pooler.platform.name", poolers.name.clone()),
        ("pooler.platform.address", poolers.address.clone()),
        ("pooler.platform.ports", poolers.ports.to_string()),
        ("plan.statement_timeout_ms", plan.statement_timeout_ms.to_string()),
        ("plan.idle_in_transaction_timeout_ms", plan.idle_in_transaction_timeout_ms.to_string()),
        ("plan.stock", plan.stock.to_string()),
        ("plan.default", plan.default.to_string()),
    ]);
    for (setting, default) in defaults {
        let row = rows.iter().find(|row| row[0] == setting).unwrap_or_else(|| panic!("{setting} is not listed"));
        assert_eq!(row[2], default, "the default of {setting}");
    }
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

/// Every key that the settings file may have, from the types that read it.
fn declared() -> BTreeSet<String> {
    let mut source = read("crates/control/src/settings.rs");
    source.push_str(&sources("crates/control/src/settings").concat());
    source.push_str(&read("crates/api/src/plan.rs"));
    keys(&source, "Settings", "")
}

/// Of a struct and of those in it.
fn keys(source: &str, name: &str, prefix: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (field, kind) in fields(source, name) {
        // Repeated ones are called in the singular.
        let (key, inner) = match kind.strip_prefix("Vec<").and_then(|kind| kind.strip_suffix('>')) {
            Some(inner) if !fields(source, inner).is_empty() => (field.trim_end_matches('s').to_owned(), inner),
            _ => {
                let inner = kind.strip_prefix("Option<").and_then(|kind| kind.strip_suffix('>'));
                (field.clone(), inner.unwrap_or(&kind))
            }
        };
        let key = format!("{prefix}{key}");
        match (fields(source, inner).is_empty() || ["Size", "Ports"].contains(&inner), inner.starts_with("BTreeMap")) {
            (true, true) => found.insert(format!("{key}.*")),
            (true, false) => found.insert(key),
            (false, _) => {
                found.extend(keys(source, inner, &format!("{key}.")));
                true
            }
        };
    }
    found
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
