//! `tenant adopt`: a database that is there already becomes a tenant's, in place.

use freehold_api::adopt::{AdoptDatabase, Adoption};
use freehold_api::id::PlanName;
use freehold_api::server::Severity;
use freehold_api::tenant::TenantWithConnection;
use freehold_api::{ServerId, TemplateName, TenantId};

use crate::Cx;
use crate::client::{Request, parse};
use crate::failure::{Failure, Outcome};
use crate::follow::{self, Settled, WaitArgs};
use crate::value::Label;

#[derive(Debug, clap::Args)]
pub struct Adopt {
    /// The tenant that it becomes
    id: TenantId,
    /// Where the database is
    #[arg(long)]
    server: ServerId,
    /// What it is called; it keeps its name
    #[arg(long)]
    database: String,
    /// Take only what this role owns [default: what anybody owns]
    #[arg(long, value_name = "ROLE")]
    owner: Option<String>,
    /// A role that may go on logging in as it does now; may be repeated
    #[arg(long = "keep-login", value_name = "ROLE")]
    keep_logins: Vec<String>,
    /// End the sessions of everybody else
    #[arg(long)]
    end_sessions: bool,
    /// Disable its event triggers for good: they would run as Freehold's admin
    #[arg(long)]
    disable_event_triggers: bool,
    /// Say what is there and what would be done, and do nothing; exit 12 where something stands against it
    #[arg(long)]
    dry_run: bool,
    /// What people call it [default: the id]
    #[arg(long)]
    name: Option<String>,
    /// What it may use [default: the default plan]
    #[arg(long)]
    plan: Option<PlanName>,
    /// Which template's database it is [default: default, which is empty]
    #[arg(long)]
    template: Option<TemplateName>,
    /// May be repeated
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<Label>,
    #[command(flatten)]
    wait: WaitArgs,
}

pub async fn adopt(args: Adopt, cx: &mut Cx) -> Outcome {
    let labels: freehold_api::tenant::Labels = args.labels.into_iter().map(|label| (label.key, label.value)).collect();
    let body = AdoptDatabase {
        server: args.server,
        database: args.database,
        owner: args.owner,
        keep_logins: args.keep_logins,
        end_sessions: args.end_sessions,
        disable_event_triggers: args.disable_event_triggers,
        dry_run: args.dry_run,
        name: args.name,
        plan: args.plan,
        template: args.template,
        labels: Some(labels).filter(|labels| !labels.is_empty()),
    };
    let id = args.id;
    let request = Request::post(&["tenants", id.as_str(), "adopt"]).body(&body)?;
    if args.dry_run {
        let found = cx.client()?.send(request).await?.body;
        return told(cx, &found);
    }
    match follow::settle(cx, request, &args.wait, &format!("freehold tenant show {id}")).await? {
        Settled::Begun(operation) => follow::tell_begun(cx, &operation),
        Settled::With(tenant) => {
            let connection = parse::<TenantWithConnection>(&tenant)?.connection;
            super::tell_with(cx, &tenant, connection.map(|connection| connection.preferred().url.clone()))
        }
        Settled::Done => {
            let tenant = cx.client()?.send(Request::get(&["tenants", id.as_str()])).await?.body;
            super::tell(cx, &tenant)
        }
    }
}

fn told(cx: &Cx, body: &serde_json::Value) -> Outcome {
    let found: Adoption = parse(body)?;
    if cx.out.wants_json() {
        cx.out.json(body)?;
    } else {
        let counted = |counts: &std::collections::BTreeMap<String, u64>| {
            let told: Vec<String> = counts.iter().map(|(role, count)| format!("{count} of {role}")).collect();
            Some(told.join(", ")).filter(|told| !told.is_empty())
        };
        cx.out.fields(&[
            ("tenant", Some(found.tenant.to_string())),
            ("server", Some(found.server.to_string())),
            ("database", Some(found.database.clone())),
            ("owner", Some(found.owner.clone())),
            ("size", Some(format!("{} kB", found.size_bytes / 1000))),
            ("changes hands", counted(&found.objects)),
            ("sessions", counted(&found.sessions)),
            ("extensions", Some(found.extensions.join(", ")).filter(|names| !names.is_empty())),
        ]);
        for finding in &found.refusals {
            cx.out.finding(Severity::High, &format!("refused: {}: {}", finding.code, finding.message));
        }
        for finding in &found.notes {
            cx.out.finding(finding.severity, &format!("{}: {}", finding.code, finding.message));
        }
        let sum =
            if found.refusals.is_empty() { "it can be adopted; nothing was done" } else { "it cannot be adopted" };
        cx.out.line(sum);
    }
    match found.refusals.is_empty() {
        true => Ok(()),
        false => Err(Failure::Findings(Severity::High)),
    }
}
