use freehold_drivers::server::sql::adopt::{EventTrigger, PrivilegeOn};

use super::*;

struct World {
    outside: Outside,
    inside: Inside,
    roles: Vec<OwnerFacts>,
    superuser: bool,
    taken: BTreeMap<String, String>,
    asked: Asked,
}

fn owned(class: &str, oid: u32, owner: &str) -> Object {
    Object { class: class.into(), oid, owner: owner.into() }
}

fn role(name: &str) -> OwnerFacts {
    OwnerFacts {
        name: name.into(),
        superuser: false,
        powers: Vec::new(),
        can_login: true,
        admin_is_member: false,
        admin_may_join: true,
    }
}

/// One that can be adopted as it is.
fn fine() -> World {
    World {
        outside: Outside {
            name: "legacy".into(),
            owner: "former".into(),
            encoding: "UTF8".into(),
            allows_connections: true,
            ..Outside::default()
        },
        inside: Inside {
            objects: vec![
                owned("pg_namespace", 2200, "pg_database_owner"),
                owned("pg_class", 20_000, "former"),
                owned("pg_class", 20_001, "other"),
            ],
            ..Inside::default()
        },
        roles: vec![role("former"), role("other"), role("app")],
        superuser: true,
        taken: BTreeMap::new(),
        asked: Asked::default(),
    }
}

fn verdict(world: &World) -> Verdict {
    judge(&Facts {
        outside: &world.outside,
        inside: &world.inside,
        roles: &world.roles,
        admin: Admin { name: "admin", superuser: world.superuser },
        taken: &world.taken,
        asked: &world.asked,
    })
}

fn codes(findings: &[Finding]) -> Vec<&str> {
    findings.iter().map(|found| found.code.as_str()).collect()
}

fn trigger() -> EventTrigger {
    EventTrigger {
        name: "watch".into(),
        function: "f()".into(),
        enabled: "O".into(),
        owner: "postgres".into(),
        owner_is_superuser: true,
    }
}

#[test]
fn each_thing_that_stands_against_it_is_named() {
    assert_eq!(verdict(&fine()), Verdict::default());
    type Bend = fn(&mut World);
    let bends: [(Bend, &str); 24] = [
        (|w| w.outside.name = "postgres".into(), "system_database"),
        (|w| w.outside.is_template = true, "template_database"),
        (|w| w.outside.allows_connections = false, "no_connections"),
        (|w| w.outside.prepared = 1, "prepared_transactions"),
        (|w| w.outside.sessions = vec![("app".into(), 3)], "sessions"),
        (|w| w.inside.event_triggers = vec![trigger()], "event_trigger"),
        (|w| w.inside.definer_traps = vec!["f()".into()], "security_definer"),
        (|w| w.inside.untrusted = vec!["f()".into()], "untrusted_language"),
        (|w| w.inside.catalog_additions = vec!["function pg_catalog.f()".into()], "catalog_changed"),
        (|w| w.inside.catalog_writers = vec!["former".into()], "catalog_writable"),
        (|w| w.inside.subscriptions = vec!["s".into()], "subscription"),
        (|w| w.inside.has_schema_freehold = true, "schema_freehold"),
        (|w| w.inside.is_control_store = true, "control_store"),
        (|w| drop(w.taken.insert("other".into(), "tenant x's".into())), "owned_by_another"),
        (|w| w.asked.owner = Some("nobody".into()), "no_such_role"),
        (|w| w.asked.keep_logins = vec!["nobody".into()], "no_such_role"),
        (
            |w| {
                w.asked.keep_logins = vec!["app".into()];
                w.taken.insert("app".into(), "tenant x's".into());
            },
            "login_of_another",
        ),
        (
            |w| {
                w.asked.keep_logins = vec!["app".into()];
                w.roles[2].powers = vec!["CREATEROLE".into()];
            },
            "login_too_powerful",
        ),
        (
            |w| {
                w.asked.keep_logins = vec!["app".into()];
                w.roles[2].superuser = true;
            },
            "login_too_powerful",
        ),
        (
            |w| {
                w.asked.keep_logins = vec!["app".into()];
                w.roles[2].can_login = false;
            },
            "no_login",
        ),
        (
            |w| {
                w.superuser = false;
                w.outside.has_login_trigger = true;
            },
            "event_trigger",
        ),
        (
            |w| {
                w.superuser = false;
                w.roles[1].superuser = true;
            },
            "owned_by_superuser",
        ),
        (
            |w| {
                w.superuser = false;
                w.roles[0].admin_may_join = false;
            },
            "not_a_member",
        ),
        (
            |w| {
                w.superuser = false;
                w.inside.objects.push(owned("pg_opclass", 20_002, "former"));
            },
            "operator_class",
        ),
    ];
    for (bend, code) in bends {
        let mut world = fine();
        bend(&mut world);
        assert_eq!(codes(&verdict(&world).refusals), [code]);
    }
}

#[test]
fn everything_is_said_at_once() {
    let mut world = fine();
    world.outside.prepared = 2;
    world.outside.is_template = true;
    world.inside.subscriptions = vec!["s".into(), "t".into()];
    world.inside.event_triggers = vec![trigger()];
    let refusals = verdict(&world).refusals;
    assert_eq!(
        codes(&refusals),
        ["template_database", "event_trigger", "subscription", "subscription", "prepared_transactions"]
    );
}

#[test]
fn what_was_asked_for_turns_refusals_into_notes() {
    let mut world = fine();
    world.outside.sessions = vec![("app".into(), 3), ("cron".into(), 1)];
    world.outside.connect = ["", "former", "app", "report"]
        .map(|name| PrivilegeOn { grantee: name.into(), privilege: "CONNECT".into(), grantable: false })
        .to_vec();
    world.inside.event_triggers = vec![trigger()];
    world.asked.keep_logins = vec!["app".into()];
    let refused = verdict(&world);
    assert_eq!(codes(&refused.refusals), ["event_trigger", "sessions"]);
    assert!(refused.refusals[1].message.starts_with("cron (1) are in it"), "who is kept may stay: {refused:?}");
    world.asked.end_sessions = true;
    world.asked.disable_event_triggers = true;
    let found = verdict(&world);
    assert_eq!(codes(&found.refusals), Vec::<&str>::new());
    assert_eq!(codes(&found.notes), ["event_trigger", "login_kept", "sessions", "closed", "closed", "closed"]);
    // Who is no superuser disables nothing.
    world.superuser = false;
    assert_eq!(codes(&verdict(&world).refusals), ["event_trigger"]);
}

#[test]
fn what_changes_hands_is_what_was_asked_for_and_public() {
    let world = fine();
    let taken = |asked: &Asked, owner: &str| -> Vec<u32> {
        wanted(&world.inside.objects, asked, owner).iter().map(|object| object.oid).collect()
    };
    assert_eq!(taken(&Asked::default(), "new"), [2200, 20_000, 20_001]);
    assert_eq!(taken(&Asked::default(), "other"), [2200, 20_000], "what it has already is not taken again");
    let only = Asked { owner: Some("former".into()), ..Asked::default() };
    assert_eq!(taken(&only, "new"), [2200, 20_000]);
    let left = verdict(&World { asked: only, ..fine() });
    assert_eq!(codes(&left.notes), ["left_behind"]);
    // What another tenant owns in it does not stand against an adoption that leaves it alone.
    let mut world = fine();
    world.taken.insert("other".into(), "tenant x's".into());
    world.asked.owner = Some("former".into());
    assert_eq!(codes(&verdict(&world).refusals), Vec::<&str>::new());
}

#[test]
fn a_disabled_event_trigger_is_nobodys_to_enable() {
    let mut world = fine();
    world.inside.event_triggers = vec![EventTrigger { enabled: "D".into(), ..trigger() }];
    let found = verdict(&world);
    assert_eq!((codes(&found.refusals), codes(&found.notes)), (vec![], vec!["event_trigger"]));
    world.inside.event_triggers[0].owner = "admin".into();
    assert_eq!(verdict(&world), Verdict::default());
    // A superuser of then: who is none takes it from him, or not.
    world.inside.event_triggers[0] = EventTrigger { owner_is_superuser: false, enabled: "D".into(), ..trigger() };
    let found = verdict(&world);
    assert_eq!(codes(&found.refusals), Vec::<&str>::new());
    assert!(found.notes[0].message.contains("becomes admin's for good"), "{found:?}");
    world.superuser = false;
    assert_eq!(codes(&verdict(&world).refusals), ["event_trigger"]);
    world.inside.event_triggers[0].owner_is_superuser = true;
    assert_eq!(codes(&verdict(&world).refusals), Vec::<&str>::new());
}

#[test]
fn a_ghost_keeps_its_schema() {
    let mut world = fine();
    world.inside.has_note = true;
    let found = verdict(&world);
    assert_eq!((codes(&found.refusals), codes(&found.notes)), (vec![], vec!["former_note"]));
}
