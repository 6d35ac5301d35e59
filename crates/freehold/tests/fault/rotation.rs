//! A tenant in the middle of a rotation, for scenarios; and a rotation that fails, which leaves the tenant as it was.

use freehold_testkit::as_tenant;
use serde_json::{Value as Json, json};

use crate::kill::Runs;
use crate::picture::{difference, same};
use crate::rig::Rig;
use crate::scenario::Scenario;
use crate::serving::Serve;

/// Handed out before, and not retired: it owns something, as itself.
pub async fn under_way(serve: &Serve, id: &str) {
    let (status, connection) = serve.get(&format!("/v1/tenants/{id}/connection")).await;
    assert_eq!(status, 200, "{connection}");
    let session = as_tenant(&connection).await.expect("the tenant logs in");
    let make = "SET ROLE NONE; CREATE SCHEMA mine; CREATE TABLE mine.t (id int); \
                CREATE FUNCTION mine.f() RETURNS int LANGUAGE sql AS 'SELECT 1'";
    session.batch_execute(make).await.expect("make things as the login");
    let (status, body) =
        serve.post(&format!("/v1/tenants/{id}/credentials/rotate"), json!({"grace_seconds": 86_400})).await;
    assert_eq!(status, 200, "{body}\n{}", serve.output());
}

impl Runs {
    /// Undone from each step up to where it is handed out: nothing is left of the new one, and the old one is in force.
    async fn rotation_is_undone(&mut self, steps: &[&str]) {
        for step in steps {
            for point in ["before", "after"] {
                let (id, number) = self.next();
                let mut serve = self.rig.serve("").await;
                self.scenario.prepare(&self.rig, &serve, &id).await;
                let before_it = connection(&serve, &id).await;
                self.end(&mut serve).await;
                let since = self.rig.since().await;
                let before = self.rig.picture(&since, &id).await;
                let faults = format!("tenant.rotate/{step}/{point}=permanent*1");
                let mut run = self.scenario.run(&self.rig, &faults, false, &id, number).await;
                let left = difference(&before.server, &run.picture.server);
                assert!(left.is_none(), "failed {point} {step}, and left\n{}", left.unwrap_or_default());
                let store = |lines: &[String]| -> Vec<String> {
                    let of_run = |line: &&String| !line.starts_with("operation ") && !line.starts_with("audit ");
                    lines.iter().filter(of_run).cloned().collect()
                };
                same("the store", &store(&before.store), &store(&run.picture.store));
                assert_eq!(connection(&run.serve, &id).await, before_it);
                self.rig.logs_in(&run.serve, &id).await.expect("the tenant logs in as before");
                let (status, body) = run.serve.post(&format!("/v1/tenants/{id}/credentials/rotate"), json!({})).await;
                assert_eq!(status, 200, "{body}\n{}", run.serve.output());
                assert_ne!(connection(&run.serve, &id).await, before_it);
                self.rig.logs_in(&run.serve, &id).await.expect("the tenant logs in with the next one");
                self.scenario.clean(&self.rig, &mut run.serve, &id).await;
                self.end(&mut run.serve).await;
            }
        }
    }
}

async fn connection(serve: &Serve, id: &str) -> Json {
    let (status, connection) = serve.get(&format!("/v1/tenants/{id}/connection")).await;
    assert_eq!(status, 200, "{connection}");
    connection
}

#[tokio::test]
async fn failure_in_a_rotation_is_undone_whole() {
    Runs::new(Scenario::Rotate).await.rotation_is_undone(&["Plan", "Add", "Pool", "Prove", "HandOut"]).await;
}

#[tokio::test]
async fn failure_in_a_rotation_in_place_is_undone_whole() {
    Runs::new(Scenario::RotateInPlace).await.rotation_is_undone(&["Change", "Prove", "HandOut"]).await;
}

/// Its login is refused from the first step on; what is left of it is tried again.
#[tokio::test]
async fn failure_of_a_retirement_is_begun_again_by_itself() {
    let (rig, mut serve) = Scenario::Retire.rig().await;
    Scenario::Retire.prepare(&rig, &serve, "acme").await;
    serve.kill().await;
    rig.let_leases_run_out().await;
    let mut serve = rig.serve("tenant.retire_login/Disown/before=permanent*1").await;
    let (status, body) = serve.post("/v1/tenants/acme/credentials/retire", json!({})).await;
    assert_eq!(status, 422, "{body}");
    // It is refused all the same, and stays so when the tenant comes back from a suspension.
    for verb in ["suspend", "resume"] {
        let (status, body) = serve.post(&format!("/v1/tenants/acme/{verb}"), json!({})).await;
        assert_eq!(status, 200, "{verb}: {body}");
    }
    let admitted = "SELECT count(*) FROM pg_roles WHERE rolname = 'made_acme_app' AND rolcanlogin";
    let admin = rig.server().connect("postgres").await;
    assert_eq!(admin.query_one(admitted, &[]).await.expect("look").get::<_, i64>(0), 0);
    rig.logs_in(&serve, "acme").await.expect("the tenant logs in");
    // Ten minutes later.
    let later =
        "UPDATE operation SET finished_at = finished_at - interval '11 minutes' WHERE kind = 'tenant.retire_login';
        UPDATE loop_lease SET next_run_at = now() WHERE name = 'credentials'; NOTIFY freehold_loop, 'credentials'";
    rig.sql.batch_execute(later).await.expect("let time pass");
    rig.until_operation("tenant.retire_login", "succeeded").await;
    let (_, tenant) = serve.get("/v1/tenants/acme").await;
    assert_eq!(tenant["retiring"], Json::Null, "{tenant}");
    assert!(retired(&rig).await);
    Scenario::Retire.settled(&rig, &mut serve).await;
}

async fn retired(rig: &Rig) -> bool {
    let sql = "SELECT count(*) FROM pg_roles WHERE rolname = 'made_acme_app'";
    let admin = rig.server().connect("postgres").await;
    admin.query_one(sql, &[]).await.expect("look").get::<_, i64>(0) == 0
}
