//! Puts back what a tenant may change about its own login: verifier, `role`, defaults, and ownership of what it
//! made after `SET ROLE NONE`. Absent: finding out whether it is needed, which is the truth loop's.

use tokio_postgres::types::Type;

use super::admin::Admin;
use super::error::{SqlError, SqlErrorKind};
use super::facts::Finding;
use super::quote::{ident, idents, literal, owned};
use super::roles::{Limits, Roles};

impl Admin {
    /// Everything about `roles.login` as on the first day, in one transaction: a session that starts meanwhile sees
    /// the old state or the new one. With `can_login` false it stays refused (suspended, retired).
    pub async fn restore_login(
        &self,
        roles: &Roles,
        verifier: &str,
        limits: &Limits,
        can_login: bool,
    ) -> Result<Vec<Finding>, SqlError> {
        let login = ident(&roles.login);
        let mut sql = self.stray_memberships(&roles.login, &meant(roles)).await?;
        sql.push(format!("GRANT {} TO {login}", ident(&roles.owner)));
        for database in self.databases_with_settings_of(&roles.login).await? {
            sql.push(format!("ALTER ROLE {login} IN DATABASE {} RESET ALL", ident(&database)));
        }
        sql.push(format!("ALTER ROLE {login} RESET ALL"));
        let (settings, findings) = self.login_statements(&roles.login, &roles.owner, limits).await?;
        sql.extend(settings);
        let admitted = if can_login { "LOGIN" } else { "NOLOGIN" };
        sql.push(format!("ALTER ROLE {login} INHERIT {admitted} PASSWORD {}", literal(verifier)));
        self.run_all(format!("restore login {}", roles.login), &sql).await?;
        Ok(findings)
    }

    /// In the database it is connected to: what the login owns becomes the owner's. May run while the tenant works.
    pub async fn reassign_from_login(&self, login: &str, owner: &str) -> Result<(), SqlError> {
        let sql = format!("REASSIGN OWNED BY {} TO {}", ident(login), ident(owner));
        self.run(format!("reassign what {login} owns in {}", self.database()), &sql).await
    }

    /// Before a retired login is dropped: reassigns, and removes grants and default privileges that name it. Refuses
    /// a login that may still come in, because DROP OWNED would drop what that one creates in the same instant.
    pub async fn disown_login(&self, login: &str, owner: &str) -> Result<(), SqlError> {
        let doing = format!("detach {login} from {}", self.database());
        let live = "select 1 from pg_roles r where r.rolname = $1 and (r.rolcanlogin or exists \
                    (select from pg_stat_activity a where a.usesysid = r.oid))";
        if self.exists(&doing, live, &[(&login, Type::TEXT)]).await? {
            return Err(SqlError::new(doing, SqlErrorKind::InUse, "the login is still admitted: refuse it first"));
        }
        if !self.role_exists(login).await? {
            return Ok(());
        }
        let reassign = format!("REASSIGN OWNED BY {} TO {}", ident(login), ident(owner));
        self.run_all(doing, &[reassign, format!("DROP OWNED BY {}", ident(login))]).await
    }

    async fn databases_with_settings_of(&self, role: &str) -> Result<Vec<String>, SqlError> {
        let sql = "select d.datname::text from pg_db_role_setting s join pg_roles r on r.oid = s.setrole \
                   join pg_database d on d.oid = s.setdatabase where r.rolname = $1";
        let rows = self.rows(format!("read settings of {role}"), sql, &[(&role, Type::TEXT)]).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// Takes a role out of every other it is a member of: on 15 a neighbour may grant its own login to any role.
    pub async fn revoke_memberships(&self, role: &str) -> Result<(), SqlError> {
        let sql = self.stray_memberships(role, &[]).await?;
        self.run_all(format!("revoke memberships of {role}"), &sql).await
    }

    /// What no role of a tenant ever has. A weak admin may take back only what it may give.
    pub async fn strip_attributes(&self, role: &str) -> Result<(), SqlError> {
        let attributes = match self.superuser {
            true => "NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS",
            false => "NOCREATEDB NOCREATEROLE",
        };
        self.run(format!("take attributes from {role}"), &format!("ALTER ROLE {} {attributes}", ident(role))).await
    }

    /// These may not connect to a database any more, and who got in as one of them is thrown out.
    pub async fn revoke_connect(&self, database: &str, roles: &[&str]) -> Result<(), SqlError> {
        let doing = || format!("revoke CONNECT on {database} from {}", roles.join(", "));
        self.run(
            doing(),
            &format!("REVOKE ALL ON DATABASE {} FROM {}", ident(database), idents(roles.iter().copied())),
        )
        .await?;
        let sql = "select pg_terminate_backend(a.pid) from pg_stat_activity a join pg_roles r on r.rolname = any($2) \
                   where a.datname = $1 and a.usename <> current_user and pg_has_role(a.usesysid, r.oid, 'MEMBER') \
                   and not (select rolsuper from pg_roles u where u.oid = a.usesysid)";
        self.rows(doing(), sql, &[(&database, Type::TEXT), (&owned(roles), Type::TEXT_ARRAY)]).await.map(drop)
    }

    /// Whoever may connect gets in, as many as want to.
    pub async fn restore_admission(&self, database: &str) -> Result<(), SqlError> {
        let sql = format!("ALTER DATABASE {} ALLOW_CONNECTIONS true CONNECTION LIMIT -1", ident(database));
        self.run(format!("admit sessions to {database}"), &sql).await
    }

    /// Roles that a role is a member of without being meant to. On 16+ a grant is revoked as its grantor.
    async fn stray_memberships(&self, role: &str, meant: &[&str]) -> Result<Vec<String>, SqlError> {
        let sql = "select g.rolname::text, by.rolname::text from pg_auth_members m join pg_roles g on g.oid = m.roleid \
                   join pg_roles r on r.oid = m.member left join pg_roles by on by.oid = m.grantor \
                   where r.rolname = $1 and g.rolname <> all($2)";
        let rows = self
            .rows(format!("read memberships of {role}"), sql, &[(&role, Type::TEXT), (&owned(meant), Type::TEXT_ARRAY)])
            .await?;
        Ok(rows
            .iter()
            .map(|row| {
                let granted_by = match row.get::<_, Option<String>>(1) {
                    Some(by) if self.version_num() >= 160_000 => format!(" GRANTED BY {}", ident(&by)),
                    _ => String::new(),
                };
                format!("REVOKE {} FROM {}{granted_by}", ident(row.get(0)), ident(role))
            })
            .collect())
    }
}

fn meant(roles: &Roles) -> Vec<&str> {
    roles.extra.iter().map(|extra| extra.name.as_str()).chain([roles.owner.as_str()]).collect()
}
