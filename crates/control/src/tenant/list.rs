//! Lists and shows tenants. Every page is read along an index: its cost is its length, not the fleet's.
//!
//! With `q`, ids that begin with it come first, in their order; then names that do, in theirs.

use std::collections::HashMap;

use axum::extract::State;
use axum::response::Response;
use freehold_api::id::TenantId;
use freehold_api::page::Page;
use freehold_api::tenant::{ListTenants, Tenant};
use serde::{Deserialize, Serialize};
use sqlx::{Postgres, QueryBuilder};

use super::change;
use super::movability::store as movability;
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
    let movability = movability::of_tenant(&plane.store, &row.id).await?;
    Ok(change::shown_with(row, usage, movability))
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
    let (mut rows, more) = match &query.q {
        None => page(&plane, &query, &labels, &caller, from, limit + 1).await?,
        Some(q) => search(&plane, &query, &labels, &caller, &q.to_lowercase(), from, limit + 1).await?,
    };
    rows.truncate(limit as usize);
    let next = rows.last().filter(|_| more).and_then(|(row, by_name)| {
        let cursor =
            if *by_name { Cursor::Name(row.name.to_lowercase(), row.id.clone()) } else { Cursor::Id(row.id.clone()) };
        next_cursor(&cursor)
    });
    Ok(Json(Page { items: rows.into_iter().map(|(row, _)| row.into()).collect(), next_cursor: next }))
}

/// Tenants, each with whether it was found by its name; and whether there are as many as were asked for.
type Found = (Vec<(TenantRow, bool)>, bool);

async fn page(
    plane: &Plane,
    query: &ListTenants,
    labels: &[(String, String)],
    caller: &Caller,
    from: Option<Cursor>,
    count: i64,
) -> Answer<Found> {
    let ids_first = filters(query, labels) > 1;
    let mut sql =
        QueryBuilder::new(if ids_first { "SELECT t.id FROM tenant t WHERE true" } else { select!("WHERE true") });
    push_filters(&mut sql, query, labels, caller);
    if let Some(Cursor::Id(after) | Cursor::Name(_, after)) = from {
        sql.push(" AND t.id > ").push_bind(after);
    }
    sql.push(" ORDER BY t.id LIMIT ").push_bind(count);
    if ids_first {
        let ids: Vec<String> = sql.build_query_scalar().fetch_all(&plane.store).await?;
        let is_full = ids.len() as i64 == count;
        return Ok((rows(plane, ids.into_iter().map(|id| (id, false)).collect()).await?, is_full));
    }
    let found: Vec<TenantRow> = sql.build_query_as().fetch_all(&plane.store).await?;
    let is_full = found.len() as i64 == count;
    Ok((found.into_iter().map(|row| (row, false)).collect(), is_full))
}

/// Ids first, as a search is planned anew for each text.
async fn search(
    plane: &Plane,
    query: &ListTenants,
    labels: &[(String, String)],
    caller: &Caller,
    q: &str,
    from: Option<Cursor>,
    count: i64,
) -> Answer<Found> {
    let mut sql = QueryBuilder::new("SELECT * FROM (");
    if !matches!(from, Some(Cursor::Name(..))) {
        sql.push("(SELECT t.id, false FROM tenant t WHERE ");
        push_begins_with(&mut sql, q);
        push_filters(&mut sql, query, labels, caller);
        if let Some(Cursor::Id(after)) = &from {
            sql.push(" AND t.id ~>~ ").push_bind(after.clone());
        }
        sql.push(" ORDER BY t.id USING ~<~ LIMIT ").push_bind(count).push(") UNION ALL ");
    }
    sql.push("(SELECT t.id, true FROM tenant t WHERE NOT ");
    push_begins_with(&mut sql, q);
    sql.push(" AND lower(t.name) COLLATE \"C\" >= ").push_bind(q.to_owned());
    if let Some(end) = after(q) {
        sql.push(" AND lower(t.name) COLLATE \"C\" < ").push_bind(end);
    }
    push_filters(&mut sql, query, labels, caller);
    if let Some(Cursor::Name(name, id)) = from {
        sql.push(" AND (lower(t.name) COLLATE \"C\", t.id COLLATE \"C\") > (");
        sql.push_bind(name).push(", ").push_bind(id).push(")");
    }
    sql.push(" ORDER BY lower(t.name) COLLATE \"C\", t.id COLLATE \"C\" LIMIT ").push_bind(count);
    sql.push(")) found LIMIT ").push_bind(count);
    let ids: Vec<(String, bool)> = sql.build_query_as().fetch_all(&plane.store).await?;
    let is_full = ids.len() as i64 == count;
    Ok((rows(plane, ids).await?, is_full))
}

/// What is shown of these. One that was purged since it was found is no longer there; the page goes on all the same.
async fn rows(plane: &Plane, ids: Vec<(String, bool)>) -> Answer<Vec<(TenantRow, bool)>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let wanted: Vec<&str> = ids.iter().map(|(id, _)| id.as_str()).collect();
    let rows: Vec<TenantRow> =
        sqlx::query_as(select!("WHERE t.id = ANY($1)")).bind(&wanted).fetch_all(&plane.store).await?;
    let mut rows: HashMap<String, TenantRow> = rows.into_iter().map(|row| (row.id.clone(), row)).collect();
    Ok(ids.into_iter().filter_map(|(id, by_name)| Some((rows.remove(&id)?, by_name))).collect())
}

/// How much a page is narrowed by. With more than one PostgreSQL plans it anew each time, in a large store at least: what
/// that costs grows with what is shown, so the ids are looked for alone.
fn filters(query: &ListTenants, labels: &[(String, String)]) -> usize {
    let given = [
        query.plan.is_some(),
        query.state.is_some(),
        query.server.is_some(),
        query.template.is_some(),
        query.movable.is_some(),
    ];
    given.into_iter().filter(|given| *given).count() + labels.len()
}

fn push_filters(sql: &mut QueryBuilder<Postgres>, query: &ListTenants, labels: &[(String, String)], caller: &Caller) {
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
    if let Some(movable) = query.movable {
        sql.push(" AND EXISTS (SELECT FROM movability m WHERE m.tenant_id = t.id AND m.at IS NOT NULL AND coalesce(m.method, 'none') = ");
        sql.push_bind(movable.as_str()).push(")");
    }
    for (key, value) in labels {
        sql.push(" AND EXISTS (SELECT FROM tenant_label x WHERE x.tenant_id = t.id AND x.key = ");
        sql.push_bind(key.clone()).push(" AND x.value = ").push_bind(value.clone()).push(")");
    }
    if let Some(bound) = &caller.tenants {
        let ids: Vec<String> = bound.iter().map(TenantId::to_string).collect();
        sql.push(" AND t.id = ANY(").push_bind(ids).push(")");
    }
}

fn labels(given: &[String]) -> Answer<Vec<(String, String)>> {
    let parsed = given.iter().map(|label| match label.split_once('=') {
        Some((key, value)) if !key.is_empty() && !label.contains('\0') => Ok((key.to_owned(), value.to_owned())),
        _ => Err(Refused::field("label", "expected key=value, for example label=tier=gold")),
    });
    parsed.collect()
}

/// Ids that begin with `text`, in the order of the index for prefixes: narrow and broad ones are read along it alike.
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
