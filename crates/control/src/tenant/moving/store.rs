//! All SQL about moves.

use std::collections::BTreeMap;

use freehold_api::movability::MoveMethod;
use freehold_drivers::server::sql::moving::{Fingerprint, Forced, Identity, Trigger};
use jiff_sqlx::Timestamp;
use serde::{Deserialize, Serialize};
use sqlx::types::Json;
use sqlx::{PgConnection, PgExecutor, PgPool};
use uuid::Uuid;

use crate::stock::declare::Credential;
use crate::stock::store::DatabaseRow;
use crate::tenant::plan::store as plans;

#[derive(Debug, Clone, sqlx::FromRow)]
pub struct MoveRow {
    pub tenant_id: String,
    pub id: Uuid,
    pub database_id: Uuid,
    pub from_server: String,
    pub to_server: String,
    pub plan: Json<Plan>,
    pub there_login: Uuid,
    pub there_password: Vec<u8>,
    pub there_verifier: String,
    pub back_login: Uuid,
    pub back_password: Vec<u8>,
    pub back_verifier: String,
    pub flipped_at: Option<Timestamp>,
    pub stall_ms: Option<i32>,
    pub digests: Option<String>,
    pub follows: bool,
    pub keep_until: Option<Timestamp>,
    /// `logical` or `dump`.
    pub method: String,
    /// Where another plan made it necessary: that of the old side, and that of the new one.
    pub plan_before: Option<String>,
    pub plan_after: Option<String>,
}

/// What was found at the source before anything was changed there.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Plan {
    pub identities: Vec<Identity>,
    /// Tables that hide rows from their owner too: only where they are read whole by a dump.
    pub forced: Vec<Forced>,
    pub fingerprint: Fingerprint,
    /// What the target has beside it: of the extensions that the new plan brings.
    pub added: BTreeMap<String, String>,
    /// As of the last look before a fence.
    pub waking: Vec<Trigger>,
    pub bytes: u64,
    /// All that was made at the target: a login that is retired meanwhile is left on the other side.
    pub roles: Vec<String>,
    /// Of the subscription at the target: what its copies leave behind is called after it.
    pub subscription: Option<u32>,
    /// Where the log of the new side was at the flip: what comes after it is what the old one does not have.
    pub place: Option<String>,
}

impl Plan {
    /// What is to be at the target.
    pub fn of_target(&self) -> Fingerprint {
        let mut print = self.fingerprint.clone();
        print.shape.extend(self.added.clone());
        print
    }
}

impl MoveRow {
    pub fn is_flipped(&self) -> bool {
        self.flipped_at.is_some()
    }

    pub fn is_dump(&self) -> bool {
        self.method == MoveMethod::Dump.as_str()
    }

    /// The plans that change with who serves: from, to, for whoever turns now.
    pub fn plans(&self) -> Option<(&str, &str)> {
        let (before, after) = (self.plan_before.as_deref()?, self.plan_after.as_deref()?);
        Some(if self.is_flipped() { (after, before) } else { (before, after) })
    }
}

pub async fn find(store: impl PgExecutor<'_>, tenant: &str) -> sqlx::Result<Option<MoveRow>> {
    sqlx::query_as("SELECT * FROM tenant_move WHERE tenant_id = $1").bind(tenant).fetch_optional(store).await
}

/// For whoever is about to act on it. Waits for a transaction that is about to say who serves: of a commit whose answer was
/// lost nobody knows when it comes to its end.
pub async fn find_settled(store: &PgPool, tenant: &str) -> sqlx::Result<Option<MoveRow>> {
    sqlx::query_as("SELECT * FROM tenant_move WHERE tenant_id = $1 FOR UPDATE").bind(tenant).fetch_optional(store).await
}

/// A slot and the names at the target, and what the two directions log in by. A name that somebody has there breaks a
/// constraint of `tenant_database`.
pub async fn reserve(
    tx: &mut PgConnection,
    tenant: &str,
    database: &DatabaseRow,
    to: &str,
    there: &Credential,
    back: &Credential,
    plan: Option<&str>,
) -> sqlx::Result<()> {
    let id = Uuid::now_v7();
    hold(&mut *tx, id, database.id, to).await?;
    let sql = "INSERT INTO tenant_move (tenant_id, id, database_id, from_server, to_server, there_login, there_password, there_verifier,
            back_login, back_password, back_verifier, plan_before, plan_after)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, CASE WHEN $12::text IS NOT NULL THEN $13 END, $12)";
    sqlx::query(sql)
        .bind(tenant)
        .bind(id)
        .bind(database.id)
        .bind(&database.server_id)
        .bind(to)
        .bind(there.id)
        .bind(&there.sealed)
        .bind(&there.verifier)
        .bind(back.id)
        .bind(&back.sealed)
        .bind(&back.verifier)
        .bind(plan)
        .bind(&database.plan)
        .execute(tx)
        .await
        .map(drop)
}

/// Together with [`reserve`].
pub async fn goes_by(tx: &mut PgConnection, tenant: &str, method: MoveMethod) -> sqlx::Result<()> {
    let sql = "UPDATE tenant_move SET method = $2 WHERE tenant_id = $1";
    sqlx::query(sql).bind(tenant).bind(method.as_str()).execute(tx).await.map(drop)
}

/// From now on nobody is let in.
pub async fn stopped(tx: &mut PgConnection, id: Uuid) -> sqlx::Result<()> {
    sqlx::query("UPDATE tenant_move SET stopped_at = now() WHERE id = $1").bind(id).execute(tx).await.map(drop)
}

/// For how many seconds nobody has been let in.
pub async fn stopped_for(store: &PgPool, id: Uuid) -> sqlx::Result<f64> {
    let sql = "SELECT coalesce(extract(epoch FROM now() - stopped_at), 0)::float8 FROM tenant_move WHERE id = $1";
    sqlx::query_scalar(sql).bind(id).fetch_one(store).await
}

/// Both sides were compared, and whoever was stopped is let in again.
pub async fn stopped_until_now(tx: &mut PgConnection, id: Uuid) -> sqlx::Result<()> {
    let sql = "UPDATE tenant_move SET digests = 'equal',
            stall_ms = CASE WHEN stopped_at IS NOT NULL
                THEN least(extract(epoch FROM clock_timestamp() - stopped_at) * 1000, 2147483647)::integer END WHERE id = $1";
    sqlx::query(sql).bind(id).execute(tx).await.map(drop)
}

/// The side that does not serve: it counts as one of its server's databases, under the same names.
async fn hold(tx: &mut PgConnection, id: Uuid, database: Uuid, server: &str) -> sqlx::Result<()> {
    let sql = "INSERT INTO tenant_database (id, server_id, template, template_version, plan, state, database, owner, missing)
        SELECT $1, $3, template, template_version, plan, 'moving', database, owner, missing FROM tenant_database WHERE id = $2";
    sqlx::query(sql).bind(id).bind(database).bind(server).execute(tx).await.map(drop)
}

pub async fn set_plan(store: impl PgExecutor<'_>, id: Uuid, plan: &Plan) -> sqlx::Result<()> {
    sqlx::query("UPDATE tenant_move SET plan = $2 WHERE id = $1")
        .bind(id)
        .bind(Json(plan))
        .execute(store)
        .await
        .map(drop)
}

/// Who serves changes: the database, its logins and its tenant stand on `to` from this commit on, and the side that is left
/// is held; where another plan is the reason, the tenant has it from this commit on. The pooler is told by the trigger of `tenant_database`; the note inside is the server's, and is written again.
pub async fn turn(tx: &mut PgConnection, row: &MoveRow, to: &str) -> sqlx::Result<()> {
    let sql = "SELECT server_id FROM tenant_database WHERE id = $1 FOR UPDATE";
    let from: String = sqlx::query_scalar(sql).bind(row.database_id).fetch_one(&mut *tx).await?;
    sqlx::query("DELETE FROM tenant_database WHERE id = $1 AND state = 'moving'")
        .bind(row.id)
        .execute(&mut *tx)
        .await?;
    let sql = "UPDATE tenant_database SET server_id = $2, arrived_at = now(), noted_at = NULL, drift = '[]', drift_since = NULL
        WHERE id = $1";
    sqlx::query(sql).bind(row.database_id).bind(to).execute(&mut *tx).await?;
    let sql = "UPDATE login SET server_id = $2 WHERE database_id = $1";
    sqlx::query(sql).bind(row.database_id).bind(to).execute(&mut *tx).await?;
    let sql = "UPDATE tenant SET server_id = $2, revision = revision + 1, updated_at = now() WHERE id = $1";
    sqlx::query(sql).bind(&row.tenant_id).bind(to).execute(&mut *tx).await?;
    hold(&mut *tx, row.id, row.database_id, &from).await?;
    let Some((_, plan)) = row.plans() else { return Ok(()) };
    plans::set(&mut *tx, &row.tenant_id, row.database_id, plan).await?;
    match row.is_flipped() {
        true => Ok(()),
        // What was kept for a time has come, or another came before it.
        false => plans::forget(tx, &row.tenant_id).await,
    }
}

/// Together with [`turn`]; `place` is of the log of the server that serves from now on.
pub async fn flipped(tx: &mut PgConnection, id: Uuid, place: Option<&str>) -> sqlx::Result<()> {
    let sql = "UPDATE tenant_move SET flipped_at = now(), plan = plan || jsonb_build_object('place', $2::text)
        WHERE id = $1 AND flipped_at IS NULL";
    sqlx::query(sql).bind(id).bind(place).execute(tx).await.map(drop)
}

/// The way back was taken, together with [`turn`]: `from_server` serves again.
pub async fn turned_back(tx: &mut PgConnection, id: Uuid) -> sqlx::Result<()> {
    let sql = "UPDATE tenant_move SET flipped_at = NULL, follows = false, keep_until = NULL WHERE id = $1";
    sqlx::query(sql).bind(id).execute(tx).await.map(drop)
}

/// The server that does not serve it, and still has its side of a move.
pub async fn kept_on(store: &PgPool, tenant: &str) -> sqlx::Result<Option<String>> {
    let sql =
        "SELECT CASE WHEN flipped_at IS NULL THEN to_server ELSE from_server END FROM tenant_move WHERE tenant_id = $1";
    sqlx::query_scalar(sql).bind(tenant).fetch_optional(store).await
}

/// Waits as [`find_settled`] does.
pub async fn is_flipped(store: &PgPool, id: Uuid) -> sqlx::Result<bool> {
    let sql = "SELECT flipped_at IS NOT NULL FROM tenant_move WHERE id = $1 FOR UPDATE";
    sqlx::query_scalar(sql).bind(id).fetch_one(store).await
}

/// Of this run, or of one before it that was not compared.
pub async fn compared(store: impl PgExecutor<'_>, id: Uuid, digests: &str, stall_ms: Option<i32>) -> sqlx::Result<()> {
    let sql = "UPDATE tenant_move SET digests = $2, stall_ms = coalesce($3, stall_ms) WHERE id = $1";
    sqlx::query(sql).bind(id).bind(digests).bind(stall_ms).execute(store).await.map(drop)
}

pub async fn keep(tx: &mut PgConnection, id: Uuid, follows: bool, seconds: u64) -> sqlx::Result<()> {
    let sql = "UPDATE tenant_move SET follows = $2, keep_until = now() + make_interval(secs => $3) WHERE id = $1";
    sqlx::query(sql).bind(id).bind(follows).bind(seconds as f64).execute(tx).await.map(drop)
}

/// It went back, and what is left of the other side could not be dropped: the loop does, once it can.
pub async fn leave(tx: &mut PgConnection, tenant: &str) -> sqlx::Result<()> {
    let sql = "UPDATE tenant_move SET keep_until = now() WHERE tenant_id = $1 AND flipped_at IS NULL";
    sqlx::query(sql).bind(tenant).execute(tx).await.map(drop)
}

/// Nothing of the side that does not serve is left: its slot is free.
pub async fn forget(tx: &mut PgConnection, tenant: &str) -> sqlx::Result<()> {
    let sql =
        "DELETE FROM tenant_database WHERE state = 'moving' AND id = (SELECT id FROM tenant_move WHERE tenant_id = $1)";
    sqlx::query(sql).bind(tenant).execute(&mut *tx).await?;
    sqlx::query("DELETE FROM tenant_move WHERE tenant_id = $1").bind(tenant).execute(tx).await.map(drop)
}

/// The same of a move that was given up before its flip. Of one that was not, nothing is forgotten.
pub async fn forget_unflipped(tx: &mut PgConnection, tenant: &str) -> sqlx::Result<()> {
    let sql = "SELECT id FROM tenant_move WHERE tenant_id = $1 AND flipped_at IS NULL FOR UPDATE";
    match sqlx::query(sql).bind(tenant).fetch_optional(&mut *tx).await? {
        Some(_) => forget(tx, tenant).await,
        None => Ok(()),
    }
}

/// Moves whose grace is over, of tenants that nobody is at work on; while the server that was left does not answer nobody
/// is kept from working on them for it. The last look is under a lock: [`is_due`].
pub async fn due(store: &PgPool) -> sqlx::Result<Vec<String>> {
    let sql = "SELECT m.tenant_id FROM tenant_move m JOIN tenant t ON t.id = m.tenant_id AND t.state IN ('active', 'suspended')
        JOIN server s ON s.id = CASE WHEN m.flipped_at IS NULL THEN m.to_server ELSE m.from_server END AND s.health <> 'unhealthy'
        WHERE m.keep_until <= now() AND NOT EXISTS (SELECT FROM operation o WHERE o.subject = 'tenant:' || m.tenant_id
            AND (o.state NOT IN ('succeeded', 'failed', 'cancelled') OR o.finished_at > now() - interval '10 minutes'
                AND o.kind = 'tenant.finish_move'))
        ORDER BY m.keep_until LIMIT 100";
    sqlx::query_scalar(sql).fetch_all(store).await
}

pub async fn is_due(tx: &mut PgConnection, tenant: &str) -> sqlx::Result<bool> {
    let sql =
        "SELECT m.id FROM tenant_move m JOIN tenant t ON t.id = m.tenant_id AND t.state IN ('active', 'suspended')
        WHERE m.tenant_id = $1 AND m.keep_until <= now() FOR UPDATE";
    Ok(sqlx::query(sql).bind(tenant).fetch_optional(tx).await?.is_some())
}

/// A former side that follows, and nobody is at work on its tenant.
#[derive(Debug, sqlx::FromRow)]
pub struct Following {
    pub tenant_id: String,
    pub id: Uuid,
    pub to_server: String,
}

macro_rules! follows_alone {
    () => {
        "follows AND flipped_at IS NOT NULL AND keep_until IS NOT NULL AND NOT EXISTS (SELECT FROM operation o
            WHERE o.subject = 'tenant:' || m.tenant_id AND o.state NOT IN ('succeeded', 'failed', 'cancelled'))"
    };
}

pub async fn following(store: &PgPool) -> sqlx::Result<Vec<Following>> {
    let sql = concat!("SELECT tenant_id, id, to_server FROM tenant_move m WHERE ", follows_alone!());
    sqlx::query_as(sql).fetch_all(store).await
}

/// False: it is another's to say now.
pub async fn ends_following(tx: &mut PgConnection, id: Uuid) -> sqlx::Result<bool> {
    let sql = concat!("UPDATE tenant_move m SET follows = false WHERE m.id = $1 AND ", follows_alone!());
    Ok(sqlx::query(sql).bind(id).execute(tx).await?.rows_affected() == 1)
}
