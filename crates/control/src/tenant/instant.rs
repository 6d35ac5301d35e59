//! A create where nothing is left to do but to say so: the tenant, its claim of a ready database, the operation that is
//! over and the audit event, in one statement. One message to the store and one commit: nothing can come between.
//! Absent: names by pattern, claim.sql, another plan's limits. Those go the long way (`create.rs`, `provision.rs`).

use freehold_api::tenant::CreateTenant;
use serde_json::json;
use sqlx::PgPool;
use sqlx::types::Json;
use uuid::Uuid;

use super::connection::{Access, access};
use super::store::{By, TenantRow};
use crate::audit::record::Actor;

pub struct Instant<'a> {
    pub body: &'a CreateTenant,
    pub plan: &'a str,
    pub template: &'a str,
    pub version: &'a str,
    /// Best first.
    pub servers: &'a [String],
    pub by: &'a By,
    pub actor: &'a Actor,
}

#[derive(sqlx::FromRow)]
struct Made {
    #[sqlx(flatten)]
    tenant: TenantRow,
    #[sqlx(flatten)]
    access: Access,
}

/// None, and nothing done, where the id is taken or no database of this template and plan is ready.
/// Waits for a rival of the same id that is not decided yet. Of a server's stock the youngest that its pooler serves is
/// taken: its pages are still in memory, and with thousands of databases those of the oldest are not.
pub async fn create(store: &PgPool, wanted: &Instant<'_>) -> sqlx::Result<Option<(TenantRow, Access)>> {
    let sql = concat!(
        "WITH pick AS MATERIALIZED (
            SELECT d.id, d.server_id, d.missing FROM unnest($5::text[]) AS best (id)
            CROSS JOIN LATERAL (
                SELECT d.id, d.server_id, d.missing FROM tenant_database d JOIN server s ON s.id = d.server_id
                WHERE d.state = 'ready' AND d.template = $3 AND d.template_version = $4 AND d.plan = $2
                  AND d.server_id = best.id AND s.state = 'active'
                ORDER BY d.pooled DESC, d.created_at DESC
                LIMIT 1 FOR UPDATE OF d SKIP LOCKED) d
            LIMIT 1),
        made AS (
            INSERT INTO tenant (id, name, plan, region, template, template_version, state, server_id,
                deletion_protection, missing_extensions, created_by, created_once)
            SELECT $1, $6, $2, $7, $3, $4, 'active', pick.server_id, $8, pick.missing, $9, $20 FROM pick
            ON CONFLICT (id) DO NOTHING RETURNING *),
        labelled AS (
            INSERT INTO tenant_label (tenant_id, key, value)
            SELECT made.id, l.key, l.value FROM made, unnest($10::text[], $11::text[]) AS l (key, value)),
        claimed AS (
            UPDATE tenant_database d SET state = 'claimed', tenant_id = made.id, claimed_at = now()
            FROM pick, made WHERE d.id = pick.id RETURNING d.*)
        SELECT made.*, '{}'::jsonb AS labels, NULL::uuid AS operation, l.id AS login, l.version, l.role, l.password,
            claimed.database, ",
        access!("claimed"),
        ", operation_finished($12, 'tenant.create', $13, 'Activate', $14, $15),
            audit_record($16, $14, $17, 'tenant.create', $13, 'success', NULL, $15, $18, $19 || jsonb_build_object('server', claimed.server_id))
        FROM made, claimed JOIN login l ON l.database_id = claimed.id AND l.purpose = 'tenant'
            JOIN server s ON s.id = claimed.server_id LEFT JOIN pooler p ON p.id = claimed.pooler_id"
    );
    let (body, actor) = (wanted.body, wanted.actor);
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
        .bind(wanted.by.key)
        .bind(keys)
        .bind(values)
        .bind(Uuid::now_v7())
        .bind(format!("tenant:{}", body.id))
        .bind(&actor.reference)
        .bind(&actor.request)
        .bind(Uuid::now_v7())
        .bind(&actor.name)
        .bind(&actor.client)
        .bind(json!({"plan": wanted.plan, "template": wanted.template}))
        .bind(&wanted.by.once.key)
        .fetch_optional(store)
        .await?;
    Ok(made.map(|made| (TenantRow { labels: Json(labels), ..made.tenant }, made.access)))
}
