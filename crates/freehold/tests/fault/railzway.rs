//! The five rows of Railzway's failure table, each as a test. There the last one ends in "manual reconciliation needed";
//! here none does.

use std::time::Duration;

use freehold_testkit::Cluster;
use serde_json::json;

use crate::picture::same;
use crate::rig::{Rig, Wanted};
use crate::scenario::{SETTINGS, Scenario, add_templates, until_tenant};
use crate::serving::Serve;

async fn rig() -> (Rig, Serve) {
    let rig = Rig::new(Wanted { apart: Some(Cluster::start(15)), settings: SETTINGS, ..Wanted::default() }).await;
    let mut serve = rig.serve("").await;
    add_templates(&serve).await;
    rig.add_server(&serve, 50, None).await;
    Scenario::Made.settled(&rig, &mut serve).await;
    (rig, serve)
}

/// Creates, with what is broken in PostgreSQL until it failed for good; then mended, and asked again.
async fn fails_and_is_retried(rig: &Rig, serve: &mut Serve, code: &str) {
    let tenant = until_tenant(serve, "org1", "failed").await;
    assert!(tenant["state_reason"].as_str().is_some_and(|reason| reason.contains(code)), "{tenant}");
    Scenario::Made.settled(rig, serve).await;
}

async fn create_again(rig: &Rig, serve: &mut Serve) {
    Scenario::Made.act(rig, serve, "org1", 0).await;
    until_tenant(serve, "org1", "active").await;
    rig.logs_in(serve, "org1").await.expect("the tenant logs in");
    let stuck = rig.count("SELECT count(*) FROM operation WHERE state = 'stuck'").await;
    assert_eq!(stuck, 0, "somebody would have to reconcile by hand");
}

/// "PostgreSQL unreachable": there, the deployment is aborted. Here it goes on when PostgreSQL is back.
#[tokio::test]
async fn railzway_1_postgresql_unreachable() {
    let (mut rig, serve) = rig().await;
    rig.apart.as_mut().expect("a server of its own").kill();
    Scenario::Made.act(&rig, &serve, "org1", 0).await;
    rig.until_operation("tenant.create", "waiting").await;
    rig.apart.as_mut().expect("a server of its own").start_again();
    until_tenant(&serve, "org1", "active").await;
    rig.logs_in(&serve, "org1").await.expect("the tenant logs in");
}

/// "User creation fails": PostgreSQL refuses the name of the login. Nothing stays, and freeing the name is all it takes.
#[tokio::test]
async fn railzway_2_user_creation_fails() {
    let (rig, mut serve) = rig().await;
    // The login has the name that somebody else made a role of.
    let admin = rig.server().connect("postgres").await;
    admin.batch_execute("CREATE ROLE made_org1_app NOLOGIN").await.expect("take the name");
    let since = rig.since().await;
    let before = rig.picture(&since, "org1").await;
    Scenario::Made.act(&rig, &serve, "org1", 0).await;
    fails_and_is_retried(&rig, &mut serve, "name_taken").await;
    same(
        "no database, no user, and the other's role as it was",
        &before.server,
        &rig.picture(&since, "org1").await.server,
    );
    admin.batch_execute("DROP ROLE made_org1_app").await.expect("free the name");
    create_again(&rig, &mut serve).await;
}

/// "DB creation fails": there, the user stays. Here the roles go, and a retry begins anew.
#[tokio::test]
async fn railzway_3_db_creation_fails() {
    let (rig, mut serve) = rig().await;
    let since = rig.since().await;
    let before = rig.picture(&since, "org1").await;
    serve.kill().await;
    rig.let_leases_run_out().await;
    let mut serve = rig.serve("tenant.create/Create/roles=permanent*1").await;
    Scenario::Made.act(&rig, &serve, "org1", 0).await;
    fails_and_is_retried(&rig, &mut serve, "fault").await;
    same("the user is gone", &before.server, &rig.picture(&since, "org1").await.server);
    create_again(&rig, &mut serve).await;
}

/// "Nomad deployment fails": whatever comes after the database. Here that is claim.sql, which is broken and then mended.
#[tokio::test]
async fn railzway_4_deployment_fails_after_the_database() {
    let (rig, mut serve) = rig().await;
    let mut broken = crate::scenario::template("made", 1);
    broken["files"]["claim.sql"] = json!("INSERT INTO no_such_table VALUES (1);");
    assert_eq!(serve.post("/v1/templates", broken).await.0, 201);
    Scenario::Made.settled(&rig, &mut serve).await;
    let since = rig.since().await;
    let before = rig.picture(&since, "org1").await;
    Scenario::Made.act(&rig, &serve, "org1", 0).await;
    fails_and_is_retried(&rig, &mut serve, "no_such_table").await;
    same("the database is gone", &before.server, &rig.picture(&since, "org1").await.server);
    assert_eq!(serve.post("/v1/templates", crate::scenario::template("made", 2)).await.0, 201);
    Scenario::Made.settled(&rig, &mut serve).await;
    create_again(&rig, &mut serve).await;
}

/// "Credentials save fails": everything is made, and the process dies before it is written down.
#[tokio::test]
async fn railzway_5_credentials_save_fails() {
    let (rig, mut serve) = rig().await;
    serve.kill().await;
    rig.let_leases_run_out().await;
    for step in ["Create", "Own", "Rename", "Claim", "Pool"] {
        let id = format!("org-{}", step.to_lowercase());
        let mut serve = rig.serve(&format!("tenant.create/{step}/after=kill*1")).await;
        Scenario::Made.act(&rig, &serve, &id, 0).await;
        assert!(serve.dies_by_itself(Duration::from_secs(30)).await, "it did not come to {step}");
        rig.let_leases_run_out().await;
        let mut serve = rig.serve("").await;
        until_tenant(&serve, &id, "active").await;
        rig.logs_in(&serve, &id).await.expect("the tenant logs in with the credential that was sealed before");
        serve.kill().await;
        rig.let_leases_run_out().await;
    }
}
