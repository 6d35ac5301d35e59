//! Makes one declared database on its server: roles, database, ownership, and a login that proves it.
//! Shared by stock (`stock.build`) and by tenants that found none (`tenant.create`). Every verb may run twice.

use std::sync::Arc;

use freehold_api::plan::Plan;
use freehold_api::template::{DatabaseOwner, Grants, Template};
use freehold_drivers::server::sql::{self, Admin, CreateDatabase, Limits, OwnDatabase, Roles};
use freehold_durable::{Cx, Failure};
use uuid::Uuid;

use super::declare::{self, MAINTENANCE, TENANT};
use super::store::{self, DatabaseRow, LoginRow};
use crate::plane::Core;
use crate::schema::store::{self as templates, BuildRow};
use crate::server::hands;
use crate::server::store::ServerRow;

/// A database and everything about it that making it needs.
pub struct Making {
    pub row: DatabaseRow,
    pub server: ServerRow,
    pub template: Template,
    pub login: LoginRow,
    pub maintenance: LoginRow,
}

impl Making {
    pub async fn find(core: &Core, id: Uuid) -> Result<Self, Failure> {
        let gone =
            |what: &str| Failure::stuck("store_incomplete", format!("{what} of database {id} is not in the store"));
        let row = store::find(&core.store, id).await?.ok_or_else(|| gone("the row"))?;
        let server = hands::server(core, &row.server_id).await?;
        let files = templates::version(&core.store, &row.template, &row.template_version)
            .await?
            .ok_or_else(|| gone("the template"))?;
        let name = row.template.parse().map_err(|_| gone("the template"))?;
        let template = Template::parse(name, files.files.0)
            .map_err(|bad| Failure::permanent("template_invalid", bad.to_string()))?;
        let mut logins = store::logins(&core.store, id).await?;
        let mut take = |purpose: &str| {
            logins.iter().position(|login| login.purpose == purpose).map(|index| logins.swap_remove(index))
        };
        let login = take(TENANT).ok_or_else(|| gone("the login"))?;
        let maintenance = take(MAINTENANCE).ok_or_else(|| gone("the maintenance login"))?;
        Ok(Self { row, server, template, login, maintenance })
    }

    pub fn roles(&self) -> Roles {
        roles(&self.row, &self.login.role, &self.maintenance.role, &self.template)
    }

    /// The template's database on this server, once it is built.
    pub async fn build(&self, core: &Core) -> Result<Option<BuildRow>, Failure> {
        let build =
            templates::find_build(&core.store, &self.row.server_id, &self.row.template, &self.row.template_version)
                .await?;
        match build {
            Some(build) if build.state == "failed" => {
                let why = build.error.unwrap_or_default();
                Err(Failure::permanent(
                    "template_failed",
                    format!("template {} cannot be built on server {}: {why}", build.name, build.server_id),
                ))
            }
            Some(build) if build.state == "ready" => Ok(Some(build)),
            Some(_) | None => Ok(None),
        }
    }
}

/// The roles of a database that is there, whatever its template says now.
pub fn roles(row: &DatabaseRow, login: &str, maintenance: &str, template: &Template) -> Roles {
    let extra = template.manifest.roles.iter();
    Roles {
        owner: row.owner.clone(),
        login: login.to_owned(),
        maintenance: maintenance.to_owned(),
        extra: extra
            .map(|role| sql::ExtraRole {
                name: format!("{}_{}", row.owner, role.name),
                write: role.grants == Grants::Write,
            })
            .collect(),
    }
}

pub fn limits(plan: &Plan) -> Limits {
    Limits {
        connection_limit: i32::try_from(plan.connection_limit).unwrap_or(i32::MAX),
        statement_timeout_ms: plan.statement_timeout_ms,
        idle_in_transaction_timeout_ms: plan.idle_in_transaction_timeout_ms,
        work_mem_kb: plan.work_mem_kb,
        temp_file_limit_kb: plan.temp_file_limit_kb,
    }
}

/// Roles, then the database as a copy of the template's.
pub async fn create(core: &Core, cx: &Cx, making: &Making, build: &BuildRow) -> Result<(), Failure> {
    let admin = hands::admin(core, cx, &making.server, None).await?;
    let limits = limits(core.plan(&making.row.plan));
    let roles = making.roles();
    admin
        .ensure_roles(&roles, &making.login.verifier, &making.maintenance.verifier, &limits)
        .await
        .map_err(hands::failure)?;
    cx.fault("roles")?;
    // Two at a time: more are not faster, and each makes the others' commits wait.
    let turn = core.copying.clone().acquire_owned().await;
    cx.still_mine().await?;
    let options = CreateDatabase { template: Some(&build.database), ..CreateDatabase::default() };
    let created = admin.ensure_database(&making.row.database, &options).await.map_err(hands::failure);
    drop(turn);
    created?;
    Ok(())
}

/// Hands the copy to its owner, and closes it to everybody else.
pub async fn own(core: &Core, cx: &Cx, making: &Making, build: &BuildRow) -> Result<(), Failure> {
    let inside = hands::admin(core, cx, &making.server, Some(&making.row.database)).await?;
    let manifest = &making.template.manifest;
    let settings: Vec<(&str, &str)> =
        manifest.settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let own = OwnDatabase {
        from_role: Some(&build.owner),
        settings: &settings,
        tenant_owns_database: manifest.database_owner == DatabaseOwner::Tenant,
    };
    inside.own_database(&making.roles(), &own).await.map_err(hands::failure)?;
    cx.fault("owned")?;
    extensions(core, &making.row.plan, &inside).await
}

/// What the plan adds to the template's extensions.
pub async fn extensions(core: &Core, plan: &str, inside: &Admin) -> Result<(), Failure> {
    for extension in &core.plan(plan).extensions {
        inside.ensure_extension(extension, None).await.map_err(|error| {
            let failure = hands::failure(error);
            Failure { message: format!("extension {extension} of plan {plan}: {}", failure.message), ..failure }
        })?;
    }
    Ok(())
}

/// Logs in as the tenant will, where the tenant will, and looks who it is.
pub async fn probe(core: &Core, making: &Making) -> Result<(), Failure> {
    let password = declare::open(&core.sealer, &making.login)
        .map_err(|error| Failure::stuck("sealed_secret_unreadable", error))?;
    let dsn = hands::dsn_for(&core.sealer, &making.server, &making.row.database, &making.login.role, password)?;
    let dsn = dsn.with_host(&making.server.tenant_host, u16::try_from(making.server.tenant_port).unwrap_or(5432));
    sql::assert_login(&dsn, &making.row.database, &making.row.owner).await.map_err(|error| {
        let failure = hands::failure(error);
        // The address, the version or pg_hba.conf: nothing that undoing would mend.
        Failure { message: format!("log in as the tenant would: {}", failure.message), ..failure }
    })
}

/// Everything of it goes. Sessions are ended first.
pub async fn remove(core: &Core, cx: &Cx, making: &Making) -> Result<(), Failure> {
    let admin = hands::admin(core, cx, &making.server, None).await?;
    admin.drop_database(&making.row.database).await.map_err(hands::failure)?;
    cx.fault("database_dropped")?;
    let roles = making.roles();
    let mut names: Vec<&str> = vec![&roles.login, &roles.maintenance];
    names.extend(roles.extra.iter().map(|role| role.name.as_str()));
    names.push(&roles.owner);
    admin.drop_roles(&names).await.map_err(hands::failure)
}

/// What bounds copies in this process.
pub fn turns() -> Arc<tokio::sync::Semaphore> {
    Arc::new(tokio::sync::Semaphore::new(2))
}
