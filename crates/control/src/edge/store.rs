//! Which tenant an edge's external id is. Two external ids never are the same tenant.

use freehold_api::id::TenantId;
use freehold_api::problem::Code;
use sqlx::PgPool;

use crate::http::problem::Refused;
use crate::plane::Answer;

/// Finds the tenant of an external id, or writes down which one it is going to be.
pub async fn ensure(store: &PgPool, edge: &str, external: &str) -> Answer<TenantId> {
    if let Some(found) = find(store, edge, external).await? {
        return Ok(found);
    }
    let slug = slug(external)?;
    let sql = "INSERT INTO edge_tenant (edge, external_id, tenant_id)
        SELECT $1, $2, $3 WHERE $2 = $3 OR NOT EXISTS (SELECT FROM tenant WHERE id = $3)
        ON CONFLICT DO NOTHING";
    sqlx::query(sql).bind(edge).bind(external).bind(slug.as_str()).execute(store).await?;
    let found = find(store, edge, external).await?;
    found.ok_or_else(|| {
        let shown = freehold_api::id::shown(external);
        Refused::new(
            Code::NameTaken,
            format!("{shown} becomes {slug} after normalisation, and that is another tenant; choose another id"),
        )
    })
}

pub async fn find(store: &PgPool, edge: &str, external: &str) -> Answer<Option<TenantId>> {
    let sql = "SELECT tenant_id FROM edge_tenant WHERE edge = $1 AND external_id = $2";
    let found: Option<String> = sqlx::query_scalar(sql).bind(edge).bind(external).fetch_optional(store).await?;
    Ok(found.and_then(|id| id.parse().ok()))
}

/// Lower-cased, what is not `[a-z0-9]` becomes a hyphen. Letters outside ASCII are refused rather than folded.
fn slug(external: &str) -> Answer<TenantId> {
    let refuse = |why: &str| Refused::field("tenantId", format!("{} {why}", freehold_api::id::shown(external)));
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
        assert_eq!(slug("Acme.X").unwrap().as_str(), "acme-x");
        assert_eq!(slug("a_b").unwrap().as_str(), "a-b");
        for bad in ["", ".x", "Ärzte", "a\0b", &"a".repeat(49)] {
            assert!(slug(bad).is_err(), "{bad:?}");
        }
    }
}
