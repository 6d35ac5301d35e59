//! Says what is on a server that the store does not know, and whether Freehold made it. Pure.
//!
//! A *ghost* was made by Freehold and forgotten: its operation was resolved as undone, or the store is older than the
//! server. What is *foreign* is somebody else's, and nobody's business here. Nothing of either is ever dropped.

use std::collections::HashSet;
use std::sync::LazyLock;

use freehold_drivers::server::sql::{Observed, ObservedRole};
use regex::Regex;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Database,
    Role,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Database => "database",
            Self::Role => "role",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stray {
    pub kind: Kind,
    pub name: String,
    pub ghost: bool,
    /// What tells that.
    pub reason: &'static str,
}

/// What the store knows of one server.
#[derive(Debug, Default)]
pub struct Known {
    pub databases: HashSet<String>,
    pub roles: HashSet<String>,
    /// Owners: whatever is called after one, with an underscore between, belongs to it.
    pub owners: HashSet<String>,
}

impl Known {
    fn has_role(&self, name: &str) -> bool {
        self.roles.contains(name) || self.is_called_after_an_owner(name)
    }

    fn has_database(&self, name: &str) -> bool {
        self.databases.contains(name) || self.is_called_after_an_owner(name)
    }

    fn is_called_after_an_owner(&self, name: &str) -> bool {
        self.owners.contains(name) || name.match_indices('_').any(|(at, _)| self.owners.contains(&name[..at]))
    }
}

pub fn find(observed: &Observed, known: &Known) -> Vec<Stray> {
    let databases = observed.databases.iter().filter(|database| !known.has_database(&database.name)).map(|database| {
        let owners = database.connect.iter().chain([&database.owner]);
        let (ghost, reason) = match () {
            () if is_ours(&database.name) => (true, "name"),
            () if owners.clone().any(|role| is_owner(role)) => (true, "owner"),
            () => (false, "unknown"),
        };
        Stray { kind: Kind::Database, name: database.name.clone(), ghost, reason }
    });
    let roles = observed.roles.iter().filter(|role| !known.has_role(&role.name)).map(|role| {
        let (ghost, reason) = match () {
            () if is_ours(&role.name) => (true, "name"),
            // A login with a name of its template's pattern.
            () if !role.superuser && role.member_of.iter().any(|of| is_owner(of)) && !known_member(role, known) => {
                (true, "owner")
            }
            () => (false, "unknown"),
        };
        Stray { kind: Kind::Role, name: role.name.clone(), ghost, reason }
    });
    databases.chain(roles).collect()
}

/// An admin of Freehold's is a member of owners because it made them: of known ones.
fn known_member(role: &ObservedRole, known: &Known) -> bool {
    role.createrole || role.member_of.iter().any(|of| known.has_role(of))
}

/// `fh_` and 16 characters: what every tenant's owner role is called, and nothing else.
fn is_owner(name: &str) -> bool {
    static OWNER: LazyLock<Regex> = LazyLock::new(|| Regex::new("^fh_[a-z2-7]{16}$").expect("a pattern"));
    OWNER.is_match(name)
}

/// A database, or a role, as Freehold calls them where no template says otherwise: of a tenant or of stock, of a
/// template, of health.
fn is_ours(name: &str) -> bool {
    const NAMES: &str = "(?s)^fh_(?:(?:[a-z2-7]{16}|t_[0-9a-f]{16})(?:_.*)?|visitor_[a-z2-7]{8})$";
    static OURS: LazyLock<Regex> = LazyLock::new(|| Regex::new(NAMES).expect("a pattern"));
    OURS.is_match(name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use freehold_drivers::server::sql::{ObservedDatabase, ObservedRole};

    use super::*;

    const OWNER: &str = "fh_abcdefghijklmn27";
    const GHOST: &str = "fh_zzzzzzzzzzzzzzzz";

    fn role(name: &str, member_of: &[&str]) -> ObservedRole {
        ObservedRole {
            name: name.into(),
            can_login: true,
            superuser: name == "postgres",
            createdb: false,
            createrole: false,
            replication: false,
            bypass_rls: false,
            conn_limit: -1,
            config: Vec::new(),
            config_in: BTreeMap::new(),
            member_of: member_of.iter().map(|role| (*role).to_owned()).collect(),
            members: Vec::new(),
            verifier: None,
        }
    }

    fn database(name: &str, owner: &str, connect: &[&str]) -> ObservedDatabase {
        ObservedDatabase {
            name: name.into(),
            owner: owner.into(),
            public_connect: false,
            connect: connect.iter().map(|role| (*role).to_owned()).collect(),
            conn_limit: -1,
            allow_connections: true,
            is_template: false,
            has_login_trigger: false,
            config: Vec::new(),
        }
    }

    fn known() -> Known {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Known {
            databases: set(&["postgres", "template0", "template1", "shop_acme"]),
            roles: set(&["postgres", "shop_user"]),
            owners: set(&[OWNER, "fh_t_0123456789abcdef"]),
        }
    }

    #[test]
    fn what_was_made_here_is_a_ghost_and_the_rest_is_foreign() {
        let observed = Observed {
            roles: vec![
                role("postgres", &[]),
                role(OWNER, &[]),
                role(&format!("{OWNER}_m"), &[OWNER]),
                role(&format!("{OWNER}_reporting"), &[]),
                role("shop_user", &[OWNER]),
                role("fh_t_0123456789abcdef_bm", &[]),
                role(GHOST, &[]),
                role("shop_ghost", &[GHOST]),
                role("fh_visitor_abcdefgh", &[]),
                role("grafana", &[]),
            ],
            databases: vec![
                database("postgres", "postgres", &[]),
                database("shop_acme", "admin", &[OWNER]),
                database("fh_t_0123456789abcdef_w", "admin", &[]),
                database(GHOST, "admin", &[GHOST]),
                database("shop_gone", "admin", &[GHOST]),
                database("grafana", "grafana", &[]),
            ],
            owned_as_login: Vec::new(),
        };
        let told: Vec<_> = find(&observed, &known())
            .into_iter()
            .map(|stray| (stray.kind.as_str(), stray.name, stray.ghost, stray.reason))
            .collect();
        let told: Vec<_> =
            told.iter().map(|(kind, name, ghost, reason)| (*kind, name.as_str(), *ghost, *reason)).collect();
        let expected = [
            ("database", GHOST, true, "name"),
            ("database", "shop_gone", true, "owner"),
            ("database", "grafana", false, "unknown"),
            ("role", GHOST, true, "name"),
            ("role", "shop_ghost", true, "owner"),
            ("role", "fh_visitor_abcdefgh", true, "name"),
            ("role", "grafana", false, "unknown"),
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn names_of_others_are_others() {
        for name in [
            "fh_",
            "fh_abc",
            "fh_abcdefghijklmn2",
            "fh_abcdefghijklmn278",
            "FH_abcdefghijklmn27",
            "fh_t_0123",
            "xfh_abcdefghijklmn27",
        ] {
            assert!(!is_ours(name), "{name}");
        }
        for name in ["fh_abcdefghijklmn27", "fh_abcdefghijklmn27_l", "fh_t_0123456789abcdef_w", "fh_visitor_abcdefgh"] {
            assert!(is_ours(name), "{name}");
        }
    }
}
