//! Upgrade: a higher tier, once it is paid; where that has a server of its own, a job that anybody may ask for again.

use freehold_testkit::{Answer, Plane};
use serde_json::{Value as Json, json};

use super::{BASE, CUSTOMER, EDGE, allocated, instance, works};
use crate::common::{dev_with, expect, log_in, problem, text, until};
use crate::server_pool::{Place, pool};

const TIERS: &str = "[[plan]]\nname = \"basic\"\nrank = 10\ndefault = true\n[[plan]]\nname = \"standard\"\nrank = 20\nconnection_limit = 25\n\
    [[plan]]\nname = \"premium\"\nrank = 30\nserver = \"dedicated\"\n";

async fn upgrade(plane: &Plane, body: Json) -> Answer {
    plane.post(&format!("{BASE}/upgrade"), body).await
}

fn to(instance: &str, tier: &str) -> Json {
    json!({"instance_id": instance, "customer_id": CUSTOMER, "plan_tier": tier})
}

#[tokio::test]
async fn story_saasodoo_upgrades_once_it_is_paid_and_moves_where_it_must() {
    let place = Place::new();
    let own = pool("postgres-dedicated", "kind = \"dedicated\"\nminimum_spare = 0\nmaximum_servers = 1");
    let file = place.settings(&format!("{own}{TIERS}{EDGE}"));
    let slow = "tenant.plan/Pool/before=sleep:3000*1";
    let plane = dev_with(&file).postgres(15).env("FREEHOLD_FAULTS", slow).start().await;
    let id = instance(0xcafe_0001);
    problem(&upgrade(&plane, to(&id, "premium")).await, 404, "not_found");
    let before = allocated(&plane, &id).await;
    let rows = "CREATE TABLE res_partner (id int PRIMARY KEY); INSERT INTO res_partner SELECT generate_series(1, 100)";
    let connection = plane.get(&format!("/v1/tenants/{id}/connection")).await.2;
    log_in(&connection).await.batch_execute(rows).await.unwrap();

    problem(&upgrade(&plane, to(&id, "basic")).await, 400, "bad_request");
    problem(&upgrade(&plane, to(&id, "golden")).await, 422, "unknown_plan");
    let mut theirs = to(&id, "premium");
    theirs["customer_id"] = json!("0198f2a0-9999-7abc-8def-001122334455");
    problem(&upgrade(&plane, theirs).await, 409, "tenant_exists");
    let mut unpaid = to(&id, "premium");
    unpaid["paid"] = json!(false);
    problem(&upgrade(&plane, unpaid).await, 402, "payment_required");

    // On the same server it is done at once. Who asks meanwhile is told the job, also when the plan is there already.
    let meanwhile = async {
        until("it is in the middle", async || match plane.output().contains("fault point fires") {
            true => Ok(()),
            false => Err(plane.output()),
        })
        .await;
        upgrade(&plane, to(&id, "standard")).await
    };
    let (done, again) = tokio::join!(upgrade(&plane, to(&id, "standard")), meanwhile);
    assert_eq!(expect(&done, 200)["status"], "upgraded", "{}", done.2);
    assert_eq!(expect(&again, 200)["status"], "migrating", "{}", again.2);
    let job = again.2["job_id"].as_str().unwrap();
    assert_eq!(plane.get(&format!("/v1/operations/{job}")).await.2["kind"], "tenant.plan");
    problem(&upgrade(&plane, to(&id, "standard")).await, 400, "bad_request");
    problem(&upgrade(&plane, to(&id, "basic")).await, 400, "bad_request");
    let tenant = plane.get(&format!("/v1/tenants/{id}")).await.2;
    assert_eq!((&tenant["plan"], &tenant["labels"]["plan_tier"]), (&json!("standard"), &json!("standard")), "{tenant}");

    // To one of its own it is a job, which whoever asks again is told.
    let begun = upgrade(&plane, to(&id, "premium")).await;
    assert_eq!(expect(&begun, 200)["status"], "migrating", "{}", begun.2);
    let job = begun.2["job_id"].as_str().unwrap().to_owned();
    let again = upgrade(&plane, to(&id, "premium")).await;
    if again.0 == 200 {
        assert_eq!(again.2["job_id"], job, "{}", again.2);
    }
    until("the job is done", async || match plane.get(&format!("/v1/operations/{job}")).await.2 {
        found if found["state"] == "succeeded" => Ok(()),
        found => Err(format!("{found} {}", plane.output())),
    })
    .await;
    problem(&upgrade(&plane, to(&id, "premium")).await, 400, "bad_request");
    let mut wanted = super::wanted(&id);
    wanted["plan_tier"] = json!("premium");
    let after = super::allocate(&plane, wanted).await;
    let after = expect(&after, 200);
    assert_eq!(
        (&after["db_server_id"], &after["db_password"]),
        (&json!("postgres-dedicated-1"), &before["db_password"])
    );
    works(&plane, after).await;
    let connection = plane.get(&format!("/v1/tenants/{id}/connection")).await.2;
    assert_eq!(text(&log_in(&connection).await, "SELECT count(*)::text FROM res_partner").await, "100");
}
