//! On the same server: with its limits, at once or not at all.

use freehold_client::api::plan_change::{ChangePlan, PlanStep};
use reqwest::Method;
use serde_json::{Value as Json, json};

use super::{LATER, audited, change, limits, plans, tenant};
use crate::common::{create, dev_with, expect, key, log_in, problem, store, text, until};

#[tokio::test]
async fn story_a_plan_is_changed_in_place_with_its_limits() {
    let file = plans();
    let plane = dev_with(&file).start().await;
    let made = create(&plane, "acme").await;
    let open = log_in(&made["connection"]).await;
    assert_eq!(limits(&plane, &made).await.0, 5);

    let preview = change(&plane, "acme", json!({"plan": "plus", "dry_run": true})).await;
    let preview = expect(&preview, 200);
    assert_eq!(
        (&preview["step"], &preview["moves"], &preview["against"]),
        (&json!("upgrade"), &json!(false), &json!([]))
    );
    assert_eq!(tenant(&plane, "acme").await["plan"], "basic", "nothing is begun");

    let before = plane.get("/v1/tenants/acme").await;
    let changed = change(&plane, "acme", json!({"plan": "plus"})).await;
    assert_eq!(expect(&changed, 200)["plan"], "plus");
    assert_ne!(before.1["etag"], changed.1["etag"]);
    let (limit, config) = limits(&plane, &made).await;
    assert!(
        limit == 9 && config.contains("work_mem=2048kB") && !config.contains("statement_timeout=30000"),
        "{config}"
    );
    let session = log_in(&made["connection"]).await;
    assert_eq!(text(&session, "SELECT extname::text FROM pg_extension WHERE extname = 'citext'").await, "citext");
    assert_eq!(text(&session, "SHOW work_mem").await, "2MB");
    assert_eq!(text(&open, "SHOW work_mem").await, "4MB", "who is in keeps what he began with");
    until("what it may use is told", async || match tenant(&plane, "acme").await {
        found if found["usage"]["connection_limit"] == 9 => Ok(()),
        found => Err(found.to_string()),
    })
    .await;

    // Down again, at once; a time that is past is now.
    let changed = change(&plane, "acme", json!({"plan": "basic", "at": "2001-01-01T00:00:00Z"})).await;
    assert_eq!(expect(&changed, 200)["plan"], "basic");
    let (limit, config) = limits(&plane, &made).await;
    assert!(limit == 5 && config.contains("statement_timeout=30000") && !config.contains("work_mem"), "{config}");
    assert_eq!(audited(&plane, "tenant.plan").await, 2);
    assert_eq!(audited(&plane, "tenant.plan.begin").await, 2);
    // The truth is the new plan's.
    store(&plane)
        .await
        .batch_execute("UPDATE loop_lease SET next_run_at = now() WHERE name = 'truth'; NOTIFY freehold_loop, 'truth'")
        .await
        .unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert_eq!(limits(&plane, &made).await.0, 5);

    // Suspended tenants too, where they stay where they are.
    expect(&plane.post("/v1/tenants/acme/suspend", json!({})).await, 200);
    assert_eq!(expect(&change(&plane, "acme", json!({"plan": "twin"})).await, 200)["plan"], "twin");
    expect(&plane.post("/v1/tenants/acme/resume", json!({})).await, 200);
    log_in(&made["connection"]).await;
}

#[tokio::test]
async fn story_what_cannot_be_a_change_of_plan_is_refused() {
    let file = plans();
    let plane = dev_with(&file).start().await;
    let made = create(&plane, "acme").await;
    problem(&change(&plane, "acme", json!({"plan": "none"})).await, 422, "unknown_plan");
    problem(&change(&plane, "acme", json!({"plan": "plus", "at": "soon"})).await, 422, "invalid");
    problem(&change(&plane, "acme", json!({"plan": "plus", "when": "now"})).await, 422, "invalid");
    problem(&change(&plane, "nobody", json!({"plan": "plus"})).await, 404, "not_found");
    problem(&change(&plane, "acme", json!({"plan": "basic"})).await, 409, "same_plan");
    problem(&change(&plane, "acme", json!({"plan": "basic", "at": LATER})).await, 409, "same_plan");
    problem(&plane.delete("/v1/tenants/acme/plan").await, 404, "not_found");
    let detail =
        problem(&change(&plane, "acme", json!({"plan": "odd"})).await, 422, "extension_missing")["detail"].clone();
    assert!(detail.as_str().unwrap().contains("never_heard_of"), "{detail}");
    let room = change(&plane, "acme", json!({"plan": "own"})).await;
    assert!(problem(&room, 503, "no_room")["detail"].as_str().unwrap().contains("dedicated"), "{}", room.2);
    let preview = change(&plane, "acme", json!({"plan": "own", "dry_run": true})).await;
    let preview = expect(&preview, 200);
    assert_eq!((&preview["moves"], &preview["against"][0]["code"]), (&json!(true), &json!("no_room")), "{preview}");
    let moved = plane.post("/v1/tenants/acme/move", json!({"to": {"plan": "own"}})).await;
    assert!(problem(&moved, 422, "invalid").to_string().contains("freehold tenant plan acme own"), "{}", moved.2);

    // Numbers, and a way to say that it is meant.
    until("it was measured", async || match tenant(&plane, "acme").await {
        found if found["usage"]["size_bytes"].is_u64() => Ok(()),
        found => Err(found.to_string()),
    })
    .await;
    for body in [json!({"plan": "tiny"}), json!({"plan": "tiny", "at": LATER})] {
        let refused = change(&plane, "acme", body).await;
        let detail = problem(&refused, 409, "quota_exceeded")["detail"].as_str().unwrap().to_owned();
        let size = tenant(&plane, "acme").await["usage"]["size_bytes"].to_string();
        assert!(detail.contains("allows 1000") && detail.contains(&size), "{detail}");
    }
    assert_eq!(expect(&change(&plane, "acme", json!({"plan": "tiny", "over_quota": true})).await, 200)["plan"], "tiny");

    // Nobody touches a tenant that is not there any more, nor one of others.
    let bound = key(&plane, &["provision"], Some(&["acme"])).await;
    let headers = [("authorization", bound.as_str()), ("prefer", "wait=30")];
    let by = async |id: &str, body: Json| {
        plane.request(Method::POST, &format!("/v1/tenants/{id}/plan"), &headers, Some(body)).await
    };
    assert_eq!(expect(&by("acme", json!({"plan": "plus"})).await, 200)["plan"], "plus");
    problem(&by("globex", json!({"plan": "plus"})).await, 403, "denied");
    let preview = by("acme", json!({"plan": "own", "dry_run": true})).await;
    assert!(expect(&preview, 200)["movability"].is_null(), "the fleet is not his business");
    for answer in [&preview, &by("acme", json!({"plan": "own"})).await] {
        let told = answer.2.to_string();
        assert!(told.contains("no_room") && told.contains("whoever runs the servers"), "{told}");
        assert!(!told.contains("local-1") && !told.contains("dedicated"), "nor is who has no room: {told}");
    }
    let reader = key(&plane, &["read"], None).await;
    let headers = [("authorization", reader.as_str())];
    let body = Some(json!({"plan": "plus"}));
    problem(&plane.request(Method::POST, "/v1/tenants/acme/plan", &headers, body).await, 403, "denied");
    drop(made);
    expect(&plane.delete("/v1/tenants/acme?confirm=acme").await, 200);
    problem(&change(&plane, "acme", json!({"plan": "plus"})).await, 409, "wrong_state");
}

#[tokio::test]
async fn story_the_client_changes_plans_as_the_api_does() {
    let file = plans();
    let plane = dev_with(&file).start().await;
    create(&plane, "acme").await;
    let client = freehold_client::Client::new(plane.url(), plane.api_key()).unwrap();
    let id = "acme".parse().unwrap();
    let plus = ChangePlan::to("plus".parse().unwrap());
    let preview = client.plan_preview(&id, &plus).await.unwrap();
    assert!(preview.step == PlanStep::Upgrade && preview.against.is_empty() && !preview.moves, "{preview:?}");
    assert_eq!(client.change_plan(&id, &plus).await.unwrap().plan.as_str(), "plus");
    let later = ChangePlan { at: Some(LATER.parse().unwrap()), ..ChangePlan::to("basic".parse().unwrap()) };
    let kept = client.change_plan(&id, &later).await.unwrap().plan_change.unwrap();
    assert!(kept.step == PlanStep::Downgrade && kept.plan.as_str() == "basic" && kept.waits.is_none(), "{kept:?}");
    assert!(client.cancel_plan_change(&id).await.unwrap().plan_change.is_none());
    let refused = client.change_plan(&id, &plus).await.unwrap_err();
    assert!(refused.to_string().contains("has plan plus already"), "{refused}");
}
