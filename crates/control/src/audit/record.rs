//! Writes one audit event. Absent: secrets, and updates or deletes of any event.

use freehold_api::audit::Outcome;
use serde_json::Value;
use sqlx::PgExecutor;
use uuid::Uuid;

/// Who did it.
#[derive(Debug, Clone)]
pub struct Actor {
    /// `key:<id>`, `operation:<id>`, `loop:<name>` or `system`.
    pub reference: String,
    pub name: Option<String>,
    pub request: Option<String>,
    pub client: Option<String>,
}

impl Actor {
    /// Somebody with a shell on Freehold's own machine.
    pub fn system() -> Self {
        Self { reference: "system".into(), name: None, request: None, client: None }
    }
    /// An operation, on behalf of the request that started it.
    pub fn operation(id: Uuid, request: Option<String>) -> Self {
        Self { reference: format!("operation:{id}"), name: None, request, client: None }
    }
    pub fn of_loop(name: &str) -> Self {
        Self { reference: format!("loop:{name}"), name: None, request: None, client: None }
    }
}

#[must_use = "an event is only recorded once it is saved"]
pub struct Event {
    id: Uuid,
    actor: Actor,
    action: String,
    subject: Option<String>,
    outcome: Outcome,
    reason: Option<String>,
    details: Value,
}

impl Event {
    pub fn done(actor: &Actor, action: &str, subject: impl Into<String>) -> Self {
        Self {
            id: Uuid::now_v7(),
            actor: actor.clone(),
            action: action.into(),
            subject: Some(subject.into()),
            outcome: Outcome::Success,
            reason: None,
            details: Value::Object(serde_json::Map::new()),
        }
    }

    pub fn failed(actor: &Actor, action: &str, subject: impl Into<String>, reason: &str) -> Self {
        Self { outcome: Outcome::Failure, reason: Some(reason.into()), ..Self::done(actor, action, subject) }
    }

    pub fn denied(actor: &Actor, action: &str, reason: &str) -> Self {
        Self { outcome: Outcome::Denied, reason: Some(reason.into()), subject: None, ..Self::done(actor, action, "") }
    }

    pub fn with(mut self, details: Value) -> Self {
        self.details = details;
        self
    }

    pub fn id(&self) -> Uuid {
        self.id
    }

    pub async fn save(self, store: impl PgExecutor<'_>) -> sqlx::Result<()> {
        let sql = "SELECT audit_record($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
        sqlx::query(sql)
            .bind(self.id)
            .bind(self.actor.reference)
            .bind(self.actor.name)
            .bind(self.action)
            .bind(self.subject)
            .bind(self.outcome.as_str())
            .bind(self.reason)
            .bind(self.actor.request)
            .bind(self.actor.client)
            .bind(self.details)
            .execute(store)
            .await?;
        Ok(())
    }
}
