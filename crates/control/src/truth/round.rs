//! One server's round: look, compare, repair; then what is there that nobody knows.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use freehold_api::template::{DatabaseOwner, Template};
use freehold_drivers::server::sql::{self, Admin, Observed, SqlErrorKind};
use freehold_durable::{Failure, LoopCx};
use serde_json::json;
use uuid::Uuid;

use super::compare::{Expected, Seen, compare, compare_retiring};
use super::repair::{Case, PATIENCE, repair};
use super::stray::{self, Kind, Stray};
use super::{inside, kept, store};
use crate::plane::Core;
use crate::schema::store as templates;
use crate::server::hands;
use crate::server::store::ServerRow;
use crate::stock::declare::{self, MAINTENANCE, RETIRING, TENANT};
use crate::stock::make;
use crate::stock::store::{self as databases, DatabaseRow, LoginRow};

/// Logins tried per server and round where verifiers cannot be read: a login costs both sides milliseconds of CPU.
const PROBES: usize = 20;
/// How long the stored credential is tried.
const LOGIN: Duration = Duration::from_secs(10);

pub async fn of(core: &Core, cx: &LoopCx, server: &ServerRow) -> Result<(), Failure> {
    cx.still_mine().await?;
    let admin = hands::admin(core, cx, server, None).await?;
    // A tenant that holds its own role or tables locked keeps nobody else waiting.
    admin.wait_for_locks_at_most(PATIENCE).await.map_err(hands::failure)?;
    let observed = compared(core, cx, server, &admin).await?;
    kept::refuse(core, cx, server, &admin, &observed).await?;
    templates_that_went(core, cx, server, &admin, &observed).await?;
    let strays = strays(core, server, &admin, &observed).await?;
    for (kind, name) in store::record_strays(&core.store, &server.id, &strays).await? {
        tracing::warn!(server = server.id, kind, name, "a ghost: made by Freehold, and not in its store");
    }
    inside::look(core, cx, server, &admin, &observed).await
}

/// What the server holds of what the store wants; answers what was seen.
async fn compared(core: &Core, cx: &LoopCx, server: &ServerRow, admin: &Admin) -> Result<Observed, Failure> {
    // What is made or claimed after this instant may be in the store and not in the look.
    let before = databases::now(&core.store).await?;
    let observed = admin.observe_all().await.map_err(hands::failure)?;
    if observed.databases.iter().any(|database| database.public_connect && database.allow_connections) {
        // Somebody made a database, or opened one. What this admin may not close is among the server's findings.
        admin.secure_server().await.map_err(hands::failure)?;
    }
    let seen = Seen::of(&observed);
    let rows = databases::of_server(&core.store, &server.id, before).await?;
    let mut logins: BTreeMap<Uuid, Vec<LoginRow>> = BTreeMap::new();
    for login in databases::logins_of_server(&core.store, &server.id).await? {
        logins.entry(login.database_id).or_default().push(login);
    }
    let of_rows = rows.iter().map(|row| row.owner.as_str());
    let neighbours: HashSet<&str> = of_rows.chain(logins.values().flatten().map(|login| login.role.as_str())).collect();
    let refused = databases::refused_tenants(&core.store, &server.id).await?;
    let mut known: BTreeMap<(String, String), Option<Template>> = BTreeMap::new();
    let (mut straight, mut probed) = (Vec::new(), Vec::new());
    for row in &rows {
        let of_row = logins.get(&row.id).map(Vec::as_slice).unwrap_or_default();
        let find = |purpose: &str| of_row.iter().find(|login| login.purpose == purpose);
        let (Some(login), Some(maintenance)) = (find(TENANT), find(MAINTENANCE)) else { continue };
        let key = (row.template.clone(), row.template_version.clone());
        if !known.contains_key(&key) {
            known.insert(key.clone(), template(core, row).await?);
        }
        let Some(Some(template)) = known.get(&key) else { continue };
        if row.tenant_id.as_ref().is_some_and(|tenant| refused.in_flight.contains(tenant)) {
            continue;
        }
        let can_login = row.tenant_id.as_ref().is_none_or(|tenant| !refused.refused.contains(tenant));
        let roles = make::roles(row, &login.role, &maintenance.role, template);
        let limits = make::limits(core.plan(&row.plan));
        let extra: Vec<String> = roles.extra.iter().map(|role| role.name.clone()).collect();
        let retiring = find(RETIRING);
        let beside: Vec<&str> = retiring.iter().map(|login| login.role.as_str()).collect();
        let expected = Expected {
            login: &login.role,
            owner: &row.owner,
            maintenance: &maintenance.role,
            verifier: &login.verifier,
            maintenance_verifier: &maintenance.verifier,
            beside: &beside,
            database: &row.database,
            extra: &extra,
            limits: &limits,
            can_login,
            tenant_owns_database: template.manifest.database_owner == DatabaseOwner::Tenant,
            neighbours: &neighbours,
        };
        let mut cases = vec![(login, expected, roles)];
        if let Some(retiring) = retiring {
            let (expected, roles) = (&cases[0].1, &cases[0].2);
            let can_login = can_login && retiring.refused_at.is_none();
            let expected = Expected { login: &retiring.role, verifier: &retiring.verifier, can_login, ..*expected };
            let roles = sql::Roles { login: retiring.role.clone(), ..roles.clone() };
            cases.push((retiring, expected, roles));
        }
        let mut is_straight = true;
        for (login, expected, roles) in &cases {
            let mut drift = match login.purpose.as_str() {
                RETIRING => compare_retiring(expected, &seen),
                _ => compare(expected, &seen),
            };
            if server.superuser == Some(false) && expected.can_login && drift.is_none() && probed.len() < PROBES {
                probed.push(row.id);
                if is_locked_out(core, server, row, login).await {
                    drift.login.push("verifier_changed");
                }
            }
            if drift.is_none() {
                continue;
            }
            is_straight = false;
            cx.still_mine().await?;
            // One tenant's trouble stays its own: whoever resists is tried again, after everybody else.
            let case = Case { server, row, login, expected, roles, drift: &drift };
            if let Err(failure) = repair(core, cx, admin, &case).await {
                if admin.is_closed() {
                    return Err(failure);
                }
                tracing::warn!(server = server.id, database = row.database, tenant = row.tenant_id, %failure, "not repaired; tried again later");
                databases::record_drift(&core.store, &[row.id], &json!(drift.codes())).await?;
                // What was found of the first is not to be written over.
                break;
            }
        }
        if is_straight {
            straight.push(row.id);
        }
    }
    databases::record_drift(&core.store, &straight, &json!([])).await?;
    databases::record_probed(&core.store, &probed).await?;
    Ok(observed)
}

/// A template's database that is gone is built anew: stock is copied from it.
async fn templates_that_went(
    core: &Core,
    cx: &LoopCx,
    server: &ServerRow,
    admin: &Admin,
    observed: &Observed,
) -> Result<(), Failure> {
    let there: HashSet<&str> = observed.databases.iter().map(|database| database.name.as_str()).collect();
    for build in store::ready_builds(&core.store, &server.id).await? {
        if there.contains(build.as_str()) || admin.database_exists(&build).await.map_err(hands::failure)? {
            continue;
        }
        cx.still_mine().await?;
        if store::forget_ready_build(&core.store, &server.id, &build).await? {
            tracing::warn!(server = server.id, database = build, "the template's database is gone: it is built anew");
            metrics::counter!("freehold_drift_total", "server" => server.id.clone()).increment(1);
            cx.engine().wake("stock");
        }
    }
    Ok(())
}

/// Asked twice on both sides, so that what was made, renamed or dropped meanwhile is none.
async fn strays(core: &Core, server: &ServerRow, admin: &Admin, observed: &Observed) -> Result<Vec<Stray>, Failure> {
    let known = store::known(core, server).await?;
    let first = stray::find(observed, &known);
    if first.is_empty() {
        return Ok(first);
    }
    let of = |kind: Kind| first.iter().filter(move |stray| stray.kind == kind).map(|stray| stray.name.as_str());
    let (roles, found): (Vec<&str>, Vec<&str>) = (of(Kind::Role).collect(), of(Kind::Database).collect());
    let again = admin.observe(&roles, &found).await.map_err(hands::failure)?;
    let known = store::known(core, server).await?;
    Ok(stray::find(&again, &known))
}

/// An admin that may not read verifiers finds a changed password by trying the stored one.
async fn is_locked_out(core: &Core, server: &ServerRow, row: &DatabaseRow, login: &LoginRow) -> bool {
    let Ok(password) = declare::open(&core.sealer, login) else { return false };
    let Ok(dsn) = hands::dsn_for(&core.sealer, server, &row.database, &login.role, password) else {
        return false;
    };
    let found = tokio::time::timeout(LOGIN, sql::assert_login(&dsn, &row.database, &row.owner)).await;
    matches!(found, Ok(Err(error)) if error.kind == SqlErrorKind::AuthFailed)
}

async fn template(core: &Core, row: &DatabaseRow) -> Result<Option<Template>, Failure> {
    let found = templates::version(&core.store, &row.template, &row.template_version).await?;
    Ok(found.and_then(|found| Template::parse(row.template.parse().ok()?, found.files.0).ok()))
}
