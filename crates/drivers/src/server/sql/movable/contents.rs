//! What is in the database that the session is in.

use tokio_postgres::types::Type;

use super::{Locale, NAMES, Named};
use crate::server::sql::admin::Admin;
use crate::server::sql::error::SqlError;

/// Relations of the tenant's that are of no extension: those come with `CREATE EXTENSION`.
macro_rules! relations {
    ($which:expr) => {
        relations!("quote_ident(s.nspname) || '.' || quote_ident(c.relname)", $which)
    };
    ($what:expr, $which:expr) => {
        concat!(
            "select ",
            $what,
            " from pg_class c join pg_namespace s on s.oid = c.relnamespace \
             where s.nspname not like 'pg\\_%' and s.nspname not in ('information_schema', 'freehold') and c.relpersistence <> 't' \
             and not exists (select from pg_depend x where x.classid = 'pg_class'::regclass and x.objid = c.oid and x.deptype = 'e') and ",
            $which
        )
    };
}

/// No row of it can be told from its neighbour by an index that logical replication may use.
macro_rules! keyless {
    () => {
        "c.relkind = 'r' and c.relpersistence = 'p' and case c.relreplident when 'f' then false when 'n' then true \
         when 'i' then not exists (select from pg_index i where i.indrelid = c.oid and i.indisreplident and i.indisvalid) \
         else not exists (select from pg_index i where i.indrelid = c.oid and i.indisprimary and i.indisvalid and i.indimmediate) end"
    };
}

macro_rules! of_no_extension {
    ($class:literal, $oid:literal) => {
        concat!(
            $oid,
            " >= 16384 and not exists (select from pg_depend x where x.classid = '",
            $class,
            "'::regclass and x.objid = ",
            $oid,
            " and x.deptype = 'e')"
        )
    };
}

/// Each of these is a query for names.
macro_rules! contents {
    ($($(#[$doc:meta])* $field:ident = $sql:expr;)*) => {
        #[derive(Debug, Clone, Default, PartialEq)]
        pub struct Contents {
            pub locale: Locale,
            pub size_bytes: u64,
            /// Of the catalogs, which are not moved, and of indexes, which are built anew; as of the last VACUUM or ANALYZE.
            pub catalog_bytes: u64,
            pub index_bytes: u64,
            pub large_objects: u64,
            pub large_object_bytes: u64,
            /// Rows, without indexes.
            pub unlogged_bytes: u64,
            /// Name and version.
            pub extensions: Vec<(String, String)>,
            /// Sessions that hold what ends with them: advisory locks, temporary tables.
            pub sessions_with_locks: u64,
            pub sessions_with_temporary_tables: u64,
            /// What no older PostgreSQL has a word for.
            pub newer: Named,
            $($(#[$doc])* pub $field: Named,)*
        }

        const QUERIES: &[(&str, &str)] = &[$((stringify!($field), $sql)),*];

        impl Contents {
            fn set(&mut self, field: &str, named: Named) {
                match field {
                    $(stringify!($field) => self.$field = named,)*
                    _ => {}
                }
            }
        }
    };
}

contents! {
    /// Partitioned ones and partitions included.
    tables = relations!("c.relkind in ('r', 'p')");
    keyless = relations!(keyless!());
    /// Those of them that have a column which nothing can compare: even their whole rows cannot be found again.
    incomparable = concat!(
        "with recursive col (name, type) as (",
        relations!("quote_ident(s.nspname) || '.' || quote_ident(c.relname), unnest(array(select a.atttypid from pg_attribute a \
            where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped))", keyless!()),
        "), part (root, type) as (select distinct type, type from col union select p.root, x.type from part p join pg_type t on t.oid = p.type, \
            lateral (select t.typbasetype where t.typtype = 'd' union all select t.typelem where t.typtype = 'b' and t.typcategory = 'A' and t.typelem <> 0 \
                union all select a.atttypid from pg_attribute a where t.typtype = 'c' and a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped) x (type)), \
         bad (root) as (select distinct p.root from part p join pg_type t on t.oid = p.type where t.typtype = 'b' and not (t.typcategory = 'A' and t.typelem <> 0) \
            and not exists (select from pg_opclass o join pg_am m on m.oid = o.opcmethod where o.opcdefault and m.amname in ('btree', 'hash') \
                and (o.opcintype = t.oid or exists (select from pg_cast k where k.castsource = t.oid and k.casttarget = o.opcintype and k.castmethod = 'b' and k.castcontext = 'i')))) \
         select distinct col.name from col join bad on bad.root = col.type"
    );
    /// Keyless ones that were told to use their whole rows.
    full_identity = relations!("c.relkind = 'r' and c.relpersistence = 'p' and c.relreplident = 'f'");
    unlogged = relations!("c.relkind = 'r' and c.relpersistence = 'u'");
    sequences = relations!("c.relkind = 'S'");
    materialized_views = relations!("c.relkind = 'm'");
    partitioned = relations!("c.relkind = 'p'");
    inherited = relations!("c.relkind = 'r' and exists (select from pg_inherits i where i.inhparent = c.oid)");
    generated = relations!("c.relkind in ('r', 'p') and exists (select from pg_attribute a where a.attrelid = c.oid and a.attgenerated <> '' and not a.attisdropped)");
    identity = relations!("c.relkind in ('r', 'p') and exists (select from pg_attribute a where a.attrelid = c.oid and a.attidentity <> '' and not a.attisdropped)");
    row_security = relations!("c.relrowsecurity");
    /// In force for the owner too.
    forced_row_security = relations!("c.relrowsecurity and c.relforcerowsecurity");
    /// Whose values are kept out of line, in 64 MB or more.
    wide = relations!("c.relkind in ('r', 'm') and exists (select from pg_class t where t.oid = c.reltoastrelid and t.relpages >= 8192)");
    in_tablespaces = relations!("c.reltablespace <> 0");
    /// Triggers and rules that fire when replicated rows are applied.
    always_triggers = "select quote_ident(t.name) || ' on ' || quote_ident(n.nspname) || '.' || quote_ident(c.relname) \
        from (select tgname, tgrelid from pg_trigger where not tgisinternal and tgenabled in ('A', 'R') \
            union all select rulename, ev_class from pg_rewrite where ev_enabled in ('A', 'R')) t (name, rel) \
        join pg_class c on c.oid = t.rel join pg_namespace n on n.oid = c.relnamespace where n.nspname not like 'pg\\_%'";
    event_triggers = concat!("select evtname::text from pg_event_trigger e where ", of_no_extension!("pg_event_trigger", "e.oid"));
    /// Foreign servers and foreign tables.
    foreign = concat!(
        "select 'server ' || quote_ident(srvname) from pg_foreign_server f where ", of_no_extension!("pg_foreign_server", "f.oid"),
        " union all select 'table ' || n from (", relations!("c.relkind = 'f'"), ") t (n)"
    );
    publications = concat!("select pubname::text from pg_publication p where not puballtables and ", of_no_extension!("pg_publication", "p.oid"));
    publications_of_all = "select pubname::text from pg_publication where puballtables";
    subscriptions = "select subname::text from pg_subscription s join pg_database d on d.oid = s.subdbid where d.datname = current_database()";
    slots = "select slot_name::text from pg_replication_slots where database = current_database()";
    prepared = "select gid from pg_prepared_xacts where database = current_database()";
    security_labels = "select provider || ' label on ' || objtype || ' ' || objname from pg_seclabels where objtype <> 'role' and objtype <> 'tablespace' \
        and (objtype <> 'database' or objname = quote_ident(current_database()))";
    /// Names, without their values.
    settings = "select split_part(e, '=', 1) from pg_db_role_setting s join pg_database d on d.oid = s.setdatabase, unnest(s.setconfig) e \
        where d.datname = current_database() and s.setrole = 0";
    default_privileges = "select 'of ' || quote_ident(r.rolname) || coalesce(' in ' || quote_ident(n.nspname), '') from pg_default_acl d \
        join pg_roles r on r.oid = d.defaclrole left join pg_namespace n on n.oid = d.defaclnamespace";
    /// What a move has a superuser make at the target: untrusted routines and languages, foreign data wrappers, operator
    /// classes, base types.
    of_superusers = concat!(
        "select 'routine ' || quote_ident(n.nspname) || '.' || quote_ident(p.proname) from pg_proc p join pg_namespace n on n.oid = p.pronamespace \
            join pg_language l on l.oid = p.prolang where not l.lanpltrusted and ", of_no_extension!("pg_proc", "p.oid"),
        " union all select 'language ' || quote_ident(lanname) from pg_language l where ", of_no_extension!("pg_language", "l.oid"),
        " union all select 'foreign data wrapper ' || quote_ident(fdwname) from pg_foreign_data_wrapper f where ", of_no_extension!("pg_foreign_data_wrapper", "f.oid"),
        " union all select 'operator class ' || quote_ident(opcname) from pg_opclass o where ", of_no_extension!("pg_opclass", "o.oid"),
        " union all select 'type ' || quote_ident(typname) from pg_type t where t.typtype = 'b' and not (t.typcategory = 'A' and t.typelem <> 0) and ",
        of_no_extension!("pg_type", "t.oid")
    );
    /// Roles that own something and are neither the owner nor the tenant's logins, and those logins themselves.
    owners = "select distinct r.rolname::text from pg_shdepend h join pg_roles r on r.oid = h.refobjid join pg_database d on d.oid = h.dbid \
        where d.datname = current_database() and h.refclassid = 'pg_authid'::regclass and h.deptype = 'o' and r.rolname <> all($1)";
    /// Roles that were granted something.
    grantees = "select distinct r.rolname::text from pg_shdepend h join pg_roles r on r.oid = h.refobjid join pg_database d on d.oid = h.dbid \
        where d.datname = current_database() and h.refclassid = 'pg_authid'::regclass and h.deptype in ('a', 'r') and r.rolname <> all($1)";
}

/// What no older PostgreSQL has a word for.
const NEWER: &str = concat!(
    "select 'virtual column of ' || n from (",
    relations!(
        "exists (select from pg_attribute a where a.attrelid = c.oid and a.attgenerated = 'v' and not a.attisdropped)"
    ),
    ") t (n) union all select 'constraint ' || quote_ident(k.conname) || ' of ' || quote_ident(n.nspname) || '.' || quote_ident(c.relname) \
     from pg_constraint k join pg_class c on c.oid = k.conrelid join pg_namespace n on n.oid = c.relnamespace \
     where n.nspname not like 'pg\\_%' and n.nspname <> 'information_schema' and (k.conperiod or not k.conenforced)"
);

const SIZES: &str = "select pg_database_size(d.oid), \
    (select coalesce(sum(c.relpages::int8), 0)::int8 * b.size from pg_class c where c.oid < 16384 or c.relnamespace = 'pg_catalog'::regnamespace), \
    (select coalesce(sum(c.relpages::int8), 0)::int8 * b.size from pg_class c where c.relkind = 'i' and c.oid >= 16384 and c.relnamespace <> 'pg_catalog'::regnamespace), \
    (select count(*) from pg_largeobject_metadata), pg_relation_size('pg_largeobject'::regclass), \
    (select count(distinct l.pid) from pg_locks l where l.locktype = 'advisory' and l.database = d.oid and l.pid <> pg_backend_pid()), \
    (select count(distinct c.relnamespace) from pg_class c where c.relpersistence = 't'), \
    (select coalesce(sum(pg_table_size(c.oid)), 0)::int8 from pg_class c where c.relkind = 'r' and c.relpersistence = 'u' and c.relnamespace <> coalesce(to_regnamespace('freehold'), 0)) \
    from pg_database d, (select current_setting('block_size')::int8) b (size) where d.datname = current_database()";

/// Called `daticulocale` before 17.
const LOCALE: &str = "select pg_encoding_to_char(d.encoding)::text, d.datlocprovider::text, d.datcollate::text, d.datctype::text, \
    coalesce(to_jsonb(d)->>'datlocale', to_jsonb(d)->>'daticulocale'), pg_database_collation_actual_version(d.oid), d.datcollversion \
    from pg_database d where d.datname = current_database()";

/// Before 15 all of them sort by the C library, and nobody wrote down by which version of it.
const LOCALE_BEFORE_15: &str = "select pg_encoding_to_char(d.encoding)::text, 'c'::text, d.datcollate::text, d.datctype::text, \
    null::text, null::text, null::text from pg_database d where d.datname = current_database()";

const EXTENSIONS: &str =
    "select extname::text, extversion from pg_extension where oid >= 16384 order by extname collate \"C\"";

impl Admin {
    /// `ours`: the owner role and the admin, whose ownership and grants are nothing special.
    pub async fn movable_contents(&self, ours: &[String]) -> Result<Contents, SqlError> {
        let doing = format!("look into database {}", self.database());
        let sizes = self.row(&doing, SIZES, &[]).await?;
        let positive = |column: usize| u64::try_from(sizes.get::<_, i64>(column)).unwrap_or(0);
        let mut contents = Contents {
            locale: self.locale(&doing).await?,
            size_bytes: positive(0),
            catalog_bytes: positive(1),
            index_bytes: positive(2),
            large_objects: positive(3),
            large_object_bytes: positive(4),
            sessions_with_locks: positive(5),
            sessions_with_temporary_tables: positive(6),
            unlogged_bytes: positive(7),
            ..Contents::default()
        };
        let extensions = self.rows(&doing, EXTENSIONS, &[]).await?;
        contents.extensions = extensions.iter().map(|row| (row.get(0), row.get(1))).collect();
        for (field, sql) in QUERIES {
            contents.set(field, self.named(&doing, sql, ours).await?);
        }
        if self.version_num() >= 180_000 {
            contents.newer = self.named(&doing, NEWER, ours).await?;
        }
        Ok(contents)
    }

    pub(super) async fn named(&self, doing: &str, query: &str, ours: &[String]) -> Result<Named, SqlError> {
        let sql = format!(
            "select count(*), coalesce((array_agg(n order by n collate \"C\"))[1:{NAMES}], '{{}}') from ({query}) q (n)"
        );
        let row = match query.contains("$1") {
            true => self.row(doing, &sql, &[(&ours, Type::TEXT_ARRAY)]).await?,
            false => self.row(doing, &sql, &[]).await?,
        };
        Ok(Named { count: u64::try_from(row.get::<_, i64>(0)).unwrap_or(0), names: row.get(1) })
    }

    async fn locale(&self, doing: &str) -> Result<Locale, SqlError> {
        let locale = if self.version_num() < 150_000 { LOCALE_BEFORE_15 } else { LOCALE };
        let row = self.row(doing, locale, &[]).await?;
        Ok(Locale {
            encoding: row.get(0),
            provider: row.get(1),
            collate: row.get(2),
            ctype: row.get(3),
            locale: row.get(4),
            version: row.get(5),
            recorded_version: row.get(6),
        })
    }
}
