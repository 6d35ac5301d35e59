//! What of the audit needs a person: events that nobody seals, a chain that is not anchored, and a head that cannot go.

use freehold_api::server::Severity;
use freehold_api::status::Concern;

use super::{checkpoint, retention, store};
use crate::plane::{Answer, Plane};

pub async fn concerns(plane: &Plane) -> Answer<Vec<Concern>> {
    let mut concerns = Vec::new();
    let mut concern = |severity, code: &str, message, next: &str| {
        concerns.push(Concern { severity, code: code.into(), message, next: Some(next.into()) });
    };
    let unsealed = store::unsealed(&plane.store).await?;
    if unsealed.late > 0 {
        let message = format!(
            "{} events of the audit wait to be sealed, the oldest for {:.0} s",
            unsealed.count, unsealed.seconds
        );
        concern(Severity::Medium, "audit_unsealed", message, "freehold audit verify; freehold freeze");
    }
    for row in plane.engine.loops().await? {
        if let Some(error) = row.error.filter(|_| [checkpoint::LOOP, retention::LOOP].contains(&row.name.as_str())) {
            let is_bent = [checkpoint::DIFFERS, retention::BENT].contains(&error.code.as_str());
            let severity = if is_bent { Severity::High } else { Severity::Medium };
            concern(severity, &error.code, error.message, "freehold audit verify");
        }
    }
    Ok(concerns)
}
