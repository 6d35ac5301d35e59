//! A tenant's move to another server: begun, looked at, taken back, ended.

use freehold_api::id::TenantId;
use freehold_api::moving::{FinishMove, MoveTenant, TenantMove};
use freehold_api::tenant::Tenant;
use serde_json::json;

use crate::client::Client;
use crate::error::Error;
use crate::request::Request;

impl Client {
    /// Moves it while it is written to, and waits until the side that it left follows: then there is a way back for as long
    /// as it is kept. By dump nobody is let in until it is over, and there is no way back. What a move would take is [`Client::movability`]'s to say: `dry_run` is not looked at.
    ///
    /// # Errors
    /// `wrong_state` while a move before it is kept; [`Error::OperationEnded`] when it came to nothing (it is where it was);
    /// as [`Client::settle`] besides. A copy may take longer than this client waits: it goes on.
    pub async fn move_tenant(&self, id: &TenantId, wanted: &MoveTenant) -> Result<Tenant, Error> {
        let wanted = MoveTenant { dry_run: None, ..wanted.clone() };
        self.changed_tenant(id, Request::post(&["tenants", id.as_str(), "move"]).body(&wanted)?).await
    }

    /// The move that is going on, or whose former side is still kept.
    ///
    /// # Errors
    /// `not_found` where there is none, in [`Error::Refused`]; as [`Client::send`] besides.
    pub async fn tenant_move(&self, id: &TenantId) -> Result<TenantMove, Error> {
        self.get(&["tenants", id.as_str(), "move"]).await
    }

    /// Back to where it came from, with all that it wrote since.
    ///
    /// # Errors
    /// `wrong_state` where the former side does not follow; as [`Client::settle`] besides.
    pub async fn roll_back_move(&self, id: &TenantId) -> Result<Tenant, Error> {
        self.changed_tenant(id, Request::post(&["tenants", id.as_str(), "move", "rollback"]).body(&json!({}))?).await
    }

    /// Drops what it had on its former server, and with it the way back.
    ///
    /// # Errors
    /// As [`Client::settle`].
    pub async fn finish_move(&self, id: &TenantId) -> Result<Tenant, Error> {
        self.changed_tenant(id, Request::post(&["tenants", id.as_str(), "move", "finish"]).body(&json!({}))?).await
    }

    /// The same when that server is lost for good: what it has of the tenant is only forgotten.
    ///
    /// # Errors
    /// As [`Client::settle`].
    pub async fn abandon_move(&self, id: &TenantId) -> Result<Tenant, Error> {
        let body = FinishMove { abandon: Some(true), confirm: Some(id.to_string()) };
        self.changed_tenant(id, Request::post(&["tenants", id.as_str(), "move", "finish"]).body(&body)?).await
    }
}
