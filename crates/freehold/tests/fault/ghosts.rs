//! What is in the store and not on the server, and the other way round: told, mended where nothing can be lost by it,
//! and otherwise left alone. And no alarm while work goes on.

use std::time::{Duration, Instant};

use freehold_testkit::{Cluster, http_client};
use futures::future::join_all;
use reqwest::Method;
use serde_json::{Value as Json, json};

use crate::rig::{Rig, SERVER, Wanted};
use crate::scenario::until_stuck;
use crate::serving::{Serve, until};

const SETTINGS: &str = "[stock]\nper_template = 0\n[stock.templates]\nkept = 2\n";

async fn rig(settings: &'static str) -> (Rig, Serve) {
    let rig = Rig::new(Wanted { apart: Some(Cluster::start(15)), settings, ..Wanted::default() }).await;
    let serve = rig.serve("").await;
    rig.add_server(&serve, 50, None).await;
    (rig, serve)
}

async fn wake(rig: &Rig) {
    let sql = "UPDATE loop_lease SET next_run_at = now() WHERE name = 'truth'; NOTIFY freehold_loop, 'truth'";
    rig.sql.batch_execute(sql).await.expect("wake the loop");
}

/// `kind object name`, as the API tells them; foreign ones aside.
async fn drift(serve: &Serve) -> Vec<String> {
    let (status, body) = serve.get("/v1/drift?limit=500").await;
    assert_eq!(status, 200, "{body}");
    let told = |item: &Json| {
        let text = |name: &str| item[name].as_str().unwrap_or_default().to_owned();
        format!("{} {} {}", text("kind"), text("object"), text("name"))
    };
    let items = body["items"].as_array().cloned().unwrap_or_default();
    items.iter().filter(|item| item["kind"] != "foreign").map(told).collect()
}

async fn until_drift(rig: &Rig, serve: &Serve, what: &str, so: impl Fn(&[String]) -> bool) -> Vec<String> {
    let mut last = Vec::new();
    until(what, async || {
        wake(rig).await;
        last = drift(serve).await;
        so(&last)
    })
    .await;
    last
}

async fn concerns(serve: &Serve) -> Vec<String> {
    let (_, status) = serve.get("/v1/status").await;
    let all = status["concerns"].as_array().cloned().unwrap_or_default();
    all.iter().map(|concern| concern["code"].as_str().unwrap_or_default().to_owned()).collect()
}

async fn names(rig: &Rig, tenant: &str) -> (String, String) {
    let sql = "SELECT database, owner FROM tenant_database WHERE tenant_id = $1";
    let row = rig.sql.query_one(sql, &[&tenant]).await.expect("the tenant has a database");
    (row.get(0), row.get(1))
}

/// Resolved by hand as undone, an operation leaves what it made: seen, named, and never dropped.
#[tokio::test]
async fn ghosts_of_a_resolved_operation_are_told_and_left() {
    let (rig, mut serve) = rig("[stock]\nper_template = 0\n").await;
    rig.settled(&mut serve, &[("default", 0)]).await;
    serve.kill().await;
    rig.let_leases_run_out().await;
    let serve = rig.serve("tenant.create/Own/after=stuck*1").await;
    serve.begin(Method::POST, "/v1/tenants", Some(json!({"id": "acme"}))).await;
    until_stuck(&rig, &serve, "tenant.create").await;
    let (database, owner) = names(&rig, "acme").await;
    // While it is somebody's work, it is nobody's ghost.
    wake(&rig).await;
    assert_eq!(drift(&serve).await, Vec::<String>::new());
    let operation = rig.newest_id("tenant.create").await;
    let body = json!({"as": "undone", "reason": "given up"});
    let (status, body) = serve.post(&format!("/v1/operations/{operation}/resolve"), body).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(serve.get("/v1/tenants/acme").await.1["state"], "failed");
    let ghost = format!("ghost database {database}");
    let told = until_drift(&rig, &serve, "the ghost is told", |drift| drift.contains(&ghost)).await;
    for name in [owner.clone(), format!("{owner}_l"), format!("{owner}_m")] {
        assert!(told.contains(&format!("ghost role {name}")), "{told:?}");
    }
    assert_eq!(told.len(), 4, "{told:?}");
    assert!(concerns(&serve).await.contains(&"drift_ghost".to_owned()));
    // However often it is looked at, it stays.
    for _ in 0..3 {
        wake(&rig).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    let admin = rig.server().connect("postgres").await;
    let sql = format!("DROP DATABASE \"{database}\"");
    admin.batch_execute(&sql).await.expect("it is still there, and a person drops it");
    admin.batch_execute(&format!("DROP ROLE {owner}_l, {owner}_m, {owner}")).await.expect("and its roles");
    until_drift(&rig, &serve, "nothing is left to tell", |drift| drift.is_empty()).await;
}

/// A store that is older than its server: the note in the database tells whose it was.
#[tokio::test]
async fn ghosts_tell_by_their_note_whose_they_were() {
    let (rig, serve) = rig("[stock]\nper_template = 0\n").await;
    assert_eq!(serve.post("/v1/tenants", json!({"id": "acme"})).await.0, 201);
    let (database, owner) = names(&rig, "acme").await;
    let noted = "SELECT count(*) FROM tenant_database WHERE noted_at IS NOT NULL";
    until("it is noted", async || rig.count(noted).await == 1).await;
    // As a template's pattern would have named it; and nothing but the note tells that it is Freehold's.
    let admin = rig.server().connect("postgres").await;
    let sql = format!("ALTER DATABASE \"{database}\" RENAME TO shop_acme");
    admin.batch_execute(&sql).await.expect("rename");
    admin.batch_execute(&format!("REVOKE ALL ON DATABASE shop_acme FROM {owner}")).await.expect("revoke");
    rig.sql.batch_execute("DELETE FROM tenant_database; DELETE FROM tenant").await.expect("an older store");
    for sql in ["CREATE DATABASE grafana", "CREATE ROLE grafana"] {
        admin.batch_execute(sql).await.expect("something of somebody else");
    }
    until_drift(&rig, &serve, "the ghost is told", |drift| drift.contains(&"ghost database shop_acme".to_owned()))
        .await;
    let (_, body) = serve.get("/v1/drift?kind=ghost").await;
    let ghost = body["items"].as_array().into_iter().flatten().find(|item| item["name"] == "shop_acme").cloned();
    let ghost = ghost.expect("it is in the list");
    assert_eq!((ghost["tenant"].as_str(), ghost["codes"][0].as_str()), (Some("acme"), Some("note")), "{ghost}");
    // Somebody else's is listed, and is no concern.
    let (_, body) = serve.get("/v1/drift?kind=foreign&server=one").await;
    let foreign: Vec<String> = body["items"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|item| {
            format!("{} {}", item["object"].as_str().unwrap_or_default(), item["name"].as_str().unwrap_or_default())
        })
        .collect();
    assert_eq!(foreign, ["database grafana", "role grafana"]);
    assert!(!concerns(&serve).await.iter().any(|code| code.contains("foreign")));
    // Page by page it is the same.
    let (mut cursor, mut walked) = (String::new(), 0);
    loop {
        let (status, page) = serve.get(&format!("/v1/drift?limit=2{cursor}")).await;
        assert_eq!(status, 200, "{page}");
        walked += page["items"].as_array().map_or(0, Vec::len);
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    let all = serve.get("/v1/drift?limit=500").await.1["items"].as_array().map_or(0, Vec::len);
    assert_eq!((walked, all), (6, 6));
}

/// The rows of a store that was restored are gone, and the database is kept by adopting it: with what was in it, and with
/// the login that its application has.
#[tokio::test]
async fn ghosts_are_kept_by_adopting_them() {
    let (rig, serve) = rig("[stock]\nper_template = 0\n").await;
    assert_eq!(serve.post("/v1/tenants", json!({"id": "acme"})).await.0, 201);
    let (database, owner) = names(&rig, "acme").await;
    let (_, connection) = serve.get("/v1/tenants/acme/connection").await;
    let application = freehold_testkit::as_tenant(&connection["direct"]).await.expect("log in");
    application.batch_execute("CREATE TABLE kept AS SELECT 7 AS n").await.expect("make something");
    let noted = "SELECT count(*) FROM tenant_database WHERE noted_at IS NOT NULL";
    until("it is noted", async || rig.count(noted).await == 1).await;
    rig.sql.batch_execute("DELETE FROM tenant_database; DELETE FROM tenant").await.expect("an older store");
    let ghost = format!("ghost database {database}");
    until_drift(&rig, &serve, "the ghost is told", |drift| drift.contains(&ghost)).await;
    let note = async || {
        let inside = rig.server().connect(&database).await;
        let row = inside.query_one("SELECT sealed FROM freehold.note", &[]).await.expect("one note");
        row.get::<_, Vec<u8>>(0)
    };
    let before = note().await;

    let login = format!("{owner}_l");
    let body = json!({"server": SERVER, "database": database, "keep_logins": [login]});
    let (status, body) = serve.post("/v1/tenants/again/adopt", body).await;
    assert!(status == 201 || status == 202, "{body}\n{}", serve.output());
    rig.until_operation("tenant.adopt", "succeeded").await;
    rig.logs_in(&serve, "again").await.expect("the new login");
    let application = freehold_testkit::as_tenant(&connection["direct"]).await.expect("and the one of before");
    let row = application.query_one("SELECT n FROM kept", &[]).await.expect("read what was there");
    assert_eq!(row.get::<_, i32>(0), 7);
    until("the note says whose it is now", async || note().await != before).await;
    // Whom it was is still a ghost; the login that was kept is not.
    let told = [format!("ghost role {owner}"), format!("ghost role {owner}_m")];
    until_drift(&rig, &serve, "its former roles are left", |drift| *drift == told).await;
}

/// From 17 on a database may run something at login. Where the admin cannot pass it by, nobody goes in; and what the
/// server is now decides, not what it was when it was looked at.
#[tokio::test]
async fn ghosts_are_not_looked_for_behind_a_login_trigger() {
    let rig = Rig::new(Wanted { apart: Some(Cluster::start(18)), ..Wanted::default() }).await;
    let serve = rig.serve("").await;
    rig.add_server(&serve, 50, Some(rig.server().weak_admin().await)).await;
    assert_eq!(serve.post("/v1/tenants", json!({"id": "acme"})).await.0, 201);
    let (_, owner) = names(&rig, "acme").await;
    let admin = rig.server().connect("postgres").await;
    for sql in ["CREATE ROLE lesser", "CREATE DATABASE door OWNER lesser"] {
        admin.batch_execute(sql).await.expect("somebody else's database");
    }
    let inside = rig.server().connect("door").await;
    let trap = format!(
        "CREATE TABLE sprung (by text); GRANT ALL ON sprung TO PUBLIC; GRANT SELECT ON sprung TO {owner};
         CREATE FUNCTION trap() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.sprung VALUES (current_user); END $$;
         ALTER FUNCTION trap() OWNER TO lesser;
         CREATE EVENT TRIGGER door ON login EXECUTE FUNCTION trap();"
    );
    inside.batch_execute(&trap).await.expect("a trap for whoever comes in");
    let unread = "SELECT count(*) FROM stray WHERE name = 'door' AND kind = 'database' AND NOT read";
    until("it is told", async || {
        wake(&rig).await;
        rig.count(unread).await == 1
    })
    .await;
    rig.sql.batch_execute("UPDATE server SET truth_at = NULL").await.expect("forget when it was compared");
    until("a round is over", async || {
        wake(&rig).await;
        rig.count("SELECT count(*) FROM server WHERE truth_at IS NOT NULL").await == 1
    })
    .await;
    assert_eq!(rig.count(unread).await, 1, "nobody went in");
    serve.begin(Method::DELETE, "/v1/tenants/acme?confirm=acme&purge=true", None).await;
    until_stuck(&rig, &serve, "tenant.purge").await;
    assert_eq!(rig.newest("tenant.purge").await.expect("it is there").3, "login_trigger");

    // The store still says that the admin is no superuser, and that the server is older than it is.
    rig.sql.batch_execute("UPDATE server SET version_num = 160004").await.expect("an old row");
    admin.batch_execute("ALTER ROLE weak_admin SUPERUSER").await.expect("another admin");
    until("it is looked into", async || {
        wake(&rig).await;
        rig.count(unread).await == 0
    })
    .await;
    let operation = rig.newest_id("tenant.purge").await;
    let (status, body) = serve.post(&format!("/v1/operations/{operation}/retry"), json!({})).await;
    assert!(status < 300, "{body}");
    rig.until_operation("tenant.purge", "succeeded").await;
    let sprung = inside.query("SELECT by FROM sprung", &[]).await.expect("look");
    let by: Vec<String> = sprung.iter().map(|row| row.get(0)).collect();
    assert!(by.is_empty(), "{by:?} ran somebody's function");
}

/// A tenant's database that is gone is said loudly and nothing is put in its place; stock and templates are made anew.
#[tokio::test]
async fn ghosts_lost_databases_are_told_and_stock_is_made_anew() {
    let (rig, mut serve) = rig(SETTINGS).await;
    let template =
        json!({"name": "kept", "files": {"template.toml": "", "migrations/0001_init.sql": "CREATE TABLE t (a int);"}});
    let (status, body) = serve.post("/v1/templates", template).await;
    assert_eq!(status, 201, "{body}");
    rig.settled(&mut serve, &[("kept", 2)]).await;
    assert_eq!(serve.post("/v1/tenants", json!({"id": "acme", "template": "kept"})).await.0, 201);
    rig.settled(&mut serve, &[("kept", 2)]).await;
    let (lost, _) = names(&rig, "acme").await;
    let row = "SELECT database FROM tenant_database WHERE state = 'ready' ORDER BY created_at LIMIT 1";
    let stock: String = rig.sql.query_one(row, &[]).await.expect("there is stock").get(0);
    let build: String = rig
        .sql
        .query_one("SELECT database FROM template_build WHERE name = 'kept'", &[])
        .await
        .expect("a build")
        .get(0);
    let admin = rig.server().connect("postgres").await;
    for name in [&lost, &stock, &build] {
        admin.batch_execute(&format!("DROP DATABASE \"{name}\" WITH (FORCE)")).await.expect("drop it behind its back");
    }
    let told = until_drift(&rig, &serve, "it is told", |drift| drift.contains(&format!("lost database {lost}"))).await;
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(concerns(&serve).await.contains(&"drift_lost".to_owned()));
    let (_, body) = serve.get("/v1/drift?kind=lost").await;
    assert_eq!(body["items"][0]["tenant"], "acme", "{body}");
    let gone = format!("SELECT count(*) FROM tenant_database WHERE database = '{stock}'");
    until("the bad stock is gone", async || {
        wake(&rig).await;
        rig.count(&gone).await == 0
    })
    .await;
    rig.settled(&mut serve, &[("kept", 2)]).await;
    assert_eq!(serve.post("/v1/tenants", json!({"id": "beta", "template": "kept"})).await.0, 201);
    rig.logs_in(&serve, "beta").await.expect("new stock is good");
    let there = admin.query("SELECT 1 FROM pg_database WHERE datname = $1", &[&lost]).await.expect("look");
    assert!(there.is_empty(), "nothing is made in the place of a tenant's data");
    until("the template is there again", async || {
        !admin.query("SELECT 1 FROM pg_database WHERE datname = $1", &[&build]).await.expect("look").is_empty()
    })
    .await;
}

/// A neighbour that was let in is let out, and a database that was shut is opened.
#[tokio::test]
async fn ghosts_strangers_are_let_out_and_shut_databases_opened() {
    let (rig, serve) = rig("[stock]\nper_template = 0\n").await;
    for id in ["acme", "beta"] {
        assert_eq!(serve.post("/v1/tenants", json!({"id": id})).await.0, 201);
    }
    let ((database, _), (_, stranger)) = (names(&rig, "acme").await, names(&rig, "beta").await);
    let admin = rig.server().connect("postgres").await;
    let sql = format!(
        "GRANT CONNECT ON DATABASE \"{database}\" TO {stranger}; CREATE ROLE reporting LOGIN; GRANT CONNECT ON DATABASE \"{database}\" TO reporting"
    );
    admin.batch_execute(&sql).await.expect("let them in");
    let (_, connection) = serve.get("/v1/tenants/beta/connection").await;
    let mut direct = connection["direct"].clone();
    direct["database"] = json!(database);
    let intruder = freehold_testkit::as_tenant(&direct).await.expect("the neighbour gets in");
    until("the stranger is out", async || {
        wake(&rig).await;
        freehold_testkit::as_tenant(&direct).await.is_err() && intruder.simple_query("SELECT 1").await.is_err()
    })
    .await;
    let may = format!("SELECT has_database_privilege('reporting', '{database}', 'CONNECT')");
    assert!(admin.query_one(&may, &[]).await.expect("ask").get::<_, bool>(0), "whom an operator lets in stays");
    admin.batch_execute(&format!("ALTER DATABASE \"{database}\" ALLOW_CONNECTIONS false")).await.expect("shut it");
    until("its tenant gets in again", async || {
        wake(&rig).await;
        rig.logs_in(&serve, "acme").await.is_ok()
    })
    .await;
    let sql =
        "SELECT string_agg(details::text, ' ') FROM audit WHERE action = 'truth.repair' AND subject = 'tenant:acme'";
    let repairs: String = rig.sql.query_one(sql, &[]).await.expect("read the audit").get(0);
    assert!(
        repairs.contains(&format!("stranger_admitted:{stranger}")) && repairs.contains("database_closed"),
        "{repairs}"
    );
}

/// Tenants and stock come and go, templates change, and the loop looks all the time: nothing is ever lost or a ghost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ghosts_are_not_seen_where_work_goes_on() {
    let (rig, mut serve) = rig(SETTINGS).await;
    let template = |n: usize| {
        let naming = "[naming]\nkind = \"pattern\"\ndatabase = \"shop_{tenant}\"\nlogin = \"shop_{tenant}_user\"\n";
        json!({"name": "kept", "files": {"template.toml": naming, "migrations/0001_init.sql": format!("CREATE TABLE t{n} (a int);")}})
    };
    let (status, body) = serve.post("/v1/templates", template(0)).await;
    assert_eq!(status, 201, "{body}");
    rig.settled(&mut serve, &[("kept", 2)]).await;
    let end = Instant::now() + Duration::from_secs(15);
    let (url, key) = (serve.url(), rig.key.clone());
    let lives = join_all((0..3).map(|worker| {
        let (http, url, key) = (http_client(), url.clone(), key.clone());
        async move {
            let mut lived = 0;
            while Instant::now() < end {
                let id = format!("w{worker}-{}", lived % 2);
                let template = if lived % 2 == 0 { "kept" } else { "default" };
                let send = async |request: reqwest::RequestBuilder| {
                    request
                        .bearer_auth(&key)
                        .header("prefer", "wait=30")
                        .send()
                        .await
                        .map(|answer| answer.status().as_u16())
                };
                let made =
                    send(http.post(format!("{url}/v1/tenants")).json(&json!({"id": id, "template": template}))).await;
                assert!(matches!(made, Ok(200..=202)), "{made:?}");
                let gone = send(http.delete(format!("{url}/v1/tenants/{id}?confirm={id}&purge=true"))).await;
                assert!(matches!(gone, Ok(200..=202)), "{gone:?}");
                lived += 1;
            }
            lived
        }
    }));
    let changes = async {
        let mut version = 1;
        while Instant::now() < end {
            let (status, body) = serve.post("/v1/templates", template(version)).await;
            assert!(status < 300, "{body}");
            version += 1;
            tokio::time::sleep(Duration::from_secs(3)).await;
        }
    };
    let looks = async {
        let mut looks = 0;
        while Instant::now() < end {
            wake(&rig).await;
            let told = drift(&serve).await;
            assert!(told.is_empty(), "a false alarm: {told:?}\n{}", serve.output());
            looks += 1;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        looks
    };
    let (lived, (), looked) = tokio::join!(lives, changes, looks);
    assert!(lived.iter().sum::<usize>() >= 6 && looked > 20, "{lived:?} lives, {looked} looks");
    let rounds = "SELECT count(*) FROM server WHERE truth_at > now() - interval '15 seconds' AND truth_error IS NULL";
    assert_eq!(rig.count(rounds).await, 1, "{}", serve.output());
    rig.settled(&mut serve, &[("kept", 2)]).await;
    until_drift(&rig, &serve, "nothing differs at the end", |drift| drift.is_empty()).await;
}
