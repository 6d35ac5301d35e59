//! What people and the API do to operations: look, cancel, retry, resolve, freeze, prune.

use std::time::Duration;

use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::engine::Engine;
use crate::operation::{ControlError, Record, Resolution};
use crate::query;
use crate::row::{EventRow, Filter, FreezeRow, LoopRow, OperationRow, State};
use crate::watch::OPERATION;

impl Engine {
    /// Asks for the end: what runs is undone after its step, what waits or is stuck at once. Asking twice is no error.
    pub async fn cancel(&self, id: Uuid) -> Result<OperationRow, ControlError> {
        let row: Option<OperationRow> = sqlx::query_as(
            "with op as (
                 update operation
                 set cancel_requested = true, updated_at = now(),
                     attempt = case when state = 'stuck' then 0 else attempt end,
                     next_run_at = case when lease_until is null then now() else next_run_at end,
                     state = case when state not in ('stuck', 'waiting') then state when undo_reason is null then 'queued' else 'undoing' end
                 where id = $1 and state not in ('succeeded', 'failed', 'cancelled')
                 returning *
             ), told as (
                 insert into operation_event (operation, kind, state, step_name, attempt, epoch, error)
                 select id, 'cancel', state, step_name, attempt, epoch, error from op
             )
             select * from op",
        )
        .bind(id)
        .fetch_optional(self.pool())
        .await?;
        self.pushed(id, row).await
    }

    /// Runs a stuck or waiting operation (or a waiting undo) now, as if for the first time.
    pub async fn retry(&self, id: Uuid) -> Result<OperationRow, ControlError> {
        let row: Option<OperationRow> = sqlx::query_as(
            "with op as (
                 update operation
                 set state = case when undo_reason is null then 'queued' else 'undoing' end,
                     attempt = 0, next_run_at = now(), updated_at = now()
                 where id = $1 and (state in ('stuck', 'waiting') or state = 'undoing' and lease_until is null)
                 returning *
             ), told as (
                 insert into operation_event (operation, kind, state, step_name, attempt, epoch, error)
                 select id, 'requeued', state, step_name, attempt, epoch, error from op
             )
             select * from op",
        )
        .bind(id)
        .fetch_optional(self.pool())
        .await?;
        self.pushed(id, row).await
    }

    /// What sleeps at this step wakes when the caller's transaction commits: what it waited for may be there.
    pub async fn rouse_in(&self, tx: &mut PgConnection, kind: &str, step_name: &str) -> Result<(), sqlx::Error> {
        rouse_in(tx, kind, step_name).await
    }

    /// Ends by hand an operation that is stuck, or that fails and fails (its server is gone for good, say). `also` is recorded in the same transaction, after [`crate::Operation::resolved`].
    pub async fn resolve(&self, id: Uuid, as_: Resolution, also: Option<Record>) -> Result<OperationRow, ControlError> {
        let state = match as_ {
            Resolution::Succeeded => State::Succeeded,
            Resolution::Failed => State::Failed,
            Resolution::Cancelled => State::Cancelled,
        };
        let mut tx = self.pool().begin().await?;
        // The epoch is raised: a worker from before it was stuck may still hold connections.
        let row: Option<OperationRow> = sqlx::query_as(
            "with op as (
                 update operation set state = $2, epoch = epoch + 1, finished_at = now(), updated_at = now()
                 where id = $1 and (state = 'stuck'
                     or holder is null and error is not null and state in ('queued', 'waiting', 'undoing'))
                 returning *
             ), told as (
                 insert into operation_event (operation, kind, state, step_name, attempt, epoch, error)
                 select id, 'resolved', state, step_name, attempt, epoch, error from op
             )
             select * from op",
        )
        .bind(id)
        .bind(state.as_str())
        .fetch_optional(&mut *tx)
        .await?;
        let Some(row) = row else {
            return Err(self.refusal(id).await);
        };
        self.tell_owner(&mut tx, &row, as_).await?;
        if let Some(also) = also {
            also(&mut tx).await.map_err(ControlError::Refused)?;
        }
        tx.commit().await?;
        self.shared.changed(id);
        Ok(row)
    }

    pub async fn get(&self, id: Uuid) -> Result<Option<OperationRow>, sqlx::Error> {
        query::get(self.pool(), id).await
    }

    pub async fn list(&self, filter: &Filter) -> Result<Vec<OperationRow>, sqlx::Error> {
        query::list(self.pool(), filter).await
    }

    pub async fn events(&self, id: Uuid, after_seq: i64) -> Result<Vec<EventRow>, sqlx::Error> {
        query::events(self.pool(), id, after_seq).await
    }

    /// How many operations are in each state, every state named.
    pub async fn counts(&self) -> Result<Vec<(State, i64)>, sqlx::Error> {
        query::counts(self.pool()).await
    }

    pub async fn oldest_stuck(&self) -> Result<Option<OperationRow>, sqlx::Error> {
        query::oldest_stuck(self.pool()).await
    }

    /// Every loop that ever ran, as it last ran.
    pub async fn loops(&self) -> Result<Vec<LoopRow>, sqlx::Error> {
        query::loops(self.pool()).await
    }

    /// Whether something of this name can be frozen: a loop, `operations`, or `all`.
    pub fn is_target(&self, target: &str) -> bool {
        target == "all" || target == "operations" || self.loop_names().contains(&target)
    }

    /// Stops a loop, or the operations after the step they are at, everywhere; None: until thawed.
    pub async fn freeze(
        &self,
        target: &str,
        time: Option<Duration>,
        by: Option<&str>,
    ) -> Result<FreezeRow, sqlx::Error> {
        query::freeze(self.pool(), target, time, by).await
    }

    /// False: it was not frozen.
    pub async fn thaw(&self, target: &str) -> Result<bool, sqlx::Error> {
        let thawed = query::thaw(self.pool(), target).await?;
        self.shared.due.notify_one();
        Ok(thawed)
    }

    pub async fn frozen(&self) -> Result<Vec<FreezeRow>, sqlx::Error> {
        query::frozen(self.pool()).await
    }

    /// Removes operations that ended before, with their events; how many went.
    pub async fn prune(&self, older_than: Duration) -> Result<u64, sqlx::Error> {
        let mut pruned = 0;
        loop {
            let batch = query::prune(self.pool(), older_than).await?;
            pruned += batch.unsigned_abs();
            if batch == 0 {
                return Ok(pruned);
            }
        }
    }

    fn pool(&self) -> &PgPool {
        &self.shared.pool
    }

    async fn pushed(&self, id: Uuid, row: Option<OperationRow>) -> Result<OperationRow, ControlError> {
        let Some(row) = row else {
            return Err(self.refusal(id).await);
        };
        self.shared.changed(id);
        self.shared.due.notify_one();
        self.shared.herald.tell(self.pool(), OPERATION, format!("{id} due"));
        Ok(row)
    }

    async fn refusal(&self, id: Uuid) -> ControlError {
        match query::get(self.pool(), id).await {
            Ok(Some(row)) => ControlError::WrongState { now: row.state },
            Ok(None) => ControlError::NotFound,
            Err(error) => error.into(),
        }
    }

    async fn tell_owner(&self, tx: &mut PgConnection, row: &OperationRow, as_: Resolution) -> Result<(), ControlError> {
        let Some(registered) = self.shared.kinds.get(row.kind.as_str()) else {
            return Ok(());
        };
        if registered.kind.read(&row.step).is_err() {
            // What nobody can read any more must still be endable.
            tracing::warn!(operation = %row.id, kind = row.kind, "resolved without its owner: the step is of another definition");
            return Ok(());
        }
        registered.kind.resolved(tx, row, as_).await.map_err(ControlError::Refused)
    }
}

/// [`Engine::rouse_in`] for hooks that have no engine at hand.
pub async fn rouse_in(tx: &mut PgConnection, kind: &str, step_name: &str) -> Result<(), sqlx::Error> {
    let sql = "with op as (
             update operation set next_run_at = now()
             where kind = $1 and step_name = $2 and state = 'waiting' and lease_until is null and next_run_at > now()
             returning id
         )
         select pg_notify($3, id || ' due')::text from op";
    sqlx::query(sql).bind(kind).bind(step_name).bind(OPERATION).execute(tx).await.map(drop)
}
