//! What decides besides whether a database of somebody else's can be read whole, by a login that need not be a superuser.

use super::Named;
use crate::server::sql::admin::Admin;
use crate::server::sql::error::SqlError;

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Theirs {
    /// Tables and sequences that this login may not read.
    pub unreadable: Named,
    /// Tables of which row security hides rows from it.
    pub hidden: Named,
    pub unreadable_objects: Named,
    /// Roles that policies name.
    pub policy_roles: Named,
    /// Extensions that keep rows in tables of their own.
    pub extension_rows: Named,
    /// In a schema `freehold`, which here is the admin's.
    pub in_freehold: Named,
    /// Casts between types that are not the database's own.
    pub casts: Named,
    /// What only a superuser makes: untrusted routines and languages, foreign data wrappers, operator classes, base types.
    pub superusers: Named,
}

macro_rules! relations {
    ($which:expr) => {
        concat!(
            "select quote_ident(s.nspname) || '.' || quote_ident(c.relname) from pg_class c join pg_namespace s on s.oid = c.relnamespace \
             where s.nspname not like 'pg\\_%' and s.nspname not in ('information_schema', 'freehold') and c.relpersistence <> 't' \
             and not exists (select from pg_depend x where x.classid = 'pg_class'::regclass and x.objid = c.oid and x.deptype = 'e') and ",
            $which
        )
    };
}

const UNREADABLE: &str = relations!(
    "c.relkind in ('r', 'p', 'S') and not (has_schema_privilege(s.oid, 'USAGE') \
     and case c.relkind when 'S' then has_sequence_privilege(c.oid, 'SELECT') else has_table_privilege(c.oid, 'SELECT') end)"
);

const HIDDEN: &str = relations!("c.relkind in ('r', 'p') and row_security_active(c.oid)");

const OBJECTS: &str = "select m.oid::text from pg_largeobject_metadata m where not pg_has_role(m.lomowner, 'USAGE') \
    and not exists (select from pg_roles r where r.rolname = current_user and r.rolsuper) \
    and not exists (select from aclexplode(m.lomacl) a where a.privilege_type = 'SELECT' \
        and case a.grantee when 0 then true else pg_has_role(a.grantee, 'USAGE') end)";

const POLICY_ROLES: &str =
    "select distinct r.rolname::text from pg_policy p, unnest(p.polroles) o (oid) join pg_roles r on r.oid = o.oid";

const EXTENSION_ROWS: &str = "select extname::text from pg_extension where extconfig is not null";

const IN_FREEHOLD: &str = "select quote_ident(c.relname) from pg_class c join pg_namespace n on n.oid = c.relnamespace \
    where n.nspname = 'freehold' and c.relname not in ('note', 'note_pkey')";

const CASTS: &str = "select format_type(castsource, null) || ' as ' || format_type(casttarget, null) from pg_cast k \
    where k.oid >= 16384 and castsource < 16384 and casttarget < 16384 \
    and not exists (select from pg_depend x where x.classid = 'pg_cast'::regclass and x.objid = k.oid and x.deptype = 'e')";

macro_rules! of_no_extension {
    ($class:literal, $oid:literal) => {
        concat!(
            $oid,
            " >= 16384 and not exists (select from pg_depend x where x.classid = '",
            $class,
            "'::regclass and x.objid = ",
            $oid,
            " and x.deptype in ('e', 'i'))"
        )
    };
}

/// Aggregates, and what comes with a type, are of no language of anybody's.
const SUPERUSERS: &str = concat!(
    "select 'routine ' || quote_ident(n.nspname) || '.' || quote_ident(p.proname) from pg_proc p join pg_namespace n on n.oid = p.pronamespace \
        join pg_language l on l.oid = p.prolang where not l.lanpltrusted and p.prokind in ('f', 'p') and ",
    of_no_extension!("pg_proc", "p.oid"),
    " union all select 'language ' || quote_ident(lanname) from pg_language l where ",
    of_no_extension!("pg_language", "l.oid"),
    " union all select 'foreign data wrapper ' || quote_ident(fdwname) from pg_foreign_data_wrapper f where ",
    of_no_extension!("pg_foreign_data_wrapper", "f.oid"),
    " union all select 'operator class ' || quote_ident(opcname) from pg_opclass o where ",
    of_no_extension!("pg_opclass", "o.oid"),
    " union all select 'type ' || quote_ident(typname) from pg_type t where t.typtype = 'b' and not (t.typcategory = 'A' and t.typelem <> 0) and ",
    of_no_extension!("pg_type", "t.oid")
);

impl Admin {
    pub async fn movable_theirs(&self) -> Result<Theirs, SqlError> {
        let doing = format!("look what may be read of {}", self.database());
        Ok(Theirs {
            unreadable: self.named(&doing, UNREADABLE, &[]).await?,
            hidden: self.named(&doing, HIDDEN, &[]).await?,
            unreadable_objects: self.named(&doing, OBJECTS, &[]).await?,
            policy_roles: self.named(&doing, POLICY_ROLES, &[]).await?,
            extension_rows: self.named(&doing, EXTENSION_ROWS, &[]).await?,
            in_freehold: self.named(&doing, IN_FREEHOLD, &[]).await?,
            casts: self.named(&doing, CASTS, &[]).await?,
            superusers: self.named(&doing, SUPERUSERS, &[]).await?,
        })
    }
}
