//! Whether a server does what it was told. Pure: the caller brings what `pg_settings` holds.

use std::collections::BTreeMap;

use crate::server::sql::{Finding, SettingInForce, Severity};

/// What was told and is not in force, with what to do about it. A server's own rounding is no difference.
pub fn differences(wanted: &BTreeMap<String, String>, in_force: &[SettingInForce]) -> Vec<Finding> {
    let found: BTreeMap<&str, &SettingInForce> =
        in_force.iter().map(|setting| (setting.name.as_str(), setting)).collect();
    wanted.iter().filter_map(|(name, value)| difference(name, value, found.get(name.as_str()).copied())).collect()
}

fn difference(name: &str, wanted: &str, found: Option<&SettingInForce>) -> Option<Finding> {
    let finding = |code, message| Some(Finding { code, severity: Severity::Medium, message });
    let Some(found) = found else {
        // A made-up name (`app.tenant`) is in no catalog until somebody sets it.
        return match name.contains('.') {
            true => None,
            false => finding("setting_unknown", format!("{name} is not a setting of this server: take it out")),
        };
    };
    if found.pending_restart {
        return finding(
            "setting_waits_for_restart",
            format!("{name} shall be {wanted}; the server goes on with {} until it is restarted", shown(found)),
        );
    }
    match is_same(wanted, found) {
        true => None,
        false => finding(
            "setting_differs",
            format!("{name} shall be {wanted} and is {}: ALTER SYSTEM or a command line goes above it", shown(found)),
        ),
    }
}

fn shown(found: &SettingInForce) -> String {
    match found.unit.as_deref() {
        None | Some("") => found.setting.clone(),
        Some(unit) => format!("{} × {unit}", found.setting),
    }
}

fn is_same(wanted: &str, found: &SettingInForce) -> bool {
    let setting = found.setting.trim();
    let wanted = wanted.trim();
    match found.kind.as_str() {
        "bool" => boolean(wanted).is_some_and(|wanted| boolean(setting) == Some(wanted)),
        "integer" | "real" => match (quantity(wanted, found.unit.as_deref()), quantity(setting, found.unit.as_deref()))
        {
            (Some(wanted), Some(is)) => {
                // What is rounded is rounded to the unit.
                let unit = found.unit.as_deref().and_then(factor).unwrap_or(1.0);
                let slack = if found.unit.is_some() { unit / 2.0 } else { 0.0 };
                (wanted - is).abs() <= slack + 1e-9
            }
            _ => false,
        },
        "enum" => {
            wanted.eq_ignore_ascii_case(setting) || boolean(wanted).is_some() && boolean(wanted) == boolean(setting)
        }
        _ => wanted == setting,
    }
}

fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "on" | "true" | "yes" | "1" | "t" | "y" => Some(true),
        "off" | "false" | "no" | "0" | "f" | "n" => Some(false),
        _ => None,
    }
}

/// In bytes, in microseconds, or as it is. A bare number is in the setting's own unit.
fn quantity(text: &str, unit: Option<&str>) -> Option<f64> {
    let end = text.find(|c: char| !(c.is_ascii_digit() || "+-.eE".contains(c))).unwrap_or(text.len());
    // Octal, as log_file_mode is written and shown.
    let digits = text[..end].trim();
    let number: f64 =
        match digits.strip_prefix('0').filter(|rest| rest.len() >= 3 && rest.bytes().all(|b| b.is_ascii_digit())) {
            Some(octal) => f64::from(u32::from_str_radix(octal, 8).ok()?),
            None => digits.parse().ok()?,
        };
    match (text[end..].trim(), unit) {
        ("", None | Some("")) => Some(number),
        // −1 and 0 mean something of their own (off, without limit), in whatever unit.
        ("", Some(unit)) => Some(number * factor(unit)?),
        (given, Some(_)) => Some(number * factor(given)?),
        (_, None) => None,
    }
}

fn factor(unit: &str) -> Option<f64> {
    let digits = unit.len() - unit.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let times: f64 = if digits == 0 { 1.0 } else { unit[..digits].parse().ok()? };
    let one = match &unit[digits..] {
        "B" => 1.0,
        "kB" => 1024.0,
        "MB" => 1024.0 * 1024.0,
        "GB" => 1024.0 * 1024.0 * 1024.0,
        "TB" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        "us" => 1.0,
        "ms" => 1e3,
        "s" => 1e6,
        "min" => 60e6,
        "h" => 3_600e6,
        "d" => 86_400e6,
        _ => return None,
    };
    Some(times * one)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is(name: &str, setting: &str, unit: Option<&str>, kind: &str) -> SettingInForce {
        SettingInForce {
            name: name.into(),
            setting: setting.into(),
            unit: unit.map(str::to_owned),
            kind: kind.into(),
            pending_restart: false,
        }
    }

    #[test]
    fn differences_know_units_and_spellings() {
        for (wanted, setting, unit, kind, same) in [
            ("1GB", "131072", Some("8kB"), "integer", true),
            ("1GB", "131071", Some("8kB"), "integer", false),
            ("1000001kB", "125000", Some("8kB"), "integer", true),
            ("2048MB", "2048", Some("MB"), "integer", true),
            ("64MB", "65536", Some("kB"), "integer", true),
            ("64", "65536", Some("kB"), "integer", false),
            ("-1", "-1", Some("ms"), "integer", true),
            ("0", "-1", Some("ms"), "integer", false),
            ("30s", "30", Some("s"), "integer", true),
            ("1d", "1440", Some("min"), "integer", true),
            ("0600", "0600", None, "integer", true),
            ("409", "409", None, "integer", true),
            ("0.90", "0.9", None, "real", true),
            ("on", "on", None, "bool", true),
            ("true", "on", None, "bool", true),
            ("on", "off", None, "bool", false),
            ("Logical", "logical", None, "enum", true),
            ("replica", "logical", None, "enum", false),
            ("%m ", "%m", None, "string", true),
            ("UTC", "utc", None, "string", false),
        ] {
            let wanted = BTreeMap::from([("x".to_owned(), wanted.to_owned())]);
            let found = differences(&wanted, &[is("x", setting, unit, kind)]);
            assert_eq!(found.is_empty(), same, "{wanted:?} {setting} {unit:?}: {found:?}");
        }
    }

    #[test]
    fn differences_tell_what_is_unknown_and_what_waits() {
        let wanted = BTreeMap::from([("made_up".to_owned(), "1".to_owned()), ("app.own".to_owned(), "1".to_owned())]);
        let found = differences(&wanted, &[]);
        assert_eq!(found.iter().map(|finding| finding.code).collect::<Vec<_>>(), ["setting_unknown"]);
        let wanted = BTreeMap::from([("max_connections".to_owned(), "200".to_owned())]);
        let waits = SettingInForce { pending_restart: true, ..is("max_connections", "100", None, "integer") };
        assert_eq!(differences(&wanted, &[waits])[0].code, "setting_waits_for_restart");
    }
}
