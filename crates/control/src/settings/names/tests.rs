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
