//! Moves whose servers, store or process give way in the middle: at every moment one side serves, with everything that it
//! said was committed.

use std::time::Duration;

use freehold_client::api::TenantId;
use freehold_client::api::movability::MoveTo;
use freehold_client::api::moving::MoveTenant;
use freehold_client::api::tenant::RotateCredentials;
use freehold_testkit::{Cluster, as_tenant};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reqwest::Method;
use serde_json::json;

use crate::moves::{self, OTHER, TWO, over};
use crate::points::sample;
use crate::rig::{Rig, SERVER, STORE, Wanted};
use crate::scenario::{Scenario, add_templates};
use crate::serving::{PATIENCE, Serve, stops, until};
use crate::writer::{Writer, connection};

/// A tenant on the first of two servers, neither of which has the store.
pub async fn rig(lease: u64) -> (Rig, Serve) {
    let rig = Rig::new(Wanted { apart: Some(moves::cluster().start()), lease, settings: TWO }).await;
    ready(rig).await
}

async fn ready(rig: Rig) -> (Rig, Serve) {
    let mut serve = rig.serve("").await;
    // It makes a login at its own time.
    rig.freeze("health").await;
    add_templates(&serve).await;
    rig.add_server(&serve, 50, None).await;
    rig.add_other(&serve).await;
    rig.settled(&mut serve, &[]).await;
    (rig, serve)
}

pub async fn restarted(rig: &Rig, serve: &mut Serve, faults: &str) {
    serve.kill().await;
    rig.let_leases_run_out().await;
    *serve = rig.serve(faults).await;
}

/// The tenant gets in at the server that the store says, and nowhere else.
pub async fn served_by(rig: &Rig, serve: &Serve, id: &str, server: &str) {
    assert_eq!(serve.get(&format!("/v1/tenants/{id}")).await.1["server"], server);
    let mut connection = connection(serve, id).await;
    as_tenant(&connection).await.expect("the tenant logs in");
    let other = if server == SERVER { rig.second.as_ref().expect("two servers").port() } else { rig.server().port() };
    connection["direct"]["port"] = json!(other);
    assert!(as_tenant(&connection).await.is_err(), "both sides let it in");
}

async fn begin(serve: &Serve, id: &str) {
    let body = json!({"to": {"server": OTHER}, "deadline_seconds": 10});
    serve.begin(Method::POST, &format!("/v1/tenants/{id}/move"), Some(body)).await;
}

/// A server dies there; of the one that the tenant came from, or of the other.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Death {
    kind: &'static str,
    point: &'static str,
    first: bool,
}

/// The loop about moves.
const LOOK_NOW: &str = "UPDATE loop_lease SET lease_until = now(), next_run_at = now() WHERE name = 'moves'; NOTIFY freehold_loop, 'moves'";
const MOVE: &str = "tenant.move";
const BACK: &str = "tenant.roll_back_move";

/// Kill -9 of one of the two servers, at any step: when it is back the move goes on by itself. Then back again: what the
/// side that was left got meanwhile is whole as well.
#[tokio::test]
async fn move_goes_on_when_a_server_that_died_is_back() {
    let there = [
        "Publish/slot",
        "Copy/before",
        "Ready/slot",
        "Flip/fenced",
        "Flip/carried",
        "Flip/turned",
        "Follow/subscribed",
    ];
    let back = ["Turn/fenced", "Turn/carried", "Turn/turned", "Drop/database_dropped"];
    let points = there.iter().map(|point| (MOVE, *point)).chain(back.iter().map(|point| (BACK, *point)));
    let all: Vec<Death> =
        points.flat_map(|(kind, point)| [true, false].map(|first| Death { kind, point, first })).collect();
    // A server that dies forgets how far its slots were advanced: always.
    let forgets = Death { kind: MOVE, point: "Flip/turned", first: false };
    let others: Vec<Death> = all.into_iter().filter(|death| *death != forgets).collect();
    let (mut rig, mut serve) = rig(20).await;
    let nothing = rig.of_moves().await;
    for (n, death) in [forgets].into_iter().chain(sample(&others, 1)).enumerate() {
        let id = format!("dies-{n}");
        Scenario::Move.prepare_move(&rig, &serve, &id).await;
        let writer = Writer::start(&rig, &serve, &id).await;
        writer.more().await;
        if death.kind == BACK {
            over(&serve, &format!("/v1/tenants/{id}/move"), json!({"to": {"server": OTHER}})).await;
        }
        goes_on_after(&mut rig, &mut serve, &id, &death).await;
        writer.more().await;
        if death.kind == MOVE {
            served_by(&rig, &serve, &id, OTHER).await;
            over(&serve, &format!("/v1/tenants/{id}/move/rollback"), json!({})).await;
            writer.more().await;
        }
        served_by(&rig, &serve, &id, SERVER).await;
        writer.end(&serve, &id).await;
        serve.purge(&id).await;
        rig.settled(&mut serve, &[]).await;
        assert_eq!(rig.of_moves().await, nothing, "{death:?} left something");
    }
}

async fn goes_on_after(rig: &mut Rig, serve: &mut Serve, id: &str, death: &Death) {
    let Death { kind, point, first } = death;
    // Something is written while there is a way back, and before the turn.
    restarted(rig, serve, &format!("tenant.move/Ready/after=sleep:500*1,{kind}/{point}=stop*1")).await;
    let asked = async {
        match *kind {
            MOVE => begin(serve, id).await,
            _ => serve.begin(Method::POST, &format!("/v1/tenants/{id}/move/rollback"), Some(json!({}))).await,
        }
    };
    stops(serve, point, asked).await;
    let server = if *first { rig.apart.as_mut() } else { rig.second.as_mut() };
    server.expect("two servers").kill();
    serve.signal(Signal::SIGCONT);
    let noticed = async || rig.newest(kind).await.is_some_and(|(state, ..)| state != "running");
    until(&format!("{death:?} is noticed"), noticed).await;
    let server = if *first { rig.apart.as_mut() } else { rig.second.as_mut() };
    server.expect("two servers").start_again();
    over_by_itself(rig, serve, kind, &format!("{death:?}")).await;
}

pub async fn over_by_itself(rig: &Rig, serve: &Serve, kind: &str, what: &str) {
    let began = std::time::Instant::now();
    loop {
        let newest = rig.newest(kind).await.expect("there is one");
        if newest.0 == "succeeded" {
            return;
        }
        let gave_up = ["failed", "stuck", "cancelled"].contains(&newest.0.as_str());
        assert!(!gave_up && began.elapsed() < PATIENCE, "{what}: {newest:?}\n{}", serve.output());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Between the commit that says who serves and the moment that the target lets the tenant in: it is let in by whoever takes
/// the operation over, and nobody has to be told.
#[tokio::test]
async fn move_whose_process_dies_before_it_lets_the_tenant_in_is_ended_by_another() {
    let (rig, mut serve) = rig(2).await;
    Scenario::Move.prepare_move(&rig, &serve, "acme").await;
    let writer = Writer::start(&rig, &serve, "acme").await;
    restarted(&rig, &mut serve, "tenant.move/Flip/turned=kill*1").await;
    let other = rig.serve("tenant.move/Flip/turned=kill*1").await;
    let mut both = [serve, other];
    begin(&both[0], "acme").await;
    let mut dead = None;
    until("one of them dies", async || {
        dead = both.iter_mut().position(Serve::ended);
        dead.is_some()
    })
    .await;
    let alive = &both[1 - dead.expect("one is dead")];
    // A look of its own at the leases, and no more than that: within two of them, a loaded machine's minute allowed for.
    writer.more().await;
    over_by_itself(&rig, alive, MOVE, "killed between commit and admittance").await;
    served_by(&rig, alive, "acme", OTHER).await;
    assert_eq!(alive.get("/v1/tenants/acme/move").await.1["digests"], "unread");
    writer.end(alive, "acme").await;
}

/// The store commits who serves, and the answer is lost: it is asked, and what it says is done.
#[tokio::test]
async fn move_whose_commit_was_not_answered_asks_the_store() {
    // Only the transaction of the flip waits for a standby that never comes: it is committed by then.
    let store =
        Cluster::builder(15).setting("synchronous_standby_names", "nobody").setting("synchronous_commit", "local");
    let apart = Some(moves::cluster().start());
    let rig = Rig::over(store.start(), Wanted { apart, settings: TWO, ..Wanted::default() }).await;
    let (rig, serve) = ready(rig).await;
    rig.sql
        .batch_execute(
            "CREATE FUNCTION wait_for_standby() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN PERFORM set_config('synchronous_commit', 'on', true); RETURN NEW; END $$;
             CREATE TRIGGER wait_for_standby BEFORE UPDATE ON tenant_move FOR EACH ROW
                WHEN (OLD.flipped_at IS DISTINCT FROM NEW.flipped_at) EXECUTE FUNCTION wait_for_standby()",
        )
        .await
        .expect("make the flip wait");
    Scenario::Move.prepare_move(&rig, &serve, "acme").await;
    let writer = Writer::start(&rig, &serve, "acme").await;
    writer.more().await;
    for (path, kind, serves) in [("move", "tenant.move", OTHER), ("move/rollback", "tenant.roll_back_move", SERVER)] {
        let body = if path == "move" { json!({"to": {"server": OTHER}, "deadline_seconds": 10}) } else { json!({}) };
        serve.begin(Method::POST, &format!("/v1/tenants/acme/{path}"), Some(body)).await;
        let home = rig.store.connect("postgres").await;
        until("its answer is lost", async || {
            let sql = format!(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND datname = '{STORE}'"
            );
            home.query_one(&sql, &[]).await.expect("look for it").get::<_, i64>(0) > 0
        })
        .await;
        over_by_itself(&rig, &serve, kind, "its answer was lost").await;
        served_by(&rig, &serve, "acme", serves).await;
        writer.more().await;
    }
    writer.end(&serve, "acme").await;
}

/// The session that is to refuse the tenant's logins hangs, and the move is given up meanwhile: what that session was told
/// does not come into force afterwards, when nobody would take it back.
#[tokio::test]
async fn move_given_up_leaves_no_fence_that_comes_late() {
    let (rig, mut serve) = rig(20).await;
    Scenario::Move.prepare_move(&rig, &serve, "acme").await;
    restarted(&rig, &mut serve, "tenant.move/Flip/opened=sleep:2500*1").await;
    let body = json!({"to": {"server": OTHER}, "deadline_seconds": 1});
    serve.begin(Method::POST, "/v1/tenants/acme/move", Some(body)).await;
    until("it is before the fence", async || serve.output().contains("fault point fires")).await;
    let home = rig.server().connect("postgres").await;
    let ours = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'fh:%' AND datname LIKE 'made\\_%'";
    let stopped: Vec<Pid> = home
        .query(ours, &[])
        .await
        .expect("look for its sessions")
        .iter()
        .map(|row| Pid::from_raw(row.get(0)))
        .collect();
    assert!(!stopped.is_empty());
    stopped.iter().for_each(|pid| kill(*pid, Signal::SIGSTOP).expect("stop a session"));
    let operation = rig.newest_id("tenant.move").await;
    let (status, body) = serve.request(Method::POST, &format!("/v1/operations/{operation}/cancel"), None).await;
    assert!(status == 200 || status == 202, "{status} {body}");
    let newest = async || rig.newest("tenant.move").await.expect("there is one");
    until("it is given up", async || ["undoing", "cancelled", "failed"].contains(&newest().await.0.as_str())).await;
    // Whoever does not wait for the sessions that hang is through by then.
    let began = std::time::Instant::now();
    while newest().await.0 == "undoing" && began.elapsed() < Duration::from_secs(3) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stopped.iter().for_each(|pid| kill(*pid, Signal::SIGCONT).expect("let a session go on"));
    until("it is undone", async || newest().await.0 == "cancelled").await;
    until("its sessions are gone", async || home.query(ours, &[]).await.expect("look for them").is_empty()).await;
    served_by(&rig, &serve, "acme", SERVER).await;
    let shut = "SELECT rolname::text FROM pg_roles WHERE rolname LIKE 'made\\_acme%' AND NOT rolcanlogin AND rolname LIKE '%\\_app%'";
    assert!(home.query(shut, &[]).await.expect("look at the logins").is_empty(), "{}", serve.output());
}

/// A credential that leaked is replaced while there is a way back: back there, the new one is let in and of the other one
/// nothing is left. All of it by the verbs of the client.
#[tokio::test]
async fn move_back_knows_what_was_rotated_meanwhile() {
    let (rig, serve) = rig(20).await;
    Scenario::Move.prepare_move(&rig, &serve, "acme").await;
    let home = rig.server().connect("postgres").await;
    let roles = async || {
        let sql = "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'made\\_acme%' OR rolname LIKE 'fh\\_%'";
        home.query_one(sql, &[]).await.expect("count roles").get::<_, i64>(0)
    };
    let (leaked, before) = (connection(&serve, "acme").await, roles().await);
    let client = freehold_client::Client::new(&serve.url(), &rig.key).expect("a client");
    let id: TenantId = "acme".parse().expect("an id");
    let to = MoveTo::Server(OTHER.parse().expect("an id"));
    let wanted = MoveTenant { to, method: None, deadline_seconds: Some(10), keep_seconds: None, dry_run: None };
    let moved = client.move_tenant(&id, &wanted).await.expect("it moves");
    assert_eq!(moved.server.map(|server| server.to_string()).as_deref(), Some(OTHER));
    let stands = client.tenant_move(&id).await.expect("its former side is kept");
    assert!(stands.follows && stands.keep_until.is_some() && stands.serves.as_str() == OTHER, "{stands:?}");
    let how = RotateCredentials { immediate: Some(true), ..RotateCredentials::default() };
    client.rotate_credentials(&id, &how).await.expect("it gets another credential");
    client.roll_back_move(&id).await.expect("it goes back");
    served_by(&rig, &serve, "acme", SERVER).await;
    assert!(as_tenant(&leaked).await.is_err(), "the one that leaked is let in");
    assert_eq!(roles().await, before);

    // Again, and now the new side gives up what the old one has not got.
    client.move_tenant(&id, &wanted).await.expect("it moves again");
    let inside = rig.server().connect("made_acme").await;
    let disable = "DO $$ BEGIN EXECUTE (SELECT format('ALTER SUBSCRIPTION %I DISABLE', subname) FROM pg_subscription \
                   WHERE subname LIKE 'fh\\_back%'); END $$";
    inside.batch_execute(disable).await.expect("the old side follows no more");
    drop(inside);
    let new = rig.second.as_ref().expect("two servers").connect("postgres").await;
    let give_up = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name LIKE 'fh\\_back%' AND NOT active";
    until("it gives it up", async || new.query(give_up, &[]).await.is_ok_and(|dropped| dropped.len() == 1)).await;
    rig.sql.batch_execute(LOOK_NOW).await.expect("let time pass");
    until("it is seen", async || client.tenant_move(&id).await.is_ok_and(|stands| !stands.follows)).await;
    let refused = client.roll_back_move(&id).await.expect_err("there is no way back");
    assert!(refused.to_string().contains("no way back"), "{refused}");
    client.finish_move(&id).await.expect("the former side goes");
    assert!(client.tenant_move(&id).await.is_err(), "nothing is kept of it");
    served_by(&rig, &serve, "acme", OTHER).await;
}

/// The tenant is back, and what is left of the other side cannot be dropped: nobody has to ask for it again.
#[tokio::test]
async fn move_back_that_could_not_clean_up_is_ended_by_the_loop() {
    let (rig, mut serve) = rig(20).await;
    let nothing = rig.of_moves().await;
    Scenario::MoveBack.prepare_move(&rig, &serve, "acme").await;
    restarted(&rig, &mut serve, "tenant.roll_back_move/Drop/before=permanent*1").await;
    serve.begin(Method::POST, "/v1/tenants/acme/move/rollback", Some(json!({}))).await;
    rig.until_operation(BACK, "failed").await;
    served_by(&rig, &serve, "acme", SERVER).await;
    until("nothing is kept", async || {
        rig.sql.batch_execute(LOOK_NOW).await.expect("let time pass");
        serve.get("/v1/tenants/acme/move").await.0 == 404
    })
    .await;
    rig.until_operation("tenant.finish_move", "succeeded").await;
    served_by(&rig, &serve, "acme", SERVER).await;
    serve.purge("acme").await;
    assert_eq!(rig.of_moves().await, nothing);
}

/// The server that was left never comes back: until somebody says so its tenant can neither move nor be deleted. Then nothing
/// of the move is left where it is, and what the lost server has is a stray there, should it be found again one day.
#[tokio::test]
async fn move_whose_former_server_is_lost_is_ended_when_it_is_given_up() {
    let (mut rig, serve) = rig(20).await;
    let nothing = rig.of_moves().await;
    for id in ["acme", "globex"] {
        Scenario::MoveAbandoned.prepare_move(&rig, &serve, id).await;
    }
    let writer = Writer::start(&rig, &serve, "acme").await;
    rig.apart.as_mut().expect("two servers").kill();
    writer.more().await;
    let (status, body) = serve.request(Method::DELETE, "/v1/tenants/acme?purge=true&confirm=acme", None).await;
    assert_eq!((status, body["code"].as_str()), (409, Some("wrong_state")), "{body}");

    // It waits, and says what there is to do.
    let finish = "/v1/tenants/acme/move/finish";
    serve.begin(Method::POST, finish, Some(json!({}))).await;
    let waiting = rig.newest_id("tenant.finish_move").await;
    until("it says what to do", async || {
        let (_, operation) = serve.get(&format!("/v1/operations/{waiting}")).await;
        let message = operation["error"]["message"].as_str().unwrap_or_default();
        message.contains("on server one") && message.contains("--finish --abandon --confirm acme")
    })
    .await;
    for body in [json!({"abandon": true}), json!({"abandon": true, "confirm": "globex"})] {
        let (status, refused) = serve.post(finish, body).await;
        assert_eq!(refused["code"], "confirmation_required", "{status} {refused}");
    }
    for id in ["acme", "globex"] {
        let body = json!({"abandon": true, "confirm": id});
        over(&serve, &format!("/v1/tenants/{id}/move/finish"), body).await;
        assert_eq!(serve.get(&format!("/v1/tenants/{id}/move")).await.0, 404);
    }
    assert_eq!(serve.get(&format!("/v1/operations/{waiting}")).await.1["state"], "cancelled");
    served_by(&rig, &serve, "acme", OTHER).await;
    let (_, audit) = serve.get("/v1/audit?action=tenant.move.abandoned&limit=10").await;
    let told = audit["items"].as_array().and_then(|items| items.iter().find(|event| event["subject"] == "tenant:acme"));
    let told = told.unwrap_or_else(|| panic!("nobody is told: {audit}"));
    assert_eq!((&told["details"]["server"], &told["details"]["database"]), (&json!(SERVER), &json!("made_acme")));
    let owner = rig.owner("globex").await;
    serve.purge("globex").await;

    // Found again: it is nobody's, nobody gets in, and it is in the way of a move there until a person has dropped it.
    rig.apart.as_mut().expect("two servers").start_again();
    until("the truth tells", async || {
        let sql = "UPDATE loop_lease SET next_run_at = now() WHERE name = 'truth'; NOTIFY freehold_loop, 'truth'";
        rig.sql.batch_execute(sql).await.expect("wake the loop");
        let (_, drift) = serve.get("/v1/drift?kind=ghost&server=one").await;
        let items = drift["items"].as_array().cloned().unwrap_or_default();
        ["made_acme", "made_globex"].iter().all(|name| items.iter().any(|item| item["name"] == *name))
    })
    .await;
    served_by(&rig, &serve, "acme", OTHER).await;
    let (_, taken) = serve.post("/v1/tenants/acme/move", json!({"to": {"server": SERVER}})).await;
    assert_eq!(taken["code"], "name_taken", "{taken}");
    rig.drop_abandoned("acme", &rig.owner("acme").await).await;
    rig.drop_abandoned("globex", &owner).await;
    writer.more().await;
    writer.end(&serve, "acme").await;
    over(&serve, "/v1/tenants/acme/move", json!({"to": {"server": SERVER}})).await;
    served_by(&rig, &serve, "acme", SERVER).await;
    over(&serve, "/v1/tenants/acme/move/finish", json!({})).await;
    serve.purge("acme").await;
    assert_eq!(rig.of_moves().await, nothing);
}
