use proptest::prelude::*;

use super::*;

#[test]
fn dsn_reads_several_hosts_escapes_and_modes() {
    let dsn = Dsn::parse("postgresql://we%22ird:p%40ss%3A@one:5433,[::1],three/my%2Fdb?sslmode=verify-full&target_session_attrs=read-write").unwrap();
    let host = |host: &str, port| HostPort { host: host.into(), port };
    assert_eq!(dsn.hosts(), [host("one", 5433), host("::1", 5432), host("three", 5432)]);
    assert_eq!((dsn.user(), dsn.database()), ("we\"ird", "my/db"));
    assert_eq!(dsn.password().unwrap().expose(), "p@ss:");
    assert_eq!(dsn.sslmode(), SslMode::VerifyFull);
    assert_eq!(dsn.target_session_attrs(), TargetSessionAttrs::ReadWrite);
    assert_eq!(
        dsn.public(),
        "postgres://we%22ird@one:5433,[::1]:5432,three:5432/my%2Fdb?sslmode=verify-full&target_session_attrs=read-write"
    );
    assert_eq!(Dsn::parse(&dsn.expose_url()).unwrap().expose_url(), dsn.expose_url());
}

#[test]
fn dsn_reads_pairs_and_sockets() {
    let dsn = Dsn::parse(r"host=/run/pg port=5433 user=ann password='a b\'c' dbname=x sslmode=disable").unwrap();
    assert_eq!((dsn.host(), dsn.port(), dsn.user(), dsn.database()), ("/run/pg", 5433, "ann", "x"));
    assert_eq!(dsn.password().unwrap().expose(), "a b'c");
    assert_eq!(Dsn::parse("postgres:///x?host=/run/pg&user=ann").unwrap().host(), "/run/pg");
    assert_eq!(dsn.with_database("y").public(), "postgres://ann@%2Frun%2Fpg:5433/y?sslmode=disable");
    assert_eq!(Dsn::parse(&dsn.public()).unwrap().host(), "/run/pg");
    assert_eq!(Dsn::parse("host=a,b port=1,2 user=u").unwrap().hosts()[1].port, 2);
}

#[test]
fn dsn_of_several_hosts_looks_for_the_primary() {
    let several = Dsn::parse("postgres://u@one,two:5433/d").unwrap();
    assert_eq!(several.target_session_attrs(), TargetSessionAttrs::ReadWrite);
    let asked = Dsn::parse("postgres://u@one,two/d?target_session_attrs=any").unwrap();
    assert_eq!(asked.target_session_attrs(), TargetSessionAttrs::Any);
    let one = Dsn::parse("postgres://u@one/d").unwrap();
    assert_eq!(one.target_session_attrs(), TargetSessionAttrs::Any);
    let moved = one.with_host("three:5434,[::1]:5435,four", 5436);
    assert_eq!(
        moved.public(),
        "postgres://u@three:5434,[::1]:5435,four:5436/d?sslmode=prefer&target_session_attrs=read-write"
    );
    assert_eq!(HostPort::list(moved.hosts()), "three:5434,[::1]:5435,four:5436");
    assert_eq!(one.with_host("::1", 5).hosts(), [HostPort { host: "::1".into(), port: 5 }]);
    for bad in ["", "a,,b", "a:0", "a,b:x", "[::1", "a:1:2"] {
        assert!(HostPort::parse_list(bad, 1).is_err(), "{bad}");
    }
}

#[test]
fn dsn_refuses_what_it_does_not_understand() {
    for (text, error) in [
        ("", BadDsn::Form),
        ("mysql://u@h/d", BadDsn::Form),
        ("postgres://", BadDsn::NoHost),
        ("postgres://host", BadDsn::NoUser),
        ("postgres://u@h:0", BadDsn::Port),
        ("postgres://u@h:99999", BadDsn::Port),
        ("postgres://u:p/w@h", BadDsn::Port),
        ("postgres://u@[::1", BadDsn::Bracket),
        ("postgres://u%zz@h", BadDsn::Escape),
        ("postgres://u%ff@h", BadDsn::Escape),
        ("postgres://u%00@h", BadDsn::Nul),
        ("postgres://u@h?sslmode=sometimes", BadDsn::SslMode),
        ("postgres://u@h?options=-c%20x", BadDsn::UnknownParameter),
        ("host=h user=u password='open", BadDsn::Quote),
        ("host=a,b port=1,2,3 user=u", BadDsn::PortCount),
        ("postgres://u@h?connect_timeout=0", BadDsn::ConnectTimeout),
    ] {
        assert_eq!(Dsn::parse(text).unwrap_err(), error, "{text}");
    }
}

proptest! {
    #[test]
    fn dsn_never_panics_and_what_parses_parses_again(text in "(postgres://)?[a-z0-9:@/?&=%,'\\[\\]\\\\ \u{0}é]{0,60}") {
        if let Ok(dsn) = Dsn::parse(&text) {
            let again = Dsn::parse(&dsn.public()).unwrap();
            prop_assert_eq!(again.public(), dsn.public());
        }
    }

    #[test]
    fn dsn_never_echoes_a_password(secret in "SECRET[ -~]{0,12}", tail in "[ -~]{0,20}", pairs: bool) {
        let text = match pairs {
            true => format!("host=h user=u password={secret} {tail}"),
            false => format!("postgres://u:{secret}@h/d{tail}"),
        };
        match Dsn::parse(&text) {
            Ok(dsn) => {
                let shown = format!("{dsn:?} {dsn} {}", dsn.public());
                // An unescaped / or @ or ? is part of the syntax; only what was read as the password counts then.
                let password = dsn.password().map(|p| p.expose().to_owned()).unwrap_or_default();
                prop_assert!(password.len() < 6 || !shown.contains(&password));
            }
            Err(error) => {
                let shown = format!("{error} {error:?}");
                prop_assert!(!shown.contains("SECRET"));
            }
        }
    }

    #[test]
    fn dsn_carries_any_password_through_a_url(secret in "[^\u{0}]{0,40}", user in "[^\u{0}]{1,10}") {
        let dsn = Dsn::parse("postgres://u@h/d").unwrap().with_user(&user, Password::new(secret.clone()));
        let again = Dsn::parse(&dsn.expose_url()).unwrap();
        prop_assert_eq!(again.password().unwrap().expose(), secret);
        prop_assert_eq!(again.user(), user);
    }
}
