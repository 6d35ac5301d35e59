//! What of the audit needs a person: events that nobody seals, a chain that is not anchored, a head that cannot go,
//! and a receiver that is away.

use freehold_api::server::Severity;
use freehold_api::status::Concern;

use super::{checkpoint, retention, store, stream};
use crate::plane::{Answer, Plane};

const LOOPS: [&str; 4] = [checkpoint::LOOP, retention::LOOP, stream::file::LOOP, stream::url::LOOP];

pub async fn concerns(plane: &Plane) -> Answer<Vec<Concern>> {
    let mut concerns = Vec::new();
    let mut concern = |severity, code: &str, message, next: Option<&str>| {
        concerns.push(Concern { severity, code: code.into(), message, next: next.map(str::to_owned) });
    };
    let unsealed = store::unsealed(&plane.store).await?;
    if unsealed.late > 0 {
        let message = format!(
            "{} events of the audit wait to be sealed, the oldest for {:.0} s",
            unsealed.count, unsealed.seconds
        );
        concern(Severity::Medium, "audit_unsealed", message, Some("freehold audit verify; freehold freeze"));
    }
    for row in plane.engine.loops().await? {
        if let Some(error) = row.error.filter(|_| LOOPS.contains(&row.name.as_str())) {
            let is_bent = [checkpoint::DIFFERS, retention::BENT].contains(&error.code.as_str());
            let severity = if is_bent { Severity::High } else { Severity::Medium };
            // Whoever is away is brought back where he is.
            let next = (error.code != stream::NOT_STREAMED).then_some("freehold audit verify");
            concern(severity, &error.code, error.message, next);
        }
    }
    Ok(concerns)
}
