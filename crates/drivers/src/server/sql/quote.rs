//! The only way a name or a value gets into SQL text. Absent: NUL, which the protocol itself refuses.

use postgres_protocol::escape::{escape_identifier, escape_literal};

pub(super) fn ident(name: &str) -> String {
    escape_identifier(name)
}

pub(super) fn literal(value: &str) -> String {
    escape_literal(value)
}

pub(super) fn idents<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(ident).collect::<Vec<_>>().join(", ")
}

/// A setting's name may have a dot (`app.tenant`): each part is quoted by itself.
pub(super) fn setting(name: &str) -> String {
    name.split('.').map(ident).collect::<Vec<_>>().join(".")
}

/// Names as one text array parameter.
pub(super) fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}
