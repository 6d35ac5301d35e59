//! What goes wrong has an exit code, a text, and where one helps a next command; what may be repeated is.

use serde_json::json;

use crate::fake::{Answer, Fake, Run, problem, tenant};

#[tokio::test]
async fn every_status_has_its_exit_code() {
    for (status, code, exit) in [
        (400, "bad_request", 2),
        (401, "unauthenticated", 6),
        (403, "denied", 6),
        (404, "not_found", 4),
        (409, "wrong_state", 5),
        (412, "precondition_failed", 5),
        (422, "invalid", 2),
        (422, "prerequisite", 3),
        (422, "extension_missing", 3),
        (500, "internal", 1),
        (503, "no_room", 1),
        (418, "from_the_future", 1),
    ] {
        let fake = Fake::start(move |_, _| problem(status, code)).await;
        let ran = fake.run(&["tenant", "show", "acme"]).await;
        assert_eq!(ran.code, exit, "{status} {code}");
        assert!(ran.stderr.starts_with(&format!("error: because {code}")), "{}", ran.stderr);
        assert_eq!((ran.stdout.as_str(), fake.seen().len()), ("", 1));
    }
}

#[tokio::test]
async fn errors_name_fields_and_what_to_type_next() {
    let fake = Fake::start(|_, _| {
        Answer::Json(
            409,
            json!({ "type": "about:blank", "title": "T", "status": 409, "code": "tenant_deleted", "detail": "it\u{1b} was deleted",
                    "errors": [{ "field": "id", "message": "taken" }] }),
        )
    })
    .await;
    let ran = fake.run(&["tenant", "create", "acme"]).await;
    insta::assert_snapshot!(ran.stderr, @r"
    error: it\u{1b} was deleted
      id: taken
    next: freehold tenant undelete acme, or freehold tenant purge acme --confirm acme
    ");
    let ran = fake.run(&["--json", "tenant", "create", "acme"]).await;
    let printed: serde_json::Value = serde_json::from_str(&ran.stderr).unwrap();
    assert_eq!((printed["code"].as_str(), ran.code), (Some("tenant_deleted"), 5));
}

#[tokio::test]
async fn a_create_is_repeated_with_the_same_key() {
    let fake = Fake::start(|_, before| match before {
        0 => Answer::HangUp,
        1 => Answer::With(503, "retry-after: 0", json!({ "code": "store_unavailable", "detail": "down" })),
        2 => problem(409, "idempotency_in_flight"),
        _ => Answer::Json(201, tenant("acme")),
    })
    .await;
    let ran = fake.run(&["tenant", "create", "acme", "--label", "tier=gold"]).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let seen = fake.seen();
    assert_eq!(seen.len(), 4);
    assert!(seen.iter().all(|asked| asked.headers["idempotency-key"] == seen[0].headers["idempotency-key"]));
    assert!(seen.iter().all(|asked| asked.headers["x-request-id"] == seen[0].headers["x-request-id"]));
    assert_eq!(seen[3].body, r#"{"id":"acme","labels":{"tier":"gold"}}"#);
    assert_eq!(
        (seen[0].headers["prefer"].as_str(), seen[0].headers["authorization"].as_str()),
        ("wait=10", "Bearer fh_test")
    );
    assert!(ran.stderr.contains("trying again"), "{}", ran.stderr);
}

#[tokio::test]
async fn a_delete_whose_answer_was_lost_is_not_repeated() {
    let fake = Fake::start(|_, _| Answer::HangUp).await;
    let ran = fake.run(&["tenant", "delete", "acme", "--confirm", "acme"]).await;
    assert_eq!((ran.code, fake.seen().len()), (7, 1), "{}", ran.stderr);
    assert_eq!(fake.seen()[0].line, "DELETE /v1/tenants/acme?confirm=acme");
}

#[tokio::test]
async fn nobody_there_is_7_once_the_time_is_up() {
    let ran = Run::new(&[])
        .env("FREEHOLD_URL", "http://127.0.0.1:1")
        .env("FREEHOLD_API_KEY", "k")
        .run(&["status", "--retry-for", "1"])
        .await;
    assert_eq!(ran.code, 7);
    assert!(ran.stderr.contains("Connection refused") && ran.stderr.contains("next:"), "{}", ran.stderr);
}

#[tokio::test]
async fn what_is_no_freehold_is_said_to_be_none() {
    let fake = Fake::start(|_, _| Answer::Events("<html>".into())).await;
    let ran = fake.run(&["tenant", "list"]).await;
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("is it Freehold?"), "{}", ran.stderr);
}

#[tokio::test]
async fn what_cannot_be_meant_is_2_and_asks_nobody() {
    let fake = Fake::start(|_, _| Answer::HangUp).await;
    for args in [
        &["tenant", "create", "Acme"][..],
        &["tenant", "show", "../servers"],
        &["tenant", "delete", "acme"],
        &["tenant", "purge", "acme", "--confirm", "other"],
        &["tenant", "update", "acme"],
        &["tenant", "update", "acme", "--label", "a=b", "--remove-label", "a"],
        &["operation", "show", "7"],
        &["server", "add", "one"],
        &["server", "add", "one", "--dsn-env", "NOT_SET"],
        &["key", "create", "ci"],
        &["key", "create", "ci", "--scope", "root"],
        &["thaw"],
        &["freeze", "a/b"],
    ] {
        let ran = fake.run(args).await;
        assert_eq!(ran.code, 2, "{args:?}: {}", ran.stderr);
    }
    assert!(fake.seen().is_empty());
}
