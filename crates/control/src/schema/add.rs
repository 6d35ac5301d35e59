//! Adds a template, or a new version of one. Existing tenants keep theirs; the stock is rebuilt in the background.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use freehold_api::problem::Code;
use freehold_api::template::{AddTemplate, Template, TemplateInfo};

use super::{list, store};
use crate::audit::record::Event;
use crate::http::access::Caller;
use crate::http::extract::Json;
use crate::http::problem::Refused;
use crate::plane::{Answer, Plane};

/// Add a template or a new version of one
#[utoipa::path(post, path = "/v1/templates", tag = "templates", request_body = AddTemplate,
    responses(
        (status = 201, description = "A new version, now the current one", body = TemplateInfo),
        (status = 200, description = "This version was the current one already", body = TemplateInfo)))]
pub async fn add(State(plane): State<Plane>, caller: Caller, Json(body): Json<AddTemplate>) -> Answer<Response> {
    if body.files.values().any(|text| text.contains('\0')) {
        return Err(Refused::field("files", "a file holds a NUL character, which cannot be stored"));
    }
    let template = Template::parse(body.name, body.files).map_err(|bad| {
        let mut problem = freehold_api::Problem::new(Code::Invalid, "the template is not valid; see errors");
        for fault in bad.faults.into_iter().take(50) {
            problem = problem.with_field("files", fault);
        }
        Refused::from(problem)
    })?;
    if template.manifest.migrate.is_some() && !plane.settings.templates.allow_commands {
        let detail = "this server runs no migrate.command (setting templates.allow_commands = true lets whoever may add templates run programs on it)";
        return Err(Refused::field("files", detail));
    }
    let current = plane.catalog.find(&plane.store, template.name.as_str()).await?;
    let is_new = current.is_none_or(|current| current.version != template.version);
    let mut tx = plane.store.begin().await?;
    store::put(&mut tx, &template, true, false).await?;
    store::retry_failed(&mut tx, None, Some(template.name.as_str())).await?;
    if is_new {
        Event::done(&caller.actor(), "template.add", format!("template:{}", template.name))
            .with(serde_json::json!({"version": template.version}))
            .save(&mut *tx)
            .await?;
    }
    tx.commit().await?;
    plane.catalog.forget().await;
    plane.engine.wake("stock");
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(list::find(&plane, &template.name).await?)).into_response())
}
