//! Why something did not start, with its causes in one text, and the exit code that goes with it.

use std::error::Error;
use std::fmt;

/// 3: a prerequisite or a setting; 1: it broke while running.
#[derive(Debug)]
pub struct Missing {
    text: String,
    code: u8,
}

impl Missing {
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), code: 3 }
    }

    pub fn broken(text: impl Into<String>) -> Self {
        Self { text: text.into(), code: 1 }
    }

    pub fn exit_code(&self) -> u8 {
        self.code
    }

    /// `doing`, then every cause that says something new.
    pub fn because(doing: &str, error: &dyn Error) -> Self {
        let mut text = doing.to_owned();
        let mut cause = Some(error);
        while let Some(error) = cause {
            let more = error.to_string();
            if !text.contains(&more) {
                if !text.is_empty() {
                    text.push_str(": ");
                }
                text.push_str(&more);
            }
            cause = error.source();
        }
        Self::new(text)
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl<E: Error> From<E> for Missing {
    fn from(error: E) -> Self {
        Self::because("", &error)
    }
}
