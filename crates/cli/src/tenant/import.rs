//! `tenant import`: a database of a server that is not Freehold's comes in as a new tenant's; and what a tenant came from.

use std::path::PathBuf;

use freehold_api::id::PlanName;
use freehold_api::import::{Import, ImportDatabase, TenantImport};
use freehold_api::server::Severity;
use freehold_api::tenant::TenantWithConnection;
use freehold_api::{TemplateName, TenantId};
use serde_json::Value;

use super::movability;
use crate::Cx;
use crate::client::{Request, parse};
use crate::failure::{Failure, Outcome};
use crate::follow::{self, Settled, WaitArgs};
use crate::given;
use crate::output::bytes;
use crate::value::{Label, Secret};

#[derive(Debug, clap::Args)]
pub struct ImportArgs {
    /// The tenant that it becomes; without --from, the one to say of what it came from
    id: TenantId,
    #[command(flatten)]
    from: Source,
    /// PEM of the certificate authority to verify that server with
    #[arg(long, value_name = "FILE", requires = "source")]
    ca_file: Option<PathBuf>,
    /// Say what is there and what would be done, and do nothing; exit 12 where something stands against it
    #[arg(long, requires = "source")]
    dry_run: bool,
    /// What people call it [default: the id]
    #[arg(long, requires = "source")]
    name: Option<String>,
    /// What it may use [default: the default plan]
    #[arg(long, requires = "source")]
    plan: Option<PlanName>,
    /// Only servers of this region may take it
    #[arg(long, requires = "source")]
    region: Option<String>,
    /// Whose names, roles and settings it has; what is in it is the source's [default: the default template]
    #[arg(long, requires = "source")]
    template: Option<TemplateName>,
    /// May be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", requires = "source")]
    labels: Vec<Label>,
    #[command(flatten)]
    wait: WaitArgs,
}

#[derive(Debug, clap::Args)]
#[group(id = "source", multiple = false)]
struct Source {
    /// Connection string of a login that may read everything; - reads it from stdin
    #[arg(long, value_name = "DSN")]
    from: Option<Secret>,
    /// File that holds it
    #[arg(long, value_name = "FILE")]
    from_file: Option<PathBuf>,
    /// Environment variable that holds it
    #[arg(long, value_name = "VARIABLE")]
    from_env: Option<String>,
}

pub async fn run(args: ImportArgs, cx: &mut Cx) -> Outcome {
    let id = args.id;
    let Source { from, from_file, from_env } = args.from;
    if from.is_none() && from_file.is_none() && from_env.is_none() {
        let body = look(cx, &id).await?;
        return tell(cx, &body);
    }
    let Secret(from) = given::secret(from, from_file, from_env, "give --from, --from-file or --from-env", cx).await?;
    let labels: freehold_api::tenant::Labels = args.labels.into_iter().map(|label| (label.key, label.value)).collect();
    let body = ImportDatabase {
        from,
        ca_certificate: args.ca_file.as_deref().map(given::text).transpose()?,
        dry_run: args.dry_run,
        name: args.name,
        plan: args.plan,
        region: args.region,
        template: args.template,
        labels: Some(labels).filter(|labels| !labels.is_empty()),
    };
    let request = Request::post(&["tenants", id.as_str(), "import"]).body(&body)?;
    if args.dry_run {
        let found = cx.client()?.send(request).await?.body;
        return told(cx, &found);
    }
    let (tenant, url) = match follow::settle(cx, request, &args.wait, &format!("freehold tenant show {id}")).await? {
        Settled::Begun(operation) => return follow::tell_begun(cx, &operation),
        Settled::With(tenant) => {
            let connection = parse::<TenantWithConnection>(&tenant)?.connection;
            (tenant, connection.map(|connection| connection.preferred().url.clone()))
        }
        Settled::Done => (cx.client()?.send(Request::get(&["tenants", id.as_str()])).await?.body, None),
    };
    super::tell_with(cx, &tenant, url)?;
    let came: TenantImport = parse(&look(cx, &id).await?)?;
    if let Some(as_of) = came.as_of {
        cx.out.note(&format!(
            "it is as of {}: what was written at the source since then is not here (freehold tenant import {id})",
            cx.out.time(as_of)
        ));
    }
    Ok(())
}

async fn look(cx: &mut Cx, id: &TenantId) -> Result<Value, Failure> {
    Ok(cx.client()?.send(Request::get(&["tenants", id.as_str(), "import"])).await?.body)
}

fn tell(cx: &Cx, body: &Value) -> Outcome {
    if cx.out.wants_json() {
        return cx.out.json(body);
    }
    let came: TenantImport = parse(body)?;
    cx.out.fields(&[
        ("tenant", Some(came.tenant.to_string())),
        ("from", Some(came.from)),
        ("postgres", Some(came.postgres.to_string())),
        ("as of", Some(came.as_of.map_or_else(|| "not read yet".to_owned(), |at| cx.out.time(at)))),
        ("operation", came.operation.map(|id| id.to_string())),
    ]);
    for finding in &came.notes {
        cx.out.finding(finding.severity, &format!("{}: {}", finding.code, finding.message));
    }
    Ok(())
}

fn told(cx: &Cx, body: &Value) -> Outcome {
    let found: Import = parse(body)?;
    if cx.out.wants_json() {
        cx.out.json(body)?;
    } else {
        cx.out.fields(&[
            ("tenant", Some(found.tenant.to_string())),
            ("from", Some(found.from.clone())),
            ("postgres", found.postgres.map(|major| major.to_string())),
            ("size", Some(bytes(found.size_bytes))),
            ("tables", Some(found.tables.to_string())),
            ("extensions", Some(found.extensions.join(", ")).filter(|names| !names.is_empty())),
            ("takes about", Some(movability::time(found.seconds))),
            ("server", found.server.as_ref().map(ToString::to_string)),
        ]);
        for finding in &found.refusals {
            cx.out.finding(Severity::High, &format!("refused: {}: {}", finding.code, finding.message));
        }
        for finding in &found.notes {
            cx.out.finding(finding.severity, &format!("{}: {}", finding.code, finding.message));
        }
        let sum =
            if found.refusals.is_empty() { "it can be imported; nothing was done" } else { "it cannot be imported" };
        cx.out.line(sum);
    }
    match found.refusals.is_empty() {
        true => Ok(()),
        false => Err(Failure::Findings(Severity::High)),
    }
}
