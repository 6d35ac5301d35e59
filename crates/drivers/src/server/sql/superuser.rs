//! The admin of a server that Freehold runs itself.

use tokio_postgres::types::Type;

use super::admin::Admin;
use super::error::SqlError;
use super::quote::{ident, literal};

impl Admin {
    /// A superuser with this name and this SCRAM verifier is there afterwards.
    pub async fn ensure_superuser(&self, role: &str, verifier: &str) -> Result<(), SqlError> {
        let doing = || format!("make {role} a superuser");
        let sql =
            "select rolsuper and rolcanlogin and rolpassword is not distinct from $2 from pg_authid where rolname = $1";
        let rows = self.rows(doing(), sql, &[(&role, Type::TEXT), (&verifier, Type::TEXT)]).await?;
        let verb = match rows.first().map(|row| row.get::<_, Option<bool>>(0).unwrap_or(false)) {
            Some(true) => return Ok(()),
            Some(false) => "ALTER",
            None => "CREATE",
        };
        self.run(doing(), &format!("{verb} ROLE {} SUPERUSER LOGIN PASSWORD {}", ident(role), literal(verifier))).await
    }
}
