//! Makes the target ready for a tenant that nobody there may log in as yet: its roles as they are at the source, its
//! database with the same locale, settings, limits and grants, its extensions.
//!
//! The way back is `drop_database` and `drop_roles`.

use serde::{Deserialize, Serialize};
use tokio_postgres::types::Type;

use super::side::Side;
use crate::pooler::Verifier;
use crate::server::sql::admin::Admin;
use crate::server::sql::database::Ensured;
use crate::server::sql::error::{SqlError, SqlErrorKind};
use crate::server::sql::facts::Finding;
use crate::server::sql::own::{OwnDatabase, not_settable, set};
use crate::server::sql::quote::{ident, literal};
use crate::server::sql::roles::Roles;

/// Whose database it is. The same names on both servers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tenant {
    pub database: String,
    pub owner: String,
    pub maintenance: Login,
    /// Handed out: kept out of the target until the flip, and of the source from the fence on.
    pub logins: Vec<Login>,
    /// NOLOGIN roles that are granted to the logins.
    pub extra: Vec<String>,
}

/// With the identical verifier on both servers: poolers and clients notice nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    pub name: String,
    pub verifier: Verifier,
}

impl Tenant {
    pub fn login_names(&self) -> Vec<&str> {
        self.logins.iter().map(|login| login.name.as_str()).collect()
    }

    pub fn role_names(&self) -> Vec<&str> {
        let fixed = [self.owner.as_str(), &self.maintenance.name];
        fixed.into_iter().chain(self.login_names()).chain(self.extra.iter().map(String::as_str)).collect()
    }
}

/// `database` empty: in every database.
const SETTINGS: &str = "select coalesce(r.rolname::text, ''), coalesce(d.datname::text, ''), split_part(c, '=', 1), substr(c, strpos(c, '=') + 1) \
    from pg_db_role_setting s left join pg_roles r on r.oid = s.setrole left join pg_database d on d.oid = s.setdatabase, \
    lateral unnest(s.setconfig) c where r.rolname = any($1) and (s.setdatabase = 0 or d.datname = $2) or s.setrole = 0 and d.datname = $2";

impl Admin {
    /// On this, the target's server: the roles are there, logins NOLOGIN, limits, settings and memberships as on `source`.
    /// Never again after the flip, when they are let in.
    pub async fn prepare_roles(&self, source: &Admin, tenant: &Tenant) -> Result<Vec<Finding>, SqlError> {
        let doing = format!("prepare the roles of {}", tenant.owner);
        let names: Vec<String> = tenant.role_names().iter().map(|name| (*name).to_owned()).collect();
        let sql =
            "select rolname::text, rolconnlimit, rolinherit, rolvaliduntil::text from pg_roles where rolname = any($1)";
        let found = source.rows(&doing, sql, &[(&names, Type::TEXT_ARRAY)]).await?;
        let seen: Vec<String> = found.iter().map(|row| row.get(0)).collect();
        if let Some(missing) = names.iter().find(|name| !seen.contains(name)) {
            return Err(SqlError::new(doing, SqlErrorKind::Missing, format!("the source has no role {missing}")));
        }
        let there = self.existing_roles(&tenant.role_names()).await?;
        let missing: Vec<String> = names.iter().filter(|name| !there.contains(name)).cloned().collect();
        let mut sql: Vec<String> = missing.iter().map(|name| format!("CREATE ROLE {} NOLOGIN", ident(name))).collect();
        sql.extend(self.membership(&tenant.role_names(), &missing).await?);
        for row in &found {
            let (name, limit, inherits, until): (String, i32, bool, Option<String>) =
                (row.get(0), row.get(1), row.get(2), row.get(3));
            let inherit = if inherits { "INHERIT" } else { "NOINHERIT" };
            let until = literal(until.as_deref().unwrap_or("infinity"));
            sql.push(format!(
                "ALTER ROLE {} NOLOGIN {inherit} CONNECTION LIMIT {limit} VALID UNTIL {until}",
                ident(&name)
            ));
        }
        for login in tenant.logins.iter().chain([&tenant.maintenance]) {
            sql.push(format!("ALTER ROLE {} PASSWORD {}", ident(&login.name), literal(login.verifier.as_str())));
        }
        sql.push(format!("ALTER ROLE {} LOGIN", ident(&tenant.maintenance.name)));
        sql.extend(memberships(source, &doing, &names).await?);
        let (settings, findings) = self.role_settings(source, tenant, "").await?;
        sql.extend(settings);
        self.run_all(doing, &sql).await?;
        Ok(findings)
    }

    /// Empty, with the source's encoding and locale.
    pub async fn prepare_database(&self, source: &Admin, tenant: &Tenant) -> Result<Ensured, SqlError> {
        self.create_like(source, &tenant.database, &tenant.database).await
    }

    /// Empty, with the encoding and locale that `source` has of its database `like`.
    pub async fn create_like(&self, source: &Admin, like: &str, name: &str) -> Result<Ensured, SqlError> {
        let doing = format!("create database {name}");
        if self.database_exists(name).await? {
            return Ok(Ensured::Existed);
        }
        // Columns come and go with versions: a row as JSON has those that there are.
        let sql = "select pg_encoding_to_char(encoding), datcollate::text, datctype::text, to_jsonb(d)->>'datlocprovider', \
                   coalesce(to_jsonb(d)->>'datlocale', to_jsonb(d)->>'daticulocale'), to_jsonb(d)->>'daticurules' \
                   from pg_database d where datname = $1";
        let rows = source.rows(&doing, sql, &[(&like, Type::TEXT)]).await?;
        let Some(row) = rows.first() else {
            return Err(SqlError::new(doing, SqlErrorKind::Missing, "the source has no such database"));
        };
        let text = |at: usize| row.get::<_, Option<String>>(at);
        let quoted = |at: usize| literal(&text(at).unwrap_or_default());
        let mut sql = format!(
            "CREATE DATABASE {} STRATEGY WAL_LOG TEMPLATE template0 ENCODING {} LC_COLLATE {} LC_CTYPE {}",
            ident(name),
            quoted(0),
            quoted(1),
            quoted(2)
        );
        match text(3).as_deref() {
            Some("i") => {
                sql.push_str(&format!(" LOCALE_PROVIDER icu ICU_LOCALE {}", quoted(4)));
                if text(5).is_some() {
                    sql.push_str(&format!(" ICU_RULES {}", quoted(5)));
                }
            }
            Some("b") => sql.push_str(&format!(" LOCALE_PROVIDER builtin BUILTIN_LOCALE {}", quoted(4))),
            _ => sql.push_str(" LOCALE_PROVIDER libc"),
        }
        self.run(doing, &sql).await?;
        Ok(Ensured::Created)
    }

    /// In a new database: no schema `public` where there is none at the source.
    pub async fn follow_public(&self, source: &Admin) -> Result<(), SqlError> {
        match source.has_schema("public").await? {
            true => Ok(()),
            false => self.drop_public().await,
        }
    }

    async fn drop_public(&self) -> Result<(), SqlError> {
        let doing = "drop schema public";
        let sql = "select r.rolname::text from pg_namespace n join pg_roles r on r.oid = n.nspowner where n.nspname = 'public'";
        let Some(row) = self.rows(doing, sql, &[]).await?.pop() else { return Ok(()) };
        let drop = vec!["DROP SCHEMA IF EXISTS public".to_owned()];
        self.run_all(doing, &self.as_member(&[row.get(0)], drop).await?).await
    }

    /// In the target's new database: owner, grants, settings and limits as at the source.
    pub async fn prepare_grants(&self, source: &Admin, tenant: &Tenant) -> Result<Vec<Finding>, SqlError> {
        let doing = format!("prepare database {}", tenant.database);
        let sql = "select r.rolname::text, d.datconnlimit from pg_database d join pg_roles r on r.oid = d.datdba where datname = $1";
        let row = source.row(&doing, sql, &[(&tenant.database, Type::TEXT)]).await?;
        let owns = row.get::<_, String>(0) == tenant.owner;
        let roles = Roles {
            owner: tenant.owner.clone(),
            login: String::new(),
            maintenance: tenant.maintenance.name.clone(),
            extra: Vec::new(),
        };
        let own = OwnDatabase { from_role: None, settings: &[], tenant_owns_database: owns };
        let mut findings = self.own_database(&roles, &own).await?;
        let name = ident(&tenant.database);
        let mut sql = vec![format!("ALTER DATABASE {name} CONNECTION LIMIT {}", row.get::<_, i32>(1))];
        let grants = "select coalesce(g.rolname::text, ''), a.privilege_type, a.is_grantable from pg_database d, \
                      lateral aclexplode(d.datacl) a left join pg_roles g on g.oid = a.grantee \
                      where d.datname = $1 and a.grantee <> d.datdba and (a.grantee = 0 or g.rolname = any($2)) order by 1, 2";
        let names: Vec<String> = tenant.role_names().iter().map(|name| (*name).to_owned()).collect();
        let params = [(&tenant.database as _, Type::TEXT), (&names as _, Type::TEXT_ARRAY)];
        for row in source.rows(&doing, grants, &params).await? {
            let (grantee, privilege, grantable): (String, String, bool) = (row.get(0), row.get(1), row.get(2));
            let to = if grantee.is_empty() { "PUBLIC".to_owned() } else { ident(&grantee) };
            let option = if grantable { " WITH GRANT OPTION" } else { "" };
            sql.push(format!("GRANT {privilege} ON DATABASE {name} TO {to}{option}"));
        }
        let (settings, more) = self.role_settings(source, tenant, &tenant.database).await?;
        sql.extend(settings);
        findings.extend(more);
        self.run_all(doing, &sql).await?;
        self.follow_public(source).await?;
        Ok(findings)
    }

    /// Of one place: every database (`""`), or the tenant's, with and without a role.
    async fn role_settings(
        &self,
        source: &Admin,
        tenant: &Tenant,
        place: &str,
    ) -> Result<(Vec<String>, Vec<Finding>), SqlError> {
        let names: Vec<String> = tenant.role_names().iter().map(|name| (*name).to_owned()).collect();
        let params = [(&names as _, Type::TEXT_ARRAY), (&tenant.database as _, Type::TEXT)];
        let rows = source.rows("read the settings of roles", SETTINGS, &params).await?;
        let rows: Vec<[String; 4]> = rows.iter().map(|row| [row.get(0), row.get(1), row.get(2), row.get(3)]).collect();
        let wanted: Vec<(&str, &str)> =
            rows.iter().map(|[_, _, name, value]| (name.as_str(), value.as_str())).collect();
        let mut denied = self.denied_settings(&wanted).await?;
        // Anybody may be given a role of his own, and no list of settings shows it.
        denied.retain(|name| name != "role");
        denied.sort();
        denied.dedup();
        let mut sql = Vec::new();
        for [role, database, name, value] in
            rows.iter().filter(|[_, database, name, _]| database == place && !denied.contains(name))
        {
            let whose = match (role.as_str(), database.as_str()) {
                ("", database) => format!("ALTER DATABASE {}", ident(database)),
                (role, "") => format!("ALTER ROLE {}", ident(role)),
                (role, database) => format!("ALTER ROLE {} IN DATABASE {}", ident(role), ident(database)),
            };
            sql.push(format!("{whose} {}", set(name, value)));
        }
        Ok((sql, denied.iter().map(|name| not_settable(&tenant.database, name)).collect()))
    }
}

impl Side {
    /// The source's extensions, in the same version where the target has it. One that the tenant made itself is made by it
    /// again; all others by the admin, before anything of the tenant's is there. Answers those of another version: `hstore
    /// 1.8`, of which the target has its own default one.
    pub async fn prepare_extensions(&self, source: &Side) -> Result<Vec<String>, SqlError> {
        self.make_extensions(source, None).await
    }

    /// The same of a source that is not to be trusted: what any tenant may make is made by this one, of all else what was
    /// granted to it, and nothing because the source says so.
    pub async fn prepare_granted_extensions(&self, source: &Side, granted: &[String]) -> Result<Vec<String>, SqlError> {
        self.make_extensions(source, Some(granted)).await
    }

    async fn make_extensions(&self, source: &Side, granted: Option<&[String]>) -> Result<Vec<String>, SqlError> {
        let mut differing = Vec::new();
        let sql = "select e.extname::text, e.extversion, n.nspname::text, r.rolname::text, o.rolname::text from pg_extension e \
                   join pg_namespace n on n.oid = e.extnamespace join pg_roles r on r.oid = e.extowner \
                   join pg_roles o on o.oid = n.nspowner where e.extname <> 'plpgsql' order by e.oid";
        for row in source.admin.rows("list the source's extensions", sql, &[]).await? {
            let [name, version, schema, owner, schema_owner]: [String; 5] =
                [row.get(0), row.get(1), row.get(2), row.get(3), row.get(4)];
            let doing = format!("create extension {name} in {}", self.database());
            let versions = "select version, schema is not null, trusted or not superuser from pg_available_extension_versions where name = $1";
            let offered = self.admin.rows(&doing, versions, &[(&name, Type::TEXT)]).await?;
            if offered.is_empty() {
                let message = format!("the target does not have {name} {version}: install it there first");
                return Err(SqlError::new(doing, SqlErrorKind::NotSupported, message));
            }
            let by_tenant = match granted {
                None => owner == self.owner,
                Some(_) => offered.iter().all(|row| row.get(2)),
            };
            if granted.is_some_and(|granted| !by_tenant && !granted.contains(&name)) {
                let message = format!("{name} takes a superuser, and neither the plan nor the template has it");
                return Err(SqlError::new(doing, SqlErrorKind::NotSupported, message));
            }
            let same = offered.iter().any(|row| row.get::<_, String>(0) == version);
            let mut sql = Vec::new();
            let mut create = format!("CREATE EXTENSION IF NOT EXISTS {}", ident(&name));
            if !offered.iter().any(|row| row.get::<_, bool>(1)) {
                if !self.admin.has_schema(&schema).await? {
                    let of_tenant = granted.is_some() || schema_owner == self.owner;
                    let whose = if of_tenant { &self.owner } else { self.admin.user() };
                    sql.push(format!("CREATE SCHEMA IF NOT EXISTS {} AUTHORIZATION {}", ident(&schema), ident(whose)));
                }
                create.push_str(&format!(" SCHEMA {}", ident(&schema)));
            }
            if same {
                create.push_str(&format!(" VERSION {}", literal(&version)));
            } else {
                differing.push(format!("{name} {version}"));
            }
            if !by_tenant {
                sql.push(create.clone());
            }
            let sql = self.admin.as_member(&[&self.owner], sql).await?;
            self.admin.run_all(&doing, &sql).await?;
            if by_tenant {
                self.run(doing, &create).await?;
            }
        }
        Ok(differing)
    }
}

/// Among these roles, as `source` has them.
async fn memberships(source: &Admin, doing: &str, names: &Vec<String>) -> Result<Vec<String>, SqlError> {
    let sql = "select distinct g.rolname::text, m.rolname::text from pg_auth_members a join pg_roles g on g.oid = a.roleid \
               join pg_roles m on m.oid = a.member where g.rolname = any($1) and m.rolname = any($1) order by 1, 2";
    let rows = source.rows(doing, sql, &[(names, Type::TEXT_ARRAY)]).await?;
    Ok(rows.iter().map(|row| format!("GRANT {} TO {}", ident(row.get(0)), ident(row.get(1)))).collect())
}
