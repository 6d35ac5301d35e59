//! Amounts of memory and ranges of ports, as people write them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Bytes: a number, or one with a unit (`512M`, `4G`, `4GiB`). Units are powers of 1024.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "Written")]
#[schema(value_type = String, format = "bytes, 4G")]
pub struct Size(pub u64);

#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Number(u64),
    Text(String),
}

#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no amount of memory; expected bytes or a number with K, M, G or T, for example 4G")]
pub struct BadSize(String);

impl TryFrom<Written> for Size {
    type Error = BadSize;
    fn try_from(written: Written) -> Result<Self, BadSize> {
        match written {
            Written::Number(bytes) => Ok(Self(bytes)),
            Written::Text(text) => text.parse(),
        }
    }
}

impl FromStr for Size {
    type Err = BadSize;
    fn from_str(text: &str) -> Result<Self, BadSize> {
        let bad = || BadSize(text.chars().take(60).collect());
        let trimmed = text.trim();
        let end = trimmed.find(|c: char| !c.is_ascii_digit()).unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at(end);
        let shift = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 0,
            "k" | "kb" | "kib" => 10,
            "m" | "mb" | "mib" => 20,
            "g" | "gb" | "gib" => 30,
            "t" | "tb" | "tib" => 40,
            _ => return Err(bad()),
        };
        let number: u64 = number.parse().map_err(|_| bad())?;
        number.checked_mul(1 << shift).map(Self).ok_or_else(bad)
    }
}

/// `first-last`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Ports {
    pub first: u16,
    pub last: u16,
}

#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no range of ports; expected first-last, for example 8600-8799")]
pub struct BadPorts(String);

impl TryFrom<String> for Ports {
    type Error = BadPorts;
    fn try_from(text: String) -> Result<Self, BadPorts> {
        let bad = || BadPorts(text.chars().take(60).collect());
        let (first, last) = text.split_once('-').ok_or_else(bad)?;
        let port = |text: &str| text.trim().parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(bad);
        let (first, last) = (port(first)?, port(last)?);
        if first > last {
            return Err(bad());
        }
        Ok(Self { first, last })
    }
}

impl From<Ports> for String {
    fn from(ports: Ports) -> Self {
        ports.to_string()
    }
}

impl Ports {
    pub fn count(self) -> u32 {
        u32::from(self.last - self.first) + 1
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [("0", 0), ("4G", 4 << 30), ("4GiB", 4 << 30), ("512 mb", 512 << 20), ("1t", 1 << 40)] {
            assert_eq!(text.parse::<Size>().unwrap().0, bytes, "{text}");
        }
        for bad in ["", "G", "4X", "-1G", "4.5G", "99999999999T"] {
            assert!(bad.parse::<Size>().is_err(), "{bad}");
        }
    }

    #[test]
    fn ports_are_a_range_that_is_not_empty() {
        let ports = Ports::try_from("8500-8699".to_owned()).unwrap();
        assert_eq!((ports.count(), ports.to_string().as_str()), (200, "8500-8699"));
        for bad in ["", "8500", "0-5", "9-8", "1-70000", "a-b"] {
            assert!(Ports::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }
}
