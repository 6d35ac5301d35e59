//! What a database and two servers have that decides whether it can be moved from one to the other, and what that takes.
//!
//! Catalogs alone, names of pg_catalog alone, as the admin: nothing that a tenant can define is called, no object of its is
//! locked (a tenant that holds ACCESS EXCLUSIVE on its tables delays nobody), and whatever there are thousands of comes
//! back as a count with the first names. Absent: what it means, which the caller judges.

mod contents;
mod host;
mod theirs;
mod traffic;

use std::time::Duration;

pub use contents::Contents;
pub use host::{Available, Host, LocaleThere, Waiting};
pub use theirs::Theirs;
pub use traffic::Traffic;

use super::admin::Admin;
use super::error::SqlError;

/// How many names come with a count.
pub const NAMES: usize = 10;

/// How many there are, and what the first are called.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Named {
    pub count: u64,
    /// In the order of their bytes; at most [`NAMES`].
    pub names: Vec<String>,
}

impl Named {
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// How a database sorts, and in which encoding it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Locale {
    pub encoding: String,
    /// `c` libc, `i` ICU, `b` PostgreSQL's own.
    pub provider: String,
    pub collate: String,
    pub ctype: String,
    /// Of ICU and of PostgreSQL's own.
    pub locale: Option<String>,
    /// Of the library that sorts now, and the one the database was made with. None: it needs none.
    pub version: Option<String>,
    pub recorded_version: Option<String>,
}

impl Admin {
    /// From now on this session writes nothing, and waits for nothing longer than this.
    pub async fn only_look(&self, statement: Duration) -> Result<(), SqlError> {
        let limit = statement.as_millis();
        let sql = format!(
            "set default_transaction_read_only = on; set statement_timeout = {limit}; set lock_timeout = {limit}"
        );
        self.run("look without touching", &sql).await
    }
}
