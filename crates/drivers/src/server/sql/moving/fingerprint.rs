//! What a database's schema is, object by object, from catalogs alone, so that a weak admin can tell too: whether the
//! tenant changed it during a move (one side, twice), and whether both sides have the same (two sides, once).
//!
//! `shape` reads alike on every version. `text` is how this version prints definitions, which is not how another does.
//! Absent: statistics and all that changes by use, replica identities and triggers' modes, which a move sets itself.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::side::Side;
use crate::server::sql::error::SqlError;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    pub shape: BTreeMap<String, String>,
    pub text: BTreeMap<String, String>,
}

/// Nothing of these is executed: what prints an expression prints it.
const OBJECTS: &str = "with mine as (select n.oid, n.nspname from pg_namespace n where n.nspname !~ '^pg_' \
        and n.nspname not in ('information_schema', 'freehold')), \
    rel as (select c.*, m.nspname from pg_class c join mine m on m.oid = c.relnamespace where c.relpersistence <> 't' \
        and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')), \
    proc as (select p.*, m.nspname from pg_proc p join mine m on m.oid = p.pronamespace \
        where not exists (select from pg_depend d where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e')), \
    typ as (select t.*, m.nspname from pg_type t join mine m on m.oid = t.typnamespace where t.typtype in ('e', 'd', 'r', 'c') \
        and not exists (select from pg_depend d where d.classid = 'pg_type'::regclass and d.objid = t.oid and d.deptype in ('e', 'i'))) \
    select 'schema ' || quote_ident(nspname) as what, '' as shape, '' as text from mine \
    union all select case relkind when 'r' then 'table ' when 'p' then 'table ' when 'v' then 'view ' when 'm' then 'view ' when 'S' then 'sequence ' \
        when 'f' then 'table ' else 'type ' end || quote_ident(nspname) || '.' || quote_ident(relname), \
        concat_ws(' ', relkind, relpersistence, relrowsecurity, relforcerowsecurity, pg_get_expr(relpartbound, oid), \
            (select string_agg(format('%s.%s', pn.nspname, pc.relname), ',' order by i.inhseqno) from pg_inherits i join pg_class pc on pc.oid = i.inhparent \
                join pg_namespace pn on pn.oid = pc.relnamespace where i.inhrelid = rel.oid), \
            (select format('%s %s %s %s %s', s.seqstart, s.seqincrement, s.seqmin, s.seqmax, s.seqcycle) from pg_sequence s where s.seqrelid = rel.oid)), \
        concat_ws(' ', case when relkind in ('v', 'm') then md5(pg_get_viewdef(oid)) end, relacl::text, reloptions::text) \
        from rel where relkind not in ('i', 'I', 't') \
    union all select 'column ' || quote_ident(nspname) || '.' || quote_ident(relname) || '.' || quote_ident(attname), \
        concat_ws(' ', format_type(atttypid, atttypmod), attnotnull, attidentity, attgenerated, attislocal, (select collname from pg_collation l where l.oid = attcollation)), \
        concat_ws(' ', md5(pg_get_expr(d.adbin, d.adrelid)), attacl::text) \
        from rel join pg_attribute a on a.attrelid = rel.oid left join pg_attrdef d on d.adrelid = rel.oid and d.adnum = a.attnum \
        where a.attnum > 0 and not a.attisdropped and relkind not in ('i', 'I', 't', 'S') \
    union all select 'index ' || quote_ident(nspname) || '.' || quote_ident(relname), \
        concat_ws(' ', indisunique, indisprimary, indisvalid, indnkeyatts, (select relname from pg_class o where o.oid = indrelid), \
            (select string_agg(coalesce(a.attname, '()'), ',' order by k.at) from unnest(indkey::int2[]) with ordinality k (num, at) \
                left join pg_attribute a on a.attrelid = indrelid and a.attnum = k.num and k.num > 0), \
            (select amname from pg_am where pg_am.oid = relam)), md5(pg_get_indexdef(indexrelid)) \
        from rel join pg_index x on x.indexrelid = rel.oid \
    union all select format('constraint %I.%I.%I', coalesce(rel.nspname, typ.nspname), coalesce(rel.relname, typ.typname), conname), \
        concat_ws(' ', contype, condeferrable, condeferred, convalidated, confupdtype, confdeltype, \
            (select relname from pg_class o where o.oid = confrelid)), md5(pg_get_constraintdef(c.oid)) \
        from pg_constraint c left join rel on rel.oid = c.conrelid left join typ on typ.oid = c.contypid \
        where contype not in ('n', 't') and (rel.oid is not null or typ.oid is not null) \
    union all select format('function %I.%I(%s)', nspname, proname, pg_get_function_identity_arguments(oid)), \
        concat_ws(' ', prokind, prosecdef, provolatile, proisstrict, format_type(prorettype, null), md5(prosrc), (select lanname from pg_language l where l.oid = prolang)), \
        concat_ws(' ', proacl::text, proconfig::text, md5(pg_get_function_sqlbody(oid))) from proc \
    union all select format('type %I.%I', nspname, typname), \
        concat_ws(' ', typtype, (select string_agg(enumlabel, ',' order by enumsortorder) from pg_enum e where e.enumtypid = typ.oid), \
            case when typtype = 'd' then format_type(typbasetype, typtypmod) end, case when typtype = 'd' then typnotnull end), \
        concat_ws(' ', typdefault, typacl::text) from typ where typtype <> 'c' or exists (select from pg_class o where o.oid = typ.typrelid and o.relkind = 'c') \
    union all select format('trigger %I.%I.%I', nspname, relname, tgname), concat_ws(' ', tgtype, (select proname from pg_proc p where p.oid = tgfoid)), \
        md5(pg_get_triggerdef(t.oid)) from rel join pg_trigger t on t.tgrelid = rel.oid where not tgisinternal \
    union all select format('policy %I.%I.%I', nspname, relname, polname), concat_ws(' ', polcmd, polpermissive), \
        concat_ws(' ', md5(pg_get_expr(polqual, polrelid)), md5(pg_get_expr(polwithcheck, polrelid)), polroles::text) \
        from rel join pg_policy p on p.polrelid = rel.oid \
    union all select format('rule %I.%I.%I', nspname, relname, rulename), concat_ws(' ', ev_type, is_instead, ev_enabled), md5(pg_get_ruledef(r.oid)) \
        from rel join pg_rewrite r on r.ev_class = rel.oid where rulename <> '_RETURN' \
    union all select format('statistics %I.%I', m.nspname, stxname), stxkind::text, md5(pg_get_statisticsobjdef(s.oid)) from pg_statistic_ext s join mine m on m.oid = s.stxnamespace \
    union all select format('cast %s %s', format_type(castsource, null), format_type(casttarget, null)), concat_ws(' ', castcontext, castmethod), '' \
        from pg_cast where oid >= 16384 \
    union all select format('publication %I', pubname), concat_ws(' ', puballtables, pubinsert, pubupdate, pubdelete, pubtruncate), '' from pg_publication \
        where pubname !~ '^fh_(move|back)_' \
    union all select format('extension %I', extname), '', extversion from pg_extension";

/// Rows of catalogs by who wrote them. What use alone changes is written in place, and leaves its writer.
const CATALOGS: [&str; 17] = [
    "pg_attrdef",
    "pg_attribute",
    "pg_cast",
    "pg_class",
    "pg_constraint",
    "pg_default_acl",
    "pg_enum",
    "pg_extension",
    "pg_index",
    "pg_inherits",
    "pg_namespace",
    "pg_policy",
    "pg_proc",
    "pg_publication",
    "pg_rewrite",
    "pg_trigger",
    "pg_type",
];

impl Side {
    /// Quick, for under the fence: equal means that nothing was changed since. Where it is not, the fingerprint tells
    /// whether that matters: a temporary table, or TRUNCATE, shows here too. On one side only.
    pub async fn schema_state(&self) -> Result<String, SqlError> {
        let parts: Vec<String> = CATALOGS
            .iter()
            .map(|catalog| {
                format!(
                    "select sum(hashtextextended(concat_ws(' ', ctid, xmin), 0)) as state, count(*) as n from {catalog}"
                )
            })
            .collect();
        let sql = format!("select string_agg(concat_ws(' ', state, n), ',') from ({}) c", parts.join(" union all "));
        let row = self.admin.row("look whether the schema was changed", &sql, &[]).await?;
        Ok(row.get(0))
    }

    pub async fn fingerprint(&self) -> Result<Fingerprint, SqlError> {
        // Of an imported database the source may be older than any server that tenants are on.
        let objects = match self.admin.version_num() < 140_000 {
            true => Cow::Owned(OBJECTS.replace("md5(pg_get_function_sqlbody(oid))", "null::text")),
            false => Cow::Borrowed(OBJECTS),
        };
        let rows = self.admin.rows(format!("look at the schema of {}", self.database()), &objects, &[]).await?;
        let mut print = Fingerprint::default();
        for row in &rows {
            let what: String = row.get(0);
            print.shape.insert(what.clone(), row.get(1));
            print.text.insert(what, row.get(2));
        }
        Ok(print)
    }
}

impl Fingerprint {
    /// What is not the same on the same side, later. Pure.
    pub fn changed_since(&self, before: &Self) -> Vec<String> {
        let mut names = unequal(&self.shape, &before.shape);
        names.extend(unequal(&self.text, &before.text));
        names.sort();
        names.dedup();
        names
    }

    /// What is not the same on another side, of whatever version. Pure.
    pub fn unlike(&self, other: &Self) -> Vec<String> {
        unequal(&self.shape, &other.shape)
    }
}

fn unequal(one: &BTreeMap<String, String>, other: &BTreeMap<String, String>) -> Vec<String> {
    let names: std::collections::BTreeSet<&String> = one.keys().chain(other.keys()).collect();
    names.into_iter().filter(|name| one.get(*name) != other.get(*name)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprint_names_what_changed() {
        let of = |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        let before = Fingerprint { shape: of(&[("table t", "r"), ("table u", "r")]), text: of(&[("view v", "1")]) };
        let after = Fingerprint { shape: of(&[("table t", "r"), ("table w", "r")]), text: of(&[("view v", "2")]) };
        assert_eq!(after.changed_since(&before), ["table u", "table w", "view v"]);
        assert_eq!(after.unlike(&before), ["table u", "table w"]);
        assert!(before.changed_since(&before).is_empty());
    }
}
