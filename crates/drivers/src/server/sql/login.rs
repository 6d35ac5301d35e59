//! Lets logins in, keeps them out, and ends their sessions. The fence of a move, a suspension and a retired
//! credential is here, in PostgreSQL: what a pooler does is courtesy (rule 2).

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_postgres::types::Type;

use super::admin::Admin;
use super::error::{SqlError, SqlErrorKind};
use super::quote::{ident, owned};

const DEADLINE: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

impl Admin {
    /// NOLOGIN, then ends the roles' sessions until none is left, in every database. Never ALLOW_CONNECTIONS false:
    /// that would stop apply workers too.
    ///
    /// A tenant may hold its own role locked (an open transaction after `ALTER ROLE … PASSWORD`): its sessions are
    /// ended before too, and again each time it was quicker, so that nobody stays by holding on.
    pub async fn refuse_logins(&self, logins: &[&str]) -> Result<(), SqlError> {
        let doing = || format!("set {} NOLOGIN", logins.join(", "));
        let existing = self.existing_roles(logins).await?;
        let mut sql = vec!["SET LOCAL lock_timeout = '300ms'".to_owned()];
        sql.extend(existing.iter().map(|name| format!("ALTER ROLE {} NOLOGIN", ident(name))));
        let end = "select pg_terminate_backend(pid) from pg_stat_activity where usename = any($1) and pid <> pg_backend_pid()";
        let deadline = Instant::now() + DEADLINE;
        while !existing.is_empty() {
            self.rows(doing(), end, &[(&existing, Type::TEXT_ARRAY)]).await?;
            match self.run_all(doing(), &sql).await {
                Err(error) if error.kind == SqlErrorKind::Contention && Instant::now() < deadline => {}
                other => {
                    other?;
                    break;
                }
            }
        }
        self.terminate_sessions(logins).await
    }

    /// Ends sessions of these roles anywhere but in `database`: they got in by a grant that is gone.
    pub async fn terminate_elsewhere(&self, roles: &[&str], database: &str) -> Result<(), SqlError> {
        let doing = format!("end sessions of {} outside {database}", roles.join(", "));
        let sql = "select pg_terminate_backend(pid) from pg_stat_activity where usename = any($1) and datname <> $2";
        self.rows(doing, sql, &[(&owned(roles), Type::TEXT_ARRAY), (&database, Type::TEXT)]).await.map(drop)
    }

    pub async fn admit_logins(&self, logins: &[&str]) -> Result<(), SqlError> {
        self.alter_existing(logins, "LOGIN").await
    }

    /// The same of one that is mostly admitted already, and may not be there: without a write where there is nothing to do.
    pub async fn admit_if_refused(&self, login: &str) -> Result<(), SqlError> {
        let doing = format!("set {login} LOGIN");
        let sql = "select 1 from pg_roles where rolname = $1 and not rolcanlogin";
        match self.exists(&doing, sql, &[(&login, Type::TEXT)]).await? {
            true => self.run(doing, &format!("ALTER ROLE {} LOGIN", ident(login))).await,
            false => Ok(()),
        }
    }

    /// Ends every session of these roles and waits until they are gone. Without NOLOGIN before it, they come back.
    pub async fn terminate_sessions(&self, roles: &[&str]) -> Result<(), SqlError> {
        let roles = owned(roles);
        let sql = "select count(pg_terminate_backend(pid)) from pg_stat_activity where usename = any($1) and pid <> pg_backend_pid()";
        let doing = format!("end sessions of {}", roles.join(", "));
        self.until_none_left(&doing, sql, &roles).await
    }

    /// Ends every session in a database but this one.
    pub(super) async fn terminate_in(&self, database: &str) -> Result<(), SqlError> {
        let names = vec![database.to_owned()];
        let sql = "select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = any($1) and pid <> pg_backend_pid() \
                   and backend_type = 'client backend'";
        self.until_none_left(&format!("end sessions in {database}"), sql, &names).await
    }

    async fn until_none_left(&self, doing: &str, sql: &str, names: &Vec<String>) -> Result<(), SqlError> {
        let deadline = Instant::now() + DEADLINE;
        let mut quiet = 0;
        loop {
            let left: i64 = self.row(doing, sql, &[(names, Type::TEXT_ARRAY)]).await?.get(0);
            // Twice: a backend that was being let in at the first look shows up at the second.
            quiet = if left == 0 { quiet + 1 } else { 0 };
            if quiet == 2 {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(SqlError::new(
                    doing,
                    SqlErrorKind::Timeout,
                    format!("{left} sessions are left after {DEADLINE:?}"),
                ));
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    async fn alter_existing(&self, logins: &[&str], what: &str) -> Result<(), SqlError> {
        let existing = self.existing_roles(logins).await?;
        let sql: Vec<_> = existing.iter().map(|name| format!("ALTER ROLE {} {what}", ident(name))).collect();
        self.run_all(format!("set {} {what}", logins.join(", ")), &sql).await
    }
}
