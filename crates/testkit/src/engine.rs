//! Finds PostgreSQL of one major version, and PgBouncer of one version. Absent: installing them; `make engines` does.

use std::path::PathBuf;
use std::process::Command;

use nix::unistd::{Uid, User};

/// The directory with `postgres` and `initdb` of this major version.
pub fn engine(version: u32) -> PathBuf {
    places(version).into_iter().find(|bin| is_version(bin, version)).unwrap_or_else(|| {
        panic!("PostgreSQL {version} is not on this machine; run `make engines`, or say where it is in FREEHOLD_PG{version}_BIN")
    })
}

/// The `pgbouncer` of this version: `1.18`, `1.24`.
pub fn pooler_engine(version: &str) -> PathBuf {
    let variable = format!("FREEHOLD_PGBOUNCER_{}", version.replace('.', "_"));
    let places = match env(&variable) {
        Some(told) => vec![told],
        None => {
            let ours = homes().map(|home| home.join(format!("pgbouncer-{version}/bin/pgbouncer")));
            [PathBuf::from("/usr/sbin/pgbouncer")].into_iter().chain(ours).collect()
        }
    };
    let is_it = |program: &PathBuf| {
        let said = output(Command::new(program).arg("--version")).unwrap_or_default();
        said.strip_prefix("PgBouncer ").is_some_and(|number| number.starts_with(&format!("{version}.")))
    };
    places.into_iter().find(is_it).unwrap_or_else(|| {
        panic!(
            "PgBouncer {version} is not on this machine; run `make engines`, or say where the program is in {variable}"
        )
    })
}

/// Where Node finds node-postgres: for `NODE_PATH`.
pub fn node_postgres() -> PathBuf {
    let places = homes().map(|home| home.join("node-postgres/share/nodejs"));
    let found = places.into_iter().find(|place| place.join("pg/package.json").exists());
    found.unwrap_or_else(|| panic!("node-postgres is not on this machine; run `make engines`"))
}

fn env(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).map(PathBuf::from)
}

/// Where `scripts/engines` puts what no package installs.
fn homes() -> impl Iterator<Item = PathBuf> {
    let homes = [
        env("FREEHOLD_ENGINES"),
        Some("/var/cache/freehold-engines".into()),
        env("XDG_CACHE_HOME").map(|cache| cache.join("freehold-engines")),
        env("HOME").map(|home| home.join(".cache/freehold-engines")),
    ];
    homes.into_iter().flatten()
}

fn places(version: u32) -> Vec<PathBuf> {
    if let Some(told) = env(&format!("FREEHOLD_PG{version}_BIN")) {
        return vec![told];
    }
    let mut places = vec![PathBuf::from(format!("/usr/lib/postgresql/{version}/bin"))];
    places.extend(homes().map(|home| home.join(version.to_string()).join("bin")));
    places.extend(output(Command::new("pg_config").arg("--bindir")).map(PathBuf::from));
    places
}

fn is_version(bin: &std::path::Path, version: u32) -> bool {
    let said = output(Command::new(bin.join("postgres")).arg("--version")).unwrap_or_default();
    let number = said.split_whitespace().nth(2).unwrap_or_default();
    number.split(|c: char| !c.is_ascii_digit()).next() == Some(&version.to_string())
}

/// The first line of what a program prints, if it succeeds.
fn output(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).lines().next()?.to_owned())
}

/// Who PostgreSQL runs as where the test is root, which PostgreSQL refuses to be.
pub fn unprivileged_user() -> Option<User> {
    if !Uid::effective().is_root() {
        return None;
    }
    let found = ["postgres", "nobody"].into_iter().find_map(|name| User::from_name(name).ok().flatten());
    Some(found.expect("the test is root, PostgreSQL refuses to be, and there is neither a user postgres nor nobody"))
}
