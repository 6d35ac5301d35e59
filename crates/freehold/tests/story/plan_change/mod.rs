//! Issue 5, item 7: a tenant gets another plan, now or at its time, in place or by a move.

mod in_place;
mod kept;
mod moves;

use freehold_testkit::{Answer, Plane};
use reqwest::Method;
use serde_json::Value as Json;

use crate::common::{SettingsFile, admin, settings, store, until, walk};

const PLANS: &str = "[[plan]]\nname = \"basic\"\nrank = 10\ndefault = true\nconnection_limit = 5\nstatement_timeout_ms = 30000\n\
    [[plan]]\nname = \"plus\"\nrank = 20\nconnection_limit = 9\nwork_mem_kb = 2048\nextensions = [\"citext\"]\n\
    [[plan]]\nname = \"twin\"\nrank = 20\n[[plan]]\nname = \"tiny\"\nstorage_quota = 1000\non_storage_quota = \"notify\"\n\
    [[plan]]\nname = \"odd\"\nrank = 30\nextensions = [\"never_heard_of\"]\n\
    [[plan]]\nname = \"own\"\nrank = 40\nserver = \"dedicated\"\nconnection_limit = 50\nextensions = [\"citext\"]\n";

fn plans() -> SettingsFile {
    settings(&format!("[stock]\nper_template = 0\n[stats]\nperiod_seconds = 1\nsize_period_seconds = 1\n{PLANS}"))
}

async fn change(plane: &Plane, id: &str, body: Json) -> Answer {
    plane.request(Method::POST, &format!("/v1/tenants/{id}/plan"), &[("prefer", "wait=30")], Some(body)).await
}

async fn tenant(plane: &Plane, id: &str) -> Json {
    plane.get(&format!("/v1/tenants/{id}")).await.2
}

/// Connection limit and defaults of the login, as its server has them.
async fn limits(plane: &Plane, made: &Json) -> (i32, String) {
    let login = made["connection"]["direct"]["user"].as_str().unwrap();
    let sql = "SELECT rolconnlimit, coalesce(array_to_string(setconfig, ' '), '') FROM pg_roles r
        LEFT JOIN pg_db_role_setting s ON s.setrole = r.oid WHERE rolname = $1";
    let row = admin(plane, "postgres").await.query_one(sql, &[&login]).await.unwrap();
    (row.get(0), row.get(1))
}

/// As if the time had come, and pauses were over; the loop looks.
async fn time_passes(plane: &Plane) {
    let sql = "UPDATE plan_change SET due_at = least(due_at, now()), retry_at = CASE WHEN retry_at IS NOT NULL THEN now() END;
        UPDATE loop_lease SET next_run_at = now() WHERE name = 'plans'; NOTIFY freehold_loop, 'plans'";
    store(plane).await.batch_execute(sql).await.unwrap();
}

async fn until_plan(plane: &Plane, id: &str, plan: &str) -> Json {
    until(&format!("{id} has plan {plan}"), async || match tenant(plane, id).await {
        found if found["plan"] == plan && found["operation"].is_null() => Ok(found),
        found => Err(format!("{found:#} {}", plane.output())),
    })
    .await
}

/// Why the change that is kept waits.
async fn until_waits(plane: &Plane, id: &str, code: &str) -> Json {
    until(&format!("{id} waits: {code}"), async || {
        time_passes(plane).await;
        match tenant(plane, id).await {
            found if found["plan_change"]["waits"]["code"] == code => Ok(found["plan_change"].clone()),
            found => Err(found.to_string()),
        }
    })
    .await
}

async fn audited(plane: &Plane, action: &str) -> usize {
    walk(plane, &format!("/v1/audit?action={action}"), 50).await.len()
}

const LATER: &str = "2999-01-01T00:00:00Z";
