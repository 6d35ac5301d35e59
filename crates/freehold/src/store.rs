//! `freehold store …`: what is done to the control store from the server's side.

use std::path::PathBuf;

use clap::Subcommand;
use freehold_control::settings::Sources;
use freehold_control::start;

use crate::prerequisite::Missing;
use crate::{log, settings, term};

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Bring the control store's schema to this version of Freehold
    Migrate(Args),
}

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Settings file (TOML); the environment (FREEHOLD__STORE__URL, …) goes above it
    #[arg(long, env = "FREEHOLD_SETTINGS", value_name = "FILE")]
    pub settings: Option<PathBuf>,
}

pub async fn run(verb: Verb) -> Result<(), Missing> {
    log::start();
    match verb {
        Verb::Migrate(args) => {
            let settings = settings::load(Sources::of(args.settings.as_deref()))?;
            let store = start::store(&settings).await?;
            start::migrate(&store).await?;
            term::line("the control store is up to date");
            Ok(())
        }
    }
}
