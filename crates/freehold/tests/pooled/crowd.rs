//! Tenants at work while others come and go: nobody who works notices a reload.

use std::process::Stdio;

use freehold_testkit::{Plane, engine, is_soak};
use futures::StreamExt;
use futures::future::try_join_all;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reqwest::Method;
use serde_json::json;
use tokio::process::Command;

use crate::bench::PATIENCE;
use crate::story::{create, dev, pooler};

const AT_WORK: u32 = 8;
/// They end when they are told to.
const LONG: &str = "86400";
/// How many of the others are at it at a time: each waits for a reload, and there is one in a second.
const ABREAST: usize = 6;

/// They come, are given another credential, and go.
pub async fn who_works_notices_nothing_of_those_who_come_and_go(version: &'static str) {
    let others = if is_soak() { 500 } else { 12 };
    let plane = dev(version, AT_WORK).await;
    let pgbench = engine(15).join("pgbench");
    let mut at_work = Vec::new();
    for number in 0..AT_WORK {
        create(&plane, &format!("at-work-{number}")).await;
        let url = plane.cli(&["tenant", "url", &format!("at-work-{number}")]).stdout;
        let url = String::from_utf8(url).expect("text").trim().to_owned();
        let made = Command::new(&pgbench).args(["-i", "-q", "-s", "1"]).arg(&url).output().await.expect("pgbench");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let mut works = Command::new(&pgbench);
        works.args(["-n", "-c", "1", "-T", LONG, &url]).stdout(Stdio::piped()).stderr(Stdio::piped());
        at_work.push(works.kill_on_drop(true).spawn().expect("pgbench"));
    }
    let before = pooler(&plane).await["reloads"].as_u64().unwrap_or_default();
    let come_and_go = (0..others).map(|number| come_and_go(&plane, format!("other-{number}")));
    futures::stream::iter(come_and_go).for_each_concurrent(ABREAST, |one| one).await;
    for works in &mut at_work {
        assert!(works.try_wait().expect("look at pgbench").is_none(), "pgbench gave up");
        // What its own clock sends it when its time is over.
        kill(Pid::from_raw(works.id().expect("pgbench runs").cast_signed()), Signal::SIGALRM).expect("tell pgbench");
    }
    let ended = async { try_join_all(at_work.into_iter().map(|works| works.wait_with_output())).await };
    for told in tokio::time::timeout(PATIENCE, ended).await.expect("pgbench ends in time").expect("pgbench") {
        let (stdout, stderr) = (String::from_utf8_lossy(&told.stdout), String::from_utf8_lossy(&told.stderr));
        assert!(told.status.success(), "{stdout}{stderr}");
        assert!(stdout.contains("number of failed transactions: 0 "), "{stdout}{stderr}");
    }
    let reloads = pooler(&plane).await["reloads"].as_u64().unwrap_or_default() - before;
    assert!(reloads >= 2, "{reloads} reloads: nothing was tried");
}

async fn come_and_go(plane: &Plane, id: String) {
    create(plane, &id).await;
    let rotate = format!("/v1/tenants/{id}/credentials/rotate");
    let headers = [("prefer", "wait=60")];
    let (status, _, body) = plane.request(Method::POST, &rotate, &headers, Some(json!({"immediate": true}))).await;
    assert_eq!((status, &body["retiring"]), (200, &json!(null)), "{body}");
    let (status, _, body) = plane.delete(&format!("/v1/tenants/{id}?confirm={id}&purge=true")).await;
    assert!([200, 202].contains(&status), "{status} {body}");
}
