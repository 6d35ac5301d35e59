//! A process whose clock is wrong, or jumps: leases and the grace of deleted tenants go by the store's clock.
//! Needs libfaketime (Debian package faketime), which is put under the real program.

use std::path::PathBuf;

use serde_json::json;

use crate::rig::{Rig, Wanted};
use crate::scenario::until_tenant;
use crate::serving::{Serve, until};

const HOUR_AND_A_BIT: &str = "[stock]\nper_template = 0\n[tenants]\ndeletion_grace_seconds = 3\n";

struct Clock {
    library: String,
    file: PathBuf,
}

impl Clock {
    fn of(rig: &Rig) -> Self {
        let libraries = ["x86_64-linux-gnu", "aarch64-linux-gnu"]
            .map(|arch| format!("/usr/lib/{arch}/faketime/libfaketimeMT.so.1"));
        let library = libraries.into_iter().find(|path| std::path::Path::new(path).exists());
        let library = library.expect("libfaketime is not on this machine; run: apt-get install faketime");
        let clock = Self { library, file: rig.directory().join("clock") };
        clock.set("+0");
        clock
    }

    fn set(&self, offset: &str) {
        // Whole at once: it is read at every look at the clock.
        let new = self.file.with_extension("new");
        std::fs::write(&new, format!("{offset}\n")).expect("write the clock");
        std::fs::rename(&new, &self.file).expect("set the clock");
    }

    async fn serve(&self, rig: &Rig, faults: &str) -> Serve {
        let file = self.file.to_str().expect("a path of text");
        let env = [
            ("FREEHOLD_FAULTS", faults),
            ("LD_PRELOAD", &self.library),
            ("FAKETIME_TIMESTAMP_FILE", file),
            ("FAKETIME_NO_CACHE", "1"),
            // A clock that is set does not move the one that counts from the start of the machine.
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            ("DONT_FAKE_MONOTONIC", "1"),
        ];
        Serve::start(&rig.settings, &rig.key, &env).await
    }
}

/// By how many minutes the newest line of the log is off.
#[expect(clippy::disallowed_methods, reason = "this process's clock is right, and the other's is compared with it")]
fn minutes_off(serve: &Serve) -> i64 {
    let stamp = regex::Regex::new(r"(?m)^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z)").expect("a regex");
    let output = serve.output();
    let colour = regex::Regex::new("\u{1b}\\[[0-9;]*m").expect("a regex");
    let output = colour.replace_all(&output, "");
    let last = stamp.captures_iter(&output).last().expect("a log with times");
    let time: jiff::Timestamp = last[1].parse().expect("a time");
    let now: jiff::Timestamp = std::time::SystemTime::now().try_into().expect("the time");
    (time.as_second() - now.as_second()) / 60
}

async fn wake_purge(rig: &Rig) {
    let sql = "UPDATE loop_lease SET next_run_at = now() WHERE name = 'purge'; NOTIFY freehold_loop, 'purge'";
    rig.sql.batch_execute(sql).await.expect("wake the loop");
}

async fn rig() -> Rig {
    let rig = Rig::new(Wanted { lease: 2, settings: HOUR_AND_A_BIT, ..Wanted::default() }).await;
    let mut serve = rig.serve("").await;
    rig.add_server(&serve, 20, None).await;
    rig.settled(&mut serve, &[("default", 0)]).await;
    serve.kill().await;
    rig.let_leases_run_out().await;
    rig
}

#[tokio::test]
async fn clock_set_back_an_hour_leaves_leases_and_grace_alone() {
    let rig = rig().await;
    let clock = Clock::of(&rig);
    let mut a = clock.serve(&rig, "tenant.create/Create/roles=sleep:5000*1").await;
    let mut b = rig.serve("").await;
    a.begin(reqwest::Method::POST, "/v1/tenants", Some(json!({"id": "acme"}))).await;
    until("the step is inside", async || a.output().contains("fault point fires")).await;
    clock.set("-3600");
    // Longer than a lease: it is renewed by what the store says, and nobody takes it.
    until_tenant(&b, "acme", "active").await;
    assert_eq!(minutes_off(&a), -60, "the clock was not set:\n{}", a.output());
    let epoch = rig.count("SELECT epoch FROM operation WHERE kind = 'tenant.create' ORDER BY id DESC LIMIT 1").await;
    assert_eq!(epoch, 1, "the lease was lost:\n{}", a.output());
    rig.logs_in(&a, "acme").await.expect("the tenant logs in");
    b.kill().await;
    rig.sql.batch_execute("UPDATE loop_lease SET lease_until = now()").await.expect("the dead one's leases run out");

    // Alone, with its clock an hour behind: the grace is what was asked for, and ends when it ends.
    let (status, body) = a.request(reqwest::Method::DELETE, "/v1/tenants/acme?confirm=acme", None).await;
    assert_eq!(status, 200, "{body}");
    let grace =
        rig.count("SELECT extract(epoch FROM purge_at - deleted_at)::bigint FROM tenant WHERE id = 'acme'").await;
    assert_eq!(grace, 3);
    until("it is purged", async || {
        let due =
            rig.count("SELECT count(*) FROM tenant WHERE id = 'acme' AND purge_at > clock_timestamp()").await == 1;
        let there = rig.count("SELECT count(*) FROM tenant WHERE id = 'acme'").await == 1;
        assert!(there || !due, "purged before its grace ended");
        wake_purge(&rig).await;
        !there
    })
    .await;
    a.kill().await;
    rig.let_leases_run_out().await;

    // And its death is noticed when its lease has run out, not an hour later.
    let mut a = clock.serve(&rig, "tenant.create/Create/roles=kill*1").await;
    let b = rig.serve("").await;
    a.begin(reqwest::Method::POST, "/v1/tenants", Some(json!({"id": "beta"}))).await;
    assert!(a.dies_by_itself(std::time::Duration::from_secs(30)).await);
    until_tenant(&b, "beta", "active").await;
}

#[tokio::test]
async fn clock_a_week_ahead_purges_nobody_early() {
    let rig = Rig::new(Wanted { lease: 2, ..Wanted::default() }).await;
    let clock = Clock::of(&rig);
    let mut serve = clock.serve(&rig, "").await;
    rig.add_server(&serve, 20, None).await;
    rig.settled(&mut serve, &[("default", 0)]).await;
    assert_eq!(serve.post("/v1/tenants", json!({"id": "acme"})).await.0, 201);
    let (status, body) = serve.request(reqwest::Method::DELETE, "/v1/tenants/acme?confirm=acme", None).await;
    assert_eq!(status, 200, "{body}");
    clock.set("+691200");
    let runs = "SELECT count(*) FROM loop_lease WHERE name = 'purge' AND finished_at > (SELECT state_since FROM tenant WHERE id = 'acme')";
    until("the loop has looked", async || {
        wake_purge(&rig).await;
        rig.count(runs).await == 1
    })
    .await;
    assert_eq!(serve.get("/v1/tenants/acme").await.1["state"], "deleted");
    let (status, body) = serve.post("/v1/tenants/acme/undelete", json!({})).await;
    assert_eq!(status, 200, "{body}");
    assert!(minutes_off(&serve) > 7 * 24 * 60, "the clock was not set:\n{}", serve.output());
    rig.logs_in(&serve, "acme").await.expect("the tenant logs in");
}
