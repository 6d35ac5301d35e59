//! What one direction of a move is called on both servers. Everything is found again by its name.

use thiserror::Error;

/// `fh_move_<id>` from old to new, `fh_back_<id>` from new to old.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    name: String,
}

#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[error("{0:?} cannot name a move: expected 1 to 40 of a-z, 0-9 and _")]
pub struct BadLink(String);

impl Link {
    /// # Errors
    /// What PostgreSQL does not take as the name of a slot.
    pub fn there(id: &str) -> Result<Self, BadLink> {
        Self::named("fh_move_", id)
    }

    /// # Errors
    /// As [`Self::there`].
    pub fn back(id: &str) -> Result<Self, BadLink> {
        Self::named("fh_back_", id)
    }

    fn named(prefix: &str, id: &str) -> Result<Self, BadLink> {
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        match (1..=40).contains(&id.len()) && id.chars().all(fits) {
            true => Ok(Self { name: format!("{prefix}{id}") }),
            false => Err(BadLink(id.to_owned())),
        }
    }

    /// Of the publication, the slot and the subscription.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Reads at the publisher: the only login with a password that is not the tenant's.
    pub fn reader(&self) -> String {
        format!("{}_reader", self.name)
    }

    /// Applies at the subscriber: nobody can log in as it.
    pub fn writer(&self) -> String {
        format!("{}_writer", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_is_a_name_that_a_slot_may_have() {
        let link = Link::there("0193_abc").unwrap();
        assert_eq!((link.name(), &*link.writer()), ("fh_move_0193_abc", "fh_move_0193_abc_writer"));
        for bad in ["", "A", "a-b", "é", &"x".repeat(41)] {
            assert!(Link::back(bad).is_err(), "{bad}");
        }
    }
}
