//! PgBouncer's console: simple queries alone (it hangs up on any other), each with a time limit.

use std::str::FromStr;
use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::SimpleQueryRow;

use super::super::{PoolerError, PoolerErrorKind};
use super::quote;
use super::version::Release;
use crate::server::sql::{Dsn, Session, SqlError, SqlErrorKind};

pub(crate) struct Console {
    /// Until it is closed.
    session: Option<Session>,
    address: String,
    limit: Duration,
}

/// A line of a `SHOW`. Columns come and go with versions: what is not there reads as empty, or as 0.
pub(crate) struct Row(SimpleQueryRow);

impl Console {
    /// `dsn` names a login of the console and its password; the database is the console's whatever it says.
    pub async fn connect(dsn: &Dsn, limit: Duration) -> Result<Self, PoolerError> {
        Self::connect_to(dsn, "pgbouncer", limit).await
    }

    pub async fn connect_to(dsn: &Dsn, database: &str, limit: Duration) -> Result<Self, PoolerError> {
        let address = dsn.hosts().first().map_or_else(String::new, |at| format!("{}:{}", at.host, at.port));
        let connecting = Session::connect(dsn, Some(database), "freehold", &[]);
        let doing = format!("log in to the console at {address} as {}", dsn.user());
        match timeout(limit, connecting).await {
            Ok(Ok(session)) => Ok(Self { session: Some(session), address, limit }),
            Ok(Err(error)) => Err(failed(&doing, error)),
            Err(_) => Err(silent(&doing, limit)),
        }
    }

    pub async fn command(&self, command: &str) -> Result<Vec<Row>, PoolerError> {
        let doing = format!("{command} at {}", self.address);
        match timeout(self.limit, self.session().simple_query(command)).await {
            Ok(Ok(rows)) => Ok(rows.into_iter().map(Row).collect()),
            Ok(Err(error)) => Err(failed(&doing, error)),
            Err(_) => Err(silent(&doing, self.limit)),
        }
    }

    /// Waits as long as it takes: for a PAUSE, which the caller watches.
    pub async fn forever(&self, command: &str) -> Result<(), PoolerError> {
        let doing = format!("{command} at {}", self.address);
        self.session().simple_query(command).await.map(drop).map_err(|error| failed(&doing, error))
    }

    pub async fn release(&self) -> Result<Release, PoolerError> {
        let rows = self.command("SHOW VERSION").await?;
        let said = rows.first().map_or("", |row| row.at(0));
        Release::parse(said).ok_or_else(|| {
            PoolerError::new(
                PoolerErrorKind::NotAPooler,
                format!("what listens at {} is no PgBouncer: it says it is {said:?}", self.address),
            )
        })
    }

    /// Says goodbye. Dropped, it hangs up instead.
    pub async fn close(mut self) {
        if let Some(session) = self.session.take() {
            session.close().await;
        }
    }

    fn session(&self) -> &Session {
        self.session.as_ref().expect("only close() takes it")
    }
}

impl Drop for Console {
    /// What it was asked last may never be answered: a PAUSE that was resumed, a pooler that hangs.
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            session.hang_up();
        }
    }
}

impl Row {
    pub fn text(&self, column: &str) -> &str {
        self.0.try_get(column).ok().flatten().unwrap_or_default()
    }

    pub fn number<N: FromStr + Default>(&self, column: &str) -> N {
        self.text(column).parse().unwrap_or_default()
    }

    /// None where this version has no such column.
    pub fn optional<N: FromStr>(&self, column: &str) -> Option<N> {
        self.text(column).parse().ok()
    }

    pub fn is_set(&self, column: &str) -> bool {
        self.number::<i32>(column) != 0
    }

    fn at(&self, index: usize) -> &str {
        self.0.try_get(index).ok().flatten().unwrap_or_default()
    }
}

/// `PAUSE "name"`.
pub(super) fn about(verb: &str, database: &str) -> Result<String, PoolerError> {
    let name = quote::identifier("entry", database)
        .map_err(|error| PoolerError::new(PoolerErrorKind::Refused, error.to_string()))?;
    Ok(format!("{verb} {name}"))
}

/// PgBouncer has one SQLSTATE for nearly everything (08P01), and newer versions a few more: its words decide.
fn failed(doing: &str, error: SqlError) -> PoolerError {
    let words = error.message();
    let says = |any: &[&str]| any.iter().any(|part| words.contains(part));
    let (kind, advice) =
        if says(&["authentication failed", "login rejected", "no authentication method", "not allowed"])
            || error.kind == SqlErrorKind::AuthFailed
        {
            (PoolerErrorKind::Denied, ": is it the console's administrator, with its present password?")
        } else if says(&["no such database"]) {
            (PoolerErrorKind::Missing, "")
        } else if says(&["shutting down", "starting up"]) || error.sqlstate.as_deref() == Some("57P03") {
            (PoolerErrorKind::Starting, "")
        } else if says(&["unrecognized configuration parameter", "database \"pgbouncer\" does not exist"]) {
            (PoolerErrorKind::NotAPooler, ": a PostgreSQL listens there, no PgBouncer")
        } else if error.sqlstate.is_none() && error.kind == SqlErrorKind::Unreachable {
            (PoolerErrorKind::Unreachable, "")
        } else {
            (PoolerErrorKind::Other, "")
        };
    PoolerError::because(kind, format!("{doing}: {words}{advice}"), error)
}

fn silent(doing: &str, limit: Duration) -> PoolerError {
    PoolerError::new(PoolerErrorKind::Timeout, format!("{doing}: no answer within {limit:?}"))
}
