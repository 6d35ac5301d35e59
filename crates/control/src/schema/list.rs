//! Lists and shows the current templates.

use axum::extract::State;
use freehold_api::id::TemplateName;
use freehold_api::page::{Page, Paging};
use freehold_api::problem::Code;
use freehold_api::template::TemplateInfo;

use super::store;
use crate::http::extract::{Id, Json, Query, cursor, limit, next_cursor};
use crate::http::problem::Refused;
use crate::plane::{Answer, Plane};

/// List templates
#[utoipa::path(get, path = "/v1/templates", tag = "templates", params(Paging),
    responses((status = 200, description = "A page of templates, by name", body = Page<TemplateInfo>)))]
pub async fn list(State(plane): State<Plane>, Query(query): Query<Paging>) -> Answer<Json<Page<TemplateInfo>>> {
    let limit = limit(query.limit)?;
    let after: Option<String> = cursor(query.cursor.as_deref())?;
    let mut items = store::page(&plane.store, after.as_deref(), limit + 1).await?;
    let more = items.len() as i64 > limit;
    items.truncate(limit as usize);
    let next = items.last().filter(|_| more).and_then(|info| next_cursor(&info.name.to_string()));
    Ok(Json(Page { items, next_cursor: next }))
}

/// Show one template
#[utoipa::path(get, path = "/v1/templates/{name}", tag = "templates", params(("name" = TemplateName, Path, description = "The template's name")),
    responses((status = 200, description = "The template's current version", body = TemplateInfo)))]
pub async fn show(State(plane): State<Plane>, Id(name): Id<TemplateName>) -> Answer<Json<TemplateInfo>> {
    Ok(Json(find(&plane, &name).await?))
}

pub async fn find(plane: &Plane, name: &TemplateName) -> Answer<TemplateInfo> {
    let info = store::info(&plane.store, name.as_str()).await?;
    info.ok_or_else(|| {
        Refused::new(Code::NotFound, format!("there is no template {name}; `freehold template list` shows them"))
    })
}
