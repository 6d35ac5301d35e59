//! Issue 2, item 10: what every caller may rely on, whatever the route.

use freehold_testkit::http_client;
use reqwest::Method;
use serde_json::{Value as Json, json};

use crate::common::{create, dev, dev_with, expect, problem, settings};

#[tokio::test]
async fn story_the_api_is_regular_in_what_it_answers() {
    let plane = dev().stock(1).start().await;
    create(&plane, "acme").await;
    // Ids of requests: the caller's when it is plain, else a new one; always told.
    let plane = &plane;
    let with = async |id: &str| plane.request(Method::GET, "/v1/tenants/none", &[("x-request-id", id)], None).await;
    assert_eq!(problem(&with("mine-1.a_B").await, 404, "not_found")["request_id"], "mine-1.a_B");
    for bad in ["has space", "semi;colon", "quote'"] {
        let answer = with(bad).await;
        assert_ne!(problem(&answer, 404, "not_found")["request_id"], bad);
    }
    assert!(plane.get("/v1/tenants").await.1.contains_key("x-request-id"));

    problem(&plane.get("/v1/nothing").await, 404, "not_found");
    problem(&plane.get("/").await, 404, "not_found");
    problem(&plane.get("/v1/tenants/acme/../acme/nothing").await, 404, "not_found");
    problem(&plane.request(Method::PUT, "/v1/tenants", &[], None).await, 405, "method_not_allowed");
    problem(&plane.delete("/v1/tenants").await, 405, "method_not_allowed");
    problem(&plane.request(Method::PATCH, "/health", &[], None).await, 405, "method_not_allowed");

    let http = http_client();
    let post = |kind: Option<&str>, body: Vec<u8>| {
        let mut request = http.post(format!("{}/v1/tenants", plane.url())).bearer_auth(plane.api_key()).body(body);
        if let Some(kind) = kind {
            request = request.header("content-type", kind);
        }
        async move {
            let response = request.send().await.unwrap();
            let (status, headers) = (response.status().as_u16(), response.headers().clone());
            (status, headers, response.json::<Json>().await.unwrap())
        }
    };
    for kind in [None, Some("text/plain"), Some("application/x-www-form-urlencoded"), Some("application/jsonx")] {
        problem(&post(kind, br#"{"id":"other"}"#.to_vec()).await, 415, "unsupported_media_type");
    }
    for body in [&b"{"[..], b"not json", b"{\"id\":\"x\"}}", b"\xff\xfe", b"{\"id\": \"\\ud800\"}"] {
        let answer = post(Some("application/json"), body.to_vec()).await;
        assert!(matches!(answer.0, 400 | 422), "{body:?}: {}", answer.2);
    }
    let missing = post(Some("application/json"), b"{}".to_vec()).await;
    assert_eq!(problem(&missing, 422, "invalid")["errors"][0]["field"], "id");
    let unknown = post(Some("application/json; charset=utf-8"), br#"{"id":"x","colour":"red"}"#.to_vec()).await;
    assert_eq!(problem(&unknown, 422, "invalid")["errors"][0]["field"], "colour");
    let deep = [vec![b'['; 200_000], vec![b']'; 200_000]].concat();
    assert!(matches!(post(Some("application/json"), deep).await.0, 400 | 422));
    for bad in ["wait=soon", "wait=-1", "wait=99999999999999999999999"] {
        let answer = plane.request(Method::POST, "/v1/tenants", &[("prefer", bad)], Some(json!({"id": "x"}))).await;
        problem(&answer, 400, "bad_request");
    }

    // Answers are not for caches nor for sniffers.
    let shown = plane.get("/v1/tenants/acme/connection").await;
    assert_eq!(
        (&shown.1["cache-control"], &shown.1["x-content-type-options"]),
        (&"no-store".parse().unwrap(), &"nosniff".parse().unwrap())
    );
}

#[tokio::test]
async fn story_bodies_have_a_limit_that_can_be_set() {
    let settings = settings("[http]\nbody_limit = 10000\n[stock]\nper_template = 0\n");
    let plane = dev_with(&settings).start().await;
    let body = |bytes: usize| json!({"id": "acme", "name": "n".repeat(bytes)});
    problem(&plane.post("/v1/tenants", body(9_000)).await, 422, "invalid");
    problem(&plane.post("/v1/tenants", body(10_000)).await, 413, "body_too_large");
    let once = [("idempotency-key", "big")];
    let answer = plane.request(Method::POST, "/v1/tenants", &once, Some(body(10_000))).await;
    problem(&answer, 413, "body_too_large");
    // Templates may be eight times as large.
    let template = |bytes: usize| json!({"name": "t", "files": {"template.toml": "", "migrations/0001_a.sql": format!("-- {}", "x".repeat(bytes))}});
    expect(&plane.post("/v1/templates", template(70_000)).await, 201);
    problem(&plane.post("/v1/templates", template(80_000)).await, 413, "body_too_large");
}

#[tokio::test]
async fn story_machines_and_people_find_what_they_look_for() {
    let plane = dev().stock(1).start().await;
    create(&plane, "acme").await;
    let open = |path: &'static str| plane.request(Method::GET, path, &[("authorization", "")], None);
    let live = open("/health/live").await;
    assert_eq!(expect(&live, 200)["status"], "healthy");
    assert_eq!(*expect(&open("/health").await, 200), json!({"status": "healthy"}));
    let ready = open("/health/ready").await;
    let ready = expect(&ready, 200);
    assert_eq!(ready["status"], "healthy");
    let store = ready["checks"].as_array().unwrap().iter().find(|check| check["name"] == "store").unwrap();
    assert_eq!((&store["healthy"], &store["critical"]), (&json!(true), &json!(true)));
    let server = ready["checks"].as_array().unwrap().iter().find(|check| check["name"] == "server:local-1").unwrap();
    assert_eq!((&server["healthy"], &server["critical"]), (&json!(true), &json!(false)));

    let metrics = open("/metrics").await;
    assert!(metrics.1["content-type"].to_str().unwrap().starts_with("text/plain"));
    let text = expect(&metrics, 200).as_str().unwrap().to_owned();
    for line in [
        "freehold_tenants{state=\"active\"} 1",
        "freehold_http_requests_total{status=\"201\"}",
        "freehold_stock_ready{",
        "freehold_server_healthy{server=\"local-1\"} 1",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }

    let document = open("/openapi.json").await;
    let document = expect(&document, 200);
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let mut ids = std::collections::BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let id = operation["operationId"].as_str().unwrap_or_else(|| panic!("{method} {path} has no operationId"));
            assert!(ids.insert(id.to_owned()), "operationId {id} is there twice ({method} {path})");
            assert!(operation["responses"]["default"].is_object(), "{method} {path} may also answer a problem");
            for name in path.split('{').skip(1).map(|rest| rest.split('}').next().unwrap()) {
                let parameters = operation["parameters"].as_array().unwrap();
                let is_there =
                    parameters.iter().any(|p| p["name"] == name && p["in"] == "path" && p["required"] == true);
                assert!(is_there, "{method} {path} does not describe {name}");
            }
        }
    }
    // Where one status has two bodies, both are told.
    let adopted = &document["paths"]["/v1/tenants/{id}/adopt"]["post"]["responses"]["200"];
    assert_eq!(
        adopted["content"]["application/json"]["schema"]["oneOf"].as_array().map(Vec::len),
        Some(2),
        "{adopted}"
    );
    // Nothing refers to what is not there.
    let text = document.to_string();
    for reference in text.split("\"$ref\":\"").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
    let docs = open("/docs").await;
    assert!(docs.1["content-type"].to_str().unwrap().starts_with("text/html"));
    let page = expect(&docs, 200).as_str().unwrap().to_owned();
    for path in document["paths"].as_object().unwrap().keys() {
        assert!(page.contains(path.as_str()), "{path} is not in /docs");
    }
    assert!(!page.contains("<script") && !page.contains("http://"), "the page needs nothing from elsewhere");
}
