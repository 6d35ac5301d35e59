use super::super::load::tests::load;
use super::*;
use crate::settings::{Environment, Loaded};

const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

fn became<'a>(loaded: &'a Loaded, name: &str) -> &'a Became {
    let found = loaded.translated.iter().find(|translated| translated.name == name);
    &found.unwrap_or_else(|| panic!("{name}: {:#?}", loaded.translated)).became
}

fn setting(setting: &str) -> Became {
    Became::Setting { setting: setting.into() }
}

/// Every name of the issue, each reported as what it became.
#[test]
fn names_of_other_platforms_become_settings_or_are_said_to_be_read_by_nobody() {
    let variables = [
        ("FREEHOLD__COMPAT__VARIABLES", "true"),
        ("DB_HOST", "db.internal"),
        ("DB_PORT", "5433"),
        ("DB_NAME", "control"),
        ("DB_USER", "us er"),
        ("DB_PASSWORD", "p@ss/w:rd"),
        ("DB_SSL_MODE", "verify-full"),
        ("DB_MAX_IDLE", "3"),
        ("ENVIRONMENT", "Staging"),
        ("AUTO_MIGRATE", "true"),
        ("NOMAD_ADDR", "https://nomad:4646"),
        ("NOMAD_TOKEN", "5b8a8a4c-token"),
        ("INSTANCE_SECRET_ENCRYPTION_KEY", KEY),
        ("PROVISION_DB_HOST", "one"),
        ("PROVISION_DB_PASSWORD", "hunter22"),
        ("DB_POOL_MAX_INSTANCES", "30"),
        ("DB_POOL_COLOUR", "red"),
        ("VAULT__ENABLED", "true"),
        ("VAULT__TOKEN", "hunter22"),
        ("JWT_SECRET", "hunter22"),
        ("JWT__SECRET_KEY", "hunter22"),
        ("AUTH__JWT_SECRET_KEY", "hunter22"),
        ("SECRET_KEY", "hunter22"),
        ("CORS_ORIGIN", "*"),
        ("RATE_LIMIT_WINDOW_MS", "900000"),
        ("PGCAT_ADMIN_PASSWORD", "hunter22"),
    ];
    let loaded = load("", &variables).unwrap();
    let settings = &loaded.settings;
    let url = settings.store.url.expose_secret();
    assert_eq!(url, "postgres://us%20er:p%40ss%2Fw%3Ard@db.internal:5433/control?sslmode=verify-full");
    assert_eq!(settings.environment, Environment::Production);
    assert!(settings.store.migrate);
    let nomad = settings.platform.nomad.as_ref().unwrap();
    assert_eq!(
        (nomad.url.as_str(), nomad.token.as_ref().unwrap().expose_secret()),
        ("https://nomad:4646", "5b8a8a4c-token")
    );
    assert_eq!(settings.secrets.key.as_ref().unwrap().expose_secret(), KEY);
    for (name, path) in [
        ("DB_HOST", "store.url"),
        ("DB_PASSWORD", "store.url"),
        ("ENVIRONMENT", "environment"),
        ("AUTO_MIGRATE", "store.migrate"),
        ("NOMAD_ADDR", "platform.nomad.url"),
        ("NOMAD_TOKEN", "platform.nomad.token"),
        ("INSTANCE_SECRET_ENCRYPTION_KEY", "secrets.key"),
    ] {
        assert_eq!(*became(&loaded, name), setting(path), "{name}");
    }
    for name in [
        "DB_MAX_IDLE",
        "PROVISION_DB_HOST",
        "DB_POOL_MAX_INSTANCES",
        "DB_POOL_COLOUR",
        "VAULT__ENABLED",
        "JWT_SECRET",
        "JWT__SECRET_KEY",
        "AUTH__JWT_SECRET_KEY",
        "SECRET_KEY",
        "CORS_ORIGIN",
        "RATE_LIMIT_WINDOW_MS",
        "PGCAT_ADMIN_PASSWORD",
    ] {
        assert!(matches!(became(&loaded, name), Became::Nobody { .. }), "{name}");
    }
    // Everything is said, and no value is.
    assert_eq!(loaded.translated.len(), variables.len() - 1);
    let said = format!("{:?} {:?}", loaded.translated, loaded.effective());
    assert!(!said.contains("hunter22") && !said.contains("w:rd") && !said.contains(KEY), "{said}");
}

#[test]
fn names_stand_in_the_file_too_and_are_weaker_than_settings() {
    let text = format!(
        "[compat]\nDB_HOST = \"h\"\nDB_PORT = 5433\nDB_NAME = \"n\"\nDB_USER = \"u\"\nENVIRONMENT = \"dev\"\n[secrets]\nkey = \"{KEY}\"\n"
    );
    let loaded = load(&text, &[("DB_HOST", "ignored")]).unwrap();
    assert_eq!(loaded.settings.store.url.expose_secret(), "postgres://u@h:5433/n");
    assert_eq!(loaded.settings.environment, Environment::Development);
    let above = [("FREEHOLD__STORE__URL", "postgres://above"), ("FREEHOLD__COMPAT__VARIABLES", "1"), ("DB_HOST", "v")];
    let loaded = load(&text, &above).unwrap();
    assert_eq!(loaded.settings.store.url.expose_secret(), "postgres://above");
    let by = "FREEHOLD__STORE__URL".to_owned();
    assert_eq!(*became(&loaded, "DB_HOST"), Became::Overridden { setting: "store.url".into(), by });
    assert_eq!(loaded.translated.iter().filter(|translated| translated.name == "DB_HOST").count(), 1);
}

#[test]
fn names_of_pools_fill_what_pools_leave_open() {
    let text = format!(
        "[store]\nurl = \"postgres://x\"\n[secrets]\nkey = \"{KEY}\"\n[platform.process]\ndata_dir = \"/d\"\n\
         [[server_pool]]\nname = \"a\"\nplatform = \"process\"\npostgres = 18\n"
    );
    let loaded = load(&text, &[("DB_POOL_MAX_INSTANCES", "30"), ("DB_POOL_CPU_LIMIT", "1.5")]).unwrap();
    assert_eq!((loaded.settings.server_pools[0].slots(), loaded.settings.server_pools[0].cpus), (30, Some(1.5)));
    assert_eq!(*became(&loaded, "DB_POOL_MAX_INSTANCES"), setting("server_pool.capacity"));
    let loaded = load(&format!("{text}capacity = 5\n"), &[("DB_POOL_MAX_INSTANCES", "30")]).unwrap();
    assert_eq!(loaded.settings.server_pools[0].slots(), 5);
    assert!(matches!(became(&loaded, "DB_POOL_MAX_INSTANCES"), Became::Nobody { .. }));
}

#[test]
fn names_that_cannot_be_taken_are_refused_with_the_nearest() {
    let directory = tempfile::tempdir().unwrap();
    let password = directory.path().join("password");
    std::fs::write(&password, "from file\n").unwrap();
    let file = password.display().to_string();
    let head = format!("[secrets]\nkey = \"{KEY}\"\n[compat]\nvariables = true\n");
    let whole =
        [("DB_HOST", "/run/postgresql"), ("DB_NAME", "n"), ("DB_USER", "u"), ("DB_PASSWORD_FILE", file.as_str())];
    let loaded = load(&head, &whole).unwrap();
    let url = loaded.settings.store.url.expose_secret();
    assert_eq!(url, "postgres://u:from%20file@localhost/n?host=%2Frun%2Fpostgresql");
    for (more, variables, why) in [
        ("NOMAD_ADR = \"x\"", &whole[..], "there is no compat.NOMAD_ADR; the nearest is compat.NOMAD_ADDR"),
        ("", &[("DB_PASSWORD", "hunter22")], "nothing says the control store's host"),
        ("DATABASE__HOST = \"y\"", &whole[..], "DATABASE__HOST and DB_HOST say the same"),
        ("ENVIRONMENT = \"moon\"", &whole[..], "ENVIRONMENT: expected production"),
        ("DB_PORT = \"many\"", &whole[..], "expected a port"),
    ] {
        let error = load(&format!("{head}{more}\n"), variables).unwrap_err();
        assert!(error.contains(why) && !error.contains("hunter22"), "{why}: {error}");
    }
}

/// What a name of the issue, or of the documents that it is from, becomes where nobody stronger says it.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Wanted {
    Is(&'static str),
    Nobody,
}

use Wanted::{Is, Nobody};

const STORES: [&[&str]; 3] = [
    &["DB_HOST", "DB_PORT", "DB_NAME", "DB_USER", "DB_PASSWORD", "DB_SSL_MODE"],
    &["DATABASE__HOST", "DATABASE__PORT", "DATABASE__DATABASE", "DATABASE__USERNAME", "DATABASE__PASSWORD"],
    &["DATABASE__HOST", "DATABASE__NAME", "DATABASE__USER", "DATABASE__PASSWORD"],
];

const OTHERS: [(&str, Wanted); 34] = [
    ("PROVISION_DB_HOST", Nobody),
    ("PROVISION_DB_PORT", Nobody),
    ("PROVISION_DB_NAME", Nobody),
    ("PROVISION_DB_USER", Nobody),
    ("PROVISION_DB_PASSWORD", Nobody),
    ("PROVISION_DB_SSL_MODE", Nobody),
    ("PROVISION_DB_*", Nobody),
    ("DB_POOL_MAX_INSTANCES", Is("server_pool.capacity")),
    ("DB_POOL_CPU_LIMIT", Is("server_pool.cpus")),
    ("DB_POOL_MEMORY_LIMIT", Is("server_pool.memory")),
    ("DB_POOL_*", Nobody),
    ("INSTANCE_SECRET_ENCRYPTION_KEY", Is("secrets.key")),
    ("VAULT__ENABLED", Nobody),
    ("VAULT__URL", Nobody),
    ("VAULT__TOKEN", Nobody),
    ("VAULT__*", Nobody),
    ("VAULT_ROOT_TOKEN", Nobody),
    ("JWT_SECRET", Nobody),
    ("JWT_EXPIRES_IN", Nobody),
    ("JWT__SECRET_KEY", Nobody),
    ("JWT_*", Nobody),
    ("AUTH__JWT_SECRET_KEY", Nobody),
    ("AUTH__*", Nobody),
    ("SECRET_KEY", Nobody),
    ("CORS_ORIGIN", Nobody),
    ("RATE_LIMIT_WINDOW_MS", Nobody),
    ("RATE_LIMIT_MAX_REQUESTS", Nobody),
    ("RATE_LIMIT_*", Nobody),
    ("ENVIRONMENT", Is("environment")),
    ("AUTO_MIGRATE", Is("store.migrate")),
    ("NOMAD_ADDR", Is("platform.nomad.url")),
    ("NOMAD_TOKEN", Is("platform.nomad.token")),
    ("PGCAT_ADMIN_PASSWORD", Nobody),
    ("PGCAT_ADMIN_*", Nobody),
];

const POOL: &str =
    "[platform.process]\ndata_dir = \"/d\"\n[[server_pool]]\nname = \"a\"\nplatform = \"process\"\npostgres = 18\n";

fn value_of(name: &str, secret: &str) -> String {
    match name {
        "DB_PORT" | "DATABASE__PORT" => "5433",
        "DB_SSL_MODE" => "verify-full",
        "DB_POOL_MAX_INSTANCES" => "30",
        "DB_POOL_CPU_LIMIT" => "1.5",
        "DB_POOL_MEMORY_LIMIT" => "4G",
        "INSTANCE_SECRET_ENCRYPTION_KEY" => KEY,
        "ENVIRONMENT" => "staging",
        "AUTO_MIGRATE" => "true",
        "NOMAD_ADDR" => "https://nomad:4646",
        _ => secret,
    }
    .to_owned()
}

proptest::proptest! {
    /// Each is told once, as what it became, wherever it stands and whatever else is said; what it holds is not.
    #[test]
    fn names_of_other_platforms_are_each_told_as_what_they_became(
        store in proptest::sample::select(&STORES[..]),
        others in proptest::sample::subsequence(&OTHERS[..], 0..=OTHERS.len()),
        end in "[A-Z][A-Z_]{2,12}",
        secret in "[b-z]{24}",
        in_file in proptest::collection::vec(proptest::bool::ANY, 40),
        stronger: [bool; 3],
    ) {
        let mut wanted: Vec<(String, Wanted)> = store.iter().map(|name| ((*name).to_owned(), Is("store.url"))).collect();
        let ended = |name: &str| name.strip_suffix('*').map_or(name.to_owned(), |start| format!("{start}{end}X"));
        wanted.extend(others.iter().map(|(name, wanted)| (ended(name), *wanted)));
        let mut file = String::from("[compat]\nvariables = true\n");
        let mut of_environment = Vec::new();
        for ((name, _), in_file) in wanted.iter().zip(in_file) {
            match in_file {
                true => file.push_str(&format!("{name} = \"{}\"\n", value_of(name, &secret))),
                false => of_environment.push((name.clone(), value_of(name, &secret))),
            }
        }
        file.push_str(POOL);
        let [url, environment, key] = stronger;
        let mut above = Vec::new();
        if url {
            above.push(("store.url", "FREEHOLD__STORE__URL", "postgres://above"));
        }
        if environment {
            above.push(("environment", "FREEHOLD__ENVIRONMENT", "development"));
        }
        if key || !wanted.iter().any(|(name, _)| name == "INSTANCE_SECRET_ENCRYPTION_KEY") {
            above.push(("secrets.key", "FREEHOLD__SECRETS__KEY_FILE", "/k"));
        }
        let variables: Vec<(&str, &str)> = of_environment.iter().map(|(name, text)| (name.as_str(), text.as_str()))
            .chain(above.iter().map(|(_, name, text)| (*name, *text))).collect();
        let loaded = load(&file, &variables).unwrap();
        for (name, wanted) in &wanted {
            let told: Vec<&Translated> = loaded.translated.iter().filter(|told| told.name == *name).collect();
            proptest::prop_assert_eq!(told.len(), 1, "{}: {:?}", name, loaded.translated);
            let by = |setting: &str| above.iter().find(|(above, ..)| *above == setting).map(|(_, name, _)| (*name).to_owned());
            match (wanted, &told[0].became) {
                (Nobody, Became::Nobody { because }) => proptest::prop_assert!(!because.is_empty()),
                (Is(wanted), became) => proptest::prop_assert_eq!(became, &by(wanted).map_or_else(
                    || setting(wanted), |by| Became::Overridden { setting: (*wanted).to_owned(), by })),
                (Nobody, became) => proptest::prop_assert!(false, "{}: {:?}", name, became),
            }
        }
        proptest::prop_assert_eq!(loaded.translated.len(), wanted.len());
        let said: String = loaded.translated.iter().map(|told| format!("{told} {told:?}\n")).collect();
        let told = format!("{said} {loaded:?} {:?}", loaded.effective());
        proptest::prop_assert!(!told.contains(&secret) && !told.contains(KEY), "{}", told);
    }
}

/// Somebody else's names need make no sense where nobody reads them.
#[test]
fn names_that_are_overridden_may_be_incomplete() {
    let text = format!(
        "environment = \"production\"\n[store]\nurl = \"postgres://own\"\n[secrets]\nkey = \"{KEY}\"\n[compat]\nvariables = true\n"
    );
    let variables = [("DB_PASSWORD", "hunter22"), ("ENVIRONMENT", "moon")];
    let loaded = load(&text, &variables).unwrap();
    assert_eq!(loaded.settings.store.url.expose_secret(), "postgres://own");
    for name in ["DB_PASSWORD", "ENVIRONMENT"] {
        assert!(
            matches!(became(&loaded, name), Became::Overridden { by, .. } if by.ends_with("freehold.toml")),
            "{name}"
        );
    }
}
