//! The loop that starts servers for pools: when tenants wait, when too few slots are spare, when there is none at all.
//! One at a time per pool, however many wait; also by hand. Takes no input and touches no platform itself.

use std::time::Duration;

use async_trait::async_trait;
use axum::extract::State;
use axum::response::Response;
use freehold_api::OperationId;
use freehold_api::id::PoolName;
use freehold_api::operation::Operation;
use freehold_api::problem::Code;
use freehold_drivers::server::sql::Dsn;
use freehold_durable::{Engine, Failure, Loop, LoopCx, New, StartError, Started};
use sqlx::PgConnection;

use super::definition::Definition;
use super::secrets::ADMIN;
use super::{LOOP, list, store, wait};
use crate::audit::record::{Actor, Event};
use crate::http::access::Caller;
use crate::http::extract::Id;
use crate::http::problem::Refused;
use crate::operation::answer;
use crate::plane::{Answer, Core, Plane};
use crate::server::provision::{self, Provision};
use crate::server::remove;
use crate::settings::{Ports, ServerPool, Settings};
use crate::tenant::placement::pools;

pub struct Grow {
    pub core: Core,
}

#[async_trait]
impl Loop for Grow {
    fn name(&self) -> &'static str {
        LOOP
    }
    fn period(&self) -> Duration {
        Duration::from_secs(10)
    }

    async fn run(&self, cx: &LoopCx) -> Result<(), Failure> {
        let core = &self.core;
        remove::failed_long_ago(core, cx).await?;
        if core.settings.server_pools.is_empty() {
            return Ok(());
        }
        // The fleet first: whoever is placed in between is not counted twice, which would start a server too many.
        let fleet = core.fleet.no_older_than(&core.store, wait::SURE).await?;
        let growth = wait::growth(core).await?;
        for view in pools::views(&core.settings.server_pools, &core.settings.placement, &fleet, &growth) {
            let Some(need) = view.need(wait::short(core, &view).await?) else { continue };
            cx.still_mine().await?;
            let mut tx = core.store.begin().await?;
            let actor = Actor::of_loop(LOOP);
            match start(core, &cx.engine(), &mut tx, view.pool, &actor, &need.to_string()).await? {
                Growing::Started { server, started } => {
                    cx.still_mine_in(&mut tx).await?;
                    tx.commit().await?;
                    core.fleet.forget().await;
                    tracing::info!(server, pool = %view.pool.name, %need, "a server is started");
                    cx.engine().go(started);
                }
                Growing::Already { .. } | Growing::Complete => {}
                Growing::NoPort(ports) => {
                    tracing::error!(pool = %view.pool.name, %ports, "no server is started: its platform's ports are all taken");
                }
            }
        }
        Ok(())
    }
}

pub enum Growing {
    Started {
        server: String,
        started: Started,
    },
    /// One is on its way already.
    Already {
        server: String,
    },
    /// It has all the servers that it may have.
    Complete,
    NoPort(Ports),
}

/// Declares the pool's next server and starts its making, in the caller's transaction.
pub async fn start(
    core: &Core,
    engine: &Engine,
    tx: &mut PgConnection,
    pool: &ServerPool,
    actor: &Actor,
    reason: &str,
) -> Result<Growing, sqlx::Error> {
    let name = pool.name.as_str();
    store::lock(tx).await?;
    if let Some(server) = store::growing(tx, name).await? {
        return Ok(Growing::Already { server });
    }
    if store::count(tx, name).await? >= i64::from(pool.maximum_servers) {
        return Ok(Growing::Complete);
    }
    let id = match store::failed(tx, name).await? {
        Some(id) => id,
        None => next_name(name, &store::names(tx, &format!("{name}-")).await?),
    };
    let ports = ports(&core.settings, pool);
    let (host, port) = match &ports {
        None => (id.as_str(), 5432),
        Some((address, ports)) => {
            let taken = store::ports(tx, &pool.platform, &id).await?;
            match free_port(*ports, &taken, &[]) {
                Some(port) => (*address, port),
                None => return Ok(Growing::NoPort(*ports)),
            }
        }
    };
    let declared = store::Declared {
        id: &id,
        pool: name,
        platform: &pool.platform,
        kind: pool.kind.as_str(),
        capacity: i32::try_from(pool.slots()).unwrap_or(i32::MAX),
        region: pool.region.as_deref(),
        labels: &pool.labels,
        priority: pool.priority,
        definition: &Definition::of(pool),
        host,
        port,
        given_port: ports.is_some().then_some(port),
        dsn: &dsn(host, port, pool.tls).map_or(String::new(), |dsn| dsn.public()),
        sslmode: sslmode(pool.tls),
    };
    if !store::declare(tx, &declared).await? {
        return Ok(Growing::Already { server: id });
    }
    let subject = format!("server:{id}");
    let new = New {
        subject: Some(subject.clone()),
        deadline: Some(Duration::from_secs(pool.provision_deadline_seconds)),
        requested_by: Some(actor.reference.clone()),
        request_id: actor.request.clone(),
        ..New::of("server.provision", provision::Step::Secrets)
    };
    let started = match engine.start::<Provision>(tx, new).await {
        Ok(started) => started,
        // Its undo is still at work.
        Err(StartError::Busy { .. }) => return Ok(Growing::Already { server: id }),
        Err(StartError::Store(error)) => return Err(error),
    };
    let details = serde_json::json!({"pool": pool.name, "platform": pool.platform, "reason": reason});
    Event::done(actor, "server.provision.begin", subject).with(details).save(&mut *tx).await?;
    Ok(Growing::Started { server: id, started })
}

/// Where its servers are reached, and a range of ports for them; None: by name, on a network of its own.
pub fn ports<'a>(settings: &'a Settings, pool: &ServerPool) -> Option<(&'a str, Ports)> {
    if pool.network.is_some() {
        return None;
    }
    settings.platform.declared(&pool.platform)?.ports
}

/// The admin's connection string, without a password.
pub fn dsn(host: &str, port: u16, tls: bool) -> Option<Dsn> {
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    Dsn::parse(&format!("postgres://{ADMIN}@{host}:{port}/postgres?sslmode={}", sslmode(tls))).ok()
}

fn sslmode(tls: bool) -> &'static str {
    if tls { "verify-full" } else { "disable" }
}

/// One more than any that was ever given: a name means one server, also in the audit of years ago.
fn next_name(pool: &str, given: &[String]) -> String {
    let number = |name: &String| name.strip_prefix(pool)?.strip_prefix('-')?.parse::<u64>().ok();
    let last = given.iter().filter_map(number).max().unwrap_or(0);
    format!("{pool}-{}", last + 1)
}

pub fn free_port(ports: Ports, taken: &[i32], avoid: &[u16]) -> Option<u16> {
    (ports.first..=ports.last).find(|port| !avoid.contains(port) && !taken.contains(&i32::from(*port)))
}

/// Make one more server for a pool now
#[utoipa::path(post, path = "/v1/server-pools/{name}/grow", tag = "server pools",
    params(("name" = PoolName, Path, description = "The pool's name")),
    responses((status = 202, description = "The server is being made; look at the operation", body = Operation)))]
pub async fn grow(State(plane): State<Plane>, caller: Caller, Id(name): Id<PoolName>) -> Answer<Response> {
    Ok(answer::accepted(begin(&plane, &caller.actor(), &name).await?))
}

/// Also what edges call. Answers the operation that is at work already, where there is one.
pub async fn begin(plane: &Plane, actor: &Actor, name: &PoolName) -> Answer<Operation> {
    let pool = list::pool(plane, name)?;
    let mut tx = plane.store.begin().await?;
    let operation = match start(&plane.core, &plane.engine, &mut tx, pool, actor, "by hand").await? {
        Growing::Started { started, .. } => {
            tx.commit().await?;
            plane.fleet.forget().await;
            let id = started.id;
            plane.engine.go(started);
            id
        }
        Growing::Already { server } => {
            drop(tx);
            let found = crate::server::store::find_with_use(&plane.store, &server).await?;
            let gone = || Refused::new(Code::Busy, format!("server {server} is being made or taken back; try again"));
            found.and_then(|found| found.operation).ok_or_else(gone)?
        }
        Growing::Complete => {
            let detail = format!("server pool {name} has its {} servers (maximum_servers)", pool.maximum_servers);
            return Err(Refused::new(Code::WrongState, detail));
        }
        Growing::NoPort(ports) => {
            let detail = format!("server pool {name}: no port of {ports} is free on platform {}", pool.platform);
            return Err(Refused::new(Code::NoRoom, detail));
        }
    };
    answer::find(plane, OperationId(operation)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_on_and_ports_are_the_lowest_free() {
        let given = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(next_name("eu", &[]), "eu-1");
        assert_eq!(next_name("eu", &given(&["eu-1", "eu-3", "eu-west-9", "eu-x"])), "eu-4");
        let ports = Ports { first: 8500, last: 8502 };
        assert_eq!(free_port(ports, &[8500], &[]), Some(8501));
        assert_eq!(free_port(ports, &[8500], &[8501]), Some(8502));
        assert_eq!(free_port(ports, &[8500, 8501, 8502], &[]), None);
    }
}
