//! Which tenant an edge's external id is. Two external ids never are the same tenant, and an id that was never seen
//! here never becomes a tenant that was made by somebody else.

use freehold_api::id::TenantId;
use freehold_api::problem::Code;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::http::problem::Refused;
use crate::plane::Answer;

/// An id as an edge's callers write it.
#[derive(Debug, Clone, Copy)]
pub struct External<'a> {
    pub edge: &'a str,
    pub id: &'a str,
}

pub async fn find(store: &PgPool, external: &External<'_>) -> Answer<Option<TenantId>> {
    let sql = "SELECT tenant_id FROM edge_tenant WHERE edge = $1 AND external_id = $2";
    let found: Option<String> =
        sqlx::query_scalar(sql).bind(external.edge).bind(external.id).fetch_optional(store).await?;
    Ok(found.and_then(|id| id.parse().ok()))
}

/// In the transaction that makes the tenant: from now on this external id is that tenant.
pub async fn bind(tx: &mut PgConnection, external: &External<'_>, tenant: &TenantId) -> Answer<()> {
    let sql = "INSERT INTO edge_tenant (edge, external_id, tenant_id) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
    sqlx::query(sql).bind(external.edge).bind(external.id).bind(tenant.as_str()).execute(&mut *tx).await?;
    require(tx, external, tenant).await
}

/// Refuses a tenant that was not made for this very external id.
pub async fn require(tx: &mut PgConnection, external: &External<'_>, tenant: &TenantId) -> Answer<()> {
    let sql = "SELECT EXISTS (SELECT FROM edge_tenant WHERE edge = $1 AND external_id = $2 AND tenant_id = $3)";
    let bound: bool =
        sqlx::query_scalar(sql).bind(external.edge).bind(external.id).bind(tenant.as_str()).fetch_one(tx).await?;
    if bound {
        return Ok(());
    }
    let shown = freehold_api::id::shown(external.id);
    let detail = format!("{shown} becomes {tenant} after normalisation, and that is another tenant; choose another id");
    Err(Refused::new(Code::NameTaken, detail))
}

/// True when the tenant's last making failed and nobody was told yet: then it is told now, and the next request begins again.
pub async fn tell_failure(store: &PgPool, external: &External<'_>) -> Answer<bool> {
    let sql = "UPDATE edge_tenant e SET failure_told = t.state_since FROM tenant t
        WHERE e.edge = $1 AND e.external_id = $2 AND t.id = e.tenant_id AND t.state = 'failed'
          AND e.failure_told IS DISTINCT FROM t.state_since";
    let done = sqlx::query(sql).bind(external.edge).bind(external.id).execute(store).await?;
    Ok(done.rows_affected() == 1)
}

/// The operation that made the tenant last, or did not.
pub async fn last_create(store: &PgPool, tenant: &str) -> Answer<Option<Uuid>> {
    let sql =
        "SELECT id FROM operation WHERE subject = 'tenant:' || $1 AND kind = 'tenant.create' ORDER BY id DESC LIMIT 1";
    Ok(sqlx::query_scalar(sql).bind(tenant).fetch_optional(store).await?)
}

/// Lower-cased, what is not `[a-z0-9]` becomes a hyphen. Letters outside ASCII are refused rather than folded.
pub fn slug(field: &str, external: &str) -> Answer<TenantId> {
    let refuse = |why: &str| Refused::field(field, format!("{} {why}", freehold_api::id::shown(external)));
    if !external.is_ascii() || external.bytes().any(|b| b.is_ascii_control()) {
        return Err(refuse("holds characters outside printable ASCII"));
    }
    let slug: String =
        external.to_ascii_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    slug.parse().map_err(|error| refuse(&format!("cannot become a tenant id: {error}")))
}

#[cfg(test)]
mod tests {
    use super::slug;

    #[test]
    fn edge_slugs_are_derived_or_refused() {
        assert_eq!(slug("id", "Acme.X").unwrap().as_str(), "acme-x");
        assert_eq!(slug("id", "a_b").unwrap().as_str(), "a-b");
        for bad in ["", ".x", "Ärzte", "a\0b", &"a".repeat(49)] {
            assert!(slug("id", bad).is_err(), "{bad:?}");
        }
    }
}
