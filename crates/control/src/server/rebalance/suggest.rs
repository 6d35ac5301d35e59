//! What would even servers out now. Reads the store alone: sizes and loads are those that were measured last.

use std::collections::{BTreeMap, HashMap};

use freehold_api::drain::{AT_ONCE, DrainState};
use freehold_api::id::TenantId;
use freehold_api::rebalance::{RebalanceAmounts, RebalanceGroup, RebalanceMove, RebalanceServer};
use freehold_api::server::{ServerHealth, ServerKind};

use super::plan::{self, Amounts, Bin, Item, Step};
use super::store::{self, Resident};
use crate::plane::{Answer, Core};
use crate::server::store::ServerWithUse;
use crate::server_pool::wait;
use crate::tenant::movability::judge::COPIED_BYTES;
use crate::tenant::placement::{self, Want};

/// To begin and end a move.
const BEGIN: f64 = 3.0;

pub struct Asked<'a> {
    pub pool: Option<&'a str>,
    pub region: Option<&'a str>,
    pub tolerance_percent: u32,
}

#[derive(Default)]
pub struct Suggestion {
    pub groups: Vec<RebalanceGroup>,
    pub moves: Vec<RebalanceMove>,
    pub bytes: u64,
    pub seconds: f64,
}

pub async fn suggest(core: &Core, asked: &Asked<'_>) -> Answer<Suggestion> {
    let fleet = core.fleet.no_older_than(&core.store, wait::SURE).await?;
    let templates = core.catalog.all(&core.store).await?;
    let mut groups: BTreeMap<(Option<&str>, Option<&str>), Vec<&ServerWithUse>> = BTreeMap::new();
    for server in fleet.iter().filter(|server| is_meant(server, asked)) {
        let row = &server.row;
        groups.entry((row.pool.as_deref(), row.region.as_deref())).or_default().push(server);
    }
    let mut all = Suggestion::default();
    for ((pool, region), servers) in groups {
        let ids: Vec<String> = servers.iter().map(|server| server.row.id.clone()).collect();
        let residents = store::residents(&core.store, &ids).await?;
        let mut bins: Vec<Bin> = servers.iter().map(|server| bin(core, server)).collect();
        let index: HashMap<&str, usize> = ids.iter().enumerate().map(|(n, id)| (id.as_str(), n)).collect();
        let (mut items, mut going) = (Vec::new(), Vec::new());
        for resident in &residents {
            let (Some(at), has) = (index.get(resident.server_id.as_str()).copied(), amounts(resident)) else {
                continue;
            };
            bins[at].has = plan::more(&bins[at].has, &has);
            if resident.can_go && templates.contains_key(&resident.template) {
                items.push(Item { id: resident.tenant_id.clone(), at, has });
                going.push(resident);
            }
        }
        let fits = |item: usize, to: usize| {
            let resident = going[item];
            let tenants_plan = core.plan(&resident.plan);
            let Some((template, _)) = templates.get(&resident.template) else { return false };
            let want = Want {
                kind: tenants_plan.server,
                region: resident.region.as_deref(),
                labels: &resident.labels.0,
                template,
                extensions: &tenants_plan.extensions,
                rules: &core.settings.placement,
            };
            placement::fits(&want, servers[to])
        };
        let tolerance = f64::from(asked.tolerance_percent) / 100.0;
        let steps = plan::plan(&bins, &items, tolerance, &fits);
        let group = told(&bins, &items, &steps, tolerance);
        all.groups.push(RebalanceGroup {
            pool: pool.and_then(|pool| pool.parse().ok()),
            region: region.map(str::to_owned),
            ..group
        });
        for step in steps {
            let resident = going[step.item];
            all.bytes = all.bytes.saturating_add(items[step.item].has[0]);
            all.seconds += BEGIN + items[step.item].has[0] as f64 / COPIED_BYTES as f64;
            all.moves.extend(shown(resident, &bins[step.to].id));
        }
    }
    all.seconds = (all.seconds / f64::from(AT_ONCE) * 10.0).round() / 10.0;
    Ok(all)
}

/// Those that take tenants now; a server for a single one has nobody to give.
fn is_meant(server: &ServerWithUse, asked: &Asked<'_>) -> bool {
    let row = &server.row;
    row.state == "active"
        && row.kind() == ServerKind::Shared
        && row.health() != ServerHealth::Unhealthy
        && asked.pool.is_none_or(|pool| row.pool.as_deref() == Some(pool))
        && asked.region.is_none_or(|region| row.region.as_deref() == Some(region))
}

fn bin(core: &Core, server: &ServerWithUse) -> Bin {
    let row = &server.row;
    let slots = i64::from(row.capacity) - server.taken_by_now();
    let rules = &core.settings.placement;
    let of_disk = row.data_free_bytes.zip(row.data_total_bytes);
    let of_disk = of_disk.map(|(free, total)| free - placement::kept_free(rules, total));
    let held = row.definition.as_ref().and_then(|definition| definition.disk_bytes);
    let held = held.map(|held| i64::try_from(held).unwrap_or(i64::MAX));
    let of_platform = held.zip(row.size_bytes).map(|(held, used)| held - placement::kept_free(rules, held) - used);
    let room = [of_disk, of_platform].into_iter().flatten().min();
    Bin {
        id: row.id.clone(),
        has: [0; 3],
        slots: u64::try_from(slots).unwrap_or(0),
        room: room.map(|room| u64::try_from(room).unwrap_or(0)),
    }
}

fn amounts(resident: &Resident) -> Amounts {
    let bytes = resident.bytes.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0);
    [bytes, 1, (resident.transactions_per_second.max(0.0) * 1000.0).round() as u64]
}

fn shown(resident: &Resident, to: &str) -> Option<RebalanceMove> {
    let tenant: TenantId = resident.tenant_id.parse().ok()?;
    Some(RebalanceMove {
        tenant,
        from: resident.server_id.parse().ok()?,
        to: to.parse().ok()?,
        bytes: resident.bytes.and_then(|bytes| u64::try_from(bytes).ok()),
        state: DrainState::Waiting,
        operation: None,
        code: None,
        message: None,
    })
}

fn told(bins: &[Bin], items: &[Item], steps: &[Step], tolerance: f64) -> RebalanceGroup {
    let mut after: Vec<Amounts> = bins.iter().map(|bin| bin.has).collect();
    for step in steps {
        let goes = &items[step.item].has;
        after[step.from] = plan::less(&after[step.from], goes);
        after[step.to] = plan::more(&after[step.to], goes);
    }
    let total = plan::total(bins);
    let furthest = |all: &mut dyn Iterator<Item = &Amounts>| {
        all.flat_map(|has| plan::off(&total, bins.len(), has)).flatten().fold(0.0, f64::max)
    };
    let (now, then) = (furthest(&mut bins.iter().map(|bin| &bin.has)), furthest(&mut after.iter()));
    let percent = |off: f64| (off * 1000.0).round() / 10.0;
    let why = match (bins.len(), steps.is_empty()) {
        (0 | 1, _) => Some("no other server of the same kind takes tenants".to_owned()),
        (_, true) if now <= tolerance => Some(format!("every server is within {:.0} % of the mean", tolerance * 100.0)),
        (_, true) => Some("no tenant that can be moved would make it more even where placement lets it go".to_owned()),
        (_, false) if steps.len() >= plan::MOST => {
            Some(format!("{} moves are enough for once: ask again when they are done", plan::MOST))
        }
        (_, false) if then > tolerance => Some("nobody else who can be moved would make it more even".to_owned()),
        (_, false) => None,
    };
    let amounts = |has: &Amounts| RebalanceAmounts {
        bytes: has[0],
        tenants: has[1],
        transactions_per_second: has[2] as f64 / 1000.0,
    };
    let servers = bins.iter().zip(&after).filter_map(|(bin, after)| {
        Some(RebalanceServer { server: bin.id.parse().ok()?, now: amounts(&bin.has), after: amounts(after) })
    });
    RebalanceGroup {
        pool: None,
        region: None,
        servers: servers.collect(),
        off_percent: percent(now),
        off_percent_after: percent(then),
        why,
    }
}
