//! Poolers that somebody else runs, with files that are somebody else's: Freehold has a block of its own in them, which
//! gains and loses entries, and leaves all the rest as it is, byte for byte.
//!
//! What such a pooler has no place for: where it listens, its certificates, its limits as a whole, the logins of its
//! console. Those are whoever's it is. An entry or a login that is theirs already is not overwritten: it is *withheld*.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;

use super::block::{self, Divided};
use super::theirs::TheirFile;
use super::{Applied, Entry, Pooler, PoolerError, PoolerErrorKind, Served};
use crate::secrets::Password;

/// By role; of those whose pooler needs them.
pub type Passwords = BTreeMap<String, Password>;

/// What is in force, but for what is withheld.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    pub applied: Applied,
    pub withheld: Withheld,
}

/// Entries that are not in the pooler, and why.
pub type Withheld = BTreeMap<String, String>;

#[async_trait]
pub trait SharedPooler: Send + Sync {
    /// What runs, with what is theirs in it too. Its own [`Pooler::apply`] is never called: it would take theirs away.
    fn running(&self) -> &dyn Pooler;

    /// Its files have exactly these entries of Freehold's afterwards, and the pooler serves them, verified. As
    /// [`Pooler::apply`], but that a pooler which does not run finds them at its start.
    async fn give(&self, generation: u64, served: &Served, passwords: &Passwords) -> Result<Given, PoolerError>;

    /// The newest generation that is in its files.
    fn written(&self) -> Result<Option<u64>, PoolerError>;

    /// Databases that are paused, of whomever.
    async fn paused(&self) -> Result<BTreeSet<String>, PoolerError> {
        let stats = self.running().stats().await?;
        Ok(stats.into_iter().filter(|one| one.paused).map(|one| one.name).collect())
    }
}

/// Those that can be given, and the others. One that cannot keeps no other from being served.
pub(super) fn sort(entries: &[Entry], why_not: impl Fn(&Entry) -> Option<String>) -> (Vec<&Entry>, Withheld) {
    let mut withheld = Withheld::new();
    let mut given: Vec<&Entry> = Vec::new();
    for entry in entries {
        match why_not(entry) {
            None => given.push(entry),
            Some(why) => drop(withheld.insert(entry.name.clone(), why)),
        }
    }
    given.sort_by(|one, other| one.name.cmp(&other.name));
    (given, withheld)
}

/// Whether this block may be replaced with that generation.
pub(super) fn may_replace(file: &TheirFile, found: &Divided, pooler: &str, asked: u64) -> Result<(), PoolerError> {
    let other = found.block.as_ref().filter(|block| block.generation.is_some() && block.pooler != pooler);
    if let Some(other) = other {
        let message = format!(
            "{} has the block of pooler {} in it, and this is {pooler}: two poolers have two files; if {} is no more, remove its block",
            file.path().display(),
            other.pooler,
            other.pooler
        );
        return Err(PoolerError::new(PoolerErrorKind::Conflict, message));
    }
    match found.generation() {
        Some(there) if there > asked => Err(super::error::outdated(there, asked)),
        _ => Ok(()),
    }
}

pub(super) fn divided(file: &TheirFile, text: &str, comment: char) -> Result<Divided, PoolerError> {
    block::divide(text, comment).map_err(|torn| {
        PoolerError::because(PoolerErrorKind::Conflict, format!("{}: {torn}", file.path().display()), torn)
    })
}

/// The files of before are in force again, or it is said that they are not.
pub(super) fn took_back(error: PoolerError, back: Result<(), PoolerError>) -> PoolerError {
    let told = match back {
        Ok(()) => "what was there before is back".to_owned(),
        Err(back) => format!("and what was there before could not be put back: {back}"),
    };
    PoolerError { message: format!("{}; {told}", error.message), ..error }
}
