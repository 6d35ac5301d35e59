//! What would even servers out now. Reads the store alone: sizes and loads are those that the loop `stats` measured last.

use std::collections::BTreeMap;

use freehold_api::drain::{AT_ONCE, DrainState};
use freehold_api::problem::Code;
use freehold_api::rebalance::{RebalanceAmounts, RebalanceGroup, RebalanceMove, RebalanceServer};
use freehold_api::server::{ServerHealth, ServerKind};

use super::group::{self, Group};
use super::plan::{self, Amounts, Bin, End, Limits, Plan, Step, Whole};
use super::store::Resident;
use crate::http::problem::Refused;
use crate::plane::{Answer, Core};
use crate::server::store::ServerWithUse;
use crate::server_pool::wait;
use crate::tenant::movability::judge::COPIED_BYTES;

/// To begin and end a move.
const BEGIN: f64 = 3.0;
/// So many are named where there are more.
const NAMED: usize = 3;

pub struct Asked {
    pub pool: Option<String>,
    pub region: Option<String>,
    pub tolerance_percent: u32,
    pub max_moves: usize,
    pub max_bytes: u64,
    /// Those who are protected from deletion may go too.
    pub protected: bool,
}

#[derive(Default)]
pub struct Suggestion {
    pub groups: Vec<RebalanceGroup>,
    pub moves: Vec<RebalanceMove>,
    pub bytes: u64,
    pub seconds: f64,
}

/// The same for whoever asks and for whoever has it done.
pub async fn suggest(core: &Core, asked: &Asked) -> Answer<Suggestion> {
    let fleet = core.fleet.no_older_than(&core.store, wait::SURE).await?;
    let templates = core.catalog.all(&core.store).await?;
    let mut groups: BTreeMap<(Option<&str>, Option<&str>), Vec<&ServerWithUse>> = BTreeMap::new();
    for server in fleet.iter().filter(|server| is_meant(server, asked)) {
        let row = &server.row;
        groups.entry((row.pool.as_deref(), row.region.as_deref())).or_default().push(server);
    }
    let mut all = Suggestion::default();
    for ((pool, region), servers) in groups {
        let limits = Limits {
            tolerance: u64::from(asked.tolerance_percent) * 10,
            moves: asked.max_moves.saturating_sub(all.moves.len()),
            bytes: asked.max_bytes.saturating_sub(all.bytes),
        };
        let group = group::read(core, asked, &servers, &templates).await?;
        let (group, Plan { steps, end }) = planned(group, limits).await?;
        let told = told(&group, &steps, end, asked);
        for step in steps {
            let bytes = group.items[step.item].has[0];
            all.bytes = all.bytes.saturating_add(bytes);
            all.seconds += BEGIN + bytes as f64 / COPIED_BYTES as f64;
            all.moves.extend(shown(&group.going[step.item], &group.bins[step.to].id));
        }
        all.groups.push(RebalanceGroup {
            pool: pool.and_then(|pool| pool.parse().ok()),
            region: region.map(str::to_owned),
            left_out: if end == End::Even { Vec::new() } else { group.left_out },
            ..told
        });
    }
    all.seconds = (all.seconds / f64::from(AT_ONCE) * 10.0).round() / 10.0;
    Ok(all)
}

/// Those that take tenants now; a server for a single one has nobody to give.
fn is_meant(server: &ServerWithUse, asked: &Asked) -> bool {
    let row = &server.row;
    row.state == "active"
        && row.kind() == ServerKind::Shared
        && row.health() != ServerHealth::Unhealthy
        && asked.pool.as_deref().is_none_or(|pool| row.pool.as_deref() == Some(pool))
        && asked.region.as_deref().is_none_or(|region| row.region.as_deref() == Some(region))
}

/// Away from those who answer requests: of thousands of tenants it takes a moment.
async fn planned(group: Group, limits: Limits) -> Answer<(Group, Plan)> {
    // What nobody knows is not evened out.
    if !group.unmeasured.is_empty() {
        return Ok((group, Plan { steps: Vec::new(), end: End::Best }));
    }
    let planned = tokio::task::spawn_blocking(move || {
        let plan = plan::plan(&group.bins, &group.items, &limits, &|item, to| group.fits(item, to));
        (group, plan)
    });
    planned.await.map_err(|_| Refused::new(Code::Internal, "the suggestion was not thought through to its end"))
}

fn told(group: &Group, steps: &[Step], end: End, asked: &Asked) -> RebalanceGroup {
    let bins = &group.bins;
    let mut after: Vec<Amounts> = bins.iter().map(|bin| bin.has).collect();
    for step in steps {
        let goes = &group.items[step.item].has;
        after[step.from] = plan::less(&after[step.from], goes);
        after[step.to] = plan::more(&after[step.to], goes);
    }
    let whole = Whole::of(bins);
    let furthest = |bin: &Bin, has: &Amounts| whole.off(bin, has).into_iter().flatten().max().unwrap_or(0);
    let now = bins.iter().map(|bin| furthest(bin, &bin.has)).max().unwrap_or(0);
    let then = bins.iter().zip(&after).map(|(bin, after)| furthest(bin, after)).max().unwrap_or(0);
    let percent = |off: u64| off as f64 / 10.0;
    let amounts = |has: &Amounts| RebalanceAmounts {
        bytes: has[0],
        tenants: has[1],
        transactions_per_second: has[2] as f64 / 1000.0,
    };
    let server = |(bin, after): (&Bin, &Amounts)| {
        Some(RebalanceServer { server: bin.id.parse().ok()?, now: amounts(&bin.has), after: amounts(after) })
    };
    RebalanceGroup {
        pool: None,
        region: None,
        servers: bins.iter().zip(&after).filter_map(server).collect(),
        off_percent: percent(now),
        off_percent_after: percent(then),
        why: why(group, steps, end, then, asked),
        left_out: Vec::new(),
    }
}

fn why(group: &Group, steps: &[Step], end: End, then: u64, asked: &Asked) -> Option<String> {
    if group.bins.len() < 2 {
        return Some("no other server of the same kind takes tenants".into());
    }
    if let Some(first) = group.unmeasured.first() {
        let named = group.unmeasured.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
        let (who, was) = match group.unmeasured.len() {
            1 => (format!("tenant {first}"), "was"),
            count if count <= NAMED => (format!("tenants {named}"), "were"),
            count => (format!("tenants {named} and {} more", count - NAMED), "were"),
        };
        return Some(format!(
            "{who} {was} moved, and not measured since: ask again after two rounds of the loop stats (stats.period_seconds)"
        ));
    }
    let tolerance = asked.tolerance_percent;
    match (end, steps.is_empty()) {
        (End::Even, _) => Some(format!("every server is within {tolerance} % of its share")),
        (End::Slight, _) => Some("no tenant that can be moved would make it notably more even".into()),
        (End::Limited, true) => Some("no move that would help is within max_moves and max_bytes".into()),
        (End::Limited, false) => Some(format!(
            "{} moves of {} bytes are as many as are to be made at once (max_moves, max_bytes): ask again when they are done",
            steps.len(),
            steps.iter().map(|step| group.items[step.item].has[0]).sum::<u64>()
        )),
        (End::Best, true) => {
            Some("no tenant that can be moved would make it more even where placement lets it go".into())
        }
        (End::Best, false) => (then > u64::from(tolerance) * 10)
            .then(|| "nobody else who can be moved would make it more even".to_owned()),
    }
}

fn shown(resident: &Resident, to: &str) -> Option<RebalanceMove> {
    Some(RebalanceMove {
        tenant: resident.tenant_id.parse().ok()?,
        from: resident.server_id.parse().ok()?,
        to: to.parse().ok()?,
        bytes: resident.bytes.and_then(|bytes| u64::try_from(bytes).ok()),
        state: DrainState::Waiting,
        operation: None,
        code: None,
        message: None,
    })
}
