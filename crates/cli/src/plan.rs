//! `freehold plan …`: read-only, because plans are declared in the settings.

use freehold_api::Page;
use freehold_api::id::PlanName;
use freehold_api::plan::{Plan, PoolMode};

use crate::Cx;
use crate::client::{Request, parse};
use crate::failure::Outcome;
use crate::output::{Rows, bytes};

#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// List plans, lowest rank first
    List,
    /// Show one plan
    Show {
        /// Its name
        name: PlanName,
    },
}

pub async fn run(verb: Verb, cx: &mut Cx) -> Outcome {
    match verb {
        Verb::List => list(cx).await,
        Verb::Show { name } => show(name, cx).await,
    }
}

async fn list(cx: &mut Cx) -> Outcome {
    let body = cx.client()?.list(Request::get(&["plans"]), None).await?;
    if cx.out.wants_json() {
        return cx.out.json(&body);
    }
    let page: Page<Plan> = parse(&body)?;
    let mut plans = page.items;
    plans.sort_by_key(|plan| plan.rank);
    let rows = plans.into_iter().map(|plan| {
        vec![
            plan.name.to_string(),
            plan.rank.to_string(),
            plan.server.as_str().to_owned(),
            plan.connection_limit.to_string(),
            plan.pool_size.to_string(),
            plan.storage_quota.map_or("-".to_owned(), bytes),
            if plan.default { "yes" } else { "" }.to_owned(),
        ]
    });
    cx.out.table(Rows {
        header: &["NAME", "RANK", "SERVER", "CONNECTIONS", "POOL", "STORAGE", "DEFAULT"],
        rows: rows.collect(),
        empty: "no plans",
    });
    Ok(())
}

async fn show(name: PlanName, cx: &mut Cx) -> Outcome {
    let body = cx.client()?.send(Request::get(&["plans", name.as_str()])).await?.body;
    if cx.out.wants_json() {
        return cx.out.json(&body);
    }
    let plan: Plan = parse(&body)?;
    let metadata: Vec<String> = plan.metadata.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let milliseconds = |count: u32| if count == 0 { "none".to_owned() } else { format!("{count} ms") };
    let filled = |text: String| Some(text).filter(|text| !text.is_empty());
    cx.out.fields(&[
        ("plan", Some(plan.name.to_string())),
        ("default", plan.default.then(|| "yes".to_owned())),
        ("rank", Some(plan.rank.to_string())),
        ("server", Some(plan.server.as_str().to_owned())),
        ("connections", Some(plan.connection_limit.to_string())),
        ("pool", Some(pool(&plan))),
        ("clients", plan.client_limit.map(|count| count.to_string())),
        ("storage", Some(plan.storage_quota.map_or("unlimited".to_owned(), bytes))),
        ("statement timeout", Some(milliseconds(plan.statement_timeout_ms))),
        ("idle in transaction", Some(milliseconds(plan.idle_in_transaction_timeout_ms))),
        ("work_mem", plan.work_mem_kb.map(|count| bytes(u64::from(count) * 1024))),
        ("temp_file_limit", plan.temp_file_limit_kb.map(|count| bytes(u64::from(count) * 1024))),
        ("extensions", filled(plan.extensions.join(", "))),
        ("stock", Some(plan.stock.to_string())),
        ("metadata", filled(metadata.join(", "))),
    ]);
    Ok(())
}

fn pool(plan: &Plan) -> String {
    let mode = match plan.pool_mode {
        Some(PoolMode::Transaction) => ", by transaction",
        Some(PoolMode::Session) => ", by session",
        None => "",
    };
    match plan.pool_reserve {
        0 => format!("{}{mode}", plan.pool_size),
        reserve => format!("{} and {reserve} in reserve{mode}", plan.pool_size),
    }
}
