//! Servers: that come once, are dedicated, and are looked at.

use std::collections::{BTreeSet, HashSet};

use freehold_testkit::{ADMIN, ADMIN_PASSWORD, Cluster};
use futures::future::join_all;
use reqwest::Method;
use serde_json::json;

use super::{BASE, EDGE, PLANS, allocate, allocated, deallocate, edge, fields, instance, one_pool, wanted, works};
use crate::common::{dev_with, expect, log_in, problem, text, until, walk};
use crate::server_pool::{Place, pool};

/// Bugs 1, 2 and 4: pool settings were not read; max_connections stayed at 100; each poll enqueued another pool.
#[tokio::test]
async fn story_saasodoo_however_many_poll_one_server_comes() {
    let place = Place::new();
    let more = pool("odoo", "minimum_spare = 0");
    let file = place.settings(&format!("[tenants]\ndeletion_grace_seconds = 0\n{more}{PLANS}{EDGE}"));
    let plane = dev_with(&file)
        .env("DB_POOL_MAX_INSTANCES", "30")
        .env("DB_POOL_CPU_LIMIT", "2")
        .env("FREEHOLD_FAULTS", "server.provision/Secrets/before=sleep:20000*1")
        .start()
        .await;
    expect(&plane.post("/v1/servers/local-1/cordon", json!({})).await, 200);
    let polls = join_all((0..42).map(|n| allocate(&plane, wanted(&instance(n % 21))))).await;
    for answer in &polls {
        let body = expect(answer, 200);
        assert_eq!((&body["status"], &body["retry_after"]), (&json!("provisioning"), &json!(30)), "{body}");
        assert!(body["message"].as_str().unwrap().contains("server pool odoo"), "{body}");
        assert_eq!(fields(body), BTreeSet::from(["status", "message", "retry_after"]));
    }
    // By hand it is the same one.
    let more = plane.post(&format!("{BASE}/admin/provision-pool"), json!({"max_instances": 30})).await;
    let more = expect(&more, 200);
    assert_eq!(
        (fields(more), &more["max_instances"]),
        (BTreeSet::from(["task_id", "message", "max_instances"]), &json!(30))
    );
    let task = plane.get(&format!("/v1/operations/{}", more["task_id"].as_str().unwrap())).await;
    assert_eq!(expect(&task, 200)["subject"], "server:odoo-1");
    let odd = plane.post(&format!("{BASE}/admin/provision-pool"), json!({"max_instances": 7})).await;
    assert!(problem(&odd, 422, "invalid")["errors"].to_string().contains("odoo: 30"), "{}", odd.2);
    assert_eq!(one_pool(&plane, "odoo-1").await["status"], "provisioning");
    // Who waits may be let go.
    assert_eq!(*expect(&deallocate(&plane, &instance(20)).await, 200), json!({"status": "deallocated"}));

    let mut names = HashSet::new();
    for n in 0..20 {
        let one = allocated(&plane, &instance(n)).await;
        assert_eq!(one["db_server_id"], "odoo-1");
        names.insert(one["db_name"].to_string());
        if n == 0 {
            works(&plane, &one).await;
        }
    }
    assert_eq!(names.len(), 20);
    assert_eq!(walk(&plane, "/v1/audit?action=server.provision.begin", 10).await.len(), 1);
    let pool = until("the one that was let go has no slot", async || {
        let pool = one_pool(&plane, "odoo-1").await;
        if pool["current_instances"] == 20 { Ok(pool) } else { Err(pool.to_string()) }
    })
    .await;
    for (field, value) in [
        ("status", json!("active")),
        ("max_instances", json!(30)),
        ("capacity_percentage", json!(66.67)),
        ("cpu_limit", json!("2")),
        ("memory_limit", json!("256M")),
    ] {
        assert_eq!(pool[field], value, "{pool}");
    }
    // 20 for each, and 10: unless the memory does not bear it.
    let connection = plane.get(&format!("/v1/tenants/{}/connection", instance(0))).await.2;
    let most: i32 = text(&log_in(&connection).await, "SHOW max_connections").await.parse().unwrap();
    assert!(most != 100 && most >= 30, "{most}");
}

/// Bug 6, of a server that cannot be made.
#[tokio::test]
async fn story_saasodoo_tells_that_a_server_cannot_be_made() {
    let place = Place::new();
    let more = pool("own", "kind = \"dedicated\"\nmaximum_servers = 1");
    let file = place.settings(&format!("{more}{PLANS}{EDGE}"));
    let plane = dev_with(&file).env("FREEHOLD_FAULTS", "server.provision/Secrets/before=permanent*9").start().await;
    let mut body = wanted(&instance(1));
    body["plan_tier"] = json!("premium");
    let told = until("the reason", async || {
        let answer = plane.post(&format!("{BASE}/provision-dedicated"), body.clone()).await;
        match answer.2["status"].as_str() {
            Some("provisioning") => Err(answer.2.to_string()),
            _ => Ok(answer),
        }
    })
    .await;
    let why = problem(&told, 503, "no_room")["detail"].as_str().unwrap();
    assert!(why.contains("could not start a server") && why.contains("fault point"), "{why}");
}

#[tokio::test]
async fn story_saasodoo_has_dedicated_servers_or_says_why_not() {
    let place = Place::new();
    let more = pool("own", "kind = \"dedicated\"\nmaximum_servers = 1");
    let file = place.settings(&format!("{more}{PLANS}{EDGE}"));
    let plane = dev_with(&file).start().await;
    let path = format!("{BASE}/provision-dedicated");
    let mut body = wanted(&instance(1));
    body["plan_tier"] = json!("premium");
    let made = until("provisioned", async || {
        let answer = plane.post(&path, body.clone()).await;
        match expect(&answer, 200)["status"].as_str() {
            Some("provisioned") => Ok(answer.2),
            _ => Err(answer.2.to_string()),
        }
    })
    .await;
    assert_eq!(fields(&made), BTreeSet::from(["status", "db_server_id", "db_host", "message"]));
    assert_eq!(made["db_server_id"], "own-1");
    // Allocated there, whichever way it is asked for.
    let one = allocate(&plane, body.clone()).await;
    assert_eq!((&expect(&one, 200)["status"], &one.2["db_server_id"]), (&json!("allocated"), &json!("own-1")));
    body["require_dedicated"] = json!(true);
    assert_eq!(allocate(&plane, body.clone()).await.2, one.2);
    works(&plane, &one.2).await;
    let shown = one_pool(&plane, "own-1").await;
    assert_eq!((&shown["server_type"], &shown["status"]), (&json!("dedicated"), &json!("full")), "{shown}");
    // There is no second one, and that is what is said.
    body["instance_id"] = json!(instance(2));
    let refused = plane.post(&path, body).await;
    assert!(problem(&refused, 503, "no_room")["detail"].as_str().unwrap().contains("its 1 servers"), "{}", refused.2);
    let grown = plane.post(&format!("{BASE}/admin/provision-pool"), json!({"server_type": "dedicated"})).await;
    assert!(problem(&grown, 409, "wrong_state")["detail"].as_str().unwrap().contains("maximum_servers"), "{}", grown.2);
}

/// Bug 8: the manual health check was a stub, and what was in error was never checked again.
#[tokio::test]
async fn story_saasodoo_health_check_looks_now() {
    let mut cluster = Cluster::start(15);
    let settings = edge("");
    let plane = dev_with(&settings).stock(0).start().await;
    let dsn = format!("postgres://{ADMIN}:{ADMIN_PASSWORD}@127.0.0.1:{}/postgres?sslmode=disable", cluster.port());
    let added =
        plane.request(Method::POST, "/v1/servers", &[("prefer", "wait=30")], Some(json!({"id": "far", "dsn": dsn})));
    expect(&added.await, 201);
    let check = async || {
        let answer = plane.post(&format!("{BASE}/admin/pools/far/health-check"), json!({})).await;
        expect(&answer, 200).clone()
    };
    let seen = check().await;
    assert_eq!(fields(&seen), BTreeSet::from(["pool_id", "status", "health_status", "message", "checked_at"]));
    assert_eq!(
        (&seen["pool_id"], &seen["health_status"], &seen["status"]),
        (&json!("far"), &json!("healthy"), &json!("active"))
    );
    cluster.kill();
    let worse = check().await;
    assert_eq!(worse["health_status"], "degraded", "{worse}");
    assert!(worse["checked_at"].as_str() > seen["checked_at"].as_str(), "{worse}");
    assert_ne!(worse["message"], seen["message"]);
    let lost = until("three looks", async || {
        let seen = check().await;
        if seen["status"] == "error" { Ok(seen) } else { Err(seen.to_string()) }
    })
    .await;
    assert_eq!(lost["health_status"], "unhealthy", "{lost}");
    cluster.start_again();
    let back = check().await;
    assert_eq!((&back["health_status"], &back["status"]), (&json!("healthy"), &json!("active")), "{back}");
}
