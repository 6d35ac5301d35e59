//! Which control plane, and which key: flags, then the environment, then a context file.
//!
//! A context's key goes to the context's own address only: a `--url` that points elsewhere needs a key of its own.

use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use url::Url;

use crate::failure::Failure;
use crate::surroundings::Surroundings;
use crate::value::Secret;
use crate::{Global, output};

const NEXT: &str = "start `freehold dev` (it writes one), or set FREEHOLD_URL and FREEHOLD_API_KEY";

/// Where to ask, and as whom.
#[derive(Debug, Clone)]
pub struct Context {
    pub url: Url,
    pub api_key: Secret,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    url: Option<String>,
    api_key: Option<String>,
}

/// Where the command line looks first when nothing names a context. None without a home directory.
pub fn default_context_path() -> Option<PathBuf> {
    user_context(&Surroundings::of_this_process())
}

fn user_context(around: &Surroundings) -> Option<PathBuf> {
    around.xdg("XDG_CONFIG_HOME", ".config").map(|dir| dir.join("freehold/client.toml"))
}

/// Writes a context that only its owner can read. A reader sees the old file or the new one, never half of it.
pub fn write_context(path: &Path, url: &str, api_key: &str) -> io::Result<()> {
    let file = File { url: Some(url.to_owned()), api_key: Some(api_key.to_owned()) };
    let text = toml::to_string(&file).map_err(io::Error::other)?;
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let draft = dir.join(format!(".client-{}.toml", uuid::Uuid::new_v4()));
    let written = write_private(&draft, &text).and_then(|()| std::fs::rename(&draft, path));
    if written.is_err() {
        // The first error is the one to tell; a draft that cannot be removed either changes nothing about it.
        let _ = std::fs::remove_file(&draft);
    }
    written
}

fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Puts together what the flags, the environment and the context file say.
pub fn find(global: &Global, around: &Surroundings) -> Result<Context, Failure> {
    let given_url = global.url.as_deref().or(around.var("FREEHOLD_URL"));
    let given_key = given_key(global, around)?;
    if let (Some(url), Some(api_key)) = (given_url, &given_key) {
        return Ok(Context { url: parse_url(url, "--url or FREEHOLD_URL")?, api_key: api_key.clone() });
    }
    let (path, file) = read_first(global, around)?;
    let shown = path.display().to_string();
    let missing = |field: &str| Failure::prerequisite(format!("the context {shown} has no `{field}`"), NEXT);
    let own_url = file.url.as_deref().map(|url| parse_url(url, &shown)).transpose()?;
    let url = match given_url {
        Some(url) => parse_url(url, "--url or FREEHOLD_URL")?,
        None => own_url.clone().ok_or_else(|| missing("url"))?,
    };
    let api_key = match (given_key, file.api_key) {
        (Some(key), _) => key,
        (None, Some(key)) if own_url.is_none_or(|own| own.origin() == url.origin()) => Secret(key),
        (None, Some(_)) => {
            return Err(Failure::prerequisite(
                format!("the key in {shown} belongs to another address and is not sent to {url}"),
                "give this one's key with FREEHOLD_API_KEY or --api-key-file",
            ));
        }
        (None, None) => return Err(missing("api_key")),
    };
    Ok(Context { url, api_key })
}

fn given_key(global: &Global, around: &Surroundings) -> Result<Option<Secret>, Failure> {
    let Some(path) = &global.api_key_file else {
        return Ok(around.var("FREEHOLD_API_KEY").map(|key| Secret(key.to_owned())));
    };
    let key = std::fs::read_to_string(path).map_err(|error| cannot_read(path, &error))?;
    Ok(Some(Secret(key.trim().to_owned())))
}

fn cannot_read(path: &Path, error: &io::Error) -> Failure {
    Failure::Prerequisite { detail: format!("cannot read {}: {error}", path.display()), next: None }
}

fn parse_url(input: &str, from: &str) -> Result<Url, Failure> {
    let refuse = |why: &str| Failure::Prerequisite {
        detail: format!("{} from {from} is no address of a control plane: {why}", output::plain(input)),
        next: Some("expected http://host:port or https://host".into()),
    };
    let url = Url::parse(input).map_err(|error| refuse(&error.to_string()))?;
    match url.scheme() {
        "http" | "https" if url.has_host() => Ok(url),
        _ => Err(refuse("it does not begin with http:// or https://")),
    }
}

fn read_first(global: &Global, around: &Surroundings) -> Result<(PathBuf, File), Failure> {
    let named = global.context.clone().or_else(|| around.var("FREEHOLD_CONTEXT").map(PathBuf::from));
    if let Some(path) = named {
        let text = std::fs::read_to_string(&path).map_err(|error| cannot_read(&path, &error))?;
        return parse(path, &text);
    }
    let mut tried = Vec::new();
    for path in places(around) {
        match std::fs::read_to_string(&path) {
            Ok(text) => return parse(path, &text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => tried.push(path.display().to_string()),
            Err(error) => tried.push(format!("{} ({error})", path.display())),
        }
    }
    let tried = if tried.is_empty() { "nowhere: HOME is not set".to_owned() } else { tried.join(", ") };
    Err(Failure::prerequisite(format!("no client context found; looked in {tried}"), NEXT))
}

/// The user's own choice first, then what `freehold dev` left in its data directory.
fn places(around: &Surroundings) -> Vec<PathBuf> {
    let system = Some(around.system_data_dir.join("client.toml"));
    let data = around.xdg("XDG_DATA_HOME", ".local/share").map(|dir| dir.join("freehold/client.toml"));
    let [first, second] = if around.is_root { [system, data] } else { [data, system] };
    [user_context(around), first, second].into_iter().flatten().collect()
}

fn parse(path: PathBuf, text: &str) -> Result<(PathBuf, File), Failure> {
    match toml::from_str(text) {
        Ok(file) => Ok((path, file)),
        // toml's own text quotes the line, which may hold the key: only its message is passed on.
        Err(error) => Err(Failure::Prerequisite {
            detail: format!("the context {} is not valid: {}", path.display(), error.message()),
            next: Some("expected two lines: url = \"…\" and api_key = \"…\"".into()),
        }),
    }
}
