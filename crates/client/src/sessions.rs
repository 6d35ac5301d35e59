//! What goes on in a tenant's database: a diagnosis, what a move of it would take, who is there, and ending them.

use freehold_api::diagnosis::Diagnosis;
use freehold_api::movability::{JudgeMovability, Movability, MoveTo};
use freehold_api::session::{Session, TerminateSessions, TerminatedSessions};
use freehold_api::{Page, TenantId};

use crate::client::{Client, ask};
use crate::error::Error;
use crate::request::Request;

impl Client {
    /// Walks the way in that its application takes; what is broken is in the answer, and no error.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn diagnose(&self, id: &TenantId) -> Result<Diagnosis, Error> {
        ask(self, Request::post(&["tenants", id.as_str(), "diagnose"]).body(&serde_json::json!({}))?).await
    }

    /// Whether it could be moved, by which methods, and what is in the way. Without `to`: by where it is alone.
    ///
    /// # Errors
    /// `invalid` where it is there already or `to` is not, `wrong_state`, `server_unreachable` in [`Error::Refused`]; as
    /// [`Client::send`] besides.
    pub async fn movability(&self, id: &TenantId, to: Option<MoveTo>) -> Result<Movability, Error> {
        ask(self, Request::post(&["tenants", id.as_str(), "movability"]).body(&JudgeMovability { to })?).await
    }

    /// Those that are there now, the oldest first. With `query`, what each runs: that takes the scope `credentials`.
    ///
    /// # Errors
    /// `server_unreachable` in [`Error::Refused`]; as [`Client::send`] besides.
    pub async fn sessions(&self, id: &TenantId, query: bool) -> Result<Vec<Session>, Error> {
        let request = Request::get(&["tenants", id.as_str(), "sessions"]).query("query", query.then_some(true));
        let page: Page<Session> = ask(self, request).await?;
        Ok(page.items)
    }

    /// Ends all of the tenant's sessions, or those that `which` says. They may come back: `suspend_tenant` refuses them.
    ///
    /// # Errors
    /// As [`Client::sessions`].
    pub async fn terminate_sessions(
        &self,
        id: &TenantId,
        which: &TerminateSessions,
    ) -> Result<TerminatedSessions, Error> {
        ask(self, Request::post(&["tenants", id.as_str(), "sessions", "terminate"]).body(which)?).await
    }
}
