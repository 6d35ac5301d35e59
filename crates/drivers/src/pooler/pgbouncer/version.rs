//! What a PgBouncer can do, by the version found. Pure.

use std::fmt;

use super::super::Mode;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Release {
    pub major: u16,
    pub minor: u16,
    pub patch: u16,
}

/// Each named after what it gives, with the version that brought it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Features {
    /// 1.19: `auth_dbname`.
    pub auth_dbname: bool,
    /// 1.21: `max_prepared_statements`, protocol-level statements in transaction mode.
    pub prepared_statements: bool,
    /// 1.23: `all` as an address in access rules, which halves their number; SIGQUIT ends it at once.
    pub all_addresses: bool,
    /// 1.24: `max_db_client_connections`, and a count of them.
    pub client_limits: bool,
    /// 1.24: a reload leaves TLS connections to servers alone. Before, every reload makes all of them anew.
    pub keeps_tls: bool,
}

impl Release {
    pub const fn new(major: u16, minor: u16, patch: u16) -> Self {
        Self { major, minor, patch }
    }

    /// From `PgBouncer 1.18.0`, as `SHOW VERSION` and `--version` say it; nothing else answers like this.
    pub fn parse(said: &str) -> Option<Self> {
        let number = said.lines().next()?.strip_prefix("PgBouncer ")?.split_whitespace().next()?;
        let mut parts = number.split(['.', '-']).map(|part| {
            let digits: String = part.chars().take_while(char::is_ascii_digit).collect();
            digits.parse().ok()
        });
        let (major, minor) = (parts.next()??, parts.next()??);
        Some(Self { major, minor, patch: parts.next().flatten().unwrap_or(0) })
    }

    pub fn features(self) -> Features {
        let since = |minor| self >= Self::new(1, minor, 0);
        Features {
            auth_dbname: since(19),
            prepared_statements: since(21),
            all_addresses: since(23),
            client_limits: since(24),
            keeps_tls: since(24),
        }
    }
}

impl Features {
    /// Clients that prepare statements, which most drivers do without being asked, fail in transaction mode where the
    /// pooler does not know about them: there the default is session (rule 11).
    pub fn default_mode(self) -> Mode {
        match self.prepared_statements {
            true => Mode::Transaction,
            false => Mode::Session,
        }
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_is_read_and_decides_the_default_mode() {
        for (said, release, mode) in [
            ("PgBouncer 1.18.0", Release::new(1, 18, 0), Mode::Session),
            ("PgBouncer 1.18.0\nlibevent 2.1.12-stable\n", Release::new(1, 18, 0), Mode::Session),
            ("PgBouncer 1.20.1", Release::new(1, 20, 1), Mode::Session),
            ("PgBouncer 1.21.0", Release::new(1, 21, 0), Mode::Transaction),
            ("PgBouncer 1.24.1", Release::new(1, 24, 1), Mode::Transaction),
            ("PgBouncer 1.25rc1", Release::new(1, 25, 0), Mode::Transaction),
            ("PgBouncer 2.0", Release::new(2, 0, 0), Mode::Transaction),
        ] {
            let found = Release::parse(said).unwrap();
            assert_eq!((found, found.features().default_mode()), (release, mode), "{said}");
        }
        for said in ["", "PgCat 1.2.0", "PgBouncer", "PgBouncer x.y", "15.13"] {
            assert_eq!(Release::parse(said), None, "{said}");
        }
    }

    #[test]
    fn features_come_with_their_versions() {
        let old = Release::new(1, 18, 0).features();
        assert!(!old.auth_dbname && !old.prepared_statements && !old.all_addresses && !old.client_limits);
        let new = Release::new(1, 24, 1).features();
        assert!(new.auth_dbname && new.prepared_statements && new.all_addresses && new.client_limits && new.keeps_tls);
        assert!(!Release::new(1, 23, 1).features().keeps_tls);
    }
}
