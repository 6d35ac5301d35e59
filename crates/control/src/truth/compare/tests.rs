//! What a tenant can bend, one by one.

use super::*;

fn observed() -> Observed {
    let role = |name: &str, member_of: &[&str], verifier: &str, config: &[&str]| ObservedRole {
        name: name.into(),
        can_login: name != "o",
        superuser: false,
        createdb: false,
        createrole: false,
        replication: false,
        bypass_rls: false,
        conn_limit: 20,
        config: config.iter().map(|entry| (*entry).to_owned()).collect(),
        config_in: Default::default(),
        member_of: member_of.iter().map(|role| (*role).to_owned()).collect(),
        members: Vec::new(),
        verifier: Some(verifier.into()),
    };
    Observed {
        roles: vec![
            role("o", &[], "", &[]),
            role("l", &["o"], "v", &["role=o", "idle_in_transaction_session_timeout=60000"]),
            role("m", &["o"], "w", &["role=o"]),
        ],
        databases: vec![ObservedDatabase {
            name: "d".into(),
            owner: "admin".into(),
            public_connect: false,
            // Somebody that is not Freehold's may be let in by whoever runs the server.
            connect: vec!["o".into(), "reporting".into()],
            conn_limit: -1,
            allow_connections: true,
            is_template: false,
            has_login_trigger: false,
            config: Vec::new(),
        }],
        owned_as_login: Vec::new(),
    }
}

fn judge(observed: &Observed) -> Vec<String> {
    let limits = Limits { connection_limit: 20, idle_in_transaction_timeout_ms: 60_000, ..Limits::default() };
    let neighbours = HashSet::from(["o", "l", "m", "neighbour"]);
    let expected = Expected {
        login: "l",
        owner: "o",
        maintenance: "m",
        verifier: "v",
        maintenance_verifier: "w",
        beside: &[],
        database: "d",
        extra: &[],
        limits: &limits,
        can_login: true,
        tenant_owns_database: false,
        neighbours: &neighbours,
    };
    compare(&expected, &Seen::of(observed)).codes()
}

#[test]
fn truth_finds_nothing_where_nothing_is_bent() {
    assert_eq!(judge(&observed()), Vec::<String>::new());
}

#[test]
fn truth_names_each_thing_that_a_tenant_can_bend() {
    type Bend = fn(&mut Observed);
    let bends: [(Bend, &str); 19] = [
        (|o| o.roles[0].member_of.push("other".into()), "memberships_changed:o"),
        (|o| o.roles[2].member_of.push("other".into()), "maintenance_memberships_changed"),
        (|o| o.roles[0].superuser = true, "attributes_changed:o"),
        (|o| o.roles[1].createrole = true, "attributes_changed:l"),
        (|o| o.roles[1].verifier = Some("x".into()), "verifier_changed"),
        (|o| o.roles[1].can_login = false, "admission_changed"),
        (|o| o.roles[1].conn_limit = -1, "connection_limit_changed"),
        (|o| o.roles[1].config[0] = "role=none".into(), "settings_changed"),
        (|o| o.roles[1].config.push("work_mem=1GB".into()), "settings_changed"),
        (|o| drop(o.roles[1].config_in.insert("d".into(), vec!["role=none".into()])), "settings_changed"),
        (|o| o.roles[1].member_of.push("other".into()), "memberships_changed"),
        (|o| o.databases[0].public_connect = true, "public_connect"),
        (|o| o.databases[0].owner = "o".into(), "database_owner_changed"),
        (|o| o.owned_as_login.push(("l".into(), "d".into())), "owned_as_login"),
        (|o| drop(o.roles.remove(2)), "lost_role:m"),
        (|o| o.databases[0].allow_connections = false, "database_closed"),
        (|o| o.databases[0].conn_limit = 3, "database_limit_changed"),
        (|o| o.databases[0].conn_limit = -2, "database_invalid"),
        (|o| o.databases[0].connect.push("neighbour".into()), "stranger_admitted:neighbour"),
    ];
    for (bend, code) in bends {
        let mut bent = observed();
        bend(&mut bent);
        assert_eq!(judge(&bent), [code]);
    }
}
