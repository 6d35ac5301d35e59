//! The last row of a direction: written at the fenced publisher, awaited at the subscriber. Whoever sees it there has
//! everything that was committed before.
//!
//! The table is the admin's on both sides, in its own schema, and is looked at before each use: a tenant can neither
//! make such a table nor alter it. What the token is nobody on the other side knows before it arrives.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_postgres::types::Type;

use super::link::Link;
use super::side::Side;
use crate::server::sql::admin::Admin;
use crate::server::sql::error::{SqlError, SqlErrorKind};
use crate::server::sql::own::freehold_schema;

const OURS: &str = "select 1 from pg_namespace n join pg_class c on c.relnamespace = n.oid \
    join pg_roles no on no.oid = n.nspowner join pg_roles co on co.oid = c.relowner \
    where n.nspname = 'freehold' and c.relname = 'move_marker' and c.relkind = 'r' and c.relpersistence = 'p' \
    and not c.relhastriggers and not c.relhasrules and not c.relrowsecurity and not c.relhassubclass \
    and (no.rolname = current_user or no.rolsuper) and co.rolname = current_user";

impl Side {
    pub async fn ensure_marker(&self) -> Result<(), SqlError> {
        let mut sql = freehold_schema();
        sql.push(
            "CREATE TABLE IF NOT EXISTS freehold.move_marker (link text, token text, PRIMARY KEY (link, token))".into(),
        );
        sql.push("REVOKE ALL ON TABLE freehold.move_marker FROM PUBLIC".into());
        let doing = format!("make the marker of a move in {}", self.database());
        self.admin.run_all(&doing, &sql).await?;
        self.marker_is_ours(&doing).await
    }

    pub async fn remove_marker(&self) -> Result<(), SqlError> {
        let doing = format!("remove the marker of a move from {}", self.database());
        match self.admin.exists(&doing, OURS, &[]).await? {
            true => self.admin.run(doing, "DROP TABLE IF EXISTS freehold.move_marker").await,
            false => Ok(()),
        }
    }

    /// At the publisher, under the fence.
    pub async fn mark(&self, link: &Link, token: &str) -> Result<(), SqlError> {
        let doing = format!("mark the end in {}", self.database());
        self.marker_is_ours(&doing).await?;
        let sql = "insert into freehold.move_marker (link, token) values ($1, $2) on conflict do nothing";
        self.admin.rows(doing, sql, &[(&link.name(), Type::TEXT), (&token, Type::TEXT)]).await.map(drop)
    }

    /// At the subscriber.
    pub async fn await_mark(&self, link: &Link, token: &str, within: Duration) -> Result<(), SqlError> {
        let doing = format!("wait for the end in {}", self.database());
        self.marker_is_ours(&doing).await?;
        let sql = "select 1 from freehold.move_marker where link = $1 and token = $2";
        let deadline = Instant::now() + within;
        while !self.admin.exists(&doing, sql, &[(&link.name(), Type::TEXT), (&token, Type::TEXT)]).await? {
            if Instant::now() > deadline {
                let message =
                    format!("the target has not caught up within {within:?}: let the tenant go on, and try again");
                return Err(SqlError::new(doing, SqlErrorKind::Timeout, message));
            }
            sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }

    pub(super) async fn marker_is_ours(&self, doing: &str) -> Result<(), SqlError> {
        has_marker(&self.admin, doing).await
    }
}

async fn has_marker(admin: &Admin, doing: &str) -> Result<(), SqlError> {
    match admin.exists(doing, OURS, &[]).await? {
        true => Ok(()),
        false => {
            Err(SqlError::new(doing, SqlErrorKind::Missing, "there is no table freehold.move_marker of the admin"))
        }
    }
}
