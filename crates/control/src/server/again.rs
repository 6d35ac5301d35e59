//! Adding a server that is registered. The same again is fine; another password, certificate, address or capacity is a
//! candidate, kept sealed in the operation, that takes the place of what is there once it has led to the same cluster.
//!
//! Absent: a way to give another cluster a server's name, and to replace the secret of a server that Freehold runs.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use freehold_api::id::OperationId;
use freehold_api::problem::Code;
use freehold_api::server::AddServer;
use freehold_drivers::server::sql::Dsn;
use freehold_durable::{Cx, Failure, Outcome};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::add::{Added, address, look};
use super::hands;
use super::register::{self, Step};
use super::store::{self, Declared, ServerRow};
use crate::audit::record::{Actor, Event};
use crate::health::visitor;
use crate::http::problem::Refused;
use crate::plane::{Answer, Core, Plane};
use crate::server_pool;

/// Another way to a registered server, and what is asked of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// Without the password.
    pub dsn: String,
    /// Base64 of what the sealer made of it.
    dsn_sealed: String,
    pub dsn_seal_id: Uuid,
    pub tenant_host: String,
    pub tenant_port: i32,
    pub tenant_sslmode: String,
    /// None: as before.
    pub ca_certificate: Option<String>,
    /// None: as before.
    capacity: Option<i32>,
}

pub(super) async fn add(plane: &Plane, actor: &Actor, body: &AddServer, declared: &Declared<'_>) -> Answer<Added> {
    let found = store::find_with_use(&plane.store, body.id.as_str()).await?;
    let found = found
        .filter(|found| found.row.state != "removed")
        .ok_or_else(|| Refused::new(Code::ServerExists, "a removed server had this name; use another"))?;
    let row = &found.row;
    if row.platform.is_some() {
        let detail = format!(
            "server {0} is one that Freehold runs: its password is known to nobody else, and `freehold server update {0}` changes it; \
             register another server under another name",
            body.id
        );
        return Err(Refused::new(Code::ServerExists, detail));
    }
    let (tenant_host, tenant_port) = tenants_come(row, body, declared);
    let moved = row.dsn != declared.dsn || (row.tenant_host.as_str(), row.tenant_port) != (tenant_host, tenant_port);
    let user = |dsn: &str| Dsn::parse(dsn).ok().map(|dsn| dsn.user().to_owned());
    let differs = [
        ("dsn", row.state == "provisioning" && moved),
        // What one admin made, another may not be able to change.
        ("admin", user(&row.dsn) != user(declared.dsn)),
        ("kind", body.kind.is_some() && row.kind != declared.kind),
        ("region", body.region.is_some() && row.region.as_deref() != declared.region),
    ];
    if let Some((field, _)) = differs.into_iter().find(|(_, differs)| *differs) {
        return Err(Refused::new(Code::ServerExists, format!("server {} is registered with another {field}", body.id)));
    }
    if let Some(operation) = found.operation.filter(|_| row.state == "provisioning") {
        return Ok(Added::InFlight(OperationId(operation)));
    }
    let context = hands::dsn_context(row.dsn_seal_id, row.dsn_version);
    let kept = plane.sealer.open(&context, &row.dsn_sealed);
    let same_secret = kept.is_ok_and(|kept| kept.as_slice() == body.dsn.as_bytes());
    let same_certificate = body.ca_certificate.is_none() || row.ca_certificate == body.ca_certificate;
    let same_capacity = body.capacity.is_none() || row.capacity == declared.capacity;
    if !moved && same_secret && same_certificate && same_capacity {
        return Ok(Added::Same);
    }
    let candidate = Candidate {
        dsn: declared.dsn.to_owned(),
        dsn_sealed: BASE64.encode(declared.dsn_sealed),
        dsn_seal_id: declared.dsn_seal_id,
        tenant_host: tenant_host.to_owned(),
        tenant_port,
        tenant_sslmode: declared.tenant_sslmode.to_owned(),
        ca_certificate: body.ca_certificate.clone(),
        capacity: body.capacity.map(|_| declared.capacity),
    };
    let details = serde_json::json!({"dsn": declared.dsn, "tenant_host": tenant_host, "tenant_port": tenant_port,
        "secret": !same_secret, "certificate": !same_certificate, "capacity": body.capacity});
    let mut tx = plane.store.begin().await?;
    let started = look(plane, actor, &mut tx, body, Step::Prove { candidate: Box::new(candidate) }).await?;
    let event = Event::done(actor, "server.update.begin", format!("server:{}", body.id));
    event.with(details).save(&mut *tx).await?;
    tx.commit().await?;
    let id = OperationId(started.id);
    plane.engine.go(started);
    Ok(Added::InFlight(id))
}

/// Where nobody says: as it was said once, else where the admin comes.
fn tenants_come<'a>(row: &'a ServerRow, body: &AddServer, declared: &'a Declared<'_>) -> (&'a str, i32) {
    let was = (row.tenant_host.as_str(), row.tenant_port);
    let followed = Dsn::parse(&row.dsn).is_ok_and(|known| {
        let (host, port) = address(known.hosts());
        (host.as_str(), i32::from(port)) == was
    });
    if body.tenant_address.is_none() && !followed { was } else { (declared.tenant_host, declared.tenant_port) }
}

/// Goes the way as admin and as tenants do, and keeps it where both lead to the cluster that was registered.
pub(super) async fn prove(core: &Core, cx: &Cx, id: String, candidate: Candidate) -> Result<Outcome<Step>, Failure> {
    let registered = hands::server(core, &id).await?;
    let (server, sealed) = by(&registered, &candidate)?;
    let mut facts = register::probe(core, cx, &server).await?;
    // That it is not another was looked at on the way in; at another address it takes a proof that it is the same.
    let moved = registered.dsn != server.dsn
        || (&registered.tenant_host, registered.tenant_port) != (&server.tenant_host, server.tenant_port);
    let known = registered.system_identifier.as_deref();
    if moved && known != Some(facts.system_identifier.as_str()) {
        let detail = format!(
            "the system identifier of server {id} is not known (GRANT EXECUTE ON FUNCTION pg_control_system() to its admin, then \
             `freehold server check {id}`), so nothing proves that this address leads to it; it stays as it is registered"
        );
        return Err(Failure::permanent("cluster_unproven", detail));
    }
    let admin = hands::admin(core, cx, &server, None).await?;
    let unrevoked = admin.secure_server().await.map_err(hands::failure)?;
    facts.findings.extend(unrevoked.into_iter().map(hands::finding));
    cx.fault("secured")?;
    let login = visitor::ensure(core, &admin, &id).await?;
    let visit = visitor::comes_in(core, &server, &login).await?;
    let place = format!("{}:{}, where tenants connect,", server.tenant_host, server.tenant_port);
    if known.is_some_and(|known| !visit.system_identifier.is_empty() && visit.system_identifier != known) {
        let detail = format!("another cluster answers at {place} than where the admin does");
        return Err(Failure::permanent("cluster_swapped", detail));
    }
    if visit.in_recovery == Some(true) {
        return Err(Failure::permanent("standby", format!("a standby answers at {place} and takes no writes")));
    }
    let (core, actor, engine) = (core.clone(), Actor::operation(cx.operation, None), cx.engine());
    Ok(Outcome::done().recording(move |tx| {
        Box::pin(async move {
            register::record(tx, &id, &facts).await?;
            store::redeclare(tx, &id, &candidate, &sealed).await?;
            store::answers(tx, &id).await?;
            if let Some(capacity) = candidate.capacity {
                server_pool::store::set_capacity(tx, &id, capacity).await?;
            }
            Event::done(&actor, "server.update", format!("server:{id}")).save(&mut *tx).await?;
            core.fleet.forget().await;
            for loop_name in ["stock", "health"] {
                engine.wake_in(tx, loop_name).await?;
            }
            Ok(engine.rouse_in(tx, "tenant.create", "Place").await?)
        })
    }))
}

/// The server as it would be, and the secret as it would be kept.
fn by(registered: &ServerRow, candidate: &Candidate) -> Result<(ServerRow, Vec<u8>), Failure> {
    let sealed = BASE64
        .decode(&candidate.dsn_sealed)
        .map_err(|error| Failure::permanent("sealed_secret_unreadable", error.to_string()))?;
    let server = ServerRow {
        dsn: candidate.dsn.clone(),
        dsn_sealed: sealed.clone(),
        dsn_seal_id: candidate.dsn_seal_id,
        dsn_version: 1,
        tenant_host: candidate.tenant_host.clone(),
        tenant_port: candidate.tenant_port,
        tenant_sslmode: candidate.tenant_sslmode.clone(),
        ca_certificate: candidate.ca_certificate.clone().or_else(|| registered.ca_certificate.clone()),
        ..registered.clone()
    };
    Ok((server, sealed))
}
