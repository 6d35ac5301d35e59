//! Chooses servers for a tenant, best first. Reads no database: the caller brings the fleet. Whether a slot is really
//! free is decided later, under a lock.

use freehold_api::id::shown;
use freehold_api::problem::Code;
use freehold_api::server::{ServerHealth, ServerKind};
use freehold_api::template::Template;

use crate::http::problem::Refused;
use crate::server::store::ServerWithUse;

pub struct Want<'a> {
    pub kind: ServerKind,
    pub region: Option<&'a str>,
    pub template: &'a Template,
}

/// The servers that could take it, emptiest first.
pub fn rank(want: &Want<'_>, fleet: &[ServerWithUse]) -> Vec<String> {
    let mut fit: Vec<&ServerWithUse> = fleet.iter().filter(|server| obstacle(want, server).is_none()).collect();
    // Health first, then how full it is of tenants (stock gives way), then by name so that equals are stable.
    fit.sort_by(|a, b| {
        let key = |server: &ServerWithUse| (server.row.health() == ServerHealth::Degraded, fullness(server));
        key(a).partial_cmp(&key(b)).unwrap_or(std::cmp::Ordering::Equal).then_with(|| a.row.id.cmp(&b.row.id))
    });
    fit.into_iter().map(|server| server.row.id.clone()).collect()
}

fn fullness(server: &ServerWithUse) -> f64 {
    server.tenants as f64 / f64::from(server.row.capacity.max(1))
}

/// Why a server cannot take it; None when it can.
pub fn obstacle(want: &Want<'_>, server: &ServerWithUse) -> Option<String> {
    let row = &server.row;
    if row.state != "active" {
        return Some(format!("it is {}", row.state));
    }
    if row.kind() != want.kind {
        return Some(format!("it is {}, the plan wants {}", row.kind, want.kind.as_str()));
    }
    if want.region.is_some() && row.region.as_deref() != want.region {
        return Some(format!("it is in region {}", row.region.as_deref().unwrap_or("(none)")));
    }
    if row.health() == ServerHealth::Unhealthy {
        return Some(format!("it is unhealthy: {}", row.health_message.as_deref().unwrap_or("no answer")));
    }
    let missing = want
        .template
        .manifest
        .extensions
        .iter()
        .find(|extension| extension.required && !row.has_extension(&extension.name));
    if let Some(missing) = missing {
        return Some(format!("extension {} is not installed on it", missing.name));
    }
    None
}

/// Says, when nobody can take the tenant, what each server lacks.
pub fn explain_refusal(want: &Want<'_>, fleet: &[ServerWithUse]) -> Refused {
    if fleet.is_empty() {
        return Refused::new(Code::NoRoom, "there is no server yet; add one: freehold server add NAME --dsn …");
    }
    let reasons: Vec<String> = fleet
        .iter()
        .take(10)
        .map(|server| {
            format!(
                "{}: {}",
                server.row.id,
                obstacle(want, server).unwrap_or_else(|| format!("all {} slots are taken", server.row.capacity))
            )
        })
        .collect();
    let extension = want.template.manifest.extensions.iter().find(|extension| {
        let same_kind = |server: &&ServerWithUse| server.row.kind() == want.kind && server.row.state == "active";
        extension.required
            && fleet.iter().filter(same_kind).count() > 0
            && fleet.iter().filter(same_kind).all(|server| !server.row.has_extension(&extension.name))
    });
    if let Some(extension) = extension {
        let detail = format!(
            "the template requires extension {}, which no server has installed ({})",
            extension.name,
            reasons.join("; ")
        );
        return Refused::new(Code::ExtensionMissing, detail);
    }
    if let Some(region) = want.region
        && !fleet.iter().any(|server| server.row.region.as_deref() == Some(region))
    {
        let detail = format!("no server is in region {} ({})", shown(region), reasons.join("; "));
        return Refused::field("region", detail);
    }
    Refused::new(Code::NoRoom, format!("no server can take the tenant: {}", reasons.join("; ")))
}
