//! The command line: nouns, then verbs, over the HTTP API.
//!
//! One file per noun. A verb asks (`freehold-client`, set up in `client.rs`), perhaps waits (`follow.rs`), and tells (`output.rs`, the only place that
//! writes). What went wrong is a `Failure`, which knows its exit code and the next command to type.
//! Absent: server code of any kind, SQL, and settings of the control plane.

mod audit;
mod client;
mod completions;
mod connection;
mod context;
mod credentials;
mod failure;
mod follow;
mod freeze;
mod given;
mod key;
mod operation;
mod output;
mod placement;
mod plan;
mod pooler;
mod server;
mod server_pool;
mod stats;
mod status;
mod surroundings;
mod template;
mod tenant;
mod top;
mod value;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use client::Client;
use failure::{Failure, Outcome};
use follow::Hint;
use output::Printer;

pub use completions::{Shell, completions, man_pages};
pub use context::{default_context_path, write_context};
pub use pooler::Verb as PoolerVerb;
pub use surroundings::Surroundings;

// What every client command understands, wherever it stands on the line. No doc comment: clap would make it the
// description of the program that flattens this.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Connection")]
pub struct Global {
    /// The control plane's address [env: FREEHOLD_URL] [default: the context's]
    #[arg(long, global = true, value_name = "URL")]
    pub url: Option<String>,
    /// File that holds the API key [env: FREEHOLD_API_KEY holds the key itself]
    #[arg(long, global = true, value_name = "FILE")]
    pub api_key_file: Option<PathBuf>,
    /// Context file with `url` and `api_key` [env: FREEHOLD_CONTEXT]
    #[arg(long, global = true, value_name = "FILE")]
    pub context: Option<PathBuf>,
    /// Seconds to try again while the control plane is unreachable or busy
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 30)]
    pub retry_for: u64,
    /// Print the API's JSON; errors are problem JSON on stderr
    #[arg(long, global = true)]
    pub json: bool,
}

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Tenants: create, show, connect, suspend, delete
    #[command(subcommand)]
    Tenant(tenant::Verb),
    /// Credentials of tenants: rotate, retire
    #[command(subcommand)]
    Credentials(credentials::Verb),
    /// PostgreSQL servers that tenants live on
    #[command(subcommand)]
    Server(server::Verb),
    /// Not parsed here: the program adds `pooler agent` to these verbs, which is no client's.
    #[command(skip)]
    Pooler(PoolerVerb),
    /// Servers that Freehold makes by itself (declared in the settings)
    #[command(subcommand)]
    ServerPool(server_pool::Verb),
    /// Where tenants go, and why
    #[command(subcommand)]
    Placement(placement::Verb),
    /// Plans: what a tenant may use (declared in the settings)
    #[command(subcommand)]
    Plan(plan::Verb),
    /// Templates: what a new database contains
    #[command(subcommand)]
    Template(template::Verb),
    /// Operations: watch, cancel, retry or resolve work in flight
    #[command(subcommand)]
    Operation(operation::Verb),
    /// API keys
    #[command(subcommand)]
    Key(key::Verb),
    /// The record of every change and every read of a credential
    #[command(subcommand)]
    Audit(audit::Verb),
    /// What needs a person now, worst first, each with the next command
    Status,
    /// How much there is and how much goes on, in all and on each server
    Stats,
    /// Servers, worst first, and the largest tenants, again and again
    Top(top::Top),
    /// Stop loops and operations; without a target, show what is stopped
    Freeze(freeze::Freeze),
    /// Let frozen loops and operations run again
    Thaw(freeze::Thaw),
}

/// A key that is to be made on the server's side, without the API: the settings to write by, and the key. `None`: it goes
/// through the API like everything else. The error is its text.
pub fn key_for_settings(command: &Command) -> Option<Result<(PathBuf, freehold_api::key::CreateKey), String>> {
    let Command::Key(key::Verb::Create(create)) = command else { return None };
    let wanted = create.server_side(Surroundings::of_this_process().now)?;
    Some(wanted.map_err(|failure| failure.to_string()))
}

/// What a verb works with.
pub(crate) struct Cx {
    pub global: Global,
    pub around: Surroundings,
    pub out: Arc<Printer>,
    /// What to print when the person stops waiting.
    pub hint: Hint,
    client: Option<Client>,
}

impl Cx {
    /// Connects late: `template check` and `template new` work without a control plane.
    pub fn client(&mut self) -> Result<Client, Failure> {
        if let Some(client) = &self.client {
            return Ok(client.clone());
        }
        let context = context::find(&self.global, &self.around)?;
        let retry_for = Duration::from_secs(self.global.retry_for);
        let client = client::connect(&context, retry_for, self.out.clone())?;
        self.client = Some(client.clone());
        Ok(client)
    }
}

/// Runs one command in this process's surroundings; the answer is the exit code.
pub async fn run(command: Command, global: Global) -> u8 {
    run_in(command, global, Surroundings::of_this_process()).await
}

/// The same, in given surroundings: tests bring their own.
pub async fn run_in(command: Command, global: Global, mut around: Surroundings) -> u8 {
    let out = Arc::new(Printer::new(&mut around, global.json));
    let hint = Hint::default();
    let mut cx = Cx { global, around, out: out.clone(), hint: hint.clone(), client: None };
    let outcome = tokio::select! {
        outcome = dispatch(command, &mut cx) => outcome,
        _ = tokio::signal::ctrl_c() => Err(Failure::Interrupted { next: hint.take() }),
    };
    match outcome {
        Ok(()) => 0,
        Err(failure) => {
            out.failure(&failure);
            failure.exit_code()
        }
    }
}

async fn dispatch(command: Command, cx: &mut Cx) -> Outcome {
    match command {
        Command::Tenant(verb) => tenant::run(verb, cx).await,
        Command::Credentials(verb) => credentials::run(verb, cx).await,
        Command::Server(verb) => server::run(verb, cx).await,
        Command::Pooler(verb) => pooler::run(verb, cx).await,
        Command::ServerPool(verb) => server_pool::run(verb, cx).await,
        Command::Placement(verb) => placement::run(verb, cx).await,
        Command::Plan(verb) => plan::run(verb, cx).await,
        Command::Template(verb) => template::run(verb, cx).await,
        Command::Operation(verb) => operation::run(verb, cx).await,
        Command::Key(verb) => key::run(verb, cx).await,
        Command::Audit(verb) => audit::run(verb, cx).await,
        Command::Status => status::run(cx).await,
        Command::Stats => stats::run(cx).await,
        Command::Top(args) => top::run(args, cx).await,
        Command::Freeze(args) => freeze::freeze(args, cx).await,
        Command::Thaw(args) => freeze::thaw(args, cx).await,
    }
}
