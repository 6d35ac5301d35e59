//! Which rules of production are broken. Reads nothing: the caller brings the facts.

use std::net::IpAddr;

use url::Url;

use super::{Reason, Rule};
use crate::settings::{SealingKey, Secret, ServerTls, Settings};

/// Shorter passwords are guessed.
const PASSWORD_MIN: usize = 12;
/// What people write until they know better, and then ship.
const DEFAULTS: [&str; 8] = [
    "changeme",
    "change-me",
    "change_me",
    "change me",
    "change-in-production",
    "your-secret",
    "your_secret",
    "password123",
];
/// Off by so much, audits, expiries and certificates of this machine and of the store disagree.
const CLOCK_MAX_MS: i64 = 2_000;

/// What the settings do not say.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Whether the sealing key was typed rather than drawn, or why there is none.
    pub key_is_guessable: Result<bool, String>,
    /// Or why it does not answer.
    pub store: Result<StoreFacts, String>,
    /// Whether the kernel says that this machine's clock follows a time server, where it says anything.
    pub is_synchronised: Option<bool>,
    pub has_fault_points: bool,
    /// What Nomad is told, by the settings or by the file that they name. None where there is none, or it cannot be read.
    pub nomad_token: Option<Secret>,
    /// What holds where `store.url` does not say it.
    pub environment: StoreEnvironment,
}

/// libpq's variables.
#[derive(Debug, Clone, Default)]
pub struct StoreEnvironment {
    /// `PGHOSTADDR`, else `PGHOST`.
    pub host: Option<String>,
    pub password: Option<String>,
    pub certificate: Option<String>,
    pub sslmode: Option<String>,
}

#[derive(Debug, Clone)]
pub struct StoreFacts {
    pub role: String,
    pub is_superuser: bool,
    /// Of this machine's clock, before the store's.
    pub clock_ahead_ms: i64,
}

pub fn judge(settings: &Settings, facts: &Facts) -> Vec<Reason> {
    let mut reasons = Vec::new();
    sealing_key(settings, facts, &mut reasons);
    secrets(settings, facts, &mut reasons);
    store(settings, facts, &mut reasons);
    listeners(settings, &mut reasons);
    poolers(settings, &mut reasons);
    addresses(settings, &mut reasons);
    clock(facts, &mut reasons);
    if facts.has_fault_points {
        let what = "FREEHOLD_FAULTS is set, and lets whoever wrote it make this process fail or die";
        refuse(&mut reasons, Rule::FaultPoints, what, "unset it, or say `environment` = \"development\"");
    }
    reasons
}

fn refuse(reasons: &mut Vec<Reason>, rule: Rule, what: impl Into<String>, remedy: impl Into<String>) {
    reasons.push(Reason { rule, what: what.into(), remedy: remedy.into() });
}

/// What to do where something else than Freehold takes care of it.
fn or_accept(remedy: &str, rule: Rule) -> String {
    format!("{remedy}; where something else sees to it, add {:?} to `compat.accept`", rule.as_str())
}

fn sealing_key(settings: &Settings, facts: &Facts, reasons: &mut Vec<Reason>) {
    let setting = match settings.secrets.sealing_key() {
        Ok(SealingKey::Given(_)) => "secrets.key",
        Ok(SealingKey::File(_)) | Err(_) => "secrets.key_file",
    };
    match &facts.key_is_guessable {
        Ok(false) => {}
        Ok(true) => {
            let what = format!("the key of {setting} was typed or counted, not drawn");
            let remedy = format!(
                "put 32 random bytes at `{setting}` (head -c 32 /dev/urandom | base64) before anything is sealed with it"
            );
            refuse(reasons, Rule::SecretGuessable, what, remedy);
        }
        Err(why) => {
            let remedy = format!("put base64 of 32 random bytes, mode 0600, at `{setting}`");
            refuse(reasons, Rule::SealingKey, format!("nothing can be sealed: {why}"), remedy);
        }
    }
}

fn secrets(settings: &Settings, facts: &Facts, reasons: &mut Vec<Reason>) {
    let in_file = settings.platform.nomad.as_ref().is_some_and(|nomad| nomad.token_file.is_some());
    let token = if in_file { "platform.nomad.token_file" } else { "platform.nomad.token" };
    let password = Store::of(settings, facts).and_then(|store| store.password);
    let said = |secret: &Option<Secret>| secret.as_ref().map(|secret| secret.expose_secret().to_owned());
    for (setting, secret) in [
        ("store.url", password),
        ("audit.stream_secret", said(&settings.audit.stream_secret)),
        (token, said(&facts.nomad_token)),
    ] {
        let Some(why) = secret.and_then(|secret| weakness(&secret)) else { continue };
        let what = match setting {
            "store.url" => format!("the password of store.url {why}"),
            _ => format!("{setting} {why}"),
        };
        refuse(
            reasons,
            Rule::SecretGuessable,
            what,
            format!("put a random one into `{setting}` (openssl rand -hex 32)"),
        );
    }
}

fn weakness(secret: &str) -> Option<String> {
    let lower = secret.to_ascii_lowercase();
    let mut characters: Vec<char> = secret.chars().collect();
    let length = characters.len();
    characters.sort_unstable();
    characters.dedup();
    match () {
        () if DEFAULTS.iter().any(|default| lower.contains(default)) => {
            Some("is a default that everybody knows".into())
        }
        () if length < PASSWORD_MIN => Some(format!("has {length} characters; expected {PASSWORD_MIN} or more")),
        () if characters.len() < 5 => Some(format!("is made of {} characters, again and again", characters.len())),
        () => None,
    }
}

/// What `store.url` says, as libpq reads it.
struct Store {
    is_socket: bool,
    is_loopback: bool,
    password: Option<String>,
    has_certificate: bool,
    sslmode: String,
}

impl Store {
    /// None where it is no URL, which is said elsewhere.
    fn of(settings: &Settings, facts: &Facts) -> Option<Self> {
        let url = Url::parse(settings.store.url.expose_secret()).ok()?;
        let query = |wanted: &[&str]| {
            let found = url.query_pairs().filter(|(name, _)| wanted.contains(&name.as_ref())).last();
            found.map(|(_, value)| value.into_owned()).filter(|value| !value.is_empty())
        };
        let environment = &facts.environment;
        let host = url.host_str().filter(|host| !host.is_empty()).map(str::to_owned);
        let host = query(&["host", "hostaddr"]).or(host).or_else(|| environment.host.clone()).unwrap_or_default();
        // The only character of a path that a URL writes otherwise in a host.
        let host = host.replace("%2F", "/").replace("%2f", "/");
        let in_url = url.password().filter(|password| !password.is_empty()).map(decoded);
        Some(Self {
            is_socket: host.starts_with('/'),
            is_loopback: host.is_empty() || is_loopback(&host),
            password: query(&["password"]).or(in_url).or_else(|| environment.password.clone()),
            has_certificate: query(&["sslcert", "ssl-cert"]).or_else(|| environment.certificate.clone()).is_some(),
            sslmode: query(&["sslmode", "ssl-mode"])
                .or_else(|| environment.sslmode.clone())
                .unwrap_or_else(|| "prefer".into())
                .to_ascii_lowercase(),
        })
    }
}

fn decoded(text: &str) -> String {
    let pair = format!("x={}", text.replace('+', "%2B"));
    url::form_urlencoded::parse(pair.as_bytes()).next().map(|(_, value)| value.into_owned()).unwrap_or_default()
}

fn store(settings: &Settings, facts: &Facts, reasons: &mut Vec<Reason>) {
    if let Some(store) = Store::of(settings, facts) {
        if store.password.is_none() && !store.has_certificate {
            let rule = Rule::StoreWithoutPassword;
            let what = match store.is_socket {
                true => "store.url has no password: whoever gets to the socket is let in",
                false => "store.url has no password: whoever gets to the port is let in",
            };
            let remedy =
                "give the role a password, and put it into `store.url`, or the whole into the file of `store.url_file`";
            refuse(reasons, rule, what, or_accept(remedy, rule));
        }
        if !store.is_socket && !store.is_loopback && is_plain(&store.sslmode) {
            let rule = Rule::StoreWithoutTls;
            let what = format!("store.url may go without TLS: its sslmode is {}", store.sslmode);
            refuse(reasons, rule, what, or_accept("add sslmode=verify-full to `store.url`", rule));
        }
    }
    match &facts.store {
        Ok(StoreFacts { role, is_superuser: true, .. }) => {
            let rule = Rule::StoreSuperuser;
            let what = format!("{role}, the role of store.url, is a superuser");
            let remedy = "make the control store's database a role of its own that is none (CREATE ROLE freehold LOGIN), its owner, and \
                put that into `store.url`";
            refuse(reasons, rule, what, or_accept(remedy, rule));
        }
        Ok(_) => {}
        Err(why) => refuse(reasons, Rule::StoreUnanswered, why, "see that it runs, and look at `store.url`"),
    }
}

fn listeners(settings: &Settings, reasons: &mut Vec<Reason>) {
    let edges = settings.edges.iter().filter_map(|edge| edge.listen).map(|listen| ("edge.listen", listen));
    for (setting, listen) in std::iter::once(("listen", settings.listen)).chain(edges) {
        if listen.ip().is_loopback() {
            continue;
        }
        let rule = Rule::ApiWithoutTls;
        let what = match listen.ip().is_unspecified() {
            true => {
                format!("{setting} is {listen}: every network of this machine gets to the API, which speaks plain HTTP")
            }
            false => format!("{setting} is {listen}: the API speaks plain HTTP, with keys and passwords in it"),
        };
        let remedy = format!("let `{setting}` be on loopback, behind something that speaks TLS");
        refuse(reasons, rule, what, or_accept(&remedy, rule));
    }
}

fn poolers(settings: &Settings, reasons: &mut Vec<Reason>) {
    let Some(platform) = &settings.pooler.platform else { return };
    if !is_loopback(&platform.address) && is_plain(platform.sslmode()) {
        let rule = Rule::PoolersWithoutTls;
        let what = format!("tenants reach poolers at {} with sslmode {}", platform.address, platform.sslmode());
        let remedy = "name `pooler.platform.certificate` and `pooler.platform.certificate_key`";
        refuse(reasons, rule, what, or_accept(remedy, rule));
    }
    let is_off = match platform.server_tls {
        Some(ServerTls::Verified | ServerTls::Offered) => false,
        Some(ServerTls::Off) => true,
        None => platform.server_ca.is_none(),
    };
    if is_off {
        let rule = Rule::PoolerServersWithoutTls;
        let remedy = "name the servers' authority with `pooler.platform.server_ca`";
        refuse(reasons, rule, "poolers speak to servers without TLS", or_accept(remedy, rule));
    }
}

/// Of others, that Freehold sends secrets to.
fn addresses(settings: &Settings, reasons: &mut Vec<Reason>) {
    let poolers = settings.pooler.platform.as_ref();
    let audit = |url: &Option<Secret>| url.as_ref().map(|url| url.expose_secret().to_owned());
    for (rule, setting, url, carries) in [
        (
            Rule::PlaneWithoutTls,
            "pooler.platform.plane_url",
            poolers.and_then(|platform| platform.plane_url.clone()),
            "the keys of agents",
        ),
        (
            Rule::NomadWithoutTls,
            "platform.nomad.url",
            settings.platform.nomad.as_ref().map(|nomad| nomad.url.clone()),
            "the token, and passwords of servers",
        ),
        (Rule::AuditWithoutTls, "audit.checkpoint_url", audit(&settings.audit.checkpoint_url), "what it holds"),
        (Rule::AuditWithoutTls, "audit.stream_url", audit(&settings.audit.stream_url), "who did what"),
    ] {
        let Some(url) = url.and_then(|url| Url::parse(&url).ok()) else { continue };
        if url.scheme() != "http" || url.host_str().is_none_or(is_loopback) {
            continue;
        }
        let what = format!("{setting} begins with http://, and anybody on the way reads {carries}");
        refuse(reasons, rule, what, or_accept(&format!("let `{setting}` begin with https://"), rule));
    }
}

fn clock(facts: &Facts, reasons: &mut Vec<Reason>) {
    let rule = Rule::ClockUnsynchronised;
    let remedy = or_accept("let this machine and the control store's follow one time server", rule);
    if facts.is_synchronised == Some(false) {
        refuse(reasons, rule, "this machine's clock follows no time server", remedy);
        return;
    }
    if let Ok(store) = &facts.store
        && store.clock_ahead_ms.abs() > CLOCK_MAX_MS
    {
        let what = match store.clock_ahead_ms {
            ahead if ahead > 0 => format!("this machine's clock is {ahead} ms ahead of the control store's"),
            behind => format!("this machine's clock is {} ms behind the control store's", behind.abs()),
        };
        refuse(reasons, rule, what, remedy);
    }
}

/// Whether somebody on the way can have it without TLS.
fn is_plain(sslmode: &str) -> bool {
    !matches!(sslmode, "require" | "verify-ca" | "verify-full")
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests;
