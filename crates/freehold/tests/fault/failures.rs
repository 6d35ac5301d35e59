//! Failures of each class at every step: transient ones pass, permanent ones are undone whole, and what is stuck is
//! seen, resolved, and begun again.

use reqwest::Method;
use serde_json::json;

use crate::kill::{Runs, steps_of};
use crate::picture::{difference, same};
use crate::points::{TRACE, passed, sample};
use crate::scenario::{Scenario, until_stuck, until_tenant};

impl Runs {
    async fn fails_at_every_step(&mut self, count: usize) {
        let scenario = self.scenario;
        let reference = self.one(TRACE, false).await;
        let forward = passed(&reference.output, scenario.kinds());
        let mut all = Vec::new();
        for kind in scenario.kinds() {
            let steps = steps_of(&forward, kind);
            let faults: Vec<String> = steps.iter().map(|step| format!("{kind}/{step}/after=fail*3")).collect();
            let run = self.one(&faults.join(","), false).await;
            same(&format!("{kind}: transient failures changed the server"), &reference.after.server, &run.after.server);
            same(&format!("{kind}: transient failures changed the store"), &reference.after.store, &run.after.store);
            all.extend(steps.into_iter().map(|step| ((*kind).to_owned(), step)));
        }
        for (kind, step) in sample(&all, count) {
            if scenario == Scenario::Made || scenario == Scenario::FromStock {
                self.permanent(&kind, &step).await;
            }
            self.stuck_and_retried(&kind, &step, &reference).await;
        }
    }

    /// Undone, with the reason; the same request again works.
    async fn permanent(&mut self, kind: &str, step: &str) {
        if kind != "tenant.create" {
            return;
        }
        for point in ["before", "after"] {
            let (id, number) = self.next();
            let since = self.rig.since().await;
            let before = self.rig.picture(&since, &id).await;
            let faults = format!("{kind}/{step}/{point}=permanent*1");
            let mut run = self.scenario.run(&self.rig, &faults, false, &id, number).await;
            let left = difference(&before.server, &run.picture.server);
            assert!(left.is_none(), "{kind} failed {point} {step}, and left\n{}", left.unwrap_or_default());
            let tenant = until_tenant(&run.serve, &id, "failed").await;
            let reason = tenant["state_reason"].as_str().unwrap_or_default();
            assert!(reason.contains(&format!("fault point {kind}/{step}/{point}")), "{tenant}");
            self.scenario.act(&self.rig, &run.serve, &id, number).await;
            until_tenant(&run.serve, &id, "active").await;
            self.rig.logs_in(&run.serve, &id).await.expect("the tenant of the second request logs in");
            self.scenario.clean(&self.rig, &mut run.serve, &id).await;
            self.end(&mut run.serve).await;
        }
    }

    /// Parked and shown; `retry` goes on where it was, and nothing differs from a run without.
    async fn stuck_and_retried(&mut self, kind: &str, step: &str, reference: &crate::kill::Reference) {
        let (id, number) = self.next();
        let mut serve = self.rig.serve("").await;
        self.scenario.prepare(&self.rig, &serve, &id).await;
        self.end(&mut serve).await;
        let since = self.rig.since().await;
        let mut serve = self.rig.serve(&format!("{kind}/{step}/after=stuck*1")).await;
        self.scenario.act(&self.rig, &serve, &id, number).await;
        let concern = until_stuck(&self.rig, &serve, kind).await;
        assert!(concern["message"].as_str().is_some_and(|text| text.contains("fault point")), "{concern}");
        let operation = self.rig.newest_id(kind).await;
        let (status, body) = serve.request(Method::POST, &format!("/v1/operations/{operation}/retry"), None).await;
        assert_eq!(status, 200, "{body}");
        self.scenario.settled(&self.rig, &mut serve).await;
        let picture = self.rig.picture(&since, &id).await;
        same(&format!("{kind} was stuck at {step}: the server differs"), &reference.after.server, &picture.server);
        let more = "audit operation.retry on operation:UUID: success".to_owned();
        let store: Vec<String> = picture.store.into_iter().filter(|line| *line != more).collect();
        same(&format!("{kind} was stuck at {step}: the store differs"), &reference.after.store, &store);
        self.scenario.clean(&self.rig, &mut serve, &id).await;
        self.end(&mut serve).await;
    }
}

macro_rules! failure_tests {
    ($($name:ident: $scenario:ident, $count:literal;)+) => {$(
        #[tokio::test]
        async fn $name() {
            Runs::new(Scenario::$scenario).await.fails_at_every_step($count).await;
        }
    )+};
}

failure_tests! {
    failure_in_tenant_create_without_stock: Made, 2;
    failure_in_tenant_create_from_stock: FromStock, 3;
    failure_in_tenant_suspend: Suspend, 1;
    failure_in_tenant_resume: Resume, 1;
    failure_in_tenant_delete: Delete, 1;
    failure_in_tenant_undelete: Undelete, 1;
    failure_in_tenant_purge: Purge, 1;
    failure_in_tenant_rotate: Rotate, 1;
    failure_in_tenant_rotate_at_once: RotateAtOnce, 2;
    failure_in_tenant_rotate_in_place: RotateInPlace, 1;
    failure_in_tenant_retire_login: Retire, 1;
    failure_in_template_build_retire_and_stock_drop: Version, 2;
    failure_in_server_register: Register, 1;
    failure_in_server_register_of_one_that_is_registered: AddAgain, 1;
    failure_in_server_check: Check, 1;
    failure_in_server_provision: Grow, 1;
    failure_in_a_create_that_waits_for_a_server: WaitForRoom, 1;
    failure_in_server_update: UpdateServer, 1;
    failure_in_server_remove: RemoveServer, 1;
    failure_in_server_purge: PurgeServer, 1;
    failure_in_server_remove_of_one_that_was_registered: Forget, 1;
    failure_in_tenant_import: Import, 2;
    failure_in_tenant_move: Move, 2;
    failure_in_tenant_move_back: MoveBack, 1;
    failure_in_tenant_move_finish: MoveFinished, 1;
    failure_in_server_drain: Drain, 1;
    failure_in_server_rebalance: Rebalance, 1;
    failure_in_pooler_start: StartPooler, 1;
    failure_in_pooler_remove: RemovePooler, 1;
}

/// A person ends a stuck create as undone: the tenant is free, failed with the reason, and the next create works.
#[tokio::test]
async fn failure_stuck_is_resolved_as_undone_and_the_tenant_is_free() {
    let (rig, mut serve) = Scenario::Made.rig().await;
    serve.kill().await;
    rig.let_leases_run_out().await;
    let mut serve = rig.serve("tenant.create/Own/before=stuck*1").await;
    Scenario::Made.act(&rig, &serve, "acme", 0).await;
    until_stuck(&rig, &serve, "tenant.create").await;
    let (status, body) = serve.post("/v1/tenants/acme/suspend", json!({})).await;
    assert_eq!((status, body["code"].as_str()), (409, Some("busy")), "{body}");
    let (status, body) = serve.request(Method::DELETE, "/v1/tenants/acme?confirm=acme", None).await;
    assert_eq!((status, body["code"].as_str()), (409, Some("busy")), "{body}");
    let sql = "SELECT owner FROM tenant_database WHERE tenant_id = 'acme'";
    let base: String = rig.sql.query_one(sql, &[]).await.expect("read its names").get(0);
    let operation = rig.newest_id("tenant.create").await;
    let path = format!("/v1/operations/{operation}/resolve");
    let (status, body) = serve.post(&path, json!({"as": "undone", "reason": "removed by hand"})).await;
    assert_eq!(status, 200, "{body}");
    let tenant = until_tenant(&serve, "acme", "failed").await;
    assert!(tenant["state_reason"].as_str().is_some_and(|text| text.contains("resolved by hand")), "{tenant}");
    let audited = rig
        .count(
            "SELECT count(*) FROM audit WHERE action = 'operation.resolve' AND details->>'reason' = 'removed by hand'",
        )
        .await;
    assert_eq!(audited, 1);
    // What the person said was removed is.
    let admin = rig.server().connect("postgres").await;
    for object in [format!("DATABASE {base}"), format!("ROLE {base}_l, {base}_m, {base}_reader, {base}")] {
        admin.batch_execute(&format!("DROP {object}")).await.expect("do what the person said");
    }
    Scenario::Made.act(&rig, &serve, "acme", 0).await;
    until_tenant(&serve, "acme", "active").await;
    rig.logs_in(&serve, "acme").await.expect("the tenant logs in");
    Scenario::Made.settled(&rig, &mut serve).await;
}

/// A person ends a stuck create as succeeded: the tenant is active.
#[tokio::test]
async fn failure_stuck_is_resolved_as_succeeded_and_the_tenant_is_active() {
    let (rig, mut serve) = Scenario::Made.rig().await;
    serve.kill().await;
    rig.let_leases_run_out().await;
    let serve = rig.serve("tenant.create/Claim/after=stuck*1").await;
    Scenario::Made.act(&rig, &serve, "acme", 0).await;
    until_stuck(&rig, &serve, "tenant.create").await;
    let operation = rig.newest_id("tenant.create").await;
    let output = std::process::Command::new(crate::serving::BINARY)
        .args(["operation", "resolve", &operation, "--as", "succeeded", "--reason", "seen to work"])
        .env("FREEHOLD_URL", serve.url())
        .env("FREEHOLD_API_KEY", &rig.key)
        .output()
        .expect("start freehold");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    until_tenant(&serve, "acme", "active").await;
    rig.logs_in(&serve, "acme").await.expect("the tenant logs in");
}
