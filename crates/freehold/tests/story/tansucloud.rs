//! Issue 2, item 9: TansuCloud's provisioning contract, to the letter.

use std::collections::HashSet;

use freehold_testkit::{Answer, Plane};
use reqwest::Method;
use serde_json::{Value as Json, json};

use crate::common::{dev, dev_with, expect, key, log_in, settings, store, text, until, walk};

const PATH: &str = "/db/api/provisioning/tenants";

async fn provision(plane: &Plane, key: &str, body: Json) -> Answer {
    let headers = [("authorization", ""), ("x-provision-key", key)];
    plane.request(Method::POST, PATH, &headers, Some(body)).await
}

fn bare(bearer: String) -> String {
    bearer.strip_prefix("Bearer ").unwrap().to_owned()
}

#[tokio::test]
async fn story_tansucloud_provisions_as_it_always_did() {
    let settings = settings("[[edge]]\nkind = \"tansucloud\"\n");
    let plane = dev_with(&settings).stock(1).start().await;
    let good = bare(key(&plane, &["provision"], None).await);

    let answer =
        provision(&plane, &good, json!({"tenantId": "acme.x", "displayName": "Acme 'X' 🦆", "region": null})).await;
    let expected =
        json!({"tenantId": "acme.x", "database": "tansu_tenant_acme_x", "created": true, "message": "Created"});
    assert_eq!(*expect(&answer, 200), expected);
    let answer = provision(&plane, &good, json!({"tenantId": "acme.x"})).await;
    let expected = json!({"tenantId": "acme.x", "database": "tansu_tenant_acme_x", "created": false, "message": "Already existed"});
    assert_eq!(*expect(&answer, 200), expected);
    // The name differs this time: the original does not mind.
    let again = provision(&plane, &good, json!({"tenantId": "acme.x", "displayName": "Renamed"})).await;
    assert_eq!(expect(&again, 200)["created"], false);

    let tenants = walk(&plane, "/v1/tenants", 10).await;
    assert_eq!((&tenants[0]["id"], &tenants[0]["name"]), (&json!("acme-x"), &json!("Acme 'X' 🦆")));
    let connection = plane.get("/v1/tenants/acme-x/connection").await.2;
    let session = log_in(&connection).await;
    let info = "SELECT tenant_id || '|' || display_name FROM tenant_info";
    assert_eq!(text(&session, info).await, "acme.x|Acme 'X' 🦆");
    let version = "SELECT database_name || '|' || version FROM \"__SchemaVersion\" ORDER BY applied_at DESC LIMIT 1";
    assert_eq!(text(&session, version).await, "tansu_tenant_acme_x|1.0.0");
    session
        .batch_execute(
            "INSERT INTO collections (name) VALUES ('c'); SELECT FROM documents, outbox_events, vector_embeddings",
        )
        .await
        .unwrap();

    // Ids that become the same name are refused: nobody reads another's data.
    for collides in ["acme_x", "acme-x", "Acme.X", "acme x"] {
        let answer = provision(&plane, &good, json!({"tenantId": collides})).await;
        assert_eq!((answer.0, &answer.2["code"]), (409, &json!("name_taken")), "{collides}: {}", answer.2);
    }
    // Also when they come at once.
    let all = ["a-b", "a.b", "a_b", "a b", "A-B", "a~b"];
    let answers = futures::future::join_all(all.map(|id| provision(&plane, &good, json!({"tenantId": id})))).await;
    let made: Vec<&Answer> = answers.iter().filter(|answer| answer.0 == 200).collect();
    assert_eq!(made.len(), 1, "{:?}", answers.iter().map(|answer| answer.2.to_string()).collect::<Vec<_>>());
    assert!(answers.iter().filter(|answer| answer.0 != 200).all(|answer| answer.0 == 409));
    // Nor may a tenant of the API's be taken over, by whichever id.
    expect(&plane.post("/v1/tenants", json!({"id": "native-1"})).await, 201);
    for id in ["native.1", "native-1"] {
        let answer = provision(&plane, &good, json!({"tenantId": id})).await;
        assert_eq!((answer.0, &answer.2["code"]), (409, &json!("name_taken")), "{id}: {}", answer.2);
    }

    // Twenty at once are one.
    let answers =
        futures::future::join_all((0..20).map(|_| provision(&plane, &good, json!({"tenantId": "many.calls"})))).await;
    assert!(answers.iter().all(|answer| answer.0 == 200), "{:?}", answers.iter().map(|a| a.0).collect::<Vec<_>>());
    assert_eq!(answers.iter().filter(|answer| answer.2["created"] == true).count(), 1);
    let databases: HashSet<String> = answers.iter().map(|answer| answer.2["database"].to_string()).collect();
    assert_eq!(databases.len(), 1);
    assert_eq!(plane.get("/v1/tenants/many-calls").await.2["state"], "active");

    // A tenant that went through delete and purge may come again.
    expect(&plane.delete("/v1/tenants/acme-x?confirm=acme-x").await, 200);
    let answer = provision(&plane, &good, json!({"tenantId": "acme.x"})).await;
    assert_eq!((answer.0, &answer.2["code"]), (409, &json!("tenant_deleted")));
    expect(&plane.delete("/v1/tenants/acme-x?confirm=acme-x&purge=true").await, 200);
    let answer = provision(&plane, &good, json!({"tenantId": "acme_x"})).await;
    assert_eq!((answer.0, &answer.2["created"]), (200, &json!(true)), "{}", answer.2);
    assert_eq!(answer.1["content-type"], "application/json");
}

/// Nobody is told that a database is there before its names and what claim.sql writes are.
#[tokio::test]
async fn story_tansucloud_answers_when_it_is_there_and_takes_a_region_as_the_api_does() {
    let settings = settings("[[edge]]\nkind = \"tansucloud\"\n");
    let faults = "tenant.create/Claim/before=sleep:3000*1";
    let plane = dev_with(&settings).stock(1).env("FREEHOLD_FAULTS", faults).start().await;
    let good = bare(key(&plane, &["provision"], None).await);
    let first = provision(&plane, &good, json!({"tenantId": "acme.x", "displayName": "One"}));
    let second = async {
        until("it is being made", async || {
            let tenant = plane.get("/v1/tenants/acme-x").await.2;
            if tenant["state"] == "creating" { Ok(()) } else { Err(tenant.to_string()) }
        })
        .await;
        let answer =
            provision(&plane, &good, json!({"tenantId": "acme.x", "displayName": "Two", "region": "mars"})).await;
        let connection = plane.get("/v1/tenants/acme-x/connection").await.2;
        let session = log_in(&connection).await;
        (answer, text(&session, "SELECT display_name FROM tenant_info").await)
    };
    let (first, (second, written)) = tokio::join!(first, second);
    assert_eq!(expect(&first, 200)["created"], true);
    assert_eq!(
        (expect(&second, 200), written.as_str()),
        (
            &json!({"tenantId": "acme.x", "database": "tansu_tenant_acme_x",
        "created": false, "message": "Already existed"}),
            "One"
        )
    );

    // A new tenant goes to a server of the region that it asks for, or nowhere.
    let body = json!({"tenantId": "beta", "region": "eu"});
    let answer = provision(&plane, &good, body.clone()).await;
    assert_eq!((answer.0, &answer.2["code"]), (422, &json!("invalid")), "{}", answer.2);
    assert!(answer.2["errors"][0]["message"].as_str().unwrap().contains("no server is in region"), "{}", answer.2);
    assert_eq!(plane.get("/v1/tenants/beta").await.0, 404);
    store(&plane).await.batch_execute("UPDATE server SET region = 'eu'").await.unwrap();
    // What was written past the plane is seen with the next snapshot of its servers.
    let made = until("beta is in its region", async || {
        let answer = provision(&plane, &good, body.clone()).await;
        if answer.0 == 200 { Ok(answer.2) } else { Err(answer.2.to_string()) }
    })
    .await;
    assert_eq!(made["created"], true);
    assert_eq!(plane.get("/v1/tenants/beta").await.2["region"], "eu");
}

#[tokio::test]
async fn story_tansucloud_refuses_as_it_always_did() {
    let settings = settings("[[edge]]\nkind = \"tansucloud\"\n");
    let plane = dev_with(&settings).stock(1).start().await;
    let good = bare(key(&plane, &["provision"], None).await);
    for body in [
        json!({}),
        json!({"tenantId": ""}),
        json!({"tenantId": "  "}),
        json!({"tenantId": null}),
        json!({"displayName": "x"}),
    ] {
        let answer = provision(&plane, &good, body.clone()).await;
        assert_eq!((answer.0, &answer.2["title"]), (400, &json!("tenantId is required")), "{body}: {}", answer.2);
        assert_eq!(answer.1["content-type"], "application/problem+json");
        assert_eq!(answer.2["status"], 400);
    }
    for id in [
        "Ärzte",
        "a\0b",
        "..",
        "../../etc/passwd",
        "'; DROP DATABASE x; --",
        "🦆",
        "\u{202e}abc",
        &"a".repeat(49),
        &"a".repeat(300),
        "-a",
    ] {
        let answer = provision(&plane, &good, json!({"tenantId": id})).await;
        assert!((400..500).contains(&answer.0), "{id:?}: {} {}", answer.0, answer.2);
        assert_eq!(answer.1["content-type"], "application/problem+json");
    }
    for name in ["\0", &"n".repeat(600)] {
        let answer = provision(&plane, &good, json!({"tenantId": "named", "displayName": name})).await;
        assert!((400..500).contains(&answer.0), "{}", answer.2);
    }
    // Nothing of the refused is left to stand in somebody's way.
    let answer = provision(&plane, &good, json!({"tenantId": "Named"})).await;
    assert_eq!((answer.0, &answer.2["created"]), (200, &json!(true)), "{}", answer.2);

    let body = json!({"tenantId": "acme"});
    let none = plane.request(Method::POST, PATH, &[("authorization", "")], Some(body.clone())).await;
    expect(&none, 401);
    assert!(!none.1["www-authenticate"].to_str().unwrap().contains("invalid_token"));
    expect(&provision(&plane, "fh_wrong", body.clone()).await, 401);
    let bad = plane.request(Method::POST, PATH, &[("authorization", "Bearer fh_wrong")], Some(body.clone())).await;
    expect(&bad, 401);
    assert_eq!(bad.1["www-authenticate"], "Bearer error=\"invalid_token\"");
    let read = bare(key(&plane, &["read", "credentials", "operate"], None).await);
    expect(&provision(&plane, &read, body.clone()).await, 403);
    let bound = bare(key(&plane, &["provision"], Some(&["other"])).await);
    expect(&provision(&plane, &bound, body.clone()).await, 403);
    assert_eq!(plane.get("/v1/tenants/acme").await.0, 404);
    assert_eq!(walk(&plane, "/v1/audit?outcome=denied&action=edge.tansucloud.provision", 10).await.len(), 1);
    // A good bearer token will do as well.
    let bearer = format!("Bearer {good}");
    let made = plane.request(Method::POST, PATH, &[("authorization", &bearer)], Some(body)).await;
    assert_eq!(expect(&made, 200)["created"], true);
    expect(&plane.get(PATH).await, 405);
}

#[tokio::test]
async fn story_an_edge_is_off_unless_declared_and_may_have_its_own_place() {
    let plane = dev().stock(0).start().await;
    assert_eq!(plane.post(PATH, json!({"tenantId": "a"})).await.0, 404);
    drop(plane);
    let port = freehold_testkit::Port::reserve();
    let settings = settings(&format!(
        "[[edge]]\nkind = \"tansucloud\"\nlisten = \"127.0.0.1:{}\"\nprefix = \"/tansu\"\n",
        port.number
    ));
    let plane = dev_with(&settings).stock(0).start().await;
    assert_eq!(plane.post(PATH, json!({"tenantId": "a"})).await.0, 404);
    let url = format!("http://127.0.0.1:{}", port.number);
    let http = freehold_testkit::http_client();
    let request = http.post(format!("{url}/tansu{PATH}")).header("x-provision-key", plane.api_key());
    let answer: Json = request.json(&json!({"tenantId": "a"})).send().await.unwrap().json().await.unwrap();
    assert_eq!(answer["created"], true);
    // Its listener serves nothing else.
    let other = http.get(format!("{url}/v1/tenants")).bearer_auth(plane.api_key()).send().await.unwrap();
    assert_eq!(other.status(), 404);
}
