//! What an agent serves, whatever is said to it and whatever dies around it.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use freehold_testkit::processes_under;
use nix::sys::signal::Signal;
use serde_json::json;

use crate::bench::{Bench, ask};

pub async fn what_the_plane_says_is_served_and_reported(version: &'static str) {
    let (mut bench, mut tenants) = Bench::with_tenants(version, 2).await;
    for tenant in &tenants {
        let session = bench.login(tenant).await.unwrap();
        assert_eq!(ask(&session, "select current_database()").await, tenant.name);
    }
    let mut stranger = tenants[0].clone();
    stranger.name.clone_from(&tenants[1].name);
    assert!(bench.login(&stranger).await.is_err());

    // Five changes at once are not five reloads.
    for generation in 2..7 {
        tenants.push(bench.tenant(&format!("more{generation}")).await);
        bench.say(generation, &tenants, &[]);
    }
    let report = bench.plane.until_in_force(6).await;
    assert!(report["reloads"].as_u64().unwrap() <= 4, "{report}");
    assert!(report["version"].as_str().unwrap().starts_with(version) && report["error"].is_null(), "{report}");
    for tenant in &tenants {
        bench.login(tenant).await.unwrap();
    }
    let counted = |report: &serde_json::Value| {
        let databases = report["databases"].as_array().cloned().unwrap_or_default();
        databases.iter().any(|one| one["name"] == "tenant1" && one["transactions"].as_u64() > Some(0))
    };
    bench.plane.until("what tenant1 did", counted).await;
    // Who goes is refused.
    bench.say(7, &tenants[1..], &[]);
    bench.plane.until_in_force(7).await;
    assert!(bench.login(&tenants[0]).await.is_err());

    for file in ["agent/console.json", "agent/assignment.json", "run/pgbouncer.ini", "run/users.txt"] {
        let path = bench.home().join(file);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(tenants.iter().all(|tenant| !text.contains(tenant.password.expose())), "a password is in {file}");
    }
    assert!(!bench.log().contains("SCRAM-SHA-256$") && !bench.log().contains(crate::fake::KEY));
    bench.end(Signal::SIGTERM);
    assert!(bench.pooler().is_some(), "tenants go on");
    bench.start(&["--stop-with-me"]);
    bench.plane.until_heard().await;
    assert!(bench.end(Signal::SIGTERM).success());
    assert_eq!(processes_under(&bench.home()), []);
}

pub async fn what_cannot_be_is_refused_and_what_runs_goes_on(version: &'static str) {
    let (mut bench, tenants) = Bench::with_tenants(version, 2).await;
    bench.say(5, &tenants, &[]);
    bench.plane.until_in_force(5).await;
    let session = bench.login(&tenants[0]).await.unwrap();
    let good = |generation| bench.assignment(generation, &tenants, &[]);
    let (mut quoted, mut twice, mut plain, mut cut, mut empty) = (good(6), good(6), good(6), good(6), good(6));
    quoted["served"]["entries"][1]["name"] = json!("x = host=evil\n[pgbouncer]");
    twice["served"]["entries"][1]["name"] = json!("tenant0");
    plain["served"]["entries"][1]["logins"][0]["verifier"] = json!("hunter2");
    cut["served"]["entries"][1].as_object_mut().unwrap().remove("server");
    empty["served"] = json!([]);
    let strange = json!({"generation": "six"});
    for (said, why) in [
        (good(4), "generation 4, and 5 is here already"),
        (quoted, "generation 6 cannot be served"),
        (twice, "tenant0 is there twice"),
        (plain, "expected a SCRAM-SHA-256 verifier"),
        (cut, "missing field `server`"),
        (empty, "what generation 6 serves cannot be read"),
        (strange, "not what this version expects"),
    ] {
        bench.plane.say(said);
        let has_said = |report: &serde_json::Value| report["error"].as_str().is_some_and(|error| error.contains(why));
        let report = bench.plane.until(why, has_said).await;
        assert_eq!(report["generation"], 5, "{report}");
        assert!(!report.to_string().contains("hunter2"), "{report}");
        assert_eq!(ask(&session, "select 1").await, "1");
        bench.login(&tenants[1]).await.unwrap();
    }
    // Also one that was started since.
    bench.end(Signal::SIGKILL);
    bench.say(4, &tenants[..1], &[]);
    bench.start(&[]);
    bench.plane.until("refusal", |report| report["error"].as_str().is_some_and(|e| e.contains("5 is here"))).await;
    bench.login(&tenants[1]).await.unwrap();
    bench.say(6, &tenants[..1], &[]);
    let report = bench.plane.until_in_force(6).await;
    assert!(report["error"].is_null(), "{report}");
    assert_eq!(ask(&session, "select 2").await, "2");
}

pub async fn everything_dies_and_tenants_go_on(version: &'static str) {
    let (mut bench, tenants) = Bench::with_tenants(version, 2).await;
    let session = bench.login(&tenants[0]).await.unwrap();
    assert_eq!(ask(&session, "select 1").await, "1");
    bench.plane.die();
    let pid = bench.pooler();
    // The agent: nobody notices, and the next one takes PgBouncer over as it is.
    bench.end(Signal::SIGKILL);
    assert_eq!(ask(&session, "select 2").await, "2");
    bench.start(&[]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(ask(&session, "select 3").await, "3");
    assert_eq!(bench.pooler(), pid);
    // PgBouncer: a reconnect.
    bench.kill_pooler();
    let again = bench.until_login(&tenants[0]).await;
    assert_eq!(ask(&again, "select 4").await, "4");
    // Both, and the plane is still dead.
    bench.end(Signal::SIGKILL);
    bench.kill_pooler();
    bench.start(&[]);
    for tenant in &tenants {
        bench.until_login(tenant).await;
    }
    // The plane is back, with news.
    bench.say(2, &tenants[1..], &[]);
    bench.plane.come_back().await;
    let report = bench.plane.until_in_force(2).await;
    assert_eq!(report["deaths"], 0, "{report}");
    assert!(bench.login(&tenants[0]).await.is_err());
    bench.kill_pooler();
    bench.plane.until("a death", |report| report["deaths"] == 1).await;
    bench.until_login(&tenants[1]).await;
}

pub async fn a_file_edited_by_hand_is_repaired(version: &'static str) {
    let (bench, tenants) = Bench::with_tenants(version, 1).await;
    let path = bench.run().join("pgbouncer.ini");
    let written = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, written.replace("tenant0", "mine")).unwrap();
    let report = bench.plane.until("a repair", |report| report["repaired"] == 1).await;
    assert_eq!((&report["generation"], &report["error"]), (&json!(1), &json!(null)));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), written);
    // What is gone is written again, also where nobody asked PgBouncer to read it.
    std::fs::remove_file(bench.run().join("users.txt")).unwrap();
    bench.plane.until("a repair", |report| report["repaired"] == 2).await;
    bench.login(&tenants[0]).await.unwrap();
}
