//! What the other crates' tests stand on, and what ships as files.

mod clusters;
mod planes;
mod shipped;
