//! Issue 6, what must be shown: an audit row that was tampered with (update, delete, insert, swap, truncate the tail, restore of
//! an older store) is found and named. The tampering is SQL in the control store, as whoever owns it could do it.

use std::path::Path;

use freehold_testkit::Plane;
use reqwest::Method;
use serde_json::{Value as Json, json};
use tokio_postgres::Client;

use crate::common::{SettingsFile, create, dev_with, exits, expect, settings, stderr, stdout, store, until};
use crate::receiver::Receiver;

pub struct Bench {
    pub plane: Plane,
    pub sql: Client,
    pub checkpoints: std::path::PathBuf,
    _settings: SettingsFile,
    _directory: tempfile::TempDir,
}

/// A plane with some events, all of them sealed and the last one anchored.
async fn bench() -> Bench {
    bench_with("").await
}

/// A plane with more settings of the audit's.
pub async fn bench_unanchored(more: &str) -> Bench {
    let directory = tempfile::tempdir().unwrap();
    let checkpoints = directory.path().join("checkpoints");
    let file = checkpoints.to_string_lossy();
    let text = format!("[audit]\ncheckpoint_file = \"{file}\"\ncheckpoint_seconds = 1\n{more}");
    let settings = settings(&text);
    let plane = dev_with(&settings).stock(2).start().await;
    let sql = store(&plane).await;
    Bench { plane, sql, checkpoints, _settings: settings, _directory: directory }
}

/// The same, with events, all of them sealed and the last one anchored.
pub async fn bench_with(more: &str) -> Bench {
    let bench = bench_unanchored(more).await;
    for id in ["acme", "globex"] {
        create(&bench.plane, id).await;
    }
    for name in ["one", "two", "three", "four", "five"] {
        expect(&bench.plane.patch("/v1/tenants/acme", json!({"name": name})).await, 200);
    }
    bench.at_rest().await;
    bench
}

impl Bench {
    /// Everything is sealed and anchored, and from now on nothing runs that would write or seal.
    pub async fn at_rest(&self) {
        self.all_is_anchored().await;
        self.freeze().await;
        self.keep().await;
    }

    pub async fn all_is_anchored(&self) {
        until("all is sealed and anchored", async || {
            let sql = "SELECT count(*) FILTER (WHERE a.place IS NULL), max(a.place), min(e.checkpoint_place) FROM audit a, audit_end e";
            let row = self.sql.query_one(sql, &[]).await.unwrap();
            let (waiting, sealed, anchored): (i64, Option<i64>, i64) = (row.get(0), row.get(1), row.get(2));
            match waiting == 0 && sealed == Some(anchored) {
                true => Ok(()),
                false => Err(format!("{waiting} wait, {sealed:?} are sealed, {anchored} anchored")),
            }
        })
        .await;
    }

    /// From now on no loop runs, and nothing else.
    pub async fn freeze(&self) {
        // By hand: the API would record it.
        let freeze = "INSERT INTO \"freeze\" (target, by) VALUES ('all', 'test') ON CONFLICT DO NOTHING";
        self.do_sql(freeze).await;
        until("no loop runs", async || {
            let sql = "SELECT count(*) FROM loop_lease WHERE finished_at IS NULL OR started_at > finished_at";
            let running: i64 = self.sql.query_one(sql, &[]).await.unwrap().get(0);
            if running == 0 { Ok(()) } else { Err(format!("{running} run")) }
        })
        .await;
    }

    pub async fn thaw(&self) {
        self.do_sql("DELETE FROM \"freeze\"").await;
    }

    /// What [`Self::restore`] puts back.
    pub async fn keep(&self) {
        self.do_sql(
            "DROP TABLE IF EXISTS kept, kept_end; CREATE TABLE kept AS TABLE audit; CREATE TABLE kept_end AS TABLE audit_end",
        )
        .await;
    }

    pub async fn do_sql(&self, sql: &str) {
        self.sql.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    pub async fn restore(&self) {
        self.do_sql(
            "BEGIN; DELETE FROM audit; INSERT INTO audit OVERRIDING SYSTEM VALUE SELECT * FROM kept;
             DELETE FROM audit_end; INSERT INTO audit_end SELECT * FROM kept_end;
             CREATE UNIQUE INDEX IF NOT EXISTS audit_place ON audit (place) WHERE place IS NOT NULL; COMMIT",
        )
        .await;
    }

    pub async fn last(&self) -> i64 {
        self.sql.query_one("SELECT max(place) FROM audit", &[]).await.unwrap().get(0)
    }

    pub async fn verify(&self) -> Json {
        expect(&self.plane.get("/v1/audit/verify").await, 200).clone()
    }

    /// What is found, as kind and place.
    pub async fn found(&self) -> Vec<(String, Option<i64>)> {
        found(&self.verify().await)
    }
}

pub fn found(verified: &Json) -> Vec<(String, Option<i64>)> {
    let findings = verified["findings"].as_array().unwrap().iter();
    findings.map(|finding| (finding["kind"].as_str().unwrap().to_owned(), finding["place"].as_i64())).collect()
}

pub fn one(kind: &str, place: i64) -> Vec<(String, Option<i64>)> {
    vec![(kind.to_owned(), Some(place))]
}

#[tokio::test]
async fn story_a_tampered_audit_is_found_and_named() {
    let bench = bench().await;
    let last = bench.last().await;
    assert!(last >= 9, "{last}");
    let verified = bench.verify().await;
    assert_eq!(
        (&verified["findings"], verified["records"].as_i64(), &verified["next"]),
        (&json!([]), Some(last), &Json::Null)
    );
    assert!(verified["checkpoints"].as_u64().unwrap() > 0, "{verified}");

    let (before_last, three_less) = (last - 1, last - 3);
    for (tampering, kinds) in [
        ("UPDATE audit SET actor_name = 'nobody' WHERE place = 5".to_owned(), one("changed", 5)),
        ("UPDATE audit SET details = details || '{\"x\": 1}' WHERE place = 5".into(), one("changed", 5)),
        ("UPDATE audit SET at = at + interval '1 microsecond' WHERE place = 5".into(), one("changed", 5)),
        ("UPDATE audit SET outcome = 'failure', reason = 'x' WHERE place = 1".into(), one("changed", 1)),
        ("UPDATE audit SET hash = sha256('x') WHERE place = 5".into(), one("changed", 5)),
        (format!("UPDATE audit SET subject = 'tenant:other' WHERE place = {last}"), one("changed", last)),
        ("DELETE FROM audit WHERE place = 5".into(), one("missing", 5)),
        ("DELETE FROM audit WHERE place < 4".into(), one("missing", 1)),
        (format!("DELETE FROM audit WHERE place > {three_less}"), one("truncated", three_less + 1)),
        (
            "DROP INDEX audit_place; INSERT INTO audit (id, at, actor, action, outcome, place, previous, hash, salt)
             SELECT gen_random_uuid(), at, 'key:forged', action, outcome, place, previous, hash, salt FROM audit WHERE place = 5"
                .into(),
            one("inserted", 5),
        ),
        (
            "INSERT INTO audit (id, at, actor, action, outcome, place, previous, hash, salt)
             SELECT gen_random_uuid(), at, 'key:forged', action, outcome, 0, previous, hash, salt FROM audit WHERE place = 5"
                .into(),
            one("inserted", 0),
        ),
        (
            "UPDATE audit SET place = -1 WHERE place = 3; UPDATE audit SET place = 3 WHERE place = 7;
             UPDATE audit SET place = 7 WHERE place = -1"
                .into(),
            vec![("moved".into(), Some(3)), ("moved".into(), Some(7))],
        ),
        (
            // What they say, under the place and the hash of the other.
            "UPDATE audit SET hash = o.hash, previous = o.previous, place = -o.place FROM
               (SELECT a.id, b.hash, b.previous, b.place FROM audit a, audit b WHERE (a.place, b.place) IN ((3, 7), (7, 3))) o
             WHERE audit.id = o.id; UPDATE audit SET place = -place WHERE place < 0"
                .into(),
            vec![("moved".into(), Some(3)), ("moved".into(), Some(7))],
        ),
        (
            format!(
                "INSERT INTO audit (id, actor, action, outcome, place, previous, hash, salt)
                 SELECT gen_random_uuid(), 'key:forged', 'x', 'success', place + 1, hash, sha256('x'), salt FROM audit WHERE place = {last}"
            ),
            vec![("changed".into(), Some(last + 1)), ("inserted".into(), Some(last + 1))],
        ),
        (
            "INSERT INTO audit (id, at, actor, action, outcome) VALUES (gen_random_uuid(), now() - interval '1 hour', 'x', 'x', 'success')"
                .into(),
            vec![("unsealed".into(), None)],
        ),
        // The end that the store keeps fits: the checkpoint alone tells.
        (
            format!(
                "DELETE FROM audit WHERE place > {before_last};
                 UPDATE audit_end SET place = a.place, hash = a.hash FROM audit a WHERE a.place = {before_last}"
            ),
            one("truncated", last),
        ),
        ("DELETE FROM audit_end".into(), vec![("truncated".into(), None)]),
        // Times that a store can hold and nobody else can.
        ("UPDATE audit SET at = 'infinity' WHERE place = 5".into(), one("changed", 5)),
        ("UPDATE audit SET at = '-infinity' WHERE place = 5".into(), one("changed", 5)),
        (format!("UPDATE audit SET at = '20000-01-01' WHERE place = {last}"), one("changed", last)),
        (
            "INSERT INTO audit (id, at, actor, action, outcome) VALUES (gen_random_uuid(), '-infinity', 'x', 'x', 'success')".into(),
            vec![("unsealed".into(), None)],
        ),
        ("INSERT INTO audit (id, at, actor, action, outcome) VALUES (gen_random_uuid(), 'infinity', 'x', 'x', 'success')".into(), vec![]),
    ] {
        bench.do_sql(&tampering).await;
        assert_eq!(bench.found().await, kinds, "{tampering}");
        // Whatever it was, it can be read.
        for path in ["/v1/audit?limit=500", "/v1/audit/export", "/v1/status", "/metrics"] {
            assert_eq!(bench.plane.get(path).await.0, 200, "{path} after {tampering}");
        }
        bench.restore().await;
        assert_eq!(bench.found().await, [], "after {tampering}");
    }

    // People are told the same, with the exit code of a high finding.
    let fine = exits(bench.plane.cli(&["audit", "verify"]), 0);
    assert!(stdout(&fine).contains("nothing was bent"), "{}", stdout(&fine));
    bench.do_sql("DELETE FROM audit WHERE place = 5").await;
    let bent = exits(bench.plane.cli(&["audit", "verify"]), 12);
    assert!(stdout(&bent).contains("the record at place 5 is missing"), "{}", stdout(&bent));
    bench.restore().await;
}

/// Its own end fits, its own hashes fit: only what was written outside of the store says that it is older.
#[tokio::test]
async fn story_an_older_store_that_was_restored_is_found_and_named() {
    let bench = bench().await;
    let (older, key) = (bench.last().await, stdout(&exits(bench.plane.cli(&["audit", "key"]), 0)));
    bench
        .do_sql("ALTER TABLE kept RENAME TO older; ALTER TABLE kept_end RENAME TO older_end; DELETE FROM \"freeze\"")
        .await;
    for name in ["six", "seven", "eight"] {
        expect(&bench.plane.patch("/v1/tenants/acme", json!({"name": name})).await, 200);
    }
    bench.at_rest().await;
    let last = bench.last().await;
    assert!(last >= older + 3);
    bench
        .do_sql(
            "BEGIN; DELETE FROM audit; INSERT INTO audit OVERRIDING SYSTEM VALUE SELECT * FROM older;
             DELETE FROM audit_end; INSERT INTO audit_end SELECT * FROM older_end; COMMIT",
        )
        .await;
    assert_eq!(bench.found().await, one("truncated", older + 1));
    // It goes on, past the place that was anchored.
    bench.do_sql("DELETE FROM \"freeze\"").await;
    for n in 0..8 {
        expect(&bench.plane.patch("/v1/tenants/acme", json!({"name": format!("anew {n}")})).await, 200);
    }
    let kinds = until("what was sealed is past the checkpoint", async || {
        let verified = bench.verify().await;
        match verified["last"].as_i64() > Some(last) && verified["unsealed"] == 0 {
            true => Ok(found(&verified)),
            false => Err(verified.to_string()),
        }
    })
    .await;
    assert_eq!(kinds, one("rewritten", older + 1));
    // Nothing is anchored on top of it, and the first command of a bad hour says why.
    let severity = until("status tells", async || {
        let status = bench.plane.get("/v1/status").await.2;
        let concerns = status["concerns"].as_array().unwrap();
        match concerns.iter().find(|concern| concern["code"] == "audit_differs") {
            Some(concern) => Ok(concern["severity"].clone()),
            None => Err(status["concerns"].to_string()),
        }
    })
    .await;
    assert_eq!(severity, "high");
    let written = std::fs::read_to_string(&bench.checkpoints).unwrap();
    let newest: Json = serde_json::from_str(written.lines().last().unwrap()).unwrap();
    assert_eq!(newest["place"], last);
    // The same without believing the plane: its export, and the file and the key that somebody else kept.
    let file = bench.checkpoints.to_str().unwrap();
    let args = ["audit", "verify", "--checkpoints", file, "--public-key", key.trim()];
    let bent = exits(bench.plane.cli(&args), 12);
    assert!(stdout(&bent).contains("rewritten: the checkpoint of"), "{}", stdout(&bent));
}

#[tokio::test]
async fn story_a_chain_is_verified_from_an_export_without_the_plane() {
    let bench = bench().await;
    let last = bench.last().await;
    let key = stdout(&exits(bench.plane.cli(&["audit", "key"]), 0)).trim().to_owned();
    let exported = exits(bench.plane.cli(&["audit", "export"]), 0);
    let text = stdout(&exported);
    assert_eq!(text.lines().count() as i64, last);
    let directory = tempfile::tempdir().unwrap();
    let (file, checkpoints) = (directory.path().join("audit.jsonl"), bench.checkpoints.clone());
    let verify = |text: &str, checkpoints: &Path, key: &str| {
        std::fs::write(&file, text).unwrap();
        let (file, checkpoints) = (file.to_str().unwrap(), checkpoints.to_str().unwrap());
        let args = ["audit", "verify", "--file", file, "--checkpoints", checkpoints, "--public-key", key, "--json"];
        let output = bench.plane.cli(&args);
        let code = output.status.code();
        let verified = serde_json::from_str::<Json>(&stdout(&output));
        (code, verified.unwrap_or_else(|error| panic!("{error}: {}\n{}", stdout(&output), stderr(&output))))
    };
    let (code, verified) = verify(&text, &checkpoints, &key);
    assert_eq!((code, &verified["records"], &verified["findings"]), (Some(0), &json!(last), &json!([])));
    assert!(verified["checkpoints"].as_u64().unwrap() > 0);

    let lines: Vec<&str> = text.lines().collect();
    let joined = |lines: &[&str]| lines.join("\n") + "\n";
    let changed = text.replacen("\"name\"", "\"nama\"", 1).replacen("tenant.create", "tenant.purge", 1);
    let (code, verified) = verify(&changed, &checkpoints, &key);
    assert_eq!((code, &verified["findings"][0]["kind"]), (Some(12), &json!("changed")));
    let without: Vec<&str> = [&lines[..4], &lines[5..]].concat();
    assert_eq!(found(&verify(&joined(&without), &checkpoints, &key).1), one("missing", 5));
    let cut = &lines[..lines.len() - 2];
    assert_eq!(found(&verify(&joined(cut), &checkpoints, &key).1), one("truncated", last - 1));
    let mut swapped = lines.clone();
    swapped.swap(2, 6);
    assert!(!found(&verify(&joined(&swapped), &checkpoints, &key).1).is_empty());
    // Checkpoints prove nothing under another key, or when they were edited.
    let other = format!("{}=", "A".repeat(43));
    assert_eq!(verify(&text, &checkpoints, &other).1["findings"][0]["kind"], "checkpoint");
    let written = std::fs::read_to_string(&checkpoints).unwrap();
    let newest: Json = serde_json::from_str(written.lines().last().unwrap()).unwrap();
    let edited = directory.path().join("edited");
    let forged = written.replace(newest["hash"].as_str().unwrap(), &"0".repeat(64));
    std::fs::write(&edited, forged).unwrap();
    let kinds = found(&verify(&text, &edited, &key).1);
    assert!(kinds.contains(&("checkpoint".into(), Some(last))), "{kinds:?}");
    // The plane misses its file.
    std::fs::remove_file(&checkpoints).unwrap();
    assert_eq!(bench.found().await, one("checkpoint", last));
}

#[tokio::test]
async fn story_an_export_is_chosen_and_runs_nothing_in_a_spreadsheet() {
    let bench = bench().await;
    let path = "/v1/audit/export?subject=tenant:acme&action=tenant.update";
    let (status, headers, body) = bench.plane.request(Method::GET, path, &[], None).await;
    assert_eq!((status, headers["content-type"].to_str().unwrap()), (200, "application/x-ndjson"));
    let text = body.as_str().map_or_else(|| body.to_string(), str::to_owned);
    assert!(text.lines().count() >= 1 && text.lines().all(|line| line.contains("tenant:acme")), "{text}");
    bench.do_sql("UPDATE audit SET actor_name = '=1+1' WHERE place = 2").await;
    let csv = exits(bench.plane.cli(&["audit", "export", "--format", "csv"]), 0);
    let csv = stdout(&csv);
    assert!(csv.starts_with("place,id,at,actor,"), "{csv}");
    assert!(csv.contains(",\"'=1+1\",") && !csv.contains(",=1+1"), "{csv}");
    assert_eq!(csv.lines().count() as i64, bench.last().await + 1);
}

/// An event with a time that is none is sealed like any other, and named for ever.
#[tokio::test]
async fn story_an_event_of_no_time_is_named_once_it_is_sealed() {
    let bench = bench().await;
    let last = bench.last().await;
    bench.do_sql("INSERT INTO audit (id, at, actor, action, outcome) VALUES (gen_random_uuid(), 'infinity', 'x', 'x', 'success')").await;
    bench.thaw().await;
    let found = until("it is sealed", async || {
        let verified = bench.verify().await;
        if verified["last"].as_i64() > Some(last) { Ok(found(&verified)) } else { Err(verified.to_string()) }
    })
    .await;
    assert_eq!(found, one("changed", last + 1));
}

#[tokio::test]
async fn story_a_checkpoint_is_posted_until_it_is_taken() {
    let receiver = Receiver::start().await;
    receiver.answers(503);
    let bench = bench_unanchored(&format!("checkpoint_url = \"{}\"\n", receiver.url)).await;
    create(&bench.plane, "acme").await;
    let concern = until("status tells that nobody takes it", async || {
        let status = bench.plane.get("/v1/status").await.2;
        let concerns = status["concerns"].as_array().unwrap();
        let told = concerns.iter().find(|concern| concern["code"] == "audit_not_anchored").cloned();
        told.ok_or_else(|| status["concerns"].to_string())
    })
    .await;
    assert!(concern["message"].as_str().unwrap().contains("503"), "{concern}");
    assert!(!concern.to_string().contains(receiver.token()), "{concern}");
    assert!(!bench.plane.output().contains(receiver.token()));
    receiver.answers(204);
    bench.all_is_anchored().await;
    let line = |text: &str| serde_json::from_str::<Json>(text).unwrap();
    let (posted, written) = until("what was written was posted", async || {
        let posted: Vec<Json> = receiver.taken().iter().map(|taken| line(&taken.text())).collect();
        let written: Vec<Json> = std::fs::read_to_string(&bench.checkpoints).unwrap().lines().map(line).collect();
        if posted.last() == written.last() { Ok((posted, written)) } else { Err(format!("{posted:?} {written:?}")) }
    })
    .await;
    assert!(posted.iter().all(|checkpoint| written.contains(checkpoint)), "{posted:?} {written:?}");
    assert_eq!(receiver.taken()[0].header("content-type"), "application/json");
    assert_eq!(bench.verify().await["findings"], json!([]));
}

/// Its number was given when it began. What is sealed meanwhile has higher ones, and it is not passed over.
#[tokio::test]
async fn story_an_event_that_is_committed_late_is_sealed_late() {
    let bench = bench().await;
    bench.do_sql("DELETE FROM \"freeze\"").await;
    let mut late = store(&bench.plane).await;
    let late = late.transaction().await.unwrap();
    let sql = "SELECT audit_record(gen_random_uuid(), 'system', NULL, 'test.late', 'test', 'success', NULL, NULL, NULL, '{}')";
    late.query_one(sql, &[]).await.unwrap();
    for name in ["six", "seven"] {
        expect(&bench.plane.patch("/v1/tenants/acme", json!({"name": name})).await, 200);
    }
    let sealed = async |what: &str, sql: &str| {
        until(what, async || match bench.sql.query_one(sql, &[]).await.unwrap().get::<_, Option<i64>>(0) {
            Some(place) => Ok(place),
            None => Err("not sealed".into()),
        })
        .await
    };
    let meanwhile = "SELECT CASE WHEN count(*) FILTER (WHERE place IS NULL) = 0 THEN max(place) END FROM audit";
    let before = sealed("what came meanwhile is sealed", meanwhile).await;
    late.commit().await.unwrap();
    let place = sealed("the late one is sealed", "SELECT max(place) FROM audit WHERE action = 'test.late'").await;
    assert!(place > before, "{place} after {before}");
    let sql =
        "SELECT count(*) FROM audit l, audit a WHERE l.action = 'test.late' AND a.seq > l.seq AND a.place < l.place";
    assert!(bench.sql.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) >= 1);
    assert_eq!(bench.found().await, []);
}
