//! The audit's chain while writers write and processes die: nothing is passed over, nothing has two places, and it verifies.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;
use tokio::task::JoinHandle;

use crate::rig::{Rig, STORE, Wanted};
use crate::serving::{Serve, until};

const SETTINGS: &str = "[stock]\nper_template = 0\n[audit]\ncheckpoint_seconds = 1\ncheckpoint_records = 50\n";

async fn rig() -> Rig {
    Rig::new(Wanted { apart: None, lease: 2, settings: SETTINGS }).await
}

async fn serve(rig: &Rig) -> Serve {
    let file = rig.directory().join("checkpoints").display().to_string();
    Serve::start(&rig.settings, &rig.key, &[("FREEHOLD__AUDIT__CHECKPOINT_FILE", &file)]).await
}

/// As operations do: some events in one transaction, some of which take their time, and some of which are taken back.
struct Load {
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<i64>>,
}

impl Load {
    async fn begin(rig: &Rig) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let mut tasks = Vec::new();
        for writer in 0..4u64 {
            let (mut client, stop) = (rig.store.connect(STORE).await, stop.clone());
            tasks.push(tokio::spawn(async move {
                let (mut committed, mut turn) = (0, 0u64);
                while !stop.load(Ordering::Relaxed) {
                    turn += 1;
                    // In a debug build, on a machine that builds at the same time.
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    let events = i64::try_from(1 + (turn + writer) % 5).expect("few");
                    let tx = client.transaction().await.expect("begin");
                    let sql = "SELECT count(audit_record(gen_random_uuid(), 'system', NULL, 'test.load', 'test:' || n, 'success', NULL, NULL, NULL,
                        jsonb_build_object('n', n))) FROM generate_series(1, $1::bigint) n";
                    tx.query_one(sql, &[&events]).await.expect("write events");
                    if (turn + writer).is_multiple_of(7) {
                        tokio::time::sleep(Duration::from_millis(20 * (turn % 60))).await;
                    }
                    if turn.is_multiple_of(11) {
                        tx.rollback().await.expect("roll back");
                    } else {
                        tx.commit().await.expect("commit");
                        committed += events;
                    }
                }
                committed
            }));
        }
        Self { stop, tasks }
    }

    /// How many events were committed.
    async fn end(self) -> i64 {
        self.stop.store(true, Ordering::Relaxed);
        let mut committed = 0;
        for task in self.tasks {
            committed += task.await.expect("a writer ends");
        }
        committed
    }
}

/// All that was committed has its place, by itself, and what is found is nothing.
async fn verifies(rig: &Rig, serve: &Serve, committed: i64) {
    let waiting = "SELECT count(*) FROM audit WHERE place IS NULL";
    until("all is sealed", async || rig.count(waiting).await == 0).await;
    assert_eq!(rig.count("SELECT count(*) FROM audit WHERE action = 'test.load'").await, committed);
    let (all, last) = (rig.count("SELECT count(*) FROM audit").await, rig.count("SELECT max(place) FROM audit").await);
    assert_eq!(all, last, "as many places as events");
    let anchored = "SELECT place - checkpoint_place FROM audit_end";
    until("all is anchored", async || rig.count(anchored).await == 0).await;
    let (status, verified) = serve.get("/v1/audit/verify").await;
    assert_eq!((status, &verified["findings"], &verified["more"]), (200, &json!([]), &json!(0)), "{}", serve.output());
    assert_eq!(verified["records"], all);
    let file = std::fs::read_to_string(rig.directory().join("checkpoints")).expect("read the checkpoints");
    assert_eq!(verified["checkpoints"], file.lines().count(), "each checkpoint agrees");
}

#[tokio::test]
async fn audit_sealing_is_killed_again_and_again_under_load_and_the_chain_verifies() {
    let rig = rig().await;
    let load = Load::begin(&rig).await;
    for round in 0..6u64 {
        let mut serve = serve(&rig).await;
        let before = rig.count("SELECT place FROM audit_end").await;
        until("it seals", async || rig.count("SELECT place FROM audit_end").await > before).await;
        // At whatever it is.
        tokio::time::sleep(Duration::from_millis(137 * round % 1000)).await;
        serve.kill().await;
        rig.let_leases_run_out().await;
    }
    let serve = serve(&rig).await;
    let committed = load.end().await;
    assert!(committed > 500, "{committed}");
    verifies(&rig, &serve, committed).await;
}

/// One hangs past its lease, in whatever it does, and goes on; the other has led meanwhile, and they change places.
#[tokio::test]
async fn audit_two_processes_seal_in_turns_and_the_chain_verifies() {
    let rig = rig().await;
    let load = Load::begin(&rig).await;
    let (mut a, mut b) = (serve(&rig).await, serve(&rig).await);
    for round in 0..4u64 {
        let stopped = if round % 2 == 0 { &mut a } else { &mut b };
        tokio::time::sleep(Duration::from_millis(200 + 173 * round)).await;
        stopped.signal(Signal::SIGSTOP);
        tokio::time::sleep(Duration::from_secs(3)).await;
        let before = rig.count("SELECT place FROM audit_end").await;
        until("the other seals", async || rig.count("SELECT place FROM audit_end").await > before).await;
        stopped.signal(Signal::SIGCONT);
    }
    let committed = load.end().await;
    verifies(&rig, &a, committed).await;
    let (status, _) = b.get("/v1/audit/verify").await;
    assert_eq!(status, 200);
}

/// All events are old, and go as soon as they are anchored; somebody redacts meanwhile. Whenever it dies: what is left is a chain
/// that begins where it is said to begin, and nothing is missing without being counted.
#[tokio::test]
async fn audit_retention_and_redaction_are_killed_again_and_again_and_the_chain_verifies() {
    let settings = "[stock]\nper_template = 0\n[audit]\ncheckpoint_seconds = 1\nretention_days = 5\n";
    let rig = Rig::new(Wanted { apart: None, lease: 2, settings }).await;
    let old = "UPDATE audit SET at = at - interval '10 days';
        CREATE FUNCTION aged() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.at = NEW.at - interval ''10 days''; RETURN NEW; END';
        CREATE TRIGGER aged BEFORE INSERT ON audit FOR EACH ROW EXECUTE FUNCTION aged()";
    rig.sql.batch_execute(old).await.expect("make everything old");
    let load = Load::begin(&rig).await;
    let now = "UPDATE loop_lease SET next_run_at = now() WHERE name = 'audit_retention'";
    let removed = "SELECT coalesce(max(place), 0) FROM audit_beginning";
    let redaction = json!({"subject": "test:1", "reason": "asked for"});
    for round in 0..6u64 {
        let mut serve = serve(&rig).await;
        // It removes what was anchored before, as soon as it runs.
        if round % 2 == 0 {
            let before = rig.count("SELECT checkpoint_place FROM audit_end").await;
            until("it anchors", async || rig.count("SELECT checkpoint_place FROM audit_end").await > before).await;
        }
        let redacts = serve.post("/v1/audit/redactions", redaction.clone());
        let dies = tokio::time::sleep(Duration::from_millis(173 * (round + 1) % 1000));
        tokio::select! { _ = redacts => {}, () = dies => {} }
        serve.kill().await;
        rig.let_leases_run_out().await;
        rig.sql.batch_execute(now).await.expect("it is due");
    }
    let serve = serve(&rig).await;
    load.end().await;
    until("all is sealed", async || rig.count("SELECT count(*) FROM audit WHERE place IS NULL").await == 0).await;
    until("some went", async || rig.count(removed).await > 0).await;
    let (status, answer) = serve.post("/v1/audit/redactions", redaction).await;
    assert_eq!(status, 200, "{answer}");
    let (status, verified) = serve.get("/v1/audit/verify").await;
    assert_eq!((status, &verified["findings"], &verified["more"]), (200, &json!([]), &json!(0)), "{}", serve.output());
    let number = |field: &str| verified[field].as_i64().unwrap_or_default();
    assert_eq!(number("removed") + number("records"), number("last"));
    assert_eq!(number("first"), number("removed") + 1);
}

/// It dies while it appends, or between that and its note of it, and somebody renames the file under it.
#[tokio::test]
async fn audit_stream_to_a_file_is_killed_again_and_again_and_misses_nothing() {
    let rig = rig().await;
    let directory = rig.directory().join("stream");
    std::fs::create_dir(&directory).expect("make a directory");
    let file = directory.join("audit.jsonl");
    let path = file.display().to_string();
    let begin = async || Serve::start(&rig.settings, &rig.key, &[("FREEHOLD__AUDIT__STREAM_FILE", &path)]).await;
    let load = Load::begin(&rig).await;
    let streamed = "SELECT coalesce(max(place), 0) FROM audit_stream";
    let mut names = Vec::new();
    for round in 0..5u64 {
        let mut serve = begin().await;
        let before = rig.count(streamed).await;
        until("it streams", async || rig.count(streamed).await > before).await;
        if round % 2 == 0 {
            names.push(directory.join(format!("audit.jsonl.{round}")));
            std::fs::rename(&file, names.last().expect("there is one")).expect("rename it");
        }
        tokio::time::sleep(Duration::from_millis(191 * (round + 1) % 1000)).await;
        serve.kill().await;
        rig.let_leases_run_out().await;
    }
    let serve = begin().await;
    load.end().await;
    until("all is sealed", async || rig.count("SELECT count(*) FROM audit WHERE place IS NULL").await == 0).await;
    let behind = "SELECT e.place - s.place FROM audit_end e, audit_stream s";
    until("all is streamed", async || rig.count(behind).await == 0).await;
    names.push(file);
    let mut seen = std::collections::BTreeMap::new();
    for text in names.iter().map(|name| std::fs::read_to_string(name).unwrap_or_default()) {
        assert!(text.is_empty() || text.ends_with('\n'), "whole lines");
        for line in text.lines() {
            let event: serde_json::Value = serde_json::from_str(line).expect("a line is an event");
            let place = event["place"].as_i64().expect("a place");
            // In order, but for what is sent again.
            assert!(seen.is_empty() || seen.contains_key(&(place - 1)), "{place} comes before {}", place - 1);
            let again = seen.insert(place, event.clone());
            assert!(again.is_none_or(|before| before == event), "what comes again is the same: {event}");
        }
    }
    let last = rig.count("SELECT place FROM audit_end").await;
    assert_eq!((seen.len() as i64, seen.keys().next_back()), (last, Some(&last)), "{}", serve.output());
}
