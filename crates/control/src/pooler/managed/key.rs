//! The API key of a managed pooler's agent: made for it alone, sealed in the store, revoked when the pooler goes.

use freehold_api::id::KeyId;
use freehold_api::key::{CreateKey, Scope};
use freehold_drivers::secrets::{Context, Sealer};
use freehold_durable::Failure;
use secrecy::SecretString;
use sqlx::PgConnection;
use uuid::Uuid;

use super::store::{self, ServiceRow};
use crate::audit::record::{Actor, Event};
use crate::key::{create, store as keys};

/// Made and sealed, and in no store yet.
pub struct Minted {
    id: KeyId,
    token: String,
    seal_id: Uuid,
    sealed: Vec<u8>,
}

pub fn mint(sealer: &Sealer) -> Result<Minted, Failure> {
    let token = create::random_token()
        .map_err(|error| Failure::transient("no_random", format!("the system's random source failed: {error}")))?;
    let seal_id = Uuid::now_v7();
    let sealed = sealer.seal(&context(seal_id), token.as_bytes());
    Ok(Minted { id: KeyId::new(), token, seal_id, sealed })
}

impl Minted {
    pub async fn save(self, tx: &mut PgConnection, pooler: &str, actor: &Actor) -> sqlx::Result<()> {
        let name = format!("pooler {pooler}");
        let key = CreateKey { name: name.clone(), scopes: vec![Scope::Pooler], tenants: None, expires_at: None };
        keys::insert(tx, self.id, &self.token, &key).await?;
        let details = serde_json::json!({"name": name, "scopes": [Scope::Pooler.as_str()]});
        Event::done(actor, "key.create", format!("key:{}", self.id)).with(details).save(&mut *tx).await?;
        store::set_key(tx, pooler, self.id.0, &self.sealed, self.seal_id).await
    }
}

pub fn open(sealer: &Sealer, row: &ServiceRow) -> Result<SecretString, Failure> {
    let (Some(sealed), Some(seal_id)) = (&row.key_sealed, row.key_seal_id) else {
        return Err(Failure::permanent("key_missing", format!("pooler {} has no key for its agent", row.id)));
    };
    let opened = sealer
        .open_password(&context(seal_id), sealed)
        .map_err(|error| Failure::stuck("sealed_secret_unreadable", format!("key of pooler {}: {error}", row.id)))?;
    Ok(SecretString::from(opened.expose().to_owned()))
}

/// Whoever still has it is let in nowhere.
pub async fn revoke(tx: &mut PgConnection, pooler: &str, actor: &Actor) -> sqlx::Result<()> {
    let Some(id) = store::take_key(tx, pooler).await? else { return Ok(()) };
    keys::revoke(tx, KeyId(id)).await?;
    Event::done(actor, "key.revoke", format!("key:{}", KeyId(id))).save(tx).await
}

fn context(id: Uuid) -> Context {
    Context { id, field: "pooler_key", version: 1 }
}
