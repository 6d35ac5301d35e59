//! The record of every change and of every read of a credential. Written in the transaction of what it records.

pub mod list;
pub mod record;
