//! What a plan says about a login. CONNECTION LIMIT and temp_file_limit are limits; the rest are defaults that the
//! tenant's own sessions may change.

use super::admin::Admin;
use super::error::SqlError;
use super::facts::Finding;
use super::quote::ident;
use super::roles::{Limits, no_temp_file_limit};

impl Admin {
    pub async fn apply_limits(&self, login: &str, limits: &Limits) -> Result<Vec<Finding>, SqlError> {
        let (sql, findings) = self.limit_statements(login, limits).await?;
        self.run_all(format!("apply limits to {login}"), &sql).await?;
        Ok(findings)
    }

    pub(super) async fn login_statements(
        &self,
        login: &str,
        owner: &str,
        limits: &Limits,
    ) -> Result<(Vec<String>, Vec<Finding>), SqlError> {
        let (mut sql, findings) = self.limit_statements(login, limits).await?;
        sql.push(format!("ALTER ROLE {} {}", ident(login), Self::set_clause("role", owner)));
        Ok((sql, findings))
    }

    async fn limit_statements(&self, login: &str, limits: &Limits) -> Result<(Vec<String>, Vec<Finding>), SqlError> {
        let role = ident(login);
        let mut findings = Vec::new();
        let mut sql = vec![format!("ALTER ROLE {role} CONNECTION LIMIT {}", limits.connection_limit)];
        let mut set = |name: &str, value: Option<String>| {
            sql.push(match value {
                Some(value) => format!("ALTER ROLE {role} {}", Self::set_clause(name, &value)),
                None => format!("ALTER ROLE {role} RESET {name}"),
            });
        };
        set("statement_timeout", Some(limits.statement_timeout_ms.to_string()));
        set("idle_in_transaction_session_timeout", Some(limits.idle_in_transaction_timeout_ms.to_string()));
        set("work_mem", limits.work_mem_kb.map(|kb| format!("{kb}kB")));
        if self.may_set_temp_file_limit().await? {
            set("temp_file_limit", limits.temp_file_limit_kb.map(|kb| format!("{kb}kB")));
        } else if limits.temp_file_limit_kb.is_some() {
            findings.push(no_temp_file_limit(login));
        }
        Ok((sql, findings))
    }
}
