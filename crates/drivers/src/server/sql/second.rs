//! A login beside the one that a tenant has: the same rights and the same limits under another name, for a rotation.
//! Absent: the way back, which `disown_login` and `drop_roles` are.

use super::admin::Admin;
use super::error::SqlError;
use super::facts::Finding;
use super::quote::{ident, literal};
use super::roles::{Limits, Roles};

impl Admin {
    /// In one transaction: nobody comes in by half of it. With `can_login` false it is refused from the beginning.
    pub async fn ensure_second_login(
        &self,
        roles: &Roles,
        verifier: &str,
        limits: &Limits,
        can_login: bool,
    ) -> Result<Vec<Finding>, SqlError> {
        let login = ident(&roles.login);
        let missing = self.missing_roles(&[&roles.login]).await?;
        let mut sql: Vec<String> = missing.iter().map(|_| format!("CREATE ROLE {login} NOLOGIN INHERIT")).collect();
        sql.extend(self.membership(&[&roles.login], &missing).await?);
        sql.push(format!("GRANT {} TO {login}", ident(&roles.owner)));
        sql.extend(roles.extra.iter().map(|extra| format!("GRANT {} TO {login}", ident(&extra.name))));
        let (settings, findings) = self.login_statements(&roles.login, &roles.owner, limits).await?;
        sql.extend(settings);
        let admitted = if can_login { "LOGIN" } else { "NOLOGIN" };
        sql.push(format!("ALTER ROLE {login} {admitted} PASSWORD {}", literal(verifier)));
        self.run_all(format!("add login {} of {}", roles.login, roles.owner), &sql).await?;
        Ok(findings)
    }

    /// Another password, from one moment to the next.
    pub async fn set_verifier(&self, login: &str, verifier: &str) -> Result<(), SqlError> {
        let sql = format!("ALTER ROLE {} PASSWORD {}", ident(login), literal(verifier));
        self.run(format!("change the password of {login}"), &sql).await
    }
}
