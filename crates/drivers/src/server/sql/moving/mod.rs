//! One tenant's database moves to another server while it is written to: logical replication, spoken as verbs that may
//! run twice, each with its way back.
//!
//! The way there, as an operation would say it, and as `tests/moving` does:
//!
//! ```text
//! prepare_roles · prepare_database · prepare_extensions      the target, where nobody may log in yet
//! plan_identities · set_identities                           before anything is published
//! carry_schema(First) · ensure_marker · publish
//! ensure_reader · create_slot · subscribe · enable           progress, until every table is ready
//! carry_schema(Rest) · analyze · settle
//! schema_state, then fingerprint                             a change of the schema meanwhile shows here
//! create_slot (back) · prepare_snapshot · prepare_glance     before the fence: it waits for the whole server
//! fence · mark · await_mark, schema_state · still_fenced     the stall begins
//! disable · Glance::compare                                  what there is time for: whatever differs goes no further
//! changed sequences · unlogged · large objects · triggers
//! advance_slot (back) · hold the snapshot · admit_logins     and ends
//! digests · subscribe (back, nothing copied) · follow_from
//! enable                                                     the old follows the new: `--rollback` is this recipe again
//! unlink · unpublish · restore_identities · drop             what is over leaves nothing
//! ```
//!
//! Rights: an [`Admin`](super::Admin) reads catalogs and makes publications, slots and subscriptions; all that touches the tenant's objects goes
//! through its maintenance login. What applies changes is a role of the move: no superuser, member of the owner alone, and
//! owner of the subscription, on every version alike. From 16 on `run_as_owner = false` would do instead, but it runs what a
//! tenant defined as a security-restricted operation, in which deferred triggers and temporary tables are errors, and it
//! wants a member of whoever owns the marker, which is the admin.
//!
//! By dump, for what replication cannot carry, with nobody let in from the fence to the end:
//!
//! ```text
//! prepare_roles · prepare_database · prepare_extensions
//! carry_schema(PreData)                                      while the tenant works
//! fence · schema_state, fingerprint
//! lift_force · stream · carry_schema(PostData)
//! set_sequences · refresh_views · wake_triggers · analyze
//! unlike · force_again · still_fenced                        nothing is the other side's that is not the same
//! admit_logins
//! ```
//!
//! An import is the same from a database of somebody else's ([`Foreign`]), where nobody is shut out: all of it is read by one
//! snapshot, and nothing is changed there.
//!
//! ```text
//! Foreign::open                                              a snapshot, and the tables as they are locked by pg_dump
//! create_like · follow_public · prepare_granted_extensions   the target
//! carry_schema(PreData) · stream · carry_schema(PostData)
//! set_sequences · refresh_views · wake_triggers · analyze
//! lift_force · unlike_at · force_again                       compared with that snapshot
//! ```
//!
//! Absent: order, time and retries (the operation's), the pooler, and judgement of what can be moved (preflight's).

mod compare;
mod digest;
mod fence;
mod fingerprint;
mod forced;
mod foreign;
mod glance;
mod identity;
mod large_objects;
mod link;
mod marker;
mod prepare;
mod progress;
mod publish;
mod schema;
mod sequences;
mod side;
mod slot;
mod stream;
mod subscribe;
mod triggers;
mod unlogged;
mod views;

pub use digest::{Digest, Keys, Range, Snapshot, differing};
pub use fingerprint::Fingerprint;
pub use forced::Forced;
pub use foreign::Foreign;
pub use glance::{Glance, Seen};
pub use identity::{Identity, Was};
pub use large_objects::Carried;
pub use link::{BadLink, Link};
pub use prepare::{Login, Tenant};
pub use progress::{Progress, SlotSeen};
pub use schema::{DumpBinary, Part, find_pg_dump};
pub use sequences::{Sequence, changed};
pub use side::Side;
pub use subscribe::Content;
pub use triggers::Trigger;
