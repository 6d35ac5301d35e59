//! All SQL about the audit as TansuCloud has it.

use freehold_api::id::TenantId;
use jiff_sqlx::{Timestamp, ToSqlx};
use serde_json::Value;
use sqlx::{PgPool, Postgres, QueryBuilder};
use uuid::Uuid;

use super::NAME;
use super::audit::{After, Choice};

#[derive(sqlx::FromRow)]
pub(super) struct Row {
    pub id: Uuid,
    seq: i64,
    pub at: Timestamp,
    pub tenant_id: String,
    pub actor: String,
    pub action: String,
    pub category: String,
    pub route: String,
    pub outcome: String,
    pub reason: Option<String>,
    pub request_id: Option<String>,
    pub details: Value,
}

impl Row {
    pub fn after(&self) -> After {
        (self.at.to_jiff().as_microsecond(), self.seq)
    }
}

/// What TansuCloud has words for has them. Whoever was refused a route has that as the action.
macro_rules! category {
    () => {
        "CASE WHEN a.action = 'tenant.create' THEN 'Provisioning' WHEN a.action ~ '^[A-Z]+ /' THEN 'request'
            ELSE split_part(a.action, '.', 1) END"
    };
}
macro_rules! action {
    () => {
        "CASE a.action WHEN 'tenant.create' THEN 'TenantProvision' ELSE a.action END"
    };
}

/// Newest first. What has no time that others can read is in no page: it is between no two times.
pub(super) async fn page(store: &PgPool, choice: &Choice, after: Option<After>, limit: i64) -> sqlx::Result<Vec<Row>> {
    let mut sql: QueryBuilder<Postgres> = QueryBuilder::new(concat!(
        "SELECT a.id, a.seq, a.at, CASE WHEN a.subject LIKE 'tenant:%' THEN coalesce(t.external_id, substr(a.subject, 8)) ELSE '' END
           AS tenant_id, a.actor, ",
        action!(),
        " AS action, ",
        category!(),
        " AS category, CASE WHEN a.action ~ '^[A-Z]+ /' THEN a.action ELSE '' END AS route, a.outcome, a.reason, a.request_id, a.details
         FROM audit a LEFT JOIN edge_tenant t
           ON a.subject LIKE 'tenant:%' AND t.tenant_id = substr(a.subject, 8) AND t.edge = "
    ));
    sql.push_bind(NAME).push(" WHERE a.at >= ").push_bind(choice.start.to_sqlx());
    sql.push(" AND a.at <= ").push_bind(choice.end.to_sqlx());
    let tenant = choice.tenant.as_ref().map(|tenant| format!("tenant:{tenant}"));
    for (column, value) in [
        (" AND a.subject = ", tenant.as_deref()),
        (" AND a.actor = ", choice.actor.as_deref()),
        (concat!(" AND ", category!(), " = "), choice.category.as_deref()),
        (concat!(" AND ", action!(), " = "), choice.action.as_deref()),
        (" AND a.outcome = ", choice.outcome),
        (" AND a.request_id = ", choice.request_id.as_deref()),
    ] {
        if let Some(value) = value {
            sql.push(column).push_bind(value.replace('\0', ""));
        }
    }
    if let Some((at, seq)) = after {
        // A token may hold anything.
        let at = jiff::Timestamp::from_microsecond(at).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        sql.push(" AND (a.at, a.seq) < (").push_bind(at.to_sqlx()).push(", ").push_bind(seq).push(")");
    }
    sql.push(" ORDER BY a.at DESC, a.seq DESC LIMIT ").push_bind(limit);
    sql.build_query_as().fetch_all(store).await
}

/// Whether a tenant was made for an id that is written in another way.
pub(super) async fn is_anothers(store: &PgPool, edge: &str, tenant: &TenantId) -> sqlx::Result<bool> {
    let sql = "SELECT EXISTS (SELECT FROM edge_tenant WHERE edge = $1 AND tenant_id = $2)";
    sqlx::query_scalar(sql).bind(edge).bind(tenant.as_str()).fetch_one(store).await
}
