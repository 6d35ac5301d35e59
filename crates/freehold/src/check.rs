//! `freehold check …`: what can be known of a deployment before it is started.

use std::path::PathBuf;

use clap::Subcommand;
use freehold_control::settings::{Effective, Sources};

use crate::prerequisite::Missing;
use crate::term;

/// Longer values have their source on the same line all the same, only further right.
const VALUE_WIDTH: usize = 40;

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Every setting as it is in force, and who said so; secrets as •••
    Settings(Args),
}

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Settings file (TOML); the environment (FREEHOLD__STORE__URL, …) goes above it
    #[arg(long, env = "FREEHOLD_SETTINGS", value_name = "FILE")]
    settings: Option<PathBuf>,
}

pub fn run(verb: &Verb, json: bool) -> Result<(), Missing> {
    match verb {
        Verb::Settings(args) => settings(args, json),
    }
}

fn settings(args: &Args, json: bool) -> Result<(), Missing> {
    let loaded = Sources::of(args.settings.as_deref()).load()?;
    let effective = loaded.effective();
    if json {
        let answer = serde_json::json!({ "settings": effective, "names": loaded.translated });
        term::line(&serde_json::to_string_pretty(&answer)?);
        return Ok(());
    }
    for line in table(&effective) {
        term::line(&line);
    }
    if !loaded.translated.is_empty() {
        term::line("\nNames of other platforms:");
    }
    for translated in &loaded.translated {
        term::line(&format!("  {translated} ({})", translated.source));
    }
    Ok(())
}

fn table(effective: &[Effective]) -> Vec<String> {
    let value = |row: &Effective| row.value.clone().unwrap_or_else(|| "-".into());
    let width = |text: &str| text.chars().count();
    let first = effective.iter().map(|row| width(&row.setting)).max().unwrap_or_default();
    let second = effective.iter().map(|row| width(&value(row)).min(VALUE_WIDTH)).max().unwrap_or_default();
    let line = |setting: &str, value: &str, source: &str| format!("{setting:first$}  {value:second$}  {source}");
    let rows = effective.iter().map(|row| line(&row.setting, &value(row), &row.source));
    std::iter::once(line("SETTING", "VALUE", "SOURCE")).chain(rows).collect()
}
