//! Reads the settings: the file, and above it the environment. Everything that is wrong with their names is said at once.
//!
//! Each value knows where it is from. Absent: values in errors where they may be secrets.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

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
    /// By whom everything was said, without what.
    pub(super) origins: Value,
    /// What became of other platforms' names.
    pub translated: Vec<Translated>,
}

/// What is read, from the weakest to the strongest. It holds secrets in plain text: nothing shows it.
#[derive(Default)]
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
        let variables = layer::variables(&self.variables, known, &mut problems);
        let wants = [&variables, &file].into_iter().find_map(|layer| layer.get(&["compat", "variables"]));
        let wants = wants.is_some_and(|wants| wants.clone().into_bool().unwrap_or(false));
        let names = Names::take(&mut file, &self.variables, wants, &mut problems);
        let overrides = Layer::of(self.overrides);
        let is_said = |setting: &str| {
            let path: Vec<&str> = setting.split('.').collect();
            [&file, &variables, &overrides].into_iter().any(|layer| layer.get(&path).is_some())
        };
        let theirs = names.layer(is_said, &mut problems);
        let layers = [Layer::of(self.defaults), theirs, file, variables, overrides];
        let mut whole = Layer::default();
        for mut layer in layers {
            unknown::find(&layer, known, &mut problems);
            layer.open_files(known, &mut problems);
            whole.go_under(layer, known);
        }
        if let Some(declared) = whole.0.get_mut("server_pool") {
            pools::fill_in(declared, |name| names.of_pools(name));
        }
        unknown::find_wrong(&whole, known, &mut problems);
        if [["secrets", "key"], ["secrets", "key_file"]].iter().all(|key| whole.get(key).is_none()) {
            problems.push("secrets.key_file is required: in the settings file, or FREEHOLD__SECRETS__KEY_FILE".into());
        }
        if !problems.is_empty() {
            return Err(BadSettings::Read(unknown::told(problems)));
        }
        let translated = names.became(&whole);
        let whole = whole.value();
        let origins = layer::origins(&whole);
        let settings: Settings = whole.try_deserialize().map_err(|error| unreadable(&error))?;
        Ok(Loaded { settings: settings.checked()?, origins, translated })
    }
}

/// The reader's text, which may quote a value.
fn unreadable(error: &config::ConfigError) -> BadSettings {
    // What was expected, and of which setting, stands at the end.
    const END: usize = 300;
    const WHOLE: usize = 2 * END;
    let text = unknown::readable(&error.to_string());
    let length = text.chars().count();
    BadSettings::Read(vec![match length > WHOLE {
        true => {
            let part = |skip: usize| text.chars().skip(skip).take(END).collect::<String>();
            format!("{} … {}", part(0), part(length - END))
        }
        false => text,
    }])
}

/// What looks like a password, in a URL or among parameters, is left out.
pub(super) fn without_passwords(text: &str) -> String {
    static IN_URLS: LazyLock<regex::Regex> = LazyLock::new(|| pattern(r"(://[^:/@\s]*):\S*@"));
    static NAMED: LazyLock<regex::Regex> =
        LazyLock::new(|| pattern(r"(?i)\b(password|passwd|pwd|secret|token)=[^\s&]+"));
    let text = IN_URLS.replace_all(text, format!("$1:{HIDDEN}@"));
    NAMED.replace_all(&text, format!("$1={HIDDEN}")).into_owned()
}

fn pattern(text: &str) -> regex::Regex {
    regex::Regex::new(text).expect("the pattern is valid")
}

#[cfg(test)]
mod hostile;
#[cfg(test)]
pub(super) mod tests;
