//! All SQL about what differs between store and servers, but for what a database's own row holds (`stock/store.rs`).

use freehold_drivers::server::sql::Dsn;
use jiff_sqlx::Timestamp;
use sqlx::PgPool;

use super::stray::{Known, Stray};
use crate::plane::Core;
use crate::server::store::ServerRow;

/// Every name that the store has for something on this server, whatever is going on with it.
pub async fn known(core: &Core, server: &ServerRow) -> sqlx::Result<Known> {
    let mut known = Known::default();
    known.databases.extend(["postgres", "template0", "template1"].map(str::to_owned));
    if let Ok(dsn) = Dsn::parse(&server.dsn) {
        known.databases.insert(dsn.database().to_owned());
        known.roles.insert(dsn.user().to_owned());
    }
    let sql = "SELECT database, owner FROM tenant_database WHERE server_id = $1
        UNION ALL SELECT database, owner FROM template_build WHERE server_id = $1";
    let rows: Vec<(String, String)> = sqlx::query_as(sql).bind(&server.id).fetch_all(&core.store).await?;
    for (database, owner) in rows {
        known.databases.insert(database);
        known.owners.insert(owner);
    }
    let sql = "SELECT role FROM login WHERE server_id = $1 UNION ALL SELECT role FROM visitor WHERE server_id = $1
        UNION ALL SELECT k.role FROM kept_login k JOIN tenant_database d ON d.id = k.database_id WHERE d.server_id = $1
        UNION ALL SELECT l.role FROM login l JOIN tenant_move m ON m.database_id = l.database_id WHERE $1 IN (m.from_server, m.to_server)
        UNION ALL SELECT jsonb_array_elements_text(coalesce(plan->'roles', '[]')) FROM tenant_move WHERE $1 IN (from_server, to_server)
        UNION ALL SELECT format('fh_%s_%s_%s', way, replace(id::text, '-', ''), who) FROM tenant_move, unnest('{move,back}'::text[]) way,
            unnest('{reader,writer}'::text[]) who WHERE $1 IN (from_server, to_server)";
    let roles: Vec<String> = sqlx::query_scalar(sql).bind(&server.id).fetch_all(&core.store).await?;
    known.roles.extend(roles);
    if let Some((database, role)) = store_itself(&core.store, server).await? {
        known.databases.insert(database);
        known.roles.insert(role);
    }
    Ok(known)
}

/// Suspended tenants that nobody is at work on and whose other side of a move is on this server, with their logins.
pub async fn refused_where_kept(store: &PgPool, server: &str) -> sqlx::Result<Vec<(String, Vec<String>)>> {
    let sql = "SELECT t.id, array_agg(l.role) FROM tenant_move m JOIN tenant t ON t.id = m.tenant_id JOIN login l ON l.database_id = m.database_id
        WHERE t.state = 'suspended' AND $1 = CASE WHEN m.flipped_at IS NULL THEN m.to_server ELSE m.from_server END
            AND NOT EXISTS (SELECT FROM operation o WHERE o.subject = 'tenant:' || t.id AND o.state NOT IN ('succeeded', 'failed', 'cancelled'))
        GROUP BY t.id";
    sqlx::query_as(sql).bind(server).fetch_all(store).await
}

/// The control store's own database and role, where it lives on this very cluster.
async fn store_itself(store: &PgPool, server: &ServerRow) -> sqlx::Result<Option<(String, String)>> {
    let Some(here) = &server.system_identifier else { return Ok(None) };
    let may = "SELECT has_function_privilege('pg_control_system()', 'EXECUTE')";
    if !sqlx::query_scalar::<_, bool>(may).fetch_one(store).await? {
        return Ok(None);
    }
    let sql = "SELECT current_database()::text, current_user::text FROM pg_control_system() WHERE system_identifier::text = $1";
    sqlx::query_as(sql).bind(here).fetch_optional(store).await
}

/// Replaces what was known to be there and unknown; answers the ghosts that are new.
pub async fn record_strays(store: &PgPool, server: &str, strays: &[Stray]) -> sqlx::Result<Vec<(String, String)>> {
    let kinds: Vec<&str> = strays.iter().map(|stray| stray.kind.as_str()).collect();
    let names: Vec<&str> = strays.iter().map(|stray| stray.name.as_str()).collect();
    let mut tx = store.begin().await?;
    let sql =
        "DELETE FROM stray WHERE server_id = $1 AND (kind, name) NOT IN (SELECT * FROM unnest($2::text[], $3::text[]))";
    sqlx::query(sql).bind(server).bind(&kinds).bind(&names).execute(&mut *tx).await?;
    let sql = "INSERT INTO stray AS s (server_id, kind, name, ghost, reason)
        SELECT $1, * FROM unnest($2::text[], $3::text[], $4::bool[], $5::text[])
        ON CONFLICT (server_id, kind, name) DO UPDATE SET ghost = excluded.ghost, reason = excluded.reason
        WHERE s.reason NOT IN ('note', 'another_note') AND (s.ghost, s.reason) <> (excluded.ghost, excluded.reason)
        RETURNING kind, name, ghost, xmax = 0 AS new";
    let rows: Vec<(String, String, bool, bool)> = sqlx::query_as(sql)
        .bind(server)
        .bind(&kinds)
        .bind(&names)
        .bind(strays.iter().map(|stray| stray.ghost).collect::<Vec<_>>())
        .bind(strays.iter().map(|stray| stray.reason).collect::<Vec<_>>())
        .fetch_all(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(rows.into_iter().filter(|(_, _, ghost, new)| *ghost && *new).map(|(kind, name, ..)| (kind, name)).collect())
}

/// Databases that were not looked into yet, but these.
pub async fn unread(store: &PgPool, server: &str, but: &[&str]) -> sqlx::Result<Vec<String>> {
    let sql = "SELECT name FROM stray WHERE server_id = $1 AND kind = 'database' AND NOT read AND name <> ALL($2)
        ORDER BY ghost DESC, first_seen LIMIT 100";
    sqlx::query_scalar(sql).bind(server).bind(but).fetch_all(store).await
}

/// What a look into it said; a note of this Freehold makes it a ghost.
pub async fn record_note(
    store: &PgPool,
    server: &str,
    database: &str,
    reason: Option<&str>,
    tenant: Option<&str>,
) -> sqlx::Result<()> {
    let sql = "UPDATE stray SET read = true, tenant_id = $4, reason = coalesce($3, reason), ghost = ghost OR $4::text IS NOT NULL
        WHERE server_id = $1 AND kind = 'database' AND name = $2";
    sqlx::query(sql).bind(server).bind(database).bind(reason).bind(tenant).execute(store).await?;
    Ok(())
}

pub async fn ready_builds(store: &PgPool, server: &str) -> sqlx::Result<Vec<String>> {
    let sql = "SELECT database FROM template_build WHERE server_id = $1 AND state = 'ready'";
    sqlx::query_scalar(sql).bind(server).fetch_all(store).await
}

/// The stock loop builds it anew. False when somebody else is at it.
pub async fn forget_ready_build(store: &PgPool, server: &str, database: &str) -> sqlx::Result<bool> {
    let sql = "DELETE FROM template_build WHERE server_id = $1 AND database = $2 AND state = 'ready'";
    Ok(sqlx::query(sql).bind(server).bind(database).execute(store).await?.rows_affected() == 1)
}

/// When a server was last compared, or why it could not be.
pub async fn record_round(store: &PgPool, server: &str, failure: Option<&str>) -> sqlx::Result<()> {
    let sql = "UPDATE server SET truth_at = CASE WHEN $2::text IS NULL THEN now() ELSE truth_at END, truth_error = $2 WHERE id = $1";
    sqlx::query(sql).bind(server).bind(failure).execute(store).await?;
    Ok(())
}

pub async fn forget_removed(store: &PgPool) -> sqlx::Result<()> {
    let sql = "DELETE FROM stray WHERE server_id IN (SELECT id FROM server WHERE state = 'removed')";
    sqlx::query(sql).execute(store).await?;
    Ok(())
}

#[derive(Debug, sqlx::FromRow)]
pub struct DriftRow {
    pub rank: i32,
    pub server: String,
    pub object: String,
    pub name: String,
    pub tenant: Option<String>,
    pub codes: Vec<String>,
    pub since: Timestamp,
}

/// What differs, as one relation: lost, bent, ghosts, foreign.
macro_rules! drift {
    ($tail:literal) => {
        concat!(
            "WITH drift AS (
                SELECT CASE WHEN EXISTS (SELECT FROM jsonb_array_elements_text(d.drift) c WHERE c LIKE 'lost\\_%' OR c = 'database_invalid')
                        THEN 0 ELSE 1 END AS rank, d.server_id AS server, 'database' AS object, d.database AS name, d.tenant_id AS tenant,
                    ARRAY(SELECT jsonb_array_elements_text(d.drift)) AS codes, coalesce(d.drift_since, now()) AS since
                FROM tenant_database d WHERE d.drift <> '[]'
                UNION ALL
                SELECT CASE WHEN ghost THEN 2 ELSE 3 END, server_id, kind, name, tenant_id, ARRAY[reason], first_seen FROM stray)
            SELECT x.* FROM drift x JOIN server s ON s.id = x.server AND s.state <> 'removed' ",
            $tail
        )
    };
}

/// Worst first. `after` is where the page before ended.
pub async fn page(
    store: &PgPool,
    server: Option<&str>,
    rank: Option<i32>,
    after: Option<&(i32, String, String, String)>,
    limit: i64,
) -> sqlx::Result<Vec<DriftRow>> {
    let sql = drift!(
        "WHERE ($1::text IS NULL OR x.server = $1) AND ($2::int IS NULL OR x.rank = $2)
           AND ($3::int IS NULL OR (x.rank, x.server, x.object, x.name) > ($3, $4, $5, $6))
         ORDER BY x.rank, x.server, x.object, x.name LIMIT $7"
    );
    let (at, last) =
        (after.map(|after| after.0), |part: fn(&(i32, String, String, String)) -> &String| after.map(part));
    sqlx::query_as(sql)
        .bind(server)
        .bind(rank)
        .bind(at)
        .bind(last(|after| &after.1))
        .bind(last(|after| &after.2))
        .bind(last(|after| &after.3))
        .bind(limit)
        .fetch_all(store)
        .await
}

/// Of each server, how many of each rank.
pub async fn counts(store: &PgPool) -> sqlx::Result<Vec<(String, i32, i64)>> {
    sqlx::query_as(concat!("SELECT server, rank, count(*) FROM (", drift!(""), ") y GROUP BY 1, 2 ORDER BY 2, 1"))
        .fetch_all(store)
        .await
}
