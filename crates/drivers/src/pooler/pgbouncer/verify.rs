//! Whether PgBouncer serves what is wanted: everything is read back, and the check login logs in.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{Configuration, Entry, Mode, PoolerError, PoolerErrorKind};
use super::console::{Console, Row};
use super::render::check_name;
use super::settings;
use super::version::Features;
use super::{PgBouncer, PgBouncerOptions};

/// Settings that only count from the next start; or what is not as it should be.
pub(super) async fn verify(
    pooler: &PgBouncer,
    console: &Console,
    wanted: &Configuration,
    features: Features,
) -> Result<BTreeSet<String>, PoolerError> {
    let needs_restart = settings_in_force(console, &settings::of(wanted, features, &pooler.files)).await?;
    databases_in_force(console, wanted, features).await?;
    check_login(&pooler.options, wanted).await?;
    Ok(needs_restart)
}

/// The generation that it runs with.
pub(super) async fn loaded(console: &Console) -> Result<Option<u64>, PoolerError> {
    let rows = console.command("SHOW CONFIG").await?;
    let said = rows.iter().find(|row| row.text("key") == settings::GENERATION);
    Ok(said.and_then(|row| settings::generation(row.text("value"))))
}

async fn settings_in_force(console: &Console, wanted: &[(&str, String)]) -> Result<BTreeSet<String>, PoolerError> {
    let rows = console.command("SHOW CONFIG").await?;
    let found: BTreeMap<&str, &Row> = rows.iter().map(|row| (row.text("key"), row)).collect();
    let mut needs_restart = BTreeSet::new();
    let mut wrong = Vec::new();
    for (name, value) in wanted {
        let said = found.get(name).map_or("", |row| row.text("value"));
        let is_changeable = found.get(name).is_none_or(|row| row.text("changeable") != "no");
        match (is_same(value, said), is_changeable) {
            (true, _) => {}
            (false, false) => {
                needs_restart.insert((*name).to_owned());
            }
            (false, true) => wrong.push(format!("{name} is {said:?}, wanted {value:?}")),
        }
    }
    match wrong.is_empty() {
        true => Ok(needs_restart),
        false => Err(not_verified("it did not read its ini file to the end", wrong)),
    }
}

/// `120` and `120.0` are the same time.
fn is_same(wanted: &str, said: &str) -> bool {
    let number = |text: &str| text.parse::<f64>().ok();
    wanted == said || number(wanted).is_some_and(|wanted| number(said) == Some(wanted))
}

async fn databases_in_force(console: &Console, wanted: &Configuration, features: Features) -> Result<(), PoolerError> {
    let rows = console.command("SHOW DATABASES").await?;
    let mut found: BTreeMap<&str, &Row> = rows.iter().map(|row| (row.text("name"), row)).collect();
    found.remove("pgbouncer");
    let mut wrong = Vec::new();
    for entry in &wanted.entries {
        match found.remove(entry.name.as_str()) {
            None => wrong.push(format!("{} is not there", entry.name)),
            Some(row) => {
                let limits = (wanted.limits.default_mode, wanted.limits.default_database_connections);
                wrong.extend(differences(row, entry, limits, features));
            }
        }
    }
    wrong.extend(found.into_keys().map(|name| format!("{name} is there and should not be")));
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(not_verified("it serves other databases than it should", wrong)),
    }
}

/// `defaults`: mode and server connections of an entry that says neither.
pub(super) fn differences(row: &Row, entry: &Entry, defaults: (Mode, u32), features: Features) -> Vec<String> {
    let limit = |own: Option<u32>, default: u32| own.filter(|limit| *limit > 0).unwrap_or(default).to_string();
    let reserve = if row.text("reserve_pool_size").is_empty() { "reserve_pool" } else { "reserve_pool_size" };
    let mut expected = vec![
        ("host", entry.server.host.clone()),
        ("port", entry.server.port.to_string()),
        ("database", entry.database.clone()),
        ("force_user", String::new()),
        ("pool_size", entry.pool_size.to_string()),
        (reserve, entry.reserve.to_string()),
        ("pool_mode", entry.mode.unwrap_or(defaults.0).as_str().to_owned()),
        ("max_connections", limit(entry.database_connections, defaults.1)),
    ];
    if features.client_limits {
        expected.push(("max_client_connections", limit(entry.client_connections, 0)));
    }
    let wrong = expected.into_iter().filter(|(column, value)| row.text(column) != value);
    wrong
        .map(|(column, value)| format!("{}: {column} is {:?}, wanted {value:?}", entry.name, row.text(column)))
        .collect()
}

async fn check_login(options: &PgBouncerOptions, wanted: &Configuration) -> Result<(), PoolerError> {
    let Some(password) = &options.check_password else { return Ok(()) };
    let name = check_name(&wanted.console.check, wanted.generation);
    let dsn = options.console.with_user(&name, password.clone());
    let looked = async {
        let console = Console::connect(&dsn, options.command_limit).await?;
        console.release().await?;
        console.close().await;
        Ok::<_, PoolerError>(())
    };
    looked.await.map_err(|error| match error.kind {
        PoolerErrorKind::Denied => {
            not_verified("it did not read its list of users, or its access rules, to the end", vec![error.message])
        }
        _ => error,
    })
}

/// A few of the reasons: ten thousand of them help nobody.
pub(super) fn not_verified(what: &str, reasons: Vec<String>) -> PoolerError {
    const SHOWN: usize = 3;
    let more = reasons.len().saturating_sub(SHOWN);
    let mut told = reasons.into_iter().take(SHOWN).collect::<Vec<_>>().join("; ");
    if more > 0 {
        told.push_str(&format!("; and {more} more"));
    }
    PoolerError::new(
        PoolerErrorKind::NotVerified,
        format!("PgBouncer answered success, but {what}: {told}; its log has the reason"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_compared_as_numbers_and_words_as_words() {
        assert!(is_same("120", "120") && is_same("120", "120.0") && is_same("", ""));
        assert!(!is_same("120", "12") && !is_same("1", "") && !is_same("a", "A"));
    }

    #[test]
    fn a_few_reasons_are_told() {
        let reasons = (0..10).map(|n| format!("reason {n}")).collect();
        let error = not_verified("it does not", reasons);
        assert!(error.message.contains("reason 2; and 7 more") && !error.message.contains("reason 3"), "{error}");
    }
}
