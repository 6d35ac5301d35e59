//! Everything in a database that has an owner, and changing that owner, one object at a time.

use serde::{Deserialize, Serialize};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::server::sql::admin::Admin;
use crate::server::sql::error::{SqlError, SqlErrorKind};
use crate::server::sql::quote::ident;

/// An object, by its catalog and oid: names may change while this is at work.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Object {
    pub class: String,
    pub oid: u32,
    /// As it was looked at: before it was adopted.
    pub owner: String,
}

impl Object {
    pub(super) fn read(row: &Row) -> Self {
        Self { class: row.get(0), oid: row.get(1), owner: row.get(2) }
    }
}

/// Schemas first: whoever is given something must be allowed to create in its schema. Left out is what belongs to an
/// extension, follows another object (indexes, sequences of columns, row types, array types, constructors of ranges), or
/// takes a superuser. Before 17 a range's multirange does not follow it: it is there once the range has another owner.
const OBJECTS: &str = "with named as ( \
    select 0 as turn, 'pg_namespace' as class, oid, nspowner as owner from pg_namespace \
        where nspname = 'public' or oid >= 16384 and nspname not like 'pg\\_%' and nspname <> 'freehold' \
    union all select 1, 'pg_type', t.oid, t.typowner from pg_type t left join pg_class c on c.oid = t.typrelid \
        where (t.typtype in ('d', 'e', 'r', 'b') or t.typtype = 'c' and c.relkind = 'c' \
            or t.typtype = 'm' and exists (select from pg_range g join pg_type s on s.oid = g.rngtypid where g.rngmultitypid = t.oid and s.typowner <> t.typowner)) \
        and not exists (select from pg_type e where e.typarray = t.oid) \
    union all select 2, 'pg_class', c.oid, c.relowner from pg_class c \
        where c.relkind in ('r', 'p', 'v', 'm', 'f') or c.relkind = 'S' and not exists (select from pg_depend x \
            where x.classid = 'pg_class'::regclass and x.objid = c.oid and x.refclassid = 'pg_class'::regclass and x.deptype in ('a', 'i')) \
    union all select 3, 'pg_proc', p.oid, p.proowner from pg_proc p \
        where not exists (select from pg_depend x where x.classid = 'pg_proc'::regclass and x.objid = p.oid and x.deptype = 'i') \
    union all select 4, 'pg_operator', oid, oprowner from pg_operator \
    union all select 5, 'pg_opfamily', oid, opfowner from pg_opfamily \
    union all select 6, 'pg_opclass', oid, opcowner from pg_opclass \
    union all select 7, 'pg_collation', oid, collowner from pg_collation \
    union all select 8, 'pg_conversion', oid, conowner from pg_conversion \
    union all select 9, 'pg_ts_dict', oid, dictowner from pg_ts_dict \
    union all select 10, 'pg_ts_config', oid, cfgowner from pg_ts_config \
    union all select 11, 'pg_statistic_ext', oid, stxowner from pg_statistic_ext \
    union all select 12, 'pg_foreign_server', oid, srvowner from pg_foreign_server \
    union all select 13, 'pg_publication', oid, pubowner from pg_publication where not puballtables \
    union all select 14, 'pg_largeobject', oid, lomowner from pg_largeobject_metadata) \
    select n.class, n.oid, r.rolname::text from named n join pg_roles r on r.oid = n.owner \
    where (n.oid >= 16384 or n.class = 'pg_namespace' or n.class = 'pg_largeobject') \
    and not exists (select from pg_depend x where x.classid = n.class::regclass and x.objid = n.oid and x.deptype = 'e') \
    and not exists (select from pg_class c join pg_namespace t on t.oid = c.relnamespace \
        where n.class = 'pg_class' and c.oid = n.oid and (t.nspname like 'pg\\_%' or t.nspname = 'freehold')) \
    and not exists (select from pg_proc p join pg_namespace t on t.oid = p.pronamespace \
        where n.class = 'pg_proc' and p.oid = n.oid and (t.nspname like 'pg\\_%' or t.nspname = 'freehold')) \
    and not exists (select from pg_type y join pg_namespace t on t.oid = y.typnamespace \
        where n.class = 'pg_type' and y.oid = n.oid and (t.nspname like 'pg\\_%' or t.nspname = 'freehold')) \
    order by n.turn, n.oid";

/// As the server itself writes and quotes them, of those that still exist and that `$3` owns.
const IDENTIFY: &str = "select o.class, o.oid, i.type, i.identity from unnest($1::text[], $2::oid[]) o (class, oid), \
    lateral pg_identify_object(o.class::regclass, o.oid, 0) i where i.identity is not null";

/// One transaction holds locks on so many objects at most.
const BATCH: usize = 200;

impl Admin {
    /// Everything with an owner, in the database that this session is in.
    pub async fn owned_objects(&self) -> Result<Vec<Object>, SqlError> {
        let doing = format!("list what is in {}", self.database());
        Ok(self.rows(doing, OBJECTS, &[]).await?.iter().map(Object::read).collect())
    }

    /// Gives each of these to `owner`; what is gone meanwhile is left out. Batch by batch, so that a lock that somebody
    /// holds stops what it must and no more; running it again goes on.
    pub async fn give_objects(&self, objects: &[&Object], owner: &str) -> Result<(), SqlError> {
        let doing = format!("give what is in {} to {owner}", self.database());
        for batch in objects.chunks(BATCH) {
            let classes: Vec<String> = batch.iter().map(|object| object.class.clone()).collect();
            let oids: Vec<u32> = batch.iter().map(|object| object.oid).collect();
            let params = [(&classes as _, Type::TEXT_ARRAY), (&oids as _, Type::OID_ARRAY)];
            let rows = self.rows(&doing, IDENTIFY, &params).await?;
            let mut statements = Vec::with_capacity(rows.len());
            for row in &rows {
                statements.push(statement(&doing, row.get(0), row.get(2), row.get(3), owner)?);
            }
            match self.run_all(&doing, &statements).await {
                // Dropped or altered between the look and the statement: one by one then, each as it is now.
                Err(error) if matches!(error.kind, SqlErrorKind::Missing | SqlErrorKind::Other) && batch.len() > 1 => {
                    for object in batch {
                        Box::pin(self.give_objects(&[*object], owner)).await?;
                    }
                }
                Err(error) if batch.len() == 1 && !self.exists_still(batch[0]).await? => {
                    tracing::debug!(%error, "it is gone");
                }
                other => other?,
            }
        }
        Ok(())
    }

    async fn exists_still(&self, object: &Object) -> Result<bool, SqlError> {
        let (class, oid) = (vec![object.class.clone()], vec![object.oid]);
        let params = [(&class as _, Type::TEXT_ARRAY), (&oid as _, Type::OID_ARRAY)];
        self.exists("look for an object", IDENTIFY, &params).await
    }
}

/// `identity` is the server's own text, quoted as it quotes; nothing in it is a tenant's unquoted.
fn statement(doing: &str, class: &str, kind: &str, identity: &str, owner: &str) -> Result<String, SqlError> {
    let keyword = match class {
        "pg_namespace" => "SCHEMA",
        "pg_type" => "TYPE",
        // A function, a procedure or an aggregate.
        "pg_proc" => "ROUTINE",
        "pg_operator" => "OPERATOR",
        "pg_opfamily" => "OPERATOR FAMILY",
        "pg_opclass" => "OPERATOR CLASS",
        "pg_collation" => "COLLATION",
        "pg_conversion" => "CONVERSION",
        "pg_ts_dict" => "TEXT SEARCH DICTIONARY",
        "pg_ts_config" => "TEXT SEARCH CONFIGURATION",
        "pg_statistic_ext" => "STATISTICS",
        "pg_foreign_server" => "SERVER",
        "pg_publication" => "PUBLICATION",
        "pg_largeobject" => "LARGE OBJECT",
        "pg_class" => match kind {
            "table" => "TABLE",
            "view" => "VIEW",
            "materialized view" => "MATERIALIZED VIEW",
            "foreign table" => "FOREIGN TABLE",
            "sequence" => "SEQUENCE",
            other => return Err(SqlError::new(doing, SqlErrorKind::NotSupported, format!("{other} {identity}"))),
        },
        other => return Err(SqlError::new(doing, SqlErrorKind::NotSupported, format!("objects of {other}"))),
    };
    Ok(format!("ALTER {keyword} {identity} OWNER TO {}", ident(owner)))
}
