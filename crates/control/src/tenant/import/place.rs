//! Looks at the source once more, and takes a slot on a server that its database fits. Nothing is made yet, anywhere.

use std::time::Duration;

use freehold_durable::{Cx, Failure, Outcome};

use super::look::{self, Wanted};
use super::run::Step;
use super::{source, store};
use crate::http::problem::constraint;
use crate::plane::Core;
use crate::server_pool;
use crate::server_pool::wait::Asking;
use crate::stock::{claim, declare};
use crate::tenant::{fence, store as tenants};

/// For a server of a pool that is being made.
const LOOK: Duration = Duration::from_secs(5);

pub async fn run(core: &Core, cx: &Cx) -> Result<Outcome<Step>, Failure> {
    let id = fence::tenant(cx)?;
    let gone = || Failure::permanent("tenant_missing", "the tenant is not in the store");
    let tenant = tenants::find(&core.store, &id).await?.ok_or_else(gone)?;
    let wanted = Wanted::of(&tenant);
    let template = wanted.template(core).await?;
    let parsed = id.parse().map_err(|_| gone())?;
    let names = template.names_for(&parsed, &wanted.labels);
    let names = names.map_err(|error| Failure::permanent("invalid", error.to_string()))?;
    let dsn = source::open(core, cx).await?;
    let looked = look::look(core, cx, &dsn, &wanted, Asking::Waiting).await?;
    if let Some(first) = looked.verdict.refusals.first() {
        let all: Vec<&str> = looked.verdict.refusals.iter().map(|found| found.message.as_str()).collect();
        return Err(Failure::permanent(first.code.clone(), all.join("; ")));
    }
    let Some(server) = looked.server else {
        let nowhere = || Failure::transient("no_room", "no server has room now");
        let awaited = looked.awaited.ok_or_else(nowhere)?;
        let outcome = Outcome::again(LOOK, Step::Place).waiting_for("waiting_for_server", awaited.message());
        return Ok(outcome.recording(move |tx| {
            Box::pin(async move {
                tenants::wait_for(tx, &id, &awaited).await?;
                Ok(freehold_durable::wake_in(tx, server_pool::LOOP).await?)
            })
        }));
    };
    let minted = declare::mint(core, template.manifest.password.length).await;
    let (engine, from, version_num) = (cx.engine(), dsn.public(), looked.version_num);
    let notes = looked.verdict.notes;
    core.fleet.placed(&server.id).await;
    Ok(Outcome::step(Step::Make).recording(move |tx| {
        Box::pin(async move {
            if !claim::lock_slot(tx, &server.id).await? {
                return Err(Failure::transient("no_room", format!("the last slot of server {} was taken", server.id)));
            }
            let wanted = declare::Wanted {
                server: &server.id,
                template: &template,
                plan: &tenant.plan,
                tenant: Some(&id),
                names,
            };
            let declared = declare::declare(tx, &wanted, minted).await;
            declared.map_err(|error| match constraint(&error) {
                Some("tenant_database_server_id_database_key" | "login_server_id_role_key") => Failure::permanent(
                    "name_taken",
                    "the template gives it a name that another tenant has; choose another id",
                ),
                _ => error.into(),
            })?;
            tenants::place(tx, &id, &server.id, &template.version, &[], false).await?;
            store::comes_from(tx, &id, &from, version_num, &notes).await?;
            // What had to give way is dropped.
            Ok(engine.wake_in(tx, "stock").await?)
        })
    }))
}
