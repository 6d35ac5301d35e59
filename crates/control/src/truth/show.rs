//! Tells what the loop found. Reads the store only.

use axum::extract::State;
use freehold_api::drift::{Drift, DriftKind, DriftObject, ListDrift};
use freehold_api::page::Page;
use jiff_sqlx::Timestamp;

use super::store::{self, DriftRow};
use crate::http::extract::{Json, Query, cursor, limit, next_cursor, text};
use crate::plane::{Answer, Plane};

/// List what differs between the store and servers, worst first
#[utoipa::path(get, path = "/v1/drift", tag = "servers", params(ListDrift),
    responses((status = 200, description = "A page of it, as of the last comparison", body = Page<Drift>)))]
pub async fn list(State(plane): State<Plane>, Query(query): Query<ListDrift>) -> Answer<Json<Page<Drift>>> {
    let limit = limit(query.limit)?;
    let after: Option<(i32, String, String, String)> = cursor(query.cursor.as_deref())?;
    if let Some(server) = &query.server {
        text("server", server, 200)?;
    }
    let rank = query.kind.map(rank);
    let mut rows = store::page(&plane.store, query.server.as_deref(), rank, after.as_ref(), limit + 1).await?;
    let more = rows.len() as i64 > limit;
    rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let last = rows.last().filter(|_| more);
    let next_cursor = last.and_then(|row| next_cursor(&(row.rank, &row.server, &row.object, &row.name)));
    Ok(Json(Page { items: rows.into_iter().filter_map(told).collect(), next_cursor }))
}

fn rank(kind: DriftKind) -> i32 {
    kind as i32
}

pub fn kind_of(rank: i32) -> DriftKind {
    DriftKind::ALL.into_iter().find(|kind| *kind as i32 == rank).unwrap_or(DriftKind::Foreign)
}

fn told(row: DriftRow) -> Option<Drift> {
    let kind = kind_of(row.rank);
    let object = if row.object == "role" { DriftObject::Role } else { DriftObject::Database };
    Some(Drift {
        kind,
        server: row.server.parse().ok()?,
        object,
        message: message(kind, object, &row),
        name: row.name,
        tenant: row.tenant.and_then(|tenant| tenant.parse().ok()),
        codes: row.codes,
        since: Timestamp::to_jiff(row.since),
    })
}

fn message(kind: DriftKind, object: DriftObject, row: &DriftRow) -> String {
    let whose = match (&row.tenant, kind) {
        (Some(tenant), DriftKind::Ghost) => format!(" of what was tenant {tenant}"),
        (Some(tenant), _) => format!(" of tenant {tenant}"),
        (None, _) => String::new(),
    };
    let (what, name) = (object.as_str(), &row.name);
    match kind {
        DriftKind::Lost => format!(
            "{what} {name}{whose} is not whole on the server ({}): nothing is made in its place; restore it, or delete the tenant",
            row.codes.join(", ")
        ),
        DriftKind::Bent => {
            format!(
                "{what} {name}{whose} is bent ({}) and could not be mended yet; it is tried again",
                row.codes.join(", ")
            )
        }
        DriftKind::Ghost => format!(
            "{what} {name}{whose} was made by Freehold and is not in its store: it is left alone; keep it by adopting it, or drop it by hand"
        ),
        DriftKind::Foreign => format!("{what} {name} is none of Freehold's"),
    }
}
