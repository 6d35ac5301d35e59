//! The sealed note in each database that says whose it is: enough to rebuild a lost store (rule 10).
//!
//! Safe in a hostile database: nothing is read or written unless schema and table belong to the admin (or to a
//! superuser) and carry no trigger, rule or policy. A tenant cannot make such a table, and only its owner could
//! change it in between.

use tokio_postgres::types::Type;

use super::admin::Admin;
use super::error::{SqlError, SqlErrorKind};

impl Admin {
    pub async fn write_note(&self, sealed: &[u8]) -> Result<(), SqlError> {
        let doing = format!("write the note in {}", self.database());
        if !self.note_is_ours(&doing).await? {
            return Err(SqlError::new(doing, SqlErrorKind::Missing, "there is no table freehold.note of the admin"));
        }
        let sql = "insert into freehold.note (id, sealed) values (1, $1) \
                   on conflict (id) do update set sealed = excluded.sealed, written_at = now()";
        self.rows(doing, sql, &[(&sealed, Type::BYTEA)]).await.map(drop)
    }

    pub async fn read_note(&self) -> Result<Option<Vec<u8>>, SqlError> {
        let doing = format!("read the note in {}", self.database());
        if !self.note_is_ours(&doing).await? {
            return Ok(None);
        }
        let rows = self.rows(doing, "select sealed from freehold.note where id = 1", &[]).await?;
        Ok(rows.first().map(|row| row.get(0)))
    }

    async fn note_is_ours(&self, doing: &str) -> Result<bool, SqlError> {
        match self.exists(doing, MINE, &[]).await {
            // A schema that this admin may not even use is not its own.
            Err(error) if error.kind == SqlErrorKind::Privilege => {}
            Ok(false) => {}
            other => return other,
        }
        self.exists(doing, OURS, &[]).await
    }

    /// Whether a note is here that this admin may go on writing: what belongs to a superuser only a superuser alters.
    pub(super) async fn may_keep_note(&self, doing: &str) -> Result<bool, SqlError> {
        let mine = "and (no.rolname = current_user and co.rolname = current_user or $1)";
        self.exists(doing, &format!("{OURS} {mine}"), &[(&self.superuser, Type::BOOL)]).await
    }
}

/// What is nearly always so, answered from caches: a new session pays three times as much for the question below.
const MINE: &str = "select 1 from pg_class c where c.oid = to_regclass('freehold.note') and c.relkind = 'r' \
    and not c.relhastriggers and not c.relhasrules and not c.relrowsecurity and pg_get_userbyid(c.relowner) = current_user \
    and pg_get_userbyid((select n.nspowner from pg_namespace n where n.oid = c.relnamespace)) = current_user";

const OURS: &str = "select 1 from pg_namespace n join pg_class c on c.relnamespace = n.oid \
    join pg_roles no on no.oid = n.nspowner join pg_roles co on co.oid = c.relowner \
    where n.nspname = 'freehold' and c.relname = 'note' and c.relkind = 'r' \
    and not c.relhastriggers and not c.relhasrules and not c.relrowsecurity \
    and (no.rolname = current_user or no.rolsuper) and (co.rolname = current_user or co.rolsuper)";
