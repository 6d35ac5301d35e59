//! Issue 5, item 6: it is said who would move so that servers come to be even, and done when it is told to be.

use freehold_client::api::rebalance::{RebalanceServers, SuggestRebalance};
use freehold_testkit::Plane;
use reqwest::Method;
use serde_json::{Value as Json, json};

use crate::common::{create, dev, exits, expect, log_in, problem, stdout, until, walk};

const HERE: &str = "local-1";
const THERE: &str = "local-2";

async fn suggestion(plane: &Plane) -> Json {
    expect(&plane.get("/v1/rebalance").await, 200).clone()
}

fn moves(of: &Json) -> Vec<[&str; 3]> {
    let moves = of["moves"].as_array().unwrap().iter();
    moves.map(|one| ["tenant", "from", "to"].map(|name| one[name].as_str().unwrap())).collect()
}

#[tokio::test]
async fn story_rebalance_says_who_would_move_and_moves_them_when_told() {
    let plane = dev().stock(0).arg("--servers").arg("2").start().await;
    expect(&plane.post(&format!("/v1/servers/{THERE}/cordon"), json!({})).await, 200);
    let alone = suggestion(&plane).await;
    assert_eq!(moves(&alone).len(), 0);
    assert!(alone["groups"][0]["why"].as_str().unwrap().contains("no other server"), "{alone:#}");
    for id in ["acme", "globex", "initech", "umbrella"] {
        let made = create(&plane, id).await;
        let rows = format!("create table own (name text); insert into own values ('{id}')");
        log_in(&made["connection"]).await.batch_execute(&rows).await.unwrap();
    }
    expect(&plane.post(&format!("/v1/servers/{THERE}/uncordon"), json!({})).await, 200);

    // Two of four; nothing is begun, by whichever way it is asked.
    let told = suggestion(&plane).await;
    let would: Vec<[&str; 3]> = moves(&told);
    assert!(would.len() == 2 && would.iter().all(|[_, from, to]| (*from, *to) == (HERE, THERE)), "{told:#}");
    let group = &told["groups"][0];
    assert_eq!((&group["off_percent"], &group["off_percent_after"]), (&json!(100.0), &json!(0.0)), "{told:#}");
    assert_eq!(told["newest"], Json::Null);
    let shown = stdout(&exits(plane.cli(&["server", "rebalance"]), 0));
    assert!(shown.contains("4 -> 2") && shown.contains("0 -> 2") && shown.contains("2 moves"), "{shown}");
    exits(plane.cli(&["server", "rebalance", "--apply"]), 2);
    exits(plane.cli(&["server", "rebalance", "--status"]), 3);
    let refused = plane.post("/v1/rebalance", json!({})).await;
    assert!(problem(&refused, 422, "confirmation_required").to_string().contains("2 tenants"), "{}", refused.2);
    problem(&plane.post("/v1/rebalance", json!({"confirm": true, "pool": "nowhere"})).await, 422, "invalid");
    problem(&plane.post("/v1/rebalance", json!({"confirm": true, "at_once": 0})).await, 422, "invalid");
    problem(&plane.get("/v1/rebalance?region=nowhere").await, 422, "invalid");
    problem(&plane.get("/v1/rebalance?tolerance_percent=0").await, 422, "invalid");
    assert_eq!(walk(&plane, "/v1/operations?kind=tenant.move", 10).await.len(), 0);

    // Done, those and no others, each once; and asked again it has nothing to say.
    let path = "/v1/rebalance";
    let begun = plane.request(Method::POST, path, &[("prefer", "wait=0")], Some(json!({"confirm": true}))).await;
    let operation = format!("/v1/operations/{}", expect(&begun, 202)["id"].as_str().unwrap());
    problem(&plane.post(path, json!({"confirm": true})).await, 409, "busy");
    until("servers are even", async || match plane.get(&operation).await.2 {
        found if found["state"] == "succeeded" => Ok(()),
        found => Err(format!("{found} {}", plane.output())),
    })
    .await;
    let after = suggestion(&plane).await;
    assert_eq!(moves(&after).len(), 0, "{after:#}");
    assert!(after["groups"][0]["why"].as_str().unwrap().contains("within 10 %"), "{after:#}");
    let newest = &after["newest"];
    assert_eq!((&newest["moved"], &newest["left"], &newest["state"]), (&json!(2), &json!(0), &json!("succeeded")));
    assert_eq!(moves(newest), would);
    for [id, ..] in &would {
        assert_eq!(plane.get(&format!("/v1/tenants/{id}")).await.2["server"], THERE);
        let connection = plane.get(&format!("/v1/tenants/{id}/connection")).await.2;
        let name: String = log_in(&connection).await.query_one("select name from own", &[]).await.unwrap().get(0);
        assert_eq!(name, *id);
    }
    assert_eq!(walk(&plane, "/v1/operations?kind=tenant.move", 10).await.len(), 2);
    let shown = stdout(&exits(plane.cli(&["server", "rebalance", "--status"]), 0));
    assert!(shown.contains("2 elsewhere, 0 on their way, 0 to come, 0 left"), "{shown}");
    let client = freehold_client::Client::new(plane.url(), plane.api_key()).unwrap();
    let again = RebalanceServers { confirm: Some(true), ..RebalanceServers::default() };
    let again = client.rebalance_servers(&again).await.unwrap();
    assert_eq!(again.newest.map(|newest| newest.moves.len()), Some(0));
    assert!(client.suggest_rebalance(&SuggestRebalance::default()).await.unwrap().moves.is_empty());
}
