use freehold_drivers::server::sql::{ObservedDatabase, ObservedRole};

use super::*;

const ABOUT: About<'_> = About { tenant: "acme", server: "one", database: "d", owner: "o", login: "l", admitted: true };

fn observed() -> Observed {
    Observed {
        roles: vec![ObservedRole {
            name: "l".into(),
            can_login: true,
            superuser: false,
            createdb: false,
            createrole: false,
            replication: false,
            bypass_rls: false,
            conn_limit: 20,
            config: vec!["role=o".into(), "statement_timeout=0".into()],
            config_in: Default::default(),
            member_of: vec!["o".into()],
            members: Vec::new(),
            verifier: None,
        }],
        databases: vec![ObservedDatabase {
            name: "d".into(),
            owner: "admin".into(),
            public_connect: false,
            connect: vec!["o".into()],
            conn_limit: -1,
            allow_connections: true,
            is_template: false,
            has_login_trigger: false,
            config: Vec::new(),
        }],
        owned_as_login: Vec::new(),
    }
}

fn standing() -> Standing {
    Standing { login_limit: 20, database_limit: -1, server_max: 97, of_login: 3, on_server: 40, ..Standing::default() }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn session(pid: i32, state_since: i64, blocked_by: &[i32]) -> Activity {
    Activity {
        pid,
        user: "l".into(),
        of_tenant: true,
        application: String::new(),
        client: None,
        state: Some("active".into()),
        since: Some(at(-1000)),
        state_since: Some(at(state_since)),
        transaction_since: Some(at(state_since - 5)),
        waits_for: None,
        blocked_by: blocked_by.to_vec(),
        query: None,
    }
}

#[test]
fn each_bent_thing_about_the_role_is_named() {
    type Bend = fn(&mut Observed);
    let bends: [(Bend, LinkState, &str); 11] = [
        (|_| {}, LinkState::Ok, "as they were made"),
        (|o| o.databases.clear(), LinkState::Broken, "no database d"),
        (|o| o.roles.clear(), LinkState::Broken, "no role l"),
        (|o| o.databases[0].allow_connections = false, LinkState::Broken, "admits nobody"),
        (|o| o.roles[0].can_login = false, LinkState::Broken, "NOLOGIN"),
        (|o| o.roles[0].member_of.clear(), LinkState::Broken, "no member"),
        (|o| o.roles[0].config[0] = "role=none".into(), LinkState::Broken, "role=none instead of o"),
        (|o| o.databases[0].connect.clear(), LinkState::Broken, "may not connect"),
        (|o| o.roles[0].config[1] = "statement_timeout=9".into(), LinkState::Notable, "statement_timeout is 9"),
        (|o| o.databases[0].public_connect = true, LinkState::Notable, "everybody may connect"),
        (|o| o.roles[0].conn_limit = 1, LinkState::Notable, "CONNECTION LIMIT is 1"),
    ];
    for (bend, state, told) in bends {
        let mut bent = observed();
        bend(&mut bent);
        let judged = role(&ABOUT, &bent, &Plan::standard());
        assert!(judged.state == state && judged.message.contains(told), "{told}: {judged:?}");
        assert_eq!(judged.next.is_none(), state == LinkState::Ok);
    }
}

#[test]
fn the_narrowest_full_limit_is_named() {
    assert_eq!(connections(&ABOUT, &standing()).state, LinkState::Ok);
    for (full, state, told) in [
        (Standing { of_login: 20, ..standing() }, LinkState::Broken, "role l has 20 of 20"),
        (Standing { of_login: 18, ..standing() }, LinkState::Notable, "role l has 18 of 20"),
        (Standing { in_database: 5, database_limit: 5, ..standing() }, LinkState::Broken, "database d has 5 of 5"),
        (Standing { on_server: 97, ..standing() }, LinkState::Broken, "server one has 97 of 97"),
        (Standing { login_limit: -1, of_login: 1000, ..standing() }, LinkState::Ok, "1000"),
    ] {
        let judged = connections(&ABOUT, &full);
        assert!(judged.state == state && judged.message.contains(told), "{judged:?}");
    }
}

#[test]
fn locks_are_traced_to_whoever_holds_without_waiting() {
    assert_eq!(locks(&ABOUT, &[session(1, -9, &[])], at(0)).state, LinkState::Ok);
    let chain = [session(1, -60, &[]), session(2, -9, &[1]), session(3, -7, &[2, 1])];
    let judged = locks(&ABOUT, &chain, at(0));
    assert_eq!(judged.message, "2 sessions wait for locks, the longest for 9 s; held by 1 (l, active for 60 s)");
    assert_eq!(judged.next.as_deref(), Some("freehold tenant terminate-sessions acme --pid 1"));
    assert_eq!(judged.state, LinkState::Broken);
    assert_eq!(locks(&ABOUT, &chain, at(-8)).state, LinkState::Notable, "everybody waits for a moment now and then");
    let prepared = locks(&ABOUT, &[session(2, -9, &[0])], at(0));
    assert!(prepared.message.contains("a prepared transaction"), "{prepared:?}");
    let each_other = locks(&ABOUT, &[session(1, -9, &[2]), session(2, -9, &[1])], at(0));
    assert!(each_other.message.ends_with("held by each other"), "{each_other:?}");
}

#[test]
fn old_transactions_and_prepared_ones_are_told() {
    let now = Standing { now: at(0), ..standing() };
    assert_eq!(transactions(&ABOUT, &[], &now).message, "no transaction is open");
    assert_eq!(transactions(&ABOUT, &[session(1, -60, &[])], &now).state, LinkState::Ok);
    let old = transactions(&ABOUT, &[session(1, -60, &[]), session(2, -2000, &[])], &now);
    assert!(old.state == LinkState::Notable && old.message.contains("session 2"), "{old:?}");
    let prepared = Standing { prepared: 2, oldest_prepared: Some(at(-7300)), ..now };
    assert!(transactions(&ABOUT, &[], &prepared).message.contains("the oldest for 2 h"));
}

#[test]
fn storage_is_told_from_80_and_broken_at_100_percent() {
    let quota = Some(1_000_000);
    for (size, free, state) in [
        (799_999, None, LinkState::Ok),
        (800_000, None, LinkState::Notable),
        (1_000_000, None, LinkState::Broken),
        (1, Some((14, 100)), LinkState::Notable),
        (1, Some((4, 100)), LinkState::Broken),
        (1_000_000, Some((50, 100)), LinkState::Broken),
        (u64::MAX, Some((0, 0)), LinkState::Broken),
    ] {
        let free = free.map(|(free_bytes, total_bytes)| Disk { free_bytes, total_bytes });
        let judged = disk(&ABOUT, size, quota, free);
        assert_eq!(judged.state, state, "{judged:?}");
        assert_eq!(judged.next.is_none(), state == LinkState::Ok);
    }
    assert_eq!(disk(&ABOUT, u64::MAX, None, None).state, LinkState::Ok);
}
