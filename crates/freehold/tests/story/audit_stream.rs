//! Sealed events go on to a file and to somebody who listens, who may be away.

use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use serde_json::{Value as Json, json};

use crate::audit_chain::{Bench, bench_unanchored};
use crate::common::{create, exits, expect, stdout, store, until};
use crate::receiver::Receiver;

const SECRET: &str = "a-secret-that-both-sides-know-0123456789";

async fn streamed(bench: &Bench, receiver: &str) -> i64 {
    let sql = "SELECT coalesce(max(place), 0) FROM audit_stream WHERE receiver = $1";
    bench.sql.query_one(sql, &[&receiver]).await.unwrap().get(0)
}

async fn until_streamed(bench: &Bench, receiver: &str) {
    until("all is sealed and streamed", async || {
        let sql = "SELECT e.place, (SELECT count(*) FROM audit WHERE place IS NULL) FROM audit_end e";
        let row = bench.sql.query_one(sql, &[]).await.unwrap();
        let (sealed, waiting, streamed) = (row.get::<_, i64>(0), row.get::<_, i64>(1), streamed(bench, receiver).await);
        match waiting == 0 && sealed == streamed {
            true => Ok(()),
            false => Err(format!("{waiting} wait, {sealed} are sealed, {streamed} streamed")),
        }
    })
    .await;
}

fn places(text: &str) -> Vec<i64> {
    text.lines().map(|line| serde_json::from_str::<Json>(line).unwrap()["place"].as_i64().unwrap()).collect()
}

#[tokio::test]
async fn story_whoever_listens_is_sent_every_event_once_it_is_back() {
    let receiver = Receiver::start().await;
    receiver.answers(500);
    let file = tempfile::tempdir().unwrap();
    let file = file.path().join("audit.jsonl");
    let more = format!(
        "stream_url = \"{}\"\nstream_secret = \"{SECRET}\"\nstream_file = \"{}\"\n",
        receiver.url,
        file.display()
    );
    let mut bench = bench_unanchored(&more).await;
    create(&bench.plane, "acme").await;
    let concern = until("status tells that nobody takes it", async || {
        let status = bench.plane.get("/v1/status").await.2;
        let concerns = status["concerns"].as_array().unwrap();
        let told = concerns.iter().find(|concern| concern["code"] == "audit_not_streamed").cloned();
        told.ok_or_else(|| status["concerns"].to_string())
    })
    .await;
    assert!(concern["message"].as_str().unwrap().contains("500"), "{concern}");
    // Neither who writes nor the file waits for it.
    let begun = Instant::now();
    for name in ["one", "two", "three"] {
        expect(&bench.plane.patch("/v1/tenants/acme", json!({"name": name})).await, 200);
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    until_streamed(&bench, "file").await;
    assert_eq!((streamed(&bench, "url").await, receiver.taken().len()), (0, 0));

    receiver.answers(204);
    until_streamed(&bench, "url").await;
    // Again from another process, which goes on where this one was.
    bench.plane.restart(&[]).await;
    bench.sql = store(&bench.plane).await;
    expect(&bench.plane.patch("/v1/tenants/acme", json!({"name": "four"})).await, 200);
    until_streamed(&bench, "url").await;
    until_streamed(&bench, "file").await;
    let taken = receiver.taken();
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    for batch in &taken {
        let signature: String =
            hmac::sign(&key, batch.text().as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(batch.header("x-freehold-signature"), format!("sha256={signature}"));
        assert_eq!(batch.header("content-type"), "application/x-ndjson");
    }
    // What comes twice has a place that it had.
    let mut text = String::new();
    let mut last = 0;
    for line in taken.iter().flat_map(|batch| batch.text().lines().map(str::to_owned).collect::<Vec<_>>()) {
        let place = places(&line)[0];
        assert!(place <= last + 1, "{place} after {last}");
        if place == last + 1 {
            text.push_str(&line);
            text.push('\n');
            last = place;
        }
    }
    let written = std::fs::read_to_string(&file).unwrap();
    assert!(written.starts_with(&text) || text.starts_with(&written), "both have the same");
    // It is what an export is: whoever has it can walk it.
    let received = file.with_extension("received");
    std::fs::write(&received, &text).unwrap();
    let verified = exits(bench.plane.cli(&["audit", "verify", "--file", received.to_str().unwrap()]), 0);
    assert!(stdout(&verified).contains("nothing was bent"), "{}", stdout(&verified));
    for secret in [SECRET, receiver.token()] {
        assert!(!bench.plane.output().contains(secret) && !concern.to_string().contains(secret));
    }
    let concerns = bench.plane.get("/v1/status").await.2["concerns"].to_string();
    assert!(!concerns.contains("audit_"), "{concerns}");
    let (_, _, metrics) = bench.plane.get("/metrics").await;
    let metrics = metrics.as_str().unwrap_or_default();
    assert!(metrics.contains("freehold_audit_streamed_total{receiver=\"url\"}"), "{metrics}");
}

#[tokio::test]
async fn story_a_stream_is_rotated_by_renaming_its_file() {
    let directory = tempfile::tempdir().unwrap();
    let (file, older) = (directory.path().join("audit.jsonl"), directory.path().join("audit.jsonl.1"));
    let bench = bench_unanchored(&format!("stream_file = \"{}\"\n", file.display())).await;
    create(&bench.plane, "acme").await;
    until_streamed(&bench, "file").await;
    std::fs::rename(&file, &older).unwrap();
    expect(&bench.plane.patch("/v1/tenants/acme", json!({"name": "one"})).await, 200);
    until("the file is made anew", async || if file.exists() { Ok(()) } else { Err("it is not there".into()) }).await;
    until_streamed(&bench, "file").await;
    let text = std::fs::read_to_string(&older).unwrap() + &std::fs::read_to_string(&file).unwrap();
    let last = *places(&text).last().unwrap();
    assert_eq!(places(&text), (1..=last).collect::<Vec<_>>());
}
