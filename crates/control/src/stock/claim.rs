//! Gives a tenant its database in the transaction that creates the tenant: one from stock when there is one,
//! else a slot on the best server, to be made.

use freehold_api::plan::Plan;
use freehold_api::problem::Code;
use freehold_api::template::{Names, Template};
use sqlx::PgConnection;
use uuid::Uuid;

use super::declare::{self, Minted, Wanted};
use super::store;
use crate::http::problem::{Refused, constraint};
use crate::plane::{Answer, Core};
use crate::server::store as servers;
use crate::tenant::placement::{self, Want};

pub struct Given {
    pub database: Uuid,
    pub server: String,
    pub missing: Vec<String>,
    /// What it and its login are called now, when the template calls them otherwise.
    pub rename_from: Option<Names>,
    /// Whether its roles carry the limits of another plan.
    pub other_plan: bool,
    /// Whether nothing of it is there yet.
    pub to_make: bool,
}

pub async fn claim(
    core: &Core,
    tx: &mut PgConnection,
    tenant: &str,
    region: Option<&str>,
    plan: &Plan,
    template: &Template,
    names: Option<&Names>,
) -> Answer<Given> {
    let fleet = core.fleet.servers(&core.store).await?;
    let want = Want { kind: plan.server, region, template };
    let ranked = placement::rank(&want, &fleet);
    let plan_name = plan.name.as_str();
    let claimed = store::claim(tx, tenant, template.name.as_str(), &template.version, plan_name, &ranked).await?;
    if let Some(claimed) = claimed {
        let mut rename_from = None;
        if let Some(names) = names {
            store::set_names(tx, claimed.id, &names.database, claimed.login_id, &names.login)
                .await
                .map_err(|e| taken(e, names))?;
            rename_from = Some(Names { database: claimed.database, login: claimed.role });
        }
        let other_plan = claimed.plan != plan_name;
        if other_plan {
            store::set_plan(tx, claimed.id, plan_name).await?;
        }
        return Ok(Given {
            database: claimed.id,
            server: claimed.server_id,
            missing: claimed.missing,
            rename_from,
            other_plan,
            to_make: false,
        });
    }
    let minted = declare::mint(core, template.manifest.password.length).await;
    make_room(core, tx, tenant, plan, template, names, &want, minted).await
}

/// Without stock a create is only slower: it takes a free slot, or the slot of somebody else's stock.
#[expect(clippy::too_many_arguments, reason = "one caller; a struct would be named after the call")]
async fn make_room(
    core: &Core,
    tx: &mut PgConnection,
    tenant: &str,
    plan: &Plan,
    template: &Template,
    names: Option<&Names>,
    want: &Want<'_>,
    minted: Minted,
) -> Answer<Given> {
    // Looked at afresh: a server may have come, gone or emptied since the snapshot.
    core.fleet.forget().await;
    let fleet = core.fleet.servers(&core.store).await?;
    for server in placement::rank(want, &fleet) {
        if servers::lock_free_slots(tx, &server).await? <= 0 && !store::displace(tx, &server).await? {
            continue;
        }
        let wanted =
            Wanted { server: &server, template, plan: plan.name.as_str(), tenant: Some(tenant), names: names.cloned() };
        let row = declare::declare(tx, &wanted, minted).await.map_err(|error| match names {
            Some(names) => taken(error, names),
            None => error.into(),
        })?;
        return Ok(Given {
            database: row.id,
            server,
            missing: Vec::new(),
            rename_from: None,
            other_plan: false,
            to_make: true,
        });
    }
    Err(placement::explain_refusal(want, &fleet))
}

fn taken(error: sqlx::Error, names: &Names) -> Refused {
    match constraint(&error) {
        Some("tenant_database_server_id_database_key") => Refused::new(
            Code::NameTaken,
            format!(
                "the template names the database {:?}, which another tenant has; choose another id",
                names.database
            ),
        ),
        Some("login_server_id_role_key") => Refused::new(
            Code::NameTaken,
            format!("the template names the login {:?}, which another tenant has; choose another id", names.login),
        ),
        _ => error.into(),
    }
}
