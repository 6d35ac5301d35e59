//! Servers: register, look, take out of turn.

use freehold_api::drain::{DrainServer, ServerDrain};
use freehold_api::rebalance::{Rebalance, RebalanceServers, SuggestRebalance};
use freehold_api::server::{AddServer, Server};
use freehold_api::{Page, ServerId};
use serde_json::json;

use crate::client::{Client, ask};
use crate::error::Error;
use crate::follow::Settled;
use crate::request::{Request, parse};

impl Client {
    /// Registers an external server, and waits until it was looked at.
    ///
    /// # Errors
    /// `server_exists`, `prerequisite`, … in [`Error::Refused`]; as [`Client::settle`] besides.
    pub async fn add_server(&self, server: &AddServer) -> Result<Server, Error> {
        let request = Request::post(&["servers"]).body(server)?;
        match self.settle(request, self.patience.settle_within, |_| {}).await? {
            Settled::With(reply) => reply.parse(),
            Settled::Done(_) | Settled::Begun(_) => self.server(&server.id).await,
        }
    }

    /// # Errors
    /// `not_found` in [`Error::Refused`]; as [`Client::send`] besides.
    pub async fn server(&self, id: &ServerId) -> Result<Server, Error> {
        self.get(&["servers", id.as_str()]).await
    }

    /// # Errors
    /// As [`Client::send`].
    pub async fn servers(&self) -> Result<Vec<Server>, Error> {
        let page: Page<Server> = parse(&self.list(Request::get(&["servers"]), None).await?)?;
        Ok(page.items)
    }

    /// Looks at it now; what was found is in its `health` and `findings`.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn check_server(&self, id: &ServerId) -> Result<Server, Error> {
        ask(self, Request::post(&["servers", id.as_str(), "check"]).body(&json!({}))?).await
    }

    /// No new tenants.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn cordon_server(&self, id: &ServerId) -> Result<Server, Error> {
        ask(self, Request::post(&["servers", id.as_str(), "cordon"]).body(&json!({}))?).await
    }

    /// All its tenants go elsewhere, and it takes no new ones. Waits until it is empty: that may take longer than this client
    /// waits, and goes on. What it would do is [`Client::plan_drain`]'s to say: `dry_run` is not looked at.
    ///
    /// # Errors
    /// [`Error::OperationEnded`] when some could not be moved: [`Client::server_drain`] says who, and why; as [`Client::settle`] besides.
    pub async fn drain_server(&self, id: &ServerId, wanted: &DrainServer) -> Result<ServerDrain, Error> {
        let wanted = DrainServer { dry_run: None, ..wanted.clone() };
        let request = Request::post(&["servers", id.as_str(), "drain"]).body(&wanted)?;
        match self.settle(request, self.patience.settle_within, |_| {}).await? {
            Settled::With(reply) => reply.parse(),
            Settled::Done(_) | Settled::Begun(_) => self.server_drain(id).await,
        }
    }

    /// Who would go where, and who could not. Nothing is begun.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn plan_drain(&self, id: &ServerId, wanted: &DrainServer) -> Result<ServerDrain, Error> {
        let wanted = DrainServer { dry_run: Some(true), ..wanted.clone() };
        ask(self, Request::post(&["servers", id.as_str(), "drain"]).body(&wanted)?).await
    }

    /// How the newest drain of it stands.
    ///
    /// # Errors
    /// `not_found` where there was none, in [`Error::Refused`]; as [`Client::send`] besides.
    pub async fn server_drain(&self, id: &ServerId) -> Result<ServerDrain, Error> {
        self.get(&["servers", id.as_str(), "drain"]).await
    }

    /// Who would move so that servers come to be even, and how the newest rebalance stands. Nothing is begun.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn suggest_rebalance(&self, of: &SuggestRebalance) -> Result<Rebalance, Error> {
        let request = Request::get(&["rebalance"]).query("pool", of.pool.as_ref()).query("region", of.region.as_ref());
        let request = request.query("tolerance_percent", of.tolerance_percent).query("max_moves", of.max_moves);
        ask(self, request.query("max_bytes", of.max_bytes).query("protected", of.protected)).await
    }

    /// Moves them. Waits until servers are even: that may take longer than this client waits, and goes on.
    ///
    /// # Errors
    /// `confirmation_required` without `confirm`, `busy`, `tenants_left` in [`Error::Refused`]; as [`Client::settle`] besides.
    pub async fn rebalance_servers(&self, wanted: &RebalanceServers) -> Result<Rebalance, Error> {
        let request = Request::post(&["rebalance"]).body(wanted)?;
        match self.settle(request, self.patience.settle_within, |_| {}).await? {
            Settled::With(reply) => reply.parse(),
            Settled::Done(_) | Settled::Begun(_) => self.suggest_rebalance(&wanted.suggestion()).await,
        }
    }

    /// New tenants again.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn uncordon_server(&self, id: &ServerId) -> Result<Server, Error> {
        ask(self, Request::post(&["servers", id.as_str(), "uncordon"]).body(&json!({}))?).await
    }
}
