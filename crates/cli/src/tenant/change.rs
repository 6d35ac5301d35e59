//! `tenant update`, `suspend`, `resume` and `undelete`: the tenant stays, something about it changes.

use std::collections::BTreeMap;

use freehold_api::TenantId;
use freehold_api::tenant::{PatchTenant, SuspendTenant};
use serde_json::json;

use crate::Cx;
use crate::client::Request;
use crate::failure::{Failure, Outcome};
use crate::follow::{self, Settled, WaitArgs};
use crate::value::{Label, Switch};

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("change").required(true).multiple(true))]
pub struct Update {
    /// The tenant
    id: TenantId,
    /// What people call it
    #[arg(long, group = "change")]
    name: Option<String>,
    /// May be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", group = "change")]
    labels: Vec<Label>,
    /// May be repeated
    #[arg(long = "remove-label", value_name = "KEY", group = "change")]
    remove_labels: Vec<String>,
    /// Whether deleting it is refused
    #[arg(long, value_name = "on|off", group = "change", hide_possible_values = true)]
    deletion_protection: Option<Switch>,
}

#[derive(Debug, clap::Args)]
pub struct Suspend {
    /// The tenant
    id: TenantId,
    /// Shown wherever the tenant is shown
    #[arg(long)]
    reason: Option<String>,
    #[command(flatten)]
    wait: WaitArgs,
}

#[derive(Debug, clap::Args)]
pub struct Resume {
    /// The tenant
    id: TenantId,
    #[command(flatten)]
    wait: WaitArgs,
}

#[derive(Debug, clap::Args)]
pub struct Undelete {
    /// The tenant
    id: TenantId,
    #[command(flatten)]
    wait: WaitArgs,
}

pub async fn update(args: Update, cx: &mut Cx) -> Outcome {
    let mut labels: BTreeMap<String, Option<String>> = BTreeMap::new();
    labels.extend(args.labels.into_iter().map(|label| (label.key, Some(label.value))));
    for key in args.remove_labels {
        if labels.insert(key.clone(), None).is_some() {
            return Err(Failure::usage(format!("the label {key:?} cannot be set and removed at once")));
        }
    }
    let patch = PatchTenant {
        name: args.name.map(Some),
        labels: Some(labels).filter(|labels| !labels.is_empty()).map(Some),
        deletion_protection: args.deletion_protection.map(Switch::is_on).map(Some),
    };
    let request = Request::patch(&["tenants", args.id.as_str()]).body(&patch)?;
    let body = cx.client()?.send(request).await?.body;
    super::tell(cx, &body)
}

pub async fn suspend(args: Suspend, cx: &mut Cx) -> Outcome {
    let request =
        Request::post(&["tenants", args.id.as_str(), "suspend"]).body(&SuspendTenant { reason: args.reason })?;
    settle(cx, args.id, request, args.wait).await
}

pub async fn resume(args: Resume, cx: &mut Cx) -> Outcome {
    let request = Request::post(&["tenants", args.id.as_str(), "resume"]).body(&json!({}))?;
    settle(cx, args.id, request, args.wait).await
}

pub async fn undelete(args: Undelete, cx: &mut Cx) -> Outcome {
    let request = Request::post(&["tenants", args.id.as_str(), "undelete"]).body(&json!({}))?;
    settle(cx, args.id, request, args.wait).await
}

/// Waits, then shows the tenant as it is now.
async fn settle(cx: &mut Cx, id: TenantId, request: Request, wait: WaitArgs) -> Outcome {
    match follow::settle(cx, request, &wait, &format!("freehold tenant show {id}")).await? {
        Settled::Begun(operation) => follow::tell_begun(cx, &operation),
        Settled::With(tenant) => super::tell(cx, &tenant),
        Settled::Done => {
            let body = cx.client()?.send(Request::get(&["tenants", id.as_str()])).await?.body;
            super::tell(cx, &body)
        }
    }
}
