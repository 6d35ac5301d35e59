//! Each route, with its shapes and refusals; and who may use it.

use std::collections::BTreeSet;

use freehold_testkit::Plane;
use reqwest::Method;
use serde_json::{Value as Json, json};

use super::{BASE, CUSTOMER, allocate, allocated, deallocate, edge, fields, instance, wanted, works};
use crate::common::{dev, dev_with, expect, key, problem, walk};

#[tokio::test]
async fn story_saasodoo_answers_each_route_as_its_contract_says() {
    let settings = edge("");
    let plane = dev_with(&settings).stock(1).start().await;

    let one = allocated(&plane, &instance(1)).await;
    let all = ["status", "db_server_id", "db_host", "db_port", "db_name", "db_user", "db_password"];
    assert_eq!(fields(&one), BTreeSet::from(all));
    assert_eq!(one["db_name"], "odoo_0198f2a011117abc_00000001");
    assert_eq!(one["db_user"], "odoo_0198f2a011117abc_00000001_user");
    assert_eq!(one["db_server_id"], "local-1");
    let password = one["db_password"].as_str().unwrap();
    assert!(password.len() == 32 && password.bytes().all(|b| b.is_ascii_alphanumeric()));
    works(&plane, &one).await;
    let tenant = plane.get(&format!("/v1/tenants/{}", instance(1))).await.2;
    let labels = json!({"customer": CUSTOMER, "instance": instance(1), "plan_tier": "basic"});
    assert_eq!((&tenant["labels"], &tenant["plan"]), (&labels, &json!("basic")));

    // What cannot be: by body, status and code.
    let with = |field: &str, value: Json| {
        let mut body = wanted(&instance(9));
        body[field] = value;
        body
    };
    for (path, body, status, code) in [
        ("/allocate", json!({}), 422, "invalid"),
        ("/allocate", with("instance_id", json!("")), 422, "invalid"),
        ("/allocate", with("instance_id", json!(7)), 422, "invalid"),
        ("/allocate", with("customer_id", json!(" ")), 422, "invalid"),
        ("/allocate", with("customer_id", json!("☃")), 422, "invalid"),
        ("/allocate", with("plan_tier", json!("galactic")), 422, "unknown_plan"),
        ("/allocate", with("plan_tier", json!("'; DROP")), 422, "invalid"),
        ("/allocate", with("require_dedicated", json!(true)), 400, "bad_request"),
        ("/provision-dedicated", with("plan_tier", json!("basic")), 400, "bad_request"),
        ("/provision-dedicated", with("plan_tier", json!("enterprise")), 400, "bad_request"),
        ("/provision-dedicated", with("plan_tier", json!("premium")), 400, "bad_request"),
        ("/admin/provision-pool", json!({}), 422, "prerequisite"),
        ("/admin/provision-pool", json!({"server_type": "platform"}), 400, "bad_request"),
        ("/admin/pools/none/health-check", json!({}), 404, "not_found"),
    ] {
        let answer = plane.post(&format!("{BASE}{path}"), body.clone()).await;
        assert_eq!((answer.0, answer.2["code"].as_str()), (status, Some(code)), "{path} {body}: {}", answer.2);
        problem(&answer, status, code);
    }
    let says = plane.post(&format!("{BASE}/admin/provision-pool"), json!({})).await.2;
    assert!(says["detail"].as_str().unwrap().contains("[[server_pool]]"), "{says}");
    problem(&plane.get(&format!("{BASE}/admin/pools?status=odd")).await, 422, "invalid");
    problem(&plane.get(&format!("{BASE}/admin/pools/none")).await, 404, "not_found");

    // Another customer, or another plan, is no reason to hand anything out.
    let mut other = wanted(&instance(1));
    other["customer_id"] = json!("someone-else");
    let refused = allocate(&plane, other).await;
    assert!(!problem(&refused, 409, "tenant_exists").to_string().contains(CUSTOMER));
    let mut other = wanted(&instance(1));
    other["plan_tier"] = json!("enterprise");
    problem(&allocate(&plane, other).await, 409, "tenant_exists");
    // A tenant of the API's is nobody's instance.
    expect(&plane.post("/v1/tenants", json!({"id": "native"})).await, 201);
    problem(&allocate(&plane, wanted("native")).await, 409, "name_taken");

    let listed = plane.get(&format!("{BASE}/admin/pools")).await;
    let listed = expect(&listed, 200);
    assert_eq!((listed["total_count"].as_u64(), listed["pools"].as_array().unwrap().len()), (Some(1), 1));
    let pool = &listed["pools"][0];
    let all = "id name server_type status health_status current_instances max_instances capacity_percentage host port \
               postgres_version cpu_limit memory_limit created_at last_health_check";
    assert_eq!(fields(pool), all.split_whitespace().collect());
    for (field, value) in [("id", json!("local-1")), ("server_type", json!("shared")), ("status", json!("active"))] {
        assert_eq!(pool[field], value);
    }
    assert_eq!(pool["current_instances"], 2);
    let share = 200.0 / pool["max_instances"].as_f64().unwrap();
    assert!((pool["capacity_percentage"].as_f64().unwrap() - share).abs() < 0.01, "{pool}");
    for (filter, count) in [
        ("status=active", 1),
        ("status=error", 0),
        ("server_type=shared", 1),
        ("status=active&server_type=dedicated", 0),
    ] {
        let found = plane.get(&format!("{BASE}/admin/pools?{filter}")).await;
        assert_eq!(expect(&found, 200)["total_count"], count, "{filter}");
    }
    let shown = plane.get(&format!("{BASE}/admin/pools/local-1")).await;
    let all =
        "pool swarm_service_id swarm_service_name storage_path allocated_storage_gb provisioned_at last_allocated_at";
    assert_eq!(fields(expect(&shown, 200)), all.split_whitespace().collect());
    assert!(shown.2["last_allocated_at"].is_string(), "{}", shown.2);
    let stats = plane.get(&format!("{BASE}/admin/stats")).await;
    let stats = expect(&stats, 200);
    let all = "total_pools active_pools total_capacity total_used overall_utilization by_status by_type";
    assert_eq!(fields(stats), all.split_whitespace().collect());
    assert_eq!((&stats["total_used"], &stats["by_status"]), (&json!(2), &json!({"active": 1})));
    assert_eq!(stats["by_type"], json!({"shared": 1}));
    let health = dev_health(&plane).await;
    assert_eq!(health["status"], "healthy");

    for _ in 0..2 {
        let answer = deallocate(&plane, &instance(1)).await;
        assert_eq!(*expect(&answer, 200), json!({"status": "deallocated"}));
    }
    problem(&allocate(&plane, wanted(&instance(1))).await, 409, "tenant_deleted");
    for unknown in [&instance(2), "native", "%00", "-", "a%2Fb"] {
        let answer = deallocate(&plane, unknown).await;
        assert!([404, 422].contains(&answer.0), "{unknown}: {}", answer.2);
    }
    assert_eq!(plane.get("/v1/tenants/native").await.2["state"], "active");
}

/// Without a key.
async fn dev_health(plane: &Plane) -> Json {
    let answer = plane.request(Method::GET, &format!("{BASE}/health"), &[("authorization", "")], None).await;
    expect(&answer, 200).clone()
}

#[tokio::test]
async fn story_saasodoo_lets_nobody_in_without_a_key() {
    let settings = edge("");
    let plane = dev_with(&settings).stock(0).start().await;
    let provision = key(&plane, &["provision"], None).await;
    let operate = key(&plane, &["operate"], None).await;
    let read = key(&plane, &["read"], None).await;
    let bound = key(&plane, &["provision"], Some(&["other"])).await;
    let body = wanted(&instance(1));
    let routes = [
        (Method::POST, "/allocate", vec![&operate, &read, &bound]),
        (Method::POST, "/provision-dedicated", vec![&operate, &read]),
        (Method::POST, "/upgrade", vec![&operate, &read]),
        (Method::DELETE, "/allocate/x", vec![&operate, &read]),
        (Method::GET, "/admin/pools", vec![&provision, &bound]),
        (Method::GET, "/admin/pools/local-1", vec![&provision]),
        (Method::GET, "/admin/stats", vec![&provision]),
        (Method::POST, "/admin/pools/local-1/health-check", vec![&provision, &read]),
        (Method::POST, "/admin/provision-pool", vec![&provision, &read]),
    ];
    for (method, path, denied) in routes {
        let path = format!("{BASE}{path}");
        let ask = async |key: &str| {
            let body = (method == Method::POST).then(|| body.clone());
            plane.request(method.clone(), &path, &[("authorization", key)], body).await
        };
        for nobody in ["", "Bearer fh_wrong"] {
            problem(&ask(nobody).await, 401, "unauthenticated");
        }
        for key in denied {
            problem(&ask(key).await, 403, "denied");
        }
    }
    for path in ["/admin/pools", "/admin/pools/local-1", "/admin/stats"] {
        let seen = plane.request(Method::GET, &format!("{BASE}{path}"), &[("authorization", &read)], None).await;
        expect(&seen, 200);
    }
    assert!(walk(&plane, "/v1/tenants", 10).await.is_empty());
    // Off unless declared.
    drop(plane);
    let plane = dev().stock(0).start().await;
    assert_eq!(allocate(&plane, body).await.0, 404);
}
