//! The step that copies: a new database, and in it all that the source had at one moment, compared with that moment.

use std::time::Duration;

use freehold_api::template::DatabaseOwner;
use freehold_drivers::server::sql::moving::{Fingerprint, Foreign, Part, Side, find_pg_dump};
use freehold_drivers::server::sql::{OwnDatabase, Roles};
use freehold_durable::{Class, Cx, Failure};
use jiff_sqlx::Timestamp;
use tokio::time::sleep;

use super::{look, source};
use crate::plane::Core;
use crate::server::hands;
use crate::stock::making::Making;
use crate::stock::store as databases;
use crate::stock::{declare, make, note};

/// Sessions at each side. More of them would be felt by their neighbours.
const SESSIONS: usize = 4;
/// Ranges of about so many rows are compared.
const ROWS: i64 = 50_000;
/// How often it is looked how far it is, and whether it is to go on.
const LOOK: Duration = Duration::from_secs(1);
/// In a message.
const NAMED: usize = 10;

/// Under the names that it is made with.
pub fn roles(making: &Making) -> Roles {
    make::roles(&making.row, &making.opaque().login, &making.maintenance.role, &making.template)
}

/// Answers as of when the tenant's database is.
pub async fn run(core: &Core, cx: &Cx, making: &Making) -> Result<Timestamp, Failure> {
    let dsn = source::open(core, cx).await?;
    if cx.epoch > 1 {
        let prefix = format!("fh:{}:", cx.operation);
        Foreign::end_lower_epochs(&dsn, &prefix, cx.epoch).await.map_err(source::failure)?;
    }
    let as_of = databases::now(&core.store).await?;
    let theirs = Foreign::open(&dsn, &cx.application_name()).await.map_err(source::failure)?;
    cx.fault("held")?;
    let print = theirs.side().fingerprint().await.map_err(source::failure)?;
    let new = fresh(core, cx, making, &theirs).await?;
    let total = theirs.side().bytes().await.map_err(source::failure)?;
    let copied = watched(cx, &new, total, copy(cx, making, theirs.side(), &new, &print)).await;
    let done = match copied {
        Err(failure) if failure.class != Class::Fenced && failure.code != CANCELLED => {
            Err(explained(&theirs, &print, failure).await)
        }
        other => other,
    };
    done?;
    theirs.close().await;
    new.close().await;
    Ok(as_of)
}

/// Empty, whatever was there of it: with the source's encoding and locale, and what it has of extensions.
async fn fresh(core: &Core, cx: &Cx, making: &Making, theirs: &Foreign) -> Result<Side, Failure> {
    let (name, server, old) = (making.opaque().database, &making.server, theirs.side());
    let admin = hands::admin(core, cx, server, None).await?;
    cx.still_mine().await?;
    admin.drop_database(&name).await.map_err(hands::failure)?;
    cx.fault("emptied")?;
    admin.create_like(&old.admin, old.database(), &name).await.map_err(hands::failure)?;
    cx.fault("database")?;
    let inside = hands::admin_of_new(core, cx, server, &name).await?;
    let manifest = &making.template.manifest;
    let settings: Vec<(&str, &str)> =
        manifest.settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let own = OwnDatabase {
        from_role: None,
        settings: &settings,
        tenant_owns_database: manifest.database_owner == DatabaseOwner::Tenant,
    };
    inside.own_database(&roles(making), &own).await.map_err(hands::failure)?;
    inside.follow_public(&old.admin).await.map_err(hands::failure)?;
    note::write_in(core, &inside, making).await?;
    inside.close().await;
    cx.fault("owned")?;
    let password = declare::open(&core.sealer, &making.maintenance)
        .map_err(|error| Failure::stuck("sealed_secret_unreadable", error))?;
    let maintenance = hands::dsn_for(&core.sealer, server, &name, &making.maintenance.role, password)?;
    let admin = hands::dsn(&core.sealer, server)?;
    let new = Side::open(&admin, &maintenance, &name, &making.row.owner, &cx.application_name()).await;
    let new = new.map_err(hands::failure)?;
    new.stay().await.map_err(hands::failure)?;
    cx.still_mine().await?;
    let plan = core.plan(&making.row.plan);
    let granted = look::granted(plan, &making.template);
    for extension in new.prepare_granted_extensions(old, &granted).await.map_err(hands::failure)? {
        tracing::info!(tenant = making.row.tenant_id, extension, "in another version here");
    }
    make::extensions(core, &making.row.plan, &new.admin).await?;
    Ok(new)
}

/// From here on, only the tenant's own maintenance login touches anything in it.
async fn copy(cx: &Cx, making: &Making, old: &Side, new: &Side, print: &Fingerprint) -> Result<(), Failure> {
    let wanted = wanted(print, &new.fingerprint().await.map_err(hands::failure)?);
    let binary = find_pg_dump(&[], old.admin.version_num()).map_err(hands::failure)?;
    new.carry_schema(old, &binary, Part::PreData).await.map_err(carried)?;
    cx.fault("schema")?;
    new.stream(old, SESSIONS).await.map_err(carried)?;
    cx.fault("rows")?;
    new.carry_schema(old, &binary, Part::PostData).await.map_err(carried)?;
    let sequences = old.sequences().await.map_err(source::failure)?;
    new.set_sequences(&sequences).await.map_err(carried)?;
    new.refresh_views(old).await.map_err(carried)?;
    let waking = old.waking_triggers().await.map_err(source::failure)?;
    new.wake_triggers(&waking).await.map_err(carried)?;
    new.analyze().await.map_err(carried)?;
    cx.fault("built")?;
    let unlike = new.fingerprint().await.map_err(hands::failure)?.unlike(&wanted);
    if !unlike.is_empty() {
        let message = format!("not the same here as at the source: {}", named(&unlike));
        return Err(Failure::permanent("schema_differs", message));
    }
    let forced = new.forced_tables().await.map_err(hands::failure)?;
    new.lift_force(&forced).await.map_err(carried)?;
    let unlike = new.unlike_at(old, &sequences, ROWS, SESSIONS).await.map_err(carried)?;
    new.force_again(&forced).await.map_err(carried)?;
    match unlike.is_empty() {
        true => Ok(()),
        false => {
            let server = &making.server.id;
            let message = format!("not the same on server {server} as at the source: {}", named(&unlike));
            Err(Failure::permanent("digests_differ", message))
        }
    }
}

/// What is to be here: what the source has, without what is left out, and what was made before it.
fn wanted(print: &Fingerprint, before: &Fingerprint) -> Fingerprint {
    let mut wanted = print.clone();
    wanted.shape.retain(|what, _| !what.starts_with("publication "));
    for (what, shape) in &before.shape {
        wanted.shape.entry(what.clone()).or_insert_with(|| shape.clone());
    }
    wanted
}

/// Of either side, and nobody's here to mend.
fn carried(error: freehold_drivers::server::sql::SqlError) -> Failure {
    source::never_parked(hands::failure(error))
}

const CANCELLED: &str = "cancelled";

/// Does this, shows how much has come, and hears whoever asks for its end.
async fn watched<T>(
    cx: &Cx,
    new: &Side,
    total: u64,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            () = sleep(LOOK) => {
                if cx.cancel_requested().await? {
                    return Err(Failure::permanent(CANCELLED, "somebody asked for its end"));
                }
                let done = new.bytes().await.map_err(hands::failure)?;
                cx.progress(done.min(total), total, "bytes").await?;
            }
        }
    }
}

/// What went wrong because the source went, or was changed in the middle, may go well the next time.
async fn explained(theirs: &Foreign, print: &Fingerprint, failure: Failure) -> Failure {
    if let Err(error) = theirs.still_held().await {
        return Failure::transient("source_unreachable", format!("{}; the source: {error}", failure.message));
    }
    if failure.class != Class::Permanent {
        return failure;
    }
    match theirs.side().fingerprint().await {
        Ok(now) if now.changed_since(print).is_empty() => failure,
        Ok(now) => {
            let changed = named(&now.changed_since(print));
            Failure::transient(
                "source_changed",
                format!("{}; changed at the source meanwhile: {changed}", failure.message),
            )
        }
        Err(error) => source::failure(error),
    }
}

/// The first few of them.
fn named(names: &[String]) -> String {
    let more = names.len().saturating_sub(NAMED);
    let first = names.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    if more == 0 { first } else { format!("{first} and {more} more") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn import_wants_what_the_source_has_and_what_was_made_for_the_plan() {
        let of = |names: &[&str]| Fingerprint {
            shape: names.iter().map(|name| ((*name).to_owned(), "source".to_owned())).collect(),
            ..Fingerprint::default()
        };
        let before =
            Fingerprint { shape: [("extension citext".to_owned(), String::new())].into(), ..Fingerprint::default() };
        let wanted = wanted(&of(&["table t", "publication p"]), &before);
        assert_eq!(wanted.shape.keys().collect::<Vec<_>>(), ["extension citext", "table t"]);
    }
}
