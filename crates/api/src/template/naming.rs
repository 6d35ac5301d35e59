//! Names by pattern: reads a pattern, fills it for one tenant, and refuses what PostgreSQL or Freehold cannot have.
//! Absent: whether a name is taken. That is found at the claim, by its owner.

use crate::id::TenantId;
use crate::tenant::Labels;

use super::{BadName, Names, Naming, NamingKind, Normalise};

/// PostgreSQL's NAMEDATALEN - 1, in bytes.
pub(super) const NAME_MAX: usize = 63;

pub(super) fn names_for(naming: &Naming, tenant: &TenantId, labels: &Labels) -> Result<Option<Names>, BadName> {
    match naming.kind {
        NamingKind::Opaque => Ok(None),
        NamingKind::Pattern => {
            let fill = |pattern: &Option<String>, database: Option<&str>| {
                let pattern = pattern.as_deref().unwrap_or_default();
                let name = fill(pattern, naming.normalise, tenant, labels, database)?;
                usable(name)
            };
            let database = fill(&naming.database, None)?;
            let login = fill(&naming.login, Some(&database))?;
            Ok(Some(Names { database, login }))
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slot {
    Tenant,
    Customer,
    Instance,
    Database,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    Text(String),
    Slot { slot: Slot, cut: Option<usize> },
}

/// The pieces of `odoo_{customer:16}_{instance:8}`, or why it is no pattern.
pub(super) fn pieces(pattern: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut rest = pattern;
    while let Some(open) = rest.find(['{', '}']) {
        let (text, from) = rest.split_at(open);
        if !text.is_empty() {
            pieces.push(Piece::Text(text.to_owned()));
        }
        let Some(inner) = from.strip_prefix('{') else {
            return Err("a } without its {".to_owned());
        };
        let Some((inner, after)) = inner.split_once('}') else {
            return Err("a { without its }".to_owned());
        };
        pieces.push(slot(inner)?);
        rest = after;
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest.to_owned()));
    }
    Ok(pieces)
}

fn slot(inner: &str) -> Result<Piece, String> {
    let (name, cut) = match inner.split_once(':') {
        None => (inner, None),
        Some((name, length)) => {
            let length = length.parse::<usize>().ok().filter(|n| (1..=NAME_MAX).contains(n));
            let length =
                length.ok_or_else(|| format!("{{{}}}: after the colon comes a length, 1 to 63", short(inner)))?;
            (name, Some(length))
        }
    };
    let slot = match name {
        "tenant" => Slot::Tenant,
        "customer" => Slot::Customer,
        "instance" => Slot::Instance,
        "database" => Slot::Database,
        _ => {
            return Err(format!(
                "unknown placeholder {{{}}}; there are {{tenant}}, {{customer}}, {{instance}}, and in a login {{database}}",
                short(inner)
            ));
        }
    };
    Ok(Piece::Slot { slot, cut })
}

fn fill(
    pattern: &str,
    normalise: Normalise,
    tenant: &TenantId,
    labels: &Labels,
    database: Option<&str>,
) -> Result<String, BadName> {
    let unusable = |why| BadName::Unusable { name: short(pattern), why };
    let mut name = String::new();
    for piece in pieces(pattern).map_err(|_| unusable("the template's pattern is not valid"))? {
        let (slot, cut) = match piece {
            Piece::Text(text) => {
                name.push_str(&text);
                continue;
            }
            Piece::Slot { slot, cut } => (slot, cut),
        };
        let label = |label: &str| labels.get(label).ok_or_else(|| BadName::LabelMissing { label: label.to_owned() });
        let value = match slot {
            Slot::Tenant => normalised(tenant.as_str(), normalise),
            Slot::Customer => normalised(label("customer")?, normalise),
            Slot::Instance => normalised(label("instance")?, normalise),
            Slot::Database => {
                database.ok_or_else(|| unusable("{database} stands in the database's own name"))?.to_owned()
            }
        };
        // Two tenants whose parts both vanish would get one name.
        if value.is_empty() {
            return Err(unusable("nothing is left of what one of its placeholders stands for"));
        }
        name.extend(value.chars().take(cut.unwrap_or(usize::MAX)));
    }
    Ok(name)
}

fn normalised(value: &str, normalise: Normalise) -> String {
    let small = |c: char| c.to_ascii_lowercase();
    let plain = |c: &char| c.is_ascii_lowercase() || c.is_ascii_digit();
    match normalise {
        Normalise::Keep => value.to_owned(),
        Normalise::Underscore => value.chars().map(small).map(|c| if plain(&c) { c } else { '_' }).collect(),
        Normalise::Strip => value.chars().map(small).filter(plain).collect(),
    }
}

fn usable(name: String) -> Result<String, BadName> {
    match unusable(&name) {
        Some(why) => Err(BadName::Unusable { name: short(&name), why }),
        None if name.len() > NAME_MAX => Err(BadName::TooLong { bytes: name.len(), name: short(&name) }),
        None => Ok(name),
    }
}

/// Why nothing may be called so, its length aside.
pub(super) fn unusable(name: &str) -> Option<&'static str> {
    match name {
        "" => Some("it is empty"),
        "postgres" | "template0" | "template1" => Some("every PostgreSQL server has a database or role of this name"),
        "pgbouncer" | "pgcat" => Some("poolers call their console so"),
        "public" | "none" => Some("PostgreSQL reserves this word"),
        _ if name.starts_with("pg_") => Some("PostgreSQL reserves names that begin with pg_"),
        _ if name.starts_with("fh_") => Some("Freehold reserves names that begin with fh_"),
        _ if name.contains('\0') => Some("it holds a NUL"),
        _ if name.chars().any(char::is_control) => Some("it holds a control character"),
        _ => None,
    }
}

/// Hostile input may be long; an error is not.
fn short(text: &str) -> String {
    let mut cut: String = text.chars().take(80).collect();
    if cut.len() < text.len() {
        cut.push('…');
    }
    cut
}
