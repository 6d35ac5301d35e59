//! `tenant list`: every tenant that the filters let through, page after page.

use freehold_api::Page;
use freehold_api::movability::MovableBy;
use freehold_api::tenant::{Tenant, TenantState};

use crate::Cx;
use crate::client::{Request, parse};
use crate::failure::Outcome;
use crate::output::Rows;
use crate::value::{Label, wire_name};

#[derive(Debug, clap::Args)]
pub struct List {
    /// On this plan
    #[arg(long)]
    plan: Option<String>,
    /// creating, active, failed, suspended or deleted
    #[arg(long, value_parser = wire_name::<TenantState>)]
    state: Option<TenantState>,
    /// On this server
    #[arg(long)]
    server: Option<String>,
    /// Made from this template
    #[arg(long)]
    template: Option<String>,
    /// By the best method that a move has left: logical, dump or none
    #[arg(long, value_parser = wire_name::<MovableBy>)]
    movable: Option<MovableBy>,
    /// Repeated means and
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<Label>,
    /// The beginning of an id or of a name
    #[arg(short, long = "query", value_name = "TEXT")]
    query: Option<String>,
    /// At most this many [default: all]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
}

pub async fn list(args: List, cx: &mut Cx) -> Outcome {
    let mut request = Request::get(&["tenants"])
        .query("plan", args.plan)
        .query("state", args.state.map(TenantState::as_str))
        .query("server", args.server)
        .query("template", args.template)
        .query("movable", args.movable.map(MovableBy::as_str))
        .query("q", args.query);
    for label in args.labels {
        request = request.query("label", Some(format!("{}={}", label.key, label.value)));
    }
    let body = cx.client()?.list(request, args.limit.map(|limit| limit as usize)).await?;
    if cx.out.wants_json() {
        return cx.out.json(&body);
    }
    let page: Page<Tenant> = parse(&body)?;
    let rows = page.items.into_iter().map(|tenant| {
        let server = tenant.server.map_or("-".to_owned(), |server| server.to_string());
        let name = if tenant.name == tenant.id.as_str() { "-".to_owned() } else { tenant.name };
        let state = tenant.state.as_str().to_owned();
        let since = cx.out.time(tenant.state_since);
        let plan = match &tenant.plan_change {
            Some(change) => format!("{} ({} {})", tenant.plan, change.plan, cx.out.time(change.at)),
            None => tenant.plan.to_string(),
        };
        vec![tenant.id.to_string(), name, plan, state, since, server, tenant.template.to_string()]
    });
    cx.out.table(Rows {
        header: &["ID", "NAME", "PLAN", "STATE", "SINCE", "SERVER", "TEMPLATE"],
        rows: rows.collect(),
        empty: "no tenants; `freehold tenant create ID` makes one",
    });
    if page.next_cursor.is_some() {
        cx.out.note("there are more: raise --limit, or leave it out");
    }
    Ok(())
}
