//! Issue 3, item 8: SaaSOdoo's database service, route by route, and without what was broken in it.

mod allocate;
mod contract;
mod servers;
mod upgrade;

use std::collections::BTreeSet;

use freehold_testkit::{Answer, Plane};
use serde_json::{Value as Json, json};

use crate::common::{SettingsFile, expect, log_in, settings, text, until, walk};

const BASE: &str = "/api/database";
const CUSTOMER: &str = "0198f2a0-1111-7abc-8def-001122334455";
const EDGE: &str = "[[edge]]\nkind = \"saasodoo\"\n";
const PLANS: &str = "[[plan]]\nname = \"basic\"\ndefault = true\n[[plan]]\nname = \"premium\"\nrank = 1\nserver = \"dedicated\"\n\
                     [[plan]]\nname = \"enterprise\"\nrank = 2\n";

fn edge(more: &str) -> SettingsFile {
    settings(&format!("{more}{PLANS}{EDGE}"))
}

fn instance(n: u32) -> String {
    format!("{n:08x}-0000-4000-8000-000000000000")
}

fn wanted(instance: &str) -> Json {
    json!({"instance_id": instance, "customer_id": CUSTOMER, "plan_tier": "basic"})
}

async fn allocate(plane: &Plane, body: Json) -> Answer {
    plane.post(&format!("{BASE}/allocate"), body).await
}

/// As SaaSOdoo does: again and again, until it is there.
async fn allocated(plane: &Plane, instance: &str) -> Json {
    until("allocated", async || {
        let answer = allocate(plane, wanted(instance)).await;
        match expect(&answer, 200)["status"].as_str() {
            Some("allocated") => Ok(answer.2),
            _ => Err(answer.2.to_string()),
        }
    })
    .await
}

async fn deallocate(plane: &Plane, instance: &str) -> Answer {
    plane.delete(&format!("{BASE}/allocate/{instance}")).await
}

async fn one_pool(plane: &Plane, id: &str) -> Json {
    let answer = plane.get(&format!("{BASE}/admin/pools/{id}")).await;
    expect(&answer, 200)["pool"].clone()
}

fn fields(body: &Json) -> BTreeSet<&str> {
    body.as_object().unwrap().keys().map(String::as_str).collect()
}

/// What was answered lets somebody in, and is what the API knows.
async fn works(plane: &Plane, allocated: &Json) {
    let database = allocated["db_name"].as_str().unwrap();
    let found = walk(plane, "/v1/tenants", 100).await;
    let mut known = Vec::new();
    for tenant in found.iter().filter(|tenant| tenant["state"] == "active") {
        let connection = plane.get(&format!("/v1/tenants/{}/connection", tenant["id"].as_str().unwrap())).await.2;
        if connection["direct"]["database"] == database {
            known.push((tenant["server"].clone(), connection));
        }
    }
    let (server, connection) = known.pop().unwrap_or_else(|| panic!("{database} is nobody's"));
    let direct = &connection["direct"];
    for (ours, theirs) in [("host", "db_host"), ("port", "db_port"), ("user", "db_user"), ("password", "db_password")] {
        assert_eq!(direct[ours], allocated[theirs]);
    }
    assert_eq!(server, allocated["db_server_id"]);
    let session = log_in(&connection).await;
    assert_eq!(text(&session, "SELECT current_database()::text").await, database);
}
