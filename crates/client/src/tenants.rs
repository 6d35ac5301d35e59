//! Tenants: create, look, change, connect, remove.

use freehold_api::adopt::{AdoptDatabase, Adoption};
use freehold_api::import::{Import, ImportDatabase, TenantImport};
use freehold_api::tenant::{
    Connection, CreateTenant, ListTenants, PatchTenant, SuspendTenant, Tenant, TenantWithConnection,
};
use freehold_api::{Page, TenantId};
use reqwest::StatusCode;
use serde_json::json;

use crate::client::{Client, ask};
use crate::error::Error;
use crate::follow::Settled;
use crate::request::{Reply, Request, parse};

/// The answer to a create.
#[derive(Debug, Clone)]
pub struct Created {
    /// With its connection where the key has the scope `credentials`, or where this very request created it.
    pub tenant: TenantWithConnection,
    /// False: it was there already, with the same values.
    pub new: bool,
}

impl Client {
    /// Creates a tenant with its own database, or finds it where it exists with the same values, and waits until its
    /// connection works. Safe to repeat, also by another process.
    ///
    /// # Errors
    /// `tenant_exists`, `tenant_deleted`, `no_room`, … in [`Error::Refused`]; [`Error::OperationEnded`] when it could not
    /// be made (nothing is left of it); as [`Client::settle`] besides.
    pub async fn create_tenant(&self, wanted: &CreateTenant) -> Result<Created, Error> {
        self.create_tenant_with(Request::post(&["tenants"]).body(wanted)?).await
    }

    /// The same with a key that the caller keeps, so that its own restart finds the very create again.
    ///
    /// # Errors
    /// As [`Client::create_tenant`].
    pub async fn create_tenant_as(&self, wanted: &CreateTenant, idempotency_key: &str) -> Result<Created, Error> {
        self.create_tenant_with(Request::post(&["tenants"]).body(wanted)?.idempotency_key(idempotency_key)).await
    }

    async fn create_tenant_with(&self, request: Request) -> Result<Created, Error> {
        let reply = match self.settle(request.clone(), self.patience.settle_within, |_| {}).await? {
            Settled::With(reply) => reply,
            Settled::Done(_) | Settled::Begun(_) => self.finished_create(request).await?,
        };
        Ok(Created { tenant: reply.parse()?, new: reply.status == StatusCode::CREATED })
    }

    /// The answer to a create that [`Client::settle`] has seen end: the same request again is answered as that very
    /// create, connection included.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn finished_create(&self, request: Request) -> Result<Reply, Error> {
        let id = request.body.as_ref().and_then(|body| body["id"].as_str()).unwrap_or_default().to_owned();
        let again = self.send(request.wait(1)).await?;
        if again.status != StatusCode::ACCEPTED {
            return Ok(again);
        }
        // A server that replays its first answer: the thing itself then, as far as this key may see it.
        let mut tenant = self.send(Request::get(&["tenants", &id])).await?;
        match self.send(Request::get(&["tenants", &id, "connection"])).await {
            Ok(connection) => tenant.body["connection"] = connection.body,
            Err(Error::Refused(refusal)) if refusal.status == 403 => {}
            Err(other) => return Err(other),
        }
        Ok(tenant)
    }

    /// What taking over a database that is there already would do, and everything that stands against it.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn adopt_check(&self, id: &TenantId, wanted: &AdoptDatabase) -> Result<Adoption, Error> {
        let wanted = AdoptDatabase { dry_run: true, ..wanted.clone() };
        ask(self, Request::post(&["tenants", id.as_str(), "adopt"]).body(&wanted)?).await
    }

    /// Takes it over, in place.
    ///
    /// # Errors
    /// `prerequisite` in [`Error::Refused`], with every reason among its errors; as [`Client::settle`] besides.
    pub async fn adopt_tenant(&self, id: &TenantId, wanted: &AdoptDatabase) -> Result<Tenant, Error> {
        let wanted = AdoptDatabase { dry_run: false, ..wanted.clone() };
        self.changed_tenant(id, Request::post(&["tenants", id.as_str(), "adopt"]).body(&wanted)?).await
    }

    /// What importing a database of a server that is not Freehold's would do, and everything that stands against it.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn import_check(&self, id: &TenantId, wanted: &ImportDatabase) -> Result<Import, Error> {
        let wanted = ImportDatabase { dry_run: true, ..wanted.clone() };
        ask(self, Request::post(&["tenants", id.as_str(), "import"]).body(&wanted)?).await
    }

    /// Copies it into a new tenant, while it is used where it is. What was written there after [`TenantImport::as_of`] is not here.
    ///
    /// # Errors
    /// `prerequisite` in [`Error::Refused`], with every reason among its errors; [`Error::OperationEnded`] when it came to
    /// nothing (nothing is left of it); as [`Client::settle`] besides. A copy may take longer than this client waits: it goes on.
    pub async fn import_tenant(&self, id: &TenantId, wanted: &ImportDatabase) -> Result<Tenant, Error> {
        let wanted = ImportDatabase { dry_run: false, ..wanted.clone() };
        self.changed_tenant(id, Request::post(&["tenants", id.as_str(), "import"]).body(&wanted)?).await
    }

    /// What it was imported from, and as of when.
    ///
    /// # Errors
    /// `not_found` of a tenant that was not, in [`Error::Refused`]; as [`Client::send`] besides.
    pub async fn tenant_import(&self, id: &TenantId) -> Result<TenantImport, Error> {
        self.get(&["tenants", id.as_str(), "import"]).await
    }

    /// # Errors
    /// `not_found` in [`Error::Refused`]; as [`Client::send`] besides.
    pub async fn tenant(&self, id: &TenantId) -> Result<Tenant, Error> {
        self.get(&["tenants", id.as_str()]).await
    }

    /// All that the filter lets through, page after page; its `limit` and `cursor` are not looked at.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn tenants(&self, filter: &ListTenants) -> Result<Vec<Tenant>, Error> {
        let mut request = Request::get(&["tenants"])
            .query("plan", filter.plan.as_deref())
            .query("state", filter.state.map(|state| state.as_str()))
            .query("server", filter.server.as_deref())
            .query("template", filter.template.as_deref())
            .query("q", filter.q.as_deref());
        for label in &filter.label {
            request = request.query("label", Some(label));
        }
        let page: Page<Tenant> = parse(&self.list(request, None).await?)?;
        Ok(page.items)
    }

    /// How its application connects. Every read is audited.
    ///
    /// # Errors
    /// `denied` without the scope `credentials`; as [`Client::send`] besides.
    pub async fn connection(&self, id: &TenantId) -> Result<Connection, Error> {
        self.get(&["tenants", id.as_str(), "connection"]).await
    }

    /// Sent once where it may have been carried out: what it would overwrite is not known.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn patch_tenant(&self, id: &TenantId, patch: &PatchTenant) -> Result<Tenant, Error> {
        ask(self, Request::patch(&["tenants", id.as_str()]).body(patch)?).await
    }

    /// Refuses its logins and ends its sessions.
    ///
    /// # Errors
    /// As [`Client::settle`].
    pub async fn suspend_tenant(&self, id: &TenantId, reason: Option<&str>) -> Result<Tenant, Error> {
        let body = SuspendTenant { reason: reason.map(str::to_owned) };
        self.changed_tenant(id, Request::post(&["tenants", id.as_str(), "suspend"]).body(&body)?).await
    }

    /// # Errors
    /// As [`Client::settle`].
    pub async fn resume_tenant(&self, id: &TenantId) -> Result<Tenant, Error> {
        self.changed_tenant(id, Request::post(&["tenants", id.as_str(), "resume"]).body(&json!({}))?).await
    }

    /// Back as it was, within its grace.
    ///
    /// # Errors
    /// As [`Client::settle`].
    pub async fn undelete_tenant(&self, id: &TenantId) -> Result<Tenant, Error> {
        self.changed_tenant(id, Request::post(&["tenants", id.as_str(), "undelete"]).body(&json!({}))?).await
    }

    /// Deletes it; it can be undeleted until it is purged.
    ///
    /// # Errors
    /// As [`Client::settle`]. A delete whose answer was lost is not sent again: look before you do.
    pub async fn delete_tenant(&self, id: &TenantId) -> Result<Tenant, Error> {
        let request = Request::delete(&["tenants", id.as_str()]).query("confirm", Some(id));
        self.changed_tenant(id, request).await
    }

    /// Destroys its database, roles and secrets, with no way back.
    ///
    /// # Errors
    /// As [`Client::delete_tenant`].
    pub async fn purge_tenant(&self, id: &TenantId) -> Result<(), Error> {
        let request = Request::delete(&["tenants", id.as_str()]).query("confirm", Some(id)).query("purge", Some(true));
        self.settle(request, self.patience.settle_within, |_| {}).await.map(|_| ())
    }

    pub(crate) async fn changed_tenant(&self, id: &TenantId, request: Request) -> Result<Tenant, Error> {
        match self.settle(request, self.patience.settle_within, |_| {}).await? {
            Settled::With(reply) => reply.parse(),
            Settled::Done(_) | Settled::Begun(_) => self.tenant(id).await,
        }
    }
}
