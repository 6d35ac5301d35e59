//! Values on the command line that are more than a word: labels, durations, moments, switches, secrets.

use std::fmt;
use std::str::FromStr;

use freehold_api::movability::{MoveMethod, MoveTo};
use jiff::{SignedDuration, Span, SpanRelativeTo, Timestamp};

/// `key=value`
#[derive(Debug, Clone, PartialEq)]
pub struct Label {
    pub key: String,
    pub value: String,
}

impl FromStr for Label {
    type Err = String;
    fn from_str(input: &str) -> Result<Self, String> {
        match input.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok(Self { key: key.into(), value: value.into() }),
            _ => Err("expected key=value, for example tier=gold".into()),
        }
    }
}

/// `90s`, `1h`, `30d`, `1h 30m`; a day is 24 hours.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Length(pub SignedDuration);

impl FromStr for Length {
    type Err = String;
    fn from_str(input: &str) -> Result<Self, String> {
        let why = || "expected a length of time, for example 90s, 1h or 30d".to_owned();
        let span: Span = input.parse().map_err(|_| why())?;
        let length = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| why())?;
        if length <= SignedDuration::ZERO { Err(why()) } else { Ok(Self(length)) }
    }
}

/// An RFC 3339 time, or a length of time counted from now: forwards for an expiry, backwards for a search.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Moment {
    At(Timestamp),
    Apart(SignedDuration),
}

impl FromStr for Moment {
    type Err = String;
    fn from_str(input: &str) -> Result<Self, String> {
        if let Ok(at) = input.parse() {
            return Ok(Self::At(at));
        }
        input.parse::<Length>().map(|length| Self::Apart(length.0)).map_err(|_| {
            "expected a length of time such as 90s, 1h or 30d, or a time such as 2026-01-31T12:00:00Z".to_owned()
        })
    }
}

impl Moment {
    pub fn after(self, now: Timestamp) -> Result<Timestamp, jiff::Error> {
        match self {
            Self::At(at) => Ok(at),
            Self::Apart(length) => now.checked_add(length),
        }
    }
    pub fn before(self, now: Timestamp) -> Result<Timestamp, jiff::Error> {
        match self {
            Self::At(at) => Ok(at),
            Self::Apart(length) => now.checked_sub(length),
        }
    }
}

/// Bytes: a number, or one with a unit (`512M`, `4G`). Units are powers of 1024.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub u64);

impl FromStr for Size {
    type Err = String;
    fn from_str(input: &str) -> Result<Self, String> {
        let why = || "expected bytes, or a number with K, M, G or T, for example 4G".to_owned();
        let text = input.trim();
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(end);
        let shift = match unit.trim().to_ascii_lowercase().trim_end_matches("ib").trim_end_matches('b') {
            "" => 0,
            "k" => 10,
            "m" => 20,
            "g" => 30,
            "t" => 40,
            _ => return Err(why()),
        };
        let number: u64 = number.parse().map_err(|_| why())?;
        number.checked_mul(1 << shift).map(Self).ok_or_else(why)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, clap::ValueEnum)]
pub enum Switch {
    On,
    Off,
}

impl Switch {
    pub fn is_on(self) -> bool {
        match self {
            Self::On => true,
            Self::Off => false,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, clap::ValueEnum)]
pub enum Method {
    Logical,
    Dump,
}

impl From<Method> for MoveMethod {
    fn from(method: Method) -> Self {
        match method {
            Method::Logical => Self::Logical,
            Method::Dump => Self::Dump,
        }
    }
}

/// Where a tenant is to go: a name of any kind, or `server:NAME`, `server-pool:NAME`, `plan:NAME`, `region:NAME`.
#[derive(Debug, Clone, PartialEq)]
pub struct Destination(pub MoveTo);

impl FromStr for Destination {
    type Err = String;
    fn from_str(input: &str) -> Result<Self, String> {
        let Some((kind, name)) = input.split_once(':') else {
            return match input {
                "" => Err("expected a name, for example local-2 or plan:pro".into()),
                name => Ok(Self(MoveTo::Name(name.into()))),
            };
        };
        let named = |error: &dyn fmt::Display| error.to_string();
        Ok(Self(match kind {
            "server" => MoveTo::Server(name.parse().map_err(|error| named(&error))?),
            "server-pool" => MoveTo::ServerPool(name.parse().map_err(|error| named(&error))?),
            "plan" => MoveTo::Plan(name.parse().map_err(|error| named(&error))?),
            "region" if !name.is_empty() => MoveTo::Region(name.into()),
            _ => return Err("expected NAME, server:NAME, server-pool:NAME, plan:NAME or region:NAME".into()),
        }))
    }
}

/// Never shown, whatever prints the arguments.
#[derive(Clone)]
pub struct Secret(pub String);

impl FromStr for Secret {
    type Err = std::convert::Infallible;
    fn from_str(input: &str) -> Result<Self, Self::Err> {
        Ok(Self(input.to_owned()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Reads a value of the API's enums by its wire name: the names exist once, in the API.
pub fn wire_name<T: serde::de::DeserializeOwned>(input: &str) -> Result<T, String> {
    serde_json::from_value(serde_json::Value::String(input.to_owned())).map_err(|error| {
        // serde's text names the accepted ones: "unknown variant `x`, expected one of `a`, `b`".
        let text = error.to_string();
        text.split_once(", ").map_or(text.clone(), |(_, expected)| expected.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use freehold_api::tenant::TenantState;

    #[test]
    fn where_to_is_a_name_or_a_name_of_some_kind() {
        let to = |text: &str| text.parse::<Destination>().map(|Destination(to)| to);
        assert_eq!(to("local-2"), Ok(MoveTo::Name("local-2".into())));
        assert_eq!(to("server:local-2"), Ok(MoveTo::Server("local-2".parse().unwrap())));
        assert_eq!(to("server-pool:big"), Ok(MoveTo::ServerPool("big".parse().unwrap())));
        assert_eq!(to("plan:pro"), Ok(MoveTo::Plan("pro".parse().unwrap())));
        assert_eq!(to("region:eu:1"), Ok(MoveTo::Region("eu:1".into())));
        for wrong in ["", "server:", "plan:A B", "region:", "pool:x", ":"] {
            assert!(to(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn lengths_and_moments() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        assert_eq!("30d".parse::<Length>().unwrap().0.as_hours(), 720);
        assert_eq!("1h 30m".parse::<Length>().unwrap().0.as_mins(), 90);
        assert_eq!("30d".parse::<Moment>().unwrap().after(now).unwrap().to_string(), "2026-01-31T00:00:00Z");
        assert_eq!("1h".parse::<Moment>().unwrap().before(now).unwrap().to_string(), "2025-12-31T23:00:00Z");
        assert!("2026-02-01T00:00:00Z".parse::<Moment>().is_ok());
        for bad in ["", "5", "-1h", "0s", "soon", "1y"] {
            assert!(bad.parse::<Length>().is_err(), "{bad}");
        }
    }

    #[test]
    fn labels_keep_what_follows_the_first_equals_sign() {
        assert_eq!("a=b=c".parse::<Label>().unwrap(), Label { key: "a".into(), value: "b=c".into() });
        assert!("=x".parse::<Label>().is_err() && "x".parse::<Label>().is_err());
    }

    #[test]
    fn wire_names_list_what_is_accepted() {
        assert_eq!(wire_name::<TenantState>("active").unwrap(), TenantState::Active);
        assert!(wire_name::<TenantState>("x").unwrap_err().contains("`suspended`"));
    }

    #[test]
    fn secrets_are_not_shown() {
        assert_eq!(format!("{:?}", Secret("hunter2".into())), "Secret(…)");
    }
}
