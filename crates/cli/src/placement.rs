//! `freehold placement explain`: where a tenant would go, and why not elsewhere.

use freehold_api::TemplateName;
use freehold_api::id::PlanName;
use freehold_api::placement::{Choice, ExplainPlacement, Placement};
use freehold_api::tenant::Labels;

use crate::Cx;
use crate::client::{Request, parse};
use crate::failure::Outcome;
use crate::output::Rows;
use crate::value::Label;

#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// Say where a tenant would go, and what speaks against each server and server pool
    Explain(Explain),
}

#[derive(Debug, clap::Args)]
pub struct Explain {
    /// Its plan [default: the default plan]
    #[arg(long)]
    plan: Option<PlanName>,
    /// Its region [default: any]
    #[arg(long)]
    region: Option<String>,
    /// Its template [default: the default template]
    #[arg(long)]
    template: Option<TemplateName>,
    /// May be repeated
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<Label>,
}

pub async fn run(verb: Verb, cx: &mut Cx) -> Outcome {
    let Verb::Explain(args) = verb;
    let labels: Labels = args.labels.into_iter().map(|label| (label.key, label.value)).collect();
    let question = ExplainPlacement {
        plan: args.plan,
        region: args.region,
        template: args.template,
        labels: Some(labels).filter(|labels| !labels.is_empty()),
    };
    let request = Request::post(&["placements", "explain"]).body(&question)?;
    let body = cx.client()?.send(request).await?.body;
    if cx.out.wants_json() {
        return cx.out.json(&body);
    }
    let found: Placement = parse(&body)?;
    cx.out.line(&match found.choice {
        Choice::Server { server } => format!("it goes to server {server}"),
        Choice::Pool { pool } => format!("it waits for the next server of server pool {pool}"),
        Choice::None { reason } => format!("it is refused: {reason}"),
    });
    let verdict = |obstacles: Vec<String>| match obstacles.is_empty() {
        true => "could take it".to_owned(),
        false => obstacles.join("; "),
    };
    let servers = found.servers.into_iter().map(|server| {
        let tenants = format!("{}/{}", server.tenants, server.capacity);
        vec![server.server.to_string(), server.priority.to_string(), tenants, verdict(server.obstacles)]
    });
    cx.out.table(Rows {
        header: &["SERVER", "PRIORITY", "TENANTS", "VERDICT"],
        rows: servers.collect(),
        empty: "no servers",
    });
    if found.pools.is_empty() {
        return Ok(());
    }
    let pools = found.pools.into_iter().map(|pool| {
        let servers = format!("{}/{}", pool.servers, pool.maximum_servers);
        let growing = pool.growing.map_or("-".to_owned(), |server| server.to_string());
        vec![pool.pool.to_string(), servers, growing, verdict(pool.obstacles)]
    });
    cx.out.table(Rows {
        header: &["SERVER POOL", "SERVERS", "GROWING", "VERDICT"],
        rows: pools.collect(),
        empty: "no server pools",
    });
    Ok(())
}
