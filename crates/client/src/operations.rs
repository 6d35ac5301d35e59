//! Operations: what is going on, and what a person can do about it.

use freehold_api::operation::{ListOperations, Operation, ResolveOperation};
use freehold_api::{OperationId, Page};
use serde_json::json;

use crate::client::{Client, ask};
use crate::error::Error;
use crate::follow::succeeded;
use crate::request::{Request, parse};

impl Client {
    /// # Errors
    /// `not_found` in [`Error::Refused`]; as [`Client::send`] besides.
    pub async fn operation(&self, id: OperationId) -> Result<Operation, Error> {
        self.get(&["operations", &id.to_string()]).await
    }

    /// Newest first, at most `most`; the filter's `limit` and `cursor` are not looked at.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn operations(&self, filter: &ListOperations, most: usize) -> Result<Vec<Operation>, Error> {
        let request = Request::get(&["operations"])
            .query("state", filter.state.map(|state| state.as_str()))
            .query("kind", filter.kind.as_deref())
            .query("subject", filter.subject.as_deref());
        let page: Page<Operation> = parse(&self.list(request, Some(most)).await?)?;
        Ok(page.items)
    }

    /// Follows it to its end; the answer is the operation, where it succeeded.
    ///
    /// # Errors
    /// [`Error::OperationEnded`] where it did not; [`Error::WaitExpired`] after [`crate::Patience::settle_within`].
    pub async fn wait_for(&self, id: OperationId) -> Result<Operation, Error> {
        match tokio::time::timeout(self.patience.settle_within, self.follow(id, |_| {})).await {
            Ok(ended) => succeeded(ended?),
            Err(_) => Err(Error::WaitExpired(id)),
        }
    }

    /// Asks it to stop and to take back what it did.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn cancel_operation(&self, id: OperationId) -> Result<Operation, Error> {
        ask(self, Request::post(&["operations", &id.to_string(), "cancel"]).body(&json!({}))?).await
    }

    /// Tries a stuck or waiting one again, now.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn retry_operation(&self, id: OperationId) -> Result<Operation, Error> {
        ask(self, Request::post(&["operations", &id.to_string(), "retry"]).body(&json!({}))?).await
    }

    /// Declares a stuck one finished by hand.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn resolve_operation(&self, id: OperationId, how: &ResolveOperation) -> Result<Operation, Error> {
        ask(self, Request::post(&["operations", &id.to_string(), "resolve"]).body(how)?).await
    }
}
