//! Instances: one tenant each, whoever asks and however often.

use futures::future::join_all;
use serde_json::json;

use super::{BASE, CUSTOMER, EDGE, PLANS, allocate, allocated, deallocate, edge, instance, one_pool, wanted, works};
use crate::common::{dev_with, expect, problem, until, walk};
use crate::server_pool::{Place, pool};

/// Bug 5: a repeated allocate returned a password that did not work, and counted twice.
#[tokio::test]
async fn story_saasodoo_twenty_allocates_of_one_instance_are_one() {
    let settings = edge("");
    let plane = dev_with(&settings).stock(0).start().await;
    let id = instance(0xdead_beef);
    let answers = join_all((0..20).map(|_| allocate(&plane, wanted(&id)))).await;
    for answer in &answers {
        expect(answer, 200);
    }
    let one = allocated(&plane, &id).await;
    for answer in answers.iter().filter(|answer| answer.2["status"] == "allocated") {
        assert_eq!(answer.2, one);
    }
    // The same UUID, written in another way.
    assert_eq!(allocated(&plane, &id.to_uppercase()).await, one);
    works(&plane, &one).await;
    assert_eq!(walk(&plane, "/v1/tenants", 10).await.len(), 1);
    assert_eq!(one_pool(&plane, "local-1").await["current_instances"], 1);
    // Each answer after the first is a read on record.
    assert!(!walk(&plane, "/v1/audit?action=credential.read", 100).await.is_empty());
    // A login that is refused is not handed out as one that works.
    expect(&plane.post(&format!("/v1/tenants/{id}/suspend"), json!({"reason": "unpaid"})).await, 200);
    let refused = allocate(&plane, wanted(&id)).await;
    assert!(problem(&refused, 409, "wrong_state")["detail"].as_str().unwrap().contains("unpaid"));
}

/// Bugs 3 and 9: no lock on the last slot, `full` was never set, and nothing was given back.
#[tokio::test]
async fn story_saasodoo_gives_the_last_slots_once_and_takes_them_back() {
    let place = Place::new();
    let more = pool("odoo", "capacity = 2\nminimum_spare = 0\nmaximum_servers = 1");
    let file = place.settings(&format!("[tenants]\ndeletion_grace_seconds = 0\n{more}{PLANS}{EDGE}"));
    let plane = dev_with(&file).start().await;
    expect(&plane.post("/v1/servers/local-1/cordon", json!({})).await, 200);
    join_all((0..8).map(|n| allocate(&plane, wanted(&instance(n))))).await;
    until("nobody waits", async || {
        let tenants = walk(&plane, "/v1/tenants?state=creating", 50).await;
        if tenants.is_empty() { Ok(()) } else { Err(format!("{tenants:?}")) }
    })
    .await;
    let active = walk(&plane, "/v1/tenants?state=active", 50).await;
    assert_eq!(active.len(), 2, "as many as there are slots");
    let pool = one_pool(&plane, "odoo-1").await;
    assert_eq!((&pool["status"], &pool["current_instances"]), (&json!("full"), &json!(2)), "{pool}");
    let refused = allocate(&plane, wanted(&instance(99))).await;
    assert!(problem(&refused, 503, "no_room")["detail"].as_str().unwrap().contains("server pool odoo"));

    let gone = active[0]["id"].as_str().unwrap();
    assert_eq!(*expect(&deallocate(&plane, gone).await, 200), json!({"status": "deallocated"}));
    until("the slot is free", async || {
        let pool = one_pool(&plane, "odoo-1").await;
        if pool["status"] == "active" && pool["current_instances"] == 1 { Ok(()) } else { Err(pool.to_string()) }
    })
    .await;
    until("the slot is given", async || {
        let answer = allocate(&plane, wanted(&instance(99))).await;
        if answer.2["status"] == "allocated" { Ok(()) } else { Err(answer.2.to_string()) }
    })
    .await;
    assert_eq!(one_pool(&plane, "odoo-1").await["status"], "full");
    // Gone with its data: now it is unknown.
    problem(&deallocate(&plane, gone).await, 404, "not_found");
}

/// Deallocated before it was there: nothing is kept of it, and it may be allocated anew.
#[tokio::test]
async fn story_saasodoo_forgets_what_was_never_made() {
    let place = Place::new();
    let more = pool("own", "kind = \"dedicated\"\nmaximum_servers = 1");
    let file = place.settings(&format!("{more}{PLANS}{EDGE}"));
    let faults = "server.provision/Secrets/before=sleep:4000*1";
    let plane = dev_with(&file).env("FREEHOLD_FAULTS", faults).start().await;
    let id = instance(1);
    let body = json!({"instance_id": id, "customer_id": CUSTOMER, "plan_tier": "premium"});
    let path = format!("/v1/tenants/{id}");
    let gone = async {
        until("it waits for its server", async || {
            let tenant = plane.get(&path).await.2;
            if tenant["state"] == "creating" { Ok(()) } else { Err(tenant.to_string()) }
        })
        .await;
        deallocate(&plane, &id).await
    };
    let (waited, gone) = tokio::join!(allocate(&plane, body.clone()), gone);
    assert!(waited.2["status"] != "allocated", "{}", waited.2);
    assert_eq!(*expect(&gone, 200), json!({"status": "deallocated"}));
    expect(&plane.get(&path).await, 404);
    problem(&deallocate(&plane, &id).await, 404, "not_found");
    let anew = until("it is allocated anew", async || {
        let answer = allocate(&plane, body.clone()).await;
        if answer.2["status"] == "allocated" { Ok(answer.2) } else { Err(answer.2.to_string()) }
    })
    .await;
    works(&plane, &anew).await;
}

/// Bug 6: what had failed said `provisioning` for ever.
#[tokio::test]
async fn story_saasodoo_tells_what_failed_and_begins_again() {
    let settings = edge("");
    let faults = "tenant.create/Create/before=sleep:20000*1,tenant.create/Own/before=permanent*1";
    let plane = dev_with(&settings).stock(0).env("FREEHOLD_FAULTS", faults).start().await;
    let id = instance(1);
    let first = allocate(&plane, wanted(&id)).await;
    assert_eq!(expect(&first, 200)["status"], "provisioning");
    until("it failed", async || {
        let tenant = plane.get(&format!("/v1/tenants/{id}")).await.2;
        if tenant["state"] == "failed" { Ok(()) } else { Err(tenant.to_string()) }
    })
    .await;
    // Told once, with the reason; then it is tried again.
    let told = allocate(&plane, wanted(&id)).await;
    assert!((400..600).contains(&told.0), "{}", told.2);
    assert!(told.2["detail"].as_str().unwrap().contains("fault point tenant.create/Own"), "{}", told.2);
    let one = allocated(&plane, &id).await;
    works(&plane, &one).await;
}

/// Bug 12: names were pasted into SQL, and admin passwords were shown.
#[tokio::test]
async fn story_saasodoo_takes_no_name_for_sql() {
    let settings = edge("");
    let plane = dev_with(&settings).stock(0).start().await;
    for hostile in
        ["x\"; DROP DATABASE postgres; --", "a\0b", "Ärzte", "../../x", "🦆", "\u{202e}abc", "'", &"a".repeat(300)]
    {
        for field in ["instance_id", "customer_id"] {
            let mut body = wanted(&instance(7));
            body[field] = json!(hostile);
            let answer = allocate(&plane, body).await;
            assert_ne!(answer.0, 500, "{field} {hostile:?}: {}", answer.2);
            if answer.2["status"] == "allocated" {
                let name = answer.2["db_name"].as_str().unwrap();
                assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'), "{name}");
                works(&plane, &answer.2).await;
            }
            for tenant in walk(&plane, "/v1/tenants", 10).await {
                let id = tenant["id"].as_str().unwrap();
                expect(&plane.delete(&format!("/v1/tenants/{id}?confirm={id}&purge=true")).await, 200);
            }
        }
    }
    // Two whose names come out the same do not share a database.
    let one = allocated(&plane, "shop-1").await;
    for same in ["shop.1", "SHOP_1", "shop1"] {
        problem(&allocate(&plane, wanted(same)).await, 409, "name_taken");
    }
    works(&plane, &one).await;
    for path in ["pools", "pools/local-1", "stats"] {
        let seen = plane.get(&format!("{BASE}/admin/{path}")).await;
        assert!(!expect(&seen, 200).to_string().contains("password"), "{}", seen.2);
    }
}
