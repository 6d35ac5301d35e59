//! One turn of the governor, over all servers. A server that bears the pools of all its plans costs no look at its databases.

use std::collections::BTreeMap;

use freehold_durable::{Failure, LoopCx};
use sqlx::types::Json;

use super::allocate::{self, Budget, Database, Need};
use super::judge::{self, Standing};
use super::store::{self, BudgetRow, Change, Group, Row};
use crate::plane::Core;
use crate::pooler::render;

/// Grants that changed are in no generation yet when this returns.
pub async fn turn(core: &Core, cx: &LoopCx) -> Result<(), Failure> {
    let groups = store::groups(&core.store).await?;
    let known = store::all(&core.store).await?;
    let mut granted = BTreeMap::new();
    let mut pooled = Vec::new();
    for groups in groups.chunk_by(|one, other| one.server_id == other.server_id) {
        let id = groups[0].server_id.as_str();
        pooled.push(id);
        let turn = Turn::new(core, groups, known.get(id));
        let found = match turn.rows(core).await? {
            Some(rows) => turn.among(core, &rows),
            None => turn.untouched(core),
        };
        for (pooler, sum) in &found.granted {
            add(&mut granted, pooler, *sum);
        }
        if found.changes.is_empty() && found.budget.as_ref() == known.get(id) {
            continue;
        }
        let mut tx = core.store.begin().await?;
        let poolers: Vec<String> = found.granted.into_keys().collect();
        let given = store::give(&mut tx, &poolers, &found.changes).await?;
        if let Some(row) = &found.budget {
            store::record(&mut tx, row, known.get(id)).await?;
        }
        cx.still_mine_in(&mut tx).await?;
        tx.commit().await?;
        if given > 0 {
            tracing::debug!(server = id, databases = given, "other pool sizes");
        }
    }
    if known.keys().any(|server| !pooled.contains(&server.as_str())) {
        store::forget(&core.store, &pooled).await?;
    }
    Ok(store::set_granted(&core.store, &granted).await?)
}

/// One server.
struct Turn<'a> {
    groups: &'a [Group],
    /// What it admits, and what is there of that for pools. None: nobody has seen it yet.
    budget: Option<(u32, Budget)>,
    plans: Vec<(&'a str, u32, u64)>,
    was: Option<&'a BudgetRow>,
}

struct Found {
    changes: Vec<Change>,
    budget: Option<BudgetRow>,
    /// By pooler.
    granted: BTreeMap<String, i32>,
}

impl<'a> Turn<'a> {
    fn new(core: &Core, groups: &'a [Group], was: Option<&'a BudgetRow>) -> Self {
        let settings = &core.settings.pooler;
        let budget = groups[0].admits.and_then(|admits| u32::try_from(admits).ok()).map(|admits| {
            let connections = admits.saturating_sub(settings.server_reserve);
            (admits, Budget { connections, oversubscription: settings.oversubscription })
        });
        let plans = groups.chunk_by(|one, other| one.plan == other.plan).map(|of_plan| {
            let count: i64 = of_plan.iter().map(|group| group.databases).sum();
            let plan = of_plan[0].plan.as_str();
            (plan, render::whole_pool(core.plan(plan)), u64::try_from(count).unwrap_or(0))
        });
        Self { groups, budget, plans: plans.collect(), was }
    }

    /// None where everybody has, and may have, all that their plans say.
    async fn rows(&self, core: &Core) -> sqlx::Result<Option<Vec<Row>>> {
        let Some((_, budget)) = self.budget else { return Ok(None) };
        let wanted: u64 = self.plans.iter().map(|(_, most, count)| u64::from(*most) * count).sum();
        if wanted <= u64::from(budget.connections) && !self.groups.iter().any(|group| group.limited) {
            return Ok(None);
        }
        store::rows(&core.store, &self.groups[0].server_id).await.map(Some)
    }

    fn untouched(&self, core: &Core) -> Found {
        let mut granted = BTreeMap::new();
        for group in self.groups {
            let each = i64::from(render::whole_pool(core.plan(&group.plan)));
            add(&mut granted, &group.pooler_id, few(each.saturating_mul(group.databases)));
        }
        let sum = granted.values().map(|sum| i64::from(*sum)).sum();
        let room = self.budget.map_or(0, |(_, budget)| budget.connections);
        Found { changes: Vec::new(), budget: self.budget_row(None, sum, 0, room), granted }
    }

    fn among(&self, core: &Core, rows: &[Row]) -> Found {
        let Some((_, budget)) = self.budget else { return self.untouched(core) };
        let whole = |row: &Row| render::whole_pool(core.plan(&row.plan));
        let before = self.was.and_then(|was| was.resting).and_then(|level| u32::try_from(level).ok());
        let most = self.plans.iter().map(|(_, most, count)| ((*most).min(budget.connections.max(1)), *count));
        let resting = allocate::resting(budget, most, before);
        let databases: Vec<Database> = rows.iter().map(|row| database(row, whole(row), budget, resting)).collect();
        let given = allocate::allocate(budget, resting, &databases);
        let mut granted = BTreeMap::new();
        let mut changes = Vec::new();
        for ((row, one), given) in rows.iter().zip(&databases).zip(given) {
            add(&mut granted, &row.pooler_id, few(given.into()));
            let pooler_grant = (given < whole(row)).then(|| few(given.into()));
            let had = row.pooler_grant.filter(|grant| *grant < few(whole(row).into()));
            if pooler_grant != had && !row.paused {
                let held = (one.in_force > given).then(|| few(one.in_force.into()));
                changes.push(Change { id: row.id, pooler_grant, held });
            }
        }
        let working = databases.iter().filter(|one| one.need != Need::Rest).count();
        let sum = granted.values().map(|sum| i64::from(*sum)).sum();
        let room = allocate::room(budget, resting, &databases);
        let budget = self.budget_row(resting, sum, u32::try_from(working).unwrap_or(u32::MAX), room);
        Found { changes, budget, granted }
    }

    fn budget_row(&self, resting: Option<u32>, granted: i64, working: u32, room: u32) -> Option<BudgetRow> {
        let (admits, budget) = self.budget?;
        let standing = Standing { budget, admits, plans: &self.plans, resting, working, room };
        Some(BudgetRow {
            server_id: self.groups[0].server_id.clone(),
            budget: few(budget.connections.into()),
            resting: resting.map(|level| few(level.into())),
            crowded: standing.is_crowded(),
            databases: few(i64::try_from(standing.databases()).unwrap_or(i64::MAX)),
            wanted: few(i64::try_from(standing.wanted()).unwrap_or(i64::MAX)),
            granted: few(granted),
            findings: Json(judge::findings(&standing)),
        })
    }
}

/// A pool larger than the whole budget gets that. What it has besides what others at rest have, it keeps for a while.
fn database(row: &Row, whole: u32, budget: Budget, resting: Option<u32>) -> Database {
    let count = |count: Option<i32>| count.and_then(|count| u32::try_from(count).ok());
    let most = whole.min(budget.connections).max(1);
    let had = count(row.pooler_grant).unwrap_or(whole).min(whole);
    let granted = had.clamp(1, most);
    let is_as_others = granted == allocate::at_rest(most, resting);
    Database {
        most,
        granted,
        in_force: had.max(count(row.held).unwrap_or(0)),
        open: count(Some(row.open)).unwrap_or(0),
        need: match (row.waits && !row.paused, row.works || row.paused || row.worked && !is_as_others) {
            (true, _) => Need::More,
            (false, true) => Need::Work,
            (false, false) => Need::Rest,
        },
    }
}

fn add(granted: &mut BTreeMap<String, i32>, pooler: &str, more: i32) {
    let sum = granted.entry(pooler.to_owned()).or_default();
    *sum = sum.saturating_add(more);
}

fn few(count: i64) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}
