//! Of a suspended tenant nobody is let in where a former side of it is kept, Freehold's own login neither: whatever came in
//! between, it is refused there in the end.

use reqwest::Method;
use serde_json::json;

use crate::moves::{OTHER, over};
use crate::rig::{Rig, SERVER};
use crate::scenario::Scenario;
use crate::serving::{Serve, until};
use crate::sides::{rig, served_by};

async fn post(serve: &Serve, path: &str) {
    let (status, answer) = serve.post(path, json!({})).await;
    assert_eq!(status, 200, "{path}: {answer}\n{}", serve.output());
}

/// The truth loop's next rounds have seen to it.
async fn until_nobody_is_admitted(rig: &Rig, id: &str) {
    until("nobody is admitted", async || {
        let sql = "UPDATE loop_lease SET next_run_at = now() WHERE name = 'truth'; NOTIFY freehold_loop, 'truth'";
        rig.sql.batch_execute(sql).await.expect("wake the loop");
        rig.admitted(id).await.is_empty()
    })
    .await;
}

#[tokio::test]
async fn suspended_while_its_former_server_was_away_it_is_shut_out_there_too() {
    let (mut rig, mut serve) = rig(20).await;
    Scenario::MoveFinished.prepare_move(&rig, &serve, "acme").await;
    let by_freehold = rig.admitted("acme").await;
    assert!(by_freehold.iter().any(|role| role.ends_with(SERVER)), "{by_freehold:?}");
    rig.apart.as_mut().expect("two servers").stop();
    post(&serve, "/v1/tenants/acme/suspend").await;
    rig.apart.as_mut().expect("two servers").start_again();
    assert_eq!(rig.admitted("acme").await.len(), 1, "it is suspended where it is");
    until_nobody_is_admitted(&rig, "acme").await;
    // Told once it is done.
    until("the audit says so", async || {
        let (_, audit) = serve.get("/v1/audit?action=truth.repair&limit=10").await;
        audit.to_string().contains("admitted_where_kept")
    })
    .await;

    // It still goes back, by a login that comes in for it.
    over(&serve, "/v1/tenants/acme/move/rollback", json!({})).await;
    rig.settled(&mut serve, &[]).await;
    assert_eq!(rig.admitted("acme").await, Vec::<String>::new());
    post(&serve, "/v1/tenants/acme/resume").await;
    served_by(&rig, &serve, "acme", SERVER).await;
}

/// Killed in the middle of a step that nobody takes up again: it was cancelled, and there is nothing to undo.
#[tokio::test]
async fn suspended_it_is_shut_out_after_a_step_that_was_never_taken_up_again() {
    let (rig, mut serve) = rig(20).await;
    Scenario::MoveSuspendedFinished.prepare_move(&rig, &serve, "acme").await;
    assert_eq!(rig.admitted("acme").await, Vec::<String>::new());
    serve.kill().await;
    rig.freeze("truth").await;
    rig.let_leases_run_out().await;
    serve = rig.serve("tenant.finish_move/Unlink/unlinked=kill*1").await;
    serve.begin(Method::POST, "/v1/tenants/acme/move/finish", Some(json!({}))).await;
    assert!(serve.dies_by_itself(std::time::Duration::from_secs(30)).await, "{}", serve.output());
    assert_eq!(rig.admitted("acme").await.len(), 2, "Freehold's own, on both sides");
    rig.sql
        .batch_execute("UPDATE operation SET cancel_requested = true WHERE kind = 'tenant.finish_move'")
        .await
        .unwrap();
    rig.let_leases_run_out().await;
    serve = rig.serve("").await;
    rig.until_operation("tenant.finish_move", "cancelled").await;
    assert_eq!(rig.admitted("acme").await.len(), 2);
    rig.sql.batch_execute("DELETE FROM \"freeze\" WHERE target = 'truth'").await.unwrap();
    until_nobody_is_admitted(&rig, "acme").await;
    over(&serve, "/v1/tenants/acme/move/finish", json!({})).await;
    assert_eq!(rig.admitted("acme").await, Vec::<String>::new());
    post(&serve, "/v1/tenants/acme/resume").await;
    served_by(&rig, &serve, "acme", OTHER).await;
}
