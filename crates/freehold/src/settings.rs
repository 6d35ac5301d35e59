//! `freehold settings …`: what may be set, for people and for editors. `docs/settings.md` and `docs/settings.schema.json` are
//! what it prints. Here settings are also loaded, for whatever runs.

use clap::Subcommand;
use freehold_control::settings::{self, Became, Settings, Sources};

use crate::prerequisite::Missing;
use crate::term;

#[derive(Debug, Clone, Copy, Subcommand)]
pub enum Verb {
    /// Every setting with its default, as a page of Markdown
    Reference,
    /// The JSON schema of a settings file
    Schema,
}

/// What other platforms' names became is said each time: whoever looks for a setting that does nothing finds it there.
pub fn load(sources: Sources) -> Result<Settings, Missing> {
    let loaded = sources.load()?;
    for translated in &loaded.translated {
        match translated.became {
            Became::Setting { .. } => tracing::info!("{translated}"),
            Became::Overridden { .. } | Became::Nobody { .. } => tracing::warn!("{translated}"),
        }
    }
    Ok(loaded.settings)
}

pub fn run(verb: Verb) -> Result<(), Missing> {
    let text = match verb {
        Verb::Reference => settings::page(),
        Verb::Schema => settings::schema_text(),
    };
    term::line(text.trim_end());
    Ok(())
}
