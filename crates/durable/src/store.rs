//! The SQL by which an operation is started, claimed and advanced. Every write of a worker is guarded by its epoch.

use std::time::Duration;

use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{FromRow, PgConnection, PgExecutor, PgPool, Row};
use uuid::Uuid;

use crate::erased::RawStep;
use crate::operation::New;
use crate::row::{OperationError, OperationRow, Progress, State};

/// A row that this process holds, and what the store knew when it was written.
#[derive(Debug)]
pub(crate) struct Held {
    pub row: OperationRow,
    /// Seconds to the deadline, by the store's clock.
    pub left: Option<f64>,
    pub frozen: bool,
    /// Claimed from a holder whose lease ran out.
    pub abandoned: bool,
}

impl Held {
    pub(crate) fn overdue(&self) -> bool {
        self.left.is_some_and(|left| left <= 0.0)
    }
}

impl FromRow<'_, PgRow> for Held {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            row: OperationRow::from_row(row)?,
            left: row.try_get("left_seconds")?,
            frozen: row.try_get("frozen")?,
            abandoned: row.try_get("abandoned")?,
        })
    }
}

/// What to claim: a kind, the definition that is understood, and how many there is room for.
pub(crate) struct Room {
    pub kind: &'static str,
    pub definition: i32,
    pub room: usize,
}

/// Takes what is due. Raises the epoch and counts the attempt before anything runs.
///
/// A row of another definition is left for a minute to processes that know it (a roll-out, or a roll-back), then taken and parked.
pub(crate) async fn claim(
    pool: &PgPool,
    holder: &str,
    lease: Duration,
    rooms: &[Room],
) -> Result<Vec<Held>, sqlx::Error> {
    let kinds: Vec<&str> = rooms.iter().map(|room| room.kind).collect();
    let definitions: Vec<i32> = rooms.iter().map(|room| room.definition).collect();
    let limits: Vec<i32> = rooms.iter().map(|room| i32::try_from(room.room).unwrap_or(i32::MAX)).collect();
    sqlx::query_as(
        "with brake as materialized (
             select exists (select from \"freeze\" where target in ('operations', 'all') and (until is null or until > now())) as is_on
         ), due as (
             select d.id, d.abandoned
             from brake cross join unnest($1::text[], $2::int[], $3::int[]) as k (kind, definition, room)
             cross join lateral (
                 select o.id, o.lease_until is not null as abandoned
                 from operation o
                 where o.kind = k.kind
                   and o.state in ('queued', 'running', 'waiting', 'undoing')
                   and coalesce(o.lease_until, o.next_run_at) <= now()
                   and (o.urgent or not brake.is_on)
                   and (o.definition = k.definition or coalesce(o.lease_until, o.next_run_at) < now() - interval '1 minute')
                 order by coalesce(o.lease_until, o.next_run_at)
                 limit k.room
                 for update skip locked
             ) d
         )
         update operation o
         set state = case when o.undo_reason is null then 'running' else 'undoing' end,
             epoch = o.epoch + 1, attempt = o.attempt + 1, holder = $4,
             lease_until = clock_timestamp() + make_interval(secs => $5), updated_at = now()
         from due
         where o.id = due.id
         returning o.*, extract(epoch from o.deadline - now())::float8 as left_seconds, false as frozen, due.abandoned",
    )
    .bind(kinds)
    .bind(definitions)
    .bind(limits)
    .bind(holder)
    .bind(lease.as_secs_f64())
    .fetch_all(pool)
    .await
}

/// A change of a held operation. Always of state, attempt, lease and time; of the rest what is given.
#[derive(Debug)]
pub(crate) struct Change<'a> {
    pub state: State,
    pub step: Option<&'a RawStep>,
    pub attempt: u32,
    pub new_epoch: bool,
    /// Some: still held.
    pub lease: Option<Duration>,
    pub delay: Duration,
    pub error: Option<&'a OperationError>,
    pub undo_reason: Option<&'static str>,
    pub failed_error: Option<&'a OperationError>,
    pub event: Option<&'static str>,
}

/// None: the epoch moved on.
pub(crate) async fn change(
    db: impl PgExecutor<'_>,
    id: Uuid,
    epoch: i64,
    change: &Change<'_>,
) -> Result<Option<Held>, sqlx::Error> {
    sqlx::query_as(
        "with op as (
             update operation
             set state = $3, step = coalesce($4, step), step_name = coalesce($5, step_name), attempt = $6,
                 epoch = epoch + case when $7 then 1 else 0 end,
                 holder = case when $8::float8 is not null then holder end,
                 lease_until = clock_timestamp() + make_interval(secs => $8::float8),
                 -- It wakes for its deadline and for a cancel, to be undone; least() passes over nulls.
                 next_run_at = case when coalesce($11, undo_reason) is not null then now() + make_interval(secs => $9)
                                    when cancel_requested then now()
                                    else least(now() + make_interval(secs => $9), deadline) end,
                 error = $10, undo_reason = coalesce($11, undo_reason), failed_error = coalesce($12, failed_error),
                 progress = case when $4::jsonb is null then progress end,
                 finished_at = case when $3 in ('succeeded', 'failed', 'cancelled') then now() end,
                 updated_at = now()
             where id = $1 and epoch = $2 and state in ('running', 'undoing')
             returning *
         ), told as (
             insert into operation_event (operation, kind, state, step_name, attempt, epoch, error)
             select id, $13, state, step_name, attempt, epoch, error from op where $13::text is not null
         )
         select op.*, extract(epoch from deadline - now())::float8 as left_seconds, false as abandoned,
                not op.urgent and exists (
                    select from \"freeze\" where target in ('operations', 'all') and (until is null or until > now())) as frozen
         from op",
    )
    .bind(id)
    .bind(epoch)
    .bind(change.state.as_str())
    .bind(change.step.map(|step| &step.json))
    .bind(change.step.map(|step| step.name))
    .bind(i32::try_from(change.attempt).unwrap_or(i32::MAX))
    .bind(change.new_epoch)
    .bind(change.lease.map(|lease| lease.as_secs_f64()))
    .bind(change.delay.as_secs_f64())
    .bind(change.error.map(Json))
    .bind(change.undo_reason)
    .bind(change.failed_error.map(Json))
    .bind(change.event)
    .fetch_optional(db)
    .await
}

/// Renews a lease; answers the seconds to the deadline. None: the epoch moved on.
pub(crate) async fn renew(
    pool: &PgPool,
    id: Uuid,
    epoch: i64,
    lease: Duration,
) -> Result<Option<Option<f64>>, sqlx::Error> {
    sqlx::query_scalar(
        "update operation set lease_until = clock_timestamp() + make_interval(secs => $3)
         where id = $1 and epoch = $2 and state in ('running', 'undoing')
         returning extract(epoch from deadline - now())::float8",
    )
    .bind(id)
    .bind(epoch)
    .bind(lease.as_secs_f64())
    .fetch_optional(pool)
    .await
}

/// Whether the end was asked for. None: the epoch moved on.
pub(crate) async fn held(pool: &PgPool, id: Uuid, epoch: i64) -> Result<Option<bool>, sqlx::Error> {
    sqlx::query_scalar(
        "select cancel_requested from operation where id = $1 and epoch = $2 and state in ('running', 'undoing')",
    )
    .bind(id)
    .bind(epoch)
    .fetch_optional(pool)
    .await
}

/// False: the epoch moved on.
pub(crate) async fn progress(
    pool: &PgPool,
    id: Uuid,
    epoch: i64,
    lease: Duration,
    progress: &Progress,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(
        "update operation set progress = $4, lease_until = clock_timestamp() + make_interval(secs => $3), updated_at = now()
         where id = $1 and epoch = $2 and state in ('running', 'undoing')",
    )
    .bind(id)
    .bind(epoch)
    .bind(lease.as_secs_f64())
    .bind(Json(progress))
    .execute(pool)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Inserts an operation, held by `holder` for `lease` or queued. None: another one has the subject.
///
/// The caller's transaction may be old: leases count from clock_timestamp(), which now() may be long before.
pub(crate) async fn start<S>(
    tx: &mut PgConnection,
    new: &New<S>,
    step: &RawStep,
    definition: i32,
    hold: Option<(&str, Duration)>,
) -> Result<Option<Held>, sqlx::Error> {
    let id = Uuid::now_v7();
    sqlx::query_as(
        "with op as (
             insert into operation (id, kind, definition, subject, state, step, step_name, attempt, epoch, holder, lease_until,
                                    next_run_at, deadline, requested_by, request_id, urgent)
             select $1, $2, $3, $4, case when at_once then 'running' else 'queued' end, $5, $6,
                    case when at_once then 1 else 0 end, case when at_once then 1 else 0 end, case when at_once then $7 end,
                    case when at_once then clock_timestamp() + make_interval(secs => $8) end,
                    clock_timestamp(), clock_timestamp() + make_interval(secs => $9), $10, $11, $12
             from (select $7::text is not null and ($12 or not exists (
                       select from \"freeze\" where target in ('operations', 'all') and (until is null or until > now()))) as at_once) as hold
             on conflict (subject) where subject is not null and state not in ('succeeded', 'failed', 'cancelled') do nothing
             returning *
         ), told as (
             insert into operation_event (operation, kind, state, step_name, attempt, epoch)
             select id, 'started', state, step_name, attempt, epoch from op
         )
         select op.*, extract(epoch from deadline - now())::float8 as left_seconds, false as abandoned, false as frozen,
                case when state = 'queued' then pg_notify('freehold_operation', id || ' due')::text end as told
         from op",
    )
    .bind(id)
    .bind(new.kind)
    .bind(definition)
    .bind(&new.subject)
    .bind(&step.json)
    .bind(step.name)
    .bind(hold.map(|(holder, _)| holder))
    .bind(hold.map(|(_, lease)| lease.as_secs_f64()))
    .bind(new.deadline.map(|deadline| deadline.as_secs_f64()))
    .bind(&new.requested_by)
    .bind(&new.request_id)
    .bind(new.urgent)
    .fetch_optional(tx)
    .await
}

/// Which operation has the subject.
pub(crate) async fn rival(tx: &mut PgConnection, subject: &str) -> Result<Option<(Uuid, String)>, sqlx::Error> {
    sqlx::query_as(
        "select id, kind from operation where subject = $1 and state not in ('succeeded', 'failed', 'cancelled')",
    )
    .bind(subject)
    .fetch_optional(tx)
    .await
}

/// Work that was one transaction, told as an operation that is over.
pub(crate) async fn start_finished(
    tx: &mut PgConnection,
    kind: &str,
    subject: Option<&str>,
    step_name: &str,
    requested_by: Option<&str>,
    request_id: Option<&str>,
) -> Result<Uuid, sqlx::Error> {
    let id = Uuid::now_v7();
    sqlx::query("select operation_finished($1, $2, $3, $4, $5, $6)")
        .bind(id)
        .bind(kind)
        .bind(subject)
        .bind(step_name)
        .bind(requested_by)
        .bind(request_id)
        .execute(tx)
        .await?;
    Ok(id)
}
