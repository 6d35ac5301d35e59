//! The only place where this crate writes to the terminal.

use std::io::Write;

/// A broken pipe is the reader's business.
pub fn line(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

pub fn error(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "error: {text}");
}
