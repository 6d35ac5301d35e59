//! The table of contents of the API: every route, and the scopes that open it. There is no other place to add one.

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::routing::MethodRouter;
use freehold_api::key::Scope::{self, Admin, Credentials, Operate, Pooler, Provision, Read};
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter, UtoipaMethodRouterExt};
use utoipa_axum::routes;

use crate::http::access::{Bound, Need, guard};
use crate::http::idempotency::replay;
use crate::http::openapi;
use crate::plane::Plane;
use crate::{audit, key, operation, plan, pooler, schema, server, server_pool, stats, status, tenant, truth};

/// A template may hold many files.
const TEMPLATE_BODY: usize = 8;

const SEE: &[Scope] = &[Read, Provision, Operate];

/// The routes, and the document that describes them.
pub fn api(plane: Plane) -> (Router, utoipa::openapi::OpenApi) {
    let body_limit = plane.settings.http.body_limit;
    let open = |any, bound, routes| secured(&plane, any, bound, body_limit, routes);
    let large = |any, bound, routes| secured(&plane, any, bound, body_limit * TEMPLATE_BODY, routes);
    let (router, document) = OpenApiRouter::with_openapi(openapi::base())
        .routes(open(&[Provision], Bound::ByVerb, routes!(tenant::create::create)))
        .routes(open(SEE, Bound::ByVerb, routes!(tenant::list::list)))
        .routes(open(SEE, Bound::ToPath, routes!(tenant::list::show)))
        .routes(open(&[Provision], Bound::ToPath, routes!(tenant::patch::patch)))
        .routes(open(&[Provision], Bound::ToPath, routes!(tenant::delete::delete)))
        .routes(open(&[Provision], Bound::ToPath, routes!(tenant::delete::undelete)))
        .routes(open(&[Provision, Operate], Bound::ToPath, routes!(tenant::suspend::suspend)))
        .routes(open(&[Provision, Operate], Bound::ToPath, routes!(tenant::suspend::resume)))
        .routes(open(&[Credentials], Bound::ToPath, routes!(tenant::connection::show)))
        .routes(open(&[Provision, Operate], Bound::ToPath, routes!(tenant::credential::ask::rotate)))
        .routes(open(&[Provision, Operate], Bound::ToPath, routes!(tenant::credential::retire::retire)))
        .routes(open(&[Operate], Bound::Never, routes!(tenant::adopt::adopt)))
        .routes(open(&[Operate], Bound::Never, routes!(tenant::import::begin)))
        .routes(open(SEE, Bound::ToPath, routes!(tenant::import::show)))
        .routes(open(SEE, Bound::ToPath, routes!(tenant::diagnose::diagnose)))
        .routes(open(SEE, Bound::ToPath, routes!(tenant::movability::movability)))
        .routes(open(&[Operate], Bound::Never, routes!(tenant::moving::ask::begin)))
        .routes(open(SEE, Bound::ToPath, routes!(tenant::moving::ask::show)))
        .routes(open(&[Operate], Bound::Never, routes!(tenant::moving::ask::roll_back)))
        .routes(open(&[Operate], Bound::Never, routes!(tenant::moving::ask::finish)))
        .routes(open(&[Provision, Operate], Bound::ToPath, routes!(tenant::plan::ask::change)))
        .routes(open(&[Provision, Operate], Bound::ToPath, routes!(tenant::plan::ask::cancel)))
        .routes(open(SEE, Bound::ToPath, routes!(tenant::sessions::list)))
        .routes(open(&[Provision, Operate], Bound::ToPath, routes!(tenant::sessions::terminate)))
        .routes(open(SEE, Bound::ToPath, routes!(stats::show::tenant)))
        .routes(open(SEE, Bound::Never, routes!(tenant::placement::explain::explain)))
        .routes(open(SEE, Bound::ByVerb, routes!(plan::list::list)))
        .routes(open(SEE, Bound::ByVerb, routes!(plan::list::show)))
        .routes(open(SEE, Bound::ByVerb, routes!(schema::list::list)))
        .routes(open(SEE, Bound::ByVerb, routes!(schema::list::show)))
        .routes(large(&[Operate], Bound::Never, routes!(schema::add::add)))
        .routes(open(&[Read, Operate], Bound::Never, routes!(server::list::list)))
        .routes(open(&[Read, Operate], Bound::Never, routes!(server::list::show)))
        .routes(open(&[Operate], Bound::Never, routes!(server::add::add)))
        .routes(open(&[Operate], Bound::Never, routes!(server::cordon::cordon)))
        .routes(open(&[Operate], Bound::Never, routes!(server::cordon::uncordon)))
        .routes(open(&[Operate], Bound::Never, routes!(server::drain::ask::begin)))
        .routes(open(&[Read, Operate], Bound::Never, routes!(server::drain::ask::show)))
        .routes(open(&[Read, Operate], Bound::Never, routes!(server::rebalance::ask::show)))
        .routes(open(&[Operate], Bound::Never, routes!(server::rebalance::ask::begin)))
        .routes(open(&[Operate], Bound::Never, routes!(server::check::check)))
        .routes(open(&[Operate], Bound::Never, routes!(server::patch::patch)))
        .routes(open(&[Operate], Bound::Never, routes!(server::update::update)))
        .routes(open(&[Operate], Bound::Never, routes!(server::maintain::maintain)))
        .routes(open(&[Operate], Bound::Never, routes!(server::remove::remove)))
        .routes(open(SEE, Bound::Never, routes!(server_pool::list::list)))
        .routes(open(SEE, Bound::Never, routes!(server_pool::list::show)))
        .routes(open(&[Operate], Bound::Never, routes!(server_pool::grow::grow)))
        .routes(open(&[Read, Operate], Bound::Never, routes!(pooler::list::list)))
        .routes(open(&[Read, Operate], Bound::Never, routes!(pooler::list::show)))
        .routes(open(&[Operate], Bound::Never, routes!(pooler::add::add)))
        .routes(open(&[Operate], Bound::Never, routes!(pooler::cordon::cordon)))
        .routes(open(&[Operate], Bound::Never, routes!(pooler::cordon::uncordon)))
        .routes(open(&[Operate], Bound::Never, routes!(pooler::reconcile::reconcile)))
        .routes(open(&[Operate], Bound::Never, routes!(pooler::remove::remove)))
        .routes(open(&[Read, Operate], Bound::Never, routes!(pooler::check::check)))
        .routes(open(&[Pooler], Bound::Never, routes!(pooler::assignment::assignment)))
        .routes(large(&[Pooler], Bound::Never, routes!(pooler::report::report)))
        .routes(open(SEE, Bound::ByVerb, routes!(operation::list::list)))
        .routes(open(SEE, Bound::ByVerb, routes!(operation::list::show)))
        .routes(open(SEE, Bound::ByVerb, routes!(operation::events::events)))
        .routes(open(&[Operate], Bound::ByVerb, routes!(operation::steer::cancel)))
        .routes(open(&[Operate], Bound::ByVerb, routes!(operation::steer::retry)))
        .routes(open(&[Operate], Bound::ByVerb, routes!(operation::steer::resolve)))
        .routes(open(&[Read, Operate], Bound::Never, routes!(audit::list::list)))
        .routes(open(&[Read, Operate], Bound::Never, routes!(audit::verify::verify)))
        .routes(open(&[Read, Operate], Bound::Never, routes!(audit::export::export)))
        .routes(open(&[Read, Operate], Bound::Never, routes!(audit::key::show)))
        .routes(open(&[Admin], Bound::Never, routes!(audit::redact::redact)))
        .routes(open(&[Admin], Bound::Never, routes!(audit::hold::list)))
        .routes(open(&[Admin], Bound::Never, routes!(audit::hold::create)))
        .routes(open(&[Admin], Bound::Never, routes!(audit::hold::release)))
        .routes(open(&[Admin], Bound::Never, routes!(key::list::list)))
        .routes(open(&[Admin], Bound::Never, routes!(key::create::create)))
        .routes(open(&[Admin], Bound::Never, routes!(key::revoke::revoke)))
        .routes(open(&[Read, Operate], Bound::Never, routes!(status::show::show)))
        .routes(open(&[Read, Operate], Bound::Never, routes!(stats::show::fleet)))
        .routes(open(SEE, Bound::ByVerb, routes!(stats::show::tenants)))
        .routes(open(&[Read, Operate], Bound::Never, routes!(truth::show::list)))
        .routes(open(&[Read, Operate], Bound::Never, routes!(status::freeze::list)))
        .routes(open(&[Operate], Bound::Never, routes!(status::freeze::freeze)))
        .routes(open(&[Operate], Bound::Never, routes!(status::freeze::thaw)))
        .routes(routes!(status::health::live))
        .routes(routes!(status::health::ready))
        .routes(routes!(status::health::health))
        .routes(routes!(status::metrics::metrics))
        .split_for_parts();
    (router.with_state(plane), openapi::finished(document))
}

type Routes = UtoipaMethodRouter<Plane>;

fn secured(plane: &Plane, any: &'static [Scope], bound: Bound, body_limit: usize, routes: Routes) -> Routes {
    let need = Need { any, bound };
    let plane = plane.clone();
    openapi::with_scopes(routes, any).map(move |methods: MethodRouter<Plane>| {
        methods
            .layer::<_, std::convert::Infallible>(from_fn_with_state((plane.clone(), body_limit), replay))
            .layer::<_, std::convert::Infallible>(DefaultBodyLimit::max(body_limit))
            .layer::<_, std::convert::Infallible>(from_fn_with_state((plane, need), guard))
    })
}
