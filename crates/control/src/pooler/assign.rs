//! Gives databases their pooler: the fullest that has room, so that those that are emptied can go. For life: its address
//! is in applications' settings. One statement at a time counts, so that no pooler gets more than fit.

use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::store::{healthy, servable};

/// How many at once: each is part of the reload that follows.
const BATCH: i64 = 500;

/// All that have none.
pub async fn assign(store: &PgPool) -> sqlx::Result<()> {
    while !round(store, None).await?.is_empty() {}
    Ok(())
}

/// This one, if it has none. Answers who got it just now.
pub async fn assign_one(store: &PgPool, database: Uuid) -> sqlx::Result<Option<String>> {
    Ok(round(store, Some(database)).await?.pop())
}

#[derive(sqlx::FromRow)]
struct Room {
    id: String,
    free: i64,
}

/// The poolers that got some.
async fn round(store: &PgPool, only: Option<Uuid>) -> sqlx::Result<Vec<String>> {
    let mut tx = store.begin().await?;
    lock(&mut tx).await?;
    let mut rooms = rooms(&mut tx).await?;
    if rooms.is_empty() {
        return Ok(Vec::new());
    }
    let sql = concat!(
        "SELECT d.id FROM tenant_database d JOIN server s ON s.id = d.server_id
        WHERE d.pooler_id IS NULL AND NOT d.pooled AND ($1::uuid IS NULL OR d.id = $1) AND ",
        servable!(),
        " ORDER BY d.tenant_id IS NULL, d.created_at, d.id LIMIT $2 FOR UPDATE OF d SKIP LOCKED"
    );
    let mut homeless: Vec<Uuid> = sqlx::query_scalar(sql).bind(only).bind(BATCH).fetch_all(&mut *tx).await?;
    let mut given = Vec::new();
    for room in &mut rooms {
        let fit = usize::try_from(room.free).unwrap_or(0).min(homeless.len());
        if fit == 0 {
            continue;
        }
        let rest = homeless.split_off(fit);
        // As much as others at rest have: giving it later would be another reload.
        let sql = "UPDATE tenant_database d SET pooler_id = $1,
                pooler_grant = (SELECT resting FROM server_budget b WHERE b.server_id = d.server_id)
            WHERE id = ANY($2) AND pooler_id IS NULL";
        sqlx::query(sql).bind(&room.id).bind(&homeless).execute(&mut *tx).await?;
        given.push(room.id.clone());
        homeless = rest;
    }
    tx.commit().await?;
    Ok(given)
}

/// Before anything is looked at: whoever comes second sees what the first one gave.
pub(super) async fn lock(tx: &mut PgConnection) -> sqlx::Result<()> {
    let sql = "SELECT pg_advisory_xact_lock(hashtextextended('freehold pooler assign', 0))";
    sqlx::query(sql).execute(tx).await.map(drop)
}

/// Those that are heard of first, then the fullest. One that is down takes databases too, where no other has room: they are
/// reached directly until it is back.
async fn rooms(tx: &mut PgConnection) -> sqlx::Result<Vec<Room>> {
    let sql = concat!(
        "SELECT p.id, p.capacity - d.used AS free FROM pooler p
            CROSS JOIN LATERAL (SELECT count(*) AS used FROM tenant_database WHERE pooler_id = p.id AND state <> 'dropping') d
        WHERE p.state = 'active' AND p.capacity > d.used
        ORDER BY ",
        healthy!(),
        " DESC, p.capacity - d.used, p.id"
    );
    sqlx::query_as(sql).fetch_all(tx).await
}
