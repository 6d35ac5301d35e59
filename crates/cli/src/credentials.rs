//! `freehold credentials …`: another one for a tenant, and the end of the one before.

use freehold_api::TenantId;
use freehold_api::tenant::{RotateCredentials, TenantWithConnection};
use serde_json::{Value, json};

use crate::Cx;
use crate::client::{Request, parse};
use crate::failure::{Failure, Outcome};
use crate::follow::{self, Settled, WaitArgs};
use crate::tenant;
use crate::value::Length;

#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// Give a tenant another credential and print it; the old one is in force until its grace is over
    Rotate(Rotate),
    /// Refuse the credential of before at once, without waiting for the end of its grace
    Retire(Retire),
}

#[derive(Debug, clap::Args)]
pub struct Rotate {
    /// The tenant
    id: TenantId,
    /// After a leak: refuse the old one at once and end its sessions
    #[arg(long)]
    immediate: bool,
    /// How long both are in force, for example 1h [default: the control plane's setting]
    #[arg(long, value_name = "LENGTH", conflicts_with = "immediate")]
    grace: Option<Length>,
    #[command(flatten)]
    wait: WaitArgs,
}

#[derive(Debug, clap::Args)]
pub struct Retire {
    /// The tenant
    id: TenantId,
    #[command(flatten)]
    wait: WaitArgs,
}

pub async fn run(verb: Verb, cx: &mut Cx) -> Outcome {
    match verb {
        Verb::Rotate(args) => rotate(args, cx).await,
        Verb::Retire(args) => retire(args, cx).await,
    }
}

async fn rotate(args: Rotate, cx: &mut Cx) -> Outcome {
    let grace_seconds = args.grace.map(|grace| u64::try_from(grace.0.as_secs()).unwrap_or_default());
    if grace_seconds == Some(0) {
        return Err(Failure::usage("--grace is a second or more; --immediate leaves none"));
    }
    let body = RotateCredentials { immediate: args.immediate.then_some(true), grace_seconds };
    let id = args.id;
    let request = Request::post(&["tenants", id.as_str(), "credentials", "rotate"]).body(&body)?;
    match follow::settle(cx, request.clone(), &args.wait, &format!("freehold tenant show {id}")).await? {
        Settled::Begun(operation) => follow::tell_begun(cx, &operation),
        Settled::With(tenant) => tell(cx, &tenant),
        Settled::Done => {
            let tenant = cx.client()?.finished_rotation(&id, request).await?.body;
            tell(cx, &tenant)
        }
    }
}

async fn retire(args: Retire, cx: &mut Cx) -> Outcome {
    let id = args.id;
    let request = Request::post(&["tenants", id.as_str(), "credentials", "retire"]).body(&json!({}))?;
    match follow::settle(cx, request, &args.wait, &format!("freehold tenant show {id}")).await? {
        Settled::Begun(operation) => follow::tell_begun(cx, &operation),
        Settled::With(body) => tenant::tell(cx, &body),
        Settled::Done => {
            let body = cx.client()?.send(Request::get(&["tenants", id.as_str()])).await?.body;
            tenant::tell(cx, &body)
        }
    }
}

fn tell(cx: &Cx, tenant: &Value) -> Outcome {
    let shown: TenantWithConnection = parse(tenant)?;
    let url = shown.connection.map(|connection| connection.preferred().url.clone());
    let hidden = url.is_none();
    tenant::tell_with(cx, tenant, url)?;
    if hidden && !cx.out.wants_json() {
        cx.out.note("the url is left out: this key lacks the scope `credentials`");
    }
    Ok(())
}
