//! Lists and shows tenants. Every page is read along an index: its cost is its length, not the fleet's.
//!
//! With `q`, ids that begin with it come first, in their order; then names that do, in theirs.

use axum::extract::State;
use axum::response::Response;
use freehold_api::id::TenantId;
use freehold_api::page::Page;
use freehold_api::tenant::{ListTenants, Tenant};
use serde::{Deserialize, Serialize};
use sqlx::{Postgres, QueryBuilder};

use super::change;
use super::store::{TenantRow, select};
use crate::http::access::Caller;
use crate::http::extract::{Id, Json, Query, cursor, limit, next_cursor, text};
use crate::http::problem::Refused;
use crate::plane::{Answer, Plane};
use crate::stats::show as stats;

/// Where a page ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
enum Cursor {
    /// In the order of ids.
    Id(String),
    /// In the order of names: lower-cased name, then id.
    Name(String, String),
}

/// Show one tenant
#[utoipa::path(get, path = "/v1/tenants/{id}", tag = "tenants", params(("id" = TenantId, Path, description = "The tenant's id")),
    responses((status = 200, description = "The tenant", body = Tenant)))]
pub async fn show(State(plane): State<Plane>, Id(id): Id<TenantId>) -> Answer<Response> {
    let row = change::find(&plane, &id).await?;
    let usage = stats::usage(&plane.core, &row.id).await?;
    Ok(change::shown_with(row, usage))
}

/// List tenants
#[utoipa::path(get, path = "/v1/tenants", tag = "tenants", params(ListTenants),
    responses((status = 200, description = "A page of tenants, by id", body = Page<Tenant>)))]
pub async fn list(
    State(plane): State<Plane>,
    caller: Caller,
    Query(query): Query<ListTenants>,
) -> Answer<Json<Page<Tenant>>> {
    let limit = limit(query.limit)?;
    let from: Option<Cursor> = cursor(query.cursor.as_deref())?;
    let labels = labels(&query.label)?;
    for (field, value) in
        [("plan", &query.plan), ("server", &query.server), ("template", &query.template), ("q", &query.q)]
    {
        if let Some(value) = value {
            text(field, value, 200)?;
        }
    }
    let mut rows: Vec<(TenantRow, bool)> = Vec::new();
    let by_name_only = matches!(from, Some(Cursor::Name(..)));
    if !by_name_only {
        let mut sql = filtered(&query, &labels, &caller);
        // With `q` in the order of the index for prefixes, so that narrow and broad ones are read along it alike.
        let (before, beyond) = if let Some(q) = &query.q {
            push_begins_with(sql.push(" AND "), &q.to_lowercase());
            ("~<~", "~>~")
        } else {
            ("<", ">")
        };
        if let Some(Cursor::Id(after)) = &from {
            sql.push(" AND t.id ").push(beyond).push(" ").push_bind(after.clone());
        }
        sql.push(" ORDER BY t.id USING ").push(before).push(" LIMIT ").push_bind(limit + 1);
        let found: Vec<TenantRow> = sql.build_query_as().fetch_all(&plane.store).await?;
        rows.extend(found.into_iter().map(|row| (row, false)));
    }
    if let Some(q) = &query.q
        && (rows.len() as i64) <= limit
    {
        let q = q.to_lowercase();
        let mut sql = filtered(&query, &labels, &caller);
        sql.push(" AND lower(t.name) COLLATE \"C\" >= ").push_bind(q.clone());
        if let Some(end) = after(&q) {
            sql.push(" AND lower(t.name) COLLATE \"C\" < ").push_bind(end);
        }
        push_begins_with(sql.push(" AND NOT "), &q);
        if let Some(Cursor::Name(name, id)) = &from {
            sql.push(" AND (lower(t.name) COLLATE \"C\", t.id COLLATE \"C\") > (")
                .push_bind(name.clone())
                .push(", ")
                .push_bind(id.clone())
                .push(")");
        }
        sql.push(" ORDER BY lower(t.name) COLLATE \"C\", t.id COLLATE \"C\" LIMIT ")
            .push_bind(limit + 1 - rows.len() as i64);
        let found: Vec<TenantRow> = sql.build_query_as().fetch_all(&plane.store).await?;
        rows.extend(found.into_iter().map(|row| (row, true)));
    }
    let more = rows.len() as i64 > limit;
    rows.truncate(limit as usize);
    let next = rows.last().filter(|_| more).and_then(|(row, by_name)| {
        let cursor =
            if *by_name { Cursor::Name(row.name.to_lowercase(), row.id.clone()) } else { Cursor::Id(row.id.clone()) };
        next_cursor(&cursor)
    });
    Ok(Json(Page { items: rows.into_iter().map(|(row, _)| row.into()).collect(), next_cursor: next }))
}

fn filtered(query: &ListTenants, labels: &[(String, String)], caller: &Caller) -> QueryBuilder<Postgres> {
    let mut sql: QueryBuilder<Postgres> = QueryBuilder::new(select!("WHERE true"));
    for (column, value) in [
        (" AND t.plan = ", query.plan.clone()),
        (" AND t.state = ", query.state.map(|state| state.as_str().to_owned())),
        (" AND t.server_id = ", query.server.clone()),
        (" AND t.template = ", query.template.clone()),
    ] {
        if let Some(value) = value {
            sql.push(column).push_bind(value);
        }
    }
    for (key, value) in labels {
        sql.push(" AND EXISTS (SELECT FROM tenant_label x WHERE x.tenant_id = t.id AND x.key = ");
        sql.push_bind(key.clone()).push(" AND x.value = ").push_bind(value.clone()).push(")");
    }
    if let Some(bound) = &caller.tenants {
        let ids: Vec<String> = bound.iter().map(TenantId::to_string).collect();
        sql.push(" AND t.id = ANY(").push_bind(ids).push(")");
    }
    sql
}

fn labels(given: &[String]) -> Answer<Vec<(String, String)>> {
    let parsed = given.iter().map(|label| match label.split_once('=') {
        Some((key, value)) if !key.is_empty() && !label.contains('\0') => Ok((key.to_owned(), value.to_owned())),
        _ => Err(Refused::field("label", "expected key=value, for example label=tier=gold")),
    });
    parsed.collect()
}

/// Ids that begin with `text`. A range and not LIKE: it is read along the index whatever is bound to it, so that its plan
/// is kept.
fn push_begins_with(sql: &mut QueryBuilder<Postgres>, text: &str) {
    sql.push("(t.id ~>=~ ").push_bind(text.to_owned());
    if let Some(end) = after(text) {
        sql.push(" AND t.id ~<~ ").push_bind(end);
    }
    sql.push(")");
}

/// The first text, by code points, that comes after everything that begins with `text`.
fn after(text: &str) -> Option<String> {
    let mut head = text.to_owned();
    while let Some(last) = head.pop() {
        // The successor of a character skips the surrogates; the last one has none.
        if let Some(next) = (last..=char::MAX).nth(1) {
            head.push(next);
            return Some(head);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::after;

    #[test]
    fn the_end_of_a_prefix_comes_after_all_that_begins_with_it() {
        assert_eq!(after("ab").as_deref(), Some("ac"));
        assert_eq!(after("a\u{10FFFF}").as_deref(), Some("b"));
        assert_eq!(after("\u{D7FF}").as_deref(), Some("\u{E000}"));
        assert_eq!(after("\u{10FFFF}"), None);
    }
}
