//! Long work: waited for by the request, then by events; left alone when the wait is over.

use crate::fake::{Answer, Asked, Fake, OPERATION, connection, event, operation, problem, tenant};

fn is_events(asked: &Asked) -> bool {
    asked.line.ends_with("/events")
}

#[tokio::test]
async fn a_create_that_takes_long_is_followed_to_its_end() {
    let fake = Fake::start(|asked, _| match asked.line.as_str() {
        "POST /v1/tenants" => Answer::Json(202, operation("queued")),
        line if line.ends_with("/events") => {
            Answer::Events(format!(": hello\n\n{}{}", event(1, "running", "Role"), event(2, "succeeded", "Activate")))
        }
        line if line.ends_with("/connection") => Answer::Json(200, connection()),
        line if line.contains("/operations/") => Answer::Json(200, operation("succeeded")),
        _ => Answer::Json(200, tenant("acme")),
    })
    .await;
    let ran = fake.run(&["tenant", "create", "acme"]).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(
        ran.stdout.ends_with("url        postgres://u:p%27w@db.example:6432/d?sslmode=require\n"),
        "{}",
        ran.stdout
    );
}

#[tokio::test]
async fn a_key_that_may_not_read_credentials_still_creates() {
    let fake = Fake::start(|asked, _| match asked.line.as_str() {
        "POST /v1/tenants" => Answer::Json(202, operation("succeeded")),
        line if line.ends_with("/connection") => problem(403, "denied"),
        _ => Answer::Json(200, tenant("acme")),
    })
    .await;
    let ran = fake.run(&["tenant", "create", "acme"]).await;
    assert_eq!(ran.code, 0);
    assert!(ran.stderr.contains("lacks the scope"), "{}", ran.stderr);
}

#[tokio::test]
async fn a_server_that_takes_long_to_look_at_is_waited_for() {
    let fake = Fake::start(|asked, _| match asked.line.as_str() {
        "POST /v1/servers" => Answer::Json(202, operation("running")),
        line if line.ends_with("/events") => Answer::Events(event(1, "failed", "Probe")),
        _ => Answer::Json(200, operation("failed")),
    })
    .await;
    let ran = fake.run(&["server", "add", "one", "--dsn", "postgres://a:secret@h/postgres"]).await;
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("no CREATEDB") && !ran.stderr.contains("secret"), "{}", ran.stderr);
}

#[tokio::test]
async fn who_does_not_wait_gets_the_operation() {
    let fake = Fake::start(|_, _| Answer::Json(202, operation("queued"))).await;
    let ran = fake.run(&["tenant", "create", "acme", "--no-wait"]).await;
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "tenant.create tenant:acme queued\n"));
    assert_eq!(ran.stderr, format!("next: freehold operation watch {OPERATION}\n"));
    assert_eq!(fake.seen()[0].headers["prefer"], "wait=0");
}

#[tokio::test]
async fn a_wait_that_expires_is_8() {
    let fake = Fake::start(|_, _| Answer::Json(202, operation("running"))).await;
    let ran = fake.run(&["tenant", "suspend", "acme", "--wait", "1"]).await;
    assert_eq!(ran.code, 8);
    assert!(ran.stderr.contains(&format!("next: freehold operation watch {OPERATION}")), "{}", ran.stderr);
}

#[tokio::test]
async fn a_watch_reconnects_after_the_last_event_it_saw() {
    let fake =
        Fake::start(|asked, _| match (is_events(asked), asked.headers.get("last-event-id").map(String::as_str)) {
            (true, None) => Answer::Events(format!("{}{}", event(1, "queued", "Role"), event(2, "running", "Role"))),
            (true, Some("2")) => {
                Answer::Events(format!("{}{}", event(2, "running", "Role"), event(3, "succeeded", "Activate")))
            }
            (true, _) => Answer::HangUp,
            (false, last) => {
                assert_eq!(last, None);
                Answer::Json(200, operation("running"))
            }
        })
        .await;
    let url = fake.url.clone();
    let watched = tokio::spawn(async move {
        crate::fake::Run::new(&[])
            .env("FREEHOLD_URL", &url)
            .env("FREEHOLD_API_KEY", "k")
            .run(&["operation", "watch", OPERATION])
            .await
    });
    // The operation itself says "running" for ever: the watch must not take an event's word for it.
    tokio::time::sleep(std::time::Duration::from_millis(800)).await;
    assert!(!watched.is_finished());
    watched.abort();
    let last: Vec<_> =
        fake.seen().iter().filter(|asked| is_events(asked)).map(|a| a.headers.get("last-event-id").cloned()).collect();
    assert_eq!(last[..3], [None, Some("2".into()), Some("3".into())]);
}

#[tokio::test]
async fn a_watch_ends_as_the_operation_ended() {
    for (state, exit) in [("succeeded", 0), ("failed", 1), ("cancelled", 1), ("stuck", 11)] {
        let fake = Fake::start(move |asked, before| match (is_events(asked), before) {
            (true, _) => Answer::Events(format!("{}{}", event(1, "running", "Database"), event(2, state, "Database"))),
            (false, 0) => Answer::Json(200, operation("running")),
            (false, _) => Answer::Json(200, operation(state)),
        })
        .await;
        let ran = fake.run(&["operation", "watch", OPERATION]).await;
        assert_eq!(ran.code, exit, "{state}: {}", ran.stderr);
        assert_eq!(
            ran.stdout,
            format!("2026-01-10T11:59:00Z  running Database\n2026-01-10T11:59:00Z  {state} Database\n")
        );
        if state == "stuck" {
            insta::assert_snapshot!(ran.stderr, @r"
            error: tenant.create of tenant:acme is stuck at step Database: no CREATEDB (admin_denied)
            next: freehold operation retry 01970000-0000-7000-8000-000000000001, or freehold operation resolve 01970000-0000-7000-8000-000000000001 --as undone --reason …
            ");
        }
    }
}

#[tokio::test]
async fn a_watch_of_nothing_is_4() {
    let fake = Fake::start(|_, _| problem(404, "not_found")).await;
    assert_eq!(fake.run(&["operation", "watch", OPERATION]).await.code, 4);
}

#[tokio::test]
async fn a_purge_says_what_is_gone() {
    let fake = Fake::start(|_, _| Answer::Json(204, serde_json::Value::Null)).await;
    let ran = fake.run(&["tenant", "purge", "acme", "--confirm", "acme"]).await;
    assert_eq!((ran.code, fake.seen()[0].line.as_str()), (0, "DELETE /v1/tenants/acme?confirm=acme&purge=true"));
    assert!(ran.stdout.starts_with("tenant acme is purged"), "{}", ran.stdout);
}

/// Runs in a process of its own, because a signal goes to all of it.
#[tokio::test]
#[ignore = "started by an_interrupt_leaves_the_work_running"]
#[allow(clippy::print_stdout, reason = "how it tells the test that started it")]
async fn interrupted() {
    let Ok(url) = std::env::var("FREEHOLD_TEST_URL") else { return };
    let run = crate::fake::Run::new(&[]).env("FREEHOLD_URL", &url).env("FREEHOLD_API_KEY", "k");
    let ran = run.run(&["tenant", "create", "acme"]).await;
    println!("code {} said {}", ran.code, ran.stderr);
}

#[tokio::test]
async fn an_interrupt_leaves_the_work_running() {
    let fake = Fake::start(|asked, _| match asked.line.as_str() {
        "POST /v1/tenants" => Answer::Json(202, operation("running")),
        _ => Answer::Json(200, operation("running")),
    })
    .await;
    let child = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "story_waits::interrupted", "--ignored", "--nocapture"])
        .env("FREEHOLD_TEST_URL", &fake.url)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    while fake.seen().len() < 3 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let pid = nix::unistd::Pid::from_raw(child.id().unwrap().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    let said = String::from_utf8(child.wait_with_output().await.unwrap().stdout).unwrap();
    assert!(
        said.contains("code 130") && said.contains(&format!("next: freehold operation watch {OPERATION}")),
        "{said}"
    );
    assert!(!fake.seen().iter().any(|asked| asked.line.contains("cancel")));
}
