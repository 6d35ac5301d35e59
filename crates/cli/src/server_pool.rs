//! `freehold server-pool …`: pools are declared in the settings; here they are looked at, and told to grow.

use freehold_api::Page;
use freehold_api::id::PoolName;
use freehold_api::server_pool::ServerPool;
use serde_json::json;

use crate::Cx;
use crate::client::{Request, parse};
use crate::failure::Outcome;
use crate::follow::{self, Settled, WaitArgs};
use crate::output::{Rows, bytes};

#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// List server pools
    List,
    /// Show one server pool
    Show {
        /// Its name
        name: PoolName,
    },
    /// Make one more server now; also when the last try failed
    Grow {
        /// Its name
        name: PoolName,
        #[command(flatten)]
        wait: WaitArgs,
    },
}

pub async fn run(verb: Verb, cx: &mut Cx) -> Outcome {
    match verb {
        Verb::List => list(cx).await,
        Verb::Show { name } => show(name, cx).await,
        Verb::Grow { name, wait } => grow(name, &wait, cx).await,
    }
}

async fn list(cx: &mut Cx) -> Outcome {
    let body = cx.client()?.list(Request::get(&["server-pools"]), None).await?;
    if cx.out.wants_json() {
        return cx.out.json(&body);
    }
    let page: Page<ServerPool> = parse(&body)?;
    let rows = page.items.into_iter().map(|pool| {
        vec![
            pool.name.to_string(),
            pool.platform,
            pool.kind.as_str().to_owned(),
            format!("{}/{}", pool.servers, pool.maximum_servers),
            pool.tenants.to_string(),
            format!("{}/{}", pool.spare, pool.minimum_spare),
            pool.waiting.to_string(),
            pool.growing.map_or("-".to_owned(), |server| server.to_string()),
        ]
    });
    cx.out.table(Rows {
        header: &["NAME", "PLATFORM", "KIND", "SERVERS", "TENANTS", "SPARE", "WAITING", "GROWING"],
        rows: rows.collect(),
        empty: "no server pools; [[server_pool]] in the settings declares one",
    });
    Ok(())
}

async fn show(name: PoolName, cx: &mut Cx) -> Outcome {
    let body = cx.client()?.send(Request::get(&["server-pools", name.as_str()])).await?.body;
    if cx.out.wants_json() {
        return cx.out.json(&body);
    }
    let pool: ServerPool = parse(&body)?;
    let labels: Vec<String> = pool.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let filled = |text: String| Some(text).filter(|text| !text.is_empty());
    cx.out.fields(&[
        ("pool", Some(pool.name.to_string())),
        ("platform", Some(pool.platform)),
        ("kind", Some(pool.kind.as_str().to_owned())),
        ("postgres", Some(pool.postgres.to_string())),
        ("image", pool.image),
        ("cpus", pool.limits.cpus.map(|cores| cores.to_string())),
        ("memory", pool.limits.memory_bytes.map(bytes)),
        ("servers", Some(format!("{} of at most {}", pool.servers, pool.maximum_servers))),
        ("capacity", Some(format!("{} each", pool.capacity))),
        ("tenants", Some(pool.tenants.to_string())),
        ("spare", Some(format!("{} slots; it keeps {}", pool.spare, pool.minimum_spare))),
        ("waiting", Some(format!("{} tenants", pool.waiting)).filter(|_| pool.waiting > 0)),
        ("growing", pool.growing.map(|server| server.to_string())),
        ("operation", pool.operation.map(|id| id.to_string())),
        ("obstacle", pool.obstacle),
        ("tries again", pool.retry_at.map(|at| cx.out.time(at))),
        ("region", pool.region),
        ("labels", filled(labels.join(", "))),
        ("priority", Some(pool.priority.to_string())),
    ]);
    Ok(())
}

async fn grow(name: PoolName, wait: &WaitArgs, cx: &mut Cx) -> Outcome {
    let request = Request::post(&["server-pools", name.as_str(), "grow"]).body(&json!({}))?;
    match follow::settle(cx, request, wait, &format!("freehold server-pool show {name}")).await? {
        Settled::Begun(operation) => follow::tell_begun(cx, &operation),
        Settled::With(_) | Settled::Done => show(name, cx).await,
    }
}
