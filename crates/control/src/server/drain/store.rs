//! All SQL about drains.

use freehold_api::drain::{DrainOrder, DrainState, DrainTenant};
use freehold_api::id::{OperationId, ServerId};
use sqlx::{PgConnection, PgExecutor, PgPool};
use uuid::Uuid;

/// One that lives there, or did when the drain began.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Row {
    pub tenant_id: String,
    pub bytes: Option<i64>,
    pub moved_by: Option<Uuid>,
    pub tries: i32,
    code: Option<String>,
    message: Option<String>,
    /// Where it is by now.
    pub at: Option<String>,
    /// Where its move brings it.
    to_server: Option<String>,
    /// Of its move; None: there is none, or it is no longer kept.
    move_state: Option<String>,
    move_code: Option<String>,
    move_message: Option<String>,
    move_done: Option<i64>,
    /// Seconds since its move was over.
    move_ended: Option<f64>,
}

/// A tenant whose move met what passes is moved again so often, after so many seconds, each time after twice as many.
const TRIES: i32 = 10;
const PAUSE: f64 = 10.0;
const PAUSE_MOST: f64 = 600.0;

/// Nobody else's tenants are asked to leave. Those that the drain before has under way are this one's.
pub async fn begin(tx: &mut PgConnection, server: &str, operation: Uuid) -> sqlx::Result<()> {
    let sql = "SELECT x.tenant_id, x.moved_by FROM server_drain_tenant x JOIN operation o ON o.id = x.moved_by
        WHERE x.server_id = $1 AND o.state IN ('queued', 'running', 'waiting', 'undoing')";
    let under_way: Vec<(String, Uuid)> = sqlx::query_as(sql).bind(server).fetch_all(&mut *tx).await?;
    sqlx::query("DELETE FROM server_drain WHERE server_id = $1").bind(server).execute(&mut *tx).await?;
    let sql = "INSERT INTO server_drain (server_id, operation) VALUES ($1, $2)";
    sqlx::query(sql).bind(server).bind(operation).execute(&mut *tx).await?;
    list(tx, server).await?;
    for (tenant, by) in under_way {
        moves(tx, server, &tenant, by).await?;
    }
    Ok(())
}

/// Whether the newest was begun so few seconds ago.
pub async fn is_young(store: impl PgExecutor<'_>, server: &str, seconds: f64) -> sqlx::Result<bool> {
    let sql = "SELECT begun_at > now() - make_interval(secs => $2) FROM server_drain WHERE server_id = $1";
    let young: Option<bool> = sqlx::query_scalar(sql).bind(server).bind(seconds).fetch_optional(store).await?;
    Ok(young.unwrap_or(false))
}

/// Tenants that moves bring there which had their slot before it was cordoned, or that go back there.
pub async fn arriving(store: impl PgExecutor<'_>, server: &str) -> sqlx::Result<Vec<String>> {
    let sql = "SELECT m.tenant_id FROM tenant_move m JOIN tenant t ON t.id = m.tenant_id
        JOIN operation o ON o.subject = 'tenant:' || m.tenant_id AND o.state NOT IN ('succeeded', 'failed', 'cancelled')
        WHERE t.server_id IS DISTINCT FROM $1 AND (m.flipped_at IS NULL AND m.to_server = $1
            OR m.flipped_at IS NOT NULL AND m.from_server = $1 AND o.kind = 'tenant.roll_back_move')
        ORDER BY m.tenant_id";
    sqlx::query_scalar(sql).bind(server).fetch_all(store).await
}

/// The newest.
pub async fn operation(store: impl PgExecutor<'_>, server: &str) -> sqlx::Result<Option<Uuid>> {
    sqlx::query_scalar("SELECT operation FROM server_drain WHERE server_id = $1")
        .bind(server)
        .fetch_optional(store)
        .await
}

/// Whoever lives there now and is not listed yet; and no longer those who left without it.
pub async fn list(tx: &mut PgConnection, server: &str) -> sqlx::Result<()> {
    let sql = "INSERT INTO server_drain_tenant (server_id, tenant_id, bytes)
        SELECT d.server_id, d.tenant_id, s.size_bytes FROM tenant_database d
        LEFT JOIN database_stats s ON (s.server_id, s.database) = (d.server_id, d.database)
        WHERE d.server_id = $1 AND d.tenant_id IS NOT NULL
          AND NOT EXISTS (SELECT FROM server_drain_tenant x WHERE (x.server_id, x.tenant_id) = ($1, d.tenant_id))
        ON CONFLICT DO NOTHING";
    sqlx::query(sql).bind(server).execute(&mut *tx).await?;
    let sql = "DELETE FROM server_drain_tenant x USING tenant t WHERE x.server_id = $1 AND x.moved_by IS NULL
        AND t.id = x.tenant_id AND t.server_id IS DISTINCT FROM $1";
    sqlx::query(sql).bind(server).execute(tx).await.map(drop)
}

pub async fn rows(store: impl PgExecutor<'_>, server: &str, order: DrainOrder) -> sqlx::Result<Vec<Row>> {
    let sql = "SELECT x.tenant_id, x.bytes, x.moved_by, x.tries, x.code, x.message, t.server_id AS at, m.to_server, o.state AS move_state,
            coalesce(o.failed_error, o.error)->>'code' AS move_code, coalesce(o.failed_error, o.error)->>'message' AS move_message,
            CASE WHEN o.progress->>'unit' = 'bytes' THEN (o.progress->>'done')::bigint END AS move_done,
            extract(epoch FROM now() - o.finished_at)::float8 AS move_ended
        FROM server_drain_tenant x JOIN tenant t ON t.id = x.tenant_id
        LEFT JOIN operation o ON o.id = x.moved_by LEFT JOIN tenant_move m ON m.tenant_id = x.tenant_id AND o.id IS NOT NULL
        WHERE x.server_id = $1
        ORDER BY coalesce(x.bytes, 0) * CASE WHEN $2 THEN -1 ELSE 1 END, x.tenant_id";
    sqlx::query_as(sql).bind(server).bind(order == DrainOrder::Largest).fetch_all(store).await
}

/// With the move itself. False: it has one, which is not begun a second time.
pub async fn moves(tx: &mut PgConnection, server: &str, tenant: &str, by: Uuid) -> sqlx::Result<bool> {
    let sql = "UPDATE server_drain_tenant SET moved_by = $3, code = NULL, message = NULL
        WHERE server_id = $1 AND tenant_id = $2 AND moved_by IS NULL";
    Ok(sqlx::query(sql).bind(server).bind(tenant).bind(by).execute(tx).await?.rows_affected() == 1)
}

pub async fn leave(tx: &mut PgConnection, server: &str, tenant: &str, code: &str, why: &str) -> sqlx::Result<()> {
    let sql = "UPDATE server_drain_tenant SET code = $3, message = $4
        WHERE server_id = $1 AND tenant_id = $2 AND moved_by IS NULL";
    sqlx::query(sql).bind(server).bind(tenant).bind(code).bind(why).execute(tx).await.map(drop)
}

/// Sides that are kept there of tenants that left, and follow.
pub async fn kept(store: impl PgExecutor<'_>, server: &str) -> sqlx::Result<i64> {
    let sql = "SELECT count(*) FROM tenant_move WHERE from_server = $1 AND flipped_at IS NOT NULL AND follows";
    sqlx::query_scalar(sql).bind(server).fetch_one(store).await
}

/// Whether a move, or what one left, holds anything there that it will give back.
pub async fn is_held(store: impl PgExecutor<'_>, server: &str) -> sqlx::Result<bool> {
    let sql = "SELECT EXISTS (SELECT FROM tenant_move WHERE $1 IN (from_server, to_server))";
    sqlx::query_scalar(sql).bind(server).fetch_one(store).await
}

/// Moves to there that were begun, and may not have taken yet what they need; or to where nobody knows yet.
pub async fn beginning(store: impl PgExecutor<'_>, server: &str) -> sqlx::Result<i64> {
    let sql = "SELECT count(*) FROM operation o LEFT JOIN tenant_move m ON 'tenant:' || m.tenant_id = o.subject
        WHERE o.kind = 'tenant.move' AND o.state IN ('queued', 'running', 'waiting')
          AND o.step_name IN ('Reserve', 'Prepare', 'Plan', 'Publish') AND coalesce(m.to_server, $1) = $1";
    sqlx::query_scalar(sql).bind(server).fetch_one(store).await
}

/// Its move was over before it did anything, for a reason that passes.
pub async fn again(tx: &mut PgConnection, server: &str, tenant: &str, by: Uuid) -> sqlx::Result<()> {
    let sql = "UPDATE server_drain_tenant SET moved_by = NULL, tries = tries + 1
        WHERE server_id = $1 AND tenant_id = $2 AND moved_by = $3";
    sqlx::query(sql).bind(server).bind(tenant).bind(by).execute(tx).await.map(drop)
}

/// Databases that wait for nobody there: how many there are of them, and how many of those were told to go just now.
pub async fn drop_stock(store: &PgPool, server: &str) -> sqlx::Result<(i64, u64)> {
    let sql =
        "UPDATE tenant_database SET state = 'dropping' WHERE server_id = $1 AND tenant_id IS NULL AND state = 'ready'
        AND EXISTS (SELECT FROM server WHERE id = $1 AND state = 'cordoned')";
    let told = sqlx::query(sql).bind(server).execute(store).await?.rows_affected();
    Ok((stock(store, server).await?, told))
}

pub async fn stock(store: impl PgExecutor<'_>, server: &str) -> sqlx::Result<i64> {
    let sql = "SELECT count(*) FROM tenant_database WHERE server_id = $1 AND tenant_id IS NULL AND state <> 'moving'";
    sqlx::query_scalar(sql).bind(server).fetch_one(store).await
}

/// Of a dry run.
#[derive(Debug, sqlx::FromRow)]
pub struct Resident {
    pub tenant_id: String,
    pub state: String,
    pub bytes: Option<i64>,
    /// Where a move before it has left a side.
    pub kept_on: Option<String>,
}

pub async fn residents(store: &PgPool, server: &str, order: DrainOrder) -> sqlx::Result<Vec<Resident>> {
    let sql = "SELECT t.id AS tenant_id, t.state, s.size_bytes AS bytes,
            CASE WHEN m.flipped_at IS NULL THEN m.to_server ELSE m.from_server END AS kept_on
        FROM tenant_database d JOIN tenant t ON t.id = d.tenant_id LEFT JOIN tenant_move m ON m.tenant_id = t.id
        LEFT JOIN database_stats s ON (s.server_id, s.database) = (d.server_id, d.database)
        WHERE d.server_id = $1 ORDER BY coalesce(s.size_bytes, 0) * CASE WHEN $2 THEN -1 ELSE 1 END, t.id";
    sqlx::query_as(sql).bind(server).bind(order == DrainOrder::Largest).fetch_all(store).await
}

impl Row {
    /// What became of it: where it is and how its move ended say so.
    pub fn stands(&self, server: &str) -> DrainState {
        let is_there = self.at.as_deref() == Some(server);
        match (self.move_state.as_deref(), is_there) {
            (Some("queued" | "running" | "waiting" | "undoing"), _) => DrainState::Moving,
            // Both sides are kept for a person: the one here may be the whole one.
            (Some("stuck"), false) => DrainState::Left,
            (_, false) => DrainState::Moved,
            (Some(_), true) if self.comes_again(server).is_some() => DrainState::Waiting,
            // Stuck, or over, and it is still there; or nobody knows any more how it ended.
            (Some(_), true) => DrainState::Left,
            (None, true) if self.moved_by.is_some() || self.code.is_some() => DrainState::Left,
            (None, true) => DrainState::Waiting,
        }
    }

    /// Why it is left, or comes again.
    pub fn why(&self) -> (String, String) {
        let told = |code: &Option<String>, message: &Option<String>| {
            code.clone().map(|code| (code, message.clone().unwrap_or_default()))
        };
        told(&self.move_code, &self.move_message).or_else(|| told(&self.code, &self.message)).unwrap_or_else(|| {
            match self.move_state.as_deref() {
                Some("cancelled") => ("cancelled".into(), "its move was cancelled".into()),
                Some("succeeded") => ("moved_back".into(), "it was moved, and moved back".into()),
                Some(_) | None => ("failed".into(), "its move came to nothing".into()),
            }
        })
    }

    /// Its move came to nothing for a reason that passes: which move, and after how many seconds the next one begins.
    pub fn comes_again(&self, server: &str) -> Option<(Uuid, f64)> {
        let pause = match self.move_code.as_deref()? {
            // Somebody else took the slot that it was to have.
            "no_room" if self.tries < 3 => 0.0,
            "not_now" | "server_unreachable" if self.tries < TRIES => (PAUSE * 2_f64.powi(self.tries)).min(PAUSE_MOST),
            _ => return None,
        };
        let came_to_nothing = self.move_state.as_deref() == Some("failed") && self.at.as_deref() == Some(server);
        self.moved_by.filter(|_| came_to_nothing).map(|by| (by, pause))
    }

    /// The same, once its pause is over.
    pub fn is_due(&self, server: &str) -> Option<Uuid> {
        let due = |(_, pause): &(Uuid, f64)| self.move_ended.is_none_or(|seconds| seconds >= *pause);
        self.comes_again(server).filter(due).map(|(by, _)| by)
    }

    /// How much of it is elsewhere, of how much.
    pub fn bytes_done(&self, server: &str) -> (u64, u64) {
        let all = self.bytes.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0);
        let copied = self.move_done.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0).min(all);
        match self.stands(server) {
            DrainState::Moved => (all, all),
            DrainState::Moving if self.at.as_deref() != Some(server) => (all, all),
            DrainState::Moving => (copied, all),
            DrainState::Waiting | DrainState::Left => (0, all),
        }
    }

    pub fn shown(&self, server: &ServerId) -> Option<DrainTenant> {
        let state = self.stands(server.as_str());
        let to = match state {
            DrainState::Moved => self.at.as_deref(),
            DrainState::Moving => self.to_server.as_deref(),
            DrainState::Waiting | DrainState::Left => None,
        };
        let (code, message) = match state {
            DrainState::Left => Some(self.why()).unzip(),
            DrainState::Waiting if self.comes_again(server.as_str()).is_some() => Some(self.why()).unzip(),
            DrainState::Moving => (self.move_code.clone(), self.move_message.clone()),
            DrainState::Waiting | DrainState::Moved => (None, None),
        };
        Some(DrainTenant {
            tenant: self.tenant_id.parse().ok()?,
            state,
            bytes: self.bytes.and_then(|bytes| u64::try_from(bytes).ok()),
            to: to.and_then(|to| to.parse().ok()),
            operation: self.moved_by.map(OperationId),
            code,
            message,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_again_waits_longer_each_time() {
        let row = |tries, ended| Row {
            tries,
            move_ended: Some(ended),
            ..all()
                .into_iter()
                .find(|row| row.move_code.as_deref() == Some("not_now") && row.at.as_deref() == Some("here"))
                .expect("one")
        };
        assert!(row(0, 9.0).is_due("here").is_none() && row(0, 10.0).is_due("here").is_some());
        assert!(row(3, 79.0).is_due("here").is_none() && row(3, 80.0).is_due("here").is_some());
        assert!(row(9, 599.0).is_due("here").is_none() && row(9, 600.0).is_due("here").is_some());
        assert_eq!(row(TRIES, 9999.0).stands("here"), DrainState::Left);
    }

    const STATES: [&str; 8] = ["queued", "running", "waiting", "undoing", "stuck", "succeeded", "failed", "cancelled"];

    /// All rows that there can be.
    fn all() -> Vec<Row> {
        let mut rows = Vec::new();
        for moved_by in [None, Some(Uuid::from_u128(1))] {
            // One that was pruned has no state.
            let states = STATES.iter().map(|state| Some(*state)).chain([None]).filter(|_| moved_by.is_some());
            for state in states.chain([None].into_iter().filter(|_| moved_by.is_none())) {
                for at in ["here", "there"] {
                    for (code, failed, tries) in [
                        (None, "no_room", 0),
                        (Some("wrong_state"), "no_room", 3),
                        (None, "not_now", 0),
                        (None, "not_now", TRIES),
                        (None, "not_movable", 0),
                    ] {
                        rows.push(Row {
                            tenant_id: "acme".into(),
                            bytes: Some(100),
                            moved_by,
                            tries,
                            code: code.map(str::to_owned),
                            message: None,
                            at: Some(at.into()),
                            to_server: Some("there".into()),
                            move_state: state.map(str::to_owned),
                            move_code: (state == Some("failed")).then(|| failed.to_owned()),
                            move_message: None,
                            move_done: Some(1000),
                            move_ended: Some(5.0),
                        });
                    }
                }
            }
        }
        rows
    }

    #[test]
    fn who_has_a_move_is_not_given_another() {
        for row in all() {
            let state = row.stands("here");
            let again = row.comes_again("here").is_some();
            assert!(row.moved_by.is_none() || again == (state == DrainState::Waiting), "{row:?}");
            let in_flight = row.move_state.as_deref().is_some_and(|state| STATES[..4].contains(&state));
            assert_eq!(state == DrainState::Moving, in_flight, "{row:?}");
            // Only one whose move is over may be begun anew, and only where that did nothing, for a reason that passes.
            assert!(
                !again || row.move_state.as_deref() == Some("failed") && row.at.as_deref() == Some("here"),
                "{row:?}"
            );
            assert!(!again || row.move_code.as_deref() != Some("not_movable") && row.tries < TRIES, "{row:?}");
            assert_eq!(row.is_due("here").is_some(), again && row.move_code.as_deref() == Some("no_room"), "{row:?}");
        }
    }

    #[test]
    fn whoever_is_elsewhere_and_not_on_the_way_is_moved_and_whoever_is_left_says_why() {
        for row in all() {
            let (state, is_there) = (row.stands("here"), row.at.as_deref() == Some("here"));
            let is_stuck = row.move_state.as_deref() == Some("stuck");
            assert_eq!(state == DrainState::Moved, !is_there && !is_stuck && state != DrainState::Moving, "{row:?}");
            let (done, total) = row.bytes_done("here");
            assert!(done <= total && total == 100, "{row:?}");
            let shown = row.shown(&"here".parse().expect("a name")).expect("it can be shown");
            assert_eq!(
                shown.code.is_some(),
                state == DrainState::Left
                    || state == DrainState::Moving && row.move_code.is_some()
                    || state == DrainState::Waiting && row.moved_by.is_some()
            );
            assert_eq!(shown.to.is_some(), matches!(state, DrainState::Moved | DrainState::Moving), "{row:?}");
        }
    }
}
