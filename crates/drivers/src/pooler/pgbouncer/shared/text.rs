//! Their ini file and their list of users, as PgBouncer reads them, and what Freehold's blocks in them say. Pure.
//!
//! In the ini file the block is below the first `[databases]`, or has one of its own at the end. In the list of users it
//! comes first: a line that PgBouncer cannot read locks out everybody after it, and so neither of us the other.

use std::collections::BTreeSet;

use super::super::super::block::{Divided, Place, unite};
use super::super::super::{ConsoleLogin, Entry, Mode, PoolerError};
use super::super::files::padding;
use super::super::render::{entry_line, logins_then_check, refused};
use super::super::version::Features;

/// What of their ini file matters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ini {
    pub databases: BTreeSet<String>,
    /// Any name is served (`*`).
    pub is_open: bool,
    /// There is more, elsewhere.
    pub includes: bool,
    /// It has settings of PgBouncer's.
    has_settings: bool,
    /// Below their `[databases]`.
    place: Option<Place>,
}

impl Ini {
    pub fn read(theirs: &str) -> Self {
        let mut found =
            Self { databases: BTreeSet::new(), is_open: false, includes: false, has_settings: false, place: None };
        let mut is_databases = false;
        let mut at = 0;
        for line in theirs.split_inclusive('\n') {
            at += line.len();
            let word = line.trim();
            if let Some(section) = word.strip_prefix('[') {
                let section = section.split(']').next();
                is_databases = section == Some("databases");
                found.has_settings |= section == Some("pgbouncer");
                if is_databases && line.ends_with('\n') {
                    found.place.get_or_insert(Place(at));
                }
            } else if word.starts_with("%include") {
                found.includes = true;
            } else if is_databases
                && !word.starts_with([';', '#'])
                && let Some((name, _)) = word.split_once('=')
            {
                found.is_open |= name.trim() == "*";
                found.databases.insert(name.trim().to_owned());
            }
        }
        found
    }
}

/// Whether these are what they are said to be. Nothing is added to a file that is something else: whoever may register a
/// pooler may not therefore write into whatever this process can.
pub(super) fn check(ini: &str, users: &str) -> Result<(), &'static str> {
    let found = Ini::read(ini);
    if !found.has_settings && !found.includes {
        return Err("the ini file has no [pgbouncer]: is it PgBouncer's?");
    }
    let mut lines = users.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(';'));
    match lines.next() {
        Some(first) if !first.starts_with('"') => {
            Err("the list of users does not begin with a name in quotes: is it PgBouncer's?")
        }
        _ => Ok(()),
    }
}

/// Names in a list of users.
pub(super) fn users(text: &str) -> BTreeSet<String> {
    text.lines().filter_map(|line| name(line.trim_start())).collect()
}

/// `"name" "secret"`, with `""` for a quote.
fn name(line: &str) -> Option<String> {
    let mut name = String::new();
    let mut rest = line.strip_prefix('"')?.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '"' if rest.peek() == Some(&'"') => drop(rest.next()),
            '"' => return Some(name),
            _ => {}
        }
        name.push(c);
    }
    None
}

/// Both files, as they shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Texts {
    pub ini: String,
    pub users: String,
}

pub(super) struct Ours<'a> {
    pub pooler: &'a str,
    pub generation: u64,
    pub entries: &'a [&'a Entry],
    pub check: &'a ConsoleLogin,
    pub default_mode: Mode,
    pub features: Features,
}

/// Without entries there are no blocks either.
pub(super) fn texts(ini: &Divided, users: &Divided, ours: &Ours<'_>) -> Result<Texts, PoolerError> {
    if ours.entries.is_empty() {
        return Ok(Texts { ini: ini.theirs.clone(), users: users.theirs.clone() });
    }
    let mark = (ours.pooler, ours.generation);
    let place = Ini::read(&ini.theirs).place;
    let mut body = String::from(if place.is_some() { "" } else { "[databases]\n" });
    for entry in ours.entries {
        body.push_str(&entry_line(entry, ours.default_mode, ours.features).map_err(refused)?);
    }
    let logins = logins_then_check(ours.entries, ours.check, ours.generation).map_err(refused)?;
    Ok(Texts {
        ini: unite(&ini.theirs, place.unwrap_or(Place(ini.theirs.len())), ';', mark, &body),
        users: unite(&users.theirs, Place(0), ';', mark, &format!("{}{logins}", padding(ours.generation))),
    })
}

#[cfg(test)]
mod tests {
    use super::super::super::super::block::divide;
    use super::super::super::super::{Login, Server, Standing, Verifier};
    use super::super::super::version::Release;
    use super::*;

    const THEIRS: &str = "; by hand\n[users]\nx = pool_mode=session\n\n[databases]\nlegacy = host=10.0.0.7 dbname=legacy\n\
                          # off = host=1\n%include more.ini\n[pgbouncer]\nlisten_port = 6432\nauth_type = md5\n";

    fn entry(name: &str) -> Entry {
        Entry {
            name: name.into(),
            server: Server { host: "db.example".into(), port: 5432 },
            database: "it's".into(),
            mode: None,
            pool_size: 2,
            reserve: 0,
            database_connections: Some(2),
            client_connections: Some(9),
            logins: vec![Login {
                role: format!("{name} \"l\""),
                verifier: Verifier::unusable("somebody"),
                standing: Standing::Usable,
            }],
        }
    }

    fn with(ini: &str, users: &str, generation: u64, names: &[&str]) -> Texts {
        let entries: Vec<Entry> = names.iter().map(|name| entry(name)).collect();
        let check = ConsoleLogin { name: "freehold_check".into(), verifier: Verifier::unusable("check") };
        let ours = Ours {
            pooler: "edge-1",
            generation,
            entries: &entries.iter().collect::<Vec<_>>(),
            check: &check,
            default_mode: Mode::Transaction,
            features: Release::new(1, 24, 0).features(),
        };
        texts(&divide(ini, ';').unwrap(), &divide(users, ';').unwrap(), &ours).unwrap()
    }

    #[test]
    fn their_files_are_read_as_pgbouncer_reads_them() {
        let found = Ini::read(THEIRS);
        assert_eq!(found.databases, BTreeSet::from(["legacy".to_owned()]));
        assert!(found.includes && !found.is_open && found.place.is_some());
        assert!(Ini::read("[databases]\r\n * = host=x\r\n").is_open);
        let list = "\"boss\" \"md5x\"\n;\"nobody\" \"x\"\n \"a\"\"b\" \"c\"\nbroken\n";
        assert_eq!(users(list), BTreeSet::from(["boss".to_owned(), "a\"b".to_owned()]));
    }

    #[test]
    fn nothing_is_added_to_what_is_something_else() {
        assert_eq!(check(THEIRS, "; none yet\n"), Ok(()));
        assert_eq!(check("%include real.ini\n", " \"boss\" \"x\"\nbroken\n"), Ok(()));
        assert!(check("root:x:0:0::/root:/bin/sh\n", "").is_err());
        assert!(check(THEIRS, "#!/bin/sh\nexit\n").is_err());
    }

    #[test]
    fn entries_come_and_go_and_all_else_stays() {
        let list = "\"boss\" \"secret\"";
        let one = with(THEIRS, list, 7, &["b", "a"]);
        insta::assert_snapshot!(format!("{}=====\n{}", one.ini, one.users));
        let two = with(&one.ini, &one.users, 8, &["a"]);
        assert!(two.ini.contains("a = ") && !two.ini.contains("b = "), "{}", two.ini);
        assert_eq!(with(&two.ini, &two.users, 9, &[]), Texts { ini: THEIRS.into(), users: list.into() });
    }

    #[test]
    fn a_section_of_its_own_is_at_the_end_and_goes_again() {
        let theirs = "[pgbouncer]\nlisten_port = 6432";
        let one = with(theirs, "", 1, &["a"]);
        assert!(one.ini.starts_with("[pgbouncer]\nlisten_port = 6432\n; Freehold begins"), "{}", one.ini);
        assert!(one.ini.contains("\n[databases]\na = "), "{}", one.ini);
        // They gave it a section meanwhile: the block goes there, and theirs is not what its header was.
        let more = format!("{}[databases]\nmine = host=x\n", one.ini);
        let two = with(&more, &one.users, 2, &["a"]);
        assert!(two.ini.contains("[databases]\n; Freehold begins") && !two.ini.contains("undone\n[databases]"));
        assert_eq!(with(&two.ini, "", 3, &[]).ini, "[pgbouncer]\nlisten_port = 6432\n[databases]\nmine = host=x\n");
    }
}
