//! Pauses: who waits, for how long, and who else is kept from what.

use std::time::{Duration, Instant};

use freehold_drivers::server::sql::Session;
use nix::sys::signal::Signal;
use serde_json::json;
use tokio::task::JoinHandle;

use crate::bench::{Bench, PATIENCE, Tenant, ask, pause};

const LONG: u64 = 60_000;

/// A client that logs in, asks, and waits where it has to, in either.
fn client(bench: &Bench, tenant: &Tenant) -> JoinHandle<()> {
    let (dsn, name) = (bench.dsn(tenant), tenant.name.clone());
    tokio::spawn(async move {
        let session = loop {
            // PgBouncer may be about to be started again.
            match Session::connect(&dsn, Some(&name), "app", &[]).await {
                Ok(session) => break session,
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        };
        assert_eq!(ask(&session, "select 1").await, "1");
    })
}

async fn waits(client: &JoinHandle<()>) {
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!client.is_finished(), "it does not wait");
}

async fn answered(client: JoinHandle<()>) {
    tokio::time::timeout(PATIENCE, client).await.expect("it waits for ever").unwrap();
}

pub async fn a_pause_holds_until_its_deadline_also_when_the_plane_is_dead(version: &'static str) {
    let (mut bench, tenants) = Bench::with_tenants(version, 2).await;
    // Taken back.
    let (id, wanted) = pause(&tenants[0], 5_000, LONG);
    bench.say(1, &tenants, &[wanted]);
    bench.plane.until_pause(&id, "paused").await;
    let waiting = client(&bench, &tenants[0]);
    waits(&waiting).await;
    assert_eq!(ask(&bench.login(&tenants[1]).await.unwrap(), "select 1").await, "1");
    bench.say(1, &tenants, &[]);
    answered(waiting).await;
    bench.plane.until_pause(&id, "resumed").await;
    // And forgotten, once the plane has heard it.
    bench.plane.until("nothing more of it", |report| report["pauses"] == json!([])).await;

    // Its time is over, and nobody is there to say so.
    let began = Instant::now();
    let (id, wanted) = pause(&tenants[0], 5_000, 4_000);
    bench.say(1, &tenants, &[wanted]);
    bench.plane.until_pause(&id, "paused").await;
    bench.plane.die();
    let waiting = client(&bench, &tenants[0]);
    answered(waiting).await;
    let took = began.elapsed();
    assert!(took > Duration::from_millis(3_900) && took < Duration::from_secs(8), "{took:?}");
    bench.plane.come_back().await;
    let told = bench.plane.until_pause(&id, "resumed").await;
    assert_eq!(told["detail"], "its time was over");
}

pub async fn a_pause_outlives_its_agent_and_its_pgbouncer(version: &'static str) {
    let (mut bench, tenants) = Bench::with_tenants(version, 1).await;
    let began = Instant::now();
    let (id, wanted) = pause(&tenants[0], 2_000, 9_000);
    bench.say(1, &tenants, &[wanted]);
    bench.plane.until_pause(&id, "paused").await;
    // A new PgBouncer knows of no pause.
    bench.kill_pooler();
    let waiting = client(&bench, &tenants[0]);
    bench.plane.until("the death", |report| report["deaths"] == 1).await;
    bench.plane.until_heard().await;
    bench.plane.until_pause(&id, "paused").await;
    let second = client(&bench, &tenants[0]);
    waits(&second).await;
    // The next agent holds what is not over, and ends it in its time.
    bench.plane.die();
    bench.end(Signal::SIGKILL);
    bench.start(&[]);
    waits(&second).await;
    answered(second).await;
    answered(waiting).await;
    let took = began.elapsed();
    assert!(took > Duration::from_millis(8_900) && took < Duration::from_secs(14), "{took:?}");

    // One that was over while nobody was there is ended at once.
    bench.plane.come_back().await;
    let (id, wanted) = pause(&tenants[0], 2_000, 2_000);
    bench.say(1, &tenants, &[wanted]);
    bench.plane.until_pause(&id, "paused").await;
    bench.end(Signal::SIGKILL);
    let waiting = client(&bench, &tenants[0]);
    tokio::time::sleep(Duration::from_secs(2)).await;
    waits(&waiting).await;
    bench.start(&[]);
    answered(waiting).await;
    bench.plane.until_pause(&id, "resumed").await;

    // Who stops an agent in order leaves nobody waiting.
    let (id, wanted) = pause(&tenants[0], 2_000, LONG);
    bench.say(1, &tenants, &[wanted]);
    bench.plane.until_pause(&id, "paused").await;
    let waiting = client(&bench, &tenants[0]);
    waits(&waiting).await;
    bench.end(Signal::SIGTERM);
    answered(waiting).await;
}

pub async fn a_pause_that_cannot_drain_names_who_held_it(version: &'static str) {
    let (mut bench, tenants) = Bench::with_tenants(version, 1).await;
    let holder = bench.login(&tenants[0]).await.unwrap();
    holder.execute_script("begin; select 1").await.unwrap();
    let (id, wanted) = pause(&tenants[0], 400, LONG);
    bench.say(1, &tenants, std::slice::from_ref(&wanted));
    let told = bench.plane.until_pause(&id, "held").await;
    assert!(told["detail"].as_str().unwrap().contains("held by tenant0_login from 127.0.0.1"), "{told}");
    assert_eq!(ask(&bench.login(&tenants[0]).await.unwrap(), "select 1").await, "1");
    // The same one is not begun again, however long the plane goes on about it; another one is.
    holder.execute_script("commit").await.unwrap();
    let (other, wanted_too) = pause(&tenants[0], 400, LONG);
    bench.say(1, &tenants, &[wanted, wanted_too]);
    bench.plane.until_pause(&other, "paused").await;
    bench.plane.until_pause(&id, "held").await;
    let (nobody, mut unknown) = pause(&tenants[0], 400, LONG);
    unknown["database"] = json!("nobody");
    bench.say(1, &tenants, &[unknown]);
    let told = bench.plane.until_pause(&nobody, "failed").await;
    assert_eq!(told["detail"], "\"nobody\" is no database of this pooler");
}

pub async fn a_change_of_a_paused_entry_waits_for_its_end(version: &'static str) {
    let (mut bench, mut tenants) = Bench::with_tenants(version, 1).await;
    let (id, wanted) = pause(&tenants[0], 5_000, LONG);
    bench.say(1, &tenants, std::slice::from_ref(&wanted));
    bench.plane.until_pause(&id, "paused").await;
    let waiting = client(&bench, &tenants[0]);
    // Somebody else's change comes into force, and wakes nobody.
    tenants.push(bench.tenant("other").await);
    bench.say(2, &tenants, std::slice::from_ref(&wanted));
    bench.plane.until_in_force(2).await;
    bench.login(&tenants[1]).await.unwrap();
    waits(&waiting).await;
    // Its own does not, until the pause is taken back: then who waited goes the new way.
    let moved = bench.tenant("moved").await;
    bench
        .cluster
        .connect("postgres")
        .await
        .batch_execute("GRANT CONNECT ON DATABASE moved TO tenant0_login")
        .await
        .unwrap();
    let mut assignment = bench.assignment(3, &tenants, &[wanted]);
    assignment["served"]["entries"][0]["database"] = json!(moved.name);
    bench.plane.say(assignment.clone());
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(bench.plane.reports().last().unwrap()["generation"], 2);
    waits(&waiting).await;
    assignment["pauses"] = json!([]);
    bench.plane.say(assignment);
    bench.plane.until_in_force(3).await;
    answered(waiting).await;
    let session = bench.login(&tenants[0]).await.unwrap();
    assert_eq!(ask(&session, "select current_database()").await, "moved");
}
