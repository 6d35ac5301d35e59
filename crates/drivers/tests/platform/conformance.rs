//! What every platform does, and how each of its verbs may be misused. Each story has a world of its own.

use freehold_drivers::platform::{Phase, PlatformErrorKind};
use freehold_drivers::secrets::{Password, scram_verifier};
use freehold_drivers::server::managed::{Transport, differences};
use freehold_drivers::server::sql::{Admin, SqlErrorKind};
use jiff::SignedDuration;

use crate::case::{ADMIN, Case, World, ask, now};

/// One test for each story: `stories!(pg15, world())`, where `world()` makes a [`World`].
macro_rules! stories {
    ($module:ident, $world:expr) => {
        stories!(@on $module, $world,
            a_service_lives_its_whole_life_and_every_verb_may_run_twice,
            an_older_generation_is_refused,
            a_changed_definition_is_in_force,
            a_new_verifier_and_a_new_certificate_are_in_force,
            a_killed_server_comes_back,
            what_cannot_be_started_is_failing_with_a_reason_until_it_is_mended,
            a_held_server_is_not_called_running,
            a_new_freehold_adopts_what_runs,
            a_taken_port_is_named,
            lost_data_is_never_replaced,
            no_password_is_anywhere,
            nobody_comes_in_without_tls_or_password,
            a_strange_name_is_refused,
        );
    };
    (@on $module:ident, $world:expr, $($story:ident,)*) => {
        mod $module {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $story() {
                    let world = $world;
                    $crate::conformance::$story(&world).await;
                }
            )*
        }
    };
}

pub async fn a_service_lives_its_whole_life_and_every_verb_may_run_twice(world: &dyn World) {
    let platform = world.platform().await;
    let mut case = Case::new(world, "life");
    assert_eq!(platform.observe("life").await.unwrap().phase, Phase::Absent);
    for _ in 0..2 {
        platform.ensure(&case.service).await.unwrap();
    }
    let admin = case.until_open(world, &*platform).await;
    assert!(admin.is_superuser());
    assert_eq!(admin.user(), ADMIN);
    assert_eq!(admin.version_num() / 10_000, i32::from(world.major()));
    assert_eq!(ask(&admin, "show data_checksums").await, "on");
    let names: Vec<&str> = case.postgres().settings.keys().map(String::as_str).collect();
    let in_force = admin.settings_in_force(&names).await.unwrap();
    assert_eq!(differences(&case.postgres().settings, &in_force), []);
    admin.client().batch_execute("create table public.kept as select 'here'::text as body").await.unwrap();
    let identifier = admin.system_identifier().await.unwrap();
    platform.ensure(&case.service).await.unwrap();
    admin.ping().await.expect("the same again disturbs nobody");
    admin.close().await;
    assert_eq!(platform.list().await.unwrap(), ["life"]);
    let observed = platform.observe("life").await.unwrap();
    assert_eq!((observed.generation, observed.reason), (1, None));

    for _ in 0..2 {
        platform.stop("life").await.unwrap();
    }
    case.until(&*platform, Phase::Stopped).await;
    assert_eq!(platform.list().await.unwrap(), ["life"]);
    assert_eq!(platform.purge("life").await.unwrap_err().kind, PlatformErrorKind::Conflict);
    platform.ensure(&case.service).await.unwrap();
    let admin = case.until_open(world, &*platform).await;
    assert_eq!(ask(&admin, "select body from public.kept").await, "here");
    admin.close().await;
    assert_eq!(platform.purge("life").await.unwrap_err().kind, PlatformErrorKind::Conflict);

    for _ in 0..2 {
        platform.remove("life").await.unwrap();
    }
    assert_eq!(platform.observe("life").await.unwrap().phase, Phase::Absent);
    assert!(platform.list().await.unwrap().is_empty());
    case.postgres().initialise = false;
    case.service.generation += 1;
    platform.ensure(&case.service).await.unwrap();
    let admin = case.until_open(world, &*platform).await;
    assert_eq!(ask(&admin, "select body from public.kept").await, "here");
    assert_eq!(admin.system_identifier().await.unwrap(), identifier);
    admin.close().await;

    platform.remove("life").await.unwrap();
    for _ in 0..2 {
        platform.purge("life").await.unwrap();
    }
    let gone = platform.ensure(&case.service).await.unwrap_err();
    assert_eq!(gone.kind, PlatformErrorKind::Storage, "{gone}");
    assert_eq!(platform.observe("life").await.unwrap().phase, Phase::Absent);
    for verb in ["stop", "remove", "purge"] {
        match verb {
            "stop" => platform.stop("never-there").await,
            "remove" => platform.remove("never-there").await,
            _ => platform.purge("never-there").await,
        }
        .unwrap_or_else(|error| panic!("{verb} of what is not there: {error}"));
    }
}

pub async fn an_older_generation_is_refused(world: &dyn World) {
    let platform = world.platform().await;
    let mut case = Case::new(world, "older");
    case.service.generation = 7;
    platform.ensure(&case.service).await.unwrap();
    case.until_open(world, &*platform).await.close().await;
    let mut old = case.service.clone();
    old.generation = 6;
    let refused = platform.ensure(&old).await.unwrap_err();
    assert_eq!(refused.kind, PlatformErrorKind::Outdated, "{refused}");
    assert_eq!(platform.observe("older").await.unwrap().generation, 7);
    case.until_open(world, &*platform).await.close().await;
    platform.remove("older").await.unwrap();
    let refused = platform.ensure(&old).await.unwrap_err();
    assert_eq!(refused.kind, PlatformErrorKind::Outdated, "{refused}: one that was removed is not forgotten");
}

pub async fn a_changed_definition_is_in_force(world: &dyn World) {
    let platform = world.platform().await;
    let mut case = Case::new(world, "changed");
    platform.ensure(&case.service).await.unwrap();
    let admin = case.until_open(world, &*platform).await;
    admin.client().batch_execute("create table public.kept as select 'here'::text as body").await.unwrap();
    admin.close().await;
    case.with_settings(world, &[("max_connections", "77"), ("work_mem", "5MB")]);
    platform.ensure(&case.service).await.unwrap();
    for _ in 0..300 {
        let admin = case.until_open(world, &*platform).await;
        if ask(&admin, "show max_connections").await == "77" {
            assert_eq!(ask(&admin, "show work_mem").await, "5MB");
            assert_eq!(ask(&admin, "select body from public.kept").await, "here");
            assert_eq!(platform.observe("changed").await.unwrap().generation, 2);
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("the new settings do not come into force");
}

pub async fn a_new_verifier_and_a_new_certificate_are_in_force(world: &dyn World) {
    let platform = world.platform().await;
    let mut case = Case::new(world, "renewed");
    platform.ensure(&case.service).await.unwrap();
    case.until_open(world, &*platform).await.close().await;
    let old = std::mem::replace(&mut case.password, Password::random(32));
    let mut next = Case::new(world, "renewed");
    let issued = next.authority.issue(&["localhost", "127.0.0.1"], now(), SignedDuration::from_hours(48)).unwrap();
    next.password = case.password.clone();
    next.service = case.service.clone();
    next.service.generation = 2;
    let verifier = scram_verifier(&next.password);
    let postgres = next.postgres();
    postgres.admin_verifier = verifier;
    (postgres.certificate_pem, postgres.certificate_key) = (issued.certificate_pem, issued.key_pem);
    platform.ensure(&next.service).await.unwrap();
    // Both follow on their own; the other authority's clients are refused from then on.
    for _ in 0..300 {
        let observed = next.until(&*platform, Phase::Running).await;
        if let Ok(admin) = next.log_in(world, &observed).await {
            admin.close().await;
            let old = next.dsn(&observed, world.transport()).with_user(ADMIN, old);
            let refused = Admin::connect(&old, None, "conformance").await.err().expect("the old password");
            assert_eq!(refused.kind, SqlErrorKind::AuthFailed, "{refused}");
            if world.transport() == Transport::Tls {
                let refused = case.log_in(world, &observed).await.err().expect("the old authority");
                assert_eq!(refused.kind, SqlErrorKind::Tls, "{refused}");
            }
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("the new password and certificate do not come into force");
}

pub async fn a_killed_server_comes_back(world: &dyn World) {
    let platform = world.platform().await;
    let case = Case::new(world, "killed");
    platform.ensure(&case.service).await.unwrap();
    let admin = case.until_open(world, &*platform).await;
    admin.client().batch_execute("create table public.kept as select 'here'::text as body").await.unwrap();
    let started = ask(&admin, "select pg_postmaster_start_time()::text").await;
    world.kill("killed").await;
    for _ in 0..600 {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        let observed = platform.observe("killed").await.unwrap();
        // Of a killed server the sessions may live on for a moment: only what it says of itself now counts.
        assert!(matches!(observed.phase, Phase::Starting | Phase::Running), "{observed:?}");
        if let Ok(admin) = case.log_in(world, &observed).await
            && ask(&admin, "select pg_postmaster_start_time()::text").await != started
        {
            assert_eq!(ask(&admin, "select body from public.kept").await, "here");
            case.until(&*platform, Phase::Running).await;
            return;
        }
    }
    panic!("it does not come back: {:?}", platform.observe("killed").await);
}

pub async fn what_cannot_be_started_is_failing_with_a_reason_until_it_is_mended(world: &dyn World) {
    let platform = world.platform().await;
    let mut case = Case::new(world, "mended");
    platform.ensure(&case.service).await.unwrap();
    case.until_open(world, &*platform).await.close().await;
    case.with_settings(world, &[("shared_preload_libraries", "no_such_library")]);
    platform.ensure(&case.service).await.unwrap();
    let failing = case.until(&*platform, Phase::Failing).await;
    let reason = failing.reason.unwrap_or_default();
    assert!(reason.contains("no_such_library"), "{reason}");
    assert!(platform.last_words("mended").await.unwrap().contains("no_such_library"));
    assert_eq!(platform.list().await.unwrap(), ["mended"]);
    case.with_settings(world, &[]);
    platform.ensure(&case.service).await.unwrap();
    for _ in 0..600 {
        let observed = platform.observe("mended").await.unwrap();
        if observed.phase == Phase::Running && case.log_in(world, &observed).await.is_ok() {
            assert_eq!(platform.observe("mended").await.unwrap().reason, None);
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("what was mended does not start: {:?}", platform.observe("mended").await);
}

pub async fn a_held_server_is_not_called_running(world: &dyn World) {
    let platform = world.platform().await;
    let case = Case::new(world, "held");
    platform.ensure(&case.service).await.unwrap();
    case.until_open(world, &*platform).await.close().await;
    world.hold("held").await;
    let held = case.until(&*platform, Phase::Failing).await;
    assert!(held.reason.is_some(), "{held:?}");
    // It is neither killed nor doubled because of it.
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    assert_eq!(platform.observe("held").await.unwrap().phase, Phase::Failing);
    world.release("held").await;
    case.until_open(world, &*platform).await.close().await;
    world.hold("held").await;
    platform.stop("held").await.unwrap();
    case.until(&*platform, Phase::Stopped).await;
}

pub async fn a_new_freehold_adopts_what_runs(world: &dyn World) {
    let platform = world.platform().await;
    let mut case = Case::new(world, "adopted");
    platform.ensure(&case.service).await.unwrap();
    let admin = case.until_open(world, &*platform).await;
    let started = ask(&admin, "select pg_postmaster_start_time()::text").await;
    drop(platform);
    admin.ping().await.expect("no login depends on Freehold");
    let platform = world.platform().await;
    assert_eq!(platform.list().await.unwrap(), ["adopted"]);
    assert_eq!(platform.observe("adopted").await.unwrap().phase, Phase::Running);
    case.postgres().initialise = false;
    platform.ensure(&case.service).await.unwrap();
    admin.ping().await.expect("what runs as it shall is left alone");
    assert_eq!(ask(&admin, "select pg_postmaster_start_time()::text").await, started);
    admin.close().await;
    // And looked after.
    world.kill("adopted").await;
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    case.until_open(world, &*platform).await.close().await;
}

pub async fn a_taken_port_is_named(world: &dyn World) {
    let platform = world.platform().await;
    let (one, mut two) = (Case::new(world, "one"), Case::new(world, "two"));
    platform.ensure(&one.service).await.unwrap();
    one.until_open(world, &*platform).await.close().await;
    if matches!(two.service.network, freehold_drivers::platform::Network::Overlay { .. }) {
        return;
    }
    two.service.network = one.service.network.clone();
    let taken = platform.ensure(&two.service).await.unwrap_err();
    assert_eq!(taken.kind, PlatformErrorKind::PortTaken, "{taken}");
    assert!(taken.is_transient());
    one.until_open(world, &*platform).await.close().await;
    two.service.network = world.network();
    platform.ensure(&two.service).await.unwrap();
    two.until_open(world, &*platform).await.close().await;
    assert_eq!(platform.list().await.unwrap(), ["one", "two"]);
}

pub async fn lost_data_is_never_replaced(world: &dyn World) {
    let platform = world.platform().await;
    let mut case = Case::new(world, "lost");
    case.postgres().initialise = false;
    let refused = platform.ensure(&case.service).await.unwrap_err();
    assert_eq!(refused.kind, PlatformErrorKind::Storage, "{refused}");
    assert!(!refused.is_transient());
    assert_eq!(platform.observe("lost").await.unwrap().phase, Phase::Absent);
    case.postgres().initialise = true;
    platform.ensure(&case.service).await.unwrap();
    case.until_open(world, &*platform).await.close().await;
}

pub async fn no_password_is_anywhere(world: &dyn World) {
    let platform = world.platform().await;
    let case = Case::new(world, "secretive");
    platform.ensure(&case.service).await.unwrap();
    let admin = case.until_open(world, &*platform).await;
    let visible = world.visible("secretive").await;
    assert!(!visible.is_empty());
    for (place, text) in &visible {
        assert!(!text.contains(case.password.expose()), "the password is in {place}");
    }
    assert!(!platform.last_words("secretive").await.unwrap().contains(case.password.expose()));
    admin.close().await;
}

pub async fn nobody_comes_in_without_tls_or_password(world: &dyn World) {
    let platform = world.platform().await;
    let case = Case::new(world, "closed");
    platform.ensure(&case.service).await.unwrap();
    case.until_open(world, &*platform).await.close().await;
    let observed = platform.observe("closed").await.unwrap();
    let good = case.dsn(&observed, world.transport());
    let wrong = Admin::connect(&good.with_user(ADMIN, Password::random(32)), None, "conformance").await.err();
    assert_eq!(wrong.map(|error| error.kind), Some(SqlErrorKind::AuthFailed));
    if world.transport() == Transport::Tls {
        let plain = Admin::connect(&case.without_tls(&observed), None, "conformance").await.err();
        assert!(plain.is_some(), "plain TCP is refused");
        let stranger = Case::new(world, "closed");
        let other = good.with_ca_pem(stranger.authority.certificate_pem().as_bytes());
        let untrusted = Admin::connect(&other, None, "conformance").await.err();
        assert_eq!(untrusted.map(|error| error.kind), Some(SqlErrorKind::Tls));
    }
}

pub async fn a_strange_name_is_refused(world: &dyn World) {
    let platform = world.platform().await;
    let mut case = Case::new(world, "x");
    for name in ["", "..", "a/b", "A", "a b", "-", &"x".repeat(51)] {
        case.service.name = name.into();
        assert!(platform.ensure(&case.service).await.is_err(), "{name:?}");
    }
    assert!(platform.list().await.unwrap().is_empty());
}
