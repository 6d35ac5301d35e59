//! Takes over a database that somebody else made, in place, and gives it back. Such a database is hostile: whoever made it
//! may have left event triggers, casts, or functions under the names that an admin says.
//!
//! `look_into` reads catalogs alone and says what is there. Ownership moves object by object, never by
//! REASSIGN OWNED, which would take along what the former owner has elsewhere: each object's former owner is on record
//! first, so that it can be given back. Absent: the judgement of what may be adopted, which is the caller's.

mod kept;
mod look;
mod objects;
mod restore;
mod take;

use serde::{Deserialize, Serialize};

pub use look::{DefaultAcl, EventTrigger, Inside, Outside, OwnerFacts, PrivilegeOn};
pub use objects::Object;
pub use take::{Closing, Taking};

/// What a database was before it was adopted: all that giving it back needs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Former {
    pub owner: String,
    pub connect: Vec<PrivilegeOn>,
    /// As they were enabled, and whose.
    #[serde(default)]
    pub event_triggers: Vec<EventTrigger>,
    /// A note of Freehold's was in it: a ghost's.
    #[serde(default)]
    pub had_note: bool,
    /// Roles that a weak admin had to become a member of.
    #[serde(default)]
    pub joined: Vec<String>,
    /// Who owned what.
    #[serde(default)]
    pub objects: Vec<Object>,
}
