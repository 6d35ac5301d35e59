//! The truth: what servers really hold, compared with what the store wants, and bent back.
//!
//! A tenant may change its own password, its `role` and its defaults, and may create things as its login. This loop
//! restores verifier, `role`, defaults, admission, grants and ownership; it never drops what it does not know.

mod compare;
pub mod repair;
