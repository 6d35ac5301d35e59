//! The files as each version is given them.

use std::collections::BTreeMap;

use freehold_drivers::pooler::pgbouncer::{Files, Release, render};
use freehold_drivers::pooler::pgcat::{self, PlainPasswords};
use freehold_drivers::pooler::{
    ClientTls, Configuration, Console, ConsoleLogin, Entry, Limits, Listen, Login, Mode, PoolerErrorKind, Server,
    ServerTls, Standing, Verifier,
};
use freehold_drivers::secrets::Password;

const VERIFIER: &str = "SCRAM-SHA-256$4096:c2FsdHNhbHRzYWx0c2FsdA==$\
                        AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

fn verifier() -> Verifier {
    Verifier::parse(VERIFIER).unwrap()
}

fn configuration() -> Configuration {
    let login = |role: &str, standing| Login { role: role.into(), verifier: verifier(), standing };
    let entry = |name: &str, database: &str, logins| Entry {
        name: name.into(),
        server: Server { host: "db-1.internal".into(), port: 5432 },
        database: database.into(),
        mode: Some(Mode::Transaction),
        pool_size: 10,
        reserve: 2,
        database_connections: Some(20),
        client_connections: Some(200),
        logins,
    };
    let mut session = entry("beta", "fh_beta", vec![login("fh_beta_a", Standing::Usable)]);
    (session.mode, session.database_connections, session.client_connections) = (Some(Mode::Session), None, None);
    Configuration {
        generation: 42,
        listen: Listen { addresses: vec!["10.0.0.5".into(), "::1".into()], port: 6432 },
        console: Console {
            admin: ConsoleLogin { name: "freehold_admin".into(), verifier: verifier() },
            check: ConsoleLogin { name: "freehold_check".into(), verifier: verifier() },
            networks: vec!["127.0.0.1/32".into()],
        },
        client_tls: ClientTls::Required {
            certificate: "/etc/freehold/tls.crt".into(),
            key: "/etc/freehold/tls.key".into(),
        },
        server_tls: ServerTls::VerifyFull { ca: "/etc/freehold/ca.crt".into() },
        limits: Limits::default(),
        extra: BTreeMap::from([("tcp_keepidle".into(), "60".into())]),
        entries: vec![
            session,
            entry(
                "acme",
                "it's \"acme\"",
                vec![login("acme \"b\"", Standing::Usable), login("acme a", Standing::Unusable)],
            ),
        ],
    }
}

#[test]
fn rendered_files_of_each_version() {
    let files = Files::new("/var/lib/freehold/pooler");
    for (name, release) in [("1.18", Release::new(1, 18, 0)), ("1.24", Release::new(1, 24, 1))] {
        let rendered = render(&configuration(), release.features(), &files).unwrap();
        let all = format!(
            "{}\n---- users\n{}\n---- rules\n{}\n---- left out\n{:?}\n",
            rendered.ini, rendered.users, rendered.rules, rendered.left_out
        );
        insta::assert_snapshot!(format!("pgbouncer_{name}"), all);
        let mut turned = configuration();
        turned.entries.reverse();
        for entry in &mut turned.entries {
            entry.logins.reverse();
        }
        assert_eq!(render(&turned, release.features(), &files).unwrap(), rendered);
    }
}

#[test]
fn rendered_files_of_pgcat() {
    let mut wanted = configuration();
    wanted.listen.addresses = vec!["*".into()];
    wanted.client_tls = ClientTls::Off;
    wanted.server_tls = ServerTls::Off;
    wanted.entries[1].logins = vec![Login { role: "acme_a".into(), verifier: verifier(), standing: Standing::Usable }];
    let logins = [("acme_a", "quote\"d"), ("fh_beta_a", "plain")];
    let passwords = PlainPasswords {
        admin: Password::new("admin's"),
        logins: logins.into_iter().map(|(role, password)| (role.to_owned(), Password::new(password))).collect(),
    };
    insta::assert_snapshot!("pgcat", pgcat::render(&wanted, &passwords).unwrap().as_str());
}

#[test]
fn rendered_never_is_what_says_two_things_or_opens_a_door() {
    let files = Files::new("/var/lib/freehold/pooler");
    let refuse = |change: fn(&mut Configuration)| {
        let mut wanted = configuration();
        change(&mut wanted);
        let error = render(&wanted, Release::new(1, 24, 0).features(), &files).unwrap_err();
        assert_eq!(error.kind, PoolerErrorKind::Refused, "{error}");
        error.message
    };
    assert!(refuse(|wanted| wanted.entries[1].name = "beta".into()).contains("twice"));
    assert!(refuse(|wanted| wanted.entries[0].pool_size = 0).contains("pool_size"));
    assert!(refuse(|wanted| wanted.entries[0].server.host = "one,two".into()).contains("standbys"));
    assert!(refuse(|wanted| wanted.entries[0].logins[0].role = "freehold_admin".into()).contains("console"));
    assert!(refuse(|wanted| wanted.entries[0].logins[0].role = "freehold_check_10".into()).contains("console"));
    assert!(refuse(|wanted| wanted.entries[0].logins[0].role = "acme a".into()).contains("usable and not"));
    assert!(refuse(|wanted| wanted.console.admin.name = "a, b".into()).contains("console"));
    assert!(refuse(|wanted| wanted.console.check.name = "freehold_admin".into()).contains("different"));
    assert!(refuse(|wanted| wanted.console.networks[0] = "all".into()).contains("network"));
    assert!(refuse(|wanted| wanted.entries[0].database = "a\nb".into()).contains("line's end"));
    for name in ["auth_type", "admin_users", "syslog_ident", "user", "a b"] {
        let mut wanted = configuration();
        wanted.extra.insert(name.into(), "x".into());
        assert!(render(&wanted, Release::new(1, 24, 0).features(), &files).is_err(), "{name}");
    }
    let mut wanted = configuration();
    wanted.extra.insert("tcp_keepidle".into(), "1\nauth_type = trust".into());
    assert!(render(&wanted, Release::new(1, 24, 0).features(), &files).is_err());
}

#[test]
fn rendered_from_what_was_sent() {
    let wanted = configuration();
    let sent = serde_json::to_string(&wanted).unwrap();
    assert_eq!(serde_json::from_str::<Configuration>(&sent).unwrap(), wanted);
    let tampered = sent.replace(VERIFIER, "password");
    assert!(serde_json::from_str::<Configuration>(&tampered).is_err());
}
