//! Issue 2, item 8: every change leaves an audit event that says who asked for what, by which request. The routes come from
//! the document, so that one that is added tomorrow has to be shown here tomorrow.

use std::collections::BTreeSet;

use freehold_testkit::{ADMIN, Cluster, Plane};
use reqwest::Method;
use serde_json::{Value as Json, json};

use crate::common::{add_template_body, admin, dev_with, expect, until};
use crate::import;
use crate::server_pool::{Place, pool};

const PLANS: &str = "[[plan]]\nname = \"standard\"\ndefault = true\n[[plan]]\nname = \"big\"\nrank = 1\n";

/// Routes that are no GET and change nothing, or what nobody asked for.
const NO_CHANGE: [(&str, &str); 5] = [
    ("POST /v1/placements/explain", "says where a tenant would go"),
    ("POST /v1/tenants/{id}/diagnose", "looks"),
    ("POST /v1/tenants/{id}/movability", "looks"),
    ("POST /v1/servers/{id}/check", "looks; what it mends is audited as the truth loop's"),
    ("POST /v1/poolers/{id}/report", "what an agent saw, every second"),
];

struct Walk {
    plane: Plane,
    shown: BTreeSet<String>,
}

impl Walk {
    /// A change that is accepted, and whose request is in the audit.
    async fn changes(&mut self, method: Method, template: &str, id: &str, query: &str, body: Option<Json>) -> Json {
        let path = format!("{}{query}", template.replace("{id}", id).replace("{target}", id).replace("{name}", id));
        let what = format!("{method} {template}");
        let answer = self.plane.request(method, &path, &[("prefer", "wait=60")], body).await;
        assert!(
            matches!(answer.0, 200 | 201 | 202 | 204),
            "{what}: {} {}\n{}",
            answer.0,
            answer.2,
            self.plane.output()
        );
        self.is_audited(&what, &answer).await;
        self.shown.insert(what);
        answer.2
    }

    async fn is_audited(&self, what: &str, answer: &freehold_testkit::Answer) {
        let request = answer.1["x-request-id"].to_str().unwrap();
        let audit = self.plane.get(&format!("/v1/audit?request_id={request}")).await;
        let events = expect(&audit, 200)["items"].as_array().unwrap().clone();
        let asked = events.iter().any(|event| {
            event["outcome"] == "success"
                && event["actor"].as_str().is_some_and(|actor| actor.starts_with("key:"))
                && event["actor_name"] == "dev"
                && event["subject"].is_string()
                && event["action"].as_str().is_some_and(|action| !action.is_empty())
        });
        assert!(asked, "{what} left no event of who asked: {}", audit.2);
    }

    async fn post(&mut self, template: &str, id: &str, body: Json) -> Json {
        self.changes(Method::POST, template, id, "", Some(body)).await
    }

    async fn delete(&mut self, template: &str, id: &str) -> Json {
        let query = if template.contains("/tenants/{id}/") || template.contains("keys") || template.contains("freezes")
        {
            String::new()
        } else {
            format!("?confirm={id}")
        };
        self.changes(Method::DELETE, template, id, &query, None).await
    }

    async fn until_stuck(&self, tenant: &str) -> String {
        let operation =
            self.plane.get(&format!("/v1/operations?subject=tenant:{tenant}&limit=1")).await.2["items"][0].clone();
        let id = operation["id"].as_str().unwrap().to_owned();
        until("it is stuck", async || {
            let seen = self.plane.get(&format!("/v1/operations/{id}")).await.2;
            if seen["state"] == "stuck" { Ok(()) } else { Err(seen.to_string()) }
        })
        .await;
        id
    }
}

#[tokio::test]
async fn story_every_change_is_in_the_audit() {
    let (place, old) = (Place::new(), Cluster::start(15));
    let settings = place.settings(&format!("{PLANS}{}", pool("own", "kind = \"dedicated\"\nmaximum_servers = 2")));
    let faults = "tenant.suspend/Refuse/before=stuck*2";
    let plane = dev_with(&settings).arg("--servers").arg("2").env("FREEHOLD_FAULTS", faults).start().await;
    let mut walk = Walk { plane, shown: BTreeSet::new() };
    tenants(&mut walk).await;
    operations(&mut walk).await;
    servers(&mut walk, &old).await;
    others(&mut walk).await;

    let document = walk.plane.get("/openapi.json").await.2;
    let mut every = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        let methods = methods.as_object().unwrap().keys().filter(|method| *method != "get");
        every.extend(methods.map(|method| format!("{} {path}", method.to_uppercase())));
    }
    walk.shown.extend(NO_CHANGE.map(|(route, _)| route.to_owned()));
    assert_eq!(walk.shown, every);
    // Whoever reads a credential is there too.
    let read = walk.plane.get("/v1/tenants/acme/connection").await;
    assert_eq!(read.0, 200, "{}", read.2);
    walk.is_audited("GET /v1/tenants/{id}/connection", &read).await;
}

async fn tenants(walk: &mut Walk) {
    let app = add_template_body("app", &[("template.toml", "description = \"app\"\n")]);
    walk.post("/v1/templates", "", app).await;
    for id in ["acme", "stuck"] {
        walk.post("/v1/tenants", "", json!({"id": id})).await;
    }
    walk.changes(Method::PATCH, "/v1/tenants/{id}", "acme", "", Some(json!({"name": "Acme"}))).await;
    walk.post("/v1/tenants/{id}/credentials/rotate", "acme", json!({"grace_seconds": 3600})).await;
    walk.post("/v1/tenants/{id}/credentials/retire", "acme", json!({})).await;
    walk.post("/v1/tenants/{id}/plan", "acme", json!({"plan": "big"})).await;
    walk.post("/v1/tenants/{id}/plan", "acme", json!({"plan": "standard", "at": "2099-01-01T00:00:00Z"})).await;
    walk.delete("/v1/tenants/{id}/plan", "acme").await;
    walk.post("/v1/tenants/{id}/sessions/terminate", "acme", json!({"idle_for_seconds": 60})).await;
    let from = walk.plane.get("/v1/tenants/acme").await.2["server"].clone();
    let to = if from == "local-1" { "local-2" } else { "local-1" };
    for verb in ["rollback", "finish"] {
        walk.post("/v1/tenants/{id}/move", "acme", json!({"to": {"server": to}})).await;
        until("it moved", async || {
            let stands = walk.plane.get("/v1/tenants/acme/move").await.2;
            let idle = walk.plane.get("/v1/tenants/acme").await.2["operation"].is_null();
            if idle && stands["serves"] == to { Ok(()) } else { Err(stands.to_string()) }
        })
        .await;
        walk.post(&format!("/v1/tenants/{{id}}/move/{verb}"), "acme", json!({})).await;
        until("it is over", async || match walk.plane.get("/v1/tenants/acme").await.2 {
            tenant if tenant["operation"].is_null() => Ok(()),
            tenant => Err(tenant.to_string()),
        })
        .await;
    }
    let server = admin(&walk.plane, "postgres").await;
    for sql in ["CREATE ROLE legacy", "CREATE DATABASE legacy OWNER legacy"] {
        server.batch_execute(sql).await.unwrap();
    }
    let theirs = import::elsewhere(15).await;
    walk.post("/v1/tenants/{id}/import", "brought", json!({"from": import::from(&theirs, "app")})).await;
    walk.post("/v1/tenants/{id}/adopt", "legacy", json!({"server": "local-1", "database": "legacy"})).await;
}

/// Work that waits for a person, and work that is given up.
async fn operations(walk: &mut Walk) {
    let headers = [("prefer", "wait=0")];
    let begun = walk.plane.request(Method::POST, "/v1/tenants/stuck/suspend", &headers, Some(json!({}))).await;
    assert!(matches!(begun.0, 200..=299), "{} {}", begun.0, begun.2);
    let id = walk.until_stuck("stuck").await;
    walk.post("/v1/operations/{id}/retry", &id, json!({})).await;
    let id = walk.until_stuck("stuck").await;
    walk.post("/v1/operations/{id}/resolve", &id, json!({"as": "undone", "reason": "a test"})).await;
    for verb in ["suspend", "resume"] {
        walk.post(&format!("/v1/tenants/{{id}}/{verb}"), "stuck", json!({})).await;
    }
    walk.changes(Method::DELETE, "/v1/tenants/{id}", "stuck", "?confirm=stuck", None).await;
    walk.post("/v1/tenants/{id}/undelete", "stuck", json!({})).await;

    walk.post("/v1/freezes", "", json!({"target": "operations", "for_seconds": 3600})).await;
    let begun = walk
        .plane
        .request(Method::POST, "/v1/tenants", &headers, Some(json!({"id": "frozen", "template": "app"})))
        .await;
    let id = expect(&begun, 202)["id"].as_str().unwrap().to_owned();
    walk.post("/v1/operations/{id}/cancel", &id, json!({})).await;
    walk.delete("/v1/freezes/{target}", "operations").await;
}

async fn servers(walk: &mut Walk, old: &Cluster) {
    walk.post("/v1/servers", "", json!({"id": "old", "dsn": old.dsn(ADMIN), "capacity": 5})).await;
    walk.changes(Method::PATCH, "/v1/servers/{id}", "old", "", Some(json!({"priority": 7}))).await;
    walk.post("/v1/rebalance", "", json!({"confirm": true})).await;
    for verb in ["cordon", "uncordon", "drain"] {
        walk.post(&format!("/v1/servers/{{id}}/{verb}"), "old", json!({})).await;
    }
    walk.delete("/v1/servers/{id}", "old").await;

    walk.post("/v1/server-pools/{name}/grow", "own", json!({})).await;
    until("it is active", async || match walk.plane.get("/v1/servers/own-1").await.2 {
        server if server["state"] == "active" => Ok(()),
        server => Err(server.to_string()),
    })
    .await;
    for on in [true, false] {
        walk.post("/v1/servers/{id}/maintenance", "own-1", json!({"on": on})).await;
    }
    walk.post("/v1/servers/{id}/update", "own-1", json!({"limits": {"memory_bytes": 300 << 20}})).await;
}

async fn others(walk: &mut Walk) {
    let made = walk.post("/v1/keys", "", json!({"name": "short", "scopes": ["read"]})).await;
    walk.delete("/v1/keys/{id}", made["id"].as_str().unwrap()).await;
    // It has no agent: nobody is put on it.
    walk.post("/v1/freezes", "", json!({"target": "pooler"})).await;
    let pooler = json!({"id": "edge", "address": "127.0.0.1:6432", "sslmode": "disable", "capacity": 5});
    walk.post("/v1/poolers", "", pooler).await;
    for verb in ["cordon", "uncordon", "cordon", "reconcile"] {
        walk.post(&format!("/v1/poolers/{{id}}/{verb}"), "edge", json!({})).await;
    }
    walk.delete("/v1/poolers/{id}", "edge").await;

    let hold = walk.post("/v1/audit/holds", "", json!({"reason": "a test", "subject": "tenant:none"})).await;
    let id = hold["id"].as_str().unwrap();
    walk.changes(Method::DELETE, "/v1/audit/holds/{id}", id, "?reason=over", None).await;
    walk.post("/v1/audit/redactions", "", json!({"reason": "a test", "action": "tenant.update"})).await;
}
