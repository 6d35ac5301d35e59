//! A declared database and everything about it that making it needs, read in one statement: each step of each build asks.

use std::sync::Arc;

use freehold_api::template::{Names, Template};
use freehold_durable::Failure;
use uuid::Uuid;

use super::declare::{self, MAINTENANCE, TENANT};
use super::store::{self, DatabaseRow, LoginRow};
use crate::plane::Core;
use crate::schema::store::BuildRow;
use crate::server::hands;
use crate::server::store::ServerRow;

pub struct Making {
    pub row: DatabaseRow,
    pub server: Arc<ServerRow>,
    pub template: Arc<Template>,
    pub login: LoginRow,
    pub maintenance: LoginRow,
    /// While its credential is rotated: the one that comes, the one that goes.
    pub beside: Vec<LoginRow>,
    build: Option<BuildRow>,
}

impl Making {
    pub async fn find(core: &Core, id: Uuid) -> Result<Self, Failure> {
        Self::look(core, id).await?.ok_or_else(|| incomplete("the row", id))
    }

    /// None: there is no such database any more.
    pub async fn look(core: &Core, id: Uuid) -> Result<Option<Self>, Failure> {
        let Some(found) = store::making(&core.store, id).await? else { return Ok(None) };
        let (row, mut logins) = (found.row, found.logins);
        let gone = |what: &str| incomplete(what, id);
        let server = match core.fleet.known(&row.server_id, found.server_version).await {
            Some(server) => server,
            None => Arc::new(hands::server(core, &row.server_id).await?),
        };
        let template = core.catalog.version(&core.store, &row.template, &row.template_version).await?;
        let template = template.ok_or_else(|| gone("the template"))?;
        let mut take = |purpose: &str| {
            logins.iter().position(|login| login.purpose == purpose).map(|index| logins.swap_remove(index))
        };
        let login = take(TENANT).ok_or_else(|| gone("the login"))?;
        let maintenance = take(MAINTENANCE).ok_or_else(|| gone("the maintenance login"))?;
        Ok(Some(Self { row, server, template, login, maintenance, beside: logins, build: found.build }))
    }

    /// Under the names that it is made with; the tenant's come last, by [`super::make::rename`].
    pub fn opaque(&self) -> Names {
        declare::opaque_names(&self.row.owner)
    }

    /// Whether its template's pattern calls it something else than what it is made as.
    pub fn is_renamed(&self) -> bool {
        self.opaque().database != self.row.database
    }

    /// The template's database on this server, once it is built.
    pub fn build(&self) -> Result<Option<&BuildRow>, Failure> {
        match &self.build {
            Some(build) if build.state == "failed" => {
                let why = build.error.as_deref().unwrap_or_default();
                Err(Failure::permanent(
                    "template_failed",
                    format!("template {} cannot be built on server {}: {why}", build.name, build.server_id),
                ))
            }
            Some(build) if build.state == "ready" => Ok(Some(build)),
            Some(_) | None => Ok(None),
        }
    }

    /// The same where it was there when this database was declared.
    pub fn built(&self) -> Result<&BuildRow, Failure> {
        let gone = || Failure::permanent("template_outdated", "the template's version is not on this server any more");
        self.build()?.ok_or_else(gone)
    }
}

fn incomplete(what: &str, database: Uuid) -> Failure {
    Failure::stuck("store_incomplete", format!("{what} of database {database} is not in the store"))
}
