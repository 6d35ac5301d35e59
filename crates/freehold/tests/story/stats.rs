//! What tenants use and do, as the loop sees it, and what their quotas make of it.

use freehold_testkit::{Plane, as_tenant};
use reqwest::Method;
use serde_json::{Value as Json, json};

use crate::common::{create, create_as, dev_with, exits, expect, key, log_in, problem, settings, stdout, until};

const QUICK: &str = "[stats]\nperiod_seconds = 1\nsize_period_seconds = 1\n";
const MB: u64 = 1 << 20;

fn of<'a>(page: &'a Json, tenant: &str) -> Option<&'a Json> {
    page["items"].as_array()?.iter().find(|item| item["tenant"] == tenant)
}

async fn audit(plane: &Plane, tenant: &str) -> Vec<String> {
    let answer = plane.get(&format!("/v1/audit?subject=tenant:{tenant}&limit=500")).await;
    let events = expect(&answer, 200)["items"].as_array().unwrap().clone();
    let quota = events.iter().filter(|event| event["action"].as_str().unwrap().starts_with("tenant.quota."));
    let told = |event: &Json| {
        let (action, details) = (event["action"].as_str().unwrap(), &event["details"]);
        format!(
            "{} {} {}",
            action.trim_start_matches("tenant.quota."),
            details["resource"].as_str().unwrap(),
            details["percent"]
        )
    };
    let mut told: Vec<(String, String)> =
        quota.map(|event| (event["at"].as_str().unwrap().to_owned(), told(event))).collect();
    told.sort();
    told.into_iter().map(|(_, told)| told).collect()
}

async fn fill(connection: &Json, megabytes: u64) {
    let tenant = log_in(connection).await;
    let sql = "CREATE TABLE IF NOT EXISTS filler (b bytea); ALTER TABLE filler ALTER b SET STORAGE EXTERNAL";
    tenant.batch_execute(sql).await.unwrap();
    let sql = format!(
        "INSERT INTO filler SELECT convert_to(repeat('x', 1048576), 'UTF8') FROM generate_series(1, {megabytes})"
    );
    tenant.batch_execute(&sql).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stats_tell_who_uses_what() {
    let settings = settings(QUICK);
    let plane = dev_with(&settings).stock(0).start().await;
    let (acme, beta) = (create(&plane, "acme").await, create(&plane, "beta").await);
    fill(&acme["connection"], 20).await;
    let mut held = Vec::new();
    while held.len() < 3 {
        held.push(log_in(&beta["connection"]).await);
    }
    let worker = log_in(&acme["connection"]).await;
    let largest = |order: &'static str| {
        let plane = &plane;
        async move {
            let answer = plane.get(&format!("/v1/stats/tenants?order={order}&limit=1")).await;
            expect(&answer, 200).clone()
        }
    };
    let page = until("acme is the largest", async || {
        worker.batch_execute("SELECT count(*) FROM filler").await.unwrap();
        let page = largest("size").await;
        let found = of(&page, "acme").is_some_and(|acme| {
            acme["usage"]["size_bytes"].as_u64() > Some(20 * MB) && acme["transactions_per_second"].as_f64() > Some(0.0)
        });
        if found { Ok(page) } else { Err(page.to_string()) }
    })
    .await;
    assert_eq!(page["items"].as_array().unwrap().len(), 1, "the limit holds");
    let busiest = until("beta has the most sessions", async || {
        let page = largest("connections").await;
        let count = of(&page, "beta").and_then(|beta| beta["usage"]["connections"].as_u64());
        if count == Some(3) { Ok(page) } else { Err(page.to_string()) }
    })
    .await;
    assert_eq!(busiest["items"][0]["usage"]["connection_limit"], 20);
    assert_eq!(
        expect(&plane.get("/v1/stats/tenants?order=transactions").await, 200)["items"].as_array().unwrap().len(),
        2
    );

    let shown = plane.get("/v1/tenants/acme").await;
    assert!(expect(&shown, 200)["usage"]["size_bytes"].as_u64() > Some(20 * MB), "{}", shown.2);
    let one = plane.get("/v1/tenants/acme/stats").await;
    assert!(expect(&one, 200)["transactions"].as_u64() > Some(0), "{}", one.2);
    let fleet = until("the fleet is summed up", async || {
        let fleet = expect(&plane.get("/v1/stats").await, 200).clone();
        let rate = fleet["servers"][0]["activity"]["transactions_per_second"].as_f64();
        let (size, tenants) = (fleet["fleet"]["size_bytes"].as_u64(), fleet["fleet"]["tenants"].as_u64());
        if rate > Some(0.0) && size > Some(40 * MB) && tenants == Some(2) { Ok(fleet) } else { Err(fleet.to_string()) }
    })
    .await;
    assert_eq!(fleet["fleet"]["servers"], 1, "{fleet}");
    let ratio = fleet["fleet"]["cache_hit_ratio"].as_f64().unwrap();
    assert!((0.0..=1.0).contains(&ratio), "{fleet}");

    // Who is bound to a tenant sees that tenant.
    let bound = key(&plane, &["read"], Some(&["beta"])).await;
    let as_bound = async |path: &str| plane.request(Method::GET, path, &[("authorization", &bound)], None).await;
    let page = as_bound("/v1/stats/tenants").await;
    assert_eq!(
        (expect(&page, 200)["items"].as_array().unwrap().len(), &page.2["items"][0]["tenant"]),
        (1, &json!("beta"))
    );
    expect(&as_bound("/v1/tenants/beta/stats").await, 200);
    for path in ["/v1/stats", "/v1/tenants/acme/stats", "/v1/drift"] {
        problem(&as_bound(path).await, 403, "denied");
    }

    let told = stdout(&exits(plane.cli(&["stats"]), 0));
    assert!(told.contains("local-1") && told.contains("healthy"), "{told}");
    let told = stdout(&exits(plane.cli(&["top", "--once", "--limit", "1"]), 0));
    assert!(told.contains("acme") && !told.contains("beta"), "{told}");
    let told = stdout(&exits(plane.cli(&["top", "--once", "--order", "connections", "--json"]), 0));
    let told: Json = serde_json::from_str(&told).unwrap();
    assert_eq!(told["tenants"]["items"][0]["tenant"], "beta", "{told}");
    let told = stdout(&exits(plane.cli(&["tenant", "show", "acme"]), 0));
    assert!(told.contains("MiB") && told.contains("of 20"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stats_tell_each_crossing_of_a_quota_once() {
    let plans = format!(
        "{QUICK}[[plan]]\nname = \"roomy\"\ndefault = true\n\
         [[plan]]\nname = \"told\"\nstorage_quota = {}\nconnection_limit = 5\n\
         [[plan]]\nname = \"strict\"\nstorage_quota = {}\non_storage_quota = \"suspend\"\n",
        20 * MB,
        20 * MB
    );
    let settings = settings(&plans);
    let plane = dev_with(&settings).stock(0).start().await;
    let told = create_as(&plane, json!({"id": "told", "plan": "told"})).await;
    let strict = create_as(&plane, json!({"id": "strict", "plan": "strict"})).await;
    create_as(&plane, json!({"id": "roomy", "plan": "roomy"})).await;
    let until_events = async |tenant: &'static str, expected: &[&str]| {
        until(&format!("{tenant}: {expected:?}"), async || {
            let found = audit(&plane, tenant).await;
            if found == expected { Ok(()) } else { Err(format!("{found:?}")) }
        })
        .await;
    };
    let level = async |tenant: &str| {
        expect(&plane.get(&format!("/v1/tenants/{tenant}")).await, 200)["usage"]["storage_level"].clone()
    };

    // 7 or 8 MB are there from the first day.
    fill(&told["connection"], 9).await;
    until_events("told", &["warn storage 80"]).await;
    assert_eq!(level("told").await, 80);
    fill(&told["connection"], 5).await;
    until_events("told", &["warn storage 80", "reach storage 100"]).await;
    assert_eq!(expect(&plane.get("/v1/tenants/told").await, 200)["state"], "active", "the plan only tells");
    let counts = expect(&plane.get("/v1/stats").await, 200)["fleet"]["quota"].clone();
    assert_eq!((&counts["storage_80"], &counts["storage_100"]), (&json!(1), &json!(1)), "{counts}");
    let metrics = plane.get("/metrics").await.2;
    let metrics = metrics.as_str().unwrap();
    assert!(metrics.contains("freehold_tenants_near_quota{resource=\"storage\",percent=\"100\"} 1"), "{metrics}");
    assert!(metrics.contains("freehold_quota_crossings_total{"), "{metrics}");

    // Sessions: four of five, then all of them; and below again.
    let mut held = Vec::new();
    while held.len() < 4 {
        held.push(log_in(&told["connection"]).await);
    }
    until_events("told", &["warn storage 80", "reach storage 100", "warn connections 80"]).await;
    held.push(log_in(&told["connection"]).await);
    let reached = ["warn storage 80", "reach storage 100", "warn connections 80", "reach connections 100"];
    until_events("told", &reached).await;
    drop(held);
    let below = [&reached[..], &["relieve connections 0"]].concat();
    until_events("told", &below).await;

    // The other plan suspends, with the reason; a person resumes, and that holds.
    fill(&strict["connection"], 14).await;
    until("it is suspended", async || {
        let tenant = expect(&plane.get("/v1/tenants/strict").await, 200).clone();
        if tenant["state"] == "suspended" { Ok(()) } else { Err(tenant.to_string()) }
    })
    .await;
    let tenant = expect(&plane.get("/v1/tenants/strict").await, 200).clone();
    assert!(
        tenant["state_reason"].as_str().is_some_and(|reason| reason.contains("storage quota of plan strict")),
        "{tenant}"
    );
    assert!(as_tenant(&strict["connection"]).await.is_err());
    expect(&plane.post("/v1/tenants/strict/resume", json!({})).await, 200);
    let session = log_in(&strict["connection"]).await;
    let crossed = audit(&plane, "strict").await;
    assert_eq!(crossed.last().map(String::as_str), Some("reach storage 100"), "{crossed:?}");
    // Rounds pass, and nobody suspends it again before it was below.
    for _ in 0..4 {
        session.batch_execute("SELECT count(*) FROM filler").await.unwrap();
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    }
    assert_eq!(expect(&plane.get("/v1/tenants/strict").await, 200)["state"], "active");
    session.batch_execute("DROP TABLE filler").await.unwrap();
    until("it is below again", async || {
        let now = audit(&plane, "strict").await;
        if now.last().is_some_and(|event| event == "relieve storage 0") { Ok(()) } else { Err(format!("{now:?}")) }
    })
    .await;
    assert_eq!(level("strict").await, Json::Null);
    drop(session);
    fill(&strict["connection"], 14).await;
    until("it is suspended once more", async || {
        let tenant = expect(&plane.get("/v1/tenants/strict").await, 200).clone();
        if tenant["state"] == "suspended" { Ok(()) } else { Err(tenant.to_string()) }
    })
    .await;
    assert_eq!(audit(&plane, "roomy").await, Vec::<String>::new());
}
