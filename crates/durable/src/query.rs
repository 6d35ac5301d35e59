//! The SQL that reads operations, and the pruning of old ones.

use std::time::Duration;

use sqlx::{PgExecutor, PgPool, Postgres, QueryBuilder};
use uuid::Uuid;

use crate::row::{EventRow, Filter, FreezeRow, LoopRow, OperationRow, State};

pub(crate) async fn get(db: impl PgExecutor<'_>, id: Uuid) -> Result<Option<OperationRow>, sqlx::Error> {
    sqlx::query_as("select * from operation where id = $1").bind(id).fetch_optional(db).await
}

/// Built, not one statement with `$1 is null or`: its generic plan would read the whole table.
pub(crate) async fn list(pool: &PgPool, filter: &Filter) -> Result<Vec<OperationRow>, sqlx::Error> {
    let mut query = QueryBuilder::<Postgres>::new("select * from operation where true");
    if let Some(state) = filter.state {
        query.push(" and state = ").push_bind(state.as_str());
    }
    if let Some(kind) = &filter.kind {
        query.push(" and kind = ").push_bind(kind);
    }
    if let Some(subject) = &filter.subject {
        query.push(" and subject = ").push_bind(subject);
    }
    if let Some(before) = filter.before {
        query.push(" and id < ").push_bind(before);
    }
    let limit = if filter.limit > 0 { filter.limit } else { 100 };
    query.push(" order by id desc limit ").push_bind(limit);
    query.build_query_as().fetch_all(pool).await
}

pub(crate) async fn events(pool: &PgPool, id: Uuid, after: i64) -> Result<Vec<EventRow>, sqlx::Error> {
    sqlx::query_as("select * from operation_event where operation = $1 and seq > $2 order by seq")
        .bind(id)
        .bind(after)
        .fetch_all(pool)
        .await
}

/// Of what is not over: those are few, however many there were.
pub(crate) async fn counts(pool: &PgPool) -> Result<Vec<(State, i64)>, sqlx::Error> {
    let counted: Vec<(String, i64)> =
        sqlx::query_as(
            "select state, count(*) from operation where state in ('queued', 'running', 'waiting', 'undoing', 'stuck') group by state",
        )
        .fetch_all(pool).await?;
    let of = |state: State| counted.iter().find(|(name, _)| name == state.as_str()).map_or(0, |(_, count)| *count);
    Ok(State::ALL.into_iter().filter(|state| !state.is_over()).map(|state| (state, of(state))).collect())
}

pub(crate) async fn oldest_stuck(pool: &PgPool) -> Result<Option<OperationRow>, sqlx::Error> {
    sqlx::query_as("select * from operation where state = 'stuck' order by id limit 1").fetch_optional(pool).await
}

pub(crate) async fn loops(pool: &PgPool) -> Result<Vec<LoopRow>, sqlx::Error> {
    sqlx::query_as("select * from loop_lease order by name").fetch_all(pool).await
}

pub(crate) async fn frozen(pool: &PgPool) -> Result<Vec<FreezeRow>, sqlx::Error> {
    sqlx::query_as("select * from \"freeze\" where until is null or until > now() order by target")
        .fetch_all(pool)
        .await
}

pub(crate) async fn freeze(
    pool: &PgPool,
    target: &str,
    time: Option<Duration>,
    by: Option<&str>,
) -> Result<FreezeRow, sqlx::Error> {
    sqlx::query_as(
        "insert into \"freeze\" (target, until, by) values ($1, now() + make_interval(secs => $2), $3)
         on conflict (target) do update set until = excluded.until, by = excluded.by, at = now()
         returning *",
    )
    .bind(target)
    .bind(time.map(|time| time.as_secs_f64()))
    .bind(by)
    .fetch_one(pool)
    .await
}

pub(crate) async fn thaw(pool: &PgPool, target: &str) -> Result<bool, sqlx::Error> {
    let thawed = sqlx::query("delete from \"freeze\" where target = $1").bind(target).execute(pool).await?;
    Ok(thawed.rows_affected() > 0)
}

/// One batch; how many went.
pub(crate) async fn prune(pool: &PgPool, older_than: Duration) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(
        "with gone as (
             delete from operation where id in (
                 select id from operation where finished_at < now() - make_interval(secs => $1) order by finished_at limit 500)
             returning id
         ), untold as (
             delete from operation_event e using gone where e.operation = gone.id
         )
         select count(*) from gone",
    )
    .bind(older_than.as_secs_f64())
    .fetch_one(pool)
    .await
}
