//! `server update`, `maintenance`, `remove` and `purge`: what goes is named twice.

use std::collections::BTreeMap;

use freehold_api::ServerId;
use freehold_api::server::{PatchServer, Server, ServerLimits, ServerState, SetMaintenance, UpdateServer};

use crate::Cx;
use crate::client::{Request, parse};
use crate::failure::{Failure, Outcome};
use crate::follow::{self, Settled, WaitArgs};
use crate::value::{Label, Size, Switch};

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("change").required(true).multiple(true))]
pub struct Update {
    /// The server
    name: ServerId,
    /// What a managed server's container is made from; restarts it
    #[arg(long, group = "change")]
    image: Option<String>,
    /// Cores that a managed server may use; restarts it
    #[arg(long, value_name = "CORES", group = "change")]
    cpus: Option<f64>,
    /// Memory that a managed server may use, such as 4G; restarts it, tuned for it
    #[arg(long, value_name = "SIZE", group = "change")]
    memory: Option<Size>,
    /// Cores that the platform sets aside for it; restarts it
    #[arg(long, value_name = "CORES", group = "change")]
    reserved_cpus: Option<f64>,
    /// Memory that the platform sets aside for it; restarts it
    #[arg(long, value_name = "SIZE", group = "change")]
    reserved_memory: Option<Size>,
    /// Tenants and stock that fit; restarts a managed server, tuned for it
    #[arg(long, value_name = "N", group = "change")]
    capacity: Option<u32>,
    /// Restart a managed server as it is, with a new certificate
    #[arg(long, group = "change")]
    restart: bool,
    /// Lower ones are filled first
    #[arg(long, value_name = "N", group = "change", allow_negative_numbers = true)]
    priority: Option<i32>,
    /// May be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", group = "change")]
    labels: Vec<Label>,
    /// May be repeated
    #[arg(long = "remove-label", value_name = "KEY", group = "change")]
    remove_labels: Vec<String>,
    #[command(flatten)]
    wait: WaitArgs,
}

#[derive(Debug, clap::Args)]
pub struct Maintenance {
    /// The server
    name: ServerId,
    /// While it is on, no new tenants and no stock are put on it
    #[arg(value_name = "on|off", hide_possible_values = true)]
    switch: Switch,
}

#[derive(Debug, clap::Args)]
pub struct Remove {
    /// The server
    name: ServerId,
    /// The name again
    #[arg(long, value_name = "NAME")]
    confirm: Option<String>,
    /// Destroy its data too, with no way back
    #[arg(long)]
    purge: bool,
    #[command(flatten)]
    wait: WaitArgs,
}

#[derive(Debug, clap::Args)]
pub struct Purge {
    /// The server, which was removed before
    name: ServerId,
    /// The name again
    #[arg(long, value_name = "NAME")]
    confirm: Option<String>,
    #[command(flatten)]
    wait: WaitArgs,
}

pub async fn update(args: Update, cx: &mut Cx) -> Outcome {
    let name = args.name;
    let mut labels: BTreeMap<String, Option<String>> = BTreeMap::new();
    labels.extend(args.labels.into_iter().map(|label| (label.key, Some(label.value))));
    for key in args.remove_labels {
        if labels.insert(key.clone(), None).is_some() {
            return Err(Failure::usage(format!("the label {key:?} cannot be set and removed at once")));
        }
    }
    let mut patch = PatchServer {
        labels: Some(labels).filter(|labels| !labels.is_empty()),
        priority: args.priority,
        capacity: None,
    };
    let limits = ServerLimits {
        cpus: args.cpus,
        memory_bytes: args.memory.map(|size| size.0),
        reserved_cpus: args.reserved_cpus,
        reserved_memory_bytes: args.reserved_memory.map(|size| size.0),
    };
    let mut update = UpdateServer {
        image: args.image,
        limits: Some(limits).filter(|limits| *limits != ServerLimits::default()),
        capacity: None,
    };
    if args.capacity.is_some() {
        // A registered server's capacity is a number; a managed one is tuned for it.
        let server: Server = parse(&cx.client()?.send(Request::get(&["servers", name.as_str()])).await?.body)?;
        match server.platform {
            Some(_) => update.capacity = args.capacity,
            None => patch.capacity = args.capacity,
        }
    }
    let mut patched = None;
    if patch != PatchServer::default() {
        let request = Request::patch(&["servers", name.as_str()]).body(&patch)?;
        patched = Some(cx.client()?.send(request).await?.body);
    }
    match patched {
        Some(server) if update == UpdateServer::default() && !args.restart => super::tell(cx, &server),
        _ => {
            let request = Request::post(&["servers", name.as_str(), "update"]).body(&update)?;
            settle(cx, &name, request, &args.wait).await
        }
    }
}

pub async fn maintenance(args: Maintenance, cx: &mut Cx) -> Outcome {
    let body = SetMaintenance { on: args.switch.is_on() };
    let request = Request::post(&["servers", args.name.as_str(), "maintenance"]).body(&body)?;
    let body = cx.client()?.send(request).await?.body;
    super::tell(cx, &body)
}

pub async fn remove(args: Remove, cx: &mut Cx) -> Outcome {
    confirmed(&args.name, args.confirm.as_deref())?;
    let request = Request::delete(&["servers", args.name.as_str()]).query("confirm", args.confirm);
    let request = if args.purge { request.query("purge", Some(true)) } else { request };
    settle(cx, &args.name, request, &args.wait).await
}

pub async fn purge(args: Purge, cx: &mut Cx) -> Outcome {
    confirmed(&args.name, args.confirm.as_deref())?;
    let server: Server = parse(&cx.client()?.send(Request::get(&["servers", args.name.as_str()])).await?.body)?;
    if server.state != ServerState::Removed {
        let name = &args.name;
        let detail = format!("server {name} is {}; `freehold server remove {name}` comes first", server.state.as_str());
        return Err(Failure::usage(detail));
    }
    let request = Request::delete(&["servers", args.name.as_str()]).query("confirm", args.confirm);
    settle(cx, &args.name, request.query("purge", Some(true)), &args.wait).await
}

fn confirmed(name: &ServerId, confirm: Option<&str>) -> Result<(), Failure> {
    match confirm == Some(name.as_str()) {
        true => Ok(()),
        false => Err(Failure::usage(format!("name the server twice, so that it is the right one: --confirm {name}"))),
    }
}

/// Waits, then shows the server as it is now.
async fn settle(cx: &mut Cx, name: &ServerId, request: Request, wait: &WaitArgs) -> Outcome {
    match follow::settle(cx, request, wait, &format!("freehold server show {name}")).await? {
        Settled::Begun(operation) => follow::tell_begun(cx, &operation),
        Settled::With(server) => super::tell(cx, &server),
        Settled::Done => super::show(name.clone(), cx).await,
    }
}
