//! Bends one database back. What only a restore could mend is reported, loudly, and left; what the store does not know is
//! never dropped.

use std::time::Duration;

use freehold_drivers::server::sql::{self, Admin};
use freehold_durable::{Failure, LoopCx};
use serde_json::json;

use super::compare::{Drift, Expected};
use crate::audit::record::{Actor, Event};
use crate::plane::Core;
use crate::server::hands;
use crate::server::store::ServerRow;
use crate::stock::store::{self as databases, DatabaseRow, LoginRow};

/// How long a repair waits for what a tenant has locked.
pub const PATIENCE: Duration = Duration::from_millis(500);

/// What is bent, and what it should be.
pub struct Case<'a> {
    pub server: &'a ServerRow,
    pub row: &'a DatabaseRow,
    pub login: &'a LoginRow,
    pub expected: &'a Expected<'a>,
    pub roles: &'a sql::Roles,
    pub drift: &'a Drift,
}

pub async fn repair(core: &Core, cx: &LoopCx, admin: &Admin, case: &Case<'_>) -> Result<(), Failure> {
    let Case { server, row, login, expected, drift, .. } = *case;
    let codes = drift.codes();
    // Decided on a look that may be seconds old: whoever changed the tenant meanwhile, or its credential, has the say.
    if databases::changed_since(&core.store, row).await? || !databases::is_still(&core.store, login).await? {
        return Ok(());
    }
    if drift.is_lost() {
        return lost(core, cx, admin, case).await;
    }
    tracing::warn!(server = server.id, database = row.database, tenant = row.tenant_id, ?codes, "drift");
    for role in &drift.raised {
        admin.strip_attributes(role).await.map_err(hands::failure)?;
    }
    for role in &drift.joined {
        admin.revoke_memberships(role).await.map_err(hands::failure)?;
    }
    logins(admin, case).await?;
    grants(admin, case).await?;
    if drift.owned_as_login {
        let inside = hands::enter(core, cx, server, admin, &row.database).await?;
        inside.wait_for_locks_at_most(PATIENCE).await.map_err(hands::failure)?;
        inside.reassign_from_login(expected.login, &row.owner).await.map_err(hands::failure)?;
    }
    // Suspended or resumed while this was at work: what the store says now is what holds.
    let admitted_now = expected.can_login && !databases::changed_since(&core.store, row).await?;
    if !admitted_now && databases::is_refused(&core.store, row).await? {
        admin.refuse_logins(&[expected.login, expected.maintenance]).await.map_err(hands::failure)?;
    }
    metrics::counter!("freehold_drift_total", "server" => server.id.clone()).increment(1);
    databases::record_drift(&core.store, &[row.id], &json!([])).await?;
    let subject =
        row.tenant_id.as_ref().map_or_else(|| format!("database:{}", row.id), |tenant| format!("tenant:{tenant}"));
    let event = Event::done(&Actor::of_loop("truth"), "truth.repair", subject);
    Ok(event.with(json!({"drift": codes})).save(&core.store).await?)
}

/// A stock database gone bad is nobody's: another is made. A tenant's is a person's to bring back.
async fn lost(core: &Core, cx: &LoopCx, admin: &Admin, case: &Case<'_>) -> Result<(), Failure> {
    let Case { server, row, drift, .. } = *case;
    if found_again(admin, case).await? {
        return Ok(());
    }
    let codes = drift.codes();
    if row.state != "ready" {
        tracing::error!(server = server.id, database = row.database, tenant = row.tenant_id, ?codes, "lost");
        return Ok(databases::record_drift(&core.store, &[row.id], &json!(codes)).await?);
    }
    tracing::warn!(server = server.id, database = row.database, ?codes, "stock gone bad: another is made");
    metrics::counter!("freehold_drift_total", "server" => server.id.clone()).increment(1);
    let mut tx = core.store.begin().await?;
    if databases::begin_dropping(&mut tx, row.id).await? {
        let event = Event::done(&Actor::of_loop("truth"), "truth.rebuild", format!("database:{}", row.id));
        event.with(json!({"drift": codes})).save(&mut *tx).await?;
    }
    tx.commit().await?;
    cx.engine().wake("stock");
    Ok(())
}

/// A second look, at what the store says now: names change, and things are made while the first one lasts.
async fn found_again(admin: &Admin, case: &Case<'_>) -> Result<bool, Failure> {
    let roles: Vec<&str> = case.drift.lost_roles.iter().map(String::as_str).collect();
    let seen = admin.observe(&roles, &[case.expected.database]).await.map_err(hands::failure)?;
    let database = seen.databases.iter().any(|database| database.conn_limit != -2);
    Ok(database && seen.roles.len() == roles.len())
}

async fn logins(admin: &Admin, case: &Case<'_>) -> Result<(), Failure> {
    let Case { expected, roles, drift, .. } = *case;
    if !drift.login.is_empty() {
        admin
            .restore_login(roles, expected.verifier, expected.limits, expected.can_login)
            .await
            .map_err(hands::failure)?;
    }
    if !drift.maintenance.is_empty() {
        let maintenance = sql::Roles { login: expected.maintenance.to_owned(), extra: Vec::new(), ..roles.clone() };
        admin
            .restore_login(&maintenance, expected.maintenance_verifier, &sql::Limits::unlimited(), expected.can_login)
            .await
            .map_err(hands::failure)?;
    }
    let joined = |codes: &[&str]| codes.iter().any(|code| code.ends_with("memberships_changed"));
    if !drift.joined.is_empty() || joined(&drift.login) || joined(&drift.maintenance) {
        // Whoever got into a neighbour's database by such a grant would stay there.
        let logins = [expected.login, expected.maintenance];
        admin.terminate_elsewhere(&logins, expected.database).await.map_err(hands::failure)?;
    }
    Ok(())
}

async fn grants(admin: &Admin, case: &Case<'_>) -> Result<(), Failure> {
    let Case { row, expected, drift, .. } = *case;
    if drift.grants.contains(&"database_owner_changed") {
        let owns = expected.tenant_owns_database;
        admin.restore_database_owner(&row.database, expected.owner, owns).await.map_err(hands::failure)?;
    }
    if ["database_closed", "database_limit_changed"].iter().any(|code| drift.grants.contains(code)) {
        admin.restore_admission(&row.database).await.map_err(hands::failure)?;
    }
    if !drift.grants.is_empty() {
        admin.restore_grants(&row.database, &row.owner).await.map_err(hands::failure)?;
    }
    if !drift.strangers.is_empty() {
        let strangers: Vec<&str> = drift.strangers.iter().map(String::as_str).collect();
        admin.revoke_connect(&row.database, &strangers).await.map_err(hands::failure)?;
    }
    Ok(())
}
