//! Events that are cut anywhere are each seen once and in order, and the operation itself has the last word.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use freehold_client::api::operation::{OperationEvent, OperationState};
use freehold_client::{Client, Error, Patience, Request, Seen, Settled};
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use crate::flaky::{OPERATION, answer, patience, read, tenant};

fn operation(state: &str) -> Value {
    json!({
        "id": OPERATION, "kind": "tenant.create", "subject": "tenant:acme", "state": state, "step": "Create",
        "progress": null, "attempt": 1, "error": null, "cancel_requested": false, "next_run_at": null, "deadline": null,
        "created_at": "2026-01-10T11:59:00Z", "updated_at": "2026-01-10T11:59:30Z", "finished_at": null
    })
}

fn event(seq: usize, state: &str) -> String {
    let data = json!({"seq": seq, "at": "2026-01-10T11:59:00Z", "state": state, "step": "Create", "attempt": 1, "error": null});
    format!("id: {seq}\ndata: {data}\n\n")
}

/// Says what `events` say, from the one that was last seen, and hangs up after as many bytes as `cuts` has next; the
/// operation is over once all of them were said. A create is answered 202 until then.
async fn serve(events: usize, cuts: Vec<usize>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let cuts = Arc::new(Mutex::new(cuts.into_iter()));
    let over = Arc::new(Mutex::new(false));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let Some(asked) = read(&mut stream).await else { continue };
            let is_over = *over.lock().unwrap();
            let said = if asked.line.ends_with("/events") {
                let last: usize = asked.headers.get("last-event-id").map_or(0, |text| text.parse().unwrap());
                let text: String = (last + 1..=events)
                    .map(|seq| event(seq, if seq == events { "succeeded" } else { "running" }))
                    .collect();
                let cut = cuts.lock().unwrap().next().unwrap_or(text.len()).min(text.len());
                *over.lock().unwrap() |= cut == text.len();
                format!(
                    "HTTP/1.1 200 x\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n{}",
                    &text[..cut]
                )
            } else if asked.line.starts_with("GET /v1/operations/") {
                answer(200, &operation(if is_over { "succeeded" } else { "running" }).to_string(), "")
            } else if is_over {
                answer(201, &tenant("acme").to_string(), "")
            } else {
                answer(202, &operation("queued").to_string(), "")
            };
            let _ = stream.write_all(said.as_bytes()).await;
        }
    });
    url
}

fn client(url: &str) -> Client {
    let patience = Patience { settle_within: Duration::from_secs(60), ..patience() };
    Client::builder(url, "k").patience(patience).build().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]

    #[test]
    fn events_are_seen_once_and_in_order(events in 1usize..8, cuts in proptest::collection::vec(0usize..900, 0..4)) {
        tokio::runtime::Runtime::new().unwrap().block_on(async {
            let client = client(&serve(events, cuts).await);
            let mut seen: Vec<i64> = Vec::new();
            let ended = client.follow(OPERATION.parse().unwrap(), |event: &OperationEvent| seen.push(event.seq)).await;
            prop_assert_eq!(ended.unwrap().state, OperationState::Succeeded);
            prop_assert!(seen.windows(2).all(|pair| pair[0] < pair[1]), "{:?}", seen);
            prop_assert_eq!(seen, (1..=i64::try_from(events).unwrap()).collect::<Vec<_>>());
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn a_create_that_takes_long_ends_in_the_answer_of_the_create() {
    let client = client(&serve(3, vec![40]).await);
    let wanted = freehold_client::api::tenant::CreateTenant::named("acme".parse().unwrap());
    let made = client.create_tenant(&wanted).await.unwrap();
    assert!(made.new && made.tenant.tenant.id.as_str() == "acme");
}

#[tokio::test]
async fn a_wait_that_is_over_says_how_to_go_on() {
    // The stream says nothing new, for ever.
    let client = client(&serve(1, vec![0; 10_000]).await);
    let mut begun = None;
    let request = Request::post(&["tenants"]).body(&json!({"id": "acme"})).unwrap();
    let ended = client
        .settle(request.clone(), Duration::from_millis(300), |seen| {
            if let Seen::Begun(operation) = seen {
                begun = Some(operation.id);
            }
        })
        .await;
    assert!(matches!(ended, Err(Error::WaitExpired(id)) if Some(id) == begun), "{ended:?}");
    let ended = client.settle(request, Duration::ZERO, |_| {}).await;
    assert!(matches!(ended, Ok(Settled::Begun(reply)) if reply.body["id"] == OPERATION));
}
