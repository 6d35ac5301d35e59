//! `[pooler]`: what the plans do not say of poolers.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::platform::Platforms;
use super::pooler_platform::PoolerPlatform;

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Pooler {
    /// Tenants and stock that fit on a pooler, where nobody says otherwise when it is added.
    #[schema(minimum = 1, maximum = 10_000)]
    pub capacity: u32,
    /// Clients that one pooler lets in at once, over all its databases.
    pub client_connections: u32,
    /// How long a client waits for a server connection before it is sent away.
    pub client_wait_seconds: u32,
    /// How long a connection to a server stays open without use; 2 where a server has more databases than
    /// connections.
    pub server_idle_seconds: u32,
    /// Of the connections that a server admits, those that are not for pools: Freehold's own, and direct ones.
    pub server_reserve: u32,
    /// Of so many connections that pools at rest may open on a server, one is kept free:
    /// [the budget of a server](poolers.md#the-budget-of-a-server).
    #[schema(minimum = 1, maximum = 1_000)]
    pub oversubscription: u32,
    /// Where Freehold [starts more of them by itself](poolers.md#started-by-themselves). Absent: they are registered by hand.
    pub platform: Option<PoolerPlatform>,
}

impl Default for Pooler {
    fn default() -> Self {
        Self {
            capacity: 500,
            client_connections: 5_000,
            client_wait_seconds: 120,
            server_idle_seconds: 120,
            server_reserve: 10,
            oversubscription: 10,
            platform: None,
        }
    }
}

impl Pooler {
    pub(super) fn check(&self, platforms: &Platforms) -> Result<(), String> {
        if !(1..=10_000).contains(&self.capacity) {
            return Err(format!("capacity must be from 1 to 10000; it is {}", self.capacity));
        }
        for (name, value) in [
            ("client_connections", self.client_connections),
            ("client_wait_seconds", self.client_wait_seconds),
            ("server_idle_seconds", self.server_idle_seconds),
        ] {
            if value == 0 {
                return Err(format!(
                    "{name} must be at least 1; a pooler without it lets clients or connections pile up"
                ));
            }
        }
        if !(1..=1_000).contains(&self.oversubscription) {
            return Err(format!(
                "oversubscription must be from 1 (what pools may open is always there) to 1000; it is {}",
                self.oversubscription
            ));
        }
        match &self.platform {
            Some(platform) => platform.check(self.capacity, platforms).map_err(|why| format!("platform: {why}")),
            None => Ok(()),
        }
    }
}
