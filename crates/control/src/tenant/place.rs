//! The step of `tenant.create` that waits for room: a tenant that no server had a slot for is placed once one has, or
//! fails with the reason why none will. Looks when a server of a pool comes into being or does not, and every few seconds.

use std::time::Duration;

use freehold_api::id::TemplateName;
use freehold_api::problem::Code;
use freehold_durable::{Cx, Failure, Outcome};

use super::provision::{self, Step};
use super::{create, fence, store};
use crate::http::problem::Refused;
use crate::plane::{Answer, Core};
use crate::server_pool::wait::{self, Asking};
use crate::stock::claim::{self, Claim};
use crate::stock::store::{self as databases, DatabaseRow};

/// For room that nobody announces: a tenant was purged, a server uncordoned.
const LOOK: Duration = Duration::from_secs(5);

pub async fn run(core: &Core, cx: &Cx) -> Result<Outcome<Step>, Failure> {
    let id = fence::tenant(cx)?;
    let gone = || Failure::permanent("tenant_missing", "the tenant is not in the store");
    let tenant = store::find(&core.store, &id).await?.ok_or_else(gone)?;
    let template: TemplateName = tenant
        .template
        .parse()
        .map_err(|_| Failure::permanent("unknown_template", "the template has no valid name"))?;
    let (template, _) = of(create::template_of(core, Some(&template)).await)?;
    let parsed = id.parse().map_err(|_| gone())?;
    let names = template.names_for(&parsed, &tenant.labels);
    let names = names.map_err(|error| Failure::permanent(Code::Invalid.as_str(), error.to_string()))?;
    let fleet = core.fleet.no_older_than(&core.store, wait::SURE).await?;
    let wanted = Claim {
        tenant: &id,
        region: tenant.region.as_deref(),
        labels: &tenant.labels,
        plan: core.plan(&tenant.plan),
        template: &template,
        names: names.as_ref(),
        fleet: &fleet,
    };
    let mut tx = core.store.begin().await?;
    // Whoever was here before and died, or was taken for dead, may have placed it.
    store::lock(&mut tx, &id).await?.ok_or_else(gone)?;
    if let Some(placed) = databases::find_of_tenant(&mut *tx, &id).await? {
        return Ok(Outcome::step(after(&placed)));
    }
    let Some(given) = of(claim::claim(core, &mut tx, &wanted).await)? else {
        drop(tx);
        let awaited = of(wait::decide(core, &wanted.want(core), &fleet, Asking::Waiting).await)?;
        let message = awaited.message();
        let outcome = Outcome::again(LOOK, Step::Place).waiting_for("waiting_for_server", message);
        return Ok(outcome.recording(move |tx| Box::pin(async move { Ok(store::wait_for(tx, &id, &awaited).await?) })));
    };
    store::place(&mut tx, &id, &given.server, &template.version, &given.missing, false).await?;
    cx.still_mine_in(&mut tx).await?;
    tx.commit().await?;
    core.fleet.placed(&given.server).await;
    cx.engine().wake("stock");
    cx.fault("placed")?;
    Ok(match provision::first_step(&given, template.claim.is_some()) {
        Some(step) => Outcome::step(step),
        None => provision::activated(cx, id, given.missing),
    })
}

/// What is left for a database that was given before this step was recorded. What is done once more does no harm.
fn after(row: &DatabaseRow) -> Step {
    let database = row.id;
    match row.state.as_str() {
        "building" => Step::Create { database },
        _ if row.owner != row.database => Step::Rename { database, other_plan: true },
        _ => Step::Limits { database },
    }
}

/// A refusal, as an operation takes it: what may pass is tried again.
pub fn of<T>(answer: Answer<T>) -> Result<T, Failure> {
    answer.map_err(|Refused(problem)| match problem.code {
        Code::StoreUnavailable | Code::Internal | Code::Timeout | Code::Busy => {
            Failure::transient(problem.code.as_str(), problem.detail)
        }
        code => {
            let fields = problem.errors.iter().map(|field| format!("{}: {}", field.field, field.message));
            let detail: Vec<String> = fields.collect();
            let detail = if detail.is_empty() { problem.detail } else { detail.join("; ") };
            Failure::permanent(code.as_str(), detail)
        }
    })
}
