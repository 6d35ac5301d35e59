//! Whether both sides hold the same rows: how many, and the sum of their hashes, range by range, on either version.
//!
//! Computed as the maintenance login, by functions of PostgreSQL's own alone: casts and operators, which a tenant can define,
//! are not asked. How a row is read depends on its columns' types ([`Form`]): most are hashed as they are, which takes a third
//! of the time of their text. Sessions of a move print floats, times and bytes alike, wherever they are.
//!
//! What row security hides even from its owner is not compared, and says so.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_postgres::types::Type;

use super::side::{Side, rows, run};
use crate::server::sql::error::{SqlError, SqlErrorKind};
use crate::server::sql::quote::ident;
use crate::server::sql::session::Maintenance;

/// What differs for so long, read again and again, is being written to: the other side is seldom so far behind.
const UNSETTLED: Duration = Duration::from_secs(2);

/// How many rows, and what they add up to. None: not to be read, for row security is forced on its owner.
pub type Digest = BTreeMap<Range, Option<(i64, String)>>;

/// A table, or those of its rows whose key is in between.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Range {
    /// As SQL has it: `"public"."orders"`.
    pub table: String,
    pub keys: Option<Keys>,
    pub(super) hidden: bool,
    pub form: Form,
}

/// As what the rows of a table are read, alike on both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    /// By their types' own hashes, of types whose values are equal only if they are the same: partitions are found by these
    /// hashes, so they are the same on every version.
    Values,
    /// As they are sent to clients that read bytes, of types that are sent alike whoever made them. It tells 1.0 from 1.00.
    Bytes,
    /// By `record_out`, of all others: it names enums, has no oids in it, and no bits of a float that its text does not say.
    Text,
}

/// Of a primary key that is one whole number. The first range has no beginning and the last one no end, so that nothing is
/// outside of them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Keys {
    column: String,
    pub from: Option<i64>,
    /// Not in it any more.
    pub to: Option<i64>,
}

/// As what to read the rows of a table `c`: the number of a [`Form`]. The first types are boolean, bytea, "char", name,
/// integers, text, oid, varchar, date, time, timestamps and uuid, also a char of one length (others may end in more blanks);
/// then numeric, JSON, timetz, interval, bits, addresses, money and pg_lsn. Before 14 there is no hash of a row.
macro_rules! form {
    () => {
        "(select case when pg_catalog.current_setting('server_version_num')::int4 < 140000 then 2 else coalesce(max(case \
            when (a.atttypid in (16, 17, 18, 19, 20, 21, 23, 25, 26, 1043, 1082, 1083, 1114, 1184, 2950) or a.atttypid = 1042 and a.atttypmod > 0) \
                and (a.attcollation = 0 or o.collisdeterministic) then 0 \
            when a.atttypid in (16, 17, 18, 19, 20, 21, 23, 25, 26, 1042, 1043, 1082, 1083, 1114, 1184, 2950, \
                1700, 114, 3802, 1266, 1186, 1560, 1562, 869, 650, 829, 774, 790, 3220) then 1 else 2 end), 2) end::int4 \
            from pg_attribute a left join pg_collation o on o.oid = a.attcollation where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped)"
    };
}
pub(super) use form;

const TABLES: &str = concat!(
    "select n.nspname::text, c.relname::text, c.relrowsecurity and c.relforcerowsecurity, greatest(c.reltuples, 0)::int8, \
    (select a.attname::text from pg_index i join pg_attribute a on a.attrelid = c.oid and a.attnum = i.indkey[0] \
        where i.indrelid = c.oid and i.indisprimary and i.indnkeyatts = 1 and a.atttypid in (20, 21, 23)), ",
    form!(),
    " \
    from pg_class c join pg_namespace n on n.oid = c.relnamespace \
    where c.relkind = 'r' and c.relpersistence::text = any($1) and n.nspname !~ '^pg_' and n.nspname not in ('information_schema', 'freehold') \
    and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e') order by 1, 2"
);

/// A side as it was at one moment, while it goes on: taken at the target before the tenant is let in.
pub struct Snapshot {
    session: Maintenance,
}

impl Side {
    /// Every table that is replicated, in ranges of about so many rows where its key allows it.
    pub async fn ranges(&self, about: i64) -> Result<Vec<Range>, SqlError> {
        self.ranges_of(&["p"], about).await
    }

    /// The same of tables of these kinds of persistence.
    pub(super) async fn ranges_of(&self, persistence: &[&str], about: i64) -> Result<Vec<Range>, SqlError> {
        let mut ranges = Vec::new();
        let doing = format!("list the tables of {}", self.database());
        for row in self.admin.rows(&doing, TABLES, &[(&persistence, Type::TEXT_ARRAY)]).await? {
            let table = format!("{}.{}", ident(row.get(0)), ident(row.get(1)));
            let (hidden, count, key): (bool, i64, Option<String>) = (row.get(2), row.get(3), row.get(4));
            let form = Form::numbered(row.get(5));
            match key.filter(|_| count > about && !hidden) {
                None => ranges.push(Range { table, keys: None, hidden, form }),
                Some(key) => {
                    let column = ident(&key);
                    let sql = format!("select min({column})::int8, max({column})::int8 from only {table}");
                    let found = self.rows(format!("read the keys of {table}"), &sql, &[]).await?;
                    let ends = found
                        .first()
                        .and_then(|row| Some((row.get::<_, Option<i64>>(0)?, row.get::<_, Option<i64>>(1)?)));
                    let cuts = ends.map(|(least, most)| cuts(least, most, count / about.max(1))).unwrap_or_default();
                    let from = std::iter::once(None).chain(cuts.iter().copied().map(Some));
                    let to = cuts.iter().copied().map(Some).chain(std::iter::once(None));
                    ranges.extend(from.zip(to).map(|(from, to)| {
                        let keys = Some(Keys { column: column.clone(), from, to });
                        Range { table: table.clone(), keys, hidden, form }
                    }));
                }
            }
        }
        Ok(ranges)
    }

    pub async fn digest(&self, ranges: &[Range]) -> Result<Digest, SqlError> {
        digest(&self.maintenance, ranges).await
    }

    /// Before the fence: a login takes its time.
    pub async fn prepare_snapshot(&self) -> Result<Snapshot, SqlError> {
        Ok(Snapshot { session: self.session().await? })
    }

    /// Reads both sides while they are written to, then again what differs, until nothing does, it becomes no less, or the
    /// time is over. Answers what still differs: what the tenant always writes to, or what is wrong. The digests under the
    /// fence tell which.
    pub async fn settle(&self, other: &Side, ranges: &[Range], within: Duration) -> Result<Vec<Range>, SqlError> {
        let deadline = Instant::now() + within;
        let (mut left, mut fewer) = (ranges.to_vec(), None::<Instant>);
        loop {
            let (here, there) = tokio::try_join!(self.digest(&left), other.digest(&left))?;
            let differ = differing(&here, &there);
            let now = Instant::now();
            let since = match fewer {
                Some(at) if differ.len() == left.len() => at,
                Some(_) | None => *fewer.insert(now),
            };
            left = differ;
            if left.is_empty() || now > deadline || now.duration_since(since) > UNSETTLED {
                return Ok(left);
            }
            sleep(Duration::from_millis(100)).await;
        }
    }
}

impl Snapshot {
    /// From now on it sees what there is at this moment.
    pub async fn hold(&self) -> Result<(), SqlError> {
        let doing = format!("hold a snapshot of {}", self.session.database());
        // Taken by the first query.
        run(&self.session, doing, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT 1").await
    }

    pub async fn digest(&self, ranges: &[Range]) -> Result<Digest, SqlError> {
        digest(&self.session, ranges).await
    }

    /// A snapshot that is held for long holds back vacuum on the whole server.
    pub async fn release(self) {
        self.session.close().await;
    }
}

async fn digest(session: &Maintenance, ranges: &[Range]) -> Result<Digest, SqlError> {
    let mut digest = Digest::new();
    for range in ranges {
        let found = match range.hidden {
            true => None,
            false => Some(one(session, range).await?),
        };
        digest.insert(range.clone(), found);
    }
    Ok(digest)
}

pub(super) async fn one(session: &Maintenance, range: &Range) -> Result<(i64, String), SqlError> {
    let doing = format!("digest {}", range.table);
    let hash = match range.form {
        Form::Values => "pg_catalog.hash_record_extended(t.*, 0)",
        Form::Bytes => "pg_catalog.hash_record_extended(ROW(pg_catalog.record_send(t.*)), 0)",
        Form::Text => {
            "pg_catalog.hashtextextended(pg_catalog.textin(pg_catalog.record_out(t.*)) COLLATE pg_catalog.\"C\", 0)"
        }
    };
    let sql = format!(
        "select pg_catalog.count(*), coalesce(pg_catalog.sum({hash}), 0)::pg_catalog.text from only {} t{}",
        range.table,
        range.keys.as_ref().map(Keys::condition).unwrap_or_default()
    );
    let found = rows(session, &doing, &sql, &[]).await?;
    let row = found.first().ok_or_else(|| SqlError::new(doing, SqlErrorKind::Unexpected, "no answer"))?;
    Ok((row.get(0), row.get(1)))
}

impl Form {
    pub(super) fn numbered(number: i32) -> Self {
        match number {
            0 => Self::Values,
            1 => Self::Bytes,
            _ => Self::Text,
        }
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Values => "as values",
            Self::Bytes => "as bytes",
            Self::Text => "as text",
        })
    }
}

impl Keys {
    /// From this one on; None: all of them.
    pub(super) fn upwards(column: String, from: Option<i64>) -> Self {
        Self { column, from, to: None }
    }

    fn condition(&self) -> String {
        let column = &self.column;
        let from = self.from.map(|from| format!("t.{column} operator(pg_catalog.>=) {from}"));
        let to = self.to.map(|to| format!("t.{column} operator(pg_catalog.<) {to}"));
        match from.into_iter().chain(to).collect::<Vec<_>>() {
            parts if parts.is_empty() => String::new(),
            parts => format!(" where {}", parts.join(" and ")),
        }
    }
}

/// What is not the same, or not there, on both sides. Pure.
pub fn differing(one: &Digest, other: &Digest) -> Vec<Range> {
    let ranges: BTreeSet<&Range> = one.keys().chain(other.keys()).collect();
    ranges.into_iter().filter(|range| one.get(range) != other.get(range)).cloned().collect()
}

/// Where to cut keys into so many parts of one width.
fn cuts(least: i64, most: i64, parts: i64) -> Vec<i64> {
    let (least, width) = (i128::from(least), (i128::from(most) - i128::from(least)) / i128::from(parts.max(1)) + 1);
    let cut = |at: i64| i64::try_from(least + width * i128::from(at)).ok();
    (1..parts).filter_map(cut).filter(|cut| *cut <= most).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn digest_cuts_keys_evenly() {
        assert_eq!(cuts(1, 100, 4), [26, 51, 76]);
        assert_eq!(cuts(5, 5, 3), Vec::<i64>::new());
        assert_eq!(cuts(1, 10, 0), Vec::<i64>::new());
    }

    proptest! {
        #[test]
        fn digest_cuts_rise_and_stay_within(least: i64, more in 0i64..1000, parts in 0i64..50) {
            let most = least.saturating_add(more);
            let cuts = cuts(least, most, parts);
            prop_assert!(cuts.windows(2).all(|pair| pair[0] < pair[1]));
            prop_assert!(cuts.iter().all(|cut| (least..=most).contains(cut)));
        }
    }
}
