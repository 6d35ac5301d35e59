//! Lists and shows plans, by rank.

use axum::extract::State;
use freehold_api::id::PlanName;
use freehold_api::page::{Page, Paging};
use freehold_api::plan::Plan;
use freehold_api::problem::Code;

use crate::http::extract::{Id, Json, Query, cursor, limit, next_cursor};
use crate::http::problem::Refused;
use crate::plane::{Answer, Plane};

/// List plans
#[utoipa::path(get, path = "/v1/plans", tag = "plans", params(Paging),
    responses((status = 200, description = "A page of plans, by rank", body = Page<Plan>)))]
pub async fn list(State(plane): State<Plane>, Query(query): Query<Paging>) -> Answer<Json<Page<Plan>>> {
    let limit = usize::try_from(limit(query.limit)?).unwrap_or(usize::MAX);
    let from: usize = cursor(query.cursor.as_deref())?.unwrap_or(0);
    let mut plans: Vec<Plan> = plane.settings.plans.clone();
    plans.sort_by(|a, b| (a.rank, a.name.as_str()).cmp(&(b.rank, b.name.as_str())));
    let next = from.saturating_add(limit);
    let next_cursor = (next < plans.len()).then(|| next_cursor(&next)).flatten();
    Ok(Json(Page { items: plans.into_iter().skip(from).take(limit).collect(), next_cursor }))
}

/// Show one plan
#[utoipa::path(get, path = "/v1/plans/{name}", tag = "plans", params(("name" = PlanName, Path, description = "The plan's name")),
    responses((status = 200, description = "The plan", body = Plan)))]
pub async fn show(State(plane): State<Plane>, Id(name): Id<PlanName>) -> Answer<Json<Plan>> {
    let plan = plane.settings.plan(name.as_str()).cloned();
    plan.map(Json).ok_or_else(|| {
        Refused::new(Code::NotFound, format!("there is no plan {name}; `freehold plan list` shows them"))
    })
}
