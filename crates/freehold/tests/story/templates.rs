//! Issue 2, item 4: templates are versioned by content, run with bound values, and say what they lack.

use freehold_testkit::Plane;
use serde_json::{Value as Json, json};

use crate::common::{
    add_template_body, admin, create_as, dev, exits, expect, log_in, problem, stderr, stdout, template, text, until,
    until_stock, walk,
};

const PLAIN: &str = "description = \"a test\"\n";

async fn add(plane: &Plane, name: &str, files: &[(&str, &str)]) -> Json {
    let answer = plane.post("/v1/templates", add_template_body(name, files)).await;
    expect(&answer, 201).clone()
}

#[tokio::test]
async fn story_a_template_is_written_added_used_and_changed() {
    let plane = dev().stock(1).start().await;
    exits(plane.cli(&["template", "new", "app"]), 0);
    exits(plane.cli(&["template", "check", "app"]), 0);
    let added = exits(plane.cli(&["template", "add", "app", "--json"]), 0);
    let first: Json = serde_json::from_str(&stdout(&added)).unwrap();
    exits(plane.cli(&["template", "show", "app"]), 0);
    exits(plane.cli(&["tenant", "create", "one", "--template", "app"]), 0);
    let one = plane.get("/v1/tenants/one/connection").await.2;
    let session = log_in(&one).await;
    session.batch_execute("INSERT INTO note (body) VALUES ('mine')").await.unwrap();
    until_stock(&plane, "app", 1).await;

    // The same again is the same version.
    let again = exits(plane.cli(&["template", "add", "app", "--json"]), 0);
    assert_eq!(serde_json::from_str::<Json>(&stdout(&again)).unwrap()["version"], first["version"]);

    let app = plane.directory().join("app");
    template(&app, &[("migrations/0002_more.sql", "ALTER TABLE note ADD COLUMN author text;")]);
    let added = exits(plane.cli(&["template", "add", "app", "--json"]), 0);
    let second: Json = serde_json::from_str(&stdout(&added)).unwrap();
    assert_ne!(second["version"], first["version"]);
    let two = create_as(&plane, json!({"id": "two", "template": "app"})).await;
    let newer = log_in(&two["connection"]).await;
    newer.batch_execute("INSERT INTO note (body, author) VALUES ('x', 'y')").await.unwrap();
    let short = |template: &Json| json!(template["version"].as_str().unwrap()[..12]);
    assert_eq!(two["template_version"], short(&second));
    // Who was there keeps what they have.
    assert_eq!(plane.get("/v1/tenants/one").await.2["template_version"], short(&first));
    assert!(session.simple_query("SELECT author FROM note").await.is_err());
    assert_eq!(text(&session, "SELECT body FROM note").await, "mine");
    // The old stock goes, in the background; new stock comes.
    until_stock(&plane, "app", 1).await;
    let control = crate::common::store(&plane).await;
    let version = first["version"].as_str().unwrap().to_owned();
    until("the old stock goes", async || {
        let sql = "SELECT count(*) FROM tenant_database WHERE template = 'app' AND template_version = $1 AND tenant_id IS NULL";
        match control.query_one(sql, &[&version]).await.unwrap().get::<_, i64>(0) {
            0 => Ok(()),
            left => Err(left.to_string()),
        }
    })
    .await;

    // What is wrong is said all at once, before anything is kept.
    template(&app, &[("migrations/0003_bad.sql", "CREATE TABLE half ("), ("notes.txt", "not for a template")]);
    let bad = exits(plane.cli(&["template", "check", "app"]), 12);
    assert!(stdout(&bad).contains("notes.txt"), "{}", stdout(&bad));
    let refused = exits(plane.cli(&["template", "add", "app"]), 2);
    assert!(stderr(&refused).contains("notes.txt"), "{}", stderr(&refused));
    assert_eq!(plane.get("/v1/templates/app").await.2["version"], second["version"]);
    exits(plane.cli(&["template", "show", "none"]), 4);
}

#[tokio::test]
async fn story_sql_that_fails_is_named_and_the_next_version_heals_it() {
    let plane = dev().stock(1).start().await;
    add(&plane, "sick", &[("template.toml", PLAIN), ("migrations/0001_x.sql", "SELECT nonsense_that_fails();")]).await;
    let answer = plane.post("/v1/tenants", json!({"id": "acme", "template": "sick"})).await;
    assert!((400..500).contains(&answer.0), "{} {}", answer.0, answer.2);
    let detail = answer.2["detail"].as_str().unwrap();
    assert!(detail.contains("0001_x.sql") && detail.contains("nonsense_that_fails"), "{detail}");
    let status = plane.get("/v1/status").await.2;
    assert!(status["concerns"].to_string().contains("sick"), "{status}");
    add(&plane, "sick", &[("template.toml", PLAIN), ("migrations/0001_x.sql", "SELECT 1;")]).await;
    log_in(&create_as(&plane, json!({"id": "acme", "template": "sick"})).await["connection"]).await;
}

#[tokio::test]
async fn story_what_only_the_claim_knows_is_bound_and_never_pasted() {
    let plane = dev().stock(2).start().await;
    let files = [
        ("template.toml", PLAIN),
        ("migrations/0001_info.sql", "CREATE TABLE info (id text, name text, region text, site text);"),
        (
            "claim.sql",
            "INSERT INTO info SELECT current_setting('freehold.tenant_id'), current_setting('freehold.tenant_name'),
                current_setting('freehold.tenant_region'), current_setting('freehold.label_site', true)
             WHERE NOT EXISTS (SELECT FROM info);",
        ),
    ];
    add(&plane, "informed", &files).await;
    let names = [
        "O'Brien'); DROP TABLE info; --",
        "$$; SELECT pg_sleep(100); $$ $1 $tag$ :x {tenant} %s %n",
        "\"quoted\" \\ back\\slash \\' E'\\n'",
        "line\nbreak\ttab\r\u{1b}[31m",
        "Ærø 日本語 שלום \u{202e}LTR 🦆\u{1f468}\u{200d}\u{1f469}",
        "'",
    ];
    for (n, name) in names.iter().enumerate() {
        let body =
            json!({"id": format!("t{n}"), "name": name, "template": "informed", "labels": {"site": name, "O'x": "y"}});
        let made = create_as(&plane, body).await;
        assert_eq!(made["name"], *name);
        let session = log_in(&made["connection"]).await;
        let row = session.query_one("SELECT id, name, region, site FROM info", &[]).await.unwrap();
        let found: [String; 4] = std::array::from_fn(|column| row.get(column));
        assert_eq!(found, [format!("t{n}"), (*name).to_owned(), String::new(), (*name).to_owned()]);
    }
    // A claim that fails is taken back and named.
    let files = [("template.toml", PLAIN), ("claim.sql", "SELECT 1/0;")];
    add(&plane, "broken", &files).await;
    let body = json!({"id": "broken", "template": "broken"});
    let answer = plane.request(reqwest::Method::POST, "/v1/tenants", &[("prefer", "wait=60")], Some(body)).await;
    assert!((400..500).contains(&answer.0), "{} {}", answer.0, answer.2);
    assert!(answer.2["detail"].as_str().unwrap().contains("claim.sql"), "{}", answer.2);
    assert_eq!(plane.get("/v1/tenants/broken").await.2["state"], "failed");
}

#[tokio::test]
async fn story_an_extension_that_a_server_lacks_is_refused_or_recorded() {
    let plane = dev().stock(1).start().await;
    let needs = "[[extension]]\nname = \"no_such_thing\"\n";
    add(&plane, "needy", &[("template.toml", needs)]).await;
    let answer = plane.post("/v1/tenants", json!({"id": "needy", "template": "needy"})).await;
    let detail = problem(&answer, 422, "extension_missing")["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("no_such_thing"), "{detail}");
    problem(&plane.get("/v1/tenants/needy").await, 404, "not_found");

    let likes = "[[extension]]\nname = \"no_such_thing\"\nrequired = false\n[[extension]]\nname = \"pg_trgm\"\n";
    add(&plane, "modest", &[("template.toml", likes)]).await;
    for id in ["first", "second"] {
        let made = create_as(&plane, json!({"id": id, "template": "modest"})).await;
        assert_eq!(made["missing_extensions"], json!(["no_such_thing"]));
        let session = log_in(&made["connection"]).await;
        assert_eq!(text(&session, "SELECT extname::text FROM pg_extension WHERE extname = 'pg_trgm'").await, "pg_trgm");
        until_stock(&plane, "modest", 1).await;
    }
}

#[tokio::test]
async fn story_a_foreign_tool_runs_once_for_each_version() {
    let plane = dev().stock(2).start().await;
    let runs = plane.directory().join("runs");
    std::fs::write(&runs, "").unwrap();
    std::fs::set_permissions(&runs, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    let manifest = "[migrate]\ncommand = [\"sh\", \"tool/migrate.sh\"]\n";
    let script = |version: u32| {
        format!(
            "set -e\necho \"run {version} $(pwd)\" >> '{}'\npsql -qX -v ON_ERROR_STOP=1 \"$DATABASE_URL\" -f tool/schema.sql\n",
            runs.display()
        )
    };
    let schema = "CREATE TABLE made_by_tool (by_whom text DEFAULT current_user);";
    let version = |n: u32| {
        let files = [
            ("template.toml", manifest),
            ("tool/schema.sql", schema),
            ("tool/migrate.sh", &script(n)),
            ("migrations/0001_a.sql", "CREATE TABLE before_tool ();"),
        ];
        add_template_body("tooled", &files)
    };
    for n in [1, 2] {
        expect(&plane.post("/v1/templates", version(n)).await, 201);
        for id in ["a", "b", "c"] {
            let made = create_as(&plane, json!({"id": format!("{id}{n}"), "template": "tooled"})).await;
            let session = log_in(&made["connection"]).await;
            session.batch_execute("INSERT INTO made_by_tool DEFAULT VALUES; SELECT FROM before_tool").await.unwrap();
            // Its objects are the tenant's, whoever ran the tool.
            session.batch_execute("ALTER TABLE made_by_tool ADD COLUMN more int").await.unwrap();
        }
        until_stock(&plane, "tooled", 2).await;
        let ran = std::fs::read_to_string(&runs).unwrap();
        assert_eq!(ran.lines().count() as u32, n, "{ran}");
    }
    // A tool that fails says why.
    let files =
        [("template.toml", "[migrate]\ncommand = [\"sh\", \"-c\", \"echo the tool is unhappy >&2; exit 3\"]\n")];
    expect(&plane.post("/v1/templates", add_template_body("unhappy", &files)).await, 201);
    let answer = plane.post("/v1/tenants", json!({"id": "sad", "template": "unhappy"})).await;
    assert!(
        (400..500).contains(&answer.0) && answer.2["detail"].as_str().unwrap().contains("the tool is unhappy"),
        "{}",
        answer.2
    );
}

#[tokio::test]
async fn story_names_that_are_taken_or_too_long_are_refused() {
    let plane = dev().stock(1).start().await;
    let naming =
        "[naming]\nkind = \"pattern\"\ndatabase = \"app_{tenant}\"\nlogin = \"user_{tenant}\"\nnormalise = \"strip\"\n";
    add(&plane, "named", &[("template.toml", naming)]).await;
    let first = create_as(&plane, json!({"id": "a-b", "template": "named"})).await;
    let answer = plane.post("/v1/tenants", json!({"id": "ab", "template": "named"})).await;
    let detail = problem(&answer, 409, "name_taken")["detail"].as_str().unwrap();
    assert!(detail.contains("app_ab"), "{detail}");
    problem(&plane.get("/v1/tenants/ab").await, 404, "not_found");
    log_in(&first["connection"]).await;

    let long = format!("{}_{{tenant}}", "x".repeat(40));
    let naming = format!("[naming]\nkind = \"pattern\"\ndatabase = \"{long}\"\nlogin = \"l_{{tenant}}\"\n");
    let files = [("template.toml", naming.as_str())];
    add(&plane, "long", &files).await;
    let id = "y".repeat(23);
    let answer = plane.post("/v1/tenants", json!({"id": id, "template": "long"})).await;
    assert!(problem(&answer, 422, "invalid").to_string().contains("63"), "{}", answer.2);
    let longest = create_as(&plane, json!({"id": "y".repeat(22), "template": "long"})).await;
    assert_eq!(longest["connection"]["direct"]["database"].as_str().unwrap().len(), 63);
    log_in(&longest["connection"]).await;
}

/// Somebody who uses the server besides Freehold loses nothing, and nothing of theirs is handed out.
#[tokio::test]
async fn story_a_stranger_who_has_the_name_keeps_what_is_theirs() {
    // From stock, the name comes by a rename; from nothing, by a create.
    for stock in [1, 0] {
        let plane = dev().stock(stock).start().await;
        let server = admin(&plane, "postgres").await;
        if stock > 0 {
            create_as(&plane, json!({"id": "first", "template": "railzway"})).await;
            until_stock(&plane, "railzway", 1).await;
        }
        server.batch_execute("CREATE DATABASE railzway_org_db").await.unwrap();
        server.batch_execute("CREATE ROLE railzway_user_role LOGIN PASSWORD 'strangers1'").await.unwrap();
        let theirs = admin(&plane, "railzway_org_db").await;
        theirs.batch_execute("CREATE TABLE precious AS SELECT 1 AS n").await.unwrap();
        drop(theirs);
        let verifier = "SELECT rolpassword FROM pg_authid WHERE rolname = 'railzway_user_role'";
        let before = text(&server, verifier).await;
        for id in ["db", "role"] {
            let answer = plane.post("/v1/tenants", json!({"id": id, "template": "railzway"})).await;
            assert_eq!((answer.0, &answer.2["code"]), (409, &json!("name_taken")), "stock {stock}: {}", answer.2);
        }
        let theirs = admin(&plane, "railzway_org_db").await;
        theirs.query_one("SELECT n FROM precious", &[]).await.expect("the stranger's table is there");
        assert_eq!(text(&server, verifier).await, before, "stock {stock}");
        let attributes = "SELECT rolcanlogin::text || rolconnlimit FROM pg_roles WHERE rolname = 'railzway_user_role'";
        assert_eq!(text(&server, attributes).await, "true-1");
        let states = walk(&plane, "/v1/tenants?state=active", 50).await;
        assert_eq!(states.len(), usize::from(stock > 0));
    }
}
