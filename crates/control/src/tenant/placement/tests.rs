//! Placement is pure: any fleet, any wish.

use std::collections::BTreeMap;

use freehold_api::placement::Choice;
use freehold_api::problem::Code;
use freehold_api::server::ServerKind;
use freehold_api::template::Template;
use freehold_api::tenant::Labels;
use jiff_sqlx::ToSqlx;
use proptest::prelude::*;
use sqlx::types::Json;
use uuid::Uuid;

use super::pools::{self, Growth, Need, Waiters};
use super::{Want, candidates, explain, explain_refusal, fits, obstacles, rank};
use crate::server::store::{ServerRow, ServerWithUse};
use crate::server_pool::definition::Definition;
use crate::settings::{Placement, ServerPool};

fn row(id: &str) -> ServerRow {
    ServerRow {
        id: id.into(),
        kind: "shared".into(),
        state: "active".into(),
        health: "healthy".into(),
        health_message: None,
        checked_at: None,
        capacity: 10,
        region: None,
        dsn: String::new(),
        dsn_sealed: Vec::new(),
        dsn_seal_id: Uuid::nil(),
        dsn_version: 1,
        tenant_host: "h".into(),
        tenant_port: 5432,
        tenant_sslmode: "disable".into(),
        ca_certificate: None,
        version_num: Some(150_013),
        version: None,
        system_identifier: None,
        superuser: None,
        extensions: Json(serde_json::json!({"citext": "1.6"})),
        findings: Json(Vec::new()),
        size_bytes: None,
        connections: None,
        connections_max: None,
        databases: None,
        oldest_transaction_seconds: None,
        xid_age: None,
        replication_lag_bytes: None,
        data_free_bytes: None,
        data_total_bytes: None,
        observed_at: None,
        state_before: None,
        health_code: None,
        health_findings: Json(Vec::new()),
        truth_at: None,
        truth_error: None,
        labels: Json(Labels::new()),
        priority: 100,
        pool: None,
        platform: None,
        definition: None,
        provisioned_at: None,
        resume_to: None,
        created_at: jiff::Timestamp::UNIX_EPOCH.to_sqlx(),
    }
}

fn server(row: ServerRow, tenants: i64) -> ServerWithUse {
    ServerWithUse { tenants, used: tenants, ..ServerWithUse::uncounted(row) }
}

fn template(manifest: &str) -> Template {
    let files = BTreeMap::from([
        ("template.toml".to_owned(), manifest.to_owned()),
        ("migrations/0001_init.sql".to_owned(), "SELECT 1;".to_owned()),
    ]);
    Template::parse("t".parse().unwrap(), files).unwrap()
}

fn pool(text: &str) -> ServerPool {
    toml::from_str(&format!("name = \"eu\"\nplatform = \"process\"\npostgres = 15\n{text}")).unwrap()
}

fn definition(text: &str) -> Definition {
    Definition::of(&pool(text))
}

fn waiters(count: i64) -> Vec<Waiters> {
    let one = Waiters {
        pool: "eu".into(),
        plan: "standard".into(),
        template: "t".into(),
        region: None,
        labels: Labels::new(),
        count,
    };
    vec![one]
}

struct Asked {
    labels: Labels,
    template: Template,
    extensions: Vec<String>,
    rules: Placement,
}

impl Asked {
    fn new() -> Self {
        Self { labels: Labels::new(), template: template(""), extensions: Vec::new(), rules: Placement::default() }
    }

    fn want(&self) -> Want<'_> {
        Want {
            kind: ServerKind::Shared,
            region: None,
            labels: &self.labels,
            template: &self.template,
            extensions: &self.extensions,
            rules: &self.rules,
        }
    }
}

fn why(want: &Want<'_>, server: &ServerWithUse) -> String {
    obstacles(want, server).map(|obstacle| obstacle.to_string()).collect::<Vec<_>>().join("; ")
}

#[test]
fn placement_says_everything_that_speaks_against_a_server() {
    let mut asked = Asked::new();
    asked.template =
        template("minimum_postgres = 16\n[[extension]]\nname = \"vector\"\n[[extension]]\nname = \"citext\"\n");
    asked.rules.labels = vec!["tier".into()];
    asked.labels.insert("tier".into(), "gold".into());
    let bad = ServerRow {
        state: "cordoned".into(),
        kind: "dedicated".into(),
        region: Some("us".into()),
        health: "unhealthy".into(),
        health_message: Some("no route".into()),
        data_free_bytes: Some(1 << 20),
        data_total_bytes: Some(1 << 30),
        definition: Some(Json(definition("disk = \"100M\""))),
        size_bytes: Some(96 << 20),
        connections: Some(95),
        connections_max: Some(100),
        capacity: 1,
        ..row("a")
    };
    let want = Want { region: Some("eu"), ..asked.want() };
    assert_eq!(
        why(&want, &server(bad, 1)),
        "it is cordoned; it is dedicated, the plan wants shared; it is in region us; its label tier is (none), the tenant's is \
         gold; it is unhealthy: no route; it is PostgreSQL 15, the template wants 16; extension vector is not installed on it; \
         its disk has 1 MB free, less than 51 MB; its databases take 96 MB, more than 95 MB of its storage are for them; 95 of its 100 connections are in use; all 1 slots are taken"
    );
    let good = ServerRow {
        region: Some("eu".into()),
        version_num: Some(160_004),
        extensions: Json(serde_json::json!({"citext": "1", "vector": "1"})),
        labels: Json(Labels::from([("tier".into(), "gold".into())])),
        ..row("b")
    };
    assert_eq!(why(&want, &server(good, 9)), "");
}

#[test]
fn placement_keeps_what_is_set_aside_for_those_it_is_for() {
    let mut asked = Asked::new();
    asked.rules.labels = vec!["customer".into()];
    let own = ServerRow { labels: Json(Labels::from([("customer".into(), "acme".into())])), ..row("acme-1") };
    let fleet = [server(own, 0), server(row("common-1"), 5)];
    let ids = |asked: &Asked| rank(&asked.want(), &fleet).iter().map(|s| s.row.id.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&asked), ["common-1"], "others stay out, however empty it is");
    asked.labels.insert("customer".into(), "acme".into());
    assert_eq!(ids(&asked), ["acme-1"]);
    asked.rules.labels.clear();
    assert_eq!(ids(&asked), ["acme-1", "common-1"], "labels mean nothing unless the rules name them");
}

#[test]
fn placement_prefers_health_then_priority_then_room() {
    let asked = Asked::new();
    let fleet = [
        server(ServerRow { health: "degraded".into(), priority: 1, ..row("a") }, 0),
        server(ServerRow { priority: 50, ..row("b") }, 8),
        server(row("c"), 3),
        server(row("d"), 1),
        server(ServerRow { capacity: 100, ..row("e") }, 10),
    ];
    let order: Vec<&str> = rank(&asked.want(), &fleet).iter().map(|server| server.row.id.as_str()).collect();
    assert_eq!(order, ["b", "d", "e", "c", "a"]);
    fleet[3].placed.fetch_add(5, std::sync::atomic::Ordering::Relaxed);
    let order: Vec<&str> = rank(&asked.want(), &fleet).iter().map(|server| server.row.id.as_str()).collect();
    assert_eq!(order, ["b", "e", "c", "d", "a"], "what was placed since the count is counted");
}

#[test]
fn pools_grow_for_who_waits_for_what_is_kept_and_once() {
    let pool = pool("capacity = 10\nminimum_spare = 3\nmaximum_servers = 2");
    let pools = [pool];
    let of = |state: &str, tenants: i64, id: &str| {
        let row = ServerRow {
            pool: Some("eu".into()),
            state: state.into(),
            provisioned_at: Some(row("x").created_at),
            ..row(id)
        };
        server(row, tenants)
    };
    let need = |fleet: &[ServerWithUse], waiting: i64, resting: bool| {
        let growth = Growth {
            waiting: waiters(waiting),
            resting: if resting { BTreeMap::from([("eu".to_owned(), "no disk".to_owned())]) } else { BTreeMap::new() },
        };
        pools::views(&pools, &Placement::default(), fleet, &growth)[0].need(0)
    };
    assert_eq!(need(&[], 0, false), Some(Need::Spare { kept: 3, has: 0 }), "the first comes by itself");
    assert_eq!(need(&[], 120, false), Some(Need::Waiting(120)));
    assert_eq!(need(&[], 120, true), None, "not while it rests after a failure");
    assert_eq!(need(&[of("provisioning", 0, "eu-1")], 120, false), None, "one at a time");
    assert_eq!(need(&[of("active", 5, "eu-1")], 0, false), None);
    assert_eq!(need(&[of("active", 8, "eu-1")], 0, false), Some(Need::Spare { kept: 3, has: 2 }));
    assert_eq!(need(&[of("active", 5, "eu-1")], 5, false), Some(Need::Spare { kept: 3, has: 0 }));
    assert_eq!(need(&[of("active", 5, "eu-1")], 6, false), Some(Need::Waiting(1)));
    let away = ServerRow { state: "failed".into(), ..of("failed", 0, "eu-1").row.as_ref().clone() };
    assert_eq!(
        need(&[server(away.clone(), 0)], 0, false),
        None,
        "one that is away for a while is not replaced for nothing"
    );
    assert_eq!(need(&[server(away, 0)], 1, false), Some(Need::Waiting(1)), "but for somebody who waits");
    assert_eq!(need(&[of("active", 10, "eu-1"), of("active", 10, "eu-2")], 50, false), None, "it has what it may have");
    // A peak of connections passes; a disk that is full of databases does not.
    let busy =
        ServerRow { connections: Some(95), connections_max: Some(100), ..of("active", 0, "eu-1").row.as_ref().clone() };
    assert_eq!(need(&[server(busy.clone(), 0)], 0, false), None);
    assert_eq!(
        need(&[server(busy.clone(), 0)], 1, false),
        Some(Need::Waiting(1)),
        "but who waits is not kept waiting for it"
    );
    let crowded =
        |row| ServerRow { definition: Some(Json(definition("disk = \"100M\""))), size_bytes: Some(96 << 20), ..row };
    for full in [crowded(of("active", 0, "eu-1").row.as_ref().clone()), crowded(busy)] {
        assert_eq!(need(&[server(full, 0)], 0, false), Some(Need::Spare { kept: 3, has: 0 }));
    }
}

/// A slot that those who wait may not have is none; and a machine whose disk is full gets no more servers.
#[test]
fn pools_grow_where_their_free_slots_are_of_no_use() {
    let asked = Asked::new();
    let pools = [pool("capacity = 10\nminimum_spare = 0\nmaximum_servers = 5")];
    let row = ServerRow { pool: Some("eu".into()), provisioned_at: Some(row("x").created_at), ..row("eu-1") };
    let growth = Growth { waiting: waiters(3), ..Growth::default() };
    let of = |row: &ServerRow| {
        let fleet = [server(row.clone(), 5)];
        let view = &pools::views(&pools, &asked.rules, &fleet, &growth)[0];
        let obstacles: Vec<String> = pools::obstacles(&asked.want(), view).map(|why| why.to_string()).collect();
        (view.need(view.short_of(&growth.waiting[0], &asked.want())), obstacles.join("; "))
    };
    assert_eq!(of(&row), (None, String::new()), "it has room for them");
    let regional = ServerRow { version_num: Some(140_000), kind: "dedicated".into(), ..row.clone() };
    assert_eq!(of(&regional).0, Some(Need::Waiting(3)));
    let full = ServerRow { data_free_bytes: Some(1), data_total_bytes: Some(1 << 40), ..row.clone() };
    assert_eq!(of(&full), (None, "the disk of its servers' machine is nearly full".into()));
}

#[test]
fn pools_are_waited_for_only_where_that_helps() {
    let mut asked = Asked::new();
    asked.template = template("[[extension]]\nname = \"vector\"\n");
    let mut pools = [pool("capacity = 2\nmaximum_servers = 2\nregion = \"eu\""), pool("kind = \"dedicated\"")];
    pools[1].name = "own".parse().unwrap();
    let without =
        ServerRow { pool: Some("eu".into()), capacity: 2, provisioned_at: Some(row("x").created_at), ..row("eu-1") };
    let fleet = [server(without, 2)];
    let growth = Growth::default();
    let said = |want: &Want<'_>, growth: &Growth, fleet: &[ServerWithUse]| {
        let views = pools::views(&pools, want.rules, fleet, growth);
        pools::obstacles(want, &views[0]).map(|why| why.to_string()).collect::<Vec<_>>().join("; ")
    };
    let want = Want { region: Some("us"), ..asked.want() };
    assert_eq!(said(&want, &growth, &fleet), "it is in region eu; extension vector is not installed on its servers");
    assert_eq!(said(&asked.want(), &growth, &[]), "", "nobody knows what a first server has");
    asked.template = template("");
    assert_eq!(said(&asked.want(), &growth, &fleet), "");
    let crowd = Growth { waiting: waiters(2), ..Growth::default() };
    assert_eq!(said(&asked.want(), &crowd, &fleet), "2 tenants wait for the last slots of its 2 servers");
    let tired = Growth { resting: BTreeMap::from([("eu".to_owned(), "no disk".to_owned())]), ..Growth::default() };
    assert_eq!(said(&asked.want(), &tired, &fleet), "it could not start a server: no disk");
    let views = pools::views(&pools, &asked.rules, &fleet, &growth);
    assert_eq!(pools::choose(&asked.want(), &views).unwrap().pool.name.as_str(), "eu");
    let refusal = explain::refusal(&asked.want(), &fleet, &pools::views(&pools, &asked.rules, &fleet, &tired)).0.detail;
    for part in [
        "eu-1: all 2 slots are taken",
        "server pool eu: it could not start a server: no disk",
        "server pool own: its servers",
    ] {
        assert!(refusal.contains(part), "{refusal}");
    }
}

/// A server without what the plan brings is passed over, however empty it is; where none has it, that is the reason.
#[test]
fn placement_goes_by_the_extensions_of_the_plan_as_well() {
    let mut asked = Asked::new();
    asked.extensions = vec!["vector".into()];
    let with = ServerRow { extensions: Json(serde_json::json!({"vector": "1"})), ..row("with") };
    let fleet = [server(row("bare"), 0), server(with, 3)];
    let ids: Vec<&str> = rank(&asked.want(), &fleet).iter().map(|server| server.row.id.as_str()).collect();
    assert_eq!(ids, ["with"]);
    assert_eq!(why(&asked.want(), &fleet[0]), "extension vector is not installed on it");
    let refused = explain_refusal(&asked.want(), &fleet[..1]);
    assert_eq!(refused.code(), Code::ExtensionMissing);
    assert!(refused.0.detail.contains("the plan requires extension vector"), "{}", refused.0.detail);
    let pools = [pool("capacity = 2\nmaximum_servers = 2")];
    let of_pool = ServerRow { pool: Some("eu".into()), provisioned_at: Some(row("x").created_at), ..row("eu-1") };
    let (growth, fleet) = (Growth::default(), [server(of_pool, 2)]);
    let views = pools::views(&pools, &asked.rules, &fleet, &growth);
    let against: Vec<String> = pools::obstacles(&asked.want(), &views[0]).map(|why| why.to_string()).collect();
    assert_eq!(against, ["extension vector is not installed on its servers"]);
}

fn fleets() -> impl Strategy<Value = Vec<ServerWithUse>> {
    let one =
        (0u8..4, 1i32..6, (0i64..8, 0i64..3), 0u8..3, -2i32..3, any::<bool>(), prop::option::of(0i64..100), 0u8..3);
    prop::collection::vec(one, 0..12).prop_map(|servers| {
        let made = servers.into_iter().enumerate().map(
            |(n, (state, capacity, (tenants, moving), region, priority, stock, free, label))| {
                let row = ServerRow {
                    state: ["active", "active", "cordoned", "provisioning"][usize::from(state)].into(),
                    capacity,
                    region: [None, Some("eu".to_owned()), Some("us".to_owned())][usize::from(region)].clone(),
                    priority,
                    data_free_bytes: free,
                    data_total_bytes: Some(100),
                    labels: Json(
                        [None, Some("a"), Some("b")][usize::from(label)]
                            .map(|v| ("k".into(), v.into()))
                            .into_iter()
                            .collect(),
                    ),
                    ..row(&format!("s-{n:02}"))
                };
                ServerWithUse { stock: i64::from(stock), moving, ..server(row, tenants) }
            },
        );
        made.collect()
    })
}

proptest! {
    #[test]
    fn placement_is_deterministic_explained_and_never_over_capacity(
        fleet in fleets(), region in 0u8..3, label in 0u8..3, seed in any::<u64>(), callers in 0usize..40,
    ) {
        let mut asked = Asked::new();
        asked.rules.labels = vec!["k".into()];
        if let Some(value) = [None, Some("a"), Some("b")][usize::from(label)] {
            asked.labels.insert("k".into(), value.into());
        }
        let region = [None, Some("eu"), Some("us")][usize::from(region)];
        let want = Want { region, ..asked.want() };
        let ids = |ranked: &[&ServerWithUse]| ranked.iter().map(|server| server.row.id.clone()).collect::<Vec<_>>();
        let ranked = rank(&want, &fleet);
        // Whatever the order they come in.
        let mut shuffled = fleet.clone();
        shuffled.sort_by_key(|server| server.row.id.bytes().map(u64::from).fold(seed, |hash, byte| hash.wrapping_mul(31) ^ byte));
        prop_assert_eq!(ids(&ranked), ids(&rank(&want, &shuffled)));
        // Ranked are exactly those that nothing speaks against, and stock is looked for on no others.
        for server in &fleet {
            let in_rank = ranked.iter().any(|ranked| ranked.row.id == server.row.id);
            prop_assert_eq!(in_rank, fits(&want, server));
            prop_assert_eq!(in_rank, obstacles(&want, server).count() == 0);
        }
        let mut looked_at = candidates(&ranked);
        looked_at.sort();
        let mut all = ids(&ranked);
        all.sort();
        prop_assert_eq!(looked_at, all);
        // What is said is what is done.
        let choice = explain::choose(&want, &ranked, None, &[], &fleet);
        match ranked.first() {
            Some(first) => prop_assert_eq!(choice, Choice::Server { server: first.row.id.parse().unwrap() }),
            None => prop_assert!(matches!(choice, Choice::None { .. }), "nobody fits, and yet somebody is chosen"),
        }
        // One after another, until nobody takes any more.
        let room: i64 = ranked.iter().map(|server| i64::from(server.row.capacity) - server.taken()).sum();
        let mut placed = 0;
        for _ in 0..callers {
            let Some(first) = rank(&want, &fleet).first().map(|server| server.placed.clone()) else { break };
            first.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            placed += 1;
        }
        prop_assert_eq!(placed, room.min(i64::try_from(callers).unwrap()));
        for server in ranked {
            prop_assert!(server.taken_by_now() <= i64::from(server.row.capacity));
        }
    }
}
