//! Reads a template's files and finds every fault at once, so that its author corrects them in one round.
//! Absent: whether a server has the extensions or accepts the SQL. The plane tries that when it builds the first one.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};

use crate::id::{TemplateName, shown};

use super::naming::{NAME_MAX, Piece, Slot, pieces, unusable};
use super::{BadTemplate, Files, Manifest, Naming, NamingKind, Template, scan};

const MANIFEST: &str = "template.toml";
const CLAIM: &str = "claim.sql";
const MIGRATIONS: &str = "migrations/";

const FILES_MAX: usize = 200;
const FILE_BYTES_MAX: usize = 1 << 20;
const ALL_BYTES_MAX: usize = 5 << 20;
const PATH_BYTES_MAX: usize = 200;
/// A role's name is put behind the owner's, and both must fit into 63 bytes.
const ROLE_MAX: usize = 40;

pub(super) fn parse(name: TemplateName, files: Files) -> Result<Template, BadTemplate> {
    let mut faults = Faults::default();
    check_sizes(&files, &mut faults);
    // What is too large is not read any further.
    if !faults.0.is_empty() {
        return Err(BadTemplate { faults: faults.0 });
    }
    for (path, text) in &files {
        check_path(path, &files, &mut faults);
        if text.contains('\0') {
            faults.add(path, "holds a NUL; the files of a template are text");
        }
    }
    let manifest = read_manifest(&files, &mut faults);
    if let Some(manifest) = &manifest {
        check_manifest(manifest, &mut faults);
    }
    // Where the manifest cannot be read, nobody knows whether a foreign tool needs the other files.
    let others_allowed = manifest.as_ref().is_none_or(|manifest| manifest.migrate.is_some());
    let migrations = sort_files(&files, others_allowed, &mut faults);
    for (path, text) in &files {
        if path == CLAIM || is_migration(path) {
            for fault in scan::faults(text) {
                faults.add(path, fault);
            }
        }
    }
    match manifest {
        Some(manifest) if faults.0.is_empty() => Ok(Template {
            name,
            version: version(&files),
            manifest,
            migrations,
            claim: files.get(CLAIM).cloned(),
            files,
        }),
        _ => Err(BadTemplate { faults: faults.0 }),
    }
}

/// A hash of the content: the same files are the same version, wherever they come from. Lengths stand before
/// what they measure, so that no two sets of files read the same.
fn version(files: &Files) -> String {
    let mut hash = Sha256::new();
    for part in files.iter().flat_map(|(path, text)| [path, text]) {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[derive(Default)]
struct Faults(Vec<String>);

impl Faults {
    fn add(&mut self, path: &str, what: impl std::fmt::Display) {
        self.0.push(format!("{}: {what}", shown_path(path)));
    }
}

/// Plain paths as they are, hostile ones escaped and cut.
fn shown_path(path: &str) -> String {
    let plain = path.len() <= PATH_BYTES_MAX && !path.is_empty() && path.chars().all(|c| c.is_ascii_graphic());
    if plain { path.to_owned() } else { shown(path) }
}

fn check_sizes(files: &Files, faults: &mut Faults) {
    if files.len() > FILES_MAX {
        faults.0.push(format!("{} files; a template has at most {FILES_MAX}", files.len()));
    }
    for (path, text) in files.iter().filter(|(_, text)| text.len() > FILE_BYTES_MAX).take(FILES_MAX) {
        faults.add(path, format_args!("{} bytes; a file has at most {FILE_BYTES_MAX}", text.len()));
    }
    let all: usize = files.iter().map(|(path, text)| path.len() + text.len()).sum();
    if all > ALL_BYTES_MAX {
        faults.0.push(format!("{all} bytes altogether; a template has at most {ALL_BYTES_MAX}"));
    }
}

/// A foreign tool is given the files in a directory: no path may lead out of it.
fn check_path(path: &str, files: &Files, faults: &mut Faults) {
    let why = if path.is_empty() {
        "a path is not empty"
    } else if path.len() > PATH_BYTES_MAX {
        "a path has at most 200 bytes"
    } else if path.starts_with('/') {
        "a path is relative to the template's directory"
    } else if path.contains('\\') {
        "a path has / between its parts and no backslash"
    } else if path.chars().any(char::is_control) {
        "a path holds no control characters"
    } else if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        "a path has no empty part, no . and no .."
    } else if is_also_directory(path, files) {
        "this path is a file and a directory"
    } else {
        return;
    };
    faults.add(path, why);
}

fn is_also_directory(path: &str, files: &Files) -> bool {
    let directory = format!("{path}/");
    files.range(directory.clone()..).next().is_some_and(|(next, _)| next.starts_with(&directory))
}

fn read_manifest(files: &Files, faults: &mut Faults) -> Option<Manifest> {
    let Some(text) = files.get(MANIFEST) else {
        faults.add(MANIFEST, "is missing; an empty file means the defaults");
        return None;
    };
    match toml::from_str(text) {
        Ok(manifest) => Some(manifest),
        Err(error) => {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            let line = 1 + before.matches('\n').count();
            faults.add(MANIFEST, format_args!("line {line}: {}", one_line(error.message())));
            None
        }
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(300).collect()
}

fn is_migration(path: &str) -> bool {
    path.strip_prefix(MIGRATIONS).is_some_and(|name| !name.contains('/') && name.ends_with(".sql"))
}

/// The migrations in the order of their numbers; every other file has a known place, or is a fault.
fn sort_files(files: &Files, others_allowed: bool, faults: &mut Faults) -> Vec<(String, String)> {
    let mut numbered: Vec<(u64, &String, &String)> = Vec::new();
    for (path, text) in files {
        if path == MANIFEST || path == CLAIM {
            continue;
        }
        if !is_migration(path) {
            if !others_allowed {
                faults.add(
                    path,
                    "unknown file; a template has template.toml, migrations/NNNN_name.sql and claim.sql, and others only with [migrate]",
                );
            }
            continue;
        }
        match migration_number(path) {
            Some(number) => numbered.push((number, path, text)),
            None => faults.add(path, "a migration is called NNNN_name.sql, for example 0001_init.sql"),
        }
    }
    numbered.sort_by_key(|(number, path, _)| (*number, *path));
    for pair in numbered.windows(2) {
        if let [(a, first, _), (b, second, _)] = pair
            && a == b
        {
            faults.add(second, format_args!("has the number of {first}; each migration has its own"));
        }
    }
    numbered.into_iter().map(|(_, path, text)| (path.clone(), text.clone())).collect()
}

/// Four digits or, for those who number by time, more.
fn migration_number(path: &str) -> Option<u64> {
    let (number, name) = path.strip_prefix(MIGRATIONS)?.strip_suffix(".sql")?.split_once('_')?;
    let named = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
    let numbered = (4..=18).contains(&number.len()) && number.bytes().all(|b| b.is_ascii_digit());
    (named && numbered).then(|| number.parse().ok()).flatten()
}

fn check_manifest(manifest: &Manifest, faults: &mut Faults) {
    let mut fault = |what: String| faults.add(MANIFEST, what);
    if manifest.description.chars().count() > 1000 || manifest.description.contains('\0') {
        fault("description: at most 1000 characters, and no NUL".to_owned());
    }
    check_naming(&manifest.naming, &mut fault);
    if manifest.minimum_postgres.is_some_and(|major| !(15..=99).contains(&major)) {
        fault("minimum_postgres: expected a major version, 15 or later".to_owned());
    }
    let locale_char = |c: char| c.is_ascii_alphanumeric() || "_.@-".contains(c);
    if manifest.locale.as_ref().is_some_and(|l| l.is_empty() || l.len() > NAME_MAX || !l.chars().all(locale_char)) {
        fault("locale: expected something like C.UTF-8 or de_DE.UTF-8".to_owned());
    }
    let mut seen = BTreeSet::new();
    for extension in &manifest.extensions {
        let name = shown(&extension.name);
        if !sane(&extension.name) {
            fault(format!("extension {name}: expected the name of an extension, at most 63 bytes"));
        }
        if !seen.insert(&extension.name) {
            fault(format!("extension {name}: named twice"));
        }
        // What belongs to PostgreSQL itself is installed into pg_catalog.
        let schema_ok = |schema: &str| {
            schema == "pg_catalog"
                || (sane(schema) && !schema.starts_with("pg_") && !matches!(schema, "freehold" | "information_schema"))
        };
        if extension.schema.as_deref().is_some_and(|schema| !schema_ok(schema)) {
            fault(format!("extension {name}: it cannot be installed into that schema"));
        }
    }
    for (name, value) in &manifest.settings {
        let name_ok = sane(name) && name.bytes().all(|b| b.is_ascii_lowercase() || matches!(b, b'_' | b'.'));
        if !name_ok {
            fault(format!("settings: {} is not the name of a setting: [a-z_.], at most 63 bytes", shown(name)));
        } else if matches!(name.as_str(), "role" | "session_authorization") || name.starts_with("freehold.") {
            fault(format!("settings: {name} is Freehold's own to set"));
        }
        if value.contains('\0') || value.len() > 1000 {
            fault(format!("settings: the value of {}: at most 1000 bytes, and no NUL", shown(name)));
        }
    }
    let mut seen = BTreeSet::new();
    for role in &manifest.roles {
        let name = shown(&role.name);
        if !role_is_sane(&role.name) {
            fault(format!("role {name}: expected [a-z][a-z0-9_]*, at most {ROLE_MAX} bytes"));
        } else if role_is_reserved(&role.name) {
            fault(format!("role {name}: l and m, alone or with a number, are the endings of Freehold's own roles"));
        }
        if !seen.insert(&role.name) {
            fault(format!("role {name}: named twice"));
        }
    }
    if let Some(migrate) = &manifest.migrate {
        if migrate.command.first().is_none_or(String::is_empty) || migrate.command.iter().any(|a| a.contains('\0')) {
            fault("migrate.command: expected a program and its arguments, for example [\"alembic\", \"upgrade\", \"head\"]".to_owned());
        }
        if migrate.timeout_seconds.is_some_and(|seconds| !(1..=86_400).contains(&seconds)) {
            fault("migrate.timeout_seconds: expected 1 to 86400".to_owned());
        }
    }
    if !(16..=128).contains(&manifest.password.length) {
        fault("password.length: expected 16 to 128".to_owned());
    }
}

fn check_naming(naming: &Naming, fault: &mut impl FnMut(String)) {
    let patterns = [("database", &naming.database), ("login", &naming.login)];
    for (which, pattern) in patterns {
        match (naming.kind, pattern) {
            (NamingKind::Opaque, None) => {}
            (NamingKind::Opaque, Some(_)) => {
                fault(format!("naming.{which}: opaque names have no pattern; leave it out, or say kind = \"pattern\""));
            }
            (NamingKind::Pattern, None) => fault(format!("naming.{which}: missing; kind = \"pattern\" needs one")),
            (NamingKind::Pattern, Some(pattern)) => {
                if let Err(why) = check_pattern(which, pattern) {
                    fault(format!("naming.{which}: {why}"));
                }
            }
        }
    }
}

fn check_pattern(which: &str, pattern: &str) -> Result<(), String> {
    if pattern.chars().any(char::is_control) {
        return Err("it holds a control character".to_owned());
    }
    let pieces = pieces(pattern)?;
    let slots =
        || pieces.iter().filter_map(|piece| if let Piece::Slot { slot, .. } = piece { Some(*slot) } else { None });
    if which == "database" && slots().any(|slot| slot == Slot::Database) {
        return Err("{database} stands in the login's pattern only".to_owned());
    }
    if !slots().any(|slot| slot != Slot::Customer) {
        let also = if which == "login" { ", {instance} or {database}" } else { " or {instance}" };
        return Err(format!("two tenants would get one name; it needs {{tenant}}{also}"));
    }
    let literal: usize = pieces.iter().map(|piece| if let Piece::Text(text) = piece { text.len() } else { 0 }).sum();
    if literal >= NAME_MAX {
        return Err("what stands between the placeholders leaves no room for them in 63 bytes".to_owned());
    }
    if let Some(Piece::Text(text)) = pieces.first()
        && (text.starts_with("pg_") || text.starts_with("fh_"))
    {
        return Err(unusable(text).unwrap_or_default().to_owned());
    }
    Ok(())
}

fn sane(name: &str) -> bool {
    !name.is_empty() && name.len() <= NAME_MAX && !name.chars().any(char::is_control)
}

fn role_is_sane(name: &str) -> bool {
    name.len() <= ROLE_MAX
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

fn role_is_reserved(name: &str) -> bool {
    name.strip_prefix(['l', 'm']).is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit()))
}
