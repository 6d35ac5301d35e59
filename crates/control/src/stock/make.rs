//! Makes one declared database on its server: roles, database, ownership, and a login that proves it.
//! Shared by stock (`stock.build`) and by tenants that found none (`tenant.create`). Every verb may run twice.

use freehold_api::plan::Plan;
use freehold_api::template::{DatabaseOwner, Grants, Template};
use freehold_drivers::server::sql::{self, Admin, CreateDatabase, Limits, OwnDatabase, Roles, SqlError, SqlErrorKind};
use freehold_durable::{Cx, Failure};

use super::making::Making;
use super::store::DatabaseRow;
use super::{declare, note};
use crate::plane::Core;
use crate::schema::store::BuildRow;
use crate::server::{forget, hands};

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
    let admin = hands::come(core, cx, &making.server).await?;
    let limits = limits(core.plan(&making.row.plan));
    let names = making.opaque();
    let roles = roles(&making.row, &names.login, &making.maintenance.role, &making.template);
    admin
        .ensure_roles(&roles, &making.login.verifier, &making.maintenance.verifier, &limits)
        .await
        .map_err(hands::failure)?;
    cx.fault("roles")?;
    let turn = core.copying.take(&making.server.id, making.row.tenant_id.is_some()).await;
    cx.still_mine().await?;
    let options = CreateDatabase { template: Some(&build.database), ..CreateDatabase::default() };
    let created = admin.ensure_database(&names.database, &options).await.map_err(hands::failure);
    drop(turn);
    created?;
    hands::leave(core, &making.server, admin);
    Ok(())
}

/// Hands the copy to its owner, and closes it to everybody else.
pub async fn own(core: &Core, cx: &Cx, making: &Making, build: &BuildRow) -> Result<(), Failure> {
    let names = making.opaque();
    let inside = hands::admin_of_new(core, cx, &making.server, &names.database).await?;
    let manifest = &making.template.manifest;
    let settings: Vec<(&str, &str)> =
        manifest.settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let own = OwnDatabase {
        from_role: Some(&build.owner),
        settings: &settings,
        tenant_owns_database: manifest.database_owner == DatabaseOwner::Tenant,
    };
    let roles = roles(&making.row, &names.login, &making.maintenance.role, &making.template);
    inside.own_database(&roles, &own).await.map_err(hands::failure)?;
    cx.fault("owned")?;
    extensions(core, &making.row.plan, &inside).await?;
    note::write_in(core, &inside, making).await?;
    inside.forget_activity().await.map_err(hands::failure)?;
    cx.fault("made")
}

/// What the plan adds to the template's extensions, while the tenant has no credential yet.
pub async fn extensions(core: &Core, plan: &str, inside: &Admin) -> Result<(), Failure> {
    for extension in &core.plan(plan).extensions {
        let made = inside.ensure_extension(extension, None).await;
        made.map_err(|error| extension_failed(extension, plan, error))?;
    }
    Ok(())
}

/// The same where the tenant may have made what it liked.
pub async fn more_extensions(core: &Core, plan: &str, inside: &Admin) -> Result<(), Failure> {
    for extension in &core.plan(plan).extensions {
        let made = inside.add_extension(extension).await;
        made.map_err(|error| extension_failed(extension, plan, error))?;
    }
    Ok(())
}

fn extension_failed(extension: &str, plan: &str, error: SqlError) -> Failure {
    let failure = hands::failure(error);
    Failure { message: format!("extension {extension} of plan {plan}: {}", failure.message), ..failure }
}

/// Logs in as the tenant will, where the tenant will, and looks who it is.
pub async fn probe(core: &Core, making: &Making) -> Result<(), Failure> {
    let names = making.opaque();
    let password = declare::open(&core.sealer, &making.login)
        .map_err(|error| Failure::stuck("sealed_secret_unreadable", error))?;
    let dsn = hands::dsn_for(&core.sealer, &making.server, &names.database, &names.login, password)?;
    let port = u16::try_from(making.server.tenant_port).unwrap_or(5432);
    let dsn = dsn.with_host(&making.server.tenant_host, port);
    sql::assert_login(&dsn, &names.database, &making.row.owner).await.map_err(|error| {
        let failure = hands::failure(error);
        // The address, the version or pg_hba.conf: nothing that undoing would mend.
        Failure { message: format!("log in as the tenant would: {}", failure.message), ..failure }
    })
}

/// Gives it the names of its template's pattern. A name that somebody else has on the server stays his.
pub async fn rename(core: &Core, cx: &Cx, making: &Making) -> Result<(), Failure> {
    let admin = hands::admin(core, cx, &making.server, None).await?;
    let taken = foreign(&admin, making).await?;
    if let Some(name) = taken.first() {
        let detail = format!(
            "the template's pattern gives the name {name:?}, which something else on server {} has",
            making.server.id
        );
        return Err(Failure::permanent("name_taken", detail));
    }
    cx.fault("name_free")?;
    let opaque = making.opaque();
    let from = sql::Names { database: &opaque.database, login: &opaque.login };
    let to = sql::Names { database: &making.row.database, login: &making.login.role };
    admin.rename(from, to).await.map_err(|error| match error.kind {
        SqlErrorKind::AlreadyExists => Failure::permanent("name_taken", hands::chain(&error)),
        _ => hands::failure(error),
    })
}

/// Everything of it goes, under the names it was made with and, where they are provably its own, those of the pattern.
/// Sessions are ended first.
pub async fn remove(core: &Core, cx: &Cx, making: &Making) -> Result<(), Failure> {
    let admin = hands::admin(core, cx, &making.server, None).await?;
    let opaque = making.opaque();
    let foreign = foreign(&admin, making).await?;
    if !cx.undoing
        && let Some(name) = foreign.first()
    {
        let detail = format!(
            "{name:?} on server {} is not this tenant's any more; look before anything is dropped",
            making.server.id
        );
        return Err(Failure::stuck("not_ours", detail));
    }
    let ours = |name: &&str| !foreign.iter().any(|theirs| theirs == name);
    let mut databases = vec![opaque.database.as_str(), &making.row.database];
    databases.dedup();
    let mut logins = vec![opaque.login.as_str(), &making.login.role];
    logins.dedup();
    logins.extend(making.beside.iter().map(|login| login.role.as_str()));
    logins.retain(ours);
    logins.push(&making.maintenance.role);
    if making.row.tenant_id.is_some() {
        // From elsewhere than its own database a tenant could still hold that in place.
        admin.refuse_logins(&logins).await.map_err(hands::failure)?;
    }
    for database in databases.into_iter().filter(ours) {
        admin.drop_database(database).await.map_err(hands::failure)?;
    }
    cx.fault("database_dropped")?;
    let roles = roles(&making.row, &making.login.role, &making.maintenance.role, &making.template);
    let mut names = logins;
    names.extend(roles.extra.iter().map(|role| role.name.as_str()));
    names.push(&roles.owner);
    forget::drop_roles(core, cx, &making.server, &admin, &names).await
}

/// Of the names that the pattern gives, to the logins of a rotation too: those that exist on the server and are not this
/// tenant's. A login is the tenant's if it is a member of its owner role, a database if that role owns it or is granted to
/// connect; both names of random characters, which nobody else could have meant.
async fn foreign(admin: &Admin, making: &Making) -> Result<Vec<String>, Failure> {
    if !making.is_renamed() {
        return Ok(Vec::new());
    }
    let owner = &making.row.owner;
    let (database, login) = (making.row.database.as_str(), making.login.role.as_str());
    let logins: Vec<&str> = making.beside.iter().map(|login| login.role.as_str()).chain([login]).collect();
    let observed = admin.observe(&logins, &[database]).await.map_err(hands::failure)?;
    let roles = observed.roles.iter().filter(|role| !role.member_of.contains(owner)).map(|role| &role.name);
    let databases = observed.databases.iter().filter(|found| found.owner != *owner && !found.connect.contains(owner));
    Ok(roles.chain(databases.map(|database| &database.name)).cloned().collect())
}
