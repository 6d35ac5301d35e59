//! How an admin without superuser acts on what a tenant's roles own and run.
//!
//! From 16 on it is a member of every role that it creates. Before, it is one within the transaction that needs it and no
//! longer: PostgreSQL 15 works out all that a role is a member of anew whenever anybody changes any role, compares each of
//! it with all others, and a member of 500 tenants' roles waits 12 to 40 ms for that, several times in each build. What no
//! transaction can hold, seeing sessions and ending them, goes by two of PostgreSQL's own roles: whoever may create roles
//! on 15 may give himself those.

use tokio_postgres::types::Type;

use super::admin::Admin;
use super::error::SqlError;
use super::quote::{ident, owned};

const MODERN: i32 = 160_000;
/// To end the sessions of roles that it is no member of, and to see what they are at.
const SESSIONS: [&str; 2] = ["pg_signal_backend", "pg_read_all_stats"];

impl Admin {
    /// Statements that go with the creation of roles: what makes this admin a member where it is one for good. On 16+ a
    /// role it creates now comes with its own grant.
    pub(super) async fn membership(&self, names: &[&str], created_now: &[String]) -> Result<Vec<String>, SqlError> {
        if self.superuser || !self.is_modern() && self.deals_with_sessions().await? {
            return Ok(Vec::new());
        }
        let sql = "select rolname::text from pg_roles where rolname = any($1) and not pg_has_role(oid, 'USAGE')";
        let mut wanted: Vec<String> = self
            .rows("read the admin's memberships", sql, &[(&owned(names), Type::TEXT_ARRAY)])
            .await?
            .iter()
            .map(|row| row.get(0))
            .collect();
        if !self.is_modern() {
            wanted.extend_from_slice(created_now);
        }
        Ok(wanted.iter().map(|name| self.joining(name)).collect())
    }

    /// The same statements, done as a member of these roles as far as they are there.
    pub(super) async fn as_member(&self, names: &[&str], statements: Vec<String>) -> Result<Vec<String>, SqlError> {
        if self.superuser || self.is_modern() || statements.is_empty() {
            return Ok(statements);
        }
        let sql = "select rolname::text from pg_roles r where rolname = any($1) and not rolsuper and rolname <> current_user \
                   and not exists (select from pg_auth_members m join pg_roles me on me.oid = m.member \
                                   where m.roleid = r.oid and me.rolname = current_user)";
        let rows = self.rows("read the admin's memberships", sql, &[(&owned(names), Type::TEXT_ARRAY)]).await?;
        let lent: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        let mut sql: Vec<String> = lent.iter().map(|name| self.joining(name)).collect();
        sql.extend(statements);
        sql.extend(lent.iter().map(|name| self.leaving(name)));
        Ok(sql)
    }

    /// For what takes more than one transaction: the former owners of a database that is taken over, a tenant that moves.
    pub async fn join(&self, roles: &[impl AsRef<str>]) -> Result<(), SqlError> {
        let roles: Vec<&str> = roles.iter().map(AsRef::as_ref).collect();
        let there = self.existing_roles(&roles).await?;
        let sql: Vec<String> = there.iter().map(|role| self.joining(role)).collect();
        self.run_all(format!("become a member of {}", roles.join(", ")), &sql).await
    }

    /// And no longer.
    pub async fn leave(&self, roles: &[impl AsRef<str>]) -> Result<(), SqlError> {
        let roles: Vec<&str> = roles.iter().map(AsRef::as_ref).collect();
        let there = self.existing_roles(&roles).await?;
        let sql: Vec<String> = there.iter().map(|role| self.leaving(role)).collect();
        self.run_all(format!("leave {}", roles.join(", ")), &sql).await
    }

    /// Of a tenant's own roles: what [`Admin::join`] does where this admin is no member of them anyway.
    pub async fn act_for(&self, roles: &[&str]) -> Result<(), SqlError> {
        match self.superuser || self.is_modern() {
            true => Ok(()),
            false => self.join(roles).await,
        }
    }

    /// And no longer.
    pub async fn act_no_more_for(&self, roles: &[&str]) -> Result<(), SqlError> {
        match self.superuser || self.is_modern() {
            true => Ok(()),
            false => self.leave(roles).await,
        }
    }

    fn is_modern(&self) -> bool {
        self.version_num() >= MODERN
    }

    fn joining(&self, role: &str) -> String {
        let options = if self.is_modern() { " WITH INHERIT TRUE, SET TRUE" } else { "" };
        format!("GRANT {} TO {}{options}", ident(role), ident(&self.user))
    }

    fn leaving(&self, role: &str) -> String {
        format!("REVOKE {} FROM {}", ident(role), ident(&self.user))
    }

    /// Gives itself what it lacks for that. False where a service keeps an admin from it.
    async fn deals_with_sessions(&self) -> Result<bool, SqlError> {
        let missing = self.missing_of_sessions().await?;
        let sql: Vec<String> = missing.iter().map(|role| self.joining(role)).collect();
        match self.run_all("be allowed to see and end sessions", &sql).await {
            Ok(()) => Ok(true),
            Err(error) if error.is_transient() => Err(error),
            // Refused, or somebody was a moment quicker.
            Err(_) => Ok(self.missing_of_sessions().await?.is_empty()),
        }
    }

    async fn missing_of_sessions(&self) -> Result<Vec<String>, SqlError> {
        let sql = "select r from unnest($1) r where not pg_has_role(r, 'USAGE')";
        let rows = self.rows("read the admin's privileges", sql, &[(&owned(&SESSIONS), Type::TEXT_ARRAY)]).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }
}
