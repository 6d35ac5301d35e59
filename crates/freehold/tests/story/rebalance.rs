//! Issue 5, item 6: it is said who would move so that servers come to be even, and done when it is told to be.

use freehold_client::api::rebalance::{RebalanceServers, SuggestRebalance};
use freehold_testkit::Plane;
use reqwest::Method;
use serde_json::{Value as Json, json};

use crate::common::{create, create_as, dev_with, exits, expect, log_in, problem, settings, stdout, until, walk};

const HERE: &str = "local-1";
const THERE: &str = "local-2";
const PATH: &str = "/v1/rebalance";
const QUICK: &str = "[stats]\nperiod_seconds = 1\nsize_period_seconds = 1\n";
/// Rows that nothing tells apart: no UPDATE of one could be applied elsewhere.
const BLOCKS: &str = "create table doc (body json); insert into doc values ('{}')";

async fn suggestion(plane: &Plane, query: &str) -> Json {
    expect(&plane.get(&format!("{PATH}{query}")).await, 200).clone()
}

/// Once everybody was measured where he is, and nothing that moves did is counted as load.
async fn settled(plane: &Plane, query: &str) -> Json {
    until("all are measured", async || {
        let found = suggestion(plane, query).await;
        let why = found["groups"][0]["why"].as_str().unwrap_or_default();
        let servers = found["groups"][0]["servers"].as_array().unwrap();
        let is_at_rest = servers.iter().all(|server| server["now"]["transactions_per_second"].as_f64() < Some(10.0));
        let is_known =
            !why.contains("not measured") && left_out(&found).iter().all(|[_, code]| *code != "not_measured");
        if is_known && is_at_rest { Ok(found) } else { Err(found.to_string()) }
    })
    .await
}

/// By name: which of them helps most is a matter of some bytes.
fn moves(of: &Json) -> Vec<[&str; 3]> {
    let moves = of["moves"].as_array().unwrap().iter();
    let mut moves: Vec<_> = moves.map(|one| ["tenant", "from", "to"].map(|name| one[name].as_str().unwrap())).collect();
    moves.sort_unstable();
    moves
}

fn left_out(of: &Json) -> Vec<[&str; 2]> {
    let left_out = of["groups"][0]["left_out"].as_array().unwrap().iter();
    left_out.map(|one| ["tenant", "code"].map(|name| one[name].as_str().unwrap())).collect()
}

fn counts(of: &Json) -> [u64; 4] {
    ["moved", "moving", "waiting", "left"].map(|name| of["newest"][name].as_u64().unwrap())
}

async fn begin(plane: &Plane, body: Json) -> String {
    let begun = plane.request(Method::POST, PATH, &[("prefer", "wait=0")], Some(body)).await;
    format!("/v1/operations/{}", expect(&begun, 202)["id"].as_str().unwrap())
}

async fn ended(plane: &Plane, operation: &str) -> Json {
    until("it is over", async || match plane.get(operation).await.2 {
        found if ["succeeded", "failed", "cancelled"].iter().any(|state| found["state"] == *state) => Ok(found),
        found => Err(format!("{found} {}", plane.output())),
    })
    .await
}

/// What it left is dropped.
async fn finish(plane: &Plane, id: &str) {
    let path = format!("/v1/tenants/{id}/move/finish");
    expect(&plane.request(Method::POST, &path, &[("prefer", "wait=60")], Some(json!({}))).await, 200);
}

async fn change(plane: &Plane, verb: &str) {
    expect(&plane.post(&format!("/v1/servers/{THERE}/{verb}"), json!({})).await, 200);
}

async fn refusals(plane: &Plane) {
    problem(&plane.post(PATH, json!({"confirm": true, "pool": "nowhere"})).await, 422, "invalid");
    problem(&plane.post(PATH, json!({"confirm": true, "at_once": 0})).await, 422, "invalid");
    problem(&plane.post(PATH, json!({"confirm": true, "keep_seconds": 99_999_999})).await, 422, "invalid");
    for query in ["region=nowhere", "tolerance_percent=0", "max_moves=0", "max_moves=101", "max_bytes=-1", "large=1"] {
        problem(&plane.get(&format!("{PATH}?{query}")).await, 422, "invalid");
    }
    exits(plane.cli(&["server", "rebalance", "--apply", "--dry-run"]), 2);
    exits(plane.cli(&["server", "rebalance", "--at-once", "2"]), 2);
    exits(plane.cli(&["server", "rebalance", "--status"]), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn story_rebalance_says_who_would_move_and_moves_them_when_told() {
    let settings = settings(QUICK);
    let plane = dev_with(&settings).stock(0).arg("--servers").arg("2").start().await;
    change(&plane, "cordon").await;
    let alone = suggestion(&plane, "").await;
    assert_eq!(moves(&alone).len(), 0);
    assert!(alone["groups"][0]["why"].as_str().unwrap().contains("no other server"), "{alone:#}");
    let made = create(&plane, "acme").await;
    log_in(&made["connection"]).await.batch_execute("create table own as select 'acme' as name").await.unwrap();
    let docs = create(&plane, "docs").await;
    log_in(&docs["connection"]).await.batch_execute(BLOCKS).await.unwrap();
    create(&plane, "idle").await;
    expect(&plane.delete("/v1/tenants/idle?confirm=idle").await, 200);
    expect(&plane.post("/v1/tenants/acme/suspend", json!({})).await, 200);
    create_as(&plane, json!({"id": "vault", "deletion_protection": true})).await;
    change(&plane, "uncordon").await;

    // Two of four, each of the others with its reason; nothing is begun, by whichever way it is asked.
    let told = settled(&plane, "").await;
    assert_eq!(moves(&told), [["acme", HERE, THERE], ["docs", HERE, THERE]], "{told:#}");
    assert_eq!(left_out(&told), [["idle", "wrong_state"], ["vault", "protected"]], "{told:#}");
    let group = &told["groups"][0];
    assert_eq!((&group["off_percent"], &group["off_percent_after"]), (&json!(100.0), &json!(0.0)), "{told:#}");
    let after: Vec<&Json> =
        group["servers"].as_array().unwrap().iter().map(|server| &server["after"]["tenants"]).collect();
    assert_eq!((after, &told["newest"]), (vec![&json!(2), &json!(2)], &Json::Null));
    let few = suggestion(&plane, "?max_moves=1").await;
    assert!(moves(&few).len() == 1 && few["groups"][0]["why"].as_str().unwrap().contains("max_moves"), "{few:#}");
    assert_eq!(moves(&suggestion(&plane, "?max_bytes=1000").await).len(), 0);
    for args in [&["server", "rebalance"][..], &["server", "rebalance", "--dry-run"]] {
        let shown = stdout(&exits(plane.cli(args), 0));
        let says = ["4 -> 2", "0 -> 2", "2 moves", "it is deleted", "(protected)"];
        assert!(says.iter().all(|text| shown.contains(text)), "{shown}");
    }
    let refused = plane.post(PATH, json!({})).await;
    assert!(problem(&refused, 422, "confirmation_required").to_string().contains("2 tenants"), "{}", refused.2);
    refusals(&plane).await;
    assert_eq!(walk(&plane, "/v1/operations?kind=tenant.move", 10).await.len(), 0);

    // Done, those and no others, each once; who could not go is named.
    let operation = begin(&plane, json!({"confirm": true, "keep_seconds": 600})).await;
    problem(&plane.post(PATH, json!({"confirm": true})).await, 409, "busy");
    let over = ended(&plane, &operation).await;
    assert_eq!((&over["state"], &over["error"]["code"]), (&json!("failed"), &json!("tenants_left")), "{over:#}");
    let message = over["error"]["message"].as_str().unwrap();
    assert!(message.contains("1 of 2") && message.contains("docs") && message.contains("no_equality"), "{message}");
    assert_eq!(plane.get("/v1/tenants/acme").await.2["server"], THERE);
    // Suspended as it was, until it is resumed.
    assert_eq!(plane.get("/v1/tenants/acme").await.2["state"], "suspended");
    expect(&plane.post("/v1/tenants/acme/resume", json!({})).await, 200);
    let connection = plane.get("/v1/tenants/acme/connection").await.2;
    let name: String = log_in(&connection).await.query_one("select name from own", &[]).await.unwrap().get(0);
    assert_eq!(name, "acme");
    let shown = stdout(&exits(plane.cli(&["server", "rebalance", "--status"]), 0));
    assert!(
        shown.contains("1 elsewhere, 0 on their way, 0 to come, 1 left") && shown.contains("not_movable"),
        "{shown}"
    );

    // Right after, nobody knows what the one that moved is like; then he who failed is not tried again, nor does anybody go back.
    let at_once = suggestion(&plane, "").await;
    assert_eq!((moves(&at_once).len(), counts(&at_once)), (0, [1, 0, 0, 1]), "{at_once:#}");
    let after = settled(&plane, "").await;
    assert_eq!((moves(&after).len(), left_out(&after)[0]), (0, ["acme", "wrong_state"]), "{after:#}");
    finish(&plane, "acme").await;
    let after = settled(&plane, "").await;
    assert_eq!(moves(&after).len(), 0, "{after:#}");
    assert_eq!(left_out(&after), [["docs", "not_movable"], ["idle", "wrong_state"], ["vault", "protected"]]);
    let why = after["groups"][0]["left_out"][0]["message"].as_str().unwrap();
    assert!(why.contains("no_equality") && why.contains("7 days"), "{why}");

    // He who is protected goes when that is asked for; then they are even.
    let told = settled(&plane, "?protected=true").await;
    assert_eq!(moves(&told), [["vault", HERE, THERE]], "{told:#}");
    let operation = begin(&plane, json!({"confirm": true, "protected": true, "keep_seconds": 600})).await;
    assert_eq!(ended(&plane, &operation).await["state"], "succeeded");
    let after = settled(&plane, "").await;
    assert!(after["groups"][0]["why"].as_str().unwrap().contains("within 10 %"), "{after:#}");
    assert_eq!((moves(&after).len(), counts(&after)), (0, [1, 0, 0, 0]), "{after:#}");
    finish(&plane, "vault").await;

    cancelled(&plane).await;
}

/// Somebody thinks better of it: no more are begun, what is under way comes to its end, and the next one does the rest.
async fn cancelled(plane: &Plane) {
    change(plane, "cordon").await;
    for number in 1..=6 {
        create(plane, &format!("t{number}")).await;
    }
    change(plane, "uncordon").await;
    let told = settled(plane, "").await;
    assert_eq!(moves(&told).len(), 3, "{told:#}");
    let operation = begin(plane, json!({"confirm": true, "at_once": 1, "keep_seconds": 600})).await;
    until("one is on its way", async || match suggestion(plane, "").await {
        found if counts(&found)[1] == 1 => Ok(()),
        found => Err(found.to_string()),
    })
    .await;
    expect(&plane.post(&format!("{operation}/cancel"), json!({})).await, 200);
    assert_eq!(ended(plane, &operation).await["state"], "cancelled");
    let found = until("what was under way is over", async || match suggestion(plane, "").await {
        found if counts(&found)[1] == 0 => Ok(found),
        found => Err(found.to_string()),
    })
    .await;
    let [moved, _, waiting, left] = counts(&found);
    assert!(moved >= 1 && waiting >= 1 && moved + waiting == 3 && left == 0, "{found:#}");
    for one in found["newest"]["moves"].as_array().unwrap().iter().filter(|one| one["state"] == "moved") {
        finish(plane, one["tenant"].as_str().unwrap()).await;
    }
    assert_eq!(moves(&settled(plane, "").await).len() as u64, waiting);

    let client = freehold_client::Client::new(plane.url(), plane.api_key()).unwrap();
    let wanted = RebalanceServers { confirm: Some(true), keep_seconds: Some(0), ..RebalanceServers::default() };
    let newest = client.rebalance_servers(&wanted).await.unwrap().newest.unwrap();
    assert_eq!((newest.moves.len() as u64, newest.left), (waiting, 0));
    until("servers are even", async || {
        let found = client.suggest_rebalance(&SuggestRebalance::default()).await.unwrap();
        let why = found.groups[0].why.clone().unwrap_or_default();
        if why.contains("within 10 %") && found.moves.is_empty() { Ok(()) } else { Err(why) }
    })
    .await;
    let all = walk(plane, "/v1/operations?kind=tenant.move", 50).await;
    let twice =
        (1..=6).filter(|n| all.iter().filter(|one| one["subject"] == json!(format!("tenant:t{n}"))).count() > 1);
    assert_eq!(twice.count(), 0, "{all:?}");
}
