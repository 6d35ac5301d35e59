//! The tenant's schema, dumped and restored as its maintenance login (rule 1), in two parts.
//!
//! [`Part::First`] is what replication needs: everything that is no index, trigger, constraint or policy, and then keys and
//! what a replica identity stands on. [`Part::Rest`] comes when every table is copied, which makes the copy as fast as a
//! restore, and is right: what is built then takes a lock that the apply worker waits for, rows that come later are
//! checked as any others, and the fingerprint of both sides shows that nothing is missing or was changed in between.
//!
//! There is no psql in the way: it would execute what a line that begins with a backslash says. Both parts are streams;
//! no more than one object's statements is in memory. An object that is there already is left: each is restored by one
//! message, so it is whole.
//!
//! Left out: extensions and what is said about them, which are the admin's, and made before; the schema `freehold`; the
//! move's own publications; SETs that this server does not know. Triggers that are ENABLE ALWAYS or REPLICA are restored
//! as ordinary ones, so that the apply worker does not run them: `wake_triggers` makes them what they were.
//!
//! A move by dump has it in the two parts of pg_dump: rows come in between, when there is no key to keep up yet. So has an
//! import, where all of it becomes the tenant's: without owners, privileges, publications, security labels and event triggers.

mod binary;
mod dump;
mod entry;
mod split;

use std::collections::BTreeSet;

use tokio::io::{AsyncBufReadExt, BufReader};

pub use binary::{DumpBinary, find_pg_dump};
use dump::Dump;
use entry::{Entry, Turn};
use split::{Piece, Splitter};

use super::side::{Side, rows, run};
use crate::server::sql::error::{SqlError, SqlErrorKind};
use crate::server::sql::session::Maintenance;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    First,
    Rest,
    PreData,
    PostData,
}

impl Side {
    /// Into this side, which is the target. The way back is to drop the database.
    pub async fn carry_schema(&self, source: &Side, binary: &DumpBinary, part: Part) -> Result<(), SqlError> {
        let sections: &[&str] = match part {
            Part::First => &["pre-data", "post-data"],
            Part::Rest | Part::PostData => &["post-data"],
            Part::PreData => &["pre-data"],
        };
        let session = self.session().await?;
        run(&session, "prepare to restore", "SET synchronous_commit = off; SET check_function_bodies = off").await?;
        let names = rows(&session, "list settings", "select name from pg_settings", &[]).await?;
        let known = names.iter().map(|row| row.get::<_, String>(0).to_lowercase()).collect();
        let mut target = Target { session, known, database: self.database().to_owned(), is_theirs: source.is_theirs() };
        for section in sections {
            let turn = match (part, *section) {
                (Part::First, "pre-data") | (Part::PreData | Part::PostData, _) => Turn::All,
                (Part::First, _) => Turn::Keys,
                (Part::Rest, _) => Turn::ButKeys,
            };
            target.restore(source, binary, section, turn).await?;
        }
        target.session.close().await;
        Ok(())
    }
}

struct Target {
    session: Maintenance,
    known: BTreeSet<String>,
    database: String,
    /// Whether what is restored was somebody else's.
    is_theirs: bool,
}

impl Target {
    async fn restore(&mut self, source: &Side, binary: &DumpBinary, section: &str, turn: Turn) -> Result<(), SqlError> {
        let mut dump = Dump::start(binary, source, section)?;
        let mut lines = BufReader::new(dump.output());
        let (mut splitter, mut entry, mut line) = (Splitter::default(), Entry::prologue(), Vec::new());
        loop {
            line.clear();
            let read = lines.read_until(b'\n', &mut line).await.map_err(|error| dump.broken(&error))?;
            if read == 0 {
                break;
            }
            let text = String::from_utf8_lossy(&line);
            for piece in splitter.push(&text) {
                match piece {
                    Piece::Begins(header) => {
                        self.finish(std::mem::replace(&mut entry, Entry::begins(&header)), turn).await?;
                    }
                    Piece::Statement(sql) if entry::is_set(&sql) => self.set(&sql).await?,
                    Piece::Statement(sql) => entry.statements.push(sql),
                }
            }
        }
        self.finish(entry, turn).await?;
        dump.ended().await
    }

    /// One that this server does not know is about what it does not have.
    async fn set(&self, sql: &str) -> Result<(), SqlError> {
        match entry::name_of_set(sql).is_some_and(|name| self.known.contains(&name)) && !entry::is_ours_to_set(sql) {
            true => run(&self.session, format!("restore the schema of {}", self.database), sql).await,
            false => Ok(()),
        }
    }

    async fn finish(&self, entry: Entry, turn: Turn) -> Result<(), SqlError> {
        let sql = entry.wanted(turn);
        if sql.is_empty() || self.is_theirs && entry.is_a_superusers() {
            return Ok(());
        }
        let doing = format!("restore {} in {}", entry.told(), self.database);
        match run(&self.session, doing, &sql.join("\n")).await {
            Err(error) if error.is_of_what_exists() || entry.is_there(error.sqlstate.as_deref()) => Ok(()),
            Err(error) if error.kind == SqlErrorKind::Privilege => {
                let next = match self.is_theirs {
                    true => {
                        "it takes more than a tenant may: drop it at the source, or leave it to a plan's extensions"
                    }
                    false => "it is not the tenant's own; drop it, or give it to the tenant's owner role",
                };
                let message = format!("{}: {next}", error.message());
                Err(error.with_message(message))
            }
            other => other,
        }
    }
}
