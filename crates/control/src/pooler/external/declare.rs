//! Writes down an external pooler: its files, and its administrator, sealed before anything of it is stored.

use std::path::Path;

use freehold_api::PoolerId;
use freehold_api::pooler::{AddExternal, PoolerKind};
use freehold_api::problem::Code;
use freehold_drivers::secrets::{Context, Password, scram_verifier};
use freehold_drivers::server::sql::Dsn;
use sqlx::PgConnection;
use uuid::Uuid;

use super::store::{self, Declared, ExternalRow};
use crate::audit::record::{Actor, Event};
use crate::http::extract::text;
use crate::http::problem::Refused;
use crate::plane::{Answer, Core};

/// Where nobody says which.
const USERS_FILE: &str = "userlist.txt";
const PATH_MAX: usize = 4_000;

/// Parsed, and nothing of it stored.
pub struct External {
    file: String,
    users_file: Option<String>,
    admin: Dsn,
    /// As it was given.
    admin_text: String,
}

pub fn parse(core: &Core, kind: PoolerKind, body: &AddExternal) -> Answer<External> {
    if kind == PoolerKind::Pgcat && !core.settings.takes_pgcat() {
        return Err(Refused::field("kind", crate::settings::PGCAT_REFUSED));
    }
    let file = path("external.file", &body.file)?;
    let users_file = match (kind, &body.users_file) {
        (PoolerKind::Pgbouncer, Some(users)) => Some(path("external.users_file", users)?),
        (PoolerKind::Pgbouncer, None) => {
            Some(Path::new(&file).with_file_name(USERS_FILE).to_string_lossy().into_owned())
        }
        (PoolerKind::Pgcat, None) => None,
        (PoolerKind::Pgcat, Some(_)) => {
            return Err(Refused::field("external.users_file", "PgCat has one file alone; leave it out"));
        }
    };
    if users_file.as_ref() == Some(&file) {
        return Err(Refused::field("external.users_file", "the list of users is another file than pgbouncer.ini"));
    }
    let admin = Dsn::parse(&body.admin).map_err(|error| Refused::field("external.admin", error.to_string()))?;
    if admin.hosts().len() != 1 {
        return Err(Refused::field("external.admin", "a console is at one address, with one port"));
    }
    Ok(External { file, users_file, admin, admin_text: body.admin.clone() })
}

fn path(field: &str, path: &str) -> Answer<String> {
    text(field, path, PATH_MAX)?;
    let is_file = Path::new(path).is_absolute() && Path::new(path).file_name().is_some() && !path.ends_with('/');
    match is_file {
        true => Ok(path.to_owned()),
        false => {
            Err(Refused::field(field, format!("{path:?} is no file's path from / on, as /etc/pgbouncer/pgbouncer.ini")))
        }
    }
}

pub async fn insert(core: &Core, tx: &mut PgConnection, id: &PoolerId, external: &External) -> Answer<()> {
    if let Some(other) = store::owner(tx, &external.file).await? {
        let detail = format!("{} is pooler {other}'s; two poolers have two files", external.file);
        return Err(Refused::new(Code::PoolerExists, detail));
    }
    let seal_id = Uuid::now_v7();
    let check = Password::random(32);
    let declared = Declared {
        id: id.as_str(),
        file: &external.file,
        users_file: external.users_file.as_deref(),
        admin: &external.admin.public(),
        admin_sealed: &core.sealer.seal(&admin_context(seal_id, 1), external.admin_text.as_bytes()),
        seal_id,
        check_sealed: &core.sealer.seal_password(&check_context(seal_id), &check),
        check_verifier: &scram_verifier(&check),
    };
    Ok(store::insert(tx, &declared).await?)
}

/// What is registered already: the same, or with another administrator, which is kept from now on. False: it differs.
pub async fn again(core: &Core, actor: &Actor, id: &PoolerId, external: &External) -> Answer<bool> {
    let mut tx = core.store.begin().await?;
    let Some(row) = store::lock(&mut tx, id.as_str()).await? else { return Ok(false) };
    if row.file != external.file || row.users_file != external.users_file {
        return Ok(false);
    }
    let kept = core.sealer.open(&admin_context(row.seal_id, row.admin_version), &row.admin_sealed);
    if kept.is_ok_and(|kept| kept.as_slice() == external.admin_text.as_bytes()) {
        return Ok(true);
    }
    let version = row.admin_version + 1;
    let sealed = core.sealer.seal(&admin_context(row.seal_id, version), external.admin_text.as_bytes());
    let admin = external.admin.public();
    store::set_admin(&mut tx, id.as_str(), &admin, &sealed, version).await?;
    let details = serde_json::json!({"admin": admin});
    Event::done(actor, "pooler.admin", format!("pooler:{id}")).with(details).save(&mut *tx).await?;
    tx.commit().await?;
    core.poolers.poke();
    Ok(true)
}

/// The administrator's connection string.
pub fn admin(core: &Core, row: &ExternalRow) -> Result<Dsn, String> {
    let opened = core.sealer.open_password(&admin_context(row.seal_id, row.admin_version), &row.admin_sealed);
    let opened = opened.map_err(|error| format!("the sealed connection string of its console: {error}"))?;
    Dsn::parse(opened.expose()).map_err(|error| format!("the connection string of its console: {error}"))
}

pub fn check_password(core: &Core, row: &ExternalRow) -> Result<Password, String> {
    let opened = core.sealer.open_password(&check_context(row.seal_id), &row.check_sealed);
    opened.map_err(|error| format!("the sealed password of its check login: {error}"))
}

fn admin_context(id: Uuid, version: i32) -> Context {
    Context { id, field: "pooler_admin", version: u32::try_from(version).unwrap_or(0) }
}

fn check_context(id: Uuid) -> Context {
    Context { id, field: "pooler_check", version: 1 }
}
