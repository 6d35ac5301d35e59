//! All SQL about the head of the chain: what of it may go, and where the chain begins since.

use freehold_chain::{Checkpoint, Hash, Record};
use jiff_sqlx::{Timestamp, ToSqlx};
use sqlx::{PgConnection, PgExecutor, PgPool};
use uuid::Uuid;

use crate::audit::store::{RecordRow, columns, held};

/// An event that may be removed, or one that keeps all that come after it.
#[derive(sqlx::FromRow)]
pub struct Head {
    #[sqlx(flatten)]
    row: RecordRow,
    pub goes: bool,
}

impl Head {
    pub fn into_record(self) -> Record {
        self.row.into()
    }
}

/// By whole days, so that there is one event a day that says what went.
macro_rules! goes {
    () => {
        concat!("(at < date_trunc('day', now(), 'UTC') - make_interval(days => $1) AND NOT ", held!(), ")")
    };
}

/// Whether the first event may go. Reads only.
pub async fn goes(store: &PgPool, days: u32) -> sqlx::Result<bool> {
    let sql = concat!("SELECT ", goes!(), " FROM audit WHERE place IS NOT NULL ORDER BY place LIMIT 1");
    let goes: Option<bool> =
        sqlx::query_scalar(sql).bind(i32::try_from(days).unwrap_or(i32::MAX)).fetch_optional(store).await?;
    Ok(goes.unwrap_or(false))
}

/// The first events, before a place that nothing is removed from on.
pub async fn head(tx: &mut PgConnection, days: u32, before: i64, limit: i64) -> sqlx::Result<Vec<Head>> {
    let sql = concat!(
        "SELECT ",
        columns!(),
        ", ",
        goes!(),
        " AS goes FROM audit WHERE place < $2 ORDER BY place, seq LIMIT $3"
    );
    let days = i32::try_from(days).unwrap_or(i32::MAX);
    sqlx::query_as(sql).bind(days).bind(before).bind(limit).fetch_all(tx).await
}

pub async fn remove(tx: &mut PgConnection, upto: i64) -> sqlx::Result<u64> {
    Ok(sqlx::query("DELETE FROM audit WHERE place <= $1").bind(upto).execute(tx).await?.rows_affected())
}

#[derive(Debug, sqlx::FromRow)]
pub struct BeginningRow {
    pub place: i64,
    hash: Vec<u8>,
    at: Timestamp,
    key: String,
    signature: String,
    /// It was written outside of the store.
    pub anchored: bool,
}

impl BeginningRow {
    /// Whoever signed it.
    pub fn checkpoint(self, store: Uuid) -> Checkpoint {
        let Self { place, hash, at, key, signature, anchored: _ } = self;
        Checkpoint { store, place, hash: Hash::of(&hash), at: at.to_jiff(), begins: true, key, signature }
    }
}

pub async fn beginning(store: impl PgExecutor<'_>) -> sqlx::Result<Option<BeginningRow>> {
    let sql = "SELECT place, hash, at, key, signature, anchored FROM audit_beginning";
    sqlx::query_as(sql).fetch_optional(store).await
}

pub async fn begin_after(tx: &mut PgConnection, beginning: &Checkpoint) -> sqlx::Result<()> {
    let Checkpoint { store: _, place, hash, at, begins: _, key, signature } = beginning;
    let sql = "INSERT INTO audit_beginning (place, hash, at, key, signature) VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (one) DO UPDATE SET place = excluded.place, hash = excluded.hash, at = excluded.at, key = excluded.key,
            signature = excluded.signature, anchored = false";
    let insert = sqlx::query(sql).bind(place).bind(hash.0.to_vec()).bind(at.to_sqlx()).bind(key).bind(signature);
    insert.execute(tx).await.map(drop)
}

/// It was written, outside; unless another one has taken its place.
pub async fn anchored(store: &PgPool, place: i64) -> sqlx::Result<()> {
    let sql = "UPDATE audit_beginning SET anchored = true WHERE place = $1";
    sqlx::query(sql).bind(place).execute(store).await.map(drop)
}
