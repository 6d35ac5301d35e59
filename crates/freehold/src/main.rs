//! One binary: `freehold dev`, `serve`, `worker`, `store`, and the command line.
//!
//! Absent: verbs. The plane is in `control`, the client in `cli`; this only parses, starts and stops.

mod check;
mod dev;
mod key;
mod log;
mod pooler;
mod prerequisite;
mod serve;
mod settings;
mod signals;
mod store;
mod term;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use prerequisite::Missing;

/// A PostgreSQL database for every tenant, and the fleet they live on.
#[derive(Debug, Parser)]
#[command(name = "freehold", version, propagate_version = true)]
struct Cli {
    #[command(flatten)]
    global: freehold_cli::Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run everything on this machine: PostgreSQL, control plane, API
    Dev(dev::Args),
    /// Run the control plane: API, operations and loops
    Serve(serve::Args),
    /// Run operations and loops only, beside one or more `serve`
    Worker(serve::WorkerArgs),
    /// The control store: migrate it
    #[command(subcommand)]
    Store(store::Verb),
    /// What can be known of a deployment before it is started
    #[command(subcommand)]
    Check(check::Verb),
    /// What may be set: the reference, the JSON schema
    #[command(subcommand)]
    Settings(settings::Verb),
    /// Poolers that tenants connect through
    #[command(subcommand)]
    Pooler(pooler::Verb),
    /// Print a shell's completion script
    Completions { shell: freehold_cli::Shell },
    /// Write man pages, one for each command, into a directory
    Man { directory: PathBuf },
    #[command(flatten)]
    Client(freehold_cli::Command),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    // One TLS provider for everything; only the first call counts.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            term::error(&format!("start the runtime: {error}"));
            return ExitCode::from(1);
        }
    };
    ExitCode::from(runtime.block_on(run(cli)))
}

async fn run(cli: Cli) -> u8 {
    let done = match cli.command {
        Command::Dev(args) => dev::run(args).await,
        Command::Serve(args) => serve::serve(args).await,
        Command::Worker(args) => serve::worker(args).await,
        Command::Store(verb) => store::run(verb).await,
        Command::Check(verb) => check::run(&verb, cli.global.json).await,
        Command::Settings(verb) => settings::run(verb),
        Command::Pooler(pooler::Verb::Agent(args)) => pooler::agent(*args).await,
        Command::Pooler(pooler::Verb::Client(verb)) => {
            return freehold_cli::run(freehold_cli::Command::Pooler(verb), cli.global).await;
        }
        Command::Completions { shell } => {
            freehold_cli::completions(&mut Cli::command(), shell);
            Ok(())
        }
        Command::Man { directory } => {
            let written = freehold_cli::man_pages(Cli::command(), &directory);
            written.map_err(|error| Missing::because(&format!("write man pages into {}", directory.display()), &error))
        }
        Command::Client(command) => match freehold_cli::key_for_settings(&command) {
            Some(wanted) => key::make(wanted, cli.global.json).await,
            None => return freehold_cli::run(command, cli.global).await,
        },
    };
    match done {
        Ok(()) => 0,
        Err(missing) => {
            term::error(&missing.to_string());
            missing.exit_code()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
