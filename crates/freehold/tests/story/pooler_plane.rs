//! Issue 4, the plane's half: what an agent is told and when, told to an agent that has no pooler.

use std::time::{Duration, Instant};

use freehold_testkit::{Answer, Plane};
use reqwest::Method;
use serde_json::{Value as Json, json};

use crate::common::{
    add_template_body, create, create_as, dev, dev_with, exits, expect, key, log_in, problem, settings, stderr, stdout,
    until,
};

/// Speaks as an agent does; whatever it is told is in force at once.
struct Agent {
    key: String,
    id: &'static str,
    revision: Option<String>,
    last: Json,
}

impl Agent {
    async fn register(plane: &Plane, id: &'static str, capacity: u32) -> Self {
        let body = json!({"id": id, "address": "127.0.0.1:6432", "sslmode": "disable", "capacity": capacity});
        expect(&plane.post("/v1/poolers", body).await, 201);
        Self { key: key(plane, &["pooler"], None).await, id, revision: None, last: Json::Null }
    }

    async fn ask(&self, plane: &Plane, wait: u32) -> Answer {
        let after = self.revision.as_ref().map(|revision| format!("after={revision}&")).unwrap_or_default();
        let path = format!("/v1/poolers/{}/assignment?{after}wait={wait}", self.id);
        plane.request(Method::GET, &path, &[("authorization", &self.key)], None).await
    }

    /// What is to be served now; None when nothing came in this time.
    async fn next(&mut self, plane: &Plane, wait: u32) -> Option<Json> {
        let answer = self.ask(plane, wait).await;
        if answer.0 == 204 {
            return None;
        }
        let assignment = expect(&answer, 200).clone();
        self.revision = assignment["revision"].as_str().map(str::to_owned);
        self.last = assignment.clone();
        Some(assignment)
    }

    async fn tell(&self, plane: &Plane, more: Json) {
        let mut body =
            json!({"generation": null, "version": "1.24.1", "reloads": 1, "deaths": 0, "repaired": 0, "error": null});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let path = format!("/v1/poolers/{}/report", self.id);
        let answer = plane.request(Method::POST, &path, &[("authorization", &self.key)], Some(body)).await;
        expect(&answer, 204);
    }

    /// Asks and reports until nothing is new for a second; what is served then.
    async fn settle(&mut self, plane: &Plane) -> Json {
        while let Some(assignment) = self.next(plane, 1).await {
            self.tell(plane, json!({"generation": assignment["generation"]})).await;
        }
        self.tell(plane, json!({"generation": self.last["generation"]})).await;
        self.last.clone()
    }

    /// Does its work until this is over; then what is served.
    async fn meanwhile<T>(&mut self, plane: &Plane, work: impl Future<Output = T>) -> (T, Json) {
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return (done, self.settle(plane).await),
                _ = self.settle(plane) => {}
            }
        }
    }
}

fn entry<'a>(assignment: &'a Json, name: &str) -> Option<&'a Json> {
    assignment["served"]["entries"].as_array().unwrap().iter().find(|entry| entry["name"] == name)
}

async fn pooler(plane: &Plane, id: &str) -> Json {
    expect(&plane.get(&format!("/v1/poolers/{id}")).await, 200).clone()
}

#[tokio::test]
async fn story_a_create_from_stock_is_pooled_and_changes_nothing_in_the_pooler() {
    let plane = dev().stock(3).start().await;
    let mut agent = Agent::register(&plane, "p1", 100).await;
    while agent.settle(&plane).await["served"]["entries"].as_array().unwrap().len() < 3 {}
    let before = pooler(&plane, "p1").await;
    assert_eq!(before["health"], "healthy", "{before}");

    let made = create(&plane, "acme").await;
    let pooled = &made["connection"]["pooled"];
    assert_eq!((&pooled["ready"], &pooled["host"], &pooled["port"]), (&json!(true), &json!("127.0.0.1"), &json!(6432)));
    for field in ["user", "password", "database"] {
        assert_eq!(pooled[field], made["connection"]["direct"][field], "{field}");
    }
    let after = pooler(&plane, "p1").await;
    // The stock that is made again raises it a moment later; the create itself does not.
    assert_eq!(after["tenants"], 1);
    let entry_name = pooled["database"].as_str().unwrap();
    let shown = expect(&plane.get("/v1/tenants/acme/connection").await, 200).clone();
    assert_eq!(shown["pooled"], *pooled);

    // What the pooler counted, by tenant; stock and tenants that did nothing have no lines.
    let stats = |name: &str, transactions: u64| {
        json!({"name": name, "clients_active": 2, "clients_waiting": 1, "servers_active": 1, "servers_idle": 0,
            "longest_wait_ms": 1500, "transactions": transactions, "queries": 43, "received_bytes": 1, "sent_bytes": 2})
    };
    let told =
        json!({"generation": agent.last["generation"], "databases": [stats(entry_name, 42), stats("nobodys", 7)]});
    agent.tell(&plane, told).await;
    let metrics = plane.get("/metrics").await.2;
    let metrics = metrics.as_str().unwrap();
    for line in [
        "freehold_tenant_pooler_transactions_total{tenant=\"acme\",pooler=\"p1\"} 42",
        "freehold_tenant_pooler_clients{tenant=\"acme\",pooler=\"p1\",state=\"waiting\"} 1",
        "freehold_tenant_pooler_longest_wait_seconds{tenant=\"acme\",pooler=\"p1\"} 1.5",
        "freehold_pooler_tenants{pooler=\"p1\"} 1",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    assert!(!metrics.contains("nobodys"));

    // Suspended: its login stays in the list with a verifier that nothing fits; the server refused it before that.
    let usable = agent.settle(&plane).await;
    assert_eq!(entry(&usable, entry_name).unwrap()["logins"][0]["standing"], "usable");
    expect(&plane.post("/v1/tenants/acme/suspend", json!({})).await, 200);
    let began = Instant::now();
    let suspended = agent.next(&plane, 10).await.expect("suspended comes as a new assignment");
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    let login = &entry(&suspended, entry_name).unwrap()["logins"][0];
    assert_eq!(login["standing"], "unusable");
    assert_ne!(login["verifier"], entry(&usable, entry_name).unwrap()["logins"][0]["verifier"]);
    let connection = expect(&plane.get("/v1/tenants/acme/connection").await, 200).clone();
    assert_eq!(connection["pooled"]["ready"], false, "nobody has said that the pooler knows");
    agent.tell(&plane, json!({"generation": suspended["generation"]})).await;
    expect(&plane.post("/v1/tenants/acme/resume", json!({})).await, 200);
    let resumed = agent.settle(&plane).await;
    assert_eq!(entry(&resumed, entry_name).unwrap()["logins"][0]["standing"], "usable");

    // Purged: the entry goes before the database does, and nobody waits for longer than the agent takes.
    let purge = plane.delete("/v1/tenants/acme?confirm=acme&purge=true");
    let (purged, gone) = agent.meanwhile(&plane, purge).await;
    expect(&purged, 200);
    assert!(entry(&gone, entry_name).is_none());
    assert_eq!(pooler(&plane, "p1").await["tenants"], 0);
}

#[tokio::test]
async fn story_a_pooler_that_is_down_hinders_nobody() {
    let plane = dev().stock(2).start().await;
    // It was well for a moment, and is silent from then on.
    let mut agent = Agent::register(&plane, "p1", 100).await;
    agent.settle(&plane).await;
    for id in ["one", "two", "three", "four"] {
        let made = create(&plane, id).await;
        log_in(&made["connection"]["direct"]).await;
    }
    until("stock is made without it", async || {
        let status = plane.get("/v1/status").await.2;
        let ready = status["stock"][0]["ready"].as_u64().unwrap_or(0);
        if ready >= 2 { Ok(()) } else { Err(status["stock"].to_string()) }
    })
    .await;
    let made = create(&plane, "five").await;
    assert_eq!(made["connection"]["pooled"]["ready"], false, "{}", made["connection"]["pooled"]);
    // It says what is wrong, and it is seen.
    agent.tell(&plane, json!({"error": "disk full: /var is full; free some"})).await;
    let status = plane.get("/v1/status").await.2;
    let concern = status["concerns"].as_array().unwrap().iter().find(|concern| concern["code"] == "pooler_unhealthy");
    let concern = concern.unwrap_or_else(|| panic!("{status}"));
    assert!(concern["message"].as_str().unwrap().contains("disk full"), "{concern}");
    assert_eq!(concern["next"], "freehold pooler check p1");
    // It is back, and has everybody.
    let served = agent.settle(&plane).await;
    assert_eq!(pooler(&plane, "p1").await["health"], "healthy");
    let name = made["connection"]["pooled"]["database"].as_str().unwrap();
    assert!(entry(&served, name).is_some(), "{served}");
    let connection = expect(&plane.get("/v1/tenants/five/connection").await, 200).clone();
    assert_eq!(connection["pooled"]["ready"], true);
}

#[tokio::test]
async fn story_tenants_from_before_any_pooler_get_one_and_no_pooler_gets_too_many() {
    let plane = dev().stock(0).start().await;
    for id in ["a", "b", "c", "d", "e"] {
        assert_eq!(create(&plane, id).await["connection"]["pooled"], json!(null));
    }
    let mut first = Agent::register(&plane, "first", 2).await;
    until("the first is full", async || match pooler(&plane, "first").await["tenants"].as_u64() {
        Some(2) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    let full = first.settle(&plane).await;
    assert_eq!(full["served"]["entries"].as_array().unwrap().len(), 2);
    assert!(full["generation"].as_u64().unwrap() <= 3, "one reload for all of them: {}", full["generation"]);
    let mut second = Agent::register(&plane, "second", 10).await;
    until("the second has the rest", async || match pooler(&plane, "second").await["tenants"].as_u64() {
        Some(3) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    second.settle(&plane).await;
    assert_eq!(pooler(&plane, "first").await["tenants"], 2);
    // Without stock a create waits for its pooler for a moment: the first answer has it.
    let (made, _) = second.meanwhile(&plane, create(&plane, "f")).await;
    assert_eq!(made["connection"]["pooled"]["ready"], true, "{}", made["connection"]["pooled"]);
    problem(&plane.delete("/v1/poolers/first").await, 409, "wrong_state");
}

#[tokio::test]
async fn story_names_by_pattern_are_what_the_pooler_calls_them_where_it_can() {
    let settings = settings(
        "[[plan]]\nname = \"big\"\npool_size = 9\npool_mode = \"session\"\nclient_limit = 50\ndefault = true\n",
    );
    let plane = dev_with(&settings).stock(1).start().await;
    let mut agent = Agent::register(&plane, "p1", 100).await;
    agent.settle(&plane).await;
    let naming = "[naming]\nkind = \"pattern\"\ndatabase = \"app {tenant}\"\nlogin = \"app_{tenant}\"\n";
    let answer = plane.post("/v1/templates", add_template_body("named", &[("template.toml", naming)])).await;
    expect(&answer, 201);
    let body = json!({"id": "acme", "template": "named"});
    let (made, served) = agent.meanwhile(&plane, create_as(&plane, body)).await;
    assert_eq!(made["connection"]["direct"]["database"], "app acme");
    let pooled = &made["connection"]["pooled"];
    let name = pooled["database"].as_str().unwrap();
    assert!(name.starts_with("fh_"), "a blank cannot be in an ini file's key: {name}");
    assert_eq!(pooled["ready"], true);
    let entry = entry(&served, name).unwrap();
    assert_eq!((&entry["database"], &entry["pool_size"]), (&json!("app acme"), &json!(9)));
    assert_eq!((&entry["mode"], &entry["client_connections"]), (&json!("session"), &json!(50)));
    assert_eq!(entry["logins"][0]["role"], "app_acme");
}

#[tokio::test]
async fn story_a_pooler_is_registered_cordoned_reconciled_and_removed() {
    let plane = dev().stock(0).start().await;
    let add = |body: Json| plane.post("/v1/poolers", body);
    problem(&add(json!({"id": "p1", "address": "nowhere"})).await, 422, "invalid");
    problem(&add(json!({"id": "p1", "address": "p:6432", "sslmode": "maybe"})).await, 422, "invalid");
    problem(&add(json!({"id": "p1", "address": "p:6432", "capacity": 0})).await, 422, "invalid");
    let body = json!({"id": "p1", "address": "p1.example.com:6432"});
    let made = add(body.clone()).await;
    let made = expect(&made, 201);
    assert_eq!((&made["sslmode"], &made["capacity"]), (&json!("verify-full"), &json!(500)));
    assert_eq!((&made["health"], &made["kind"]), (&json!("unknown"), &json!("pgbouncer")));
    expect(&add(body).await, 200);
    problem(&add(json!({"id": "p1", "address": "p2.example.com:6432"})).await, 409, "pooler_exists");
    let check = plane.get("/v1/poolers/p1/check").await;
    assert_eq!(expect(&check, 200)["findings"][0]["code"], "pooler_unknown");

    assert_eq!(expect(&plane.post("/v1/poolers/p1/cordon", json!({})).await, 200)["state"], "cordoned");
    create(&plane, "acme").await;
    assert_eq!(pooler(&plane, "p1").await["tenants"], 0);
    assert_eq!(expect(&plane.post("/v1/poolers/p1/uncordon", json!({})).await, 200)["state"], "active");
    until("it has the tenant", async || match pooler(&plane, "p1").await["tenants"].as_u64() {
        Some(1) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    for verb in [&["pooler", "list"][..], &["pooler", "show", "p1"], &["pooler", "reconcile", "p1"]] {
        let said = stdout(&exits(plane.cli(verb), 0));
        assert!(said.contains("p1.example.com:6432") && said.contains("unknown"), "{said}");
    }
    let said = exits(plane.cli(&["pooler", "check", "p1"]), 11);
    assert!(stdout(&said).contains("pooler_unknown") || stderr(&said).contains("pooler_unknown"));
    exits(plane.cli(&["pooler", "remove", "p1"]), 5);
    exits(plane.cli(&["pooler", "add", "p2", "--address", "p2.example.com:6432", "--capacity", "7"]), 0);
    exits(plane.cli(&["pooler", "cordon", "p2"]), 0);
    exits(plane.cli(&["pooler", "uncordon", "p2"]), 0);
    exits(plane.cli(&["pooler", "remove", "p2"]), 0);
    let before = pooler(&plane, "p1").await["generation"].as_u64().unwrap();
    let again = plane.post("/v1/poolers/p1/reconcile", json!({})).await;
    assert!(expect(&again, 200)["generation"].as_u64().unwrap() > before);

    problem(&plane.get("/v1/poolers/nobody").await, 404, "not_found");
    problem(&plane.get("/v1/poolers/p1/assignment?wait=31").await, 422, "invalid");
    let read = key(&plane, &["read", "operate"], None).await;
    let answer = plane.request(Method::GET, "/v1/poolers/p1/assignment", &[("authorization", &read)], None).await;
    problem(&answer, 403, "denied");
    let agent = key(&plane, &["pooler"], None).await;
    let answer = plane.request(Method::GET, "/v1/poolers", &[("authorization", &agent)], None).await;
    problem(&answer, 403, "denied");

    expect(&plane.delete("/v1/tenants/acme?confirm=acme&purge=true").await, 200);
    assert_eq!(plane.delete("/v1/poolers/p1").await.0, 204);
    problem(&plane.get("/v1/poolers/p1/assignment").await, 404, "not_found");
    let audit = plane.get("/v1/audit?limit=100").await.2;
    for action in ["pooler.add", "pooler.cordon", "pooler.uncordon", "pooler.reconcile", "pooler.remove"] {
        assert!(audit["items"].as_array().unwrap().iter().any(|event| event["action"] == action), "{action}");
    }
}
