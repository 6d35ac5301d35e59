//! What is in a database, and who has to do with it: catalogs alone, names of pg_catalog alone.

use serde::{Deserialize, Serialize};
use tokio_postgres::types::Type;

use super::objects::Object;
use crate::server::sql::admin::Admin;
use crate::server::sql::error::SqlError;

/// What can be known of a database without going into it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outside {
    pub name: String,
    pub owner: String,
    pub encoding: String,
    pub allows_connections: bool,
    pub is_template: bool,
    /// From 17 on: whoever goes in runs it.
    pub has_login_trigger: bool,
    pub size_bytes: i64,
    /// Who may do what with it, the owner included.
    pub connect: Vec<PrivilegeOn>,
    /// `name=value`, in force for everybody in it.
    pub settings: Vec<String>,
    pub prepared: i64,
    /// Logical slots of it.
    pub slots: Vec<String>,
    /// Who is in it now: role and how often; without the admin itself.
    pub sessions: Vec<(String, i64)>,
}

/// One entry of a database's ACL. PUBLIC is the empty grantee.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrivilegeOn {
    pub grantee: String,
    pub privilege: String,
    pub grantable: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventTrigger {
    pub name: String,
    pub function: String,
    /// `O`, `R`, `A` or `D`, as the catalog says it.
    pub enabled: String,
    /// A superuser once, when it was made. Whoever it is may enable it.
    #[serde(default)]
    pub owner: String,
    /// And now.
    #[serde(default)]
    pub owner_is_superuser: bool,
}

impl EventTrigger {
    pub fn is_enabled(&self) -> bool {
        self.enabled != "D"
    }
}

/// Privileges that what a role will create comes with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefaultAcl {
    pub role: String,
    /// None: in every schema.
    pub schema: Option<String>,
    /// `r` tables, `S` sequences, `f` routines, `T` types, `n` schemas.
    pub kind: String,
    pub grants: Vec<PrivilegeOn>,
}

/// A role that owns something in the database, or may be kept as a login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnerFacts {
    pub name: String,
    pub superuser: bool,
    /// CREATEROLE, CREATEDB, REPLICATION or BYPASSRLS.
    pub powers: Vec<String>,
    pub can_login: bool,
    /// Whether the admin acts for it already, or may make itself a member.
    pub admin_is_member: bool,
    pub admin_may_join: bool,
}

/// What is inside.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Inside {
    pub event_triggers: Vec<EventTrigger>,
    /// SECURITY DEFINER routines of superusers, of no extension.
    pub definer_traps: Vec<String>,
    /// Routines in languages that are not trusted, of no extension.
    pub untrusted: Vec<String>,
    /// What somebody put into `pg_catalog`, and casts between types that everybody has.
    pub catalog_additions: Vec<String>,
    /// Roles besides superusers that may create in `pg_catalog`.
    pub catalog_writers: Vec<String>,
    pub subscriptions: Vec<String>,
    /// Publications FOR ALL TABLES, foreign data wrappers, languages: their owners have to be superusers.
    pub superusers_only: Vec<String>,
    /// Somebody else's: no note of Freehold's is in it.
    pub has_schema_freehold: bool,
    /// A ghost's, with its note: this admin's to keep.
    pub has_note: bool,
    /// A control store of Freehold's.
    pub is_control_store: bool,
    /// `name version`, and whose.
    pub extensions: Vec<(String, String)>,
    pub objects: Vec<Object>,
    pub default_acls: Vec<DefaultAcl>,
}

const OUTSIDE: &str = "select o.rolname::text, pg_encoding_to_char(d.encoding)::text, d.datallowconn, d.datistemplate, \
    coalesce((to_jsonb(d)->>'dathasloginevt')::bool, false), pg_database_size(d.oid), \
    coalesce((select s.setconfig from pg_db_role_setting s where s.setdatabase = d.oid and s.setrole = 0), '{}'), \
    (select count(*) from pg_prepared_xacts where database = d.datname), \
    array(select slot_name::text from pg_replication_slots where database = d.datname order by 1) \
    from pg_database d join pg_roles o on o.oid = d.datdba where d.datname = $1";

const ACL: &str = "select coalesce(g.rolname::text, ''), a.privilege_type, a.is_grantable from pg_database d \
    cross join lateral aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a left join pg_roles g on g.oid = a.grantee \
    where d.datname = $1 order by 1, 2";

const IN_IT: &str = "select coalesce(usename::text, '?'), count(*) from pg_stat_activity \
    where datname = $1 and coalesce(backend_type, 'client backend') = 'client backend' and usesysid is not null \
    and usename is distinct from current_user group by 1 order by 1";

const EVENT_TRIGGERS: &str = "select e.evtname::text, e.evtfoid::regprocedure::text, e.evtenabled::text, r.rolname::text, r.rolsuper \
    from pg_event_trigger e join pg_roles r on r.oid = e.evtowner order by 1";

const ROUTINES: &str = "select p.oid::regprocedure::text, p.prosecdef and r.rolsuper, not l.lanpltrusted and l.lanname <> 'internal' \
    from pg_proc p join pg_roles r on r.oid = p.proowner join pg_language l on l.oid = p.prolang \
    where p.oid >= 16384 and (p.prosecdef and r.rolsuper or not l.lanpltrusted) \
    and not exists (select from pg_depend x where x.classid = 'pg_proc'::regclass and x.objid = p.oid and x.deptype = 'e') order by 1";

const CATALOG_ADDITIONS: &str = "select i.type || ' ' || i.identity from ( \
    select 'pg_proc'::regclass as class, oid from pg_proc where pronamespace = 'pg_catalog'::regnamespace and oid >= 16384 \
    union all select 'pg_operator'::regclass, oid from pg_operator where oprnamespace = 'pg_catalog'::regnamespace and oid >= 16384 \
    union all select 'pg_class'::regclass, oid from pg_class where relnamespace = 'pg_catalog'::regnamespace and oid >= 16384 and relkind in ('r', 'v', 'm', 'f') \
    union all select 'pg_type'::regclass, oid from pg_type where typnamespace = 'pg_catalog'::regnamespace and oid >= 16384 and typtype <> 'c' \
    union all select 'pg_cast'::regclass, oid from pg_cast where oid >= 16384 and castsource < 16384 and casttarget < 16384) a, \
    lateral pg_identify_object(a.class, a.oid, 0) i \
    where not exists (select from pg_depend x where x.classid = a.class and x.objid = a.oid and x.deptype = 'e') order by 1";

const CATALOG_WRITERS: &str = "select coalesce(r.rolname::text, 'PUBLIC') from pg_namespace n \
    cross join lateral aclexplode(n.nspacl) a left join pg_roles r on r.oid = a.grantee \
    where n.nspname in ('pg_catalog', 'information_schema') and a.privilege_type = 'CREATE' and not coalesce(r.rolsuper, false) order by 1";

const SUBSCRIPTIONS: &str = "select s.subname::text from pg_subscription s join pg_database d on d.oid = s.subdbid \
    where d.datname = current_database() order by 1";

const SUPERUSERS_ONLY: &str = "select 'publication ' || pubname from pg_publication where puballtables \
    union all select 'foreign data wrapper ' || fdwname from pg_foreign_data_wrapper f where oid >= 16384 \
        and not exists (select from pg_depend x where x.classid = 'pg_foreign_data_wrapper'::regclass and x.objid = f.oid and x.deptype = 'e') \
    union all select 'language ' || lanname from pg_language l where oid >= 16384 \
        and not exists (select from pg_depend x where x.classid = 'pg_language'::regclass and x.objid = l.oid and x.deptype = 'e') order by 1";

const MARKS: &str = "select exists (select from pg_namespace where nspname = 'freehold'), \
    (select count(*) = 3 from pg_class c join pg_namespace n on n.oid = c.relnamespace \
        where n.nspname = 'public' and c.relkind = 'r' and c.relname in ('_sqlx_migrations', 'tenant_database', 'loop_lease'))";

const EXTENSIONS: &str = "select e.extname || ' ' || e.extversion, r.rolname::text from pg_extension e \
    join pg_roles r on r.oid = e.extowner where e.oid >= 16384 order by 1";

const DEFAULT_ACLS: &str = "select r.rolname::text, n.nspname::text, d.defaclobjtype::text, coalesce(g.rolname::text, ''), a.privilege_type, a.is_grantable, \
    a.grantee is null from pg_default_acl d join pg_roles r on r.oid = d.defaclrole left join pg_namespace n on n.oid = d.defaclnamespace \
    left join lateral aclexplode(d.defaclacl) a on true left join pg_roles g on g.oid = a.grantee order by d.oid, 4, 5";

const OWNERS: &str = "select r.rolname::text, r.rolsuper, \
    array_remove(array[case when r.rolcreaterole then 'CREATEROLE' end, case when r.rolcreatedb then 'CREATEDB' end, \
        case when r.rolreplication then 'REPLICATION' end, case when r.rolbypassrls then 'BYPASSRLS' end], null), r.rolcanlogin, \
    pg_has_role(r.oid, 'USAGE'), \
    case when current_setting('server_version_num')::int >= 160000 then pg_has_role(r.oid, 'MEMBER WITH ADMIN OPTION') \
         else not r.rolsuper and (select c.rolcreaterole from pg_roles c where c.rolname = current_user) end \
    from pg_roles r where r.rolname = any($1) order by 1";

impl Admin {
    /// From another database. None: there is none of this name.
    pub async fn look_at(&self, database: &str) -> Result<Option<Outside>, SqlError> {
        let doing = format!("look at database {database}");
        let name = [(&database as _, Type::TEXT)];
        let rows = self.rows(&doing, OUTSIDE, &name).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let connect = self.rows(&doing, ACL, &name).await?;
        let sessions = self.rows(&doing, IN_IT, &name).await?;
        Ok(Some(Outside {
            name: database.to_owned(),
            owner: row.get(0),
            encoding: row.get(1),
            allows_connections: row.get(2),
            is_template: row.get(3),
            has_login_trigger: row.get(4),
            size_bytes: row.get(5),
            settings: row.get(6),
            prepared: row.get(7),
            slots: row.get(8),
            connect: connect
                .iter()
                .map(|row| PrivilegeOn { grantee: row.get(0), privilege: row.get(1), grantable: row.get(2) })
                .collect(),
            sessions: sessions.iter().map(|row| (row.get(0), row.get(1))).collect(),
        }))
    }

    /// In the database that this session is in.
    pub async fn look_into(&self) -> Result<Inside, SqlError> {
        let doing = format!("look into database {}", self.database());
        let names = async |sql: &str| -> Result<Vec<String>, SqlError> {
            Ok(self.rows(&doing, sql, &[]).await?.iter().map(|row| row.get(0)).collect())
        };
        let event_triggers = self.event_triggers().await?;
        let (mut definer_traps, mut untrusted) = (Vec::new(), Vec::new());
        for row in self.rows(&doing, ROUTINES, &[]).await? {
            let name: String = row.get(0);
            if row.get(1) {
                definer_traps.push(name.clone());
            }
            if row.get(2) {
                untrusted.push(name);
            }
        }
        let marks = self.row(&doing, MARKS, &[]).await?;
        let has_note = self.may_keep_note(&doing).await?;
        let extensions = self.rows(&doing, EXTENSIONS, &[]).await?;
        Ok(Inside {
            event_triggers,
            definer_traps,
            untrusted,
            catalog_additions: names(CATALOG_ADDITIONS).await?,
            catalog_writers: names(CATALOG_WRITERS).await?,
            subscriptions: names(SUBSCRIPTIONS).await?,
            superusers_only: names(SUPERUSERS_ONLY).await?,
            has_schema_freehold: marks.get::<_, bool>(0) && !has_note,
            has_note,
            is_control_store: marks.get(1),
            extensions: extensions.iter().map(|row| (row.get(0), row.get(1))).collect(),
            objects: self.owned_objects().await?,
            default_acls: self.default_acls().await?,
        })
    }

    /// The disabled ones too.
    pub(super) async fn event_triggers(&self) -> Result<Vec<EventTrigger>, SqlError> {
        let rows = self.rows("look for event triggers", EVENT_TRIGGERS, &[]).await?;
        let read = |row: &tokio_postgres::Row| EventTrigger {
            name: row.get(0),
            function: row.get(1),
            enabled: row.get(2),
            owner: row.get(3),
            owner_is_superuser: row.get(4),
        };
        Ok(rows.iter().map(read).collect())
    }

    /// What these roles are; those that do not exist are not in the answer.
    pub async fn owner_facts(&self, roles: &[String]) -> Result<Vec<OwnerFacts>, SqlError> {
        let rows = self.rows("look at owners", OWNERS, &[(&roles, Type::TEXT_ARRAY)]).await?;
        Ok(rows
            .iter()
            .map(|row| OwnerFacts {
                name: row.get(0),
                superuser: row.get(1),
                powers: row.get(2),
                can_login: row.get(3),
                admin_is_member: row.get(4),
                admin_may_join: row.get(5),
            })
            .collect())
    }

    /// What ALTER DEFAULT PRIVILEGES left, in the database that this session is in.
    pub async fn default_acls(&self) -> Result<Vec<DefaultAcl>, SqlError> {
        let mut found: Vec<DefaultAcl> = Vec::new();
        for row in self.rows("look for default privileges", DEFAULT_ACLS, &[]).await? {
            let (role, schema, kind): (String, Option<String>, String) = (row.get(0), row.get(1), row.get(2));
            let last = found.last_mut().filter(|last| last.role == role && last.schema == schema && last.kind == kind);
            let entry = match last {
                Some(entry) => entry,
                None => {
                    found.push(DefaultAcl { role, schema, kind, grants: Vec::new() });
                    found.last_mut().expect("one was pushed")
                }
            };
            // An empty ACL is an entry too: nobody gets anything.
            if !row.get::<_, bool>(6) {
                entry.grants.push(PrivilegeOn { grantee: row.get(3), privilege: row.get(4), grantable: row.get(5) });
            }
        }
        Ok(found)
    }
}
