//! What is compared while everybody waits: as much as there is time for in some milliseconds, what was changed most first. All
//! of it was compared before the fence, and is compared once more after it ([`Side::digest`]); this is the last look that can
//! still keep the other side from serving.
//!
//! How long a part takes is measured before the fence, by the sessions that read it again under it: by then they know its
//! table, and what they read is in memory. Under the fence the clock decides. What would not fit any more by what it took is
//! left out, and what takes longer than it did is given up.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::digest::{Form, Keys, Range, form, one};
use super::side::{Side, rows, run};
use crate::server::sql::error::SqlError;
use crate::server::sql::quote::ident;
use crate::server::sql::session::Maintenance;

/// Rows of a part: of a larger table those with the highest keys, which are the newest of most.
const ROWS: i64 = 2000;
/// A table without such a key is read whole; one of more rows is not even tried.
const WHOLE: i64 = 10 * ROWS;
/// Tables that are tried, and what all of that may take before the fence: so many times what there is under it.
const TABLES: i64 = 64;
const TRIED: u32 = 25;
/// The same of one reading; a table that somebody holds locked is none that there is time for.
const ONE: u32 = 5;

/// Changed since it was analyzed, then small ones; of never analyzed tables nobody knows how many rows they have.
const CANDIDATES: &str = concat!(
    "select n.nspname::text, c.relname::text, c.reltuples::int8, \
    (select a.attname::text from pg_index i join pg_attribute a on a.attrelid = c.oid and a.attnum = i.indkey[0] \
        where i.indrelid = c.oid and i.indisprimary and i.indnkeyatts = 1 and a.atttypid in (20, 21, 23)), ",
    form!(),
    " \
    from pg_class c join pg_namespace n on n.oid = c.relnamespace left join pg_stat_all_tables s on s.relid = c.oid \
    where c.relkind = 'r' and c.relpersistence = 'p' and n.nspname !~ '^pg_' and n.nspname not in ('information_schema', 'freehold') \
    and not (c.relrowsecurity and c.relforcerowsecurity) \
    and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e') \
    order by coalesce(s.n_mod_since_analyze, 0) desc, c.relpages + coalesce((select t.relpages from pg_class t where t.oid = c.reltoastrelid), 0), 1, 2 \
    limit "
);

/// Sessions on both sides, and what they have read once, with how long that took.
pub struct Glance {
    here: Maintenance,
    there: Maintenance,
    parts: Vec<(Range, Duration)>,
}

/// What a look came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Parts that were read on both sides.
    pub parts: usize,
    /// Tables of which a part is not the same.
    pub differ: Vec<String>,
}

impl Side {
    /// Before the fence: chooses, and tries, what can be read of this side and the other one within so long.
    pub async fn prepare_glance(&self, other: &Side, within: Duration) -> Result<Glance, SqlError> {
        let (here, there) = tokio::try_join!(self.session(), other.session())?;
        let limit = format!("SET statement_timeout = {}", (within * ONE).as_millis());
        for session in [&here, &there] {
            run(session, format!("look at {}", session.database()), &limit).await?;
        }
        let mut glance = Glance { here, there, parts: Vec::new() };
        let doing = format!("list the tables of {}", self.database());
        let candidates = self.admin.rows(doing, &format!("{CANDIDATES}{TABLES}"), &[]).await?;
        let (began, mut takes) = (Instant::now(), Duration::ZERO);
        for row in candidates {
            if began.elapsed() > within * TRIED {
                break;
            }
            let table = format!("{}.{}", ident(row.get(0)), ident(row.get(1)));
            let range = Range { table, keys: None, hidden: false, form: Form::numbered(row.get(4)) };
            let (count, key) = (row.get(2), row.get::<_, Option<String>>(3));
            let Some(took) = glance.try_one(range, count, key, within - takes).await? else { continue };
            takes += took;
        }
        Ok(glance)
    }
}

impl Glance {
    /// Takes it along where it is read in time. Answers how long that took.
    async fn try_one(
        &mut self,
        whole: Range,
        count: i64,
        key: Option<String>,
        left: Duration,
    ) -> Result<Option<Duration>, SqlError> {
        let range = match key {
            Some(key) if !(0..=ROWS).contains(&count) => self.newest(whole, &key).await,
            _ if count > WHOLE => return Ok(None),
            _ => Ok(whole),
        };
        // The first reading learns what its table is like; of the others the quicker one was not disturbed.
        let read = async |range: &Range| {
            self.both(range).await?;
            let mut took = Duration::MAX;
            for _ in 0..2 {
                let began = Instant::now();
                self.both(range).await?;
                took = took.min(began.elapsed());
            }
            Ok(took)
        };
        let found = match range {
            Ok(range) => read(&range).await.map(|took| (range, took)),
            Err(error) => Err(error),
        };
        match found {
            Ok((range, took)) if took <= left => {
                self.parts.push((range, took));
                Ok(Some(took))
            }
            Ok(_) => Ok(None),
            Err(error) if self.here.is_closed() || self.there.is_closed() => Err(error),
            // Locked, too slow, or gone meanwhile.
            Err(error) => {
                tracing::debug!(%error, "not compared under the fence");
                Ok(None)
            }
        }
    }

    async fn newest(&self, whole: Range, key: &str) -> Result<Range, SqlError> {
        let (column, table) = (ident(key), &whole.table);
        let sql = format!(
            "select t.{column}::pg_catalog.int8 from only {table} t order by t.{column} desc offset {} limit 1",
            ROWS - 1
        );
        let found = rows(&self.here, format!("read the keys of {table}"), &sql, &[]).await?;
        let from = found.first().map(|row| row.get(0));
        Ok(Range { keys: Some(Keys::upwards(column, from)), ..whole })
    }

    /// Both answers are waited for: a session whose answer is still to come would be late for the next one.
    async fn both(&self, range: &Range) -> Result<bool, SqlError> {
        let (here, there) = tokio::join!(one(&self.here, range), one(&self.there, range));
        Ok(here? == there?)
    }

    /// Once the mark has arrived: reads again what there is time for.
    pub async fn compare(&self, within: Duration) -> Result<Seen, SqlError> {
        let (began, mut seen) = (Instant::now(), Seen::default());
        for (range, took) in &self.parts {
            let left = within.saturating_sub(began.elapsed());
            if *took > left {
                continue;
            }
            match timeout(left, self.both(range)).await {
                Ok(same) => {
                    seen.parts += 1;
                    if !same? {
                        seen.differ.push(range.table.clone());
                    }
                }
                // Its answer is still to come: there is nothing else to ask.
                Err(_) => break,
            }
        }
        Ok(seen)
    }

    /// Whatever they are at.
    pub fn leave(self) {
        self.here.hang_up();
        self.there.hang_up();
    }
}
