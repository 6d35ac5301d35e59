//! The login that health comes in with: written down, sealed, before it exists anywhere.

use freehold_drivers::secrets::{Password, scram_verifier};
use freehold_drivers::server::sql::{self, Admin, Dsn, SslMode, Visit};
use freehold_durable::Failure;
use rand::seq::IndexedRandom;
use uuid::Uuid;

use super::store;
use crate::plane::Core;
use crate::server::hands;
use crate::server::store::ServerRow;
use crate::stock::declare;

#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Visitor {
    pub server_id: String,
    pub id: Uuid,
    pub role: String,
    pub password: Vec<u8>,
    pub verifier: String,
}

/// The server's visitor, which is there afterwards.
pub async fn ensure(core: &Core, admin: &Admin, server: &str) -> Result<Visitor, Failure> {
    let visitor = match store::visitor(&core.store, server).await? {
        Some(visitor) => visitor,
        None => {
            // Of two that do this at once, both get the first's.
            store::declare_visitor(&core.store, &mint(core, server).await).await?;
            let found = store::visitor(&core.store, server).await?;
            let gone = || Failure::permanent("server_missing", format!("server {server} is not in the store any more"));
            found.ok_or_else(gone)?
        }
    };
    admin.ensure_visitor(&visitor.role, &visitor.verifier).await.map_err(hands::failure)?;
    Ok(visitor)
}

/// Comes in once, as tenants do.
pub async fn comes_in(core: &Core, server: &ServerRow, visitor: &Visitor) -> Result<Visit, Failure> {
    sql::visit(&dsn(core, server, visitor)?).await.map_err(|error| {
        let failure = hands::failure(error);
        let place = format!("{}:{}", server.tenant_host, server.tenant_port);
        Failure { message: format!("log in at {place}, where tenants connect: {}", failure.message), ..failure }
    })
}

/// How it comes in: where tenants do, into the database that the admin's connection string names.
pub fn dsn(core: &Core, server: &ServerRow, visitor: &Visitor) -> Result<Dsn, Failure> {
    let context = declare::context(visitor.id, 1);
    let password = core.sealer.open_password(&context, &visitor.password).map_err(|error| {
        Failure::stuck("sealed_secret_unreadable", format!("password of login {}: {error}", visitor.role))
    })?;
    let port = u16::try_from(server.tenant_port).unwrap_or(5432);
    let sslmode: SslMode = server.tenant_sslmode.parse().unwrap_or(SslMode::Prefer);
    let admin = hands::dsn(&core.sealer, server)?;
    let place = admin.database().to_owned();
    let dsn = admin.with_database(&place).with_host(&server.tenant_host, port).with_sslmode(sslmode);
    Ok(dsn.with_user(&visitor.role, password))
}

async fn mint(core: &Core, server: &str) -> Visitor {
    let (sealer, server_id) = (core.sealer.clone(), server.to_owned());
    let minted = tokio::task::spawn_blocking(move || {
        let (id, password) = (Uuid::now_v7(), Password::random(32));
        let sealed = sealer.seal_password(&declare::context(id, 1), &password);
        Visitor { server_id, id, role: name(), password: sealed, verifier: scram_verifier(&password) }
    });
    minted.await.expect("minting does not panic")
}

/// Random, because two planes may look at one cluster.
fn name() -> String {
    const ALPHABET: &[u8] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut rng = rand::rng();
    let tail: String =
        (0..8).map(|_| char::from(*ALPHABET.choose(&mut rng).expect("the alphabet is not empty"))).collect();
    format!("fh_visitor_{tail}")
}
