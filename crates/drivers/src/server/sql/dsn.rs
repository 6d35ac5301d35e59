//! Where a server is and who knocks: `postgres://user:password@one:5432,two/database?sslmode=require`, or the
//! `host=… user=…` form.
//!
//! Errors are fixed sentences: they never quote the input, because a password with an unescaped `@`, `?` or `:`
//! lands in places where nobody expects one. Absent: defaults from the environment (PGHOST, pgpass, services).

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;

use crate::secrets::Password;

mod parse;

#[derive(Clone)]
pub struct Dsn {
    pub(super) hosts: Vec<HostPort>,
    pub(super) user: String,
    pub(super) password: Option<Password>,
    pub(super) database: Option<String>,
    pub(super) sslmode: SslMode,
    pub(super) roots: Roots,
    pub(super) target_session_attrs: TargetSessionAttrs,
    pub(super) connect_timeout: Duration,
}

/// A host name, an address, or (starting with `/`) the directory of a Unix socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    pub host: String,
    pub port: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SslMode {
    Disable,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetSessionAttrs {
    Any,
    ReadWrite,
    ReadOnly,
}

/// The certificates that vouch for a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Roots {
    /// The machine's own, and only if a mode verifies.
    System,
    File(PathBuf),
    Pem(Vec<u8>),
}

#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum BadDsn {
    #[error("expected postgres://user:password@host:port/database or host=… user=…")]
    Form,
    #[error("a %-escape is incomplete or is not UTF-8")]
    Escape,
    #[error("the host is missing")]
    NoHost,
    #[error("the user is missing")]
    NoUser,
    #[error(
        "a port is not a number from 1 to 65535 (is there an unescaped : @ / or ? in the password? write %3A %40 %2F %3F)"
    )]
    Port,
    #[error("give one port, or as many ports as hosts")]
    PortCount,
    #[error("an address in [brackets] is not closed")]
    Bracket,
    #[error("a value contains a NUL character")]
    Nul,
    #[error("sslmode is one of disable, prefer, require, verify-ca, verify-full")]
    SslMode,
    #[error("target_session_attrs is one of any, read-write, read-only, primary, standby")]
    TargetSessionAttrs,
    #[error("connect_timeout is a number of seconds from 1 to 300")]
    ConnectTimeout,
    #[error(
        "unknown parameter; known are host, port, user, password, dbname, sslmode, sslrootcert, target_session_attrs, connect_timeout, application_name"
    )]
    UnknownParameter,
    #[error("a quoted value is not closed")]
    Quote,
}

impl Dsn {
    pub fn parse(text: &str) -> Result<Self, BadDsn> {
        parse::parse(text)
    }

    /// A Unix socket, without a password: peer authentication.
    pub fn to_socket(dir: &std::path::Path, port: u16, user: &str, database: &str) -> Self {
        Self {
            hosts: vec![HostPort { host: dir.to_string_lossy().into_owned(), port }],
            user: user.to_owned(),
            password: None,
            database: Some(database.to_owned()),
            sslmode: SslMode::Disable,
            roots: Roots::System,
            target_session_attrs: TargetSessionAttrs::Any,
            connect_timeout: Duration::from_secs(5),
        }
    }

    /// Everything but the password, in a form that parses again.
    pub fn public(&self) -> String {
        self.render(None)
    }

    /// With the password, for whoever must be handed a URL. Wiped when dropped.
    pub fn expose_url(&self) -> zeroize::Zeroizing<String> {
        zeroize::Zeroizing::new(self.render(self.password.as_ref()))
    }

    #[must_use]
    pub fn with_database(&self, database: &str) -> Self {
        Self { database: Some(database.to_owned()), ..self.clone() }
    }

    #[must_use]
    pub fn with_user(&self, user: &str, password: Password) -> Self {
        Self { user: user.to_owned(), password: Some(password), ..self.clone() }
    }

    /// Elsewhere: a host, or several as `one:5432,two:5433`, of which the one that takes writes is looked for.
    #[must_use]
    pub fn with_host(&self, host: &str, port: u16) -> Self {
        let several = host.contains(',').then(|| HostPort::parse_list(host, port).ok()).flatten();
        match several {
            Some(hosts) => Self { hosts, target_session_attrs: TargetSessionAttrs::ReadWrite, ..self.clone() },
            None => Self { hosts: vec![HostPort { host: host.to_owned(), port }], ..self.clone() },
        }
    }

    #[must_use]
    pub fn with_ca_pem(&self, pem: &[u8]) -> Self {
        Self { roots: Roots::Pem(pem.to_vec()), ..self.clone() }
    }

    #[must_use]
    pub fn with_sslmode(&self, sslmode: SslMode) -> Self {
        Self { sslmode, ..self.clone() }
    }

    pub fn hosts(&self) -> &[HostPort] {
        &self.hosts
    }

    /// The first host; a DSN always has one.
    pub fn host(&self) -> &str {
        &self.hosts[0].host
    }

    pub fn port(&self) -> u16 {
        self.hosts[0].port
    }

    pub fn first_host(&self) -> (&str, u16) {
        (self.host(), self.port())
    }

    pub fn user(&self) -> &str {
        &self.user
    }

    pub fn password(&self) -> Option<&Password> {
        self.password.as_ref()
    }

    /// What was named, else PostgreSQL's own default: the user's name.
    pub fn database(&self) -> &str {
        self.database.as_deref().unwrap_or(&self.user)
    }

    pub fn sslmode(&self) -> SslMode {
        self.sslmode
    }

    pub fn target_session_attrs(&self) -> TargetSessionAttrs {
        self.target_session_attrs
    }

    /// Whether it names a file with certificates, which whoever connects would have to have.
    pub fn has_roots_file(&self) -> bool {
        matches!(self.roots, Roots::File(_))
    }

    fn render(&self, password: Option<&Password>) -> String {
        let secret = password.map_or(String::new(), |password| format!(":{}", encode(password.expose())));
        let hosts: Vec<_> = self.hosts.iter().map(HostPort::render).collect();
        let mut url = format!("postgres://{}{secret}@{}", encode(&self.user), hosts.join(","));
        if let Some(database) = &self.database {
            url.push('/');
            url.push_str(&encode(database));
        }
        let mut query = vec![format!("sslmode={}", self.sslmode.as_str())];
        if let Roots::File(path) = &self.roots {
            query.push(format!("sslrootcert={}", encode(&path.to_string_lossy())));
        }
        match self.target_session_attrs {
            TargetSessionAttrs::Any => {}
            TargetSessionAttrs::ReadWrite => query.push("target_session_attrs=read-write".into()),
            TargetSessionAttrs::ReadOnly => query.push("target_session_attrs=read-only".into()),
        }
        format!("{url}?{}", query.join("&"))
    }
}

impl HostPort {
    /// `one:5432,two,[::1]:5433`; `port` is for those that name none.
    ///
    /// # Errors
    /// An empty host, a port that is none, an address in brackets that are not closed.
    pub fn parse_list(text: &str, port: u16) -> Result<Vec<Self>, BadDsn> {
        parse::hosts(text, port)
    }

    /// As [`Self::parse_list`] reads it, ports and all.
    pub fn list(hosts: &[Self]) -> String {
        hosts.iter().map(Self::render).collect::<Vec<_>>().join(",")
    }

    fn render(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", encode(&self.host), self.port),
        }
    }
}

impl SslMode {
    pub const ALL: [Self; 5] = [Self::Disable, Self::Prefer, Self::Require, Self::VerifyCa, Self::VerifyFull];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }
}

impl FromStr for SslMode {
    type Err = BadDsn;

    fn from_str(text: &str) -> Result<Self, BadDsn> {
        Self::ALL.into_iter().find(|mode| mode.as_str() == text).ok_or(BadDsn::SslMode)
    }
}

impl FromStr for Dsn {
    type Err = BadDsn;

    fn from_str(text: &str) -> Result<Self, BadDsn> {
        Self::parse(text)
    }
}

impl fmt::Debug for Dsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dsn({})", self.public())
    }
}

impl fmt::Display for Dsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.public())
    }
}

/// Percent-encodes all but RFC 3986's unreserved characters.
fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests;
