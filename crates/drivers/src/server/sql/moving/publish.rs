//! What is replicated, and who may read it.
//!
//! Tables are listed, also where FOR ALL TABLES would be allowed: a table that the tenant makes meanwhile, without a key,
//! would be published with the rest, and its UPDATEs would fail. The fingerprint finds such a table instead. Partitions
//! are listed, not what they are partitions of, for the same reason.

use tokio_postgres::types::Type;

use super::link::Link;
use super::side::Side;
use crate::pooler::Verifier;
use crate::server::sql::error::{SqlError, SqlErrorKind};
use crate::server::sql::quote::{ident, literal};

/// One transaction holds locks on so many tables at most.
const BATCH: usize = 200;

const MISSING: &str = "select n.nspname::text, c.relname::text from pg_class c join pg_namespace n on n.oid = c.relnamespace \
    where c.relkind = 'r' and c.relpersistence = 'p' and n.nspname !~ '^pg_' and n.nspname <> 'information_schema' \
    and (n.nspname <> 'freehold' or c.relname = 'move_marker') \
    and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e') \
    and not exists (select from pg_publication_rel r join pg_publication p on p.oid = r.prpubid where p.pubname = $1 and r.prrelid = c.oid) \
    order by 1, 2";

const FORCED: &str = "select format('%I.%I', n.nspname, c.relname) from pg_class c join pg_namespace n on n.oid = c.relnamespace \
    where c.relkind = 'r' and c.relrowsecurity and c.relforcerowsecurity and n.nspname <> 'freehold' order by 1 limit 1";

impl Side {
    pub async fn publish(&self, link: &Link) -> Result<(), SqlError> {
        let doing = format!("publish {}", self.database());
        self.marker_is_ours(&doing).await?;
        if !self.passes_row_security().await?
            && let Some(row) = self.admin.rows(&doing, FORCED, &[]).await?.first()
        {
            let message = format!(
                "row security is forced on {}, and hides rows from whoever copies it: the admin needs BYPASSRLS to give it away",
                row.get::<_, String>(0)
            );
            return Err(SqlError::new(doing, SqlErrorKind::Privilege, message));
        }
        let name = ident(link.name());
        let there = "select 1 from pg_publication where pubname = $1";
        if !self.admin.exists(&doing, there, &[(&link.name(), Type::TEXT)]).await? {
            self.admin.run(&doing, &format!("CREATE PUBLICATION {name}")).await?;
        }
        let rows = self.admin.rows(&doing, MISSING, &[(&link.name(), Type::TEXT)]).await?;
        let tables: Vec<String> = rows
            .iter()
            .map(|row| format!("ONLY {}.{}", ident(row.get::<_, &str>(0)), ident(row.get::<_, &str>(1))))
            .collect();
        for batch in tables.chunks(BATCH) {
            let list = batch.join(", ");
            self.admin.run(&doing, &format!("ALTER PUBLICATION {name} ADD TABLE {list}")).await?;
        }
        Ok(())
    }

    /// How many tables it has.
    pub async fn published(&self, link: &Link) -> Result<i64, SqlError> {
        let sql =
            "select count(*) from pg_publication_rel r join pg_publication p on p.oid = r.prpubid where p.pubname = $1";
        Ok(self.admin.row("count what is published", sql, &[(&link.name(), Type::TEXT)]).await?.get(0))
    }

    /// The replication login. Its own settings outrank those of the database, a `statement_timeout` for one, that would
    /// end a copy. It goes past row security where the admin may
    /// say so: policies are the tenant's, and would hide rows.
    pub async fn ensure_reader(&self, link: &Link, verifier: &Verifier) -> Result<(), SqlError> {
        let role = link.reader();
        let doing = format!("ensure login {role}");
        self.marker_is_ours(&doing).await?;
        let name = ident(&role);
        let mut sql = Vec::new();
        if !self.admin.role_exists(&role).await? {
            sql.push(format!("CREATE ROLE {name} NOLOGIN"));
        }
        let past = if self.passes_row_security().await? { " BYPASSRLS" } else { "" };
        sql.push(format!("ALTER ROLE {name} LOGIN REPLICATION{past} PASSWORD {}", literal(verifier.as_str())));
        sql.push(format!("GRANT {} TO {name}", ident(&self.owner)));
        sql.push(format!("GRANT USAGE ON SCHEMA freehold TO {name}"));
        sql.push(format!("GRANT SELECT ON TABLE freehold.move_marker TO {name}"));
        sql.extend(unhurried(&role, self.admin.version_num()));
        self.admin.run_all(doing, &sql).await
    }

    /// The publication, its login and the slot: all that a direction has at its publisher.
    pub async fn unpublish(&self, link: &Link) -> Result<(), SqlError> {
        self.drop_slot(link).await?;
        let doing = format!("withdraw {}", link.name());
        self.admin.run(&doing, &format!("DROP PUBLICATION IF EXISTS {}", ident(link.name()))).await?;
        self.drop_role_of_link(&link.reader()).await
    }

    /// Whether the admin may let a role past row security.
    pub(super) async fn passes_row_security(&self) -> Result<bool, SqlError> {
        let sql = "select rolsuper or rolbypassrls from pg_roles where rolname = current_user";
        Ok(self.admin.row("read the admin's privileges", sql, &[]).await?.get(0))
    }

    /// Of a role that somebody's code may have run as: what it made becomes the owner's.
    pub(super) async fn drop_role_of_link(&self, role: &str) -> Result<(), SqlError> {
        if !self.admin.role_exists(role).await? {
            return Ok(());
        }
        self.admin.run(format!("set {role} NOLOGIN"), &format!("ALTER ROLE {} NOLOGIN", ident(role))).await?;
        self.admin.terminate_sessions(&[role]).await?;
        self.admin.forget_roles(&[role], Some(&self.owner)).await?;
        self.admin.drop_roles(&[role]).await
    }
}

/// A role's own settings, above those of the database.
pub(super) fn unhurried(role: &str, version_num: i32) -> Vec<String> {
    let mut names =
        vec!["statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "idle_session_timeout"];
    if version_num >= 170_000 {
        names.push("transaction_timeout");
    }
    let mut sql: Vec<String> = names.iter().map(|name| format!("ALTER ROLE {} SET {name} = 0", ident(role))).collect();
    sql.push(format!("ALTER ROLE {} SET default_transaction_read_only = off", ident(role)));
    sql
}
