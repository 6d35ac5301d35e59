//! One suite for every platform: each brings a [`conformance::World`], and [`stories!`] makes its tests. An engine that is
//! not installed fails by name.

mod case;
#[macro_use]
mod conformance;
mod docker;
mod process;
