//! A tenant changes servers while it is written to through its pooler, and back: no query fails, no commit is lost.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use freehold_testkit::{Plane, Told, as_tenant};
use nix::sys::signal::{Signal, kill};
use serde_json::{Value as Json, json};
use tokio::task::JoinHandle;
use tokio_postgres::Client;

use crate::bench::BINARY;
use crate::story::{ask, create, is_answered, pgbouncer, pooler, until};

const WRITERS: i64 = 4;
const SCHEMA: &str = "create sequence tickets; \
    create table ledger (id bigint primary key, ticket bigint not null unique, note text); \
    create table keyless (id bigint, what text); \
    create table counters (who bigint primary key, n bigint not null); \
    insert into counters select g, 0 from generate_series(0, 9) g; \
    create unlogged table scratch (n int); insert into scratch values (7)";

#[derive(Default)]
struct Wrote {
    told: Told,
    failed: Vec<String>,
}

struct Writers {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicI64>,
    wrote: Arc<Mutex<Wrote>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Writers {
    fn start(pooled: &Json) -> Self {
        Self::begin(pooled, false)
    }

    /// Who does not get in tries again: the pooler may be away.
    fn patient(pooled: &Json) -> Self {
        Self::begin(pooled, true)
    }

    fn begin(pooled: &Json, patient: bool) -> Self {
        let (stop, done, wrote) =
            (Arc::<AtomicBool>::default(), Arc::<AtomicI64>::default(), Arc::<Mutex<Wrote>>::default());
        let write = |who| {
            let (pooled, stop, done, wrote) = (pooled.clone(), stop.clone(), done.clone(), wrote.clone());
            tokio::spawn(write(who, patient, pooled, stop, done, wrote))
        };
        let tasks = (0..WRITERS).map(write).collect();
        Self { stop, done, wrote, tasks }
    }

    async fn more(&self, count: i64) {
        let wanted = self.done.load(Ordering::Relaxed) + count;
        until("the writers get on", async || match self.done.load(Ordering::Relaxed) {
            done if done >= wanted => Ok(()),
            done => Err(format!("{done} of {wanted}, {:?}", self.wrote.lock().unwrap().failed)),
        })
        .await;
    }

    /// Everything that was said to be committed is there once, and nothing else. Answers how often an answer was lost.
    async fn end(self, pooled: &Json) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
        let told = {
            let wrote = self.wrote.lock().unwrap();
            assert_eq!(wrote.failed, Vec::<String>::new());
            wrote.told.clone()
        };
        let client = as_tenant(pooled).await.unwrap();
        for table in ["ledger", "keyless"] {
            let rows = client.query(&format!("select id from {table}"), &[]).await.unwrap();
            told.compare(table, &rows.iter().map(|row| row.get(0)).collect::<Vec<_>>()).unwrap();
        }
        let counted = "select (sum(n) = (select count(*) from ledger))::text from counters";
        assert_eq!(ask(&client, counted).await.unwrap(), "true");
        told.unknown.len()
    }
}

async fn write(
    who: i64,
    patient: bool,
    pooled: Json,
    stop: Arc<AtomicBool>,
    done: Arc<AtomicI64>,
    wrote: Arc<Mutex<Wrote>>,
) {
    let mut session: Option<Client> = None;
    let mut id = who * 1_000_000;
    while !stop.load(Ordering::Relaxed) {
        let Some(open) = session.as_ref().filter(|open| !open.is_closed()) else {
            match as_tenant(&pooled).await {
                Ok(client) => session = Some(client),
                Err(_) if patient => tokio::time::sleep(Duration::from_millis(20)).await,
                Err(error) => wrote.lock().unwrap().failed.push(format!("log in: {error:?}")),
            }
            continue;
        };
        id += 1;
        let sql = format!(
            "begin; insert into ledger values ({id}, nextval('tickets'), 'n'); insert into keyless values ({id}, 'x'); \
             update counters set n = n + 1 where who = {who}; commit"
        );
        match open.batch_execute(&sql).await {
            Ok(()) => {
                wrote.lock().unwrap().told.committed.insert(id);
                done.fetch_add(1, Ordering::Relaxed);
            }
            Err(error)
                if error.is_closed() || error.code().is_some_and(|code| ["57P01", "08P01"].contains(&code.code())) =>
            {
                wrote.lock().unwrap().told.unknown.insert(id);
                session = None;
            }
            Err(error) => {
                wrote.lock().unwrap().failed.push(format!("{error:?}"));
                session = None;
            }
        }
        tokio::time::sleep(Duration::from_millis(4)).await;
    }
}

pub async fn post(plane: &Plane, path: &str, body: Json) -> Json {
    let (status, _, begun) = plane.post(&format!("/v1/tenants/acme/{path}"), body).await;
    if status == 202 {
        let path = format!("/v1/operations/{}", begun["id"].as_str().unwrap());
        until("the operation is over", async || match plane.get(&path).await.2 {
            now if now["state"] == "succeeded" => Ok(()),
            now if ["failed", "stuck", "cancelled"].contains(&now["state"].as_str().unwrap()) => {
                panic!("{now:#}\n{}", plane.output())
            }
            now => Err(now.to_string()),
        })
        .await;
        return plane.get("/v1/tenants/acme").await.2;
    }
    assert_eq!(status, 200, "{begun:#}\n{}", plane.output());
    begun
}

/// A tenant on the first of two servers, behind its pooler.
async fn ready(version: &'static str, faults: &str) -> (Plane, Json) {
    let plane = Plane::dev(BINARY).pooler(version).stock(1).arg("--servers").arg("2");
    let plane = plane.env("FREEHOLD_FAULTS", faults).start().await;
    until("the pooler is healthy", async || match pooler(&plane).await {
        pooler if pooler["health"] == "healthy" => Ok(()),
        other => Err(other.to_string()),
    })
    .await;
    assert_eq!(plane.post("/v1/servers/local-2/cordon", json!({})).await.0, 200);
    let old = create(&plane, "acme").await;
    assert_eq!(plane.post("/v1/servers/local-2/uncordon", json!({})).await.0, 200);
    as_tenant(&old["pooled"]).await.unwrap().batch_execute(SCHEMA).await.unwrap();
    (plane, old)
}

/// Kill -9 of PgBouncer while the tables are copied, and while everybody waits, on the way there and on the way back.
pub async fn a_move_outlives_its_pgbouncer(version: &'static str) {
    let faults = "tenant.move/Copy/before=sleep:1000*1,tenant.move/Flip/fenced=sleep:1500*1,\
                  tenant.roll_back_move/Turn/turned=sleep:1500*1";
    let (plane, old) = ready(version, faults).await;
    let writers = Writers::patient(&old["pooled"]);
    writers.more(50).await;
    let mut passed = 0;
    for (path, body, deaths, server) in [
        ("move", json!({"to": {"server": "local-2"}, "deadline_seconds": 10}), 2, "local-2"),
        ("move/rollback", json!({}), 1, "local-1"),
    ] {
        let dies = async {
            for _ in 0..deaths {
                passed += 1;
                until("it is in the middle", async || match plane.output().matches("fault point fires").count() {
                    now if now >= passed => Ok(()),
                    now => Err(format!("{now} of {passed}")),
                })
                .await;
                let victim = pgbouncer(&plane).expect("it runs");
                kill(victim, Signal::SIGKILL).unwrap();
                until("another one runs", async || match pgbouncer(&plane) {
                    Some(now) if now != victim => Ok(()),
                    _ => Err("none".into()),
                })
                .await;
            }
        };
        let (now, ()) = tokio::join!(post(&plane, path, body), dies);
        assert_eq!(now["server"], server);
        writers.more(50).await;
    }
    writers.end(&old["pooled"]).await;
}

pub async fn a_tenant_moves_and_comes_back_while_it_is_written_to(version: &'static str) {
    let (plane, old) = ready(version, "").await;
    let writers = Writers::start(&old["pooled"]);
    writers.more(50).await;

    let moved = post(&plane, "move", json!({"to": {"server": "local-2"}, "deadline_seconds": 10})).await;
    assert_eq!(moved["server"], "local-2");
    let stands = plane.get("/v1/tenants/acme/move").await.2;
    assert_eq!(
        (&stands["serves"], &stands["follows"], &stands["digests"]),
        (&json!("local-2"), &json!(true), &json!("equal")),
        "{stands:#}"
    );
    let new = crate::story::connection(&plane, "acme").await;
    assert_eq!(
        (&new["pooled"]["port"], &new["pooled"]["password"]),
        (&old["pooled"]["port"], &old["pooled"]["password"])
    );
    assert_ne!(new["direct"]["port"], old["direct"]["port"]);
    assert!(as_tenant(&old["direct"]).await.is_err(), "the server that was left lets it in");
    writers.more(50).await;
    assert_eq!(ask(&as_tenant(&new["direct"]).await.unwrap(), "select n::text from scratch").await.unwrap(), "7");

    let back = post(&plane, "move/rollback", json!({})).await;
    assert_eq!(back["server"], "local-1");
    assert_eq!(plane.get("/v1/tenants/acme/move").await.0, 404);
    assert!(as_tenant(&new["direct"]).await.is_err(), "the server that was left again lets it in");
    writers.more(50).await;

    post(&plane, "move", json!({"to": {"name": "local-2"}})).await;
    let (status, _, refused) = plane.delete("/v1/tenants/acme?confirm=acme").await;
    assert_eq!((status, &refused["code"]), (409, &json!("wrong_state")), "{refused}");
    writers.more(50).await;
    let done = post(&plane, "move/finish", json!({})).await;
    assert_eq!(done["server"], "local-2");
    writers.more(20).await;
    let lost = writers.end(&old["pooled"]).await;
    // Who keeps a server connection loses it with the server.
    assert!(version == "1.18" || lost == 0, "{lost} answers were lost");
}

/// A small one is through before the pooler would let its clients go: they wait, and none of them hears an error.
pub async fn a_tenant_moves_by_dump_while_its_clients_are_held(version: &'static str) {
    let (plane, old) = ready(version, "").await;
    let writers = Writers::start(&old["pooled"]);
    writers.more(50).await;
    let moved = post(&plane, "move", json!({"to": {"server": "local-2"}, "method": "dump"})).await;
    assert_eq!(moved["server"], "local-2");
    writers.more(50).await;
    let new = crate::story::connection(&plane, "acme").await;
    assert!(as_tenant(&old["direct"]).await.is_err(), "the server that was left lets it in");
    assert_eq!(ask(&as_tenant(&new["direct"]).await.unwrap(), "select n::text from scratch").await.unwrap(), "7");
    let lost = writers.end(&old["pooled"]).await;
    assert!(version == "1.18" || lost == 0, "{lost} answers were lost");
}

/// Nobody is paused, for nobody is served; once it is resumed its pooler leads to the new server.
pub async fn a_suspended_tenant_moves_and_its_pooler_follows(version: &'static str) {
    let (plane, old) = ready(version, "").await;
    post(&plane, "suspend", json!({"reason": "unpaid"})).await;
    for (path, body, server) in [
        ("move", json!({"to": {"server": "local-2"}}), "local-2"),
        ("move/rollback", json!({}), "local-1"),
        ("move", json!({"to": {"server": "local-2"}, "method": "dump"}), "local-2"),
    ] {
        let moved = post(&plane, path, body).await;
        assert_eq!(
            (&moved["server"], &moved["state"], &moved["state_reason"]),
            (&json!(server), &json!("suspended"), &json!("unpaid"))
        );
        if let Ok(let_in) = as_tenant(&old["pooled"]).await {
            assert!(!is_answered(&let_in).await, "somebody is served");
        }
    }
    post(&plane, "resume", json!({})).await;
    until("it is served", async || {
        let session = as_tenant(&old["pooled"]).await.map_err(|error| format!("{error:?}"))?;
        ask(&session, "select n::text from scratch").await.map(drop).map_err(|error| format!("{error:?}"))
    })
    .await;
    let new = crate::story::connection(&plane, "acme").await;
    let port = async |connection: &Json| {
        ask(&as_tenant(connection).await.unwrap(), "select current_setting('port')").await.unwrap()
    };
    assert_eq!(port(&new["pooled"]).await, port(&new["direct"]).await);
}
