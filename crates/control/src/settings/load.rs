//! Reads the settings: the file, and above it the environment. Everything that is wrong with their names is said at once.
//!
//! Each value knows where it is from. Absent: values in errors where they may be secrets.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use config::{Value, ValueKind};

use super::layer::{self, Layer};
use super::names::{Names, Translated, pools};
use super::secret::{HIDDEN, Secret};
use super::{Settings, keys, unknown};

#[derive(Debug, thiserror::Error)]
pub enum BadSettings {
    #[error("read settings: {}", listed(.0))]
    Read(Vec<String>),
    #[error("[[plan]] {0}")]
    Plans(String),
    #[error("[store] {0}")]
    Store(String),
    #[error("[secrets] {0}")]
    Secrets(String),
    #[error("[platform] {0}")]
    Platforms(String),
    #[error("[[server_pool]] {0}")]
    ServerPools(String),
    #[error("[pooler] {0}")]
    Pooler(String),
    #[error("[placement] {0}")]
    Placement(String),
    #[error("[health] {0}")]
    Health(String),
    #[error("[stats] {0}")]
    Stats(String),
    #[error("[audit] {0}")]
    Audit(String),
    #[error("[compat] {0}")]
    Compat(String),
    #[error("[http] {0}")]
    Http(String),
    #[error("[[edge]] {0}")]
    Edges(String),
}

/// One as it is; several on lines of their own.
pub(crate) fn listed(problems: &[String]) -> String {
    match problems {
        [one] => one.clone(),
        several => several.iter().map(|problem| format!("\n  - {problem}")).collect(),
    }
}

/// Settings, and where each is from.
#[derive(Debug, Clone)]
pub struct Loaded {
    pub settings: Settings,
    /// What was said, by whom: see [`Value::origin`].
    pub(super) given: Value,
    /// What became of other platforms' names.
    pub translated: Vec<Translated>,
}

/// What is read, from the weakest to the strongest.
#[derive(Debug, Default)]
pub struct Sources {
    defaults: Vec<(&'static str, Value)>,
    file: Option<PathBuf>,
    variables: Vec<(OsString, OsString)>,
    overrides: Vec<(&'static str, Value)>,
}

impl Settings {
    /// The file when there is one, then the environment above it.
    pub fn load(file: Option<&Path>) -> Result<Self, BadSettings> {
        Sources::of(file).load().map(|loaded| loaded.settings)
    }
}

impl Sources {
    /// The file, and this process's environment.
    pub fn of(file: Option<&Path>) -> Self {
        Self::with(file, std::env::vars_os().collect())
    }

    pub fn with(file: Option<&Path>, variables: Vec<(OsString, OsString)>) -> Self {
        Self { file: file.map(Path::to_owned), variables, ..Self::default() }
    }

    /// The same, for `dev`: store and sealing key are its own, and whoever runs it may run programs here anyway.
    pub fn for_dev(file: Option<&Path>, store: &Secret, key_file: &Path) -> Self {
        let of_dev = |kind: ValueKind| Value::new(Some(&"freehold dev".to_owned()), kind);
        Self {
            defaults: vec![
                ("templates.allow_commands", of_dev(true.into())),
                ("environment", of_dev("development".into())),
            ],
            overrides: vec![
                ("store.url", of_dev(store.expose_secret().into())),
                ("secrets.key_file", of_dev(key_file.to_string_lossy().into_owned().into())),
            ],
            ..Self::of(file)
        }
    }

    pub fn load(self) -> Result<Loaded, BadSettings> {
        let known = keys::tree();
        let mut problems = Vec::new();
        let mut file = match &self.file {
            Some(file) => layer::file(file).map_err(|problem| BadSettings::Read(vec![problem]))?,
            None => Layer::default(),
        };
        let variables = layer::variables(&self.variables, &known, &mut problems);
        let wants = [&variables, &file].into_iter().find_map(|layer| layer.get(&["compat", "variables"]));
        let wants = wants.is_some_and(|wants| wants.clone().into_bool().unwrap_or(false));
        let names = Names::take(&mut file, &self.variables, wants, &mut problems);
        let theirs = names.layer(&mut problems);
        let layers = [Layer::of(self.defaults), theirs, file, variables, Layer::of(self.overrides)];
        let mut whole = Layer::default();
        for mut layer in layers {
            unknown::find(&layer, &known, &mut problems);
            layer.open_files(&known, &mut problems);
            whole.go_under(layer, &known);
        }
        if let Some(declared) = whole.0.get_mut("server_pool") {
            pools::fill_in(declared, |name| names.of_pools(name));
        }
        unknown::find_wrong(&whole, &known, &mut problems);
        if [["secrets", "key"], ["secrets", "key_file"]].iter().all(|key| whole.get(key).is_none()) {
            problems.push("secrets.key_file is required: in the settings file, or FREEHOLD__SECRETS__KEY_FILE".into());
        }
        if !problems.is_empty() {
            return Err(BadSettings::Read(problems));
        }
        let translated = names.became(&whole);
        let given = whole.value();
        let settings: Settings = given.clone().try_deserialize().map_err(|error| unreadable(&error))?;
        Ok(Loaded { settings: settings.checked()?, given, translated })
    }
}

/// The reader's text, which may quote a value.
fn unreadable(error: &config::ConfigError) -> BadSettings {
    BadSettings::Read(vec![without_passwords(&error.to_string())])
}

/// What looks like a password in a URL is left out.
pub(super) fn without_passwords(text: &str) -> String {
    let secret = regex::Regex::new(r"(://[^:/@\s]*):[^@\s]*@").expect("the pattern is valid");
    secret.replace_all(text, format!("$1:{HIDDEN}@")).into_owned()
}

#[cfg(test)]
pub(super) mod tests {
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
            let row =
                found.iter().find(|row| row.setting == setting).unwrap_or_else(|| panic!("{setting}: {found:#?}"));
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
}
