//! The OpenAPI 3.1 document, generated from the code, and a page to read it with.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::Router;
use axum::response::Html;
use axum::routing::get;
use freehold_api::Problem;
use freehold_api::key::Scope;
use freehold_api::operation::OperationEvent;
use freehold_api::problem::MEDIA_TYPE;
use serde_json::Value;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{
    Components, ContentBuilder, InfoBuilder, OpenApi, OpenApiBuilder, Ref, ResponseBuilder, SecurityRequirement,
};
use utoipa::{PartialSchema, ToSchema};
use utoipa_axum::router::UtoipaMethodRouter;

const KEY: &str = "api_key";

pub fn base() -> OpenApi {
    let info = InfoBuilder::new()
        .title("Freehold")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some("A PostgreSQL database for every tenant. Problems are RFC 9457; lists are paged; POSTs take an Idempotency-Key."))
        .build();
    let mut components = Components::new();
    let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("An API key: fh_…")).build();
    components.add_security_scheme(KEY, SecurityScheme::Http(scheme));
    let mut referenced = vec![
        (Problem::name().into_owned(), Problem::schema()),
        (OperationEvent::name().into_owned(), OperationEvent::schema()),
    ];
    Problem::schemas(&mut referenced);
    OperationEvent::schemas(&mut referenced);
    components.schemas.extend(referenced);
    OpenApiBuilder::new()
        .info(info)
        .components(Some(components))
        .security(Some([SecurityRequirement::new::<_, [String; 0], String>(KEY, [])]))
        .build()
}

/// Writes the scopes that open a route into its description, from the same table that enforces them.
pub fn with_scopes<S: Clone + Send + Sync + 'static>(
    (schemas, mut paths, methods): UtoipaMethodRouter<S>,
    any: &[Scope],
) -> UtoipaMethodRouter<S> {
    let names: Vec<_> = any.iter().map(|scope| format!("`{}`", scope.as_str())).collect();
    let text = format!("Scope: {}.", names.join(" or "));
    for item in paths.paths.values_mut() {
        for operation in operations(item) {
            operation.description = Some(match operation.description.take() {
                Some(description) => format!("{description}\n\n{text}"),
                None => text.clone(),
            });
        }
    }
    (schemas, paths, methods)
}

/// Every operation has an id of its own, and may also answer a problem.
pub fn finished(mut document: OpenApi) -> OpenApi {
    for (path, item) in &mut document.paths.paths {
        for (method, operation) in methods(item) {
            operation.operation_id = Some(operation_id(method, path));
        }
    }
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(Problem::name()))).build();
    let problem = ResponseBuilder::new().description("A problem: see its code").content(MEDIA_TYPE, content).build();
    for item in document.paths.paths.values_mut() {
        for operation in operations(item) {
            operation.responses.responses.entry("default".into()).or_insert_with(|| problem.clone().into());
        }
    }
    document
}

/// `GET /v1/tenants/{id}` is `get_tenants_by_id`: verbs' names alone are not unique.
fn operation_id(method: &str, path: &str) -> String {
    let segments = path.split('/').filter(|segment| !segment.is_empty() && *segment != "v1");
    segments.fold(method.to_owned(), |id, segment| match segment.strip_prefix('{') {
        Some(parameter) => format!("{id}_by_{}", parameter.trim_end_matches('}')),
        None => format!("{id}_{}", segment.replace('-', "_")),
    })
}

fn methods(
    item: &mut utoipa::openapi::PathItem,
) -> impl Iterator<Item = (&'static str, &mut utoipa::openapi::path::Operation)> {
    let all = [
        ("get", &mut item.get),
        ("put", &mut item.put),
        ("post", &mut item.post),
        ("delete", &mut item.delete),
        ("patch", &mut item.patch),
    ];
    all.into_iter().filter_map(|(method, operation)| operation.as_mut().map(|operation| (method, operation)))
}

fn operations(item: &mut utoipa::openapi::PathItem) -> impl Iterator<Item = &mut utoipa::openapi::path::Operation> {
    methods(item).map(|(_, operation)| operation)
}

/// `/openapi.json` and `/docs`.
pub fn routes(document: &OpenApi) -> Router {
    let value = Arc::new(serde_json::to_value(document).unwrap_or_default());
    let page: Arc<str> = page(&value).into();
    Router::new()
        .route("/openapi.json", get(move || std::future::ready(axum::Json((*value).clone()))))
        .route("/docs", get(move || std::future::ready(Html(page.to_string()))))
}

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#1b1f24;background:#fff}\
code,pre{font:14px/1.45 ui-monospace,monospace}h2{margin-top:2.5rem;text-transform:capitalize}details{border:1px solid #d8dee4;border-radius:6px;margin:.5rem 0;padding:.4rem .8rem}\
summary{cursor:pointer}summary b{display:inline-block;width:4.2rem;font:600 13px ui-monospace,monospace}table{border-collapse:collapse;width:100%;margin:.5rem 0}\
td,th{border-top:1px solid #d8dee4;padding:.3rem .5rem;text-align:left;vertical-align:top}.get{color:#0969da}.post{color:#1a7f37}.delete{color:#cf222e}.patch{color:#9a6700}\
@media(prefers-color-scheme:dark){body{color:#e6edf3;background:#0d1117}details,td,th{border-color:#30363d}a{color:#58a6ff}}";

/// One page, no script, nothing from elsewhere.
fn page(document: &Value) -> String {
    let mut html = String::from(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\"><title>Freehold API</title><style>",
    );
    html.push_str(STYLE);
    html.push_str(
        "</style><h1>Freehold API</h1><p>The machine-readable document is <a href=/openapi.json>/openapi.json</a>. ",
    );
    html.push_str("Send <code>Authorization: Bearer fh_…</code>. Every POST takes an <code>Idempotency-Key</code>; long work answers 202 and <code>Prefer: wait=N</code> waits.</p>");
    let empty = serde_json::Map::new();
    let paths = document["paths"].as_object().unwrap_or(&empty);
    let mut tags: Vec<&str> = Vec::new();
    let of = |item: &Value| item["tags"][0].as_str().unwrap_or("other").to_owned();
    for item in paths.values().flat_map(|methods| methods.as_object().into_iter().flat_map(|methods| methods.values()))
    {
        if let Some(tag) = item["tags"][0].as_str()
            && !tags.contains(&tag)
        {
            tags.push(tag);
        }
    }
    for tag in tags {
        let _ = write!(html, "<h2>{}</h2>", escape(tag));
        for (path, methods) in paths {
            for (method, item) in methods.as_object().unwrap_or(&empty).iter().filter(|(_, item)| of(item) == tag) {
                operation(&mut html, path, method, item);
            }
        }
    }
    html.push_str("<h2>Schemas</h2>");
    for (name, schema) in document["components"]["schemas"].as_object().unwrap_or(&empty) {
        let text = serde_json::to_string_pretty(schema).unwrap_or_default();
        let _ = write!(
            html,
            "<details id=\"{0}\"><summary><code>{0}</code></summary><pre>{1}</pre></details>",
            escape(name),
            escape(&text)
        );
    }
    html.push_str("</html>");
    html
}

fn operation(html: &mut String, path: &str, method: &str, item: &Value) {
    let (summary, description) =
        (item["summary"].as_str().unwrap_or_default(), item["description"].as_str().unwrap_or_default());
    let _ = write!(
        html,
        "<details><summary><b class={method}>{}</b> <code>{}</code> {}</summary><p>{}</p>",
        method.to_uppercase(),
        escape(path),
        escape(summary),
        escape(description)
    );
    let parameters = item["parameters"].as_array().cloned().unwrap_or_default();
    if !parameters.is_empty() {
        html.push_str("<table><tr><th>parameter</th><th>in</th><th></th></tr>");
        for parameter in parameters {
            let cell = |field: &str| escape(parameter[field].as_str().unwrap_or_default());
            let _ = write!(
                html,
                "<tr><td><code>{}</code></td><td>{}</td><td>{}</td></tr>",
                cell("name"),
                cell("in"),
                cell("description")
            );
        }
        html.push_str("</table>");
    }
    if let Some(content) = item["requestBody"]["content"].as_object() {
        for schema in content.values() {
            let _ = write!(html, "<p>Body: {}</p>", link(&schema["schema"]));
        }
    }
    html.push_str("<table><tr><th>answer</th><th></th><th>body</th></tr>");
    for (status, response) in item["responses"].as_object().into_iter().flatten() {
        let body = response["content"]
            .as_object()
            .and_then(|content| content.values().next())
            .map(|content| link(&content["schema"]));
        let text = response["description"].as_str().unwrap_or_default();
        let _ = write!(
            html,
            "<tr><td>{}</td><td>{}</td><td>{}</td></tr>",
            escape(status),
            escape(text),
            body.unwrap_or_default()
        );
    }
    html.push_str("</table></details>");
}

fn link(schema: &Value) -> String {
    match schema["$ref"].as_str().and_then(|reference| reference.rsplit('/').next()) {
        Some(name) => format!("<a href=\"#{0}\"><code>{0}</code></a>", escape(name)),
        None => "<code>inline</code>".into(),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
