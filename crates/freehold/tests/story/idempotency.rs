//! Issue 2, item 10: `Idempotency-Key`: the first answer is replayed, and nothing secret is kept for it.

use freehold_testkit::{Answer, Plane};
use reqwest::Method;
use serde_json::{Value as Json, json};

use crate::common::{dev, expect, key, log_in, problem, store, until, until_stock, walk};

async fn post(plane: &Plane, path: &str, once: &str, body: Json) -> Answer {
    plane.request(Method::POST, path, &[("idempotency-key", once), ("prefer", "wait=20")], Some(body)).await
}

#[tokio::test]
async fn story_a_repeated_request_gets_the_first_answer() {
    let plane = dev().stock(2).start().await;
    until_stock(&plane, "default", 2).await;

    let first = post(&plane, "/v1/tenants", "k1", json!({"id": "acme"})).await;
    let made = expect(&first, 201);
    assert!(!first.1.contains_key("idempotency-replayed"));
    let again = post(&plane, "/v1/tenants", "k1", json!({"id": "acme"})).await;
    assert_eq!(expect(&again, 201), made, "with its connection");
    assert_eq!(again.1["idempotency-replayed"], "true");
    for header in ["location", "etag"] {
        assert_eq!(again.1[header], first.1[header]);
    }
    log_in(&again.2["connection"]).await;
    problem(&post(&plane, "/v1/tenants", "k1", json!({"id": "beta"})).await, 422, "idempotency_mismatch");
    problem(&post(&plane, "/v1/tenants/acme/suspend", "k1", json!({})).await, 422, "idempotency_mismatch");
    problem(&plane.get("/v1/tenants/beta").await, 404, "not_found");

    // Keys of different callers are different keys.
    let other = key(&plane, &["provision"], None).await;
    let headers = [("idempotency-key", "k1"), ("authorization", other.as_str())];
    let body = Some(json!({"id": "beta"}));
    let beta = plane.request(Method::POST, "/v1/tenants", &headers, body.clone()).await;
    log_in(&expect(&beta, 201)["connection"]).await;
    // Who was given a connection is given it again, also without `credentials`.
    let again = plane.request(Method::POST, "/v1/tenants", &headers, body).await;
    assert_eq!(expect(&again, 201), &beta.2);

    // A refusal is not an answer to keep: what was wrong can be put right.
    problem(&post(&plane, "/v1/tenants", "k2", json!({"id": "gamma", "plan": "gold"})).await, 422, "unknown_plan");
    expect(&post(&plane, "/v1/tenants", "k2", json!({"id": "gamma"})).await, 201);

    // An API key is shown once.
    let body = json!({"name": "ci", "scopes": ["read"]});
    let made_key = post(&plane, "/v1/keys", "k3", body.clone()).await;
    assert!(expect(&made_key, 201)["key"].as_str().unwrap().starts_with("fh_"));
    let again = post(&plane, "/v1/keys", "k3", body).await;
    assert_eq!((&expect(&again, 201)["key"], &again.2["id"]), (&json!(null), &made_key.2["id"]));
    assert_eq!(walk(&plane, "/v1/keys", 50).await.iter().filter(|key| key["name"] == "ci").count(), 1);

    for bad in ["", " ", &"x".repeat(201), "é"] {
        let mut request = reqwest_post(&plane, "/v1/tenants", json!({"id": "delta"}));
        request = request.header("idempotency-key", bad.as_bytes());
        let status = request.send().await.unwrap().status();
        assert!(status.is_client_error(), "{bad:?}: {status}");
    }

    // A tenant that is purged takes the answers about it along: whoever comes now is the first.
    expect(&plane.delete("/v1/tenants/acme?confirm=acme&purge=true").await, 200);
    let second = post(&plane, "/v1/tenants", "k1", json!({"id": "acme"})).await;
    assert!(!second.1.contains_key("idempotency-replayed"));
    assert_ne!(expect(&second, 201)["connection"]["direct"]["password"], made["connection"]["direct"]["password"]);

    // Nothing secret at rest.
    let rows = store(&plane).await.query("SELECT i::text FROM idempotency i", &[]).await.unwrap();
    let kept: String = rows.iter().map(|row| row.get::<_, String>(0)).collect();
    assert!(kept.contains("beta"), "the dump shows what is kept");
    for secret in
        [&made["connection"]["direct"]["password"], &beta.2["connection"]["direct"]["password"], &made_key.2["key"]]
    {
        assert!(!kept.contains(secret.as_str().unwrap()), "a secret is kept");
    }
}

fn reqwest_post(plane: &Plane, path: &str, body: Json) -> reqwest::RequestBuilder {
    freehold_testkit::http_client().post(format!("{}{path}", plane.url())).bearer_auth(plane.api_key()).json(&body)
}

#[tokio::test]
async fn story_a_repeat_that_comes_too_early_is_told_so() {
    let plane = dev().stock(0).start().await;
    // Nothing gets done, so the first request waits as long as it wants to.
    expect(&plane.post("/v1/freezes", json!({"target": "operations"})).await, 201);
    let first = post(&plane, "/v1/tenants", "slow", json!({"id": "acme"}));
    let second = async {
        until("the first is in flight", async || match plane.get("/v1/tenants/acme").await.0 {
            200 => Ok(()),
            status => Err(status.to_string()),
        })
        .await;
        problem(&post(&plane, "/v1/tenants", "slow", json!({"id": "acme"})).await, 409, "idempotency_in_flight");
        problem(&post(&plane, "/v1/tenants", "slow", json!({"id": "else"})).await, 422, "idempotency_mismatch");
        assert_eq!(plane.delete("/v1/freezes/operations").await.0, 204);
    };
    let (first, ()) = tokio::join!(first, second);
    let made = expect(&first, 201);
    let again = post(&plane, "/v1/tenants", "slow", json!({"id": "acme"})).await;
    assert_eq!(expect(&again, 201), made);

    // Of many at once with one key, all that are answered get one answer.
    let all =
        futures::future::join_all((0..20).map(|_| post(&plane, "/v1/tenants", "many", json!({"id": "many"})))).await;
    let bodies: std::collections::HashSet<String> =
        all.iter().filter(|answer| answer.0 == 201).map(|answer| answer.2.to_string()).collect();
    assert_eq!(bodies.len(), 1);
    assert!(all.iter().all(|answer| answer.0 == 201 || answer.2["code"] == "idempotency_in_flight"));
}

/// As if the process had died after the commit and before it kept its answer.
async fn lose_the_answer(plane: &Plane, once: &str) {
    let sql =
        "UPDATE idempotency SET status = NULL, headers = NULL, body = NULL, connection_of = NULL, lease_until = now()
        WHERE key = $1";
    assert_eq!(store(plane).await.execute(sql, &[&once]).await.unwrap(), 1);
}

#[tokio::test]
async fn story_a_create_whose_answer_was_lost_is_answered_as_that_create() {
    let plane = dev().stock(1).start().await;
    until_stock(&plane, "default", 1).await;
    let mine = key(&plane, &["provision"], None).await;
    let ask = async |authorization: &str, once: &str, id: &str| {
        let headers = [("idempotency-key", once), ("authorization", authorization), ("prefer", "wait=30")];
        plane.request(Method::POST, "/v1/tenants", &headers, Some(json!({"id": id}))).await
    };

    // From stock, and without: the second has nothing to take.
    for (id, once) in [("one", "k1"), ("two", "k2")] {
        let first = ask(&mine, once, id).await;
        let made = expect(&first, 201).clone();
        lose_the_answer(&plane, once).await;
        let again = ask(&mine, once, id).await;
        assert_eq!(expect(&again, 201), &made);
        assert!(!again.1.contains_key("idempotency-replayed"), "it was asked, not replayed");
        log_in(&again.2["connection"]).await;
        // Kept now, so replayed.
        assert_eq!(ask(&mine, once, id).await.1["idempotency-replayed"], "true");

        // Another request of the same key, and the same request of another, did not create it: not when they are new
        // and not when they are repeated.
        let other = key(&plane, &["provision"], None).await;
        for (authorization, once) in [(&mine, format!("{once}-else")), (&other, format!("{once}-other"))] {
            for _ in 0..2 {
                let found = ask(authorization, &once, id).await;
                assert!(expect(&found, 200).get("connection").is_none(), "{}", found.2);
                lose_the_answer(&plane, &once).await;
            }
        }
        let found = ask(&other, once, id).await;
        assert!(expect(&found, 200).get("connection").is_none(), "a key's name is its own");
    }
    let read = plane.get("/v1/audit?action=credential.read&subject=tenant:one").await;
    assert_eq!(expect(&read, 200)["items"].as_array().unwrap().len(), 2, "handed out again, and replayed");
}

#[tokio::test]
async fn story_a_create_that_went_on_is_answered_when_it_is_asked_for_again() {
    let plane = dev().stock(0).start().await;
    let mine = key(&plane, &["provision"], None).await;
    let ask = async |wait: &str| {
        let headers = [("idempotency-key", "k"), ("authorization", mine.as_str()), ("prefer", wait)];
        plane.request(Method::POST, "/v1/tenants", &headers, Some(json!({"id": "acme"}))).await
    };
    let begun = ask("wait=0").await;
    expect(&begun, 202);
    let made = ask("wait=60").await;
    log_in(&expect(&made, 201)["connection"]).await;
    assert_eq!(expect(&ask("wait=0").await, 201), &made.2);
}
