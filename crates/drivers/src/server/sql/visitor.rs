//! The login that health comes in with, over the address that tenants use.
//!
//! One of its own per server, because every other fits less: the admin may come another way (a socket, another address),
//! an empty server has no tenant, and a tenant's login may be suspended, full or bent. This one is always there, is a
//! member of nothing, may enter one database in which nothing of a tenant's is, and reads.

use super::admin::Admin;
use super::dsn::Dsn;
use super::error::{SqlError, SqlErrorKind};
use super::facts::{Finding, Severity};
use super::quote::{ident, literal};
use super::session::Session;

/// Visits of several processes at once, and of those that died a moment ago.
const SESSIONS: u32 = 10;

/// What answered where tenants connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visit {
    /// None: let in by password, and refused at the database.
    pub in_recovery: Option<bool>,
    /// Empty when it may not be read.
    pub system_identifier: String,
}

impl Admin {
    /// The login is there, with this verifier and nothing else. Into the admin's own database, which may be another
    /// role's, it is let as far as the admin may: [`visit`] finds out.
    pub async fn ensure_visitor(&self, role: &str, verifier: &str) -> Result<(), SqlError> {
        let doing = format!("ensure login {role}");
        let name = ident(role);
        let mut sql = Vec::new();
        if !self.role_exists(role).await? {
            sql.push(format!("CREATE ROLE {name} NOLOGIN NOINHERIT"));
        }
        sql.push(format!(
            "ALTER ROLE {name} LOGIN NOINHERIT CONNECTION LIMIT {SESSIONS} PASSWORD {}",
            literal(verifier)
        ));
        self.run_all(doing.clone(), &sql).await?;
        let grant = format!("GRANT CONNECT ON DATABASE {} TO {name}", ident(self.database()));
        match self.run(doing, &grant).await {
            Err(error) if error.kind != SqlErrorKind::Privilege => Err(error),
            _ => Ok(()),
        }
    }
}

/// Logs in as tenants do: address, TLS, authentication, a query.
pub async fn visit(dsn: &Dsn) -> Result<Visit, SqlError> {
    let session = match Session::connect(dsn, None, "freehold health", &[]).await {
        Ok(session) => session,
        // PostgreSQL asks for the password first, and for the database's permission then.
        Err(error) if error.kind == SqlErrorKind::Privilege => {
            return Ok(Visit { in_recovery: None, system_identifier: String::new() });
        }
        Err(error) => return Err(error),
    };
    let one = async |sql: &str| -> Result<String, SqlError> {
        let rows = session.simple_query(sql).await?;
        Ok(rows.first().and_then(|row| row.get(0)).unwrap_or_default().to_owned())
    };
    let in_recovery = one("select pg_catalog.pg_is_in_recovery()").await? == "t";
    let allowed = one("select pg_catalog.has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE')").await?;
    let system_identifier = match allowed.as_str() {
        "t" => one("select system_identifier from pg_catalog.pg_control_system()").await?,
        _ => String::new(),
    };
    session.close().await;
    Ok(Visit { in_recovery: Some(in_recovery), system_identifier })
}

/// Known by a visit that was refused at the database.
pub fn not_admitted(role: &str, database: &str) -> Finding {
    let message = format!(
        "health logs in as {role} and gets no further than the password: the owner of database {database} has to run \
         GRANT CONNECT ON DATABASE {} TO {}",
        ident(database),
        ident(role)
    );
    Finding::new("visitor_not_admitted", Severity::Low, message)
}
