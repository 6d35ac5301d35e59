//! What a command takes from its process: environment, streams, terminal, clock. Given, so that tests can bring theirs.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Read, Write};
use std::path::PathBuf;

use jiff::Timestamp;

pub struct Surroundings {
    pub env: BTreeMap<String, String>,
    /// Root looks for the system's data directory first.
    pub is_root: bool,
    /// Where `freehold dev` keeps its data when root runs it.
    pub system_data_dir: PathBuf,
    pub stdin: Box<dyn Read + Send>,
    pub stdout: Box<dyn Write + Send>,
    pub stderr: Box<dyn Write + Send>,
    pub stdout_is_terminal: bool,
    pub stderr_is_terminal: bool,
    pub now: Timestamp,
}

impl Surroundings {
    #[allow(clippy::disallowed_methods, reason = "the one place where the command line reads the clock")]
    #[expect(
        clippy::disallowed_methods,
        reason = "the command line's only look at the clock, to show and to read ages"
    )]
    pub fn of_this_process() -> Self {
        let env = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Self {
            env,
            is_root: nix::unistd::geteuid().is_root(),
            system_data_dir: PathBuf::from("/var/lib/freehold"),
            stdin: Box::new(std::io::stdin()),
            stdout: Box::new(std::io::stdout()),
            stderr: Box::new(std::io::stderr()),
            stdout_is_terminal: std::io::stdout().is_terminal(),
            stderr_is_terminal: std::io::stderr().is_terminal(),
            now: Timestamp::now(),
        }
    }

    /// A variable that is set to the empty string counts as not set.
    pub fn var(&self, name: &str) -> Option<&str> {
        self.env.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    pub fn home(&self) -> Option<PathBuf> {
        self.var("HOME").map(PathBuf::from)
    }

    /// `$XDG_CONFIG_HOME` and its like, else a place in the home directory. A relative path is ignored, as XDG asks.
    pub fn xdg(&self, variable: &str, below_home: &str) -> Option<PathBuf> {
        let named = self.var(variable).map(PathBuf::from).filter(|path| path.is_absolute());
        named.or_else(|| self.home().map(|home| home.join(below_home)))
    }
}
