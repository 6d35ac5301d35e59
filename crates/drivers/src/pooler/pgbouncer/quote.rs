//! The only way a name or a value gets into one of PgBouncer's files or commands.
//!
//! Read in its sources, 1.18 to 1.24 alike, because its manual is wrong about the first:
//!
//! - A key of an ini file is letters, digits and `_ . - *`, and nothing else: the double quotes that the manual describes
//!   are a syntax error, and everything after them is not read.
//! - A value of a connection string is in single quotes, with `''` for one. A line ends where it ends, quoted or not.
//! - The list of users, the access rules and the console take double quotes, with `""` for one. A quoted word is never
//!   a keyword (`all`, `sameuser`) and never names a file (`@names`).
//!
//! What cannot be written is refused. Nothing is mangled: a mangled name may be somebody else's.

use std::fmt::Write;

/// PostgreSQL's limit for names, PgBouncer's for entries and for arguments on its console.
const LONGEST: usize = 63;

#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
#[error("{what} {value:?} cannot be written into PgBouncer's files: {why}")]
pub struct Unwritable {
    what: &'static str,
    value: String,
    why: &'static str,
}

/// What clients ask a PgBouncer for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct EntryName<'a>(&'a str);

impl<'a> EntryName<'a> {
    pub fn parse(name: &'a str) -> Result<Self, Unwritable> {
        let refuse = |why| Err(Unwritable { what: "entry", value: name.to_owned(), why });
        if name.is_empty() {
            return refuse("it is empty");
        }
        if name.len() > LONGEST {
            return refuse("it is longer than 63 bytes");
        }
        if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte)) {
            return refuse(
                "an ini file's keys hold letters, digits, '_', '.' and '-' only; give the entry another name, its database may keep its own",
            );
        }
        if name == "pgbouncer" {
            return refuse("it is the console's");
        }
        Ok(Self(name))
    }

    pub fn as_str(self) -> &'a str {
        self.0
    }
}

/// A value of `[pgbouncer]`: all of the line after `=`, without the white space around it.
pub(super) fn setting(value: &str) -> Result<String, Unwritable> {
    let what = "setting";
    check(what, value)?;
    match value.trim() == value {
        true => Ok(value.to_owned()),
        false => Err(Unwritable { what, value: value.to_owned(), why: "white space at its ends is lost" }),
    }
}

/// A value of a connection string in `[databases]`.
pub(super) fn connection_value(what: &'static str, value: &str) -> Result<String, Unwritable> {
    name(what, value)?;
    Ok(quoted(value, '\''))
}

/// A database or a role in the list of users, the access rules and on the console.
pub(super) fn identifier(what: &'static str, value: &str) -> Result<String, Unwritable> {
    name(what, value)?;
    Ok(quoted(value, '"'))
}

fn name(what: &'static str, value: &str) -> Result<(), Unwritable> {
    check(what, value)?;
    match value.len() {
        0 => Err(Unwritable { what, value: value.to_owned(), why: "it is empty" }),
        1..=LONGEST => Ok(()),
        _ => Err(Unwritable { what, value: value.to_owned(), why: "it is longer than 63 bytes" }),
    }
}

fn check(what: &'static str, value: &str) -> Result<(), Unwritable> {
    match value.contains(['\0', '\n', '\r']) {
        true => Err(Unwritable { what, value: value.to_owned(), why: "it holds a line's end or a NUL" }),
        false => Ok(()),
    }
}

/// An address of a host in a connection string: longer than a name.
pub(super) fn host(value: &str) -> Result<String, Unwritable> {
    let refuse = |why| Err(Unwritable { what: "host", value: value.to_owned(), why });
    check("host", value)?;
    if value.is_empty() {
        return refuse("it is empty");
    }
    if value.contains(',') {
        return refuse("PgBouncer takes turns through a list, standbys included; give the one that takes writes");
    }
    Ok(quoted(value, '\''))
}

fn quoted(value: &str, quote: char) -> String {
    let mut text = String::with_capacity(value.len() + 2);
    text.push(quote);
    for c in value.chars() {
        if c == quote {
            text.push(quote);
        }
        text.push(c);
    }
    text.push(quote);
    text
}

/// `"one","two"`.
pub(super) fn identifiers<'a>(
    what: &'static str,
    values: impl IntoIterator<Item = &'a str>,
) -> Result<String, Unwritable> {
    let mut text = String::new();
    for value in values {
        let comma = if text.is_empty() { "" } else { "," };
        let _ = write!(text, "{comma}{}", identifier(what, value)?);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quoting_refuses_what_cannot_be_written() {
        for name in ["", "a b", "\"a\"", "a'", "é", "a*", "*", "a\n", "pgbouncer", &"x".repeat(64), "[x]", "%include"]
        {
            assert!(EntryName::parse(name).is_err(), "{name}");
        }
        for name in ["a", "fh_0123456789abcdef", "a.b-c_D9", "-", &"x".repeat(63)] {
            assert_eq!(EntryName::parse(name).unwrap().as_str(), name);
        }
        for name in ["", "a\nb", "a\0b", "a\r", &"x".repeat(64)] {
            assert!(identifier("role", name).is_err() && connection_value("database", name).is_err(), "{name:?}");
        }
        assert!(host("one,two").is_err() && host("").is_err());
        assert!(setting(" /x").is_err() && setting("/x\nadmin_users = tenant").is_err());
        assert_eq!(identifier("role", "a\"b'c").unwrap(), "\"a\"\"b'c\"");
        assert_eq!(connection_value("database", "a\"b'c").unwrap(), "'a\"b''c'");
    }

    /// As `find_quote` and `copy_quoted` of its loader, or `cstr_unquote_value`, read it.
    fn unquoted(text: &str, quote: char) -> Option<(String, &str)> {
        let mut rest = text.strip_prefix(quote)?;
        let mut value = String::new();
        loop {
            let c = rest.chars().next()?;
            rest = &rest[c.len_utf8()..];
            match (c == quote, rest.strip_prefix(quote)) {
                (true, Some(after)) => rest = after,
                (true, None) => return Some((value, rest)),
                (false, _) => {}
            }
            value.push(c);
        }
    }

    proptest! {
        #[test]
        fn quoting_is_undone_by_its_reader(name in "[^\0\r\n]{1,15}", after in "[^\"']{0,5}") {
            let text = format!("{}{after}", identifier("role", &name).unwrap());
            prop_assert_eq!(unquoted(&text, '"'), Some((name.clone(), after.as_str())));
            let text = format!("{}{after}", connection_value("database", &name).unwrap());
            prop_assert_eq!(unquoted(&text, '\''), Some((name.clone(), after.as_str())));
        }
    }
}
