//! Chooses servers for a tenant, best first. Reads no database: the caller brings the fleet. Whether a slot is really
//! free is decided later, under a lock.

use std::fmt;

use freehold_api::id::shown;
use freehold_api::problem::Code;
use freehold_api::server::{ServerHealth, ServerKind};
use freehold_api::template::Template;
use freehold_api::tenant::Labels;

use crate::http::problem::Refused;
use crate::server::store::ServerWithUse;
use crate::settings::Placement;

pub mod explain;
pub mod pools;
#[cfg(test)]
mod tests;

/// How many servers a claim of stock looks at: with a thousand of them, the best do.
const CANDIDATES: usize = 64;
/// With this much free a disk is not full, whatever its size.
const FREE_ENOUGH: i64 = 10 << 30;

#[derive(Clone, Copy)]
pub struct Want<'a> {
    pub kind: ServerKind,
    pub region: Option<&'a str>,
    pub labels: &'a Labels,
    pub template: &'a Template,
    /// Of the plan; the template has its own.
    pub extensions: &'a [String],
    pub rules: &'a Placement,
}

impl<'a> Want<'a> {
    /// Extensions without which it cannot be, the template's first.
    pub fn required(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let of_template = self.template.manifest.extensions.iter().filter(|extension| extension.required);
        let of_plan = self.extensions.iter().map(String::as_str);
        of_template.map(|extension| extension.name.as_str()).chain(of_plan)
    }
}

/// The servers that could take it, best first: healthy ones before degraded ones, lower priority, then the emptiest;
/// by name where all of that is equal, so that the order is always the same.
pub fn rank<'f>(want: &Want<'_>, fleet: &'f [ServerWithUse]) -> Vec<&'f ServerWithUse> {
    let fit = fleet.iter().filter(|server| fits(want, server));
    let mut keyed: Vec<_> = fit
        .map(|server| {
            let degraded = server.row.health() == ServerHealth::Degraded;
            ((degraded, server.row.priority), fullness(server), server)
        })
        .collect();
    keyed.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)).then_with(|| a.2.row.id.cmp(&b.2.row.id)));
    keyed.into_iter().map(|(_, _, server)| server).collect()
}

/// Where a ready database is looked for: servers that had stock a moment ago first.
pub fn candidates(ranked: &[&ServerWithUse]) -> Vec<String> {
    let (stocked, bare): (Vec<&ServerWithUse>, Vec<&ServerWithUse>) =
        ranked.iter().copied().partition(|server| server.stock > 0);
    stocked.into_iter().chain(bare).take(CANDIDATES).map(|server| server.row.id.clone()).collect()
}

/// Of tenants: stock gives way to them.
fn fullness(server: &ServerWithUse) -> f64 {
    server.taken_by_now() as f64 / f64::from(server.row.capacity.max(1))
}

pub fn fits(want: &Want<'_>, server: &ServerWithUse) -> bool {
    obstacles(want, server).next().is_none()
}

/// Whether it could, had it a slot.
pub fn suits(want: &Want<'_>, server: &ServerWithUse) -> bool {
    obstacles(want, server).all(|obstacle| matches!(obstacle, Obstacle::Full(_)))
}

/// Everything that speaks against a server; nothing when it can take the tenant.
pub fn obstacles<'a>(want: &Want<'a>, server: &'a ServerWithUse) -> impl Iterator<Item = Obstacle<'a>> {
    let row = &server.row;
    let want = *want;
    let state = (row.state != "active").then_some(Obstacle::State(&row.state));
    let kind = (row.kind() != want.kind).then_some(Obstacle::Kind { is: &row.kind, wanted: want.kind });
    let region = row.region.as_deref();
    let region = (want.region.is_some() && region != want.region).then_some(Obstacle::Region(region));
    let label = label(&want, &row.labels);
    let unhealthy = (row.health() == ServerHealth::Unhealthy)
        .then(|| Obstacle::Unhealthy(row.health_message.as_deref().unwrap_or("no answer")));
    let version = want.template.manifest.minimum_postgres.zip(row.version_num).and_then(|(wanted, found)| {
        let is = u16::try_from(found / 10_000).unwrap_or(0);
        (is < wanted).then_some(Obstacle::Version { is, wanted })
    });
    let missing = want.required().filter(|name| !row.has_extension(name)).map(Obstacle::Extension);
    let full = (server.taken_by_now() >= i64::from(row.capacity)).then_some(Obstacle::Full(row.capacity));
    state
        .into_iter()
        .chain(kind)
        .chain(region)
        .chain(label)
        .chain(unhealthy)
        .chain(version)
        .chain(missing)
        .chain(disk(want.rules, server))
        .chain(size(want.rules, server))
        .chain(connections(want.rules, server))
        .chain(full)
}

/// Keys that the rules name must be the same on both: a server set aside for some takes no others.
fn label<'a>(want: &Want<'a>, labels: &'a Labels) -> Option<Obstacle<'a>> {
    want.rules.labels.iter().find_map(|key| {
        let (wanted, is) = (want.labels.get(key), labels.get(key));
        (wanted != is).then(|| Obstacle::Label { key, is: is.map(String::as_str), wanted: wanted.map(String::as_str) })
    })
}

fn disk<'a>(rules: &Placement, server: &ServerWithUse) -> Option<Obstacle<'a>> {
    let (free, total) = server.row.data_free_bytes.zip(server.row.data_total_bytes)?;
    let wanted = kept_free(rules, total);
    (free < wanted).then_some(Obstacle::Disk { free, wanted })
}

/// By what its databases were measured to take, where its platform was told how much its storage holds: the file system
/// of a container is not seen from here.
fn size<'a>(rules: &Placement, server: &ServerWithUse) -> Option<Obstacle<'a>> {
    let held = server.row.definition.as_ref()?.disk_bytes?;
    let held = i64::try_from(held).unwrap_or(i64::MAX);
    let (used, most) = (server.row.size_bytes?, held - kept_free(rules, held));
    (used > most).then_some(Obstacle::Size { used, most })
}

/// A percentage of a large disk is a lot of room.
pub fn kept_free(rules: &Placement, total: i64) -> i64 {
    (total / 100).saturating_mul(i64::from(rules.minimum_free_percent)).min(FREE_ENOUGH)
}

fn connections<'a>(rules: &Placement, server: &ServerWithUse) -> Option<Obstacle<'a>> {
    let (used, most) = server.row.connections.zip(server.row.connections_max)?;
    let percent = i64::from(rules.maximum_connections_percent);
    let many = most > 0 && i64::from(used) * 100 > i64::from(most) * percent;
    many.then_some(Obstacle::Connections { used, most })
}

/// Why a server cannot take a tenant.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Obstacle<'a> {
    State(&'a str),
    Kind { is: &'a str, wanted: ServerKind },
    Region(Option<&'a str>),
    Label { key: &'a str, is: Option<&'a str>, wanted: Option<&'a str> },
    Unhealthy(&'a str),
    Version { is: u16, wanted: u16 },
    Extension(&'a str),
    Disk { free: i64, wanted: i64 },
    Size { used: i64, most: i64 },
    Connections { used: i32, most: i32 },
    Full(i32),
}

impl fmt::Display for Obstacle<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_none = |value: &Option<&str>| value.unwrap_or("(none)").to_owned();
        match self {
            Self::State(state) => write!(f, "it is {state}"),
            Self::Kind { is, wanted } => write!(f, "it is {is}, the plan wants {}", wanted.as_str()),
            Self::Region(region) => write!(f, "it is in region {}", or_none(region)),
            Self::Label { key, is, wanted } => {
                write!(f, "its label {key} is {}, the tenant's is {}", or_none(is), or_none(wanted))
            }
            Self::Unhealthy(why) => write!(f, "it is unhealthy: {why}"),
            Self::Version { is, wanted } => write!(f, "it is PostgreSQL {is}, the template wants {wanted}"),
            Self::Extension(name) => write!(f, "extension {name} is not installed on it"),
            Self::Disk { free, wanted } => {
                write!(f, "its disk has {} MB free, less than {} MB", mb(free), mb(wanted))
            }
            Self::Size { used, most } => {
                write!(f, "its databases take {} MB, more than {} MB of its storage are for them", mb(used), mb(most))
            }
            Self::Connections { used, most } => write!(f, "{used} of its {most} connections are in use"),
            Self::Full(capacity) => write!(f, "all {capacity} slots are taken"),
        }
    }
}

fn mb(bytes: &i64) -> i64 {
    bytes / (1024 * 1024)
}

/// Says, when nobody can take the tenant, what each server lacks.
pub fn explain_refusal(want: &Want<'_>, fleet: &[ServerWithUse]) -> Refused {
    // Of what is being made, or could not be, its pool says more.
    let is_there = |server: &&ServerWithUse| server.row.pool.is_none() || server.row.provisioned_at.is_some();
    let fleet: Vec<&ServerWithUse> = fleet.iter().filter(is_there).collect();
    if fleet.is_empty() {
        return Refused::new(Code::NoRoom, "there is no server yet; add one: freehold server add NAME --dsn …");
    }
    let reasons: Vec<String> = fleet
        .iter()
        .take(10)
        .map(|server| {
            // No obstacle a moment ago: its last slots were taken meanwhile.
            let why = obstacles(want, server).next().unwrap_or(Obstacle::Full(server.row.capacity));
            format!("{}: {why}", server.row.id)
        })
        .collect();
    let extension = want.required().find(|extension| {
        let same_kind = |server: &&&ServerWithUse| server.row.kind() == want.kind && server.row.state == "active";
        fleet.iter().filter(same_kind).count() > 0
            && fleet.iter().filter(same_kind).all(|server| !server.row.has_extension(extension))
    });
    if let Some(extension) = extension {
        let who = if want.extensions.iter().any(|name| name == extension) { "plan" } else { "template" };
        let detail =
            format!("the {who} requires extension {extension}, which no server has installed ({})", reasons.join("; "));
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
