//! The admin's session on a server: reads catalogs, changes roles and databases, and executes nothing that a
//! tenant can define (rule 1).
//!
//! What makes it safe is in the startup packet, which outranks anything stored with a database or a role: there
//! is no moment in which a hostile `ALTER DATABASE … SET search_path` or `role` is in force.

use std::time::Duration;

use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};

use super::dsn::Dsn;
use super::error::{SqlError, SqlErrorKind};
use super::quote::literal;
use super::session::{Greeting, Session};

pub struct Admin {
    session: Session,
    pub(super) user: String,
    pub(super) superuser: bool,
}

/// How long the server may take. `lock` also bounds what neighbours have to wait behind us.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    pub lock: Duration,
    pub statement: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        // CREATE DATABASE from a large template and DROP DATABASE (once 14 s) fit; a hung disk does not.
        Self { lock: Duration::from_secs(10), statement: Duration::from_secs(300) }
    }
}

pub(super) type Params<'a> = &'a [(&'a (dyn ToSql + Sync), Type)];

impl Admin {
    pub async fn connect(dsn: &Dsn, database: Option<&str>, application_name: &str) -> Result<Self, SqlError> {
        Self::connect_with(dsn, database, application_name, Timeouts::default()).await
    }

    pub async fn connect_with(
        dsn: &Dsn,
        database: Option<&str>,
        application_name: &str,
        timeouts: Timeouts,
    ) -> Result<Self, SqlError> {
        Self::open(dsn, database, application_name, timeouts, "").await
    }

    /// Runs no event trigger, not even one on login: for a superuser on 17 or later, in a database that others made.
    /// An older server, or one that does not let this admin, refuses the connection.
    pub async fn connect_past_event_triggers(
        dsn: &Dsn,
        database: Option<&str>,
        application_name: &str,
    ) -> Result<Self, SqlError> {
        Self::open(dsn, database, application_name, Timeouts::default(), " -c event_triggers=off").await
    }

    async fn open(
        dsn: &Dsn,
        database: Option<&str>,
        application_name: &str,
        timeouts: Timeouts,
        more: &str,
    ) -> Result<Self, SqlError> {
        let options = format!(
            "-c search_path=pg_catalog -c role=none -c lock_timeout={} -c statement_timeout={} \
             -c idle_in_transaction_session_timeout=60000 -c default_transaction_read_only=off -c row_security=off{more}",
            timeouts.lock.as_millis(),
            timeouts.statement.as_millis()
        );
        let session = Session::open(dsn, database, application_name, Some(&options)).await?;
        let mut admin = Self { session, user: dsn.user().to_owned(), superuser: false };
        // Nothing has set another role: the session's user is the current one.
        match admin.session.greeting() {
            Greeting { user: Some(user), superuser: Some(superuser) } => {
                (admin.user, admin.superuser) = (user.clone(), *superuser);
            }
            _ => {
                let sql = "select current_user::text, rolsuper from pg_roles where rolname = current_user";
                let row = admin.row("read who the admin is", sql, &[]).await?;
                (admin.user, admin.superuser) = (row.get(0), row.get(1));
            }
        }
        if admin.version_num() >= 160_000 && !admin.superuser {
            // From 16 on, whoever creates a role may administer it but is not a member: this makes it one, so that it
            // can own, alter and terminate on the role's behalf.
            admin.run("set createrole_self_grant", "set createrole_self_grant = 'set, inherit'").await?;
        }
        Ok(admin)
    }

    /// The role it works as.
    pub fn user(&self) -> &str {
        &self.user
    }

    pub fn is_superuser(&self) -> bool {
        self.superuser
    }

    /// Whether it gets into other databases of its server by [`Admin::connect_past_event_triggers`].
    pub fn passes_event_triggers(&self) -> bool {
        self.superuser && self.version_num() >= 170_000
    }

    /// Asked from outside: whoever goes into that database runs it.
    pub async fn has_login_trigger(&self, database: &str) -> Result<bool, SqlError> {
        let sql = "select 1 from pg_database d where d.datname = $1 and (to_jsonb(d)->>'dathasloginevt')::bool";
        self.exists(format!("look at database {database}").as_str(), sql, &[(&database, Type::TEXT)]).await
    }

    /// Event triggers of the database it is in that call what no superuser owns, and would have this session call it at
    /// its next DDL.
    pub async fn event_triggers_of_others(&self) -> Result<Vec<String>, SqlError> {
        let sql = "select e.evtname::text from pg_event_trigger e join pg_proc p on p.oid = e.evtfoid \
                   join pg_roles r on r.oid = p.proowner where e.evtenabled in ('O', 'A') and not r.rolsuper \
                   and r.rolname <> current_user and coalesce(current_setting('event_triggers', true), 'on') = 'on' order by 1";
        let rows = self.rows(format!("look for event triggers in {}", self.database()), sql, &[]).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    pub fn database(&self) -> &str {
        self.session.database()
    }

    pub fn version_num(&self) -> i32 {
        self.session.version_num()
    }

    pub fn is_closed(&self) -> bool {
        self.session.is_closed()
    }

    /// For subscriptions, slots and publications: catalogs and Freehold's own objects only.
    pub fn client(&self) -> &Client {
        self.session.client()
    }

    /// For this session, from now on.
    pub async fn wait_for_locks_at_most(&self, limit: Duration) -> Result<(), SqlError> {
        self.run("set lock_timeout", &format!("set lock_timeout = {}", limit.as_millis())).await
    }

    /// From now on this session is somebody else's, for whoever looks for sessions by their names.
    pub async fn go_by(&self, application_name: &str) -> Result<(), SqlError> {
        self.run("take over a session", &format!("set application_name = {}", literal(application_name))).await
    }

    pub async fn ping(&self) -> Result<(), SqlError> {
        self.run("ping the server", "select 1").await
    }

    /// Says goodbye and waits until the server heard it: CREATE DATABASE and RENAME wait for the last to leave.
    pub async fn close(self) {
        self.session.close().await;
    }

    /// Several statements in one message are one transaction.
    pub(super) async fn run(&self, doing: impl Into<String>, sql: &str) -> Result<(), SqlError> {
        self.client().batch_execute(sql).await.map_err(|error| SqlError::from_pg(doing, error))
    }

    pub(super) async fn run_all(&self, doing: impl Into<String>, statements: &[String]) -> Result<(), SqlError> {
        match statements {
            [] => Ok(()),
            _ => self.run(doing, &statements.join(";\n")).await,
        }
    }

    pub(super) async fn rows(
        &self,
        doing: impl Into<String>,
        sql: &str,
        params: Params<'_>,
    ) -> Result<Vec<Row>, SqlError> {
        self.client().query_typed(sql, params).await.map_err(|error| SqlError::from_pg(doing, error))
    }

    pub(super) async fn row(&self, doing: &str, sql: &str, params: Params<'_>) -> Result<Row, SqlError> {
        let mut rows = self.rows(doing, sql, params).await?;
        rows.pop().ok_or_else(|| SqlError::new(doing, SqlErrorKind::Unexpected, "the catalog has no such row"))
    }

    pub(super) async fn exists(&self, doing: &str, sql: &str, params: Params<'_>) -> Result<bool, SqlError> {
        Ok(!self.rows(doing, sql, params).await?.is_empty())
    }

    /// `ALTER ROLE … SET name = value`, with the value quoted whatever it is.
    pub(super) fn set_clause(name: &str, value: &str) -> String {
        format!("SET {} = {}", super::quote::setting(name), literal(value))
    }
}
