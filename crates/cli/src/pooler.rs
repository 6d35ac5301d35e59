//! `freehold pooler …`: what tenants connect through. What runs one is `freehold pooler agent`, beside it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use freehold_api::pooler::{AddExternal, AddPooler, Pooler, PoolerCheck, PoolerKind, PoolerPlatform};
use freehold_api::{Page, PoolerId};
use serde_json::{Value, json};

use crate::Cx;
use crate::client::{Request, parse};
use crate::failure::{Failure, Outcome};
use crate::follow::{self, Settled, WaitArgs};
use crate::given;
use crate::output::Rows;
use crate::value::{Secret, wire_name};

#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// Register a pooler by the address that tenants connect to; without one Freehold starts it
    Add(Box<Add>),
    /// List poolers
    List,
    /// Show one pooler
    Show {
        /// The pooler
        name: PoolerId,
    },
    /// What is wrong with a pooler; exit 10, 11 or 12 by the worst finding
    Check {
        /// The pooler
        name: PoolerId,
    },
    /// Give it no more databases
    Cordon {
        /// The pooler
        name: PoolerId,
    },
    /// Give it databases again
    Uncordon {
        /// The pooler
        name: PoolerId,
    },
    /// Have everything written, reloaded and verified again
    Reconcile {
        /// The pooler
        name: PoolerId,
    },
    /// Remove a pooler that has no databases; one that Freehold started is ended
    Remove {
        /// The pooler
        name: PoolerId,
        #[command(flatten)]
        wait: WaitArgs,
    },
}

#[derive(Debug, clap::Args)]
pub struct Add {
    /// What to call it
    name: PoolerId,
    /// Where tenants connect; it never changes, so a DNS name is best
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "platform")]
    address: Option<String>,
    /// Start it there, as the setting pooler.platform says: process or docker [default, without an address: the setting's]
    #[arg(long, value_parser = wire_name::<PoolerPlatform>)]
    platform: Option<PoolerPlatform>,
    /// pgbouncer or pgcat [default: pgbouncer]
    #[arg(long, value_parser = wire_name::<PoolerKind>)]
    kind: Option<PoolerKind>,
    /// As libpq spells it [default: verify-full]
    #[arg(long)]
    sslmode: Option<String>,
    /// PEM of the certificate authority to verify it with
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Databases that fit, stock included [default: the setting pooler.capacity]
    #[arg(long)]
    capacity: Option<u32>,
    /// One that you run yourself: the plane writes into its files and speaks to its console
    #[arg(long, requires = "file", requires = "console")]
    external: bool,
    /// Its pgbouncer.ini or pgcat.toml, as the plane reaches it
    #[arg(long, value_name = "PATH", requires = "external")]
    file: Option<PathBuf>,
    /// What PgBouncer has as its auth_file [default: userlist.txt beside it]
    #[arg(long, value_name = "PATH", requires = "external")]
    users_file: Option<PathBuf>,
    #[command(flatten)]
    console: Console,
    #[command(flatten)]
    wait: WaitArgs,
}

/// The administrator of an external one.
#[derive(Debug, clap::Args)]
#[group(id = "console", multiple = false, requires = "external")]
struct Console {
    /// postgres://admin:password@host:port/pgbouncer, of its console, or - for stdin
    #[arg(long, value_name = "DSN")]
    admin: Option<Secret>,
    /// File that holds it
    #[arg(long, value_name = "FILE")]
    admin_file: Option<PathBuf>,
    /// Environment variable that holds it
    #[arg(long, value_name = "VARIABLE")]
    admin_env: Option<String>,
}

pub async fn run(verb: Verb, cx: &mut Cx) -> Outcome {
    match verb {
        Verb::Add(args) => add(*args, cx).await,
        Verb::List => list(cx).await,
        Verb::Show { name } => show(name, cx).await,
        Verb::Check { name } => check(name, cx).await,
        Verb::Cordon { name } => post(name, "cordon", cx).await,
        Verb::Uncordon { name } => post(name, "uncordon", cx).await,
        Verb::Reconcile { name } => post(name, "reconcile", cx).await,
        Verb::Remove { name, wait } => remove(name, &wait, cx).await,
    }
}

async fn add(args: Add, cx: &mut Cx) -> Outcome {
    let external = match args.file {
        None => None,
        Some(file) => {
            let Console { admin, admin_file, admin_env } = args.console;
            let nothing = "give --admin, --admin-file or --admin-env";
            let Secret(admin) = given::secret(admin, admin_file, admin_env, nothing, cx).await?;
            let path = |path: PathBuf| path.to_string_lossy().into_owned();
            Some(AddExternal { file: path(file), users_file: args.users_file.map(path), admin })
        }
    };
    let name = args.name.clone();
    let body = AddPooler {
        id: args.name,
        kind: args.kind,
        address: args.address,
        platform: args.platform,
        sslmode: args.sslmode,
        ca_certificate: args.ca_file.as_deref().map(given::text).transpose()?,
        capacity: args.capacity,
        external,
    };
    let request = Request::post(&["poolers"]).body(&body)?;
    match follow::settle(cx, request, &args.wait, &format!("freehold pooler show {name}")).await? {
        Settled::Begun(operation) => follow::tell_begun(cx, &operation),
        Settled::With(body) => tell(cx, &body),
        Settled::Done => show(name, cx).await,
    }
}

async fn list(cx: &mut Cx) -> Outcome {
    let body = cx.client()?.list(Request::get(&["poolers"]), None).await?;
    if cx.out.wants_json() {
        return cx.out.json(&body);
    }
    let page: Page<Pooler> = parse(&body)?;
    let rows = page.items.into_iter().map(|pooler| {
        vec![
            pooler.id.to_string(),
            pooler.kind.as_str().to_owned(),
            pooler.state.as_str().to_owned(),
            pooler.health.as_str().to_owned(),
            format!("{}/{}", pooler.tenants, pooler.capacity),
            pooler.stock.to_string(),
            in_force(&pooler),
            pooler.reloads.to_string(),
            address(&pooler),
        ]
    });
    cx.out.table(Rows {
        header: &["NAME", "KIND", "STATE", "HEALTH", "TENANTS", "STOCK", "GENERATION", "RELOADS", "ADDRESS"],
        rows: rows.collect(),
        empty: "no poolers; `freehold pooler add NAME --address HOST:PORT` registers one",
    });
    Ok(())
}

async fn show(name: PoolerId, cx: &mut Cx) -> Outcome {
    let body = cx.client()?.send(Request::get(&["poolers", name.as_str()])).await?.body;
    tell(cx, &body)
}

async fn check(name: PoolerId, cx: &mut Cx) -> Outcome {
    let body = cx.client()?.send(Request::get(&["poolers", name.as_str(), "check"])).await?.body;
    let checked: PoolerCheck = parse(&body)?;
    if cx.out.wants_json() {
        cx.out.json(&body)?;
    } else {
        tell(cx, &body["pooler"])?;
    }
    let mut findings = checked.findings;
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    if !cx.out.wants_json() {
        for finding in &findings {
            cx.out.finding(finding.severity, &format!("{}: {}", finding.code, finding.message));
        }
    }
    match findings.first() {
        Some(worst) => Err(Failure::Findings(worst.severity)),
        None => Ok(()),
    }
}

async fn post(name: PoolerId, verb: &str, cx: &mut Cx) -> Outcome {
    let request = Request::post(&["poolers", name.as_str(), verb]).body(&json!({}))?;
    let body = cx.client()?.send(request).await?.body;
    tell(cx, &body)
}

async fn remove(name: PoolerId, wait: &WaitArgs, cx: &mut Cx) -> Outcome {
    let known: Pooler = parse(&cx.client()?.send(Request::get(&["poolers", name.as_str()])).await?.body)?;
    let request = Request::delete(&["poolers", name.as_str()]);
    if let Settled::Begun(operation) =
        follow::settle(cx, request, wait, &format!("freehold pooler show {name}")).await?
    {
        return follow::tell_begun(cx, &operation);
    }
    if cx.out.wants_json() {
        return cx.out.json(&json!({"id": name, "removed": true}));
    }
    match (known.platform, &known.external) {
        (Some(_), _) => cx.out.line(&format!("pooler {name} is ended and removed")),
        (None, Some(_)) => cx.out.line(&format!("pooler {name} is removed; stop what runs it")),
        (None, None) => cx.out.line(&format!("pooler {name} is removed; stop its agent")),
    }
    Ok(())
}

fn tell(cx: &Cx, body: &Value) -> Outcome {
    if cx.out.wants_json() {
        return cx.out.json(body);
    }
    let pooler: Pooler = parse(body)?;
    let health = match &pooler.message {
        Some(message) => format!("{}: {message}", pooler.health.as_str()),
        None => pooler.health.as_str().to_owned(),
    };
    cx.out.fields(&[
        ("pooler", Some(pooler.id.to_string())),
        ("kind", Some(pooler.kind.as_str().to_owned())),
        ("runs on", pooler.platform.map(|platform| platform.as_str().to_owned())),
        ("state", Some(pooler.state.as_str().to_owned())),
        ("health", Some(health)),
        ("heard of", pooler.observed_at.map(|at| cx.out.time(at))),
        ("tenants at", Some(format!("{} sslmode={}", address(&pooler), pooler.sslmode))),
        ("holds", Some(format!("{} tenants and {} stock of {}", pooler.tenants, pooler.stock, pooler.capacity))),
        ("servers", Some(format!("{} connections open of {} granted", pooler.open, pooler.granted))),
        ("in force", Some(in_force(&pooler))),
        ("reloads", Some(pooler.reloads.to_string())),
        ("deaths", Some(pooler.deaths).filter(|count| *count > 0).map(|count| count.to_string())),
        ("repaired", Some(pooler.repaired).filter(|count| *count > 0).map(|count| format!("{count} files"))),
        ("version", pooler.version.clone()),
        ("file", pooler.external.as_ref().map(|external| external.file.clone())),
        ("users in", pooler.external.as_ref().and_then(|external| external.users_file.clone())),
        ("console", pooler.external.as_ref().map(|external| external.admin.clone())),
        ("withheld", pooler.external.as_ref().and_then(|external| withheld(&external.withheld))),
        ("created", Some(cx.out.time(pooler.created_at))),
    ]);
    Ok(())
}

fn withheld(entries: &BTreeMap<String, String>) -> Option<String> {
    let told: Vec<String> = entries.iter().map(|(entry, why)| format!("{entry}: {why}")).collect();
    Some(told.join("; ")).filter(|told| !told.is_empty())
}

/// The generation that is in force, of the one that is wanted.
fn in_force(pooler: &Pooler) -> String {
    let seen = pooler.observed_generation.map_or("-".to_owned(), |seen| seen.to_string());
    format!("{seen} of {}", pooler.generation)
}

fn address(pooler: &Pooler) -> String {
    match pooler.host.contains(':') {
        true => format!("[{}]:{}", pooler.host, pooler.port),
        false => format!("{}:{}", pooler.host, pooler.port),
    }
}
