//! Issue 2, bad input: a hostile string in every place where a string enters is refused or kept as it is, and breaks nothing.

use freehold_testkit::{Answer, Plane, http_client};
use reqwest::Method;
use serde_json::{Value as Json, json};

use crate::common::{create_as, dev, expect, log_in};

const HOSTILE: &[&str] = &[
    "'",
    "\"",
    "\\",
    "`",
    "$$",
    "$1",
    "%",
    "%s%n",
    "%00",
    "\0",
    "a\0b",
    "\n",
    "\r\nX-Injected: 1",
    "\u{1b}[31m",
    "'; DROP TABLE tenant; --",
    "\"; DROP DATABASE postgres; --",
    "'||pg_sleep(9)||'",
    "{{7*7}}",
    "${jndi:ldap://x}",
    "../../etc/passwd",
    "..",
    ".",
    "/",
    "//",
    "a/b",
    "a?b",
    "a#b",
    "a&b=c",
    "<script>alert(1)</script>",
    "🦆",
    "\u{202e}RTL",
    "שלום",
    "Ärzte",
    "ﬁ",
    "\u{feff}x",
    "\u{d7ff}\u{e000}\u{10ffff}",
    "NULL",
    "null",
    "true",
    "0",
    "-1",
    "1e999",
    "-a",
    "A",
    "a.b",
    "a_b",
    " a",
    "a ",
    "postgres",
    "freehold_admin",
];

/// Refused by the caller's fault, never by ours, and as a problem; else taken.
#[track_caller]
fn sane(what: &str, answer: &Answer) {
    let (status, headers, body) = answer;
    if (200..300).contains(status) {
        return;
    }
    assert!((400..500).contains(status), "{what}: {status} {body}");
    assert_eq!(headers["content-type"], "application/problem+json", "{what}: {status} {body}");
    assert!(body["code"].is_string() && body["request_id"].is_string(), "{what}: {body}");
    assert!(!headers.contains_key("x-injected"), "{what}");
    let shown = body.to_string();
    assert!(shown.len() < 4000, "{what}: the answer repeats {} bytes", shown.len());
    for leak in ["sqlx", "panicked", "/src/", ".rs:", "pg_catalog", "INSERT INTO", "SELECT "] {
        assert!(!shown.contains(leak), "{what} shows its inside: {shown}");
    }
}

fn escaped(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

async fn post(plane: &Plane, path: &str, body: Json) -> Answer {
    plane.request(Method::POST, path, &[("prefer", "wait=0")], Some(body)).await
}

#[tokio::test]
async fn story_hostile_strings_are_refused_or_kept() {
    let plane = dev().stock(1).start().await;
    let acme = create_as(&plane, json!({"id": "acme", "labels": {"kept": "yes"}})).await;
    // So that what is taken makes no work.
    expect(&plane.post("/v1/freezes", json!({"target": "all"})).await, 201);
    let long = "x".repeat(300_000);
    let strings = HOSTILE.iter().copied().chain([long.as_str(), &long[..49], &long[..200]]);
    for text in strings.clone() {
        let what = text.chars().take(30).collect::<String>();
        let path = escaped(&text[..text.len().min(5_000)]);
        // In bodies.
        for (path, body) in [
            ("/v1/tenants", json!({"id": text})),
            ("/v1/tenants", json!({"id": "x", "plan": text})),
            ("/v1/tenants", json!({"id": "x", "template": text})),
            ("/v1/tenants", json!({"id": "x", "region": text})),
            ("/v1/tenants", json!({"id": "x", "labels": {text: text}, "region": "nowhere"})),
            ("/v1/tenants", json!({"id": "x", "name": text, "region": "nowhere"})),
            ("/v1/tenants", json!({text: text})),
            ("/v1/tenants/acme/suspend", json!({"raison": text})),
            ("/v1/templates", json!({"name": text, "files": {"template.toml": ""}})),
            ("/v1/templates", json!({"name": "x", "files": {text: text, "template.toml": ""}})),
            (
                "/v1/templates",
                json!({"name": "x", "files": {"template.toml": text, "migrations/0001_x.sql": text, "claim.sql": text, "bad": ""}}),
            ),
            ("/v1/servers", json!({"id": text, "dsn": "postgres://a:b@127.0.0.1:1/x?sslmode=disable"})),
            ("/v1/servers", json!({"id": "x", "dsn": text})),
            ("/v1/servers", json!({"id": "x", "dsn": format!("postgres://{text}:{text}@{text}/{text}")})),
            (
                "/v1/servers",
                json!({"id": "local-1", "dsn": "postgres://a:b@127.0.0.1:1/x?sslmode=disable", "region": text, "tenant_address": text, "ca_certificate": text}),
            ),
            ("/v1/tenants/x/import", json!({"from": text})),
            ("/v1/tenants/x/import", json!({"from": "postgres://a:b@127.0.0.1:1/x", "plan": text, "template": text})),
            ("/v1/keys", json!({"name": text, "scopes": ["read"]})),
            ("/v1/keys", json!({"name": "x", "scopes": [text]})),
            ("/v1/keys", json!({"name": "x", "scopes": ["read"], "tenants": [text]})),
            ("/v1/keys", json!({"name": "x", "scopes": ["read"], "expires_at": text})),
            ("/v1/freezes", json!({"target": text})),
            ("/v1/operations/00000000-0000-7000-8000-000000000000/resolve", json!({"as": text, "reason": text})),
        ] {
            sane(&format!("{what:?} in the body of {path}"), &post(&plane, path, body).await);
        }
        for body in
            [json!({"name": text}), json!({"labels": {"kept": "yes", "more": text}}), json!({"labels": {text: "x"}})]
        {
            let answer = plane.patch("/v1/tenants/acme", body.clone()).await;
            sane(&format!("{what:?} in a patch"), &answer);
            if answer.0 == 200 && body.get("name").is_some() {
                assert_eq!(plane.get("/v1/tenants/acme").await.2["name"], text, "kept as it was given");
            }
            if body["labels"].get(text).is_some() && answer.0 == 200 {
                let without = json!({"labels": {text: null}});
                expect(&plane.patch("/v1/tenants/acme", without).await, 200);
            }
        }
        // In paths.
        for place in [
            "/v1/tenants/{}",
            "/v1/tenants/{}/connection",
            "/v1/plans/{}",
            "/v1/templates/{}",
            "/v1/servers/{}",
            "/v1/operations/{}",
            "/v1/operations/{}/events",
            "/v1/{}",
            "/{}",
        ] {
            let answer = plane.get(&place.replace("{}", &path)).await;
            if !place.starts_with("/v1/plans") && text != "." && text != "/" {
                sane(&format!("{what:?} in {place}"), &answer);
            }
        }
        for (method, place) in [
            (Method::POST, "/v1/tenants/{}/suspend"),
            (Method::DELETE, "/v1/tenants/{}?confirm={}"),
            (Method::DELETE, "/v1/keys/{}"),
            (Method::DELETE, "/v1/freezes/{}"),
            (Method::POST, "/v1/servers/{}/cordon"),
            (Method::POST, "/v1/operations/{}/cancel"),
        ] {
            let answer = plane.request(method.clone(), &place.replace("{}", &path), &[], None).await;
            sane(&format!("{what:?} in {method} {place}"), &answer);
        }
        // In queries.
        for place in [
            "/v1/tenants?q={}",
            "/v1/tenants?label={}",
            "/v1/tenants?label=k={}",
            "/v1/tenants?plan={}",
            "/v1/tenants?server={}",
            "/v1/tenants?template={}",
            "/v1/tenants?state={}",
            "/v1/tenants?cursor={}",
            "/v1/tenants?limit={}",
            "/v1/tenants?{}=x",
            "/v1/tenants?{}",
            "/v1/operations?kind={}",
            "/v1/operations?subject={}",
            "/v1/operations?cursor={}",
            "/v1/audit?actor={}",
            "/v1/audit?action={}",
            "/v1/audit?subject={}",
            "/v1/audit?request_id={}",
            "/v1/audit?since={}",
            "/v1/audit?cursor={}",
            "/v1/audit/verify?after={}",
            "/v1/audit/export?format={}",
            "/v1/audit/export?subject={}",
            "/v1/keys?cursor={}",
            "/v1/plans?cursor={}",
            "/v1/templates?cursor={}",
            "/v1/servers?cursor={}",
        ] {
            sane(&format!("{what:?} in {place}"), &plane.get(&place.replace("{}", &path)).await);
        }
    }
    // In headers: whatever bytes may stand in one.
    let http = http_client();
    for name in [
        "authorization",
        "idempotency-key",
        "prefer",
        "if-match",
        "x-request-id",
        "last-event-id",
        "content-type",
        "accept",
    ] {
        for value in [
            &b"'; DROP TABLE x"[..],
            b"\xff\xfe",
            b"",
            b"\t",
            b"Bearer",
            b"Bearer ",
            b"Bearer \xc3\x28",
            b"wait=",
            b"W/\"1\"",
            &[b'x'; 8000],
        ] {
            let mut headers = reqwest::header::HeaderMap::new();
            headers.insert("authorization", format!("Bearer {}", plane.api_key()).parse().unwrap());
            headers.insert("content-type", "application/json".parse().unwrap());
            headers.insert(name, reqwest::header::HeaderValue::from_bytes(value).unwrap());
            for (method, path, body) in
                [(Method::PATCH, "/v1/tenants/acme", "{}"), (Method::POST, "/v1/tenants", "{\"id\":\"acme\"}")]
            {
                let request =
                    http.request(method, format!("{}{path}", plane.url())).headers(headers.clone()).body(body);
                let response = request.send().await.unwrap();
                assert!(!response.status().is_server_error(), "{name}: {value:?}: {}", response.status());
            }
        }
    }
    // After all of it, everything is where it was.
    expect(&plane.delete("/v1/freezes/all").await, 204);
    let tenants = plane.get("/v1/tenants?limit=500").await;
    assert!(
        tenants.2["items"]
            .as_array()
            .unwrap()
            .iter()
            .any(|tenant| tenant["id"] == "acme" && tenant["labels"]["kept"] == "yes")
    );
    log_in(&acme["connection"]).await;
    assert!(!plane.output().contains("panicked"), "{}", plane.output());
}

#[tokio::test]
async fn story_ten_megabytes_are_refused_wherever_they_come() {
    let plane = dev().stock(0).start().await;
    let big = "x".repeat(10 << 20);
    let http = http_client();
    for (method, path) in [
        (Method::POST, "/v1/tenants"),
        (Method::PATCH, "/v1/tenants/acme"),
        (Method::POST, "/v1/keys"),
        (Method::POST, "/v1/templates"),
        (Method::POST, "/v1/servers"),
    ] {
        for once in [false, true] {
            let body = json!({"id": "acme", "name": big, "files": {"a": big}}).to_string();
            let mut request =
                http.request(method.clone(), format!("{}{path}", plane.url())).bearer_auth(plane.api_key());
            request = request.header("content-type", "application/json").body(body);
            if once {
                request = request.header("idempotency-key", "big");
            }
            // The server may hang up while it is still being told; then there is no answer to look at.
            if let Ok(response) = request.send().await {
                assert!(matches!(response.status().as_u16(), 413 | 422), "{method} {path}: {}", response.status());
            }
        }
    }
    // As a path, HTTP itself has a limit.
    let answer =
        http.get(format!("{}/v1/tenants/{}", plane.url(), &big[..60_000])).bearer_auth(plane.api_key()).send().await;
    if let Ok(response) = answer {
        assert!(response.status().is_client_error(), "{}", response.status());
    }
    expect(&plane.get("/v1/tenants").await, 200);
}
