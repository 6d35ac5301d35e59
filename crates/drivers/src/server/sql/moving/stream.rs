//! All rows and large objects of one side into the other, while nobody writes: several tables at once, the largest ones in
//! several pieces, all of them as of one exported snapshot. As the maintenance login on both sides; the target has neither
//! keys nor triggers yet.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use futures::future::try_join_all;
use futures::{SinkExt, TryStreamExt};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::large_objects::carry_one;
use super::side::{Side, rows, run};
use crate::server::sql::error::SqlError;
use crate::server::sql::quote::{ident, idents, literal};
use crate::server::sql::session::Maintenance;

/// Of a table that is larger, so many bytes are a piece of their own.
const PIECE: i64 = 256 << 20;
/// Large objects in one transaction: each holds a lock when it goes again.
pub(super) const OBJECTS: usize = 500;
/// Tables that are emptied by one transaction, which holds them locked.
const EMPTIED: usize = 200;
/// Rows are handed on in parts of about so many bytes.
const PART: usize = 64 << 10;

const TABLES: &str = "select n.nspname::text, c.relname::text, pg_relation_size(c.oid), coalesce(m.amname = 'heap', false), \
    (select array_agg(a.attname::text order by a.attnum) from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated = '') \
    from pg_class c join pg_namespace n on n.oid = c.relnamespace left join pg_am m on m.oid = c.relam \
    where c.relkind = 'r' and c.relpersistence in ('p', 'u') and n.nspname !~ '^pg_' and n.nspname not in ('information_schema', 'freehold') \
    and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e') \
    order by pg_table_size(c.oid) desc, 1, 2";

/// What one session of each side carries at a time.
#[derive(Debug, Clone, PartialEq)]
enum Piece {
    /// A table, by the SQL that reads it and the one that writes it.
    Rows {
        table: String,
        out: String,
        into: String,
    },
    Objects(Vec<u32>),
}

impl Side {
    /// Here, which is the target: all that `source` has, by so many sessions. What a run before this one left is removed first.
    pub async fn stream(&self, source: &Side, sessions: usize) -> Result<(), SqlError> {
        let doing = format!("copy the rows of {}", self.database());
        self.empty(&doing).await?;
        let sql = "select pg_encoding_to_char(encoding), current_setting('block_size')::int8 from pg_database where datname = current_database()";
        let settings = source.admin.row(&doing, sql, &[]).await?;
        let (encoding, block): (String, i64) = (settings.get(0), settings.get(1));
        let tables = source.admin.rows(&doing, TABLES, &[]).await?;
        let mut pieces: VecDeque<Piece> = tables.iter().flat_map(|row| pieces(row, &encoding, block)).collect();
        pieces.extend(source.large_objects().await?.chunks(OBJECTS).map(|oids| Piece::Objects(oids.to_vec())));
        let mut pairs: Vec<Pair> = Vec::new();
        let mut snapshot = source.snapshot().map(str::to_owned);
        for _ in 0..sessions.min(pieces.len()).max(1) {
            let pair = Pair::open(source, self, snapshot.as_deref()).await?;
            if snapshot.is_none() {
                let found = rows(&pair.from, &doing, "select pg_catalog.pg_export_snapshot()", &[]).await?;
                snapshot = found.first().map(|row| row.get::<_, String>(0));
            }
            pairs.push(pair);
        }
        let queue = Mutex::new(pieces);
        let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let work = pairs.iter().map(|pair| async move {
            while let Some(piece) = next() {
                pair.carry(&piece).await?;
            }
            Ok::<(), SqlError>(())
        });
        try_join_all(work).await?;
        pairs.into_iter().for_each(Pair::leave);
        self.describe_large_objects(source, &doing).await
    }

    /// No setting ends its two sessions, however long others work meanwhile.
    pub async fn stay(&self) -> Result<(), SqlError> {
        unhurry(&self.maintenance).await?;
        let doing = format!("stay in {}", self.database());
        self.admin.rows(doing, UNHURRY, &[(&ENDS.as_slice(), Type::TEXT_ARRAY)]).await.map(drop)
    }

    async fn empty(&self, doing: &str) -> Result<(), SqlError> {
        let found = self.admin.rows(doing, TABLES, &[]).await?;
        let filled = found.iter().filter(|row| row.get::<_, i64>(2) > 0);
        let names: Vec<String> = filled.map(|row| format!("ONLY {}", name(row))).collect();
        for some in names.chunks(EMPTIED) {
            self.run(doing, &format!("TRUNCATE {}", some.join(", "))).await?;
        }
        let unlink = format!(
            "select pg_catalog.count(pg_catalog.lo_unlink(oid)) from (select oid from pg_catalog.pg_largeobject_metadata limit {OBJECTS}) o"
        );
        while self.rows(doing, &unlink, &[]).await?.first().is_some_and(|row| row.get::<_, i64>(0) > 0) {}
        Ok(())
    }
}

fn name(row: &Row) -> String {
    format!("{}.{}", ident(row.get(0)), ident(row.get(1)))
}

/// One table; of a large one, ranges of its blocks, the last of which has no end.
fn pieces(row: &Row, encoding: &str, block: i64) -> Vec<Piece> {
    let columns: Vec<String> = row.get::<_, Option<Vec<String>>>(4).unwrap_or_default();
    let splits = row.get::<_, bool>(3) && !columns.is_empty();
    let cuts = if splits { cuts(row.get(2), block) } else { Vec::new() };
    statements(&name(row), &columns, &cuts, encoding)
}

/// The blocks at which a table of so many bytes is cut.
fn cuts(bytes: i64, block: i64) -> Vec<i64> {
    let each = (PIECE / block.max(1)).max(1);
    (1..bytes / PIECE).map(|at| at * each).collect()
}

fn statements(table: &str, columns: &[String], cuts: &[i64], encoding: &str) -> Vec<Piece> {
    let list = idents(columns.iter().map(String::as_str));
    // Without a column there is nothing to list.
    let named = if columns.is_empty() { String::new() } else { format!(" ({list})") };
    let how = format!("WITH (ENCODING {})", literal(encoding));
    let into = format!("COPY {table}{named} FROM STDIN {how}");
    let piece = |out: String| Piece::Rows { table: table.to_owned(), out, into: into.clone() };
    if cuts.is_empty() {
        return vec![piece(format!("COPY {table}{named} TO STDOUT {how}"))];
    }
    let from = std::iter::once(None).chain(cuts.iter().map(Some));
    let to = cuts.iter().map(Some).chain(std::iter::once(None));
    let condition =
        |operator: &str, at: &i64| format!("ctid OPERATOR(pg_catalog.{operator}) '({at},0)'::pg_catalog.tid");
    let ranges = from.zip(to).map(|(from, to)| {
        let ends = from.map(|at| condition(">=", at)).into_iter().chain(to.map(|at| condition("<", at)));
        let rows = ends.collect::<Vec<_>>().join(" AND ");
        piece(format!("COPY (SELECT {list} FROM ONLY {table} WHERE {rows}) TO STDOUT {how}"))
    });
    ranges.collect()
}

/// A session on each side. Given up in the middle of a copy they are hung up, so that neither server goes on with it.
pub(super) struct Pair {
    pub(super) from: Maintenance,
    pub(super) to: Maintenance,
    idle: bool,
}

impl Drop for Pair {
    fn drop(&mut self) {
        if !self.idle {
            self.from.hang_up();
            self.to.hang_up();
        }
    }
}

impl Pair {
    /// `snapshot` is one that another session of the source holds.
    pub(super) async fn open(source: &Side, target: &Side, snapshot: Option<&str>) -> Result<Self, SqlError> {
        let pair = Self::connect(source, target).await?;
        let seen = snapshot.map(|name| format!("; SET TRANSACTION SNAPSHOT {}", literal(name))).unwrap_or_default();
        let begin = format!("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY{seen}");
        run(&pair.from, "hold a snapshot of the source", &begin).await?;
        // ANALYZE comes later, and is on disk with all that was before it.
        run(&pair.to, "prepare to copy", "SET synchronous_commit = off; SET xmloption = content").await?;
        Ok(pair)
    }

    /// Sessions that no setting of the database ends.
    pub(super) async fn connect(source: &Side, target: &Side) -> Result<Self, SqlError> {
        let (from, to) = tokio::try_join!(unhurried(source), unhurried(target))?;
        Ok(Self { from, to, idle: false })
    }

    /// There is nothing more to carry.
    pub(super) fn leave(mut self) {
        self.idle = true;
    }

    async fn carry(&self, piece: &Piece) -> Result<(), SqlError> {
        let (from, to) = (&self.from, &self.to);
        match piece {
            Piece::Rows { table, out, into } => carry_rows(from, to, table, out, into).await,
            Piece::Objects(oids) => {
                let doing = "copy large objects";
                run(to, doing, "BEGIN").await?;
                for oid in oids {
                    carry_one(from, to, doing, *oid, u64::MAX).await?;
                }
                run(to, doing, "COMMIT").await
            }
        }
    }
}

async fn unhurried(side: &Side) -> Result<Maintenance, SqlError> {
    let session = side.session().await?;
    unhurry(&session).await?;
    Ok(session)
}

/// By which a server ends a session that does nothing, or is at it for too long. Each version has its own of them.
const ENDS: [&str; 2] = ["idle_session_timeout", "transaction_timeout"];
const UNHURRY: &str = "select pg_catalog.set_config(name, '0', false) from pg_catalog.pg_settings where name = any($1)";

pub(super) async fn unhurry(session: &Maintenance) -> Result<(), SqlError> {
    let doing = format!("work in {}", session.database());
    rows(session, doing, UNHURRY, &[(&ENDS.as_slice(), Type::TEXT_ARRAY)]).await.map(drop)
}

async fn carry_rows(from: &Maintenance, to: &Maintenance, table: &str, out: &str, into: &str) -> Result<(), SqlError> {
    let failed = |error| SqlError::from_pg(format!("copy {table}"), error);
    let out = from.client().copy_out(out).await.map_err(failed)?;
    let into = to.client().copy_in(into).await.map_err(failed)?;
    let (mut out, mut into) = (std::pin::pin!(out), std::pin::pin!(into));
    let mut part: Vec<u8> = Vec::with_capacity(PART);
    while let Some(row) = out.try_next().await.map_err(failed)? {
        part.extend_from_slice(&row);
        if part.len() >= PART {
            let full = std::mem::replace(&mut part, Vec::with_capacity(PART));
            into.feed(std::io::Cursor::new(full)).await.map_err(failed)?;
        }
    }
    into.feed(std::io::Cursor::new(part)).await.map_err(failed)?;
    into.finish().await.map(drop).map_err(failed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn outs(columns: &[&str], cuts: &[i64]) -> Vec<String> {
        let columns: Vec<String> = columns.iter().map(|name| (*name).to_owned()).collect();
        let out = |piece| match piece {
            Piece::Rows { out, .. } => out,
            Piece::Objects(_) => String::new(),
        };
        statements("\"a\".\"b\"", &columns, cuts, "UTF8").into_iter().map(out).collect()
    }

    #[test]
    fn stream_reads_small_tables_whole_and_large_ones_by_blocks() {
        assert_eq!(outs(&[], &[]), ["COPY \"a\".\"b\" TO STDOUT WITH (ENCODING 'UTF8')"]);
        assert_eq!(outs(&["x"], &[]), ["COPY \"a\".\"b\" (\"x\") TO STDOUT WITH (ENCODING 'UTF8')"]);
        let found = outs(&["x"], &[7, 14]);
        let at =
            |operator: &str, block: i64| format!("ctid OPERATOR(pg_catalog.{operator}) '({block},0)'::pg_catalog.tid");
        let wanted = [at("<", 7), format!("{} AND {}", at(">=", 7), at("<", 14)), at(">=", 14)];
        assert_eq!(found.len(), 3);
        for (found, rows) in found.iter().zip(wanted) {
            let wanted =
                format!("COPY (SELECT \"x\" FROM ONLY \"a\".\"b\" WHERE {rows}) TO STDOUT WITH (ENCODING 'UTF8')");
            assert_eq!(*found, wanted);
        }
    }

    proptest! {
        /// No piece is much larger than another, and the ranges rise.
        #[test]
        fn stream_cuts_large_tables_evenly(bytes in 0i64..(1 << 44), power in 10u32..16) {
            let block = 1i64 << power;
            let cuts = cuts(bytes, block);
            prop_assert!(cuts.windows(2).all(|two| (two[1] - two[0]) * block == PIECE));
            let last = cuts.last().copied().unwrap_or(0) * block;
            prop_assert!(last <= bytes && bytes - last < 2 * PIECE);
        }
    }
}
