//! What people and programs read: tables, single things, JSON, findings, help.

use clap::CommandFactory;
use serde_json::{Value, json};

use crate::fake::{Answer, Dir, Fake, Program, Run, connection, operation, tenant};

fn page(items: Value) -> Answer {
    Answer::Json(200, json!({ "items": items, "next_cursor": null }))
}

fn server() -> Value {
    json!({
        "id": "local-1", "kind": "shared", "state": "active", "health": "degraded", "health_message": "slow",
        "checked_at": "2026-01-10T11:59:00Z", "capacity": 500, "tenants": 12, "stock": 20, "has_room": true,
        "dsn": "postgres://admin@db-1.internal:5432/postgres", "host": "db-1.internal", "port": 5432, "sslmode": "verify-full",
        "region": null, "postgres_version": "17.6", "operation": null, "created_at": "2026-01-01T00:00:00Z",
        "findings": [
            { "code": "temp_file_limit_not_settable", "severity": "low", "message": "no superuser" },
            { "code": "public_connect_not_revoked", "severity": "medium", "message": "anyone may connect to postgres" }
        ]
    })
}

#[tokio::test]
async fn tables_fit_a_hundred_columns() {
    let mut other = tenant("initech");
    other["name"] = json!("Initech \u{1b}[31m& Söhne");
    other["state"] = json!("suspended");
    other["server"] = Value::Null;
    let fake = Fake::start(move |asked, _| match asked.line.split('?').next().unwrap() {
        "GET /v1/tenants" => page(json!([tenant("acme"), other])),
        "GET /v1/servers" => page(json!([server()])),
        "GET /v1/plans" => page(json!([{ "name": "pro", "rank": 2, "storage_quota": 10_737_418_240u64 }, { "name": "standard", "default": true }])),
        "GET /v1/operations" => page(json!([operation("running")])),
        "GET /v1/audit" => page(json!([{
            "id": "01970000-0000-7000-8000-000000000009", "at": "2026-01-10T11:00:00Z", "actor": "key:x", "actor_name": "ci",
            "action": "tenant.delete", "subject": "tenant:acme", "outcome": "denied", "reason": "deletion_protected",
            "request_id": null, "client": null, "details": {}
        }])),
        "GET /v1/keys" => page(json!([{
            "id": "01970000-0000-7000-8000-000000000002", "name": "ci", "prefix": "fh_abc", "scopes": ["provision", "read"],
            "tenants": null, "expires_at": "2026-01-20T12:00:00Z", "revoked_at": null, "last_used_at": null,
            "created_at": "2026-01-01T00:00:00Z"
        }])),
        "GET /v1/freezes" => page(json!([])),
        other => panic!("{other}"),
    })
    .await;
    let mut printed = String::new();
    for noun in ["tenant", "server", "plan", "operation", "audit", "key"] {
        let run = Run::new(&[]).env("FREEHOLD_URL", &fake.url).env("FREEHOLD_API_KEY", "k");
        let ran = run
            .with(|around| around.now = "2026-01-10T12:00:00Z".parse().unwrap())
            .on_a_terminal()
            .run(&[noun, "list"])
            .await;
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        assert!(ran.stdout.lines().all(|line| line.chars().count() <= 100), "{}", ran.stdout);
        printed.push_str(&format!("$ {noun} list\n{}\n", ran.stdout));
    }
    insta::assert_snapshot!("tables", printed);
    assert_eq!(fake.run(&["freeze"]).await.stderr, "nothing is frozen\n");
}

/// What blocks, what slows, what is good to know; then what is left, and what next. The exit code says how bad it is.
#[tokio::test]
async fn what_a_move_would_take_is_grouped_and_sets_the_exit_code() {
    let finding = |code: &str, severity: &str, blocks: Value| {
        json!({ "code": code, "severity": severity, "blocks": blocks, "message": format!("{code} was found"),
            "count": 12, "objects": ["public.a", "public.\u{1b}[31m"], "handled": "does its best", "next": format!("mend {code}") })
    };
    let found = move |methods: Value, findings: Value| {
        let estimate = |method: &Value| {
            json!({ "method": method, "copy_bytes": 83_886_080, "index_bytes": 20_971_520, "seconds": 127.6, "stall_seconds": 0.1,
                "copy_bytes_per_second": 20_971_520 })
        };
        let estimates: Vec<Value> = methods.as_array().unwrap().iter().map(estimate).collect();
        json!({ "tenant": "acme", "server": "local-1", "at": "2026-01-10T12:00:00Z",
            "to": { "server": "local-2", "server_pool": null, "plan": null, "region": null }, "methods": methods, "score": 35,
            "estimates": estimates, "traffic": { "wal_bytes_per_second": 2048.0, "rows_per_second": 12.0 }, "findings": findings })
    };
    let (slow, note) = (finding("unlogged_table", "slows", json!([])), finding("sequences", "note", json!([])));
    let blocking = finding("no_equality", "blocks", json!(["logical"]));
    let answers = [
        (found(json!(["logical", "dump"]), json!([note.clone()])), 0),
        (found(json!(["logical", "dump"]), json!([slow.clone(), note.clone()])), 10),
        (found(json!(["dump"]), json!([blocking, slow, note])), 11),
        (found(json!([]), json!([])), 12),
    ];
    let mut printed = String::new();
    for (answer, code) in answers {
        let fake = Fake::start(move |_, _| Answer::Json(200, answer.clone())).await;
        let ran = fake.run(&["tenant", "movability", "acme", "--to", "plan:pro"]).await;
        assert_eq!(ran.code, code, "{}{}", ran.stdout, ran.stderr);
        assert_eq!(fake.seen()[0].line, "POST /v1/tenants/acme/movability");
        assert_eq!(fake.seen()[0].body, r#"{"to":{"plan":"pro"}}"#);
        printed.push_str(&format!("$ exit {code}\n{}{}\n", ran.stdout, ran.stderr));
    }
    insta::assert_snapshot!("movability", printed);
    let fake = Fake::start(|_, _| Answer::Json(200, json!({}))).await;
    assert_eq!(fake.run(&["tenant", "movability", "acme", "--to", "pool:x"]).await.code, 2);
}

#[tokio::test]
async fn lists_are_read_to_their_end_or_their_limit() {
    let fake = Fake::start(|asked, _| {
        let (id, next) = if asked.line.contains("cursor=c1") { ("b", Value::Null) } else { ("a", json!("c1")) };
        Answer::Json(200, json!({ "items": [tenant(id)], "next_cursor": next }))
    })
    .await;
    let ran = fake.run(&["tenant", "list", "--label", "a=1&x", "--label", "b=2", "--state", "active", "--json"]).await;
    let printed: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(printed["items"].as_array().unwrap().len(), 2);
    assert_eq!(fake.seen()[1].line, "GET /v1/tenants?state=active&label=a%3D1%26x&label=b%3D2&limit=500&cursor=c1");
    let ran = fake.run(&["tenant", "list", "--limit", "1"]).await;
    assert_eq!((fake.seen().len(), ran.stdout.lines().count()), (3, 2));
    assert!(ran.stderr.contains("there are more"));
}

#[tokio::test]
async fn a_connection_in_every_format_and_nothing_else() {
    let fake = Fake::start(|_, _| Answer::Json(200, connection())).await;
    let mut printed = String::new();
    for format in ["url", "env", "pgpass", "jdbc", "libpq"] {
        let ran = fake.run(&["tenant", "url", "acme", "--format", format, "--direct"]).await;
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
        printed.push_str(&format!("{}\n", ran.stdout));
    }
    insta::assert_snapshot!("formats", printed);
    assert!(fake.run(&["tenant", "url", "acme"]).await.stdout.contains(":6432/"));
}

#[tokio::test]
async fn without_psql_it_says_how_to_get_it() {
    let fake = Fake::start(|_, _| Answer::Json(200, connection())).await;
    let run = Run::new(&[]).env("FREEHOLD_URL", &fake.url).env("FREEHOLD_API_KEY", "k").env("PATH", "/nonexistent");
    let ran = run.run(&["tenant", "psql", "acme", "--", "-c", "select 1"]).await;
    assert_eq!(ran.code, 3);
    assert!(ran.stderr.contains("postgresql-client") && !ran.stderr.contains("p'w"), "{}", ran.stderr);
}

#[tokio::test]
async fn a_servers_password_comes_from_stdin_and_findings_set_the_exit_code() {
    let fake = Fake::start(|_, _| Answer::Json(201, server())).await;
    let run = Run::new(b"postgres://a:secret@h/postgres\n").env("FREEHOLD_URL", &fake.url).env("FREEHOLD_API_KEY", "k");
    let ran = run.run(&["server", "add", "local-1", "--dsn", "-", "--capacity", "9", "--kind", "dedicated"]).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(
        fake.seen()[0].body,
        r#"{"capacity":9,"dsn":"postgres://a:secret@h/postgres","id":"local-1","kind":"dedicated"}"#
    );
    assert!(!ran.stdout.contains("secret"));
    let ran = fake.run(&["server", "check", "local-1"]).await;
    assert_eq!((ran.code, ran.stderr.as_str()), (11, ""));
    insta::assert_snapshot!("server", ran.stdout);
}

#[tokio::test]
async fn status_is_worst_first_with_the_next_command() {
    let concern = |severity: &str, message: &str, next: Value| json!({ "severity": severity, "code": "c", "message": message, "next": next });
    let status = json!({
        "concerns": [
            concern("low", "stock of default on local-1 is 3 of 20", Value::Null),
            concern("high", "operation 0197 is stuck", json!("freehold operation show 0197"))
        ],
        "tenants": { "creating": 0, "active": 12, "failed": 1, "suspended": 0, "deleted": 0 },
        "stock": [{ "server": "local-1", "template": "default", "ready": 3, "building": 2, "wanted": 20 }],
        "operations": { "queued": 0, "running": 2, "waiting": 0, "undoing": 0, "stuck": 1 },
        "frozen": [{ "target": "stock", "until": null, "by": "key:ops" }]
    });
    let calm = json!({ "concerns": [], "tenants": status["tenants"], "stock": [], "operations": status["operations"], "frozen": [] });
    let fake =
        Fake::start(move |_, before| Answer::Json(200, if before == 0 { status.clone() } else { calm.clone() })).await;
    let ran = fake.run(&["status"]).await;
    assert_eq!(ran.code, 12);
    insta::assert_snapshot!("status", ran.stdout);
    assert_eq!(fake.run(&["status"]).await.code, 0);
}

#[tokio::test]
async fn changes_send_exactly_what_was_said() {
    let fake = Fake::start(|asked, _| match asked.line.as_str() {
        line if line.contains("freezes") => {
            Answer::Json(200, json!({ "target": "all", "until": "2026-01-10T13:00:00Z", "by": "key:ops" }))
        }
        line if line.contains("keys") => Answer::Json(204, Value::Null),
        line if line.contains("operations") => Answer::Json(200, operation("succeeded")),
        _ => Answer::Json(200, tenant("acme")),
    })
    .await;
    let id = crate::fake::OPERATION;
    for (args, line, body) in [
        (
            &["tenant", "update", "acme", "--label", "a=b", "--remove-label", "c", "--deletion-protection", "off"][..],
            "PATCH /v1/tenants/acme".to_owned(),
            r#"{"deletion_protection":false,"labels":{"a":"b","c":null}}"#,
        ),
        (
            &["tenant", "suspend", "acme", "--reason", "unpaid"],
            "POST /v1/tenants/acme/suspend".into(),
            r#"{"reason":"unpaid"}"#,
        ),
        (&["tenant", "resume", "acme"], "POST /v1/tenants/acme/resume".into(), "{}"),
        (&["tenant", "undelete", "acme"], "POST /v1/tenants/acme/undelete".into(), "{}"),
        (&["freeze", "--all", "--for", "1h"], "POST /v1/freezes".into(), r#"{"for_seconds":3600,"target":"all"}"#),
        (&["thaw", "--all"], "DELETE /v1/freezes/all".into(), ""),
        (
            &["operation", "resolve", id, "--as", "undone", "--reason", "by hand"],
            format!("POST /v1/operations/{id}/resolve"),
            r#"{"as":"undone","reason":"by hand"}"#,
        ),
        (&["key", "revoke", id], format!("DELETE /v1/keys/{id}"), ""),
    ] {
        let ran = fake.run(args).await;
        assert_eq!(ran.code, 0, "{args:?}: {}", ran.stderr);
        let asked = fake.seen().pop().unwrap();
        assert_eq!((asked.line, asked.body.as_str()), (line, body));
    }
}

#[tokio::test]
async fn a_key_is_shown_once() {
    let fake = Fake::start(|_, _| {
        Answer::Json(201, json!({
            "id": "01970000-0000-7000-8000-000000000002", "name": "ci", "prefix": "fh_abc", "scopes": ["provision"], "tenants": ["acme"],
            "expires_at": "2026-02-09T12:00:00Z", "revoked_at": null, "last_used_at": null, "created_at": "2026-01-10T12:00:00Z",
            "key": "fh_abcdef"
        }))
    })
    .await;
    let ran =
        fake.run(&["key", "create", "ci", "--scope", "provision,read", "--tenant", "acme", "--expires", "30d"]).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(
        fake.seen()[0].body,
        r#"{"expires_at":"2026-02-09T12:00:00Z","name":"ci","scopes":["provision","read"],"tenants":["acme"]}"#
    );
    assert!(ran.stdout.contains("fh_abcdef") && ran.stderr.contains("not shown again"));
}

#[tokio::test]
async fn a_template_starts_as_a_commented_skeleton_and_links_are_refused() {
    let dir = Dir::new();
    let path = dir.path("shop");
    assert_eq!(Run::new(&[]).run(&["template", "new", &path]).await.code, 0);
    assert_eq!(Run::new(&[]).run(&["template", "new", &path]).await.code, 2);
    let ran = Run::new(&[]).run(&["template", "check", &path]).await;
    assert_eq!(ran.code, 0, "{}", ran.stdout);
    std::fs::write(dir.path("shop/template.toml"), "colour = 1").unwrap();
    let ran = Run::new(&[]).run(&["template", "check", &path, "--json"]).await;
    let checked: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((ran.code, &checked["valid"]), (12, &json!(false)));
    assert!(checked["faults"][0].as_str().unwrap().contains("colour"), "{checked}");
    let fake = Fake::start(|_, _| crate::fake::problem(403, "denied")).await;
    assert_eq!(fake.run(&["template", "add", &path]).await.code, 6);
    let sent: Value = serde_json::from_str(&fake.seen()[0].body).unwrap();
    let names: Vec<_> = sent["files"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(
        (sent["name"].as_str(), names),
        (Some("shop"), vec!["migrations/0001_init.sql".to_owned(), "template.toml".to_owned()])
    );
    std::os::unix::fs::symlink("/etc/hostname", dir.path("shop/more.sql")).unwrap();
    let ran = Run::new(&[]).run(&["template", "check", &path]).await;
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("link"), "{}", ran.stderr);
}

#[test]
fn help_texts() {
    let mut all = String::new();
    write_help(&mut Program::command().term_width(100), &mut all, "freehold");
    insta::assert_snapshot!("help", all);
}

fn write_help(command: &mut clap::Command, all: &mut String, name: &str) {
    // What every command shares is shown once.
    let mut own = command.clone().bin_name(name).term_width(100);
    if name != "freehold" {
        own = own.mut_args(|arg| if arg.is_global_set() { arg.hide(true) } else { arg });
    }
    all.push_str(&format!("$ {name} --help\n{}\n", own.render_help()));
    for child in command.get_subcommands_mut().filter(|child| child.get_name() != "help") {
        let name = format!("{name} {}", child.get_name());
        write_help(child, all, &name);
    }
}

/// Runs in a process of its own, because psql takes the process's place.
#[tokio::test]
#[ignore = "started by psql_gets_the_connection_by_its_environment"]
async fn becomes_psql() {
    let (Ok(url), Ok(path)) = (std::env::var("FREEHOLD_TEST_URL"), std::env::var("FREEHOLD_TEST_PATH")) else { return };
    let run = Run::new(&[]).env("FREEHOLD_URL", &url).env("FREEHOLD_API_KEY", "k").env("PATH", &path);
    run.env("XDG_CACHE_HOME", &path).run(&["tenant", "psql", "acme", "--", "-c", "select 1"]).await;
}

#[tokio::test]
async fn psql_gets_the_connection_by_its_environment() {
    use std::os::unix::fs::PermissionsExt;
    let dir = Dir::new();
    std::fs::write(
        dir.path("psql"),
        "#!/bin/sh\necho \"args:$*\"\necho \"$PGUSER/$PGPASSWORD@$PGHOST:$PGPORT/$PGDATABASE $PGSSLMODE\"\n\
         echo \"service:$PGSERVICE key:$FREEHOLD_API_KEY\"\nread -r line < \"$PGSSLROOTCERT\"; echo \"ca:$line\"\n",
    )
    .unwrap();
    std::fs::set_permissions(dir.path("psql"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let fake = Fake::start(|_, _| {
        let mut connection = connection();
        connection["ca_certificate"] = json!("the server's");
        connection["pooled"]["ca_certificate"] = json!("PEM");
        Answer::Json(200, connection)
    })
    .await;
    let output = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "story_shows::becomes_psql", "--ignored", "--nocapture"])
        .envs([("FREEHOLD_TEST_URL", fake.url.as_str()), ("FREEHOLD_TEST_PATH", &dir.path(""))])
        .envs([("PGSERVICE", "other"), ("FREEHOLD_API_KEY", "fh_x")])
        .output()
        .await
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let told = "args:-c select 1\nu/p'w@db.example:6432/d require\nservice: key:\nca:PEM\n";
    assert!(said.ends_with(told), "{said}");
}
