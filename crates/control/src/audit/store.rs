//! All SQL about the audit's chain. Absent: updates of what an event says, but for a redaction, and deletes, which are
//! retention's.

use freehold_api::audit::ListAudit;
use freehold_chain::{End, Hash, Record, Salt};
use jiff_sqlx::{Timestamp, ToSqlx};
use sqlx::{PgConnection, PgExecutor, PgPool, Postgres, QueryBuilder, Transaction};
use uuid::Uuid;

/// A time that is none, or that nothing but a store can write, is read as null.
macro_rules! columns {
    () => {
        "seq, id, CASE WHEN at >= timestamptz '0001-01-01' AND at < timestamptz '9999-12-30' THEN at END AS at,
            actor, actor_name, action, subject, outcome, reason, request_id, client, details::text AS details,
            place, previous, hash, salt, redacted"
    };
}
pub(super) use columns;

macro_rules! record {
    () => {
        concat!("SELECT ", columns!(), " FROM audit ")
    };
}

/// Whether somebody holds it.
macro_rules! held {
    () => {
        "EXISTS (SELECT FROM audit_hold h WHERE (h.subject IS NULL OR h.subject = audit.subject)
            AND (h.actor IS NULL OR h.actor = audit.actor) AND (h.since IS NULL OR audit.at >= h.since)
            AND (h.until IS NULL OR audit.at < h.until))"
    };
}
pub(super) use held;

/// An event as it is sealed, or is to be.
#[derive(Debug, sqlx::FromRow)]
pub struct RecordRow {
    seq: i64,
    id: Uuid,
    at: Option<Timestamp>,
    actor: String,
    actor_name: Option<String>,
    action: String,
    subject: Option<String>,
    outcome: String,
    reason: Option<String>,
    request_id: Option<String>,
    client: Option<String>,
    details: String,
    place: Option<i64>,
    previous: Option<Vec<u8>>,
    hash: Option<Vec<u8>>,
    salt: Option<Vec<u8>>,
    redacted: Option<Vec<u8>>,
}

impl From<RecordRow> for Record {
    fn from(row: RecordRow) -> Self {
        // Nobody but who bends the store writes such a time, before or after it is sealed: it fits no hash.
        let hash = row.hash.filter(|_| row.at.is_some());
        Self {
            place: row.place.unwrap_or(0),
            seq: row.seq,
            id: row.id,
            at: row.at.map_or(jiff::Timestamp::MIN, Timestamp::to_jiff),
            actor: row.actor,
            actor_name: row.actor_name,
            action: row.action,
            subject: row.subject,
            outcome: row.outcome,
            reason: row.reason,
            request_id: row.request_id,
            client: row.client,
            details: row.details,
            salt: Salt::of(&row.salt.unwrap_or_default()),
            previous: Hash::of(&row.previous.unwrap_or_default()),
            redacted: row.redacted.map(|hash| Hash::of(&hash)),
            hash: Hash::of(&hash.unwrap_or_default()),
        }
    }
}

#[derive(Debug, Clone, sqlx::FromRow)]
pub struct EndRow {
    pub store: Uuid,
    pub place: i64,
    hash: Vec<u8>,
    /// How far the last checkpoint reached.
    pub checkpoint_place: i64,
    /// The store's time.
    pub now: Timestamp,
}

impl EndRow {
    pub fn hash(&self) -> Hash {
        Hash::of(&self.hash)
    }
}

/// None: somebody has removed it.
pub async fn end(store: impl PgExecutor<'_>) -> sqlx::Result<Option<EndRow>> {
    sqlx::query_as("SELECT *, now() AS now FROM audit_end").fetch_optional(store).await
}

/// Whoever seals waits here for whoever else does.
pub async fn lock_end(tx: &mut PgConnection) -> sqlx::Result<Option<EndRow>> {
    sqlx::query_as("SELECT *, now() AS now FROM audit_end FOR UPDATE").fetch_optional(tx).await
}

/// One look at the end and at all that comes before it, while more is sealed.
pub async fn look(store: &PgPool) -> sqlx::Result<Transaction<'static, Postgres>> {
    let mut tx = store.begin().await?;
    sqlx::query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY").execute(&mut *tx).await?;
    Ok(tx)
}

/// Reads only: an idle second costs the store one look into an index that is empty.
pub async fn has_to_seal(store: &PgPool) -> sqlx::Result<bool> {
    sqlx::query_scalar("SELECT EXISTS (SELECT FROM audit WHERE place IS NULL)").fetch_one(store).await
}

/// What is committed and has no place yet, whenever it was begun.
pub async fn to_seal(tx: &mut PgConnection, limit: i64) -> sqlx::Result<Vec<RecordRow>> {
    let sql = concat!(record!(), "WHERE place IS NULL ORDER BY seq LIMIT $1");
    sqlx::query_as(sql).bind(limit).fetch_all(tx).await
}

pub async fn not_sealed(tx: &mut PgConnection, id: Uuid) -> sqlx::Result<Vec<RecordRow>> {
    let sql = concat!(record!(), "WHERE place IS NULL AND id = $1");
    sqlx::query_as(sql).bind(id).fetch_all(tx).await
}

/// How many got their place: those that have none.
pub async fn seal(tx: &mut PgConnection, records: &[Record]) -> sqlx::Result<u64> {
    let sql = "UPDATE audit a SET place = s.place, previous = s.previous, hash = s.hash, salt = s.salt
        FROM unnest($1::bigint[], $2::bigint[], $3::bytea[], $4::bytea[], $5::bytea[]) AS s (seq, place, previous, hash, salt)
        WHERE a.seq = s.seq AND a.place IS NULL";
    let (seqs, places): (Vec<i64>, Vec<i64>) = records.iter().map(|record| (record.seq, record.place)).unzip();
    let done = sqlx::query(sql)
        .bind(seqs)
        .bind(places)
        .bind(records.iter().map(|record| record.previous.0.to_vec()).collect::<Vec<Vec<u8>>>())
        .bind(records.iter().map(|record| record.hash.0.to_vec()).collect::<Vec<Vec<u8>>>())
        .bind(records.iter().map(|record| record.salt.0.to_vec()).collect::<Vec<Vec<u8>>>())
        .execute(tx)
        .await?;
    Ok(done.rows_affected())
}

pub async fn move_end(tx: &mut PgConnection, end: End) -> sqlx::Result<()> {
    let sql = "UPDATE audit_end SET place = $1, hash = $2";
    sqlx::query(sql).bind(end.place).bind(end.hash.0.to_vec()).execute(tx).await.map(drop)
}

/// Where a page ended. The place alone would not do: one that was put in shares it with another.
#[derive(Debug, Clone, Copy)]
pub struct At {
    pub place: i64,
    pub seq: i64,
}

impl At {
    /// Before everything, also before what stands where nothing should.
    pub const BEGIN: Self = Self { place: i64::MIN, seq: i64::MIN };

    /// Before everything at the places after this one.
    pub fn end_of(place: i64) -> Self {
        Self { place, seq: i64::MAX }
    }

    pub fn of(record: &Record) -> Self {
        Self { place: record.place, seq: record.seq }
    }
}

/// Sealed ones, in the order of their places.
pub async fn after(tx: &mut PgConnection, at: At, limit: i64) -> sqlx::Result<Vec<RecordRow>> {
    let sql = concat!(record!(), "WHERE place >= $1 AND (place, seq) > ($1, $2) ORDER BY place, seq LIMIT $3");
    sqlx::query_as(sql).bind(at.place).bind(at.seq).bind(limit).fetch_all(tx).await
}

/// The events that tell of redactions: few, and they come after what they tell of.
pub async fn redactions(tx: &mut PgConnection) -> sqlx::Result<Vec<RecordRow>> {
    let sql = concat!(record!(), "WHERE action = $1 AND place IS NOT NULL ORDER BY place");
    sqlx::query_as(sql).bind(freehold_chain::REDACT).fetch_all(tx).await
}

/// None: nothing stands there.
pub async fn hash_at(store: impl PgExecutor<'_>, place: i64) -> sqlx::Result<Option<Hash>> {
    let sql = "SELECT hash FROM audit WHERE place = $1 ORDER BY seq LIMIT 1";
    let hash: Option<Option<Vec<u8>>> = sqlx::query_scalar(sql).bind(place).fetch_optional(store).await?;
    Ok(hash.map(|hash| Hash::of(&hash.unwrap_or_default())))
}

/// One page of an export: sealed events up to a place that are chosen.
pub async fn chosen(store: &PgPool, choice: &ListAudit, at: At, upto: i64, limit: i64) -> sqlx::Result<Vec<RecordRow>> {
    let mut sql: QueryBuilder<Postgres> = QueryBuilder::new(concat!(record!(), "WHERE place >= "));
    sql.push_bind(at.place).push(" AND (place, seq) > (").push_bind(at.place).push(", ").push_bind(at.seq);
    sql.push(") AND place <= ").push_bind(upto);
    choose(&mut sql, choice);
    sql.push(" ORDER BY place, seq LIMIT ").push_bind(limit);
    sql.build_query_as().fetch_all(store).await
}

/// Sealed events that are chosen and can be redacted: what the audit says of itself cannot.
fn redactable(sql: &mut QueryBuilder<Postgres>, id: Option<Uuid>, choice: &ListAudit) {
    sql.push(" WHERE place IS NOT NULL AND redacted IS NULL AND action NOT LIKE 'audit.%'");
    if let Some(id) = id {
        sql.push(" AND id = ").push_bind(id);
    }
    choose(sql, choice);
}

pub async fn to_redact(
    tx: &mut PgConnection,
    id: Option<Uuid>,
    choice: &ListAudit,
    limit: i64,
) -> sqlx::Result<Vec<RecordRow>> {
    let mut sql: QueryBuilder<Postgres> = QueryBuilder::new(record!());
    redactable(&mut sql, id, choice);
    sql.push(concat!(" AND NOT ", held!(), " ORDER BY place, seq LIMIT ")).push_bind(limit);
    sql.build_query_as().fetch_all(tx).await
}

/// Those among them that somebody holds.
pub async fn held_back(tx: &mut PgConnection, id: Option<Uuid>, choice: &ListAudit) -> sqlx::Result<i64> {
    let mut sql: QueryBuilder<Postgres> = QueryBuilder::new("SELECT count(*) FROM audit");
    redactable(&mut sql, id, choice);
    sql.push(concat!(" AND ", held!()));
    sql.build_query_scalar().fetch_one(tx).await
}

/// How many were redacted: those that were not.
pub async fn redact(tx: &mut PgConnection, records: &[Record]) -> sqlx::Result<u64> {
    let sql = "UPDATE audit a SET actor_name = NULL, client = NULL, details = '{}', salt = NULL, redacted = r.redacted
        FROM unnest($1::bigint[], $2::bytea[]) AS r (seq, redacted) WHERE a.seq = r.seq AND a.redacted IS NULL";
    let hashes = records.iter().map(|record| record.redacted.map(|hash| hash.0.to_vec()));
    let done = sqlx::query(sql)
        .bind(records.iter().map(|record| record.seq).collect::<Vec<i64>>())
        .bind(hashes.collect::<Vec<Option<Vec<u8>>>>())
        .execute(tx)
        .await?;
    Ok(done.rows_affected())
}

/// The conditions of a list of events; its limit and cursor are the caller's.
pub fn choose(sql: &mut QueryBuilder<Postgres>, choice: &ListAudit) {
    for (column, value) in [
        (" AND actor = ", choice.actor.as_deref()),
        (" AND action = ", choice.action.as_deref()),
        (" AND subject = ", choice.subject.as_deref()),
        (" AND outcome = ", choice.outcome.map(|outcome| outcome.as_str())),
        (" AND request_id = ", choice.request_id.as_deref()),
    ] {
        if let Some(value) = value {
            sql.push(column).push_bind(value.replace('\0', ""));
        }
    }
    if let Some(since) = choice.since {
        sql.push(" AND at >= ").push_bind(since.to_sqlx());
    }
    if let Some(until) = choice.until {
        sql.push(" AND at < ").push_bind(until.to_sqlx());
    }
}

/// What waits to be sealed.
#[derive(Debug, Clone, Copy, sqlx::FromRow)]
pub struct Unsealed {
    pub count: i64,
    /// Of the oldest; 0 where nothing waits.
    pub seconds: f64,
    /// Those that wait for longer than a minute.
    pub late: i64,
}

pub async fn unsealed(store: impl PgExecutor<'_>) -> sqlx::Result<Unsealed> {
    let sql = "SELECT count(*) AS count, coalesce(extract(epoch FROM now() - min(at) FILTER (WHERE isfinite(at))), 0)::float8 AS seconds,
        count(*) FILTER (WHERE at < now() - interval '1 minute') AS late FROM audit WHERE place IS NULL";
    sqlx::query_as(sql).fetch_one(store).await
}

/// A checkpoint was written, outside. Never back: a process that hung may be late with an older one.
pub async fn anchored(store: &PgPool, place: i64, at: jiff::Timestamp) -> sqlx::Result<()> {
    let sql = "UPDATE audit_end SET checkpoint_place = $1, checkpoint_at = $2 WHERE checkpoint_place < $1";
    sqlx::query(sql).bind(place).bind(at.to_sqlx()).execute(store).await.map(drop)
}
