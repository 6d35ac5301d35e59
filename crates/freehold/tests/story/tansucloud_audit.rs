//! TansuCloud's audit, `GET /api/audit` and `GET /api/audit/export/csv`: the contract's fields, filters, pages and limits.

use freehold_testkit::{Answer, Plane};
use reqwest::Method;
use serde_json::{Value as Json, json};

use crate::common::{SettingsFile, dev_with, expect, key, settings};

const ALWAYS: &str = "startUtc=2020-01-01T00:00:00Z&endUtc=2099-01-01T00:00:00Z";

async fn ask(plane: &Plane, bearer: &str, path: &str) -> Answer {
    plane.request(Method::GET, path, &[("authorization", bearer)], None).await
}

async fn items(plane: &Plane, bearer: &str, more: &str) -> Vec<Json> {
    let answer = ask(plane, bearer, &format!("/api/audit?{ALWAYS}&pageSize=200{more}")).await;
    expect(&answer, 200)["items"].as_array().unwrap().clone()
}

fn title(answer: &Answer) -> (u16, &str) {
    (answer.0, answer.2["title"].as_str().unwrap_or_default())
}

struct Stage {
    plane: Plane,
    admin: String,
    read: String,
    /// Which the tenant was provisioned with.
    provision: String,
    _settings: SettingsFile,
}

/// `acme.x` was provisioned, `native` made by the API, and somebody was refused.
async fn stage() -> Stage {
    let settings = settings("[[edge]]\nkind = \"tansucloud\"\n");
    let plane = dev_with(&settings).stock(1).start().await;
    let (admin, read) = (key(&plane, &["admin"], None).await, key(&plane, &["read"], None).await);
    let provision = key(&plane, &["provision"], None).await;
    let headers = [("authorization", provision.as_str()), ("x-request-id", "the-very-one")];
    let path = "/db/api/provisioning/tenants";
    expect(&plane.request(Method::POST, path, &headers, Some(json!({"tenantId": "acme.x"}))).await, 200);
    expect(&plane.post("/v1/tenants", json!({"id": "native"})).await, 201);
    expect(&plane.request(Method::POST, path, &[("authorization", &read)], Some(json!({"tenantId": "b"}))).await, 403);
    Stage { plane, admin, read, provision, _settings: settings }
}

#[tokio::test]
async fn story_tansucloud_audit_has_the_contract_s_fields_and_filters() {
    let Stage { plane, admin, read, provision, _settings } = stage().await;
    let all = items(&plane, &admin, "").await;
    let made = all.iter().find(|item| item["tenantId"] == "acme.x" && item["action"] == "TenantProvision").unwrap();
    let fields: Vec<&str> = made.as_object().unwrap().keys().map(String::as_str).collect();
    let mut expected = [
        "id",
        "whenUtc",
        "service",
        "environment",
        "version",
        "tenantId",
        "subject",
        "action",
        "category",
        "routeTemplate",
        "correlationId",
        "traceId",
        "spanId",
        "clientIpHash",
        "userAgent",
        "outcome",
        "reasonCode",
        "details",
        "impersonatedBy",
        "sourceHost",
    ];
    expected.sort_unstable();
    let mut got = fields.clone();
    got.sort_unstable();
    assert_eq!(got, expected);
    for (field, value) in [
        ("category", json!("Provisioning")),
        ("outcome", json!("Success")),
        ("service", json!("freehold")),
        ("environment", json!("development")),
        ("reasonCode", json!(null)),
    ] {
        assert_eq!(made[field], value, "{field}");
    }
    let at = |when: &str| when.parse::<jiff::Timestamp>().unwrap();
    let whens: Vec<&str> = all.iter().map(|item| item["whenUtc"].as_str().unwrap()).collect();
    assert!(whens.is_sorted_by(|a, b| at(a) >= at(b)), "{whens:?}");

    let who = made["subject"].as_str().unwrap();
    for (filter, field, value) in [
        ("tenantId=acme.x".to_owned(), "tenantId", json!("acme.x")),
        ("tenantId=native".into(), "tenantId", json!("native")),
        (format!("subject={who}"), "subject", json!(who)),
        ("category=Provisioning".into(), "category", json!("Provisioning")),
        ("category=key".into(), "category", json!("key")),
        ("action=TenantProvision".into(), "action", json!("TenantProvision")),
        ("action=key.create".into(), "action", json!("key.create")),
        ("service=freehold".into(), "service", json!("freehold")),
        ("outcome=Forbidden".into(), "outcome", json!("Forbidden")),
        ("correlationId=the-very-one".into(), "correlationId", json!("the-very-one")),
    ] {
        let chosen = items(&plane, &admin, &format!("&{filter}")).await;
        assert!(!chosen.is_empty() && chosen.iter().all(|item| item[field] == value), "{filter}: {chosen:?}");
        let there = all.iter().filter(|item| item[field] == value).count();
        assert!(chosen.len() >= there, "{filter}: {} of {there}", chosen.len());
    }
    for nothing in [
        "service=gateway",
        "impersonationOnly=true",
        "outcome=Unheard",
        "action=tenant.create",
        "tenantId=nobody",
        // Another id that is written otherwise never is this tenant.
        "tenantId=acme-x",
        "tenantId=acme_x",
        "correlationId=another",
        "subject=%27%20OR%201%3D1%20--",
    ] {
        assert_eq!(items(&plane, &admin, &format!("&{nothing}")).await, Vec::<Json>::new(), "{nothing}");
    }
    assert!(!items(&plane, &admin, "&impersonationOnly=False&tenantId=").await.is_empty());
    let before = "/api/audit?startUtc=2020-01-01T00:00:00Z&endUtc=2020-01-02T00:00:00Z";
    assert_eq!(*expect(&ask(&plane, &admin, before).await, 200), json!({"items": [], "nextPageToken": null}));

    // Who may see what.
    let list = format!("/api/audit?{ALWAYS}");
    let refused = ask(&plane, &read, &list).await;
    assert_eq!(title(&refused), (400, "tenantId is required for non-admin requests"));
    assert_eq!(refused.1["content-type"], "application/problem+json");
    assert!(!items(&plane, &read, "&tenantId=acme.x").await.is_empty());
    let bound = key(&plane, &["read", "admin"], Some(&["acme-x"])).await;
    assert!(!items(&plane, &bound, "&tenantId=acme.x").await.is_empty());
    for theirs in ["&tenantId=native", "&tenantId=nobody"] {
        expect(&ask(&plane, &bound, &format!("{list}{theirs}")).await, 403);
    }
    assert_eq!(title(&ask(&plane, &bound, &list).await).0, 400);
    expect(&ask(&plane, &provision, &list).await, 403);
    expect(&ask(&plane, "", &list).await, 401);
    assert_eq!(ask(&plane, "Bearer fh_wrong", &list).await.1["www-authenticate"], "Bearer error=\"invalid_token\"");
    expect(&ask(&plane, &admin, &format!("/db{list}")).await, 200);
}

#[tokio::test]
async fn story_tansucloud_audit_is_paged_to_its_end_and_exported_up_to_a_limit() {
    let Stage { plane, admin, read, provision: _, _settings } = stage().await;
    for name in 0..12 {
        expect(&plane.patch("/v1/tenants/native", json!({"name": format!("=cmd {name}")})).await, 200);
    }
    let all = items(&plane, &admin, "&tenantId=native").await;
    assert!(all.len() >= 13);
    let mut walked = Vec::new();
    let mut token = String::new();
    loop {
        let page = ask(&plane, &admin, &format!("/api/audit?{ALWAYS}&tenantId=native&pageSize=4{token}")).await;
        let page = expect(&page, 200);
        let found = page["items"].as_array().unwrap();
        assert!((1..=4).contains(&found.len()));
        walked.extend(found.iter().cloned());
        match page["nextPageToken"].as_str() {
            Some(next) => token = format!("&pageToken={next}"),
            None => break,
        }
    }
    assert_eq!(walked, all);
    for (size, expected) in [("0", 1), ("-5", 1), ("3", 3), ("100000", all.len())] {
        let page = ask(&plane, &admin, &format!("/api/audit?{ALWAYS}&tenantId=native&pageSize={size}")).await;
        assert_eq!(expect(&page, 200)["items"].as_array().unwrap().len(), expected, "{size}");
    }
    for (query, why) in [
        ("".to_owned(), "startUtc and endUtc are required"),
        ("startUtc=2020-01-01T00:00:00Z".into(), "startUtc and endUtc are required"),
        ("endUtc=2020-01-01T00:00:00Z".into(), "startUtc and endUtc are required"),
        ("startUtc=2020-01-01T00:00:00Z&endUtc=2020-01-01T00:00:00Z".into(), "endUtc must be greater than startUtc"),
        ("startUtc=yesterday&endUtc=2020-01-01T00:00:00Z".into(), "startUtc is not valid"),
        (format!("{ALWAYS}&pageSize=many"), "pageSize is not valid"),
        (format!("{ALWAYS}&pageToken=%25%25"), "pageToken is not valid"),
        (format!("{ALWAYS}&impersonationOnly=perhaps"), "impersonationOnly is not valid"),
    ] {
        for path in ["/api/audit", "/api/audit/export/csv"] {
            if path.ends_with("csv") && why.starts_with("pageSize") {
                continue;
            }
            assert_eq!(title(&ask(&plane, &admin, &format!("{path}?{query}")).await), (400, why), "{path}?{query}");
        }
    }

    let export = async |more: &str| {
        let (status, headers, body) =
            ask(&plane, &admin, &format!("/api/audit/export/csv?{ALWAYS}&tenantId=native{more}")).await;
        assert_eq!((status, headers["content-type"].to_str().unwrap()), (200, "text/csv"), "{body}");
        let header = |name: &str| headers[name].to_str().unwrap().to_owned();
        (header("x-export-limit"), header("x-export-count"), body.as_str().unwrap().to_owned())
    };
    let (limit, count, text) = export("").await;
    assert_eq!((limit.as_str(), count), ("10000", all.len().to_string()));
    let mut lines = text.lines();
    assert!(
        lines
            .next()
            .unwrap()
            .starts_with("WhenUtc,TenantId,Subject,Category,Action,Service,Outcome,ReasonCode,CorrelationId,")
    );
    assert_eq!(lines.count(), all.len());
    let (limit, count, text) = export("&limit=2").await;
    assert_eq!((limit.as_str(), count.as_str(), text.lines().count()), ("2", "2", 3));
    let (limit, ..) = export("&limit=1000000").await;
    assert_eq!(limit, "10000");
    let exports = items(&plane, &admin, "&action=edge.tansucloud.audit.export&outcome=Success").await;
    assert_eq!(exports.len(), 3);
    let refused = ask(&plane, &read, &format!("/api/audit/export/csv?{ALWAYS}&tenantId=native")).await;
    assert_eq!(title(&refused), (403, "Admin scope required (admin.full)"));
    // More than an export may hold.
    let more = "INSERT INTO audit (id, actor, action, subject, outcome)
        SELECT gen_random_uuid(), 'system', '=HYPERLINK(1)', 'tenant:native', 'success' FROM generate_series(1, 10050)";
    crate::common::store(&plane).await.batch_execute(more).await.unwrap();
    let (limit, count, text) = export("").await;
    assert_eq!((limit.as_str(), count.as_str(), text.lines().count()), ("10000", "10000", 10_001));
    assert!(text.contains(",\"'=HYPERLINK(1)\",") && !text.contains(",\"=HYPERLINK"));
}
