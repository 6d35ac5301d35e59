//! How long it takes, from rates that are written down here and in `docs/move.md`, which says where they come from. Nothing
//! is promised: they are of a small machine with other things to do, and a move that runs shows its own.

use freehold_api::movability::{MoveEstimate, MoveMethod};
use freehold_drivers::server::sql::movable::Contents;

/// Bytes of rows that are copied, or dumped and restored, in a second; bytes of indexes that are built.
pub const COPIED_BYTES: u64 = 25 << 20;
pub const DUMPED_BYTES: u64 = 30 << 20;
/// Of both sides at once.
pub const COMPARED_BYTES: u64 = 60 << 20;
pub const INDEXED_BYTES: u64 = 20 << 20;
/// Rows that the one process that applies changes gets done in a second.
pub const APPLIED_ROWS: f64 = 10_000.0;
/// Roles, database, and what is told to whom.
const BEGIN: f64 = 3.0;
/// A table's definition; and where it is replicated, its own slot, snapshot and handing over, of which two go on at once.
const TABLE: f64 = 0.02;
const SYNCED: f64 = 0.1;
/// Drain, the last bytes, repoint: what the fence costs where nothing is copied under it.
const FENCE: f64 = 0.1;
/// A sequence's value.
const SEQUENCE: f64 = 0.0005;

pub fn of(method: MoveMethod, contents: &Contents) -> MoveEstimate {
    let moved = contents.size_bytes.saturating_sub(contents.catalog_bytes);
    let index_bytes = contents.index_bytes.min(moved);
    let copy_bytes = (moved - index_bytes).max(contents.large_object_bytes);
    let tables = contents.tables.count as f64;
    let built = index_bytes as f64 / INDEXED_BYTES as f64;
    let begin = BEGIN + tables * TABLE;
    let (rate, before, stall) = match method {
        MoveMethod::Logical => {
            let copied = copy_bytes as f64 / COPIED_BYTES as f64;
            // Large objects have no replication: they are copied under the fence.
            let large = contents.large_object_bytes as f64 / DUMPED_BYTES as f64;
            let stall = FENCE + large + contents.sequences.count as f64 * SEQUENCE;
            (COPIED_BYTES, begin + tables * SYNCED + copied + built, stall)
        }
        MoveMethod::Dump => {
            let copied = copy_bytes as f64 / DUMPED_BYTES as f64 + copy_bytes as f64 / COMPARED_BYTES as f64;
            (DUMPED_BYTES, begin, FENCE + copied + built)
        }
    };
    let seconds = before + stall;
    let round = |seconds: f64| (seconds * 10.0).round() / 10.0;
    MoveEstimate {
        method,
        copy_bytes,
        index_bytes,
        seconds: round(seconds),
        stall_seconds: round(stall),
        copy_bytes_per_second: rate,
    }
}
