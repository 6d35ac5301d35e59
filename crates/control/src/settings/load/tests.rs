//! What is read, what is told of it, and what is not.

use super::*;

const HEAD: &str = "[store]\nurl = \"postgres://x\"\n[secrets]\nkey_file = \"k\"\n";

/// The file's text and the variables.
pub(in crate::settings) fn load(text: &str, variables: &[(&str, &str)]) -> Result<Loaded, String> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("freehold.toml");
    std::fs::write(&file, text).unwrap();
    let variables = variables.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    Sources::with(Some(&file), variables).load().map_err(|error| error.to_string())
}

#[test]
fn variables_go_above_the_file() {
    let text = format!("{HEAD}[stock]\nper_template = 3\ntemplates = {{ a = 1, b = 2 }}\n");
    let variables =
        [("FREEHOLD__STOCK__TEMPLATES__A", "7"), ("FREEHOLD__PLACEMENT__LABELS", "zone, rack"), ("OTHER", "x")];
    let settings = load(&text, &variables).unwrap().settings;
    assert_eq!((settings.stock.per_template, settings.stock_of("a"), settings.stock_of("b")), (3, 7, 2));
    assert_eq!(settings.placement.labels, ["zone", "rack"]);
}

#[test]
fn a_secret_that_looks_like_a_number_stays_as_it_is() {
    let variables = [
        ("FREEHOLD__AUDIT__STREAM_URL", "https://collector/hook"),
        ("FREEHOLD__AUDIT__STREAM_SECRET", "00123456789012345678901234567890"),
    ];
    let audit = load(HEAD, &variables).unwrap().settings.audit;
    assert_eq!(audit.stream_secret.unwrap().expose_secret(), "00123456789012345678901234567890");
}

#[test]
fn everything_that_is_unknown_is_said_at_once_with_the_nearest_name() {
    let text = format!(
        "per_template = 1\n{HEAD}[database]\nurl = \"postgres://u:hunter22@h/d\"\n[[plan]]\nname = \"a\"\nconection_limit = 3\n"
    );
    let variables = [
        ("FREEHOLD__STOR__CONNECTIONS", "9"),
        ("FREEHOLD__PLAN__NAME", "b"),
        ("FREEHOLD__PLATFORM__NOMAD__TOKN_FILE", "/t"),
    ];
    let error = load(&text, &variables).unwrap_err();
    for expected in [
        "there is no setting per_template; the nearest is stock.per_template",
        "there is no setting database.url; the nearest is store.url",
        "there is no setting plan.conection_limit; the nearest is plan.connection_limit",
        "FREEHOLD__STOR__CONNECTIONS: there is no setting stor.connections; the nearest is store.connections (FREEHOLD__STORE__CONNECTIONS)",
        "FREEHOLD__PLAN__NAME: [[plan]] stands in the settings file alone",
        "the nearest is platform.nomad.token_file (FREEHOLD__PLATFORM__NOMAD__TOKEN_FILE)",
    ] {
        assert!(error.contains(expected), "{expected}\n{error}");
    }
    assert!(!error.contains("hunter22"), "{error}");
}

#[test]
fn what_is_missing_is_said_with_its_variable() {
    let error = load("[platform.process]\n[[plan]]\n", &[]).unwrap_err();
    for expected in [
        "store.url is required",
        "FREEHOLD__STORE__URL_FILE",
        "secrets.key_file is required",
        "platform.process.data_dir is required",
        "plan.name is required",
    ] {
        assert!(error.contains(expected), "{expected}\n{error}");
    }
}

#[test]
fn what_is_in_force_is_told_with_its_source_and_without_secrets() {
    let text =
        format!("{HEAD}[placement]\nlabels = [\"zone\"]\n[stock.templates]\nshop = 3\n[[plan]]\nname = \"free\"\n");
    let text = text.replace("postgres://x", "postgres://u:hunter22@h/d");
    let found = load(&text, &[("FREEHOLD__HTTP__TIMEOUT_SECONDS", "100")]).unwrap().effective();
    let of = |setting: &str| {
        let row = found.iter().find(|row| row.setting == setting).unwrap_or_else(|| panic!("{setting}: {found:#?}"));
        (row.value.as_deref(), row.source.rsplit('/').next().unwrap())
    };
    assert_eq!(of("store.url"), (Some("•••"), "freehold.toml"));
    assert_eq!(of("http.timeout_seconds"), (Some("100"), "FREEHOLD__HTTP__TIMEOUT_SECONDS"));
    assert_eq!(of("http.body_limit"), (Some("1048576"), "default"));
    assert_eq!(of("placement.labels"), (Some("zone"), "freehold.toml"));
    assert_eq!(of("stock.templates.shop"), (Some("3"), "freehold.toml"));
    assert_eq!(of("plan[free].name"), (Some("free"), "freehold.toml"));
    assert_eq!(of("plan[free].pool_size"), (Some("5"), "default"));
    assert_eq!(of("audit.stream_secret"), (None, "default"));
    assert_eq!(of("platform.nomad"), (None, "default"));
    assert!(!format!("{found:?}").contains("hunter22"));
}

#[test]
fn a_secret_comes_from_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str, content: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.display().to_string()
    };
    let (good, empty) = (path("good", "postgres://from-file\n"), path("empty", "\n"));
    let key = "[secrets]\nkey_file = \"k\"\n";
    let url = |loaded: Loaded| loaded.settings.store.url.expose_secret().to_owned();
    let in_file = format!("{key}[store]\nurl_file = \"{good}\"\n");
    assert_eq!(url(load(&in_file, &[]).unwrap()), "postgres://from-file");
    assert_eq!(url(load(key, &[("FREEHOLD__STORE__URL_FILE", &good)]).unwrap()), "postgres://from-file");
    // The stronger source wins, whichever of the two it says.
    assert_eq!(url(load(HEAD, &[("FREEHOLD__STORE__URL_FILE", &good)]).unwrap()), "postgres://from-file");
    assert_eq!(url(load(&in_file, &[("FREEHOLD__STORE__URL", "postgres://v")]).unwrap()), "postgres://v");
    for (text, variable, why) in [
        (format!("{HEAD}[http]\n"), empty.as_str(), "is empty"),
        (HEAD.into(), "/none/such", "/none/such: No such file"),
        (HEAD.replace("url", &format!("url_file = \"{good}\"\nurl")), "", "store.url and store.url_file"),
    ] {
        let variables = [("FREEHOLD__STORE__URL_FILE", variable)];
        let error = load(&text, if variable.is_empty() { &[] } else { &variables }).unwrap_err();
        assert!(error.contains(why), "{why}: {error}");
    }
}

#[test]
fn what_cannot_be_read_is_said_without_its_content() {
    for (text, why) in [
        (format!("{HEAD}[audit]\nstream_secret = \"hunter22"), "line 6"),
        (format!("{HEAD}[store]\nurl = \"postgres://u:hunter22@h\"\n"), "duplicate"),
        (HEAD.replace("\"postgres://x\"", "[\"postgres://u:hunter22@h\"]"), "store.url"),
        (format!("audit = \"hunter22\"\n{HEAD}"), "audit is a table"),
        (format!("environment = \"prod\"\n{HEAD}"), "environment is \"prod\"; use production or development"),
        (
            format!("{HEAD}[compat]\naccept = [\"store_superuser\", \"x\"]\n"),
            "compat.accept is \"x\"; use sealing_key, ",
        ),
        (format!("{HEAD}[http]\ntimeout_seconds = \"soon\"\n"), "http.timeout_seconds"),
    ] {
        let error = load(&text, &[]).unwrap_err();
        assert!(error.contains(why) && !error.contains("hunter22"), "{why}: {error}");
    }
    let error = Sources::with(Some(Path::new("/none/such.toml")), Vec::new()).load().unwrap_err().to_string();
    assert!(error.contains("/none/such.toml"), "{error}");
}

proptest::proptest! {
    #[test]
    fn whatever_is_read_no_secret_is_told(
        secret in "[b-z]{16}",
        more in ".{0,60}",
        place in 0_usize..6,
        name in "[A-Z_]{0,12}",
        said in ".{0,20}",
    ) {
        let text = match place {
            0 => format!("[store]\nurl = \"postgres://u:{secret}@h/d\"\n{more}"),
            1 => format!("[audit]\nstream_secret = \"{secret}\n{more}"),
            2 => format!("[audit]\nstream_secrt = \"{secret}\"\n{more}"),
            3 => format!("[secrets]\nkey = [\"{secret}\"]\n{more}"),
            4 => format!("[compat]\nDB_PASSWORD = \"{secret}\"\nDB_PORT = \"x\"\n{more}"),
            _ => more,
        };
        let variable = format!("FREEHOLD__{name}");
        let variables = [
            (variable.as_str(), said.as_str()),
            ("FREEHOLD__SECRETS__KEY__X", secret.as_str()),
            ("FREEHOLD__AUDIT__STREAM_URL", secret.as_str()),
        ];
        let count = if place == 5 { 3 } else { 1 };
        // A variable of the operating system holds no zero byte.
        if !said.contains('\0') && let Err(error) = load(&text, &variables[..count]) {
            proptest::prop_assert!(!error.contains(&secret), "{error}");
        }
    }
}
