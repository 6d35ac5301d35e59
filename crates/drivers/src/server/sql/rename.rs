//! Gives a stock database its tenant's name: one transaction for both names, 0.3 ms.
//!
//! Verifiers survive a rename (only MD5 hashes are salted with the name). Absent: the owner's name, which
//! `ALTER ROLE … SET role` holds as text.

use super::admin::Admin;
use super::error::{SqlError, SqlErrorKind};
use super::quote::ident;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Names<'a> {
    pub database: &'a str,
    pub login: &'a str,
}

impl Admin {
    /// Already renamed is fine; both names in existence is somebody else's name.
    pub async fn rename(&self, from: Names<'_>, to: Names<'_>) -> Result<(), SqlError> {
        let doing = || format!("rename {} to {}", from.database, to.database);
        let mut sql = Vec::new();
        let roles = (self.role_exists(from.login).await?, self.role_exists(to.login).await?);
        if needed(doing(), "role", from.login, to.login, roles)? {
            sql.push(format!("ALTER ROLE {} RENAME TO {}", ident(from.login), ident(to.login)));
        }
        let databases = (self.database_exists(from.database).await?, self.database_exists(to.database).await?);
        if needed(doing(), "database", from.database, to.database, databases)? {
            sql.push(format!("ALTER DATABASE {} RENAME TO {}", ident(from.database), ident(to.database)));
        }
        self.run_all(doing(), &sql).await
    }
}

fn needed(doing: String, what: &str, from: &str, to: &str, (source, target): (bool, bool)) -> Result<bool, SqlError> {
    match (source, target) {
        _ if from == to => Ok(false),
        (true, false) => Ok(true),
        (false, true) => Ok(false),
        (true, true) => Err(SqlError::new(doing, SqlErrorKind::AlreadyExists, format!("{what} {to} exists already"))),
        (false, false) => {
            Err(SqlError::new(doing, SqlErrorKind::Missing, format!("there is neither {what} {from} nor {to}")))
        }
    }
}
