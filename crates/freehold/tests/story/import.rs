//! Issue 5, item 8: a database of a server that is not Freehold's comes in as a new tenant's, while it is used there.

use std::collections::BTreeMap;
use std::process::Command;

use freehold_drivers::server::managed::Authority;
use freehold_testkit::{ADMIN, ADMIN_PASSWORD, Answer, Cluster, Plane, ZOO, engine};
use jiff::SignedDuration;
use reqwest::Method;
use secrecy::ExposeSecret;
use serde_json::{Value as Json, json};
use tokio_postgres::Client;

use crate::common::{dev, exits, expect, log_in, postgres_port, problem, stderr, stdout, store, text, until};

pub const PASSWORD: &str = "somebodyElsesPassword1";

/// Lines of a dump that another server need not have: how each begins, and why.
const EXPLAINED: [(&str, &str); 5] = [
    ("-- ", "comments of the dump: numbers and versions of servers"),
    ("\\restrict ", "another word in each dump"),
    ("\\unrestrict ", "the same word"),
    ("BEGIN;", "around large objects of the same privileges, which are left out"),
    ("COMMIT;", "the same"),
];

/// A server of somebody else's, with a database `shop` of `app`.
pub async fn elsewhere(version: u32) -> Cluster {
    let cluster = Cluster::builder(version).own_identity().start();
    let superuser = cluster.connect("postgres").await;
    for sql in [
        format!("CREATE ROLE app LOGIN PASSWORD '{PASSWORD}'"),
        format!("CREATE ROLE reader LOGIN PASSWORD '{PASSWORD}'"),
        "CREATE DATABASE shop OWNER app".to_owned(),
    ] {
        superuser.batch_execute(&sql).await.unwrap();
    }
    cluster
}

pub async fn plane_of(version: u32) -> Plane {
    // Whoever reads from a server takes a pg_dump that knows it.
    let path = format!("{}:{}", std::env::var("PATH").unwrap_or_default(), engine(18).display());
    dev().postgres(version).stock(0).env("PATH", &path).start().await
}

pub async fn app(cluster: &Cluster) -> Client {
    cluster.connect_as("app", PASSWORD, "shop").await.unwrap()
}

pub fn from(cluster: &Cluster, user: &str) -> String {
    cluster.dsn_with(user, PASSWORD, "shop")
}

/// However long it takes.
pub async fn import(plane: &Plane, id: &str, body: Json) -> Answer {
    let path = format!("/v1/tenants/{id}/import");
    let mut answer = plane.request(Method::POST, &path, &[("prefer", "wait=30")], Some(body)).await;
    if answer.0 == 202 {
        let operation = format!("/v1/operations/{}", answer.2["id"].as_str().unwrap());
        until("it is imported", async || match plane.get(&operation).await.2 {
            now if now["state"] == "succeeded" => Ok(()),
            now if now["state"] == "running" || now["state"] == "waiting" => Err(now.to_string()),
            now => panic!("{now:#}\n{}", plane.output()),
        })
        .await;
        let connection = plane.get(&format!("/v1/tenants/{id}/connection")).await.2;
        (answer.0, answer.2) = (201, json!({"connection": connection}));
    }
    answer
}

pub fn codes(found: &Json, list: &str) -> Vec<String> {
    found[list].as_array().unwrap().iter().map(|finding| finding["code"].as_str().unwrap().to_owned()).collect()
}

/// Of definitions, in their order, and of rows, sorted.
fn dump(dsn: &str) -> (Vec<String>, Vec<String>) {
    let lines = |part: &str| {
        let output = Command::new(engine(18).join("pg_dump"))
            .args([part, "--exclude-schema=freehold", "--no-owner", "--no-privileges", "--no-publications", "-d", dsn])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        let is_explained = |line: &str| EXPLAINED.iter().any(|(begin, _)| line.starts_with(begin));
        let says = |line: &&str| !["", "--"].contains(line) && !is_explained(line);
        // From 16 on a view over one table prints its columns without that table's name.
        let in_words_of_15 = |line: &str| {
            ["\"Orders\".", "o.", "summed."].iter().fold(line.to_owned(), |line, name| line.replace(name, ""))
        };
        text.lines().filter(says).map(in_words_of_15).collect::<Vec<_>>()
    };
    let (schema, mut rows) = (lines("--schema-only"), lines("--data-only"));
    rows.sort();
    (schema, rows)
}

#[track_caller]
fn same(what: &str, here: &[String], there: &[String]) {
    let mut counts: BTreeMap<&str, i32> = BTreeMap::new();
    here.iter().for_each(|line| *counts.entry(line).or_default() += 1);
    there.iter().for_each(|line| *counts.entry(line).or_default() -= 1);
    let unlike = counts.into_iter().filter(|(_, count)| *count != 0);
    let unlike: Vec<String> = unlike.map(|(line, count)| format!("{count:+} {line:.200}")).collect();
    assert!(unlike.is_empty(), "{what}:\n{}", unlike.join("\n"));
    assert!(here == there, "{what} are in another order");
}

async fn a_zoo(versions: [u32; 2]) {
    let source = elsewhere(versions[0]).await;
    source.connect("shop").await.batch_execute("CREATE ROLE zoo_reporting; CREATE EXTENSION hstore").await.unwrap();
    app(&source).await.batch_execute(ZOO).await.unwrap_or_else(|error| panic!("{error:?}"));
    let plane = plane_of(versions[1]).await;
    let body = json!({"from": source.dsn_with(ADMIN, ADMIN_PASSWORD, "shop")});

    // A policy for a role that is not here is somebody's to decide about; all else is told.
    let refused = import(&plane, "zoo", body.clone()).await;
    assert_eq!(problem(&refused, 422, "prerequisite")["errors"][0]["field"], "policy_roles", "{}", refused.2);
    app(&source).await.batch_execute("ALTER POLICY mine ON secrets TO PUBLIC").await.unwrap();
    let mut look = body.clone();
    look["dry_run"] = json!(true);
    let found = import(&plane, "zoo", look).await.2;
    assert_eq!(codes(&found, "refusals"), Vec::<String>::new(), "{found:#}");
    let notes = codes(&found, "notes");
    for code in ["owners", "grantees", "default_privileges", "publication", "materialized_view"] {
        assert!(notes.iter().any(|note| note == code), "{code} is not told: {found:#}");
    }
    assert_eq!((&found["postgres"], &found["server"]), (&json!(versions[0]), &json!("local-1")), "{found:#}");

    let made = import(&plane, "zoo", body).await;
    let made = expect(&made, 201);
    let tenant = log_in(&made["connection"]).await;
    // As whoever no row is hidden from.
    let database = made["connection"]["direct"]["database"].as_str().unwrap();
    let socket = plane.data_dir().join("run");
    let admin = format!("host={} port={} user=freehold_admin", socket.display(), postgres_port(&plane));
    let here = dump(&format!("{admin} dbname={database}"));
    let there = dump(&source.dsn_with(ADMIN, ADMIN_PASSWORD, "shop"));
    assert!(there.0.len() > 300 && there.1.len() > 700, "{} and {} lines", there.0.len(), there.1.len());
    same("definitions", &here.0, &there.0);
    same("rows", &here.1, &there.1);
    let strangers = "select count(*)::text from pg_class c join pg_namespace n on n.oid = relnamespace
        where nspname !~ '^pg_' and nspname not in ('information_schema', 'freehold') and relowner <> current_user::regrole";
    assert_eq!(text(&tenant, strangers).await, "0");
    assert_eq!(
        text(
            &tenant,
            "select string_agg(loid::text, ' ' order by loid) from (select oid as loid from pg_largeobject_metadata) o"
        )
        .await,
        "4711 4712"
    );
    assert_eq!(text(&tenant, "select nextval('tickets')::text").await, "1001");
}

#[tokio::test]
async fn story_a_zoo_is_imported_from_15_to_15() {
    a_zoo([15, 15]).await;
}

#[tokio::test]
async fn story_a_zoo_is_imported_from_15_to_18() {
    a_zoo([15, 18]).await;
}

const SHOP: &str = "
    create table item (id bigserial primary key, at timestamptz default now());
    create table twin (id bigint primary key references item);
    with made as (insert into item select from generate_series(1, 1000) returning id) insert into twin select id from made;
    grant select on all tables in schema public to reader; grant select on all sequences in schema public to reader";

/// Written to all the time: what comes is one moment of it, by a login that may only read, and by the command line.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn story_a_database_is_imported_while_it_is_written_to() {
    let source = elsewhere(15).await;
    app(&source).await.batch_execute(SHOP).await.unwrap();
    let plane = dev()
        .stock(0)
        .env("FREEHOLD_FAULTS", "tenant.import/Carry/held=sleep:300*1,tenant.import/Carry/rows=sleep:500*1")
        .start()
        .await;
    let writer = app(&source).await;
    let writing = tokio::spawn(async move {
        let twins = "with made as (insert into item default values returning id) insert into twin select id from made";
        let mut written = 0;
        loop {
            writer.batch_execute(twins).await.unwrap();
            written += 1;
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            if written > 10_000 {
                return;
            }
        }
    });
    let dsn = from(&source, "reader");
    let shown = plane.cli(&["tenant", "import", "acme", "--from", &dsn, "--dry-run"]);
    let shown = stdout(&exits(shown, 0));
    assert!(shown.contains("takes about") && shown.ends_with("it can be imported; nothing was done\n"), "{shown}");
    assert!(!shown.contains(PASSWORD), "{shown}");
    problem(&plane.get("/v1/tenants/acme").await, 404, "not_found");
    let imported = exits(plane.cli(&["tenant", "import", "acme", "--from", &dsn, "--label", "from=elsewhere"]), 0);
    writing.abort();
    assert!(
        stderr(&imported).contains("what was written at the source since then is not here"),
        "{}",
        stderr(&imported)
    );
    let tenant = log_in(expect(&plane.get("/v1/tenants/acme/connection").await, 200)).await;
    let counts = "select concat_ws(' ', (select count(*) from item), (select count(*) from twin), (select last_value >= max(id) from item_id_seq, item group by last_value))";
    let here = text(&tenant, counts).await;
    let there = text(&app(&source).await, "select count(*)::text from item").await;
    let parts: Vec<&str> = here.split(' ').collect();
    assert!(parts[0] == parts[1] && parts[2] == "t", "torn: {here}");
    let (here, there): (i64, i64) = (parts[0].parse().unwrap(), there.parse().unwrap());
    assert!((1000..there).contains(&here), "{here} of {there}");
    tenant.batch_execute("insert into item default values; create table mine (n int)").await.unwrap();

    let came = plane.get("/v1/tenants/acme/import").await;
    let came = expect(&came, 200);
    assert!(came["as_of"].is_string() && came["postgres"] == 15, "{came:#}");
    assert!(!came.to_string().contains(PASSWORD), "{came:#}");
    let shown = stdout(&exits(plane.cli(&["tenant", "import", "acme"]), 0));
    assert!(shown.contains("as of") && shown.contains("reader@127.0.0.1"), "{shown}");
    let audit = plane.get("/v1/audit?action=tenant.import&subject=tenant:acme").await;
    assert_eq!(
        expect(&audit, 200)["items"][0]["details"]["as_of"].as_str().map(|at| &at[..19]),
        came["as_of"].as_str().map(|at| &at[..19])
    );
    assert_eq!(text(&store(&plane).await, "select count(*)::text from import_source").await, "0");
    let sessions = "select count(*)::text from pg_stat_activity where application_name like 'fh:%'";
    until("nothing is open at the source", async || {
        match text(&source.connect("postgres").await, sessions).await.as_str() {
            "0" => Ok(()),
            other => Err(other.to_owned()),
        }
    })
    .await;

    // A tenant like any other: measured, judged, and nothing is put into it a second time.
    let diagnosis = plane.post("/v1/tenants/acme/diagnose", json!({})).await;
    assert_eq!(expect(&diagnosis, 200)["broken"], Json::Null, "{}", diagnosis.2);
    problem(&import(&plane, "acme", json!({"from": dsn})).await, 409, "tenant_exists");
    problem(&plane.get("/v1/tenants/nobody/import").await, 404, "not_found");
    exits(plane.cli(&["tenant", "delete", "acme", "--confirm", "acme", "--purge"]), 0);
    assert_eq!(text(&store(&plane).await, "select count(*)::text from tenant_import").await, "0");
}

/// A certificate that nobody vouches for is refused; with the authority's, all of it comes over TLS, pg_dump's part too.
#[tokio::test]
async fn story_an_import_honours_tls() {
    let now = "2026-01-01T00:00:00Z".parse().unwrap();
    let authority = Authority::create(now, SignedDuration::from_hours(24 * 3650)).unwrap();
    let issued = authority.issue(&["localhost"], now, SignedDuration::from_hours(24 * 3650)).unwrap();
    let mut source = elsewhere(15).await;
    source.speak_tls(&issued.certificate_pem, issued.key_pem.expose_secret());
    app(&source)
        .await
        .batch_execute("create table item (id int primary key); insert into item values (1)")
        .await
        .unwrap();
    let plane = dev().stock(0).start().await;
    let dsn = format!("postgres://app:{PASSWORD}@localhost:{}/shop?sslmode=verify-full", source.port());
    let refused = import(&plane, "acme", json!({"from": dsn})).await;
    assert!(refused.0 == 422 && refused.2.to_string().contains("source_tls"), "{}", refused.2);
    let made = import(&plane, "acme", json!({"from": dsn, "ca_certificate": authority.certificate_pem()})).await;
    let tenant = log_in(&expect(&made, 201)["connection"]).await;
    assert_eq!(text(&tenant, "select id::text from item").await, "1");
}
