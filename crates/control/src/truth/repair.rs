//! The truth loop: every server once a minute, one pass over its catalogs, repairs where something is bent.
//! What only a restore could mend (a lost database, a lost role) is reported, loudly, and left.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use freehold_api::template::{DatabaseOwner, Template};
use freehold_drivers::server::sql::{self, Admin, SqlErrorKind};
use freehold_durable::{Failure, Loop, LoopCx};
use serde_json::json;
use uuid::Uuid;

use super::compare::{Drift, Expected, Seen, compare};
use crate::audit::record::{Actor, Event};
use crate::plane::Core;
use crate::schema::store as templates;
use crate::server::hands;
use crate::server::store::{self as servers, ServerRow};
use crate::stock::declare::{self, MAINTENANCE, TENANT};
use crate::stock::make;
use crate::stock::store::{self as databases, DatabaseRow, LoginRow};

/// Logins tried per server and round where verifiers cannot be read: a login costs both sides milliseconds of CPU.
const PROBES: usize = 20;

/// How long a repair waits for what a tenant has locked.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long the stored credential is tried.
const LOGIN: Duration = Duration::from_secs(10);

pub struct Truth {
    pub core: Core,
}

#[async_trait]
impl Loop for Truth {
    fn name(&self) -> &'static str {
        "truth"
    }
    fn period(&self) -> Duration {
        Duration::from_secs(60)
    }

    async fn run(&self, cx: &LoopCx) -> Result<(), Failure> {
        for server in servers::all_with_use(&self.core.store).await? {
            let usable = matches!(server.row.state.as_str(), "active" | "cordoned" | "draining");
            // One that does not answer keeps the others waiting, and nothing can be mended there.
            if !usable || server.row.health == "unhealthy" {
                continue;
            }
            cx.still_mine().await?;
            if let Err(failure) = self.one(cx, &server.row).await {
                tracing::warn!(server = server.row.id, %failure, "truth not established; tried again later");
            }
        }
        Ok(())
    }
}

impl Truth {
    async fn one(&self, cx: &LoopCx, server: &ServerRow) -> Result<(), Failure> {
        let core = &self.core;
        let admin = hands::admin(core, cx, server, None).await?;
        // A tenant that holds its own role or tables locked keeps nobody else waiting.
        admin.wait_for_locks_at_most(PATIENCE).await.map_err(hands::failure)?;
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
        let refused = databases::refused_tenants(&core.store, &server.id).await?;
        let mut known: BTreeMap<(String, String), Option<Template>> = BTreeMap::new();
        let mut straight = Vec::new();
        let mut probed = Vec::new();
        for row in &rows {
            let of_row = logins.get(&row.id).map(Vec::as_slice).unwrap_or_default();
            let find = |purpose: &str| of_row.iter().find(|login| login.purpose == purpose);
            let (Some(login), Some(maintenance)) = (find(TENANT), find(MAINTENANCE)) else { continue };
            let key = (row.template.clone(), row.template_version.clone());
            if !known.contains_key(&key) {
                known.insert(key.clone(), template(core, row).await?);
            }
            let Some(Some(template)) = known.get(&key) else { continue };
            let in_flight = row.tenant_id.as_ref().is_some_and(|tenant| refused.in_flight.contains(tenant));
            if in_flight {
                continue;
            }
            let can_login = row.tenant_id.as_ref().is_none_or(|tenant| !refused.refused.contains(tenant));
            let roles = make::roles(row, &login.role, &maintenance.role, template);
            let limits = make::limits(core.plan(&row.plan));
            let extra: Vec<String> = roles.extra.iter().map(|role| role.name.clone()).collect();
            let expected = Expected {
                login: &login.role,
                owner: &row.owner,
                maintenance: &maintenance.role,
                verifier: &login.verifier,
                maintenance_verifier: &maintenance.verifier,
                database: &row.database,
                extra: &extra,
                limits: &limits,
                can_login,
                tenant_owns_database: template.manifest.database_owner == DatabaseOwner::Tenant,
            };
            let mut drift = compare(&expected, &seen);
            if server.superuser == Some(false) && can_login && drift.is_none() && probed.len() < PROBES {
                probed.push(row.id);
                if self.is_locked_out(server, row, login).await {
                    drift.login.push("verifier_changed");
                }
            }
            if drift.is_none() {
                straight.push(row.id);
                continue;
            }
            cx.still_mine().await?;
            // One tenant's trouble stays its own: whoever resists is tried again, after everybody else.
            if let Err(failure) = self.repair(cx, &admin, server, row, &expected, &roles, &drift).await {
                if admin.is_closed() {
                    return Err(failure);
                }
                tracing::warn!(server = server.id, database = row.database, tenant = row.tenant_id, %failure, "not repaired; tried again later");
                databases::record_drift(&core.store, &[row.id], &json!(drift.codes())).await?;
            }
        }
        databases::record_drift(&core.store, &straight, &json!([])).await?;
        Ok(databases::record_probed(&core.store, &probed).await?)
    }

    #[expect(clippy::too_many_arguments, reason = "one caller; everything it has is needed")]
    async fn repair(
        &self,
        cx: &LoopCx,
        admin: &Admin,
        server: &ServerRow,
        row: &DatabaseRow,
        expected: &Expected<'_>,
        roles: &sql::Roles,
        drift: &Drift,
    ) -> Result<(), Failure> {
        let core = &self.core;
        let codes = drift.codes();
        tracing::warn!(server = server.id, database = row.database, tenant = row.tenant_id, ?codes, "drift");
        metrics::counter!("freehold_drift_total", "server" => server.id.clone()).increment(1);
        // Decided on a look that may be seconds old: whoever changed the tenant meanwhile has the say.
        if databases::changed_since(&core.store, row).await? {
            return Ok(());
        }
        if drift.lost_database || !drift.lost_roles.is_empty() {
            if row.state == "ready" {
                // A stock database gone bad is nobody's: another is made.
                let mut tx = core.store.begin().await?;
                databases::begin_dropping(&mut tx, row.id).await?;
                tx.commit().await?;
                cx.engine().wake("stock");
            }
            return Ok(databases::record_drift(&core.store, &[row.id], &json!(codes)).await?);
        }
        for role in &drift.raised {
            admin.strip_attributes(role).await.map_err(hands::failure)?;
        }
        for role in &drift.joined {
            admin.revoke_memberships(role).await.map_err(hands::failure)?;
        }
        if !drift.login.is_empty() {
            admin
                .restore_login(roles, expected.verifier, expected.limits, expected.can_login)
                .await
                .map_err(hands::failure)?;
        }
        if !drift.maintenance.is_empty() {
            let limits = sql::Limits { connection_limit: -1, ..sql::Limits::default() };
            let maintenance = sql::Roles { login: expected.maintenance.to_owned(), extra: Vec::new(), ..roles.clone() };
            admin
                .restore_login(&maintenance, expected.maintenance_verifier, &limits, expected.can_login)
                .await
                .map_err(hands::failure)?;
        }
        let joined = |codes: &[&str]| codes.iter().any(|code| code.ends_with("memberships_changed"));
        if !drift.joined.is_empty() || joined(&drift.login) || joined(&drift.maintenance) {
            // Whoever got into a neighbour's database by such a grant would stay there.
            let logins = [expected.login, expected.maintenance];
            admin.terminate_elsewhere(&logins, expected.database).await.map_err(hands::failure)?;
        }
        if drift.grants.contains(&"database_owner_changed") {
            let owner = expected.tenant_owns_database.then_some(expected.owner);
            admin.restore_database_owner(&row.database, owner).await.map_err(hands::failure)?;
        }
        if !drift.grants.is_empty() {
            admin.restore_grants(&row.database, &row.owner).await.map_err(hands::failure)?;
        }
        if drift.owned_as_login {
            let inside = hands::admin(core, cx, server, Some(&row.database)).await?;
            inside.wait_for_locks_at_most(PATIENCE).await.map_err(hands::failure)?;
            inside.reassign_from_login(expected.login, &row.owner).await.map_err(hands::failure)?;
        }
        // Suspended or resumed while this was at work: what the store says now is what holds.
        let admitted_now = expected.can_login && !databases::changed_since(&core.store, row).await?;
        if !admitted_now && databases::is_refused(&core.store, row).await? {
            admin.refuse_logins(&[expected.login, expected.maintenance]).await.map_err(hands::failure)?;
        }
        databases::record_drift(&core.store, &[row.id], &json!([])).await?;
        let subject =
            row.tenant_id.as_ref().map_or_else(|| format!("database:{}", row.id), |tenant| format!("tenant:{tenant}"));
        let event = Event::done(&Actor::of_loop("truth"), "truth.repair", subject);
        Ok(event.with(json!({"drift": codes})).save(&core.store).await?)
    }

    /// An admin that may not read verifiers finds a changed password by trying the stored one.
    async fn is_locked_out(&self, server: &ServerRow, row: &DatabaseRow, login: &LoginRow) -> bool {
        let Ok(password) = declare::open(&self.core.sealer, login) else { return false };
        let Ok(dsn) = hands::dsn_for(&self.core.sealer, server, &row.database, &login.role, password) else {
            return false;
        };
        let found = tokio::time::timeout(LOGIN, sql::assert_login(&dsn, &row.database, &row.owner)).await;
        matches!(found, Ok(Err(error)) if error.kind == SqlErrorKind::AuthFailed)
    }
}

async fn template(core: &Core, row: &DatabaseRow) -> Result<Option<Template>, Failure> {
    let found = templates::version(&core.store, &row.template, &row.template_version).await?;
    Ok(found.and_then(|found| Template::parse(row.template.parse().ok()?, found.files.0).ok()))
}
