//! `freehold server …`. The admin's connection string holds a password: it can come from a file, a variable or stdin.

mod change;
mod drain;
mod drift;
mod rebalance;

use std::path::PathBuf;

use freehold_api::server::{AddServer, Observed, Server, ServerKind, ServerPooling, ServerState};
use freehold_api::{Page, ServerId};
use serde_json::{Value, json};

use crate::Cx;
use crate::client::{Request, parse};
use crate::failure::{Failure, Outcome};
use crate::follow::{self, Settled, WaitArgs};
use crate::given;
use crate::output::{Rows, bytes};
use crate::value::{Secret, wire_name};

#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// Register a PostgreSQL server by its admin's connection string
    Add(Add),
    /// List servers
    List {
        /// Of this state; `removed` ones are only shown so
        #[arg(long, value_parser = wire_name::<ServerState>)]
        state: Option<ServerState>,
    },
    /// Show one server and what was found about it
    Show {
        /// The server
        name: ServerId,
    },
    /// Check a server now; exit 10, 11 or 12 by the worst finding
    Check {
        /// The server
        name: ServerId,
    },
    /// What differs between store and servers; exit 10, 11 or 12 by the worst
    Drift(drift::Drift),
    /// Put no new tenants on it
    Cordon {
        /// The server
        name: ServerId,
    },
    /// Let it take new tenants again
    Uncordon {
        /// The server
        name: ServerId,
    },
    /// Move all its tenants elsewhere, a few at a time; it is cordoned
    Drain(drain::Drain),
    /// Say which moves would even servers out in size and load; with --apply, do them
    Rebalance(rebalance::Rebalance),
    /// Change it: labels and priority at once, image and limits of a managed one by a restart
    Update(change::Update),
    /// Say that it is being looked after, or that it is over
    Maintenance(change::Maintenance),
    /// Remove a server that has no tenants; the data of a managed one is kept
    Remove(change::Remove),
    /// Destroy the data of a managed server that was removed
    Purge(change::Purge),
}

#[derive(Debug, clap::Args)]
pub struct Add {
    /// What to call it
    name: ServerId,
    #[command(flatten)]
    dsn: Dsn,
    /// Tenants and stock that fit [default: 500]
    #[arg(long)]
    capacity: Option<u32>,
    /// shared, dedicated or system [default: shared]
    #[arg(long, value_parser = wire_name::<ServerKind>)]
    kind: Option<ServerKind>,
    /// Where it is
    #[arg(long)]
    region: Option<String>,
    /// Where tenants reach it, when not where the admin does
    #[arg(long, value_name = "HOST:PORT[,…]")]
    tenant_address: Option<String>,
    /// PEM of the certificate authority to verify it with
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    #[command(flatten)]
    wait: WaitArgs,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Dsn {
    /// postgres://admin:password@host:port/postgres?sslmode=verify-full, or - for stdin
    #[arg(long, value_name = "DSN")]
    dsn: Option<Secret>,
    /// File that holds it
    #[arg(long, value_name = "FILE")]
    dsn_file: Option<PathBuf>,
    /// Environment variable that holds it
    #[arg(long, value_name = "VARIABLE")]
    dsn_env: Option<String>,
}

pub async fn run(verb: Verb, cx: &mut Cx) -> Outcome {
    match verb {
        Verb::Add(args) => add(args, cx).await,
        Verb::List { state } => list(state, cx).await,
        Verb::Show { name } => show(name, cx).await,
        Verb::Check { name } => check(name, cx).await,
        Verb::Cordon { name } => post(name, "cordon", cx).await,
        Verb::Uncordon { name } => post(name, "uncordon", cx).await,
        Verb::Rebalance(args) => rebalance::rebalance(args, cx).await,
        Verb::Drain(args) => drain::drain(args, cx).await,
        Verb::Update(args) => change::update(args, cx).await,
        Verb::Maintenance(args) => change::maintenance(args, cx).await,
        Verb::Remove(args) => change::remove(args, cx).await,
        Verb::Purge(args) => change::purge(args, cx).await,
        Verb::Drift(args) => drift::drift(args, cx).await,
    }
}

async fn add(args: Add, cx: &mut Cx) -> Outcome {
    let Dsn { dsn, dsn_file, dsn_env } = args.dsn;
    let Secret(dsn) = given::secret(dsn, dsn_file, dsn_env, "give --dsn, --dsn-file or --dsn-env", cx).await?;
    let ca_certificate = args.ca_file.as_deref().map(given::text).transpose()?;
    let body = AddServer {
        id: args.name,
        dsn,
        kind: args.kind,
        capacity: args.capacity,
        region: args.region,
        tenant_address: args.tenant_address,
        ca_certificate,
    };
    let name = body.id.clone();
    let request = Request::post(&["servers"]).body(&body)?;
    match follow::settle(cx, request, &args.wait, &format!("freehold server show {name}")).await? {
        Settled::Begun(operation) => follow::tell_begun(cx, &operation),
        Settled::With(server) => tell(cx, &server),
        Settled::Done => show(name, cx).await,
    }
}

async fn show(name: ServerId, cx: &mut Cx) -> Outcome {
    let body = cx.client()?.send(Request::get(&["servers", name.as_str()])).await?.body;
    tell(cx, &body)
}

async fn list(state: Option<ServerState>, cx: &mut Cx) -> Outcome {
    let request = Request::get(&["servers"]).query("state", state.map(ServerState::as_str));
    let body = cx.client()?.list(request, None).await?;
    if cx.out.wants_json() {
        return cx.out.json(&body);
    }
    let page: Page<Server> = parse(&body)?;
    let rows = page.items.into_iter().map(|server| {
        vec![
            server.id.to_string(),
            server.kind.as_str().to_owned(),
            server.state.as_str().to_owned(),
            server.health.as_str().to_owned(),
            format!("{}/{}", server.tenants, server.capacity),
            server.stock.to_string(),
            if server.has_room { "yes" } else { "no" }.to_owned(),
            server.postgres_version.clone().unwrap_or_else(|| "-".to_owned()),
            address(&server),
        ]
    });
    cx.out.table(Rows {
        header: &["NAME", "KIND", "STATE", "HEALTH", "TENANTS", "STOCK", "ROOM", "POSTGRES", "ADDRESS"],
        rows: rows.collect(),
        empty: "no servers; `freehold server add NAME --dsn-file FILE` registers one",
    });
    Ok(())
}

async fn check(name: ServerId, cx: &mut Cx) -> Outcome {
    let request = Request::post(&["servers", name.as_str(), "check"]).body(&json!({}))?;
    let body = cx.client()?.send(request).await?.body;
    tell(cx, &body)?;
    let server: Server = parse(&body)?;
    match server.findings.iter().map(|finding| finding.severity).max() {
        Some(worst) => Err(Failure::Findings(worst)),
        None => Ok(()),
    }
}

async fn post(name: ServerId, verb: &str, cx: &mut Cx) -> Outcome {
    let request = Request::post(&["servers", name.as_str(), verb]).body(&json!({}))?;
    let body = cx.client()?.send(request).await?.body;
    tell(cx, &body)
}

/// What health saw, in one line.
fn observed(seen: &Observed) -> String {
    let mut parts = Vec::new();
    if let (Some(used), Some(most)) = (seen.connections, seen.connections_max) {
        parts.push(format!("{used} of {most} sessions"));
    }
    parts.extend(seen.databases.map(|count| format!("{count} databases")));
    parts.extend(seen.size_bytes.map(bytes));
    if let (Some(free), Some(total)) = (seen.data_free_bytes, seen.data_total_bytes) {
        parts.push(format!("{} of {} free", bytes(free), bytes(total)));
    }
    parts.extend(seen.oldest_transaction_seconds.map(|age| format!("oldest transaction {age:.0} s")));
    parts.extend(seen.xid_age.map(|age| format!("age {:.1} million", age as f64 / 1e6)));
    parts.extend(seen.replication_lag_bytes.map(|lag| format!("{} behind", bytes(lag))));
    parts.join(", ")
}

/// What its pools may open.
fn pooling(pooling: &ServerPooling) -> String {
    let ServerPooling { budget, databases, wanted, granted, open, resting } = pooling;
    let rest = resting.map_or(String::new(), |most| format!("; {most} each at rest"));
    format!("{open} open, {granted} granted of {wanted} wanted by {databases} databases; budget {budget}{rest}")
}

fn tell(cx: &Cx, body: &Value) -> Outcome {
    if cx.out.wants_json() {
        return cx.out.json(body);
    }
    let server: Server = parse(body)?;
    let health = match &server.health_message {
        Some(message) => format!("{}: {message}", server.health.as_str()),
        None => server.health.as_str().to_owned(),
    };
    let room = if server.has_room { "has room" } else { "takes no new tenants" };
    let holds = format!("{} tenants and {} stock of {}; {room}", server.tenants, server.stock, server.capacity);
    let labels: Vec<String> = server.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let limits = server.limits.unwrap_or_default();
    let tenants_at = format!("{} sslmode={}", address(&server), server.sslmode);
    cx.out.fields(&[
        ("server", Some(server.id.to_string())),
        ("kind", Some(server.kind.as_str().to_owned())),
        ("state", Some(server.state.as_str().to_owned())),
        ("health", Some(health)),
        ("checked", server.checked_at.map(|at| cx.out.time(at))),
        ("seen", server.observed.as_ref().map(observed)),
        ("holds", Some(holds)),
        ("pools", server.pooling.as_ref().map(pooling)),
        ("admin", Some(server.dsn)),
        ("tenants at", Some(tenants_at)),
        ("region", server.region),
        ("labels", Some(labels.join(", ")).filter(|labels| !labels.is_empty())),
        ("priority", Some(server.priority.to_string())),
        ("pool", server.pool.map(|pool| pool.to_string())),
        ("platform", server.platform),
        ("image", server.image),
        ("cpus", limits.cpus.map(|cores| cores.to_string())),
        ("memory", limits.memory_bytes.map(bytes)),
        ("postgres", server.postgres_version),
        ("operation", server.operation.map(|id| id.to_string())),
        ("created", Some(cx.out.time(server.created_at))),
    ]);
    let mut findings = server.findings;
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    for finding in findings {
        cx.out.finding(finding.severity, &format!("{}: {}", finding.code, finding.message));
    }
    Ok(())
}

/// Several hosts come with their ports already.
fn address(server: &Server) -> String {
    match server.host.contains(',') {
        true => server.host.clone(),
        false => format!("{}:{}", server.host, server.port),
    }
}
