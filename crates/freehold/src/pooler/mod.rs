//! `freehold pooler agent`: beside one PgBouncer, on its machine.
//!
//! The plane says what is served and who is paused; the agent brings it into force, proves it, and keeps every deadline,
//! also while the plane is dead. PgBouncer outlives the agent: tenants' connections go through it, and the next agent takes
//! it over as it is. Absent: tenants' passwords, and a port of its own: nobody connects to an agent.

mod agent;
mod home;
mod link;
mod own;
mod report;

use std::path::PathBuf;
use std::sync::Arc;

use clap::Subcommand;
use freehold_api::PoolerId;
use freehold_control::pooler::mind::{Mind, Wanted, clock};
use freehold_drivers::pooler::pgbouncer::{
    PgBouncer, PgBouncerOptions, Program, Supervised, SupervisedOptions, find_program,
};
use freehold_drivers::pooler::{Limits, Pooler, PoolerErrorKind, Served};

use self::agent::{Agent, Trouble};
use self::home::Home;
use self::link::Link;
use self::own::{Own, Tls, ToServers};
use crate::prerequisite::Missing;
use crate::{log, signals};

pub use self::home::agent_in;

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Run a PgBouncer on this machine, and keep it as the plane wants it
    Agent(Box<Args>),
    #[command(flatten)]
    Client(freehold_cli::PoolerVerb),
}

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The control plane's address
    #[arg(long, env = "FREEHOLD_POOLER_PLANE", value_name = "URL")]
    plane: String,
    /// The pooler's id, as the plane knows it
    #[arg(long, env = "FREEHOLD_POOLER_ID", value_name = "ID")]
    pooler: PoolerId,
    /// File that holds an API key of scope `pooler`; it is read again when the plane refuses it
    #[arg(long, env = "FREEHOLD_POOLER_KEY_FILE", value_name = "FILE")]
    key_file: PathBuf,
    /// What it keeps, and PgBouncer's files; short, because a socket is in it
    #[arg(long, env = "FREEHOLD_POOLER_DIRECTORY", value_name = "DIR")]
    directory: PathBuf,
    /// Where tenants connect; once for each address, with one port. `*:PORT` is everywhere
    #[arg(long, env = "FREEHOLD_POOLER_LISTEN", value_name = "ADDRESS:PORT", required = true, value_delimiter = ',')]
    listen: Vec<String>,
    /// The pgbouncer to run [default: PATH, else /usr/sbin]
    #[arg(long, env = "FREEHOLD_POOLER_PGBOUNCER", value_name = "PROGRAM")]
    pgbouncer: Option<PathBuf>,
    /// The user PgBouncer runs as, when this is root [default: postgres, else nobody]
    #[arg(long, env = "FREEHOLD_POOLER_RUN_AS", value_name = "USER")]
    run_as: Option<String>,
    /// TLS towards clients [default: required with a certificate; without one off, on loopback alone]
    #[arg(long, env = "FREEHOLD_POOLER_TLS", value_name = "HOW")]
    tls: Option<Tls>,
    /// PEM file with the certificate that clients are shown; PgBouncer's user reads it at every reload
    #[arg(long, env = "FREEHOLD_POOLER_TLS_CERTIFICATE", value_name = "FILE")]
    tls_certificate: Option<PathBuf>,
    /// PEM file with its key
    #[arg(long, env = "FREEHOLD_POOLER_TLS_KEY", value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// TLS towards servers, all of them [default: verified with --server-ca, else off]
    #[arg(long, env = "FREEHOLD_POOLER_SERVER_TLS", value_name = "HOW")]
    server_tls: Option<ToServers>,
    /// PEM file with the authority that vouches for the servers
    #[arg(long, env = "FREEHOLD_POOLER_SERVER_CA", value_name = "FILE")]
    server_ca: Option<PathBuf>,
    /// End PgBouncer when this is told to stop [default: it runs on, and the next agent takes it over]
    #[arg(long)]
    stop_with_me: bool,
}

pub async fn agent(args: Args) -> Result<(), Missing> {
    log::start();
    let listen = own::listen(&args.listen)?;
    let client_tls = own::client_tls(args.tls, args.tls_certificate.as_deref(), args.tls_key.as_deref(), &listen)?;
    let server_tls = own::server_tls(args.server_tls, args.server_ca.as_deref())?;
    let key_file = std::path::absolute(&args.key_file)?;
    let link = Arc::new(Link::new(args.plane, args.pooler, key_file)?);
    let program = find_program(args.pgbouncer.as_deref())?;
    let stop = signals::stop_on_signals()?;

    let home = Home::open(&args.directory)?;
    // Where it can be found, by whoever has to end what was left behind.
    std::env::set_current_dir(home.path())?;
    let keys = home.keys()?;
    let mut options = SupervisedOptions::new(program.clone(), home.run(), listen.clone());
    options.run_as = args.run_as;
    Supervised::prepare(&options)?;
    let mut console = PgBouncerOptions::local(home.run(), listen.port, Home::admin(), keys.admin.clone());
    console.check_password = Some(keys.check.clone());
    console.release = Some(program.release);
    let driver = Arc::new(PgBouncer::new(console));
    let own = Own { listen, console: keys.console, client_tls, server_tls, release: program.release };

    let kept = home.assignment().map(Arc::new);
    write_files(&driver, &program, &own, kept.as_deref()).await?;
    let supervised = Supervised::start(options).await?;
    let mind = look_around(&home, &driver, kept.clone()).await;
    tracing::info!(
        pid = supervised.pid(),
        version = %program.release,
        generation = mind.wanted.as_ref().map(|wanted| wanted.generation),
        "PgBouncer runs"
    );
    let agent = Agent { home, own, program, driver, supervised, mind, kept, link, trouble: Trouble::default() };
    let supervised = agent.run(stop).await;
    match args.stop_with_me {
        true => supervised.stop().await,
        false => supervised.detach().await,
    }
    Ok(())
}

/// What it is to start with: the last that was wanted, whether the plane can be reached or not. One that runs is left as
/// it is.
async fn write_files(driver: &PgBouncer, program: &Program, own: &Own, kept: Option<&Wanted>) -> Result<(), Missing> {
    if driver.version().await.is_ok() {
        return Ok(());
    }
    let nobody = Wanted { generation: 0, served: Served { limits: Limits::default(), entries: Vec::new() } };
    match driver.write(&own.configuration(kept.unwrap_or(&nobody)), program.release).await {
        // They are newer than what was kept, so they are the better ones.
        Err(error) if error.kind == PoolerErrorKind::Outdated => Ok(()),
        Err(error) if driver.files().ini().exists() => {
            tracing::warn!(%error, "PgBouncer is started with the files that are there");
            Ok(())
        }
        written => Ok(written?),
    }
}

/// What is in force already, and which pauses. Those of nobody are ended.
async fn look_around(home: &Home, driver: &PgBouncer, kept: Option<Arc<Wanted>>) -> Mind {
    let pauses = home.pauses(clock::now());
    let mut running = None;
    match driver.observe().await {
        Ok(observed) => {
            running = kept.clone().filter(|kept| observed.loaded == Some(kept.generation));
            let of_nobody =
                observed.paused.iter().filter(|name| !pauses.all().iter().any(|pause| pause.database == **name));
            for database in of_nobody {
                tracing::warn!(database, "it was paused, and nobody knows why; it is resumed");
                if let Err(error) = driver.resume(database).await {
                    tracing::warn!(database, %error, "not resumed");
                }
            }
        }
        Err(error) => tracing::warn!(%error, "PgBouncer's console does not answer yet"),
    }
    Mind::new(kept, running, pauses)
}
