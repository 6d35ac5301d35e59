//! Whether both sides are the same while nobody is let in at either: every row, unlogged tables too, large objects, and where
//! sequences stand. By several sessions on each side. Absent: materialized views, which are made anew.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, PoisonError};

use futures::future::try_join_all;
use tokio_postgres::types::Type;

use super::digest::{Range, one};
use super::large_objects::CHUNK;
use super::sequences::Sequence;
use super::side::{Side, rows};
use super::stream::{OBJECTS, Pair};
use crate::server::sql::error::SqlError;
use crate::server::sql::session::Maintenance;

enum Part {
    Rows(Range),
    Objects(Vec<u32>),
}

impl Side {
    /// What is not the same here as at `source`, by name; ranges of about so many rows at a time.
    pub async fn unlike(&self, source: &Side, about: i64, sessions: usize) -> Result<Vec<String>, SqlError> {
        let sequences = source.sequences().await?;
        self.unlike_at(source, &sequences, about, sessions).await
    }

    /// The same where sequences were at `sequences`: those of somebody else's database go on meanwhile.
    pub async fn unlike_at(
        &self,
        source: &Side,
        sequences: &[Sequence],
        about: i64,
        sessions: usize,
    ) -> Result<Vec<String>, SqlError> {
        let mut unlike = BTreeSet::new();
        if self.sequences().await? != sequences {
            unlike.insert("sequences".to_owned());
        }
        let (here, there) = tokio::try_join!(self.large_objects(), source.large_objects())?;
        if here != there {
            unlike.insert("large objects".to_owned());
        }
        // A table that only one side has shows as well: each is listed where it was made.
        let ranges = source.ranges_of(&["p", "u"], about).await?;
        // Whoever reads somebody else's reads past row security, or was refused.
        let seen = |range: Range| Range { hidden: range.hidden && !source.is_theirs(), ..range };
        let mut parts: VecDeque<Part> = ranges.into_iter().map(seen).map(Part::Rows).collect();
        parts.extend(there.chunks(OBJECTS).map(|oids| Part::Objects(oids.to_vec())));
        let mut pairs = Vec::new();
        for _ in 0..sessions.min(parts.len()).max(1) {
            pairs.push(match source.snapshot() {
                Some(snapshot) => Pair::open(source, self, Some(snapshot)).await?,
                None => Pair::connect(source, self).await?,
            });
        }
        let queue = Mutex::new(parts);
        let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let work = pairs.iter().map(|pair| async move {
            let mut found = Vec::new();
            while let Some(part) = next() {
                found.extend(differs(&pair.from, &pair.to, part).await?);
            }
            Ok::<Vec<String>, SqlError>(found)
        });
        unlike.extend(try_join_all(work).await?.into_iter().flatten());
        pairs.into_iter().for_each(Pair::leave);
        Ok(unlike.into_iter().collect())
    }
}

/// What cannot be read is not the same.
async fn differs(from: &Maintenance, to: &Maintenance, part: Part) -> Result<Option<String>, SqlError> {
    match part {
        Part::Rows(range) if range.hidden => Ok(Some(range.table)),
        Part::Rows(range) => {
            let (left, right) = tokio::try_join!(one(from, &range), one(to, &range))?;
            Ok((left != right).then_some(range.table))
        }
        Part::Objects(oids) => {
            let (left, right) = tokio::try_join!(objects(from, &oids), objects(to, &oids))?;
            Ok((left != right).then(|| "large objects".to_owned()))
        }
    }
}

/// Part by part: none has to fit in memory.
async fn objects(session: &Maintenance, oids: &Vec<u32>) -> Result<BTreeMap<u32, String>, SqlError> {
    let sql = format!(
        "select o.oid, (select coalesce(pg_catalog.string_agg(pg_catalog.md5(pg_catalog.lo_get(o.oid, at * {CHUNK}, {CHUNK})), '' order by at), '') \
         from pg_catalog.generate_series(0::int8, pg_catalog.lo_lseek64(pg_catalog.lo_open(o.oid, 262144), 0, 2) / {CHUNK}) at) \
         from unnest($1) as o (oid) where exists (select from pg_catalog.pg_largeobject_metadata m where m.oid = o.oid)"
    );
    let found = rows(session, "digest large objects", &sql, &[(oids, Type::OID_ARRAY)]).await?;
    Ok(found.iter().map(|row| (row.get(0), row.get(1))).collect())
}
