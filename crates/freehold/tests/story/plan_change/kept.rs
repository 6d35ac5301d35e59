//! At its time: seen, replaced, taken back, carried out; and what it waits for.

use serde_json::json;

use super::{LATER, audited, change, limits, plans, tenant, time_passes, until_plan, until_waits};
use crate::common::{create, dev_with, exits, expect, stdout, store, until, walk};

#[tokio::test]
async fn story_a_change_that_is_kept_is_seen_replaced_taken_back_and_carried_out_after_a_restart() {
    let file = plans();
    let mut plane = dev_with(&file).start().await;
    let made = create(&plane, "acme").await;
    expect(&change(&plane, "acme", json!({"plan": "plus"})).await, 200);

    let kept = change(&plane, "acme", json!({"plan": "twin", "at": LATER})).await;
    assert_eq!(expect(&kept, 200)["plan_change"]["step"], "lateral");
    let kept = change(&plane, "acme", json!({"plan": "basic", "at": LATER})).await;
    let body = expect(&kept, 200);
    assert_eq!(
        (&body["plan"], &body["plan_change"]["plan"]),
        (&json!("plus"), &json!("basic")),
        "the later one stands"
    );
    assert_eq!((&body["plan_change"]["step"], &body["plan_change"]["at"]), (&json!("downgrade"), &json!(LATER)));
    assert_eq!(plane.get("/v1/tenants").await.2["items"][0]["plan_change"], body["plan_change"]);
    let shown = stdout(&exits(plane.cli(&["tenant", "show", "acme"]), 0));
    assert!(shown.contains("basic from") && shown.contains("downgrade"), "{shown}");
    let stands = stdout(&exits(plane.cli(&["tenant", "plan", "acme"]), 0));
    assert!(stands.contains("plus") && stands.contains("basic from"), "{stands}");
    assert!(stdout(&exits(plane.cli(&["tenant", "list"]), 0)).contains("plus (basic"));
    let back = stdout(&exits(plane.cli(&["tenant", "plan", "acme", "--cancel"]), 0));
    assert!(!back.contains("basic"), "{back}");
    exits(plane.cli(&["tenant", "plan", "acme", "--cancel"]), 4);
    exits(plane.cli(&["tenant", "plan", "acme", "plus"]), 5);
    exits(plane.cli(&["tenant", "plan", "acme", "--at", "30d"]), 2);
    time_passes(&plane).await;
    exits(plane.cli(&["tenant", "plan", "acme", "basic", "--dry-run"]), 0);
    exits(plane.cli(&["tenant", "plan", "acme", "odd", "--dry-run"]), 12);
    exits(plane.cli(&["tenant", "plan", "acme", "basic", "--at", "30d"]), 0);
    assert_eq!(tenant(&plane, "acme").await["plan"], "plus", "what was taken back does not come");

    // Killed, and started again when its time has come.
    plane.kill_everything().await;
    plane.start_again().await;
    assert_eq!(tenant(&plane, "acme").await["plan_change"]["plan"], "basic");
    time_passes(&plane).await;
    let done = until_plan(&plane, "acme", "basic").await;
    assert!(done["plan_change"].is_null(), "{done}");
    assert_eq!(limits(&plane, &made).await.0, 5);
    let begun = walk(&plane, "/v1/audit?action=tenant.plan.begin", 50).await;
    assert_eq!(begun[0]["actor"], "loop:plans", "{begun:?}");
    assert_eq!(audited(&plane, "tenant.plan.schedule").await, 3);
    assert_eq!(audited(&plane, "tenant.plan.cancel").await, 1);

    // One that has come about by itself is void.
    expect(&change(&plane, "acme", json!({"plan": "twin", "at": LATER})).await, 200);
    store(&plane).await.batch_execute("UPDATE plan_change SET plan = 'basic'").await.unwrap();
    time_passes(&plane).await;
    until("it is void", async || match audited(&plane, "tenant.plan.void").await {
        1 => Ok(()),
        other => Err(other.to_string()),
    })
    .await;
    // A change that is made at once takes the place of one that is kept.
    expect(&change(&plane, "acme", json!({"plan": "twin", "at": LATER})).await, 200);
    assert!(expect(&change(&plane, "acme", json!({"plan": "plus"})).await, 200)["plan_change"].is_null());
}

#[tokio::test]
async fn story_a_change_that_is_due_says_why_it_waits_and_goes_on_by_itself() {
    let file = plans();
    let plane = dev_with(&file).env("FREEHOLD_FAULTS", "tenant.plan/Narrow/before=permanent*1").start().await;
    let made = create(&plane, "acme").await;
    let later = |plan: &str| json!({"plan": plan, "at": LATER});
    expect(&change(&plane, "acme", later("own")).await, 200);
    let waits = until_waits(&plane, "acme", "no_room").await;
    assert!(waits["waits"]["message"].as_str().unwrap().contains("no server has room"), "{waits}");
    let stands = stdout(&exits(plane.cli(&["tenant", "plan", "acme"]), 0));
    assert!(stands.contains("no_room"), "{stands}");
    store(&plane).await.batch_execute("UPDATE plan_change SET due_at = now() - interval '2 hours'").await.unwrap();
    let status = plane.get("/v1/status").await.2;
    let concern = status["concerns"].as_array().unwrap().iter().find(|concern| concern["code"] == "plan_changes_wait");
    assert_eq!(concern.unwrap()["next"], "freehold tenant plan acme", "{status}");
    expect(&change(&plane, "acme", later("odd")).await, 200);
    until_waits(&plane, "acme", "extension_missing").await;

    // Somebody else is at work, and stuck.
    expect(&change(&plane, "acme", later("plus")).await, 200);
    let sql = "INSERT INTO operation (id, kind, subject, state, step, step_name) VALUES (gen_random_uuid(), 'tenant.test', 'tenant:acme', 'stuck', '{}', 'Test')";
    store(&plane).await.batch_execute(sql).await.unwrap();
    until_waits(&plane, "acme", "busy").await;
    // What does not touch the plan does not hinder another time either.
    expect(&change(&plane, "acme", later("plus")).await, 200);
    store(&plane)
        .await
        .batch_execute("UPDATE operation SET state = 'failed', finished_at = now() WHERE kind = 'tenant.test'")
        .await
        .unwrap();
    // Whoever carries it out fails, and takes it back: it says so, and is tried again.
    time_passes(&plane).await;
    until("it was tried", async || match tenant(&plane, "acme").await["plan_change"].clone() {
        change if change["waits"]["code"] == "fault" && change["operation"].is_string() => Ok(()),
        change => Err(change.to_string()),
    })
    .await;
    assert_eq!((&tenant(&plane, "acme").await["plan"], limits(&plane, &made).await.0), (&json!("basic"), 5));
    time_passes(&plane).await;
    until_plan(&plane, "acme", "plus").await;
    assert_eq!(limits(&plane, &made).await.0, 9);
}
