//! Gives a tenant its database in the transaction that creates the tenant: one from stock when there is one,
//! else a slot on the best server, to be made.

use freehold_api::plan::Plan;
use freehold_api::problem::Code;
use freehold_api::template::{Names, Template};
use freehold_api::tenant::Labels;
use sqlx::PgConnection;
use uuid::Uuid;

use super::declare::{self, Wanted};
use super::store;
use crate::http::problem::{Refused, constraint};
use crate::plane::{Answer, Core};
use crate::server::store::{self as servers, ServerWithUse};
use crate::tenant::connection::Access;
use crate::tenant::placement::{self, Want};

pub struct Given {
    pub database: Uuid,
    pub server: String,
    pub missing: Vec<String>,
    /// Whether it is called otherwise now than its template's pattern wants.
    pub renamed: bool,
    /// Whether its roles carry the limits of another plan.
    pub other_plan: bool,
    /// Whether nothing of it is there yet.
    pub to_make: bool,
    /// How it is reached as it is called now; None where nothing is there yet.
    pub access: Option<Access>,
}

/// Who asks, for what.
pub struct Claim<'a> {
    pub tenant: &'a str,
    pub region: Option<&'a str>,
    pub labels: &'a Labels,
    pub plan: &'a Plan,
    pub template: &'a Template,
    pub names: Option<&'a Names>,
    /// As of a moment ago; taken before the transaction, which holds a connection already.
    pub fleet: &'a [ServerWithUse],
}

impl Claim<'_> {
    pub fn want<'a>(&'a self, core: &'a Core) -> Want<'a> {
        Want {
            kind: self.plan.server,
            region: self.region,
            labels: self.labels,
            template: self.template,
            extensions: &self.plan.extensions,
            rules: &core.settings.placement,
        }
    }
}

/// None, and nothing done, where no server of this look at the fleet has a slot.
pub async fn claim(core: &Core, tx: &mut PgConnection, wanted: &Claim<'_>) -> Answer<Option<Given>> {
    let Claim { tenant, plan, template, names, .. } = *wanted;
    let ranked = placement::rank(&wanted.want(core), wanted.fleet);
    let stocked = placement::candidates(&ranked);
    let plan_name = plan.name.as_str();
    let claimed = store::claim(tx, tenant, template.name.as_str(), &template.version, plan_name, &stocked).await?;
    let Some(claimed) = claimed else { return make_room(core, tx, wanted, &ranked).await };
    if let Some(names) = names {
        let named = store::set_names(tx, claimed.id, &names.database, claimed.access.login, &names.login).await;
        named.map_err(|error| taken(error, names))?;
    }
    let other_plan = claimed.plan != plan_name;
    if other_plan {
        store::set_plan(tx, claimed.id, plan_name).await?;
    }
    Ok(Some(Given {
        database: claimed.id,
        server: claimed.server_id,
        missing: claimed.missing,
        renamed: names.is_some(),
        other_plan,
        to_make: false,
        access: Some(claimed.access),
    }))
}

/// Without stock a create is only slower: it takes a free slot, or the slot of somebody else's stock.
async fn make_room(
    core: &Core,
    tx: &mut PgConnection,
    wanted: &Claim<'_>,
    ranked: &[&ServerWithUse],
) -> Answer<Option<Given>> {
    let Claim { tenant, plan, template, names, .. } = *wanted;
    let minted = declare::mint(core, template.manifest.password.length).await;
    for server in ranked {
        let server = server.row.id.as_str();
        if !lock_slot(tx, server).await? {
            continue;
        }
        let plan = plan.name.as_str();
        let wanted = Wanted { server, template, plan, tenant: Some(tenant), names: names.cloned() };
        let row = declare::declare(tx, &wanted, minted).await.map_err(|error| match names {
            Some(names) => taken(error, names),
            None => error.into(),
        })?;
        return Ok(Some(Given {
            database: row.id,
            server: server.to_owned(),
            missing: Vec::new(),
            renamed: names.is_some(),
            other_plan: false,
            to_make: true,
            access: None,
        }));
    }
    Ok(None)
}

/// A free slot of the server, or that of stock that gives way: nobody else's until the transaction ends.
pub async fn lock_slot(tx: &mut PgConnection, server: &str) -> sqlx::Result<bool> {
    match servers::lock_free_slots(tx, server).await? {
        Some(free) if free > 0 => Ok(true),
        Some(0) => store::displace(tx, server).await,
        Some(_) | None => Ok(false),
    }
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
