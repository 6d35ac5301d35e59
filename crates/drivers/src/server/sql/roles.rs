//! The three roles of a tenant: *owner* (NOLOGIN, owns everything), *login* (handed out; becomes the owner at
//! connect) and *maintenance* (never handed out; what Freehold itself uses on the tenant's objects).
//!
//! Only verifiers travel, so a server that logs every statement learns no password.

use tokio_postgres::types::Type;

use super::admin::Admin;
use super::error::SqlError;
use super::facts::{Finding, Severity};
use super::quote::{ident, idents, literal, owned};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roles {
    pub owner: String,
    pub login: String,
    pub maintenance: String,
    pub extra: Vec<ExtraRole>,
}

/// A NOLOGIN role that a template asks for, granted to the login: `SET ROLE reporting`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtraRole {
    pub name: String,
    pub write: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// -1 is unlimited.
    pub connection_limit: i32,
    pub statement_timeout_ms: u32,
    pub idle_in_transaction_timeout_ms: u32,
    pub work_mem_kb: Option<u32>,
    pub temp_file_limit_kb: Option<u32>,
}

impl Limits {
    /// For roles that only Freehold uses.
    pub fn unlimited() -> Self {
        Self { connection_limit: -1, ..Self::default() }
    }
}

impl Roles {
    pub fn names(&self) -> Vec<&str> {
        let fixed = [self.owner.as_str(), &self.login, &self.maintenance];
        fixed.into_iter().chain(self.extra.iter().map(|extra| extra.name.as_str())).collect()
    }
}

impl Admin {
    /// Makes the roles and everything about them so. Findings tell what this admin is not allowed to set.
    pub async fn ensure_roles(
        &self,
        roles: &Roles,
        login_verifier: &str,
        maintenance_verifier: &str,
        limits: &Limits,
    ) -> Result<Vec<Finding>, SqlError> {
        let doing = format!("ensure roles of {}", roles.owner);
        let missing = self.missing_roles(&roles.names()).await?;
        let mut sql = Vec::new();
        for name in &missing {
            sql.push(format!("CREATE ROLE {} NOLOGIN INHERIT", ident(name)));
        }
        sql.extend(self.membership(&roles.names(), &missing).await?);
        sql.push(format!("GRANT {} TO {}, {}", ident(&roles.owner), ident(&roles.login), ident(&roles.maintenance)));
        for extra in &roles.extra {
            sql.push(format!("GRANT {} TO {}", ident(&extra.name), ident(&roles.login)));
        }
        let (login, findings) = self.login_statements(&roles.login, &roles.owner, limits).await?;
        sql.extend(login);
        sql.push(format!("ALTER ROLE {} LOGIN PASSWORD {}", ident(&roles.login), literal(login_verifier)));
        sql.push(format!("ALTER ROLE {} LOGIN PASSWORD {}", ident(&roles.maintenance), literal(maintenance_verifier)));
        sql.push(format!("ALTER ROLE {} {}", ident(&roles.maintenance), Self::set_clause("role", &roles.owner)));
        self.run_all(doing, &sql).await?;
        Ok(findings)
    }

    /// Drops what exists of `names`. What the roles still own in other databases stops it: drop those first.
    pub async fn drop_roles(&self, names: &[&str]) -> Result<(), SqlError> {
        let doing = || format!("drop roles {}", names.join(", "));
        let existing = self.existing_roles(names).await?;
        if existing.is_empty() {
            return Ok(());
        }
        let list = idents(existing.iter().map(String::as_str));
        let drop = format!("DROP ROLE IF EXISTS {list}");
        // Whoever has an open transaction that grants to them holds them; nobody has a reason to.
        let held = "select pg_terminate_backend(l.pid) from pg_locks l join pg_roles r on r.oid = l.objid \
                    join pg_stat_activity a on a.pid = l.pid join pg_roles who on who.oid = a.usesysid \
                    where l.locktype = 'object' and l.classid = 'pg_authid'::regclass and l.granted and r.rolname = any($1) \
                    and who.rolname <> current_user and not who.rolsuper \
                    and (pg_has_role(who.oid, 'USAGE') or pg_has_role('pg_signal_backend', 'USAGE'))";
        self.rows(doing(), held, &[(&existing, Type::TEXT_ARRAY)]).await?;
        match self.run(doing(), &drop).await {
            // Grants in the admin's own database and on shared objects; what is elsewhere, `forget_roles` took.
            Err(error) if error.kind == super::SqlErrorKind::DependedOn => {
                let names: Vec<&str> = existing.iter().map(String::as_str).collect();
                let disown = self.as_member(&names, vec![format!("DROP OWNED BY {list}")]).await?;
                self.run_all(doing(), &disown).await?;
                self.run(doing(), &drop).await
            }
            other => other,
        }
    }

    /// Databases that hold something of these roles, or grant them something. Whoever can read a role's name may grant
    /// to it, and one grant keeps the role from being dropped.
    pub async fn databases_naming(&self, names: &[&str]) -> Result<Vec<String>, SqlError> {
        let sql = "select d.datname::text from pg_shdepend s join pg_roles r on r.oid = s.refobjid join pg_database d on d.oid = s.dbid \
                   where s.refclassid = 'pg_authid'::regclass and r.rolname = any($1) and d.datallowconn and d.datconnlimit <> -2 group by 1";
        let rows = self.rows("look where roles are named", sql, &[(&owned(names), Type::TEXT_ARRAY)]).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// In the database it is connected to, which is not these roles' own: what they have there becomes `heir`'s (without
    /// one it goes), and every grant to them is taken back. A tenant that holds on to such a grant loses its sessions.
    pub async fn forget_roles(&self, names: &[&str], heir: Option<&str>) -> Result<(), SqlError> {
        let doing = || format!("forget {} in {}", names.join(", "), self.database());
        let existing = self.existing_roles(names).await?;
        if existing.is_empty() {
            return Ok(());
        }
        let list = idents(existing.iter().map(String::as_str));
        let mut forget: Vec<String> = Vec::new();
        forget.extend(heir.map(|heir| format!("REASSIGN OWNED BY {list} TO {}", ident(heir))));
        forget.push(format!("DROP OWNED BY {list}"));
        let concerned: Vec<&str> = existing.iter().map(String::as_str).chain(heir).collect();
        let mut sql = vec!["SET LOCAL lock_timeout = '500ms'".to_owned()];
        sql.extend(self.as_member(&concerned, forget).await?);
        let mut turns = 5;
        loop {
            match self.run_all(doing(), &sql).await {
                Err(error) if error.kind == super::SqlErrorKind::Contention && heir.is_some() && turns > 0 => {
                    turns -= 1;
                    self.terminate_in(self.database()).await?;
                }
                other => return other,
            }
        }
    }

    pub async fn role_exists(&self, name: &str) -> Result<bool, SqlError> {
        Ok(!self.existing_roles(&[name]).await?.is_empty())
    }

    pub(super) async fn existing_roles(&self, names: &[&str]) -> Result<Vec<String>, SqlError> {
        let sql = "select rolname::text from pg_roles where rolname = any($1)";
        let rows = self.rows("look for roles", sql, &[(&owned(names), Type::TEXT_ARRAY)]).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    pub(super) async fn missing_roles(&self, names: &[&str]) -> Result<Vec<String>, SqlError> {
        let existing = self.existing_roles(names).await?;
        Ok(names
            .iter()
            .filter(|name| !existing.iter().any(|there| there == *name))
            .map(|name| (*name).to_owned())
            .collect())
    }

    /// Whether `temp_file_limit` may be set: superusers, and since 15 whoever was granted SET on it.
    pub(super) async fn may_set_temp_file_limit(&self) -> Result<bool, SqlError> {
        if self.superuser {
            return Ok(true);
        }
        let sql = "select has_parameter_privilege('temp_file_limit', 'SET')";
        Ok(self.row("read the admin's privileges", sql, &[]).await?.get(0))
    }
}

pub(super) fn no_temp_file_limit(login: &str) -> Finding {
    Finding::new(
        "temp_file_limit_not_set",
        Severity::Low,
        format!(
            "{login} has no temp_file_limit: a superuser has to GRANT SET ON PARAMETER temp_file_limit to the admin"
        ),
    )
}
