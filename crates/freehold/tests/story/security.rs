//! Issue 2, what must be shown: every route is shut to whoever may not use it. The routes come from the document, so
//! one that is added tomorrow is tried tomorrow.

use std::collections::BTreeMap;

use freehold_testkit::Plane;
use reqwest::Method;
use serde_json::{Value as Json, json};

use crate::common::{create_as, dev, dev_with, expect, key, log_in, problem, walk};
use crate::server_pool::{Place, pool};

const ALL: [&str; 5] = ["admin", "operate", "provision", "read", "credentials"];
const THEIRS: &str = "theirs-and-secret";

struct Route {
    method: Method,
    template: String,
    path: String,
    body: Option<Json>,
    /// The scopes that open it; none: it is open to everybody.
    scopes: Vec<String>,
}

/// Every path and method of the document, with the ids of things that are there, which are another tenant's.
async fn routes(plane: &Plane, ids: &BTreeMap<&str, String>) -> Vec<Route> {
    let document = plane.get("/openapi.json").await;
    let mut routes = Vec::new();
    for (template, methods) in expect(&document, 200)["paths"].as_object().unwrap() {
        let noun = template.split('/').nth(2).unwrap_or_default();
        let mut path = template.clone();
        if let Some(from) = template.find('{') {
            let to = template.find('}').unwrap();
            let id = ids.get(noun).unwrap_or_else(|| panic!("this test has no id for {template}: give it one"));
            path.replace_range(from..=to, id);
        }
        for (method, operation) in methods.as_object().unwrap() {
            let is_open = operation["security"] == json!([{}]) || operation["security"] == json!([]);
            let description = operation["description"].as_str().unwrap_or_default();
            let scopes: Vec<String> = match description.split_once("Scope: ") {
                Some((_, list)) => list.split('`').skip(1).step_by(2).map(str::to_owned).collect(),
                None => Vec::new(),
            };
            assert_eq!(is_open, scopes.is_empty(), "{method} {template} names no scope and is not open, or both");
            // Well-formed where the handler itself looks at whom it is about.
            let body = (method != "get" && method != "delete").then(|| match template.as_str() {
                "/v1/tenants" => json!({"id": THEIRS}),
                "/v1/tenants/{id}/plan" => json!({"plan": "standard", "dry_run": true}),
                "/v1/operations/{id}/resolve" => json!({"as": "undone", "reason": "hostile"}),
                _ => json!({}),
            });
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            routes.push(Route { method, template: template.clone(), path: path.clone(), body, scopes });
        }
    }
    routes
}

#[tokio::test]
async fn story_no_route_opens_to_whoever_may_not_use_it() {
    let place = Place::new();
    let settings = place.settings(&pool("own", "kind = \"dedicated\"\nminimum_spare = 0"));
    let plane = dev_with(&settings).stock(2).start().await;
    create_as(&plane, json!({"id": "mine"})).await;
    let theirs = create_as(&plane, json!({"id": THEIRS, "name": "Their Name", "labels": {"their": "label"}})).await;
    let session = log_in(&theirs["connection"]).await;
    let before = plane.get(&format!("/v1/tenants/{THEIRS}")).await.2;
    // An operation about them, and things of every other kind.
    expect(&plane.post(&format!("/v1/tenants/{THEIRS}/suspend"), json!({})).await, 200);
    expect(&plane.post(&format!("/v1/tenants/{THEIRS}/resume"), json!({})).await, 200);
    drop(session);
    let operation = walk(&plane, &format!("/v1/operations?subject=tenant:{THEIRS}"), 10).await[0]["id"].clone();
    let victim = plane.post("/v1/keys", json!({"name": "victim", "scopes": ["read"]})).await.2["id"].clone();
    // One that nobody is put on: there is no agent that would answer.
    let pooler = json!({"id": "there", "address": "127.0.0.1:6432", "sslmode": "disable", "capacity": 5});
    expect(&plane.post("/v1/poolers", pooler).await, 201);
    expect(&plane.post("/v1/poolers/there/cordon", json!({})).await, 200);
    let ids: BTreeMap<&str, String> = [
        ("tenants", THEIRS.to_owned()),
        ("operations", operation.as_str().unwrap().to_owned()),
        ("keys", victim.as_str().unwrap().to_owned()),
        ("servers", "local-1".into()),
        ("plans", "standard".into()),
        ("templates", "default".into()),
        ("freezes", "stock".into()),
        // A hold that is none.
        ("audit", "01970000-0000-7000-8000-000000000000".into()),
        ("server-pools", "own".into()),
        ("poolers", "there".into()),
    ]
    .into();
    let routes = routes(&plane, &ids).await;
    assert!(routes.len() > 30, "{} routes", routes.len());

    let bound = key(&plane, &ALL, Some(&["mine"])).await;
    let nobody_yet = key(&plane, &ALL, Some(&[])).await;
    let mut wrong: BTreeMap<Vec<&str>, String> = BTreeMap::new();
    for Route { method, template, path, body, scopes } in &routes {
        let what = format!("{method} {template}");
        let send = async |authorization: &str| {
            plane
                .request(method.clone(), path, &[("authorization", authorization), ("prefer", "wait=0")], body.clone())
                .await
        };
        if scopes.is_empty() {
            assert_eq!(*method, Method::GET, "{what} is open to everybody");
            continue;
        }
        for nobody in ["", "Bearer fh_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "Bearer ", "Basic YTpi", "fh_x"] {
            let answer = send(nobody).await;
            assert_eq!(answer.1["www-authenticate"], "Bearer", "{what}");
            problem(&answer, 401, "unauthenticated");
        }
        let others: Vec<&str> =
            ALL.into_iter().filter(|scope| *scope != "admin" && !scopes.iter().any(|open| open == scope)).collect();
        if !others.is_empty() {
            if !wrong.contains_key(&others) {
                wrong.insert(others.clone(), key(&plane, &others, None).await);
            }
            let answer = send(&wrong[&others]).await;
            assert_eq!(answer.0, 403, "{what} with {others:?}: {}", answer.2);
            problem(&answer, 403, "denied");
        }
        for bound in [&bound, &nobody_yet] {
            let answer = send(bound).await;
            let names_them = template.contains("/tenants/{")
                || template.contains("/operations/{")
                || body.as_ref().is_some_and(|body| body["id"] == THEIRS);
            if names_them || *method != Method::GET {
                // Of tenants and what is about them it is not even told that they are there; all else is refused.
                assert!(
                    answer.0 == 403 || names_them && answer.0 == 404,
                    "{what} with a key of another tenant: {} {}",
                    answer.0,
                    answer.2
                );
            } else {
                // A list, or what is everybody's: nothing of theirs is in it.
                assert!(matches!(answer.0, 200 | 403), "{what}: {} {}", answer.0, answer.2);
                let text = answer.2.to_string();
                assert!(
                    !text.contains(THEIRS) && !text.contains("Their Name"),
                    "{what} tells of another tenant: {text}"
                );
            }
        }
    }
    assert!(wrong.len() > 2);
    for (path, kept) in [("/v1/poolers/there", "cordoned"), ("/v1/servers/local-1", "active")] {
        assert_eq!(expect(&plane.get(path).await, 200)["state"], kept, "{path}");
    }
    assert_eq!(expect(&plane.get("/v1/server-pools/own").await, 200)["name"], "own");
    assert_eq!(walk(&plane, "/v1/servers", 50).await.len(), 1, "a pool's server was made");
    // Nothing happened to anybody.
    let after = plane.get(&format!("/v1/tenants/{THEIRS}")).await.2;
    for field in ["state", "name", "labels", "deletion_protection", "created_at", "operation"] {
        assert_eq!(after[field], before[field], "{field}");
    }
    log_in(&theirs["connection"]).await;
    assert!(walk(&plane, "/v1/keys", 100).await.iter().all(|key| key["revoked_at"].is_null()));
    assert_eq!(plane.get("/v1/freezes").await.2["items"], json!([]));
    // Each refusal is in the audit.
    assert!(walk(&plane, "/v1/audit?outcome=denied", 500).await.len() > routes.len());

    // Filters do not help a bound key either, and its own tenant is open to it.
    let as_bound = [("authorization", bound.as_str())];
    for path in [
        format!("/v1/tenants?q={THEIRS}"),
        "/v1/tenants?label=their=label".into(),
        "/v1/tenants?state=active".into(),
        format!("/v1/operations?subject=tenant:{THEIRS}"),
        "/v1/operations".into(),
        "/v1/operations?subject=tenant:".into(),
    ] {
        let answer = plane.request(Method::GET, &path, &as_bound, None).await;
        assert!(!answer.2.to_string().contains(&format!("\"{THEIRS}")), "{path}: {}", answer.2);
    }
    let own = plane.request(Method::GET, "/v1/tenants/mine/connection", &as_bound, None).await;
    log_in(expect(&own, 200)).await;
    let list = plane.request(Method::GET, "/v1/tenants", &as_bound, None).await;
    assert_eq!(expect(&list, 200)["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn story_a_key_that_is_revoked_or_expired_opens_nothing() {
    let plane = dev().stock(0).start().await;
    let made = plane.post("/v1/keys", json!({"name": "short", "scopes": ["read"]})).await.2;
    let bearer = format!("Bearer {}", made["key"].as_str().unwrap());
    let get = async || plane.request(Method::GET, "/v1/tenants", &[("authorization", bearer.as_str())], None).await;
    expect(&get().await, 200);
    let revoked = plane.delete(&format!("/v1/keys/{}", made["id"].as_str().unwrap())).await;
    assert!(expect(&revoked, 200)["revoked_at"].is_string());
    problem(&get().await, 401, "unauthenticated");
    let expired = json!({"name": "old", "scopes": ["read"], "expires_at": "2001-01-01T00:00:00Z"});
    let answer = plane.post("/v1/keys", expired).await;
    if answer.0 == 201 {
        let bearer = format!("Bearer {}", answer.2["key"].as_str().unwrap());
        problem(
            &plane.request(Method::GET, "/v1/tenants", &[("authorization", &bearer)], None).await,
            401,
            "unauthenticated",
        );
    } else {
        problem(&answer, 422, "invalid");
    }
    // The list never shows a key, nor does the store hold one.
    let listed = plane.get("/v1/keys").await.2.to_string();
    assert!(!listed.contains(made["key"].as_str().unwrap()) && !listed.contains(plane.api_key()));
    let rows = crate::common::store(&plane).await.query("SELECT k::text FROM api_key k", &[]).await.unwrap();
    let dump: String = rows.iter().map(|row| row.get::<_, String>(0)).collect();
    assert!(!dump.contains(made["key"].as_str().unwrap()) && !dump.contains(plane.api_key()));
}
