//! Makes a database the tenant's: who may connect, who owns `public`, what extra roles may do, and the admin's own
//! schema `freehold`. Runs on a connection *in* that database, while nobody has claimed it.

use tokio_postgres::types::Type;

use super::admin::Admin;
use super::error::SqlError;
use super::facts::{Finding, Severity};
use super::quote::{ident, literal};
use super::roles::{ExtraRole, Roles};

#[derive(Debug, Clone, Default)]
pub struct OwnDatabase<'a> {
    /// Whose objects become the owner's: the role that built the template. Only while unclaimed: a tenant could
    /// otherwise give things away that are not its own.
    pub from_role: Option<&'a str>,
    /// `ALTER DATABASE … SET name = value`.
    pub settings: &'a [(&'a str, &'a str)],
    /// For applications that insist. Such a tenant may hand out CONNECT and set database-wide settings.
    pub tenant_owns_database: bool,
}

impl Admin {
    /// Findings tell which settings this admin is not allowed to set.
    pub async fn own_database(&self, roles: &Roles, own: &OwnDatabase<'_>) -> Result<Vec<Finding>, SqlError> {
        let database = ident(self.database());
        let owner = ident(&roles.owner);
        if own.tenant_owns_database {
            // For as long as it is there: nobody else's database lets the admin in.
            self.act_for(&[&roles.owner]).await?;
        }
        let mut sql = Vec::new();
        if let Some(from) = own.from_role.filter(|from| *from != roles.owner) {
            // First the database and the schemas: unless a superuser does the giving, whoever is given a publication
            // or a table must be allowed to create one there, and REASSIGN takes things in no particular order.
            if !self.superuser {
                sql.push(format!("GRANT ALL ON DATABASE {database} TO {owner}"));
                for schema in self.schemas_of(from).await? {
                    sql.push(format!("ALTER SCHEMA {} OWNER TO {owner}", ident(&schema)));
                }
            }
            sql.push(format!("REASSIGN OWNED BY {} TO {owner}", ident(from)));
        }
        // After REASSIGN, which takes the database along if that role owned it.
        let database_owner = if own.tenant_owns_database { &roles.owner } else { &self.user };
        sql.push(format!("ALTER DATABASE {database} OWNER TO {}", ident(database_owner)));
        sql.push(format!("REVOKE ALL ON DATABASE {database} FROM PUBLIC"));
        sql.push(format!("GRANT ALL ON DATABASE {database} TO {owner}"));
        if self.has_schema("public").await? {
            sql.push(format!("ALTER SCHEMA public OWNER TO {owner}"));
            for extra in &roles.extra {
                sql.extend(extra_grants(extra, &owner));
            }
        }
        let denied = self.denied_settings(own.settings).await?;
        for (name, value) in own.settings.iter().filter(|(name, _)| !denied.iter().any(|denied| denied == name)) {
            sql.push(format!("ALTER DATABASE {database} {}", set(name, value)));
        }
        sql.extend(freehold_schema());
        let concerned: Vec<&str> = own.from_role.into_iter().chain([roles.owner.as_str()]).collect();
        let sql = self.as_member(&concerned, sql).await?;
        self.run_all(format!("make {} the database of {}", self.database(), roles.owner), &sql).await?;
        Ok(denied.iter().map(|name| not_settable(self.database(), name)).collect())
    }

    /// Autovacuum finds nothing to do in a database that was just handed to its owner. What it would do there is little;
    /// but a vacuumed catalog makes the next login build what PostgreSQL remembers for logins anew (`pg_internal.init`),
    /// which takes as long as the login itself, and that is the tenant's first. Only a superuser may.
    pub async fn forget_activity(&self) -> Result<(), SqlError> {
        if !self.is_superuser() {
            return Ok(());
        }
        // Two messages: what this session did is counted when the first is over.
        for sql in ["SELECT pg_stat_force_next_flush()", "SELECT pg_stat_reset()"] {
            self.run_all(format!("forget what was done in {}", self.database()), &[sql.to_owned()]).await?;
        }
        Ok(())
    }

    /// Back to the admin, or to the tenant's owner role where the template gives it the database itself.
    pub async fn restore_database_owner(&self, database: &str, owner: &str, tenant_owns: bool) -> Result<(), SqlError> {
        if tenant_owns {
            self.act_for(&[owner]).await?;
        }
        let to = if tenant_owns { owner } else { &self.user };
        let alter = format!("ALTER DATABASE {} OWNER TO {}", ident(database), ident(to));
        let sql = self.as_member(&[owner], vec![alter]).await?;
        self.run_all(format!("restore the owner of {database}"), &sql).await
    }

    /// Who may connect to a database and what its owner role may do there, as it was on the first day.
    pub async fn restore_grants(&self, database: &str, owner: &str) -> Result<(), SqlError> {
        let (name, role) = (ident(database), ident(owner));
        let sql =
            [format!("REVOKE ALL ON DATABASE {name} FROM PUBLIC"), format!("GRANT ALL ON DATABASE {name} TO {role}")];
        self.run_all(format!("restore grants on {database}"), &sql).await
    }

    /// What a weak admin may not store with a database: superuser's settings, and any made-up `app.name`.
    pub(super) async fn denied_settings(&self, settings: &[(&str, &str)]) -> Result<Vec<String>, SqlError> {
        if self.superuser || settings.is_empty() {
            return Ok(Vec::new());
        }
        let names: Vec<String> = settings.iter().map(|(name, _)| (*name).to_owned()).collect();
        let sql = "select n from unnest($1) n where not has_parameter_privilege(n, 'SET') \
                   and not exists (select from pg_settings s where lower(s.name) = lower(n) and s.context = 'user')";
        let rows = self.rows("read the admin's privileges", sql, &[(&names, Type::TEXT_ARRAY)]).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    async fn schemas_of(&self, role: &str) -> Result<Vec<String>, SqlError> {
        let sql = "select nspname::text from pg_namespace where nspowner = to_regrole(quote_ident($1)) order by 1";
        let rows = self.rows("look for a role's schemas", sql, &[(&role, Type::TEXT)]).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }
}

pub(super) fn not_settable(database: &str, setting: &str) -> Finding {
    let message =
        format!("{setting} is not set on {database}: a superuser has to GRANT SET ON PARAMETER {setting} to the admin");
    Finding::new("setting_not_settable", Severity::Medium, message)
}

/// Today's tables and tomorrow's.
fn extra_grants(extra: &ExtraRole, owner: &str) -> Vec<String> {
    let role = ident(&extra.name);
    let (tables, sequences) = match extra.write {
        true => ("SELECT, INSERT, UPDATE, DELETE", "USAGE, SELECT, UPDATE"),
        false => ("SELECT", "SELECT"),
    };
    vec![
        format!("GRANT USAGE ON SCHEMA public TO {role}"),
        format!("GRANT {tables} ON ALL TABLES IN SCHEMA public TO {role}"),
        format!("GRANT {sequences} ON ALL SEQUENCES IN SCHEMA public TO {role}"),
        format!("ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA public GRANT {tables} ON TABLES TO {role}"),
        format!("ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA public GRANT {sequences} ON SEQUENCES TO {role}"),
    ]
}

/// Rule 10. The admin's own; `note.rs` checks that it still is before every use.
pub(super) fn freehold_schema() -> Vec<String> {
    vec![
        "CREATE SCHEMA IF NOT EXISTS freehold".into(),
        "REVOKE ALL ON SCHEMA freehold FROM PUBLIC".into(),
        "CREATE TABLE IF NOT EXISTS freehold.note (id int PRIMARY KEY DEFAULT 1 CHECK (id = 1), \
         written_at timestamptz NOT NULL DEFAULT now(), sealed bytea NOT NULL)"
            .into(),
        "REVOKE ALL ON TABLE freehold.note FROM PUBLIC".into(),
    ]
}

/// Lists are lists of names: one literal `'a, b'` would be one schema with a comma in it.
pub(super) fn set(name: &str, value: &str) -> String {
    const LISTS: [&str; 4] =
        ["search_path", "temp_tablespaces", "session_preload_libraries", "local_preload_libraries"];
    if !LISTS.contains(&name.to_lowercase().as_str()) {
        return Admin::set_clause(name, value);
    }
    let items: Vec<_> = value.split(',').map(|item| literal(item.trim().trim_matches('"'))).collect();
    format!("SET {} = {}", ident(&name.to_lowercase()), items.join(", "))
}

#[cfg(test)]
mod tests {
    use super::set;

    #[test]
    fn setting_lists_stay_lists_and_values_stay_values() {
        assert_eq!(set("search_path", "\"$user\", app"), "SET \"search_path\" = '$user', 'app'");
        assert_eq!(set("app.x", "a'; DROP"), "SET \"app\".\"x\" = 'a''; DROP'");
    }
}
