//! Counts a pooler's generation up, once for everything of it that changed since, and gives each changed database the name
//! that clients ask the pooler for.
//!
//! That name is the database's own where an ini file's key can hold it and nobody else of this pooler has it; else
//! the name of its owner role, which is both for every database, for ever. Two logins of one name, on two servers, cannot
//! be in one list of users: the one that comes second is not served, which `freehold pooler check` tells.

use sqlx::PgPool;
use uuid::Uuid;

use super::store::served;

/// True: there is a new generation. What others are changing at this very moment comes with the next one.
pub async fn raise(store: &PgPool, id: &str) -> sqlx::Result<bool> {
    let mut tx = store.begin().await?;
    let sql = "SELECT changed FROM pooler WHERE id = $1 FOR UPDATE";
    let changed: Option<bool> = sqlx::query_scalar(sql).bind(id).fetch_optional(&mut *tx).await?;
    let Some(changed) = changed else { return Ok(false) };
    // Never waits for a row: whoever holds one may be waiting for this pooler's.
    let sql = "SELECT id FROM tenant_database WHERE pooler_id = $1 AND NOT pooled AND pooler_generation IS NULL
        FOR UPDATE SKIP LOCKED";
    let marked: Vec<Uuid> = sqlx::query_scalar(sql).bind(id).fetch_all(&mut *tx).await?;
    if marked.is_empty() && !changed {
        return Ok(false);
    }
    let sql = "UPDATE pooler SET generation = generation + 1, changed = false WHERE id = $1 RETURNING generation";
    let generation: i64 = sqlx::query_scalar(sql).bind(id).fetch_one(&mut *tx).await?;
    let sql = concat!(
        "WITH marked AS (
            SELECT d.id, d.owner, d.pooler_entry AS had, l.role, ",
        served!(),
        " AS served,
                CASE WHEN d.database ~ '^[A-Za-z0-9_.-]{1,63}$' AND d.database <> 'pgbouncer' THEN d.database ELSE d.owner END AS name
            FROM tenant_database d JOIN server s ON s.id = d.server_id LEFT JOIN tenant t ON t.id = d.tenant_id
                JOIN login l ON l.database_id = d.id AND l.purpose = 'tenant'
            WHERE d.id = ANY($2)),
        ranked AS (
            SELECT *, row_number() OVER (PARTITION BY served, name ORDER BY had = name DESC NULLS LAST, id) = 1
                    AND NOT EXISTS (SELECT FROM tenant_database o WHERE o.pooler_id = $1 AND o.pooler_entry = m.name AND o.id <> ALL($2)) AS named,
                row_number() OVER (PARTITION BY served, role ORDER BY had IS NULL, id) = 1
                    AND NOT EXISTS (SELECT FROM login o JOIN tenant_database d ON d.id = o.database_id
                        WHERE o.role = m.role AND d.id <> m.id AND d.pooler_id = $1 AND (o.purpose IN ('next', 'retiring')
                            OR o.purpose = 'tenant' AND d.pooler_entry IS NOT NULL AND d.id <> ALL($2))) AS alone
            FROM marked m)
        UPDATE tenant_database d SET pooler_generation = $3,
            pooler_entry = CASE WHEN r.served AND r.alone THEN CASE WHEN r.named THEN r.name ELSE r.owner END END
        FROM ranked r WHERE d.id = r.id"
    );
    sqlx::query(sql).bind(id).bind(&marked).bind(generation).execute(&mut *tx).await?;
    let sql = "UPDATE login SET pooler_generation = $2 WHERE id IN (
            SELECT l.id FROM login l JOIN tenant_database d ON d.id = l.database_id
            WHERE d.pooler_id = $1 AND l.purpose IN ('next', 'retiring') AND l.pooler_generation IS NULL
            FOR UPDATE OF l SKIP LOCKED)";
    sqlx::query(sql).bind(id).bind(generation).execute(&mut *tx).await?;
    tx.commit().await?;
    Ok(true)
}
