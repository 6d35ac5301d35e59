//! A create where nothing is left to do but to say so: the tenant and its claim of a ready database, in one statement.
//! Absent: names by pattern, claim.sql, another plan's limits. Those go the long way (`create.rs`, `provision.rs`).

use freehold_api::tenant::CreateTenant;
use sqlx::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

use super::connection::Access;
use super::store::TenantRow;

pub struct Instant<'a> {
    pub body: &'a CreateTenant,
    pub plan: &'a str,
    pub template: &'a str,
    pub version: &'a str,
    /// Best first.
    pub servers: &'a [String],
    pub created_by: Option<Uuid>,
}

#[derive(sqlx::FromRow)]
struct Made {
    #[sqlx(flatten)]
    tenant: TenantRow,
    #[sqlx(flatten)]
    access: Access,
}

/// None, and nothing done, where the id is taken or no database of this template and plan is ready.
/// Waits for a rival of the same id that is not decided yet.
pub async fn create(tx: &mut PgConnection, wanted: &Instant<'_>) -> sqlx::Result<Option<(TenantRow, Access)>> {
    let sql = "WITH pick AS MATERIALIZED (
            SELECT d.id, d.server_id, d.missing FROM tenant_database d JOIN server s ON s.id = d.server_id
            WHERE d.state = 'ready' AND d.template = $3 AND d.template_version = $4 AND d.plan = $2
              AND s.state = 'active' AND d.server_id = ANY($5)
            ORDER BY array_position($5, d.server_id), d.created_at
            LIMIT 1 FOR UPDATE OF d SKIP LOCKED),
        made AS (
            INSERT INTO tenant (id, name, plan, region, template, template_version, state, server_id,
                deletion_protection, missing_extensions, created_by)
            SELECT $1, $6, $2, $7, $3, $4, 'active', pick.server_id, $8, pick.missing, $9 FROM pick
            ON CONFLICT (id) DO NOTHING RETURNING *),
        labelled AS (
            INSERT INTO tenant_label (tenant_id, key, value)
            SELECT made.id, l.key, l.value FROM made, unnest($10::text[], $11::text[]) AS l (key, value)),
        claimed AS (
            UPDATE tenant_database d SET state = 'claimed', tenant_id = made.id, claimed_at = now()
            FROM pick, made WHERE d.id = pick.id RETURNING d.id, d.server_id, d.database)
        SELECT made.*, '{}'::jsonb AS labels, NULL::uuid AS operation, l.id AS login, l.version, l.role, l.password,
            claimed.database, s.tenant_host, s.tenant_port, s.tenant_sslmode, s.ca_certificate
        FROM made, claimed JOIN login l ON l.database_id = claimed.id AND l.purpose = 'tenant'
            JOIN server s ON s.id = claimed.server_id";
    let body = wanted.body;
    let labels = body.labels.clone().unwrap_or_default();
    let (keys, values): (Vec<&str>, Vec<&str>) = labels.iter().map(|(key, value)| (&**key, &**value)).unzip();
    let made: Option<Made> = sqlx::query_as(sql)
        .bind(body.id.as_str())
        .bind(wanted.plan)
        .bind(wanted.template)
        .bind(wanted.version)
        .bind(wanted.servers)
        .bind(body.name.as_deref().unwrap_or(body.id.as_str()))
        .bind(&body.region)
        .bind(body.deletion_protection.unwrap_or(false))
        .bind(wanted.created_by)
        .bind(keys)
        .bind(values)
        .fetch_optional(tx)
        .await?;
    Ok(made.map(|made| (TenantRow { labels: Json(labels), ..made.tenant }, made.access)))
}
