//! Whether a server pool could take a tenant with one more server, and whether it should have one more. Pure.

use std::collections::BTreeMap;
use std::fmt;

use freehold_api::server::{ServerHealth, ServerKind};
use freehold_api::tenant::Labels;

use super::{Want, connections, disk, size, suits};
use crate::server::store::ServerWithUse;
use crate::settings::{Placement, ServerPool};

/// A pool of the settings, with what is there of it.
pub struct PoolView<'a> {
    pub pool: &'a ServerPool,
    /// All that are not removed.
    pub servers: Vec<&'a ServerWithUse>,
    /// Tenants that wait for its next server.
    pub waiting: Vec<&'a Waiters>,
    /// Why the last try to make one failed, while the next is not due.
    pub resting: Option<&'a str>,
    rules: &'a Placement,
}

/// Tenants that wait and want the same.
#[derive(Debug, Clone, PartialEq)]
pub struct Waiters {
    pub pool: String,
    pub plan: String,
    pub template: String,
    pub region: Option<String>,
    /// Those that placement goes by.
    pub labels: Labels,
    pub count: i64,
}

/// What the store knows of pools besides their servers.
#[derive(Debug, Default)]
pub struct Growth {
    pub waiting: Vec<Waiters>,
    /// By pool.
    pub resting: BTreeMap<String, String>,
}

pub fn views<'a>(
    pools: &'a [ServerPool],
    rules: &'a Placement,
    fleet: &'a [ServerWithUse],
    growth: &'a Growth,
) -> Vec<PoolView<'a>> {
    let view = |pool: &'a ServerPool| {
        let name = pool.name.as_str();
        PoolView {
            pool,
            servers: fleet.iter().filter(|server| server.row.pool.as_deref() == Some(name)).collect(),
            waiting: growth.waiting.iter().filter(|waiters| waiters.pool == name).collect(),
            resting: growth.resting.get(name).map(String::as_str),
            rules,
        }
    };
    pools.iter().map(view).collect()
}

/// The pool whose next server the tenant waits for: lower priority first, then by name. None: no pool could take it.
pub fn choose<'v, 'a>(want: &Want<'_>, views: &'v [PoolView<'a>]) -> Option<&'v PoolView<'a>> {
    let fit = views.iter().filter(|view| obstacles(want, view).next().is_none());
    fit.min_by_key(|view| (view.pool.priority, view.pool.name.as_str()))
}

impl PoolView<'_> {
    /// The server that is being made.
    pub fn growing(&self) -> Option<&ServerWithUse> {
        self.servers.iter().copied().find(|server| server.row.state == "provisioning")
    }

    /// How many count towards the maximum. What never came into being, and was taken back, does not.
    pub fn count(&self) -> usize {
        let is_there = |server: &&&ServerWithUse| server.row.state != "failed" || server.row.provisioned_at.is_some();
        self.servers.iter().filter(is_there).count()
    }

    pub fn tenants(&self) -> i64 {
        self.servers.iter().map(|server| server.tenants).sum()
    }

    /// Slots without a tenant, on servers that take tenants now.
    pub fn spare(&self) -> i64 {
        self.servers.iter().filter(|server| self.is_usable(server)).map(|server| free(server)).sum()
    }

    pub fn waiting(&self) -> i64 {
        self.waiting.iter().map(|waiters| waiters.count).sum()
    }

    /// How many of these no server of it has a slot for, now or once the next is there. A slot that they may not have
    /// (another extension, a label that was changed) does not count.
    pub fn short_of(&self, waiters: &Waiters, want: &Want<'_>) -> i64 {
        let now: i64 = self.servers.iter().filter(|server| suits(want, server)).map(|server| free(server)).sum();
        waiters.count - now - self.growing().map_or(0, free)
    }

    /// Servers of one machine share its disk: another would not find room there either.
    pub fn machine_is_full(&self) -> bool {
        self.pool.platform == "process" && self.servers.iter().any(|server| disk(self.rules, server).is_some())
    }

    fn is_usable(&self, server: &ServerWithUse) -> bool {
        server.row.state == "active"
            && server.row.health() != ServerHealth::Unhealthy
            && self.has_space(server)
            && connections(self.rules, server).is_none()
    }

    fn has_space(&self, server: &ServerWithUse) -> bool {
        disk(self.rules, server).is_none() && size(self.rules, server).is_none()
    }

    /// For a while: it does not answer, somebody works on it, or its connections are in use at the moment.
    fn is_away(&self, server: &ServerWithUse) -> bool {
        let row = &server.row;
        match row.state.as_str() {
            "active" => {
                let is_busy = self.has_space(server) && connections(self.rules, server).is_some();
                row.health() == ServerHealth::Unhealthy || is_busy
            }
            "failed" => row.provisioned_at.is_some(),
            "maintenance" => true,
            _ => false,
        }
    }

    fn may_add(&self) -> i64 {
        i64::from(self.pool.maximum_servers) - i64::try_from(self.count()).unwrap_or(i64::MAX)
    }

    /// Why it should have another server now; None when it should not, or has one on its way, or may not. `short`: how
    /// many of those that wait for it have no slot to go to.
    pub fn need(&self, short: i64) -> Option<Need> {
        let need = self.wish(short)?;
        let may = self.growing().is_none() && self.may_add() > 0 && self.resting.is_none() && !self.machine_is_full();
        may.then_some(need)
    }

    /// The same, whether or not it can be had.
    pub fn wish(&self, short: i64) -> Option<Need> {
        let spare = self.spare() + self.growing().map_or(0, free);
        // One that is away for a while comes back: only tenants that wait are a reason to replace it.
        let away = self.servers.iter().filter(|server| self.is_away(server)).map(|server| free(server)).sum::<i64>();
        let kept = i64::from(self.pool.spare());
        let waiting = self.waiting();
        let short = short.max(waiting - spare);
        if short > 0 {
            Some(Need::Waiting(short))
        } else if waiting + kept > spare + away {
            Some(Need::Spare { kept, has: spare - waiting })
        } else if self.count() == 0 && self.pool.kind == ServerKind::Shared {
            Some(Need::First)
        } else {
            None
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// So many tenants have nowhere to go.
    Waiting(i64),
    Spare {
        kept: i64,
        has: i64,
    },
    First,
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Waiting(count) => write!(f, "{count} tenants wait"),
            Self::Spare { kept, has } => write!(f, "it has {has} spare slots and keeps {kept}"),
            Self::First => write!(f, "it has no server"),
        }
    }
}

/// As it was counted. What this process placed since may have been counted already: twice would be a server too many.
fn free(server: &ServerWithUse) -> i64 {
    (i64::from(server.row.capacity) - server.taken()).max(0)
}

/// Everything that speaks against waiting for a server of this pool.
pub fn obstacles<'a>(want: &Want<'a>, view: &'a PoolView<'_>) -> impl Iterator<Item = Obstacle<'a>> {
    let pool = view.pool;
    let manifest = &want.template.manifest;
    let kind = (pool.kind != want.kind).then_some(Obstacle::Kind);
    let region = pool.region.as_deref();
    let region = (want.region.is_some() && region != want.region).then_some(Obstacle::Region(region));
    let label = want.rules.labels.iter().find(|key| want.labels.get(*key) != pool.labels.get(*key));
    let version = manifest.minimum_postgres.filter(|wanted| pool.postgres < *wanted).map(Obstacle::Version);
    // What its newest server lacks, the next one would lack too.
    let known = view.servers.iter().filter(|server| server.row.version_num.is_some());
    let newest = known.max_by_key(|server| (server.row.created_at.to_jiff(), &server.row.id));
    let missing = want.required().find(|name| newest.is_some_and(|newest| !newest.row.has_extension(name)));
    kind.into_iter()
        .chain(region)
        .chain(label.map(|key| Obstacle::Label(key)))
        .chain(version)
        .chain(missing.map(Obstacle::Extension))
        .chain(view.machine_is_full().then_some(Obstacle::Disk))
        .chain(full(want, view))
        .chain(view.resting.map(Obstacle::Resting))
}

/// What it will have, once it has all that it may have, is taken or waited for.
fn full<'a>(want: &Want<'_>, view: &PoolView<'_>) -> Option<Obstacle<'a>> {
    let now: i64 = view.servers.iter().filter(|server| suits(want, server)).map(|server| free(server)).sum();
    let soon = view.growing().map_or(0, free);
    let later = view.may_add().max(0).saturating_mul(i64::from(view.pool.slots()));
    let maximum = view.pool.maximum_servers;
    (now + soon + later <= view.waiting()).then_some(match view.waiting() {
        0 => Obstacle::Maximum(maximum),
        waiting => Obstacle::Waiting { maximum, waiting },
    })
}

/// Why a pool's next server would not help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle<'a> {
    Kind,
    Region(Option<&'a str>),
    Label(&'a str),
    Version(u16),
    Extension(&'a str),
    Disk,
    Maximum(u32),
    Waiting { maximum: u32, waiting: i64 },
    Resting(&'a str),
}

impl fmt::Display for Obstacle<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kind => write!(f, "its servers are not of the kind that the plan wants"),
            Self::Region(region) => write!(f, "it is in region {}", region.unwrap_or("(none)")),
            Self::Label(key) => write!(f, "its label {key} is not the tenant's"),
            Self::Version(wanted) => write!(f, "its PostgreSQL is older than {wanted}, which the template wants"),
            Self::Extension(name) => write!(f, "extension {name} is not installed on its servers"),
            Self::Disk => write!(f, "the disk of its servers' machine is nearly full"),
            Self::Maximum(maximum) => write!(f, "it has its {maximum} servers, and all slots are taken"),
            Self::Waiting { maximum, waiting } => {
                write!(f, "{waiting} tenants wait for the last slots of its {maximum} servers")
            }
            Self::Resting(why) => write!(f, "it could not start a server: {why}"),
        }
    }
}
