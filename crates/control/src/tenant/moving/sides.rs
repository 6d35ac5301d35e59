//! A tenant in the middle of a move, and its two servers with all that a step needs there.

use std::sync::Arc;
use std::time::Duration;

use freehold_api::tenant::TenantState;
use freehold_drivers::pooler::Verifier;
use freehold_drivers::server::sql::moving::{Link, Login, Side, Tenant};
use freehold_drivers::server::sql::{Admin, Dsn};
use freehold_durable::{Cx, Failure};

use super::How;
use super::store::{self, MoveRow};
use crate::plane::Core;
use crate::server::hands;
use crate::server::store::ServerRow;
use crate::stock::making::Making;
use crate::stock::{declare, make};
use crate::tenant::{fence, store as tenants};

/// What is done while nobody waits; then it is tried again.
const UNHURRIED: Duration = Duration::from_secs(600);

pub struct Moving {
    pub row: MoveRow,
    pub making: Making,
    /// The two servers of the way there, whoever serves.
    pub from: Arc<ServerRow>,
    pub to: Arc<ServerRow>,
    pub tenant: Tenant,
    /// Whether its logins may come in where it is served. Else nobody waits for anything: it is suspended.
    pub admitted: bool,
    pub there: Link,
    pub back: Link,
}

impl Moving {
    /// None: nothing of a move is on record.
    pub async fn look(core: &Core, cx: &Cx) -> Result<Option<Self>, Failure> {
        let id = fence::tenant(cx)?;
        let Some(row) = store::find_settled(&core.store, &id).await? else { return Ok(None) };
        let gone =
            || Failure::stuck("store_incomplete", format!("tenant {id} is in the middle of a move, and is gone"));
        let found = tenants::find(&core.store, &id).await?.ok_or_else(gone)?;
        let admitted = match found.state() {
            TenantState::Active => true,
            TenantState::Creating | TenantState::Failed | TenantState::Suspended | TenantState::Deleted => false,
        };
        let making = Making::find(core, row.database_id).await?;
        let server = |id: &str| match making.server.id == id {
            true => Some(making.server.clone()),
            false => None,
        };
        let from = match server(&row.from_server) {
            Some(server) => server,
            None => Arc::new(hands::server(core, &row.from_server).await?),
        };
        let to = match server(&row.to_server) {
            Some(server) => server,
            None => Arc::new(hands::server(core, &row.to_server).await?),
        };
        let tenant = tenant(&making)?;
        let name = row.id.simple().to_string();
        let bad = |error: freehold_drivers::server::sql::moving::BadLink| Failure::stuck("bad_name", error.to_string());
        let (there, back) = (Link::there(&name).map_err(bad)?, Link::back(&name).map_err(bad)?);
        Ok(Some(Self { row, making, from, to, tenant, admitted, there, back }))
    }

    pub async fn find(core: &Core, cx: &Cx) -> Result<Self, Failure> {
        let missing = || Failure::stuck("store_incomplete", "nothing of the move is in the store");
        Self::look(core, cx).await?.ok_or_else(missing)
    }

    /// What makes the target ready would shut its logins out.
    pub fn require_not_flipped(&self) -> Result<(), Failure> {
        match self.row.is_flipped() {
            false => Ok(()),
            true => {
                Err(Failure::stuck("store_incomplete", "the target serves already, and the step says that it does not"))
            }
        }
    }

    /// Who serves, by the store, and the one that does not.
    pub fn serving(&self) -> (&Arc<ServerRow>, &Arc<ServerRow>) {
        match self.row.is_flipped() {
            true => (&self.to, &self.from),
            false => (&self.from, &self.to),
        }
    }

    /// Nobody waits for longer, where there is somebody who waits.
    pub fn within(&self, how: &How) -> Duration {
        match self.admitted {
            true => how.within(),
            false => UNHURRIED,
        }
    }

    /// Where nobody is let in yet: its logins as this plan has them.
    pub async fn limit(&self, admin: &Admin, plan: &str, core: &Core) -> Result<(), Failure> {
        let limits = make::limits(core.plan(plan));
        for login in self.tenant.login_names() {
            admin.apply_limits(login, &limits).await.map_err(hands::failure)?;
        }
        Ok(())
    }

    pub async fn source(&self, core: &Core, cx: &Cx) -> Result<Side, Failure> {
        self.open(core, cx, &self.from).await
    }

    pub async fn target(&self, core: &Core, cx: &Cx) -> Result<Side, Failure> {
        self.open(core, cx, &self.to).await
    }

    /// The side that the tenant is on, and that one alone.
    pub async fn serves(&self, core: &Core, cx: &Cx) -> Result<Side, Failure> {
        self.open(core, cx, self.serving().0).await
    }

    pub async fn both(&self, core: &Core, cx: &Cx) -> Result<(Side, Side), Failure> {
        tokio::try_join!(self.source(core, cx), self.target(core, cx))
    }

    async fn open(&self, core: &Core, cx: &Cx, server: &ServerRow) -> Result<Side, Failure> {
        let login = &self.making.maintenance;
        // The same cluster as ever, and nobody of a lower epoch in it.
        let home = hands::admin(core, cx, server, None).await?;
        // Whoever suspends a tenant refuses this one as well; it goes with the step (`own_login`).
        home.admit_if_refused(&login.role).await.map_err(hands::failure)?;
        home.close().await;
        let admin = hands::dsn(&core.sealer, server)?;
        let password = declare::open(&core.sealer, login).map_err(unreadable)?;
        let maintenance = hands::dsn_for(&core.sealer, server, &self.tenant.database, &login.role, password)?;
        let (database, owner) = (&self.tenant.database, &self.tenant.owner);
        let side = Side::open(&admin, &maintenance, database, owner, &cx.application_name()).await;
        let side = side.map_err(hands::failure)?;
        cx.still_mine().await?;
        Ok(side)
    }

    /// How the target reaches the source, as the reader of the way there; the other way round for the way back.
    pub fn reader(&self, core: &Core, link: &Link) -> Result<Dsn, Failure> {
        let (server, id, sealed) = match link == &self.there {
            true => (&self.from, self.row.there_login, &self.row.there_password),
            false => (&self.to, self.row.back_login, &self.row.back_password),
        };
        let opened = core.sealer.open_password(&declare::context(id, 1), sealed);
        let password = opened.map_err(|error| unreadable(format!("password of {}: {error}", link.reader())))?;
        let dsn = hands::dsn_for(&core.sealer, server, &self.tenant.database, &link.reader(), password)?;
        // Where tenants and poolers reach it: the admin's own way may be one that only this machine has.
        let port = u16::try_from(server.tenant_port).unwrap_or(5432);
        Ok(match server.tenant_host.contains(',') {
            true => dsn,
            false => dsn.with_host(&server.tenant_host, port),
        })
    }

    pub fn verifier(&self, link: &Link) -> Result<Verifier, Failure> {
        let text = if link == &self.there { &self.row.there_verifier } else { &self.row.back_verifier };
        parse(text, &link.reader())
    }
}

/// What servers know of it. A login that was retired stays one that nobody comes in by.
fn tenant(making: &Making) -> Result<Tenant, Failure> {
    let Making { row, login, maintenance, beside, template, .. } = making;
    let of = |login: &crate::stock::store::LoginRow| {
        Ok::<_, Failure>(Login { name: login.role.clone(), verifier: parse(&login.verifier, &login.role)? })
    };
    let (out, inside): (Vec<_>, Vec<_>) = beside.iter().partition(|login| login.refused_at.is_some());
    let mut logins = vec![of(login)?];
    for login in inside {
        logins.push(of(login)?);
    }
    let roles = make::roles(row, &login.role, &maintenance.role, template);
    let extra = roles.extra.into_iter().map(|role| role.name).chain(out.into_iter().map(|login| login.role.clone()));
    Ok(Tenant {
        database: row.database.clone(),
        owner: row.owner.clone(),
        maintenance: of(maintenance)?,
        logins,
        extra: extra.collect(),
    })
}

fn parse(text: &str, role: &str) -> Result<Verifier, Failure> {
    let bad = |error: freehold_drivers::pooler::NotAVerifier| {
        Failure::stuck("store_incomplete", format!("verifier of {role}: {error}"))
    };
    Verifier::parse(text).map_err(bad)
}

pub fn unreadable(error: impl Into<String>) -> Failure {
    Failure::stuck("sealed_secret_unreadable", error)
}
