//! Ids have kinds. What a person chooses is a slug and is parsed here, once; what Freehold chooses is a UUID v7.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// The longest slug, in characters (all of them ASCII, so also in bytes).
pub const SLUG_MAX: usize = 48;

/// Why a string is no slug. The text is what the caller reads.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{what} {shown} is not valid: {why}; expected 1 to 48 characters, first [a-z0-9], then [a-z0-9-], for example \"acme-2\""
)]
pub struct BadSlug {
    what: &'static str,
    shown: String,
    why: &'static str,
}

/// Shows hostile input in an error without passing it on: escaped and cut.
pub fn shown(input: &str) -> String {
    let cut: String = input.chars().take(60).collect();
    let more = if cut.len() < input.len() { "…" } else { "" };
    format!("{cut:?}{more}")
}

fn parse_slug(what: &'static str, input: &str) -> Result<String, BadSlug> {
    let bad = |why| Err(BadSlug { what, shown: shown(input), why });
    let lower_or_digit = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    match input.as_bytes() {
        [] => bad("it is empty"),
        bytes if bytes.len() > SLUG_MAX => bad("it is too long"),
        [first, ..] if !lower_or_digit(*first) => bad("its first character is not a lowercase letter or digit"),
        bytes if bytes.iter().any(|b| !lower_or_digit(*b) && *b != b'-') => {
            bad("it holds a character that is not a lowercase letter, digit or hyphen")
        }
        _ => Ok(input.to_owned()),
    }
}

macro_rules! slug {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
        #[serde(try_from = "String", into = "String")]
        #[schema(value_type = String, pattern = "^[a-z0-9][a-z0-9-]{0,47}$", example = "acme")]
        pub struct $name(String);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl FromStr for $name {
            type Err = BadSlug;
            fn from_str(input: &str) -> Result<Self, BadSlug> {
                parse_slug($what, input).map(Self)
            }
        }
        impl TryFrom<String> for $name {
            type Error = BadSlug;
            fn try_from(input: String) -> Result<Self, BadSlug> {
                input.parse()
            }
        }
        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

slug!(/// One customer of the SaaS, as the SaaS calls it.
    TenantId, "tenant id");
slug!(
    /// A pooler's name.
    PoolerId, "pooler name");
slug!(/// One PostgreSQL cluster, as its operator calls it.
    ServerId, "server name");
slug!(/// What a new database contains, by name; its version is a hash of its content.
    TemplateName, "template name");
slug!(/// A plan, as the settings call it.
    PlanName, "plan name");
slug!(/// A server pool, as the settings call it.
    PoolName, "server pool name");

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
        #[serde(transparent)]
        #[schema(value_type = Uuid)]
        pub struct $name(pub Uuid);

        impl $name {
            /// Time-ordered, so that an index on it grows at its end.
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }
        }
        impl Default for $name {
            fn default() -> Self {
                Self::new()
            }
        }
        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(input: &str) -> Result<Self, uuid::Error> {
                Uuid::parse_str(input).map(Self)
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

uuid_id!(/// One durable piece of work.
    OperationId);
uuid_id!(/// One database on one server: stock, or a tenant's.
    DatabaseId);
uuid_id!(/// One login role of a database. Sealed passwords name it in their associated data.
    LoginId);
uuid_id!(/// One API key. Not the key itself.
    KeyId);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn slugs_say_what_is_wrong() {
        for (input, why) in [
            ("", "empty"),
            ("Acme", "first character"),
            ("-acme", "first character"),
            ("ac_me", "holds a character"),
            ("a; DROP", "holds a character"),
            ("a\0b", "holds a character"),
            ("..", "first character"),
            (&"a".repeat(49), "too long"),
        ] {
            let error = input.parse::<TenantId>().unwrap_err().to_string();
            assert!(error.contains(why), "{input:?}: {error}");
            assert!(!error.contains('\0') && error.len() < 400);
        }
        assert!("a".repeat(48).parse::<TenantId>().is_ok());
    }

    proptest! {
        #[test]
        fn slugs_are_exactly_their_pattern(input in "\\PC{0,60}") {
            let ok = !input.is_empty() && input.len() <= 48
                && input.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
                && !input.starts_with('-');
            prop_assert_eq!(input.parse::<TenantId>().is_ok(), ok);
        }
    }
}
