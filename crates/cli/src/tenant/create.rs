//! `tenant create`: prints the tenant and how to connect. A repeat prints the same.

use freehold_api::tenant::{Connection, CreateTenant, TenantWithConnection};
use freehold_api::{TemplateName, TenantId, id::PlanName};
use serde_json::Value;

use crate::Cx;
use crate::client::{Request, parse};
use crate::failure::Outcome;
use crate::follow::{self, Settled, WaitArgs};
use crate::value::Label;

#[derive(Debug, clap::Args)]
pub struct Create {
    /// Lowercase letters, digits and hyphens, at most 48
    id: TenantId,
    /// What people call it [default: the id]
    #[arg(long)]
    name: Option<String>,
    /// What it may use [default: the default plan]
    #[arg(long)]
    plan: Option<PlanName>,
    /// Only servers of this region may take it
    #[arg(long)]
    region: Option<String>,
    /// What its database contains [default: the default template]
    #[arg(long)]
    template: Option<TemplateName>,
    /// May be repeated
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<Label>,
    /// Refuse to delete it until this is switched off
    #[arg(long)]
    deletion_protection: bool,
    #[command(flatten)]
    wait: WaitArgs,
}

pub async fn create(args: Create, cx: &mut Cx) -> Outcome {
    let id = args.id.clone();
    let labels = args.labels.into_iter().map(|label| (label.key, label.value)).collect();
    let body = CreateTenant {
        id: args.id,
        name: args.name,
        plan: args.plan,
        region: args.region,
        template: args.template,
        labels: Some(labels).filter(|labels: &freehold_api::tenant::Labels| !labels.is_empty()),
        deletion_protection: args.deletion_protection.then_some(true),
    };
    let request = Request::post(&["tenants"]).body(&body)?;
    match follow::settle(cx, request.clone(), &args.wait, &format!("freehold tenant show {id}")).await? {
        Settled::Begun(operation) => follow::tell_begun(cx, &operation),
        Settled::With(tenant) => tell(cx, tenant),
        Settled::Done => {
            let tenant = cx.client()?.finished_create(request).await?.body;
            tell(cx, tenant)
        }
    }
}

fn tell(cx: &Cx, tenant: Value) -> Outcome {
    let connection: Option<Connection> = parse::<TenantWithConnection>(&tenant)?.connection;
    let url = connection.map(|connection| connection.preferred().url.clone());
    let hidden = url.is_none();
    super::tell_with(cx, &tenant, url)?;
    if hidden && !cx.out.wants_json() {
        cx.out.note("the url is left out: this key lacks the scope `credentials`");
    }
    Ok(())
}
