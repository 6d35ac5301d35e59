//! Reads both forms of a DSN. Never panics and never quotes what it read.

use std::time::Duration;

use super::{BadDsn, Dsn, HostPort, Roots, SslMode, TargetSessionAttrs};
use crate::secrets::Password;

pub(super) fn parse(text: &str) -> Result<Dsn, BadDsn> {
    let text = text.trim();
    let mut parts = Parts::default();
    match text.strip_prefix("postgres://").or_else(|| text.strip_prefix("postgresql://")) {
        Some(rest) => parts.read_url(rest)?,
        None if text.contains('=') && !text.contains("://") => parts.read_pairs(text)?,
        None => return Err(BadDsn::Form),
    }
    parts.finish()
}

pub(super) fn hosts(text: &str, port: u16) -> Result<Vec<HostPort>, BadDsn> {
    let mut parts = Parts::default();
    for host in text.split(',') {
        parts.read_host(host.trim())?;
    }
    if parts.hosts.iter().any(String::is_empty) {
        return Err(BadDsn::NoHost);
    }
    let ports = parts.ports.into_iter().map(|given| given.unwrap_or(port));
    Ok(parts.hosts.into_iter().zip(ports).map(|(host, port)| HostPort { host, port }).collect())
}

#[derive(Default)]
struct Parts {
    hosts: Vec<String>,
    /// Parallel to `hosts` in a URL; free-standing in `port=`.
    ports: Vec<Option<u16>>,
    user: Option<String>,
    password: Option<Password>,
    database: Option<String>,
    sslmode: Option<SslMode>,
    roots: Option<Roots>,
    target: Option<TargetSessionAttrs>,
    connect_timeout: Option<Duration>,
}

impl Parts {
    fn read_url(&mut self, rest: &str) -> Result<(), BadDsn> {
        let (before, query) = split_at_first(rest, '?');
        let (authority, database) = split_at_first(before, '/');
        // The last @: one that was left unescaped in a password then still ends up in the password.
        let hosts = match authority.rsplit_once('@') {
            Some((who, hosts)) => {
                let (user, password) = split_at_first(who, ':');
                self.set("user", &decode(user)?)?;
                if let Some(password) = password {
                    self.set("password", &decode(password)?)?;
                }
                hosts
            }
            None => authority,
        };
        if !hosts.is_empty() {
            for host in hosts.split(',') {
                self.read_host(host)?;
            }
        }
        if let Some(database) = database.filter(|database| !database.is_empty()) {
            self.set("dbname", &decode(database)?)?;
        }
        for pair in query.into_iter().flat_map(|query| query.split('&')).filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').ok_or(BadDsn::UnknownParameter)?;
            self.set(&decode(key)?, &decode(value)?)?;
        }
        Ok(())
    }

    fn read_host(&mut self, text: &str) -> Result<(), BadDsn> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (address, after) = rest.split_once(']').ok_or(BadDsn::Bracket)?;
                match after.strip_prefix(':') {
                    Some(port) => (address, Some(port)),
                    None if after.is_empty() => (address, None),
                    None => return Err(BadDsn::Bracket),
                }
            }
            None => split_at_first(text, ':'),
        };
        let host = decode(host)?;
        refuse_nul(&host)?;
        self.hosts.push(host);
        self.ports.push(port.filter(|port| !port.is_empty()).map(parse_port).transpose()?);
        Ok(())
    }

    fn read_pairs(&mut self, text: &str) -> Result<(), BadDsn> {
        let mut rest = text.chars().peekable();
        loop {
            while rest.next_if(|c| c.is_whitespace()).is_some() {}
            if rest.peek().is_none() {
                return Ok(());
            }
            let mut key = String::new();
            loop {
                match rest.next() {
                    Some('=') => break,
                    Some(c) => key.push(c),
                    None => return Err(BadDsn::UnknownParameter),
                }
            }
            while rest.next_if(|c| c.is_whitespace()).is_some() {}
            let quoted = rest.next_if_eq(&'\'').is_some();
            let mut value = zeroize::Zeroizing::new(String::new());
            loop {
                match rest.next() {
                    Some('\'') if quoted => break,
                    Some('\\') => value.push(rest.next().ok_or(BadDsn::Quote)?),
                    Some(c) if !quoted && c.is_whitespace() => break,
                    Some(c) => value.push(c),
                    None if quoted => return Err(BadDsn::Quote),
                    None => break,
                }
            }
            self.set(key.trim(), &value)?;
        }
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), BadDsn> {
        refuse_nul(value)?;
        match key {
            "user" => self.user = Some(value.to_owned()),
            "password" => self.password = Some(Password::new(value)),
            "dbname" => self.database = Some(value.to_owned()),
            "host" => {
                self.hosts = value.split(',').map(str::to_owned).collect();
                self.ports.retain(Option::is_some);
            }
            "port" => self.ports = value.split(',').map(|port| parse_port(port).map(Some)).collect::<Result<_, _>>()?,
            "sslmode" => self.sslmode = Some(value.parse()?),
            "sslrootcert" if value == "system" => self.roots = Some(Roots::System),
            "sslrootcert" => self.roots = Some(Roots::File(value.into())),
            "target_session_attrs" => {
                self.target = Some(match value {
                    "any" => TargetSessionAttrs::Any,
                    "read-write" | "primary" => TargetSessionAttrs::ReadWrite,
                    "read-only" | "standby" => TargetSessionAttrs::ReadOnly,
                    _ => return Err(BadDsn::TargetSessionAttrs),
                });
            }
            "connect_timeout" => {
                let seconds: u64 = value.parse().map_err(|_| BadDsn::ConnectTimeout)?;
                if !(1..=300).contains(&seconds) {
                    return Err(BadDsn::ConnectTimeout);
                }
                self.connect_timeout = Some(Duration::from_secs(seconds));
            }
            // Freehold names and paces its connections itself.
            "application_name"
            | "channel_binding"
            | "gssencmode"
            | "keepalives"
            | "keepalives_idle"
            | "keepalives_interval"
            | "keepalives_count" => {}
            _ => return Err(BadDsn::UnknownParameter),
        }
        Ok(())
    }

    fn finish(self) -> Result<Dsn, BadDsn> {
        if self.hosts.is_empty() || self.hosts.iter().any(String::is_empty) {
            return Err(BadDsn::NoHost);
        }
        let port_of = |at: usize| match self.ports.as_slice() {
            [] => Ok(5432),
            [one] => Ok(one.unwrap_or(5432)),
            many if many.len() == self.hosts.len() => Ok(many[at].unwrap_or(5432)),
            _ => Err(BadDsn::PortCount),
        };
        let mut hosts = Vec::with_capacity(self.hosts.len());
        for (at, host) in self.hosts.iter().enumerate() {
            hosts.push(HostPort { host: host.clone(), port: port_of(at)? });
        }
        // Of several hosts one is the primary, and nothing else is of use here.
        let target = if hosts.len() > 1 { TargetSessionAttrs::ReadWrite } else { TargetSessionAttrs::Any };
        Ok(Dsn {
            hosts,
            user: self.user.filter(|user| !user.is_empty()).ok_or(BadDsn::NoUser)?,
            password: self.password,
            database: self.database.filter(|database| !database.is_empty()),
            sslmode: self.sslmode.unwrap_or(SslMode::Prefer),
            roots: self.roots.unwrap_or(Roots::System),
            target_session_attrs: self.target.unwrap_or(target),
            connect_timeout: self.connect_timeout.unwrap_or(Duration::from_secs(5)),
        })
    }
}

fn split_at_first(text: &str, at: char) -> (&str, Option<&str>) {
    match text.split_once(at) {
        Some((before, after)) => (before, Some(after)),
        None => (text, None),
    }
}

fn parse_port(text: &str) -> Result<u16, BadDsn> {
    text.parse().ok().filter(|port| *port != 0).ok_or(BadDsn::Port)
}

fn refuse_nul(text: &str) -> Result<(), BadDsn> {
    match text.contains('\0') {
        true => Err(BadDsn::Nul),
        false => Ok(()),
    }
}

fn decode(text: &str) -> Result<String, BadDsn> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|b| char::from(b).to_digit(16)).ok_or(BadDsn::Escape);
        let (high, low) = (digit()?, digit()?);
        bytes.push(u8::try_from(high * 16 + low).map_err(|_| BadDsn::Escape)?);
    }
    String::from_utf8(bytes).map_err(|_| BadDsn::Escape)
}
