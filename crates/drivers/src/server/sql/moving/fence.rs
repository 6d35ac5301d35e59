//! The fence is in PostgreSQL (rule 2): logins NOLOGIN, their sessions ended until none is left. Workers and Freehold's own
//! sessions go on. Quick, for everybody waits: it looks every few milliseconds.
//!
//! The way back is `admit_logins`.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_postgres::types::Type;

use super::side::Side;
use crate::server::sql::error::{SqlError, SqlErrorKind};
use crate::server::sql::quote::{ident, owned};

const LOOK_AGAIN: Duration = Duration::from_millis(3);

const END: &str =
    "select pg_terminate_backend(pid) from pg_stat_activity where usename = any($1) and pid <> pg_backend_pid()";

impl Side {
    /// Past the deadline the caller lets them in again, and tries later.
    pub async fn fence(&self, logins: &[&str], within: Duration) -> Result<(), SqlError> {
        let doing = format!("fence {}", self.database());
        let names = owned(logins);
        let prepared = "select gid from pg_prepared_xacts where database = current_database() limit 1";
        if let Some(row) = self.admin.rows(&doing, prepared, &[]).await?.first() {
            let message = format!(
                "transaction {:?} is prepared, and could be committed behind the fence: end it first",
                row.get::<_, String>(0)
            );
            return Err(SqlError::new(doing, SqlErrorKind::NotSupported, message));
        }
        let mut sql = vec!["SET LOCAL lock_timeout = '100ms'".to_owned()];
        sql.extend(names.iter().map(|name| format!("ALTER ROLE {} NOLOGIN", ident(name))));
        let deadline = Instant::now() + within;
        // A tenant may hold its own role locked: then its sessions are ended first.
        loop {
            match self.admin.run_all(&doing, &sql).await {
                Err(error) if error.kind == SqlErrorKind::Contention && Instant::now() < deadline => {
                    self.admin.rows(&doing, END, &[(&names, Type::TEXT_ARRAY)]).await?;
                }
                other => break other?,
            }
        }
        let mut quiet = 0;
        // Twice: a backend that was being let in at the first look shows up at the second.
        loop {
            let left = self.admin.rows(&doing, END, &[(&names, Type::TEXT_ARRAY)]).await?.len();
            quiet = if left == 0 { quiet + 1 } else { 0 };
            if quiet == 2 {
                return Ok(());
            }
            if left > 0 && Instant::now() > deadline {
                return Err(SqlError::new(
                    doing,
                    SqlErrorKind::Timeout,
                    format!("{left} sessions are left after {within:?}: let the tenant go on, and try again"),
                ));
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    /// The last look, after the marker has arrived: whoever was let in at the very moment of the fence would be here.
    pub async fn still_fenced(&self, logins: &[&str]) -> Result<(), SqlError> {
        let doing = format!("look at the fence of {}", self.database());
        let sql = "select (select count(*) from pg_stat_activity where usename = any($1)), \
                   (select count(*) from pg_roles where rolname = any($1) and rolcanlogin)";
        let row = self.admin.row(&doing, sql, &[(&owned(logins), Type::TEXT_ARRAY)]).await?;
        match (row.get::<_, i64>(0), row.get::<_, i64>(1)) {
            (0, 0) => Ok(()),
            (sessions, open) => {
                let message =
                    format!("{sessions} sessions and {open} logins are inside: fence it again, and mark anew");
                Err(SqlError::new(doing, SqlErrorKind::Contention, message))
            }
        }
    }
}
