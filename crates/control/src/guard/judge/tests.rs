//! Each rule trips alone, on settings that are otherwise fit for production; and every remedy names a setting that exists.

use std::collections::BTreeSet;

use super::super::apart;
use super::*;
use crate::settings::names;

const GOOD: &str = "
    listen = \"127.0.0.1:8400\"
    store.url = \"postgres://freehold:Vq7xkD2mPz9wLb4t@db.internal/control?sslmode=verify-full\"
    secrets.key_file = \"k\"
    platform.nomad.url = \"https://nomad.internal:4646\"
    platform.nomad.token_file = \"/t\"
    platform.process.data_dir = \"/d\"
    audit.checkpoint_url = \"https://collector/anchor\"
    audit.stream_url = \"https://collector/events\"
    audit.stream_secret = \"9f3c1b7a5d2e8f604b6c7d8e9f0a1b2c\"
    pooler.platform.kind = \"process\"
    pooler.platform.data_dir = \"/p\"
    pooler.platform.address = \"db.example.com\"
    pooler.platform.plane_url = \"https://freehold.internal\"
    pooler.platform.certificate = \"/c\"
    pooler.platform.certificate_key = \"/ck\"
    pooler.platform.server_ca = \"/ca\"
    edge = [{ kind = \"tansucloud\", listen = \"127.0.0.1:1\" }]
";

fn settings(changes: &[(&str, &str)]) -> Settings {
    let mut text = String::new();
    let key = |line: &str| line.split('=').next().unwrap().trim().to_owned();
    for line in GOOD.lines().filter(|line| !changes.iter().any(|(changed, _)| *changed == key(line))) {
        text.push_str(&format!("{}\n", line.trim()));
    }
    for (key, value) in changes.iter().filter(|(_, value)| !value.is_empty()) {
        text.push_str(&format!("{key} = {value}\n"));
    }
    toml::from_str::<Settings>(&text).unwrap().checked().unwrap()
}

fn facts() -> Facts {
    Facts {
        key_is_guessable: Ok(false),
        store: Ok(StoreFacts { role: "freehold".into(), is_superuser: false, clock_ahead_ms: 40 }),
        nomad_token: Some("5b8a8a4c-0c1d-4f7e-9a3b-2d6e8f1c7a90".to_owned().into()),
        is_synchronised: None,
        has_fault_points: false,
        environment: StoreEnvironment::default(),
    }
}

fn with(environment: StoreEnvironment) -> Facts {
    Facts { environment, ..facts() }
}

fn store(is_superuser: bool, clock_ahead_ms: i64) -> Facts {
    Facts { store: Ok(StoreFacts { role: "postgres".into(), is_superuser, clock_ahead_ms }), ..facts() }
}

/// One change each, and the one rule that it breaks.
fn faults() -> Vec<(Rule, Settings, Facts)> {
    let mut faults = Vec::new();
    for (rule, key, value) in [
        (Rule::StoreWithoutPassword, "store.url", "\"postgres://freehold@db.internal/c?sslmode=verify-full\""),
        (Rule::StoreWithoutPassword, "store.url", "\"postgres://freehold@localhost/c?host=%2Frun%2Fpostgresql\""),
        (Rule::StoreWithoutPassword, "store.url", "\"postgres://freehold@%2Frun%2Fpostgresql/c\""),
        (Rule::StoreWithoutPassword, "store.url", "\"postgres://freehold:@127.0.0.1/c\""),
        (Rule::StoreWithoutTls, "store.url", "\"postgres://freehold:Vq7xkD2mPz9wLb4t@db.internal/c\""),
        (Rule::StoreWithoutTls, "store.url", "\"postgres://freehold:Vq7xkD2mPz9wLb4t@10.0.0.7/c?sslmode=disable\""),
        (Rule::StoreWithoutTls, "store.url", "\"postgres://freehold:Vq7xkD2mPz9wLb4t@localhost/c?host=db.internal\""),
        (Rule::SecretGuessable, "store.url", "\"postgres://freehold:short@127.0.0.1/c\""),
        (Rule::SecretGuessable, "store.url", "\"postgres://freehold:service_secure_pass_change_me@127.0.0.1/c\""),
        (Rule::SecretGuessable, "store.url", "\"postgres://freehold:abababababababab@127.0.0.1/c\""),
        (Rule::SecretGuessable, "store.url", "\"postgres://freehold:%63hangeme-changeme@127.0.0.1/c\""),
        (Rule::SecretGuessable, "audit.stream_secret", "\"your-secret-key-change-in-production\""),
        (Rule::ApiWithoutTls, "listen", "\"0.0.0.0:8400\""),
        (Rule::ApiWithoutTls, "listen", "\"[::]:8400\""),
        (Rule::ApiWithoutTls, "listen", "\"10.0.0.7:8400\""),
        (Rule::ApiWithoutTls, "edge", "[{ kind = \"tansucloud\", listen = \"0.0.0.0:1\" }]"),
        (Rule::PoolersWithoutTls, "pooler.platform.sslmode", "\"prefer\""),
        (Rule::PoolerServersWithoutTls, "pooler.platform.server_ca", ""),
        (Rule::PlaneWithoutTls, "pooler.platform.plane_url", "\"http://freehold.internal\""),
        (Rule::NomadWithoutTls, "platform.nomad.url", "\"http://nomad.internal:4646\""),
        (Rule::AuditWithoutTls, "audit.checkpoint_url", "\"http://collector/anchor\""),
        (Rule::AuditWithoutTls, "audit.stream_url", "\"http://collector/events\""),
    ] {
        faults.push((rule, settings(&[(key, value)]), facts()));
    }
    let typed = Facts { nomad_token: Some("changeme-changeme".to_owned().into()), ..facts() };
    let token = [("platform.nomad.token_file", ""), ("platform.nomad.token", "\"changeme-changeme\"")];
    faults.push((Rule::SecretGuessable, settings(&token), typed.clone()));
    faults.push((Rule::SecretGuessable, settings(&[]), typed));
    let beside = [("pooler.platform.address", "\"127.0.0.1\""), ("pooler.platform.server_ca", "")];
    faults.push((Rule::PoolerServersWithoutTls, settings(&beside), facts()));
    let without = [("store.url", "\"postgres://freehold@127.0.0.1/c\"")];
    faults.push((
        Rule::SecretGuessable,
        settings(&without),
        with(StoreEnvironment { password: Some("postgres".into()), ..StoreEnvironment::default() }),
    ));
    let silent = [("store.url", "\"postgres://freehold:Vq7xkD2mPz9wLb4t@db.internal/c\"")];
    let allow = StoreEnvironment { sslmode: Some("allow".into()), ..StoreEnvironment::default() };
    faults.push((Rule::StoreWithoutTls, settings(&silent), with(allow)));
    let nowhere = [("store.url", "\"postgres:///c?user=freehold&password=Vq7xkD2mPz9wLb4t\"")];
    let elsewhere = StoreEnvironment { host: Some("db.internal".into()), ..StoreEnvironment::default() };
    faults.push((Rule::StoreWithoutTls, settings(&nowhere), with(elsewhere)));
    for (rule, facts) in [
        (Rule::SealingKey, Facts { key_is_guessable: Err("there is no key file k".into()), ..facts() }),
        (Rule::SecretGuessable, Facts { key_is_guessable: Ok(true), ..facts() }),
        (Rule::StoreUnanswered, Facts { store: Err("the control store does not answer".into()), ..facts() }),
        (Rule::StoreSuperuser, store(true, 0)),
        (Rule::ClockUnsynchronised, store(false, 2_001)),
        (Rule::ClockUnsynchronised, store(false, -60_000)),
        (Rule::ClockUnsynchronised, Facts { is_synchronised: Some(false), ..facts() }),
        (Rule::FaultPoints, Facts { has_fault_points: true, ..facts() }),
    ] {
        faults.push((rule, settings(&[]), facts));
    }
    faults
}

#[test]
fn guard_lets_what_is_fit_for_production_start() {
    assert_eq!(judge(&settings(&[]), &facts()), []);
    for (key, value) in [
        ("store.url", "\"postgres://freehold:Vq7xkD2mPz9wLb4t@127.0.0.1/c\""),
        ("store.url", "\"postgres://freehold:Vq7xkD2mPz9wLb4t@[::1]/c?sslmode=disable\""),
        ("store.url", "\"postgres://freehold:Vq7xkD2mPz9wLb4t@localhost/c?host=/run/postgresql\""),
        ("store.url", "\"postgres://freehold@db.internal/c?sslmode=verify-full&sslcert=/c&sslkey=/k\""),
        ("platform.nomad.url", "\"http://127.0.0.1:4646\""),
        ("pooler.platform.plane_url", "\"http://localhost:8400\""),
        ("pooler.platform.server_tls", "\"verified\""),
        ("pooler.platform.address", "\"127.0.0.1\""),
        ("listen", "\"[::1]:8400\""),
    ] {
        assert_eq!(judge(&settings(&[(key, value)]), &facts()), [], "{key} = {value}");
    }
    assert_eq!(judge(&settings(&[]), &Facts { is_synchronised: Some(true), ..store(false, -2_000) }), []);
}

#[test]
fn guard_rules_each_trip_alone() {
    let mut tripped = BTreeSet::new();
    for (rule, settings, facts) in faults() {
        let reasons = judge(&settings, &facts);
        let rules: Vec<Rule> = reasons.iter().map(|reason| reason.rule).collect();
        assert_eq!(rules, [rule], "{reasons:#?}");
        tripped.insert(rule);
        let said = reasons[0].to_string();
        for secret in ["Vq7xkD2mPz9wLb4t", "abababab", "short@", "changeme", "change_me", "9f3c1b7a"] {
            assert!(!said.contains(secret), "{said}");
        }
        let rules_accepted = [("compat.accept", format!("[{:?}]", rule.as_str()))];
        if rule.may_be_accepted() {
            let (key, value) = &rules_accepted[0];
            let accepting = self::settings(&[(key, value)]);
            assert_eq!(apart(&accepting, reasons).1, [], "{rule:?}");
        } else {
            let text = format!(
                "store.url = \"postgres://x\"\nsecrets.key_file = \"k\"\ncompat.accept = [{:?}]",
                rule.as_str()
            );
            let error = toml::from_str::<Settings>(&text).unwrap().checked().unwrap_err().to_string();
            assert!(error.contains(rule.as_str()), "{error}");
        }
    }
    assert_eq!(tripped, Rule::ALL.into(), "every rule has a fault here");
}

#[test]
fn guard_remedies_name_settings_that_exist() {
    let known: BTreeSet<String> = names().into_iter().collect();
    for (rule, settings, facts) in faults() {
        for reason in judge(&settings, &facts) {
            let named: Vec<&str> = reason.remedy.split('`').skip(1).step_by(2).collect();
            assert!(!named.is_empty(), "{rule:?} names no setting: {}", reason.remedy);
            for setting in named {
                assert!(known.contains(setting), "{rule:?}: there is no setting {setting}: {}", reason.remedy);
            }
        }
    }
}

#[test]
fn guard_lists_everything_at_once() {
    let settings = settings(&[
        ("store.url", "\"postgres://postgres:changeme@db.internal/c\""),
        ("listen", "\"0.0.0.0:8400\""),
        ("audit.stream_url", "\"http://collector/events\""),
    ]);
    let rules: Vec<Rule> = judge(&settings, &store(true, 60_000)).iter().map(|reason| reason.rule).collect();
    let all = [
        Rule::SecretGuessable,
        Rule::StoreWithoutTls,
        Rule::StoreSuperuser,
        Rule::ApiWithoutTls,
        Rule::AuditWithoutTls,
        Rule::ClockUnsynchronised,
    ];
    assert_eq!(rules, all);
}
