//! What the truth loop sees: roles, their stored settings and memberships, databases, and what was created as a
//! login. One pass over shared catalogs, whatever database the admin is in. Absent: what ought to be.

use std::collections::BTreeMap;

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::admin::Admin;
use super::error::SqlError;
use super::quote::owned;

#[derive(Debug, Clone, Default)]
pub struct Observed {
    pub roles: Vec<ObservedRole>,
    pub databases: Vec<ObservedDatabase>,
    /// (role that can log in, database): it owns something there, after `SET ROLE NONE`. Without the admin itself.
    pub owned_as_login: Vec<(String, String)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedRole {
    pub name: String,
    pub can_login: bool,
    pub superuser: bool,
    pub createdb: bool,
    pub createrole: bool,
    pub replication: bool,
    pub bypass_rls: bool,
    pub conn_limit: i32,
    /// `name=value` in force in every database.
    pub config: Vec<String>,
    /// The same, for one database only: a tenant may store these too, and they win.
    pub config_in: BTreeMap<String, Vec<String>>,
    pub member_of: Vec<String>,
    pub members: Vec<String>,
    /// Only a superuser sees it; empty where there is none.
    pub verifier: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedDatabase {
    pub name: String,
    pub owner: String,
    /// PUBLIC may connect.
    pub public_connect: bool,
    /// Roles that may connect by name, the owner aside.
    pub connect: Vec<String>,
    pub conn_limit: i32,
    pub allow_connections: bool,
    pub is_template: bool,
    /// From 17 on: whoever goes in runs it.
    pub has_login_trigger: bool,
    pub config: Vec<String>,
}

const ROLES: &str = "select r.rolname::text, r.rolcanlogin, r.rolsuper, r.rolcreatedb, r.rolcreaterole, r.rolreplication, r.rolbypassrls, r.rolconnlimit, \
    coalesce((select s.setconfig from pg_db_role_setting s where s.setrole = r.oid and s.setdatabase = 0), '{}'), \
    array(select g.rolname::text from pg_auth_members m join pg_roles g on g.oid = m.roleid where m.member = r.oid group by 1 order by 1), \
    array(select g.rolname::text from pg_auth_members m join pg_roles g on g.oid = m.member where m.roleid = r.oid group by 1 order by 1), \
    VERIFIER from pg_roles r where ($1 or r.rolname = any($2)) and r.rolname not like 'pg\\_%' order by 1";

const ROLE_IN_DATABASE: &str = "select r.rolname::text, d.datname::text, s.setconfig from pg_db_role_setting s \
    join pg_roles r on r.oid = s.setrole join pg_database d on d.oid = s.setdatabase where $1 or r.rolname = any($2)";

const DATABASES: &str = "select d.datname::text, o.rolname::text, \
    exists (select from aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a where a.grantee = 0 and a.privilege_type = 'CONNECT'), \
    array(select g.rolname::text from aclexplode(d.datacl) a join pg_roles g on g.oid = a.grantee where a.privilege_type = 'CONNECT' and a.grantee <> d.datdba order by 1), \
    d.datconnlimit, d.datallowconn, d.datistemplate, coalesce((to_jsonb(d)->>'dathasloginevt')::bool, false), \
    coalesce((select s.setconfig from pg_db_role_setting s where s.setdatabase = d.oid and s.setrole = 0), '{}') \
    from pg_database d join pg_roles o on o.oid = d.datdba where ($1 or d.datname = any($2)) order by 1";

/// Only what is owned: grants are no reason to reassign, and default privileges cannot be.
const OWNED_AS_LOGIN: &str = "select r.rolname::text, d.datname::text from pg_shdepend s join pg_roles r on r.oid = s.refobjid \
    join pg_database d on d.oid = s.dbid where s.refclassid = 'pg_authid'::regclass and s.deptype = 'o' and s.dbid <> 0 and s.classid <> 'pg_default_acl'::regclass \
    and r.rolcanlogin and not r.rolsuper and r.rolname <> current_user and ($1 or r.rolname = any($2)) group by 1, 2 order by 1, 2";

impl Admin {
    /// These roles and databases; names that do not exist are simply not in the answer.
    pub async fn observe(&self, roles: &[&str], databases: &[&str]) -> Result<Observed, SqlError> {
        self.look(false, owned(roles), owned(databases)).await
    }

    pub async fn observe_all(&self) -> Result<Observed, SqlError> {
        self.look(true, Vec::new(), Vec::new()).await
    }

    async fn look(&self, all: bool, roles: Vec<String>, databases: Vec<String>) -> Result<Observed, SqlError> {
        let doing = "observe roles and databases";
        let verifier = match self.superuser {
            true => "(select coalesce(a.rolpassword, '') from pg_authid a where a.oid = r.oid)",
            false => "null::text",
        };
        let of_roles = [(&all as _, Type::BOOL), (&roles as _, Type::TEXT_ARRAY)];
        let of_databases = [(&all as _, Type::BOOL), (&databases as _, Type::TEXT_ARRAY)];
        let role_rows = self.rows(doing, &ROLES.replace("VERIFIER", verifier), &of_roles).await?;
        let mut observed = Observed { roles: role_rows.iter().map(role).collect(), ..Observed::default() };
        for row in self.rows(doing, ROLE_IN_DATABASE, &of_roles).await? {
            let name: &str = row.get(0);
            if let Some(role) = observed.roles.iter_mut().find(|role| role.name == name) {
                role.config_in.insert(row.get(1), row.get(2));
            }
        }
        observed.databases = self.rows(doing, DATABASES, &of_databases).await?.iter().map(database).collect();
        observed.owned_as_login =
            self.rows(doing, OWNED_AS_LOGIN, &of_roles).await?.iter().map(|row| (row.get(0), row.get(1))).collect();
        Ok(observed)
    }
}

fn role(row: &Row) -> ObservedRole {
    ObservedRole {
        name: row.get(0),
        can_login: row.get(1),
        superuser: row.get(2),
        createdb: row.get(3),
        createrole: row.get(4),
        replication: row.get(5),
        bypass_rls: row.get(6),
        conn_limit: row.get(7),
        config: row.get(8),
        config_in: BTreeMap::new(),
        member_of: row.get(9),
        members: row.get(10),
        verifier: row.get(11),
    }
}

fn database(row: &Row) -> ObservedDatabase {
    ObservedDatabase {
        name: row.get(0),
        owner: row.get(1),
        public_connect: row.get(2),
        connect: row.get(3),
        conn_limit: row.get(4),
        allow_connections: row.get(5),
        is_template: row.get(6),
        has_login_trigger: row.get(7),
        config: row.get(8),
    }
}
