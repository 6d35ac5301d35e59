//! Listens, and puts around every route what every route needs: request id, limits of time and size, no panic that escapes.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use freehold_api::problem::Code;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::set_header::SetResponseHeaderLayer;

use super::problem::Refused;
use super::{openapi, request};
use crate::edge;
use crate::plane::Plane;
use crate::routes;
use crate::settings::{Edge, EdgeKind};

/// The API's own listener: `/v1`, health, metrics, docs, and the edges without a listener of their own.
pub fn app(plane: &Plane) -> Router {
    let (api, document) = routes::api(plane.clone());
    let mut app = api.merge(openapi::routes(&document));
    for edge in plane.settings.edges.iter().filter(|edge| edge.listen.is_none()) {
        app = app.merge(of_edge(plane, edge));
    }
    around(plane, app)
}

pub fn of_edge(plane: &Plane, edge: &Edge) -> Router {
    match edge.kind {
        EdgeKind::Saasodoo => edge::saasodoo::router(plane.clone(), edge),
        EdgeKind::Tansucloud => edge::tansucloud::router(plane.clone(), edge),
    }
}

pub fn around(plane: &Plane, routes: Router) -> Router {
    let limit = Duration::from_secs(plane.settings.http.timeout_seconds);
    routes
        .fallback(|| async { Refused::new(Code::NotFound, "there is no such route; /docs lists them") })
        .method_not_allowed_fallback(|| async {
            Refused::new(Code::MethodNotAllowed, "this route has no such method; /docs lists them")
        })
        .layer(from_fn(move |request, next| within(limit, request, next)))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn(request::identify))
        .layer(SetResponseHeaderLayer::if_not_present(
            HeaderName::from_static("x-content-type-options"),
            HeaderValue::from_static("nosniff"),
        ))
        .layer(SetResponseHeaderLayer::if_not_present(header::CACHE_CONTROL, HeaderValue::from_static("no-store")))
}

/// Work that was begun goes on: it is an operation, or a transaction that commits or does not.
async fn within(limit: Duration, request: Request, next: Next) -> Response {
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Refused::new(
            Code::Timeout,
            format!("no answer within {} s; what was begun may still finish: look before you repeat", limit.as_secs()),
        )
        .into_response(),
    }
}

fn panicked(_: Box<dyn std::any::Any + Send + 'static>) -> Response {
    Refused::internal("a handler panicked", &"see the panic above").into_response()
}

/// Serves until told to stop, then lets requests in flight end for as long as `grace`.
pub async fn serve(
    listener: TcpListener,
    app: Router,
    stop: CancellationToken,
    grace: Duration,
) -> std::io::Result<()> {
    let service = app.into_make_service_with_connect_info::<SocketAddr>();
    let stopping = stop.clone();
    let serving =
        axum::serve(listener, service).with_graceful_shutdown(async move { stopping.cancelled().await }).into_future();
    let deadline = async {
        stop.cancelled().await;
        tokio::time::sleep(grace).await;
    };
    tokio::select! {
        result = serving => result,
        () = deadline => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use axum::http::StatusCode;
    use axum::routing::get;
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn what_takes_too_long_is_answered_with_a_problem_that_says_so() {
        let after = |limit: Duration| get(async move || tokio::time::sleep(limit).await);
        let limit = Duration::from_secs(1);
        let app = Router::new()
            .route("/in-time", after(Duration::ZERO))
            .route("/late", after(limit * 60))
            .layer(from_fn(move |request, next| within(limit, request, next)));
        let ask = async |path: &str| {
            let request = Request::builder().uri(path).body(Body::empty()).expect("a request");
            let answer = tokio::time::timeout(limit * 10, app.clone().oneshot(request)).await;
            answer.expect("its limit ended it").expect("an answer")
        };
        assert_eq!(ask("/in-time").await.status(), StatusCode::OK);
        let answer = ask("/late").await;
        assert_eq!(
            (answer.status(), answer.headers().contains_key(header::RETRY_AFTER)),
            (StatusCode::SERVICE_UNAVAILABLE, true)
        );
        assert_eq!(answer.headers()[header::CONTENT_TYPE], "application/problem+json");
        let body = to_bytes(answer.into_body(), usize::MAX).await.expect("a body");
        let problem: serde_json::Value = serde_json::from_slice(&body).expect("a problem");
        assert_eq!((&problem["code"], &problem["status"]), (&serde_json::json!("timeout"), &serde_json::json!(503)));
        let detail = problem["detail"].as_str().expect("a detail");
        assert!(detail.contains("within 1 s") && detail.contains("look before you repeat"), "{detail}");
    }
}
