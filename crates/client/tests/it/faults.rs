//! Whatever goes wrong on the way: a create happens once, and what may have happened is not sent twice without a key.

use std::time::Duration;

use freehold_client::api::tenant::CreateTenant;
use freehold_client::{Client, Error, Patience, Request};
use proptest::prelude::*;

use crate::flaky::{Fault, Flaky, patience};

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        Just(Fault::HangUp),
        Just(Fault::Forget),
        Just(Fault::LoseAnswer),
        Just(Fault::HalfAnswer),
        Just(Fault::HalfJson),
        Just(Fault::TooLate),
        Just(Fault::InFlight),
        prop_oneof![Just(429), Just(502), Just(503), Just(504)].prop_map(Fault::Status),
    ]
}

fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Runtime::new().unwrap().block_on(test)
}

fn acme() -> CreateTenant {
    CreateTenant::named("acme".parse().unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn a_create_happens_once_whatever_happens_to_its_answers(faults in proptest::collection::vec(fault(), 0..7)) {
        run(async {
            let flaky = Flaky::start(faults.clone()).await;
            let made = flaky.client().create_tenant(&acme()).await;
            let made = made.map_err(|error| TestCaseError::fail(error.to_string()))?;
            prop_assert_eq!(made.tenant.tenant.id.as_str(), "acme");
            prop_assert_eq!(flaky.effects().len(), 1);
            let asked = flaky.asked();
            let unread = faults.iter().filter(|fault| **fault == Fault::HangUp).count();
            prop_assert_eq!(asked.len(), faults.len() - unread + 1, "one try per fault, and the one that worked");
            for name in ["idempotency-key", "x-request-id", "prefer"] {
                prop_assert!(asked.iter().all(|one| one.headers[name] == asked[0].headers[name]));
            }
            Ok(())
        })?;
    }

    #[test]
    fn a_delete_that_may_have_happened_is_not_sent_again(faults in proptest::collection::vec(fault(), 0..5)) {
        // 409 with this code never comes without a key.
        let faults: Vec<Fault> = faults.into_iter().filter(|fault| *fault != Fault::InFlight).collect();
        run(async {
            let flaky = Flaky::start(faults.clone()).await;
            let deleted = flaky.client().send(Request::delete(&["tenants", "acme"])).await;
            let doubtful = faults.iter().position(|fault| fault.is_ambiguous());
            prop_assert_eq!(deleted.is_ok(), doubtful.is_none());
            prop_assert!(flaky.effects().len() <= 1);
            let tries = doubtful.map_or(faults.len() + 1, |at| at + 1);
            let unread = faults.iter().take(tries).filter(|fault| **fault == Fault::HangUp).count();
            prop_assert_eq!(flaky.asked().len(), tries - unread);
            prop_assert!(flaky.asked().iter().all(|one| !one.headers.contains_key("idempotency-key")));
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn a_server_that_says_nothing_is_asked_again() {
    let flaky = Flaky::start(vec![Fault::Silence]).await;
    let client = Client::builder(&flaky.url, "k").patience(Patience { settle_within: Duration::ZERO, ..patience() });
    client.build().unwrap().create_tenant(&acme()).await.unwrap();
    assert_eq!((flaky.asked().len(), flaky.effects().len()), (2, 1));
}

#[tokio::test]
async fn nobody_comes_back_before_retry_after() {
    let flaky = Flaky::start_with(vec![Fault::Status(503), Fault::Status(429)], "1").await;
    flaky.client().create_tenant(&acme()).await.unwrap();
    let asked = flaky.asked();
    for pair in asked.windows(2) {
        assert!(pair[1].at - pair[0].at >= Duration::from_secs(1), "{:?}", pair[1].at - pair[0].at);
    }
}

#[tokio::test]
async fn a_retry_after_beyond_all_patience_is_not_waited_for() {
    let flaky = Flaky::start_with(vec![Fault::Status(503)], "3600").await;
    let began = tokio::time::Instant::now();
    let Err(Error::Refused(refusal)) = flaky.client().create_tenant(&acme()).await else { panic!("refused") };
    assert_eq!((refusal.status, refusal.retry_after), (503, Some(Duration::from_secs(3600))));
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn each_pause_is_told_and_then_there_is_nobody() {
    let told = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let tell = told.clone();
    let client = Client::builder("http://127.0.0.1:1", "fh_secret")
        .patience(Patience { retry_for: Duration::from_millis(300), ..patience() })
        .on_again(move |again| tell.lock().unwrap().push((again.tries, again.error.to_string())))
        .build()
        .unwrap();
    let error = client.get::<serde_json::Value>(&["status"]).await.unwrap_err();
    assert!(matches!(&error, Error::Unreachable { why, .. } if why.contains("refused")), "{error}");
    let told = told.lock().unwrap();
    assert!(told.len() > 3 && told[0].0 == 1 && told[1].0 == 2, "{told:?}");
    assert!(!format!("{client:?} {error:?}").contains("fh_secret"));
}

#[tokio::test]
async fn what_cannot_be_asked_is_said_before_anybody_is() {
    for (url, key, why) in
        [("ftp://h", "k", "http://"), ("nowhere", "k", "no address"), ("http://h", "a\nb", "characters")]
    {
        let error = Client::new(url, key).unwrap_err();
        assert!(matches!(&error, Error::Settings(text) if text.contains(why)), "{error}");
    }
    let client = Client::new("http://127.0.0.1:1", "k").unwrap();
    let error = client.create_tenant_as(&acme(), "two\nlines").await.unwrap_err();
    assert!(matches!(error, Error::Settings(_)), "{error}");
}
