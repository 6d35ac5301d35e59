//! `tenant delete` and `tenant purge`: what goes is named twice.

use freehold_api::TenantId;
use serde_json::json;

use crate::Cx;
use crate::client::Request;
use crate::failure::{Failure, Outcome};
use crate::follow::{self, Settled, WaitArgs};

#[derive(Debug, clap::Args)]
pub struct Delete {
    /// The tenant
    id: TenantId,
    /// The id again
    #[arg(long, value_name = "ID")]
    confirm: Option<String>,
    /// Destroy it now, with no way back
    #[arg(long)]
    purge: bool,
    #[command(flatten)]
    wait: WaitArgs,
}

#[derive(Debug, clap::Args)]
pub struct Purge {
    /// The tenant
    id: TenantId,
    /// The id again
    #[arg(long, value_name = "ID")]
    confirm: Option<String>,
    #[command(flatten)]
    wait: WaitArgs,
}

enum Kind {
    WithGrace,
    ForGood,
}

pub async fn delete(args: Delete, cx: &mut Cx) -> Outcome {
    let kind = if args.purge { Kind::ForGood } else { Kind::WithGrace };
    remove(kind, args.id, args.confirm, args.wait, cx).await
}

pub async fn purge(args: Purge, cx: &mut Cx) -> Outcome {
    remove(Kind::ForGood, args.id, args.confirm, args.wait, cx).await
}

async fn remove(kind: Kind, id: TenantId, confirm: Option<String>, wait: WaitArgs, cx: &mut Cx) -> Outcome {
    if confirm.as_deref() != Some(id.as_str()) {
        return Err(Failure::usage(format!("name the tenant twice, so that it is the right one: --confirm {id}")));
    }
    let mut request = Request::delete(&["tenants", id.as_str()]).query("confirm", confirm);
    if let Kind::ForGood = kind {
        request = request.query("purge", Some(true));
    }
    match (follow::settle(cx, request, &wait, &format!("freehold tenant show {id}")).await?, kind) {
        (Settled::Begun(operation), _) => follow::tell_begun(cx, &operation),
        (Settled::With(tenant), Kind::WithGrace) => super::tell(cx, &tenant),
        (Settled::Done, Kind::WithGrace) => {
            let body = cx.client()?.send(Request::get(&["tenants", id.as_str()])).await?.body;
            super::tell(cx, &body)
        }
        (Settled::With(_) | Settled::Done, Kind::ForGood) if cx.out.wants_json() => {
            cx.out.json(&json!({ "id": id, "purged": true }))
        }
        (Settled::With(_) | Settled::Done, Kind::ForGood) => {
            cx.out.line(&format!("tenant {id} is purged: its database, roles and secrets are gone, its id is free"));
            Ok(())
        }
    }
}
