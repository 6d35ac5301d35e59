//! Issue 5: a database with everything in it moves to another server, of the same version and of a later one, and comes
//! back, by the way back and as another move. What pg_dump says of it stays the same, but for lines that are explained here.

use std::collections::BTreeMap;
use std::process::Command;

use freehold_testkit::{ADMIN, ADMIN_PASSWORD, Cluster, Plane, ZOO, engine};
use serde_json::{Value as Json, json};

use crate::common::{add_template_body, create_as, dev, expect, log_in, text, until};

const TEMPLATE: &str = "[[extension]]\nname = \"hstore\"\n[[role]]\nname = \"reporting\"\ngrants = \"read\"\n";
const SERVERS: [&str; 2] = ["one", "two"];

/// Lines of a dump that another server, or the same one after it, need not have: how each begins, and why.
const EXPLAINED: [(&str, &str); 3] = [
    ("-- ", "comments of the dump: numbers and versions of servers"),
    ("\\restrict ", "another word in each dump"),
    ("\\unrestrict ", "the same word"),
];

/// What is not the same on both sides for as long as the one that was left follows: what such a line has, and why.
const WHILE_KEPT: [(&str, &str); 3] = [
    (" fh_back_", "the publication of the way back"),
    (" TRIGGER audit", "ENABLE ALWAYS: at the side that follows it is not to fire for what was done elsewhere"),
    (" REPLICA IDENTITY ", "by which rows are found on the other side; as they were once the move is finished"),
];

struct Fleet {
    plane: Plane,
    clusters: [Cluster; 2],
    /// The tenant's.
    database: String,
}

impl Fleet {
    async fn start(versions: [u32; 2]) -> Self {
        // Whoever leaves a server takes a pg_dump that knows it.
        let path = format!("{}:{}", std::env::var("PATH").unwrap_or_default(), engine(18).display());
        let plane = dev().postgres(15).stock(0).env("PATH", &path).start().await;
        expect(&plane.post("/v1/servers/local-1/cordon", json!({})).await, 200);
        let body = add_template_body("zoo", &[("template.toml", TEMPLATE), ("migrations/0001_empty.sql", "SELECT 1;")]);
        expect(&plane.post("/v1/templates", body).await, 201);
        let clusters = versions.map(|version| {
            let cluster = Cluster::builder(version).own_identity().setting("wal_level", "logical");
            let cluster = cluster.setting("max_logical_replication_workers", "8").setting("max_worker_processes", "16");
            cluster
                .setting("max_sync_workers_per_subscription", "4")
                .setting("wal_retrieve_retry_interval", "100ms")
                .start()
        });
        let mut made = Json::Null;
        for (name, cluster) in SERVERS.into_iter().zip(&clusters) {
            let body = json!({"id": name, "dsn": cluster.dsn(ADMIN), "capacity": 50});
            expect(&plane.post("/v1/servers", body).await, 201);
            if made.is_null() {
                made = create_as(&plane, json!({"id": "zoo", "template": "zoo"})).await;
            }
        }
        let tenant = log_in(&made["connection"]).await;
        let reader = format!("{}_reporting", text(&tenant, "SELECT current_user::text").await);
        tenant.batch_execute(&ZOO.replace("zoo_reporting", &reader)).await.unwrap_or_else(|error| panic!("{error:?}"));
        let database = text(&tenant, "SELECT current_database()::text").await;
        Self { plane, clusters, database }
    }

    async fn done(&self, path: &str, body: Json) {
        let path = format!("/v1/tenants/zoo/{path}");
        let answer = self.plane.post(&path, body).await;
        if answer.0 == 202 {
            let operation = format!("/v1/operations/{}", answer.2["id"].as_str().unwrap());
            until(&path, async || match self.plane.get(&operation).await.2 {
                now if now["state"] == "succeeded" => Ok(()),
                now if now["state"] == "running" || now["state"] == "waiting" => Err(now.to_string()),
                now => panic!("{now:#}\n{}", self.plane.output()),
            })
            .await;
            return;
        }
        assert_eq!(answer.0, 200, "{}\n{}", answer.2, self.plane.output());
    }

    async fn go(&self, server: usize) {
        self.done("move", json!({"to": {"server": SERVERS[server]}, "deadline_seconds": 20})).await;
        let stands = self.plane.get("/v1/tenants/zoo/move").await.2;
        assert_eq!((&stands["serves"], &stands["digests"]), (&json!(SERVERS[server]), &json!("equal")), "{stands:#}");
    }

    /// Of definitions, in their order, and of rows, sorted: a table has no order.
    fn dump(&self, server: usize) -> Dump {
        let cluster = &self.clusters[server];
        let lines = |part: &str| {
            // One for all: versions of pg_dump differ more than servers do.
            let output = Command::new(engine(18).join("pg_dump"))
                .args([part, "--exclude-schema=freehold", "--no-subscriptions"])
                .args(["-d", &cluster.dsn_with(ADMIN, ADMIN_PASSWORD, &self.database)])
                .output()
                .unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let text = String::from_utf8(output.stdout).unwrap();
            let is_explained = |line: &str| EXPLAINED.iter().any(|(begin, _)| line.starts_with(begin));
            let says = |line: &&str| !["", "--"].contains(line) && !is_explained(line);
            text.lines().filter(says).map(str::to_owned).collect::<Vec<_>>()
        };
        let (schema, mut rows) = (lines("--schema-only"), lines("--data-only"));
        rows.sort();
        Dump { schema: schema.into_iter().map(in_words_of_15).collect(), rows }
    }
}

/// From 16 on a view over one table prints its columns without that table's name.
fn in_words_of_15(line: String) -> String {
    ["\"Orders\".", "o.", "summed."].iter().fold(line, |line, name| line.replace(name, ""))
}

#[derive(PartialEq)]
struct Dump {
    schema: Vec<String>,
    rows: Vec<String>,
}

impl Dump {
    fn but_while_kept(mut self) -> Self {
        self.schema.retain(|line| !WHILE_KEPT.iter().any(|(says, _)| line.contains(says)));
        self
    }

    #[track_caller]
    fn same(&self, other: &Dump, what: &str) {
        for (kind, one, two) in [("definitions", &self.schema, &other.schema), ("rows", &self.rows, &other.rows)] {
            let mut counts: BTreeMap<&str, i32> = BTreeMap::new();
            one.iter().for_each(|line| *counts.entry(line).or_default() -= 1);
            two.iter().for_each(|line| *counts.entry(line).or_default() += 1);
            let unlike = counts.into_iter().filter(|(_, count)| *count != 0);
            let unlike: Vec<String> = unlike.map(|(line, count)| format!("{count:+} {:.200}", line)).collect();
            assert!(unlike.is_empty(), "{what}: {kind} differ:\n{}", unlike.join("\n"));
            assert!(one == two, "{what}: {kind} are in another order");
        }
    }
}

/// What each side says is the same at once, and the one that was left is as it was.
async fn there_by_dump(versions: [u32; 2]) {
    let fleet = Fleet::start(versions).await;
    let was = fleet.dump(0);
    fleet.done("move", json!({"to": {"server": SERVERS[1]}, "method": "dump"})).await;
    let stands = fleet.plane.get("/v1/tenants/zoo/move").await.2;
    assert_eq!((&stands["serves"], &stands["digests"]), (&json!(SERVERS[1]), &json!("equal")), "{stands:#}");
    assert_eq!((&stands["method"], &stands["follows"]), (&json!("dump"), &json!(false)), "{stands:#}");
    was.same(&fleet.dump(0), "moved by dump, and left as it was");
    was.same(&fleet.dump(1), "moved by dump");
    fleet.done("move/finish", json!({})).await;
    was.same(&fleet.dump(1), "moved by dump for good");
}

async fn there_and_back(versions: [u32; 2]) {
    let fleet = Fleet::start(versions).await;
    let was = fleet.dump(0);
    assert!(was.schema.len() > 400 && was.rows.len() > 700, "{} and {} lines", was.schema.len(), was.rows.len());

    fleet.go(1).await;
    fleet.dump(0).but_while_kept().same(&fleet.dump(1).but_while_kept(), "moved, and both sides are there");
    fleet.done("move/rollback", json!({})).await;
    was.same(&fleet.dump(0), "moved back");

    fleet.go(1).await;
    fleet.done("move/finish", json!({})).await;
    was.same(&fleet.dump(1), "moved for good");
    fleet.go(0).await;
    fleet.done("move/finish", json!({})).await;
    was.same(&fleet.dump(0), "moved to where it came from");
}

#[tokio::test]
async fn story_a_zoo_moves_from_15_to_15_and_back() {
    there_and_back([15, 15]).await;
}

#[tokio::test]
async fn story_a_zoo_moves_from_15_to_18_and_back() {
    there_and_back([15, 18]).await;
}

#[tokio::test]
async fn story_a_zoo_moves_by_dump_from_15_to_15() {
    there_by_dump([15, 15]).await;
}

#[tokio::test]
async fn story_a_zoo_moves_by_dump_from_15_to_18() {
    there_by_dump([15, 18]).await;
}
