//! Servers that may trade tenants: what is on them, who of theirs may go, and where to.

use std::collections::HashMap;

use freehold_api::rebalance::RebalanceLeftOut;
use freehold_api::server::ServerHealth;

use super::plan::{self, Amounts, Bin, Item};
use super::stays;
use super::store::{self, Resident};
use super::suggest::Asked;
use crate::plane::{Answer, Core};
use crate::schema::catalog::Templates;
use crate::server::store::ServerWithUse;
use crate::tenant::placement::{self, Want};

/// What placement looks at: plan, region, template, and the labels that its rules name.
type Alike = (String, Option<String>, String, Vec<Option<String>>);

pub struct Group {
    pub bins: Vec<Bin>,
    /// Those who may go; of each its resident, and which of `lets` it is.
    pub items: Vec<Item>,
    pub going: Vec<Resident>,
    kinds: Vec<usize>,
    /// Of tenants that placement treats alike, where it lets them go.
    lets: Vec<Vec<bool>>,
    /// Of each server, the major version of its PostgreSQL.
    majors: Vec<Option<i32>>,
    pub left_out: Vec<RebalanceLeftOut>,
    /// Who came by a move, and was not measured since.
    pub unmeasured: Vec<String>,
}

impl Group {
    /// To another major version nobody goes for the sake of evenness.
    pub fn fits(&self, item: usize, to: usize) -> bool {
        self.lets[self.kinds[item]][to] && self.majors[self.items[item].at] == self.majors[to]
    }
}

pub async fn read(core: &Core, asked: &Asked, servers: &[&ServerWithUse], templates: &Templates) -> Answer<Group> {
    let ids: Vec<String> = servers.iter().map(|server| server.row.id.clone()).collect();
    let period = core.settings.stats.period_seconds as f64;
    let residents = store::residents(&core.store, &ids, period).await?;
    let index: HashMap<&str, usize> = ids.iter().enumerate().map(|(n, id)| (id.as_str(), n)).collect();
    let mut group = Group {
        bins: servers.iter().map(|server| bin(core, server)).collect(),
        items: Vec::new(),
        going: Vec::new(),
        kinds: Vec::new(),
        lets: Vec::new(),
        majors: servers.iter().map(|server| server.row.version_num.map(|version| version / 10_000)).collect(),
        left_out: Vec::new(),
        unmeasured: Vec::new(),
    };
    let mut known: HashMap<Alike, usize> = HashMap::new();
    for resident in residents {
        let has = amounts(&resident);
        // Who is on the way is counted where it goes, and copies itself there.
        let counts_at = resident.goes_to.as_ref().unwrap_or(&resident.server_id);
        if let Some(&at) = index.get(counts_at.as_str()) {
            let bin = &mut group.bins[at];
            bin.has = plan::more(&bin.has, &has);
            if resident.goes_to.is_some() {
                bin.room = bin.room.map(|room| room.saturating_sub(plan::needs(has[0])));
            }
        }
        let Some(&at) = index.get(resident.server_id.as_str()) else { continue };
        if resident.is_unmeasured {
            group.unmeasured.push(resident.tenant_id.clone());
        }
        let next_kind = resident.next_plan.as_deref().map(|plan| core.plan(plan).server);
        let template = templates.get(&resident.template);
        let stays = stays::why(&resident, next_kind, asked.protected).or_else(|| {
            let why = || format!("its template {} is not there any more", resident.template);
            template.is_none().then(|| ("unknown_template".to_owned(), why()))
        });
        let (Some((template, _)), None) = (template, &stays) else {
            group.left_out.extend(stays.and_then(|why| left_out(&resident, why)));
            continue;
        };
        let tenants_plan = core.plan(&resident.plan);
        let want = Want {
            kind: tenants_plan.server,
            region: resident.region.as_deref(),
            labels: &resident.labels.0,
            template,
            extensions: &tenants_plan.extensions,
            rules: &core.settings.placement,
        };
        let labels = want.rules.labels.iter().map(|key| resident.labels.0.get(key).cloned()).collect();
        let alike = (resident.plan.clone(), resident.region.clone(), resident.template.clone(), labels);
        let kind = *known.entry(alike).or_insert_with(|| {
            group.lets.push(servers.iter().map(|server| lets(&want, server)).collect());
            group.lets.len() - 1
        });
        group.kinds.push(kind);
        group.items.push(Item { id: resident.tenant_id.clone(), at, has });
        group.going.push(resident);
    }
    Ok(group)
}

/// A server that ails is not given more.
fn lets(want: &Want<'_>, server: &ServerWithUse) -> bool {
    server.row.health() != ServerHealth::Degraded && placement::fits(want, server)
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
        capacity: u64::try_from(row.capacity).unwrap_or(0),
        has: [0; 3],
        slots: u64::try_from(slots).unwrap_or(0),
        room: room.map(|room| u64::try_from(room).unwrap_or(0)),
    }
}

fn amounts(resident: &Resident) -> Amounts {
    let bytes = resident.bytes.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0);
    [bytes, 1, (resident.transactions_per_second.max(0.0) * 1000.0).round() as u64]
}

fn left_out(resident: &Resident, (code, message): (String, String)) -> Option<RebalanceLeftOut> {
    let (tenant, server) = (resident.tenant_id.parse().ok()?, resident.server_id.parse().ok()?);
    Some(RebalanceLeftOut { tenant, server, code, message })
}
