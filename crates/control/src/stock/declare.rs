//! Writes down a database that is going to be made: its names, and its logins with passwords sealed before any of it exists.

use freehold_api::template::{Names, Template};
use freehold_drivers::secrets::{Context, Password, Sealer, scram_verifier};
use rand::seq::IndexedRandom;
use sqlx::PgConnection;
use uuid::Uuid;

use super::store::{self, DatabaseRow, LoginRow};
use crate::plane::Core;

pub const TENANT: &str = "tenant";
pub const MAINTENANCE: &str = "maintenance";
/// Made beside the tenant's, and not handed out yet.
pub const NEXT: &str = "next";
/// Takes the tenant's place under its name.
pub const REPLACEMENT: &str = "replacement";
/// Handed out before the tenant's.
pub const RETIRING: &str = "retiring";

pub struct Wanted<'a> {
    pub server: &'a str,
    pub template: &'a Template,
    pub plan: &'a str,
    /// None: stock.
    pub tenant: Option<&'a str>,
    /// None: opaque names.
    pub names: Option<Names>,
}

/// Passwords for a database that is not declared yet. Verifiers take milliseconds of CPU: made before the transaction.
pub struct Minted {
    tenant: Credential,
    maintenance: Credential,
}

/// Of a login that is going to be: its immutable id, the password sealed to that, and what servers are told.
pub struct Credential {
    pub id: Uuid,
    pub sealed: Vec<u8>,
    pub verifier: String,
}

pub async fn mint(core: &Core, length: usize) -> Minted {
    let sealer = core.sealer.clone();
    let minted =
        tokio::task::spawn_blocking(move || Minted { tenant: one(&sealer, length), maintenance: one(&sealer, length) });
    minted.await.expect("minting does not panic")
}

/// For one more login.
pub async fn mint_one(core: &Core, length: usize) -> Credential {
    let sealer = core.sealer.clone();
    tokio::task::spawn_blocking(move || one(&sealer, length)).await.expect("minting does not panic")
}

fn one(sealer: &Sealer, length: usize) -> Credential {
    let id = Uuid::now_v7();
    let password = Password::random(length);
    let sealed = sealer.seal_password(&context(id, 1), &password);
    Credential { id, sealed, verifier: scram_verifier(&password) }
}

/// A sealed password opens only for the login it was made for.
pub fn context(login: Uuid, version: i32) -> Context {
    Context { id: login, field: "password", version: u32::try_from(version).unwrap_or(0) }
}

pub fn open(sealer: &Sealer, login: &LoginRow) -> Result<Password, String> {
    sealer
        .open_password(&context(login.id, login.version), &login.password)
        .map_err(|error| format!("password of login {}: {error}", login.role))
}

pub async fn declare(tx: &mut PgConnection, wanted: &Wanted<'_>, minted: Minted) -> sqlx::Result<DatabaseRow> {
    let base = opaque_name();
    let names = wanted.names.clone().unwrap_or_else(|| opaque_names(&base));
    declare_as(tx, wanted, base, names, minted).await
}

async fn declare_as(
    tx: &mut PgConnection,
    wanted: &Wanted<'_>,
    base: String,
    names: Names,
    minted: Minted,
) -> sqlx::Result<DatabaseRow> {
    let row = DatabaseRow {
        id: Uuid::now_v7(),
        server_id: wanted.server.to_owned(),
        template: wanted.template.name.to_string(),
        template_version: wanted.template.version.clone(),
        plan: wanted.plan.to_owned(),
        state: "building".into(),
        tenant_id: wanted.tenant.map(str::to_owned),
        database: names.database,
        owner: base.clone(),
        missing: Vec::new(),
    };
    store::insert(tx, &row).await?;
    let logins = [(TENANT, names.login, minted.tenant), (MAINTENANCE, format!("{base}_m"), minted.maintenance)];
    for (purpose, role, Credential { id, sealed: password, verifier }) in logins {
        let (database_id, purpose) = (row.id, purpose.into());
        let (second_of, refused_at) = (None, None);
        let login = LoginRow { id, database_id, purpose, role, password, version: 1, verifier, second_of, refused_at };
        store::insert_login(tx, wanted.server, &login).await?;
    }
    Ok(row)
}

/// A database that is there already, for a tenant that takes it over: its name stays, its roles are new.
pub async fn declare_existing(
    tx: &mut PgConnection,
    wanted: &Wanted<'_>,
    database: &str,
    minted: Minted,
) -> sqlx::Result<DatabaseRow> {
    let base = opaque_name();
    let names = Names { database: database.to_owned(), ..opaque_names(&base) };
    declare_as(tx, wanted, base, names, minted).await
}

/// What a database and its login are made as: after the owner role, which is never renamed.
pub fn opaque_names(owner: &str) -> Names {
    Names { database: owner.to_owned(), login: format!("{owner}_l") }
}

/// `fh_` and 16 characters, about 80 bits: nothing about customers, and no two alike.
fn opaque_name() -> String {
    const ALPHABET: &[u8] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut rng = rand::rng();
    let tail: String =
        (0..16).map(|_| char::from(*ALPHABET.choose(&mut rng).expect("the alphabet is not empty"))).collect();
    format!("fh_{tail}")
}
