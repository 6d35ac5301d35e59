//! What the audit keeps, and what it does not: redactions and holds.

use freehold_api::Page;
use freehold_api::audit::{AuditHold, AuditRedacted, CreateAuditHold, RedactAudit};
use uuid::Uuid;

use crate::client::{Client, ask};
use crate::error::Error;
use crate::request::{Request, parse};

impl Client {
    /// Takes names, addresses and details out of all events that are chosen, request after request; `event` is the last one that
    /// says so.
    ///
    /// # Errors
    /// `wrong_state` where one is not what was sealed, in [`Error::Refused`]; as [`Client::send`] besides.
    pub async fn redact_audit(&self, wanted: &RedactAudit) -> Result<AuditRedacted, Error> {
        let mut all = AuditRedacted { event: None, redacted: 0, held: 0, more: true };
        while all.more {
            let part: AuditRedacted = ask(self, Request::post(&["audit", "redactions"]).body(wanted)?).await?;
            let (event, redacted) = (part.event.or(all.event), all.redacted + part.redacted);
            all = AuditRedacted { event, redacted, ..part };
        }
        Ok(all)
    }

    /// From now on they are neither removed nor redacted.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn hold_audit(&self, hold: &CreateAuditHold) -> Result<AuditHold, Error> {
        ask(self, Request::post(&["audit", "holds"]).body(hold)?).await
    }

    /// # Errors
    /// As [`Client::send`].
    pub async fn audit_holds(&self) -> Result<Vec<AuditHold>, Error> {
        let page: Page<AuditHold> = parse(&self.list(Request::get(&["audit", "holds"]), None).await?)?;
        Ok(page.items)
    }

    /// # Errors
    /// `not_found` in [`Error::Refused`]; as [`Client::send`] besides.
    pub async fn release_audit_hold(&self, id: Uuid, reason: &str) -> Result<AuditHold, Error> {
        let id = id.to_string();
        ask(self, Request::delete(&["audit", "holds", &id]).query("reason", Some(reason))).await
    }
}
