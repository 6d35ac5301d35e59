//! What may go out of the audit, and what may not: redaction that keeps the chain provable, holds, and retention.

use std::path::Path;

use serde_json::{Value as Json, json};

use crate::audit_chain::{Bench, bench_with, found, one};
use crate::common::{exits, expect, problem, stdout, until, walk};

async fn count(bench: &Bench, what: &str) -> i64 {
    let sql = format!("SELECT count(*) FROM audit WHERE {what}");
    bench.sql.query_one(&sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error:?}")).get(0)
}

async fn redact(bench: &Bench, body: Json) -> Json {
    expect(&bench.plane.post("/v1/audit/redactions", body).await, 200).clone()
}

/// As somebody who believes no plane: its export, and what others kept.
fn verify_elsewhere(bench: &Bench, directory: &Path) -> Json {
    let key = stdout(&exits(bench.plane.cli(&["audit", "key"]), 0)).trim().to_owned();
    let file = directory.join("audit.jsonl");
    std::fs::write(&file, stdout(&exits(bench.plane.cli(&["audit", "export"]), 0))).unwrap();
    let checkpoints = bench.checkpoints.to_str().unwrap();
    let args = ["--checkpoints", checkpoints, "--public-key", &key, "--json"];
    let verify = |more: &[&str]| {
        let output = bench.plane.cli(&[&["audit", "verify"][..], more, &args[..]].concat());
        serde_json::from_str::<Json>(&stdout(&output)).unwrap()
    };
    let (here, there) = (verify(&["--file", file.to_str().unwrap()]), verify(&[]));
    assert_eq!(here["findings"], there["findings"]);
    assert_eq!(here["removed"], there["removed"]);
    here
}

#[tokio::test]
async fn story_what_is_about_persons_goes_and_the_proof_stays() {
    let bench = bench_with("").await;
    let directory = tempfile::tempdir().unwrap();
    let (before, last) = (count(&bench, "subject = 'tenant:acme'").await, bench.last().await);
    assert!(before >= 6);
    let private = "actor_name IS NOT NULL OR client IS NOT NULL OR details <> '{}' OR salt IS NOT NULL";
    assert!(count(&bench, &format!("subject = 'tenant:acme' AND ({private})")).await >= 6);
    let args = ["audit", "redact", "--subject", "tenant:acme", "--reason", "ticket 4711", "--json"];
    let told: Json = serde_json::from_str(&stdout(&exits(bench.plane.cli(&args), 0))).unwrap();
    assert_eq!(told, json!({"redacted": before, "held": 0}));
    assert_eq!(count(&bench, &format!("redacted IS NOT NULL AND ({private})")).await, 0);
    assert_eq!(count(&bench, "redacted IS NOT NULL AND subject = 'tenant:acme'").await, before);
    // The same moment has the event that says so, in its place.
    let verified = bench.verify().await;
    assert_eq!((&verified["findings"], &verified["last"]), (&json!([]), &json!(last + 1)));
    let events = walk(&bench.plane, "/v1/audit?action=audit.redact", 10).await;
    let (event, details) = (&events[0], &events[0]["details"]);
    assert_eq!((events.len(), &event["place"]), (1, &json!(last + 1)));
    assert_eq!((&details["reason"], &details["events"]), (&json!("ticket 4711"), &json!(before)));
    assert!(event["actor_name"].is_string() && details["places"].is_array(), "{event}");
    let listed = walk(&bench.plane, "/v1/audit?subject=tenant:acme", 100).await;
    assert!(listed.iter().all(|event| event["redacted"] == true && event["details"] == json!({})), "{listed:?}");
    assert_eq!(verify_elsewhere(&bench, directory.path())["findings"], json!([]));

    // There is nothing more to take out, and what says so cannot be.
    let nothing = json!({"event": null, "redacted": 0, "held": 0, "more": false});
    for choice in [json!({"subject": "tenant:acme"}), json!({"action": "audit.redact"}), json!({"id": event["id"]})] {
        let mut body = choice.clone();
        body["reason"] = json!("again");
        assert_eq!(redact(&bench, body).await, nothing, "{choice}");
    }
    assert_eq!(bench.last().await, last + 1);
    problem(&bench.plane.post("/v1/audit/redactions", json!({"reason": "all of it"})).await, 422, "invalid");
    problem(&bench.plane.post("/v1/audit/redactions", json!({"subject": "tenant:globex"})).await, 422, "invalid");

    // Whoever does the same by hand is found, and so is whoever fills in again.
    bench.keep().await;
    let kept: i64 =
        bench.sql.query_one("SELECT max(place) FROM audit WHERE redacted IS NOT NULL", &[]).await.unwrap().get(0);
    let globex = redact(&bench, json!({"subject": "tenant:globex", "reason": "for its hash"})).await;
    assert!(globex["redacted"].as_u64().unwrap() >= 1, "{globex}");
    bench.do_sql("CREATE TABLE theirs AS SELECT place, redacted FROM audit WHERE subject = 'tenant:globex'").await;
    let theirs: i64 = bench.sql.query_one("SELECT min(place) FROM theirs", &[]).await.unwrap().get(0);
    bench.restore().await;
    bench.do_sql("ALTER TABLE audit DROP CONSTRAINT audit_sealed_whole").await;
    let by_hand = "UPDATE audit a SET actor_name = NULL, client = NULL, details = '{}', salt = NULL, redacted =";
    for (tampering, kinds) in [
        (
            format!("{by_hand} t.redacted FROM theirs t WHERE a.place = t.place AND t.place = {theirs}"),
            one("redacted", theirs),
        ),
        (
            format!("{by_hand} sha256('x') WHERE a.place = {theirs}"),
            vec![("changed".into(), Some(theirs)), ("redacted".into(), Some(theirs))],
        ),
        (format!("UPDATE audit SET client = '::1' WHERE place = {kept}"), one("changed", kept)),
        (format!("UPDATE audit SET details = '{{\"name\": \"x\"}}' WHERE place = {kept}"), one("changed", kept)),
        (format!("UPDATE audit SET redacted = sha256('x') WHERE place = {kept}"), one("changed", kept)),
        (format!("UPDATE audit SET redacted = NULL, salt = '\\x00' WHERE place = {kept}"), one("changed", kept)),
    ] {
        bench.do_sql(&tampering).await;
        assert_eq!(bench.found().await, kinds, "{tampering}");
        bench.restore().await;
    }
    // What was bent is evidence.
    bench.do_sql(&format!("UPDATE audit SET details = '{{}}' WHERE place = {theirs}")).await;
    let answer =
        bench.plane.post("/v1/audit/redactions", json!({"subject": "tenant:globex", "reason": "away with it"})).await;
    assert!(problem(&answer, 409, "wrong_state")["detail"].as_str().unwrap().contains(&format!("place {theirs} ")));
    bench.restore().await;
    assert_eq!(bench.found().await, []);
}

/// Everything that is there is as if it had happened ten days ago, and is sealed anew.
async fn age(bench: &Bench) {
    bench.freeze().await;
    std::fs::remove_file(&bench.checkpoints).unwrap();
    bench
        .do_sql(
            "BEGIN; UPDATE audit SET place = NULL, previous = NULL, hash = NULL, salt = NULL, at = at - interval '10 days';
             UPDATE audit_end SET place = 0, checkpoint_place = 0, hash = sha256(convert_to('freehold audit chain of ' || store::text, 'UTF8'));
             COMMIT",
        )
        .await;
    bench.thaw().await;
}

#[tokio::test]
async fn story_old_events_go_but_for_those_that_are_held() {
    let bench = bench_with("retention_days = 5\n").await;
    let directory = tempfile::tempdir().unwrap();
    // Young ones stay.
    bench.thaw().await;
    let cli = |args: &[&str]| stdout(&exits(bench.plane.cli(args), 0));
    let held = cli(&["audit", "hold", "add", "--subject", "tenant:globex", "--reason", "7 O 12/26"]);
    assert_eq!(held, "tenant:globex is held\n");
    let holds = walk(&bench.plane, "/v1/audit/holds", 10).await;
    let (hold, by) = (holds[0]["id"].as_str().unwrap().to_owned(), holds[0]["by"].clone());
    assert_eq!((holds.len(), &holds[0]["reason"], by.is_string()), (1, &json!("7 O 12/26"), true));
    assert!(cli(&["audit", "hold", "list"]).contains("tenant:globex"));
    // What is held is not redacted either.
    let body = json!({"subject": "tenant:globex", "reason": "asked for"});
    let redacted = redact(&bench, body.clone()).await;
    assert_eq!((&redacted["redacted"], redacted["held"].as_u64() >= Some(1)), (&json!(0), true), "{redacted}");
    assert_eq!(bench.verify().await["removed"], 0);

    age(&bench).await;
    let first = until("the head goes", async || {
        let row = bench
            .sql
            .query_one("SELECT min(place), count(*) FILTER (WHERE place IS NULL) FROM audit", &[])
            .await
            .unwrap();
        let (first, waiting): (Option<i64>, i64) = (row.get(0), row.get(1));
        match first > Some(1) && waiting == 0 {
            true => Ok(first.unwrap()),
            false => Err(format!("{first:?}, {waiting} wait")),
        }
    })
    .await;
    assert_eq!(count(&bench, &format!("place = {first} AND subject = 'tenant:globex'")).await, 1);
    let begins = until("the beginning is written outside", async || {
        let written = std::fs::read_to_string(&bench.checkpoints).unwrap_or_default();
        let mut lines = written.lines().rev().map(|line| serde_json::from_str::<Json>(line).unwrap());
        lines.find(|line| line["begins"] == true).ok_or_else(|| written.clone())
    })
    .await;
    assert_eq!(begins["place"], first - 1);
    bench.at_rest().await;
    let verified = bench.verify().await;
    assert_eq!(
        (&verified["findings"], &verified["removed"], &verified["first"]),
        (&json!([]), &json!(first - 1), &json!(first))
    );
    assert!(cli(&["audit", "verify"]).contains("removed before"));
    let removed = walk(&bench.plane, "/v1/audit?action=audit.remove", 10).await;
    assert_eq!(
        (&removed[0]["details"]["to"], &removed[0]["actor"]),
        (&json!(first - 1), &json!("loop:audit_retention"))
    );
    let elsewhere = verify_elsewhere(&bench, directory.path());
    assert_eq!((&elsewhere["findings"], &elsewhere["removed"]), (&json!([]), &json!(first - 1)));

    // Any other gap is one, and nobody else can say where the chain begins.
    bench.do_sql("CREATE TABLE kept_beginning AS TABLE audit_beginning").await;
    let next = format!("place = {first}, hash = (SELECT hash FROM audit WHERE place = {first})");
    for (tampering, kinds) in [
        (format!("DELETE FROM audit WHERE place = {first}"), one("missing", first)),
        (format!("DELETE FROM audit WHERE place = {}", first + 1), one("missing", first + 1)),
        (
            format!("UPDATE audit_beginning SET {next}; DELETE FROM audit WHERE place = {first}"),
            vec![("checkpoint".into(), Some(first)), ("missing".into(), Some(first))],
        ),
        // The file has it.
        ("DELETE FROM audit_beginning".to_owned(), vec![]),
    ] {
        bench.do_sql(&tampering).await;
        assert_eq!(bench.found().await, kinds, "{tampering}");
        bench.restore().await;
        bench.do_sql("DELETE FROM audit_beginning; INSERT INTO audit_beginning SELECT * FROM kept_beginning").await;
        assert_eq!(bench.found().await, [], "after {tampering}");
    }

    // What was bent is evidence, and does not go when the hold does.
    let last_old: i64 = bench
        .sql
        .query_one("SELECT max(place) FROM audit WHERE at < now() - interval '8 days'", &[])
        .await
        .unwrap()
        .get(0);
    bench.do_sql(&format!("UPDATE audit SET outcome = 'failure' WHERE place = {last_old}")).await;
    let released = cli(&["audit", "hold", "release", &hold, "--reason", "settled"]);
    assert!(released.starts_with("tenant:globex is held no more"), "{released}");
    problem(&bench.plane.delete(&format!("/v1/audit/holds/{hold}?reason=again")).await, 404, "not_found");
    bench.thaw().await;
    let severity = until("status tells", async || {
        let status = bench.plane.get("/v1/status").await.2;
        let concerns = status["concerns"].as_array().unwrap();
        let bent = concerns.iter().find(|concern| concern["code"] == "audit_bent");
        bent.map(|concern| concern["severity"].clone()).ok_or_else(|| status["concerns"].to_string())
    })
    .await;
    assert_eq!(severity, "high");
    assert_eq!(bench.sql.query_one("SELECT min(place) FROM audit", &[]).await.unwrap().get::<_, i64>(0), first);
    bench.do_sql(&format!("UPDATE audit SET outcome = 'success' WHERE place = {last_old}")).await;
    until("the rest goes", async || match count(&bench, "at < now() - interval '8 days'").await {
        0 => Ok(()),
        left => Err(format!("{left} are left")),
    })
    .await;
    bench.at_rest().await;
    let verified = bench.verify().await;
    assert_eq!((found(&verified), &verified["removed"]), (vec![], &json!(last_old)));
    assert_eq!(verify_elsewhere(&bench, directory.path())["findings"], json!([]));
    for action in ["audit.hold", "audit.release", "audit.remove"] {
        let listed = walk(&bench.plane, &format!("/v1/audit?action={action}"), 10).await;
        assert_eq!(listed.is_empty(), action == "audit.hold", "{action}: the hold itself was old");
    }
}
