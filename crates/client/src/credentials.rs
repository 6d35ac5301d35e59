//! A tenant's credential: another one, and the end of the one before.

use freehold_api::id::TenantId;
use freehold_api::tenant::{RotateCredentials, Tenant, TenantWithConnection};
use serde_json::json;

use crate::client::Client;
use crate::error::Error;
use crate::follow::Settled;
use crate::request::{Reply, Request};

impl Client {
    /// Gives the tenant another credential, which is in the answer if the key may see it. The old one is in force until its
    /// grace is over; with `immediate` it is refused when this returns.
    ///
    /// # Errors
    /// `wrong_state` while an earlier one is still in its grace; as [`Client::settle`] besides.
    pub async fn rotate_credentials(
        &self,
        id: &TenantId,
        how: &RotateCredentials,
    ) -> Result<TenantWithConnection, Error> {
        let request = Request::post(&["tenants", id.as_str(), "credentials", "rotate"]).body(how)?;
        match self.settle(request.clone(), self.patience.settle_within, |_| {}).await? {
            Settled::With(reply) => reply.parse(),
            Settled::Done(_) | Settled::Begun(_) => self.finished_rotation(id, request).await?.parse(),
        }
    }

    /// The answer to a rotation that [`Client::settle`] has seen end: the same request again rotates nothing, and is answered
    /// as that very rotation.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn finished_rotation(&self, id: &TenantId, request: Request) -> Result<Reply, Error> {
        let again = self.send(request.wait(1)).await?;
        if again.status != reqwest::StatusCode::ACCEPTED {
            return Ok(again);
        }
        self.send(Request::get(&["tenants", id.as_str()])).await
    }

    /// Refuses the credential of before at once.
    ///
    /// # Errors
    /// As [`Client::settle`].
    pub async fn retire_credential(&self, id: &TenantId) -> Result<Tenant, Error> {
        let request = Request::post(&["tenants", id.as_str(), "credentials", "retire"]).body(&json!({}))?;
        match self.settle(request, self.patience.settle_within, |_| {}).await? {
            Settled::With(reply) => reply.parse(),
            Settled::Done(_) | Settled::Begun(_) => self.tenant(id).await,
        }
    }
}
