//! `freehold check …`: what can be known of a deployment before it is started.

use std::path::PathBuf;

use clap::Subcommand;
use freehold_control::settings::{Effective, Sources};
use freehold_control::{guard, start};

use crate::prerequisite::Missing;
use crate::term;

/// Longer values have their source on the same line all the same, only further right.
const VALUE_WIDTH: usize = 40;

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Every setting as it is in force, and who said so; secrets as •••
    Settings(Args),
    /// Whether it would start in production, and all that is against it
    Production(Args),
}

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Settings file (TOML); the environment (FREEHOLD__STORE__URL, …) goes above it
    #[arg(long, env = "FREEHOLD_SETTINGS", value_name = "FILE")]
    settings: Option<PathBuf>,
}

pub async fn run(verb: &Verb, json: bool) -> Result<(), Missing> {
    match verb {
        Verb::Settings(args) => settings(args, json),
        Verb::Production(args) => production(args, json).await,
    }
}

/// The same look and the same judgement as at the start of `serve`, also where the environment is another.
async fn production(args: &Args, json: bool) -> Result<(), Missing> {
    let settings = Sources::of(args.settings.as_deref()).load()?.settings;
    let store = start::store(&settings).await;
    let reasons = guard::judge(&settings, &guard::look(&settings, store.as_ref()).await);
    let (accepted, refused) = guard::apart(&settings, reasons);
    if json {
        let answer = serde_json::json!({ "refused": refused, "accepted": accepted });
        term::line(&serde_json::to_string_pretty(&answer)?);
    } else {
        for (word, reasons) in [("refused", &refused), ("accepted", &accepted)] {
            for reason in reasons {
                term::line(&format!("{word}  {reason}"));
            }
        }
    }
    match refused.len() {
        0 if json => Ok(()),
        0 => {
            term::line("nothing is against production");
            Ok(())
        }
        1 => Err(Missing::new("one thing is against production")),
        several => Err(Missing::new(format!("{several} things are against production"))),
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
