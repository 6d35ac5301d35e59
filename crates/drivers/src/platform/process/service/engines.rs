//! PostgreSQL's programs by major version, and what they were built with.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use super::super::binaries::{Binaries, find_binaries};
use crate::platform::{PlatformError, PlatformErrorKind};

/// The programs of this version: where the operator says, where distributions put them, what PATH leads to.
pub(super) async fn find(told: &BTreeMap<u16, PathBuf>, major: u16) -> Result<Binaries, PlatformError> {
    let mut places: Vec<PathBuf> = told.get(&major).cloned().into_iter().collect();
    if places.is_empty() {
        places.push(format!("/usr/lib/postgresql/{major}/bin").into());
        places.push(format!("/usr/pgsql-{major}/bin").into());
        places.extend(find_binaries(None).ok().map(|binaries| binaries.dir));
    }
    for place in &places {
        if let Ok(binaries) = find_binaries(Some(place))
            && version(&binaries).await == Some(major)
        {
            return Ok(binaries);
        }
    }
    let looked: Vec<String> = places.iter().map(|place| place.display().to_string()).collect();
    Err(PlatformError::new(
        PlatformErrorKind::Unsupported,
        format!(
            "PostgreSQL {major} is not on this machine (looked in {}): apt-get install postgresql-{major}, or say where its \
             programs are",
            looked.join(", ")
        ),
    ))
}

async fn version(binaries: &Binaries) -> Option<u16> {
    let said = output(Command::new(binaries.tool("postgres")).arg("--version")).await?;
    said.split_whitespace().nth(2)?.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

pub(super) async fn must_have_tls(binaries: &Binaries) -> Result<(), PlatformError> {
    let mut postgres = Command::new(binaries.tool("postgres"));
    postgres.args(["-C", "ssl_library", "-D", "/", "-c", "config_file=/dev/null"]);
    let library = output(&mut postgres).await.unwrap_or_default();
    match library.trim().is_empty() {
        false => Ok(()),
        true => Err(PlatformError::new(
            PlatformErrorKind::Unsupported,
            format!(
                "PostgreSQL in {} was built without TLS, and a managed server speaks nothing else over the network: install \
                 a build with OpenSSL (Debian's are)",
                shown(&binaries.dir)
            ),
        )),
    }
}

fn shown(dir: &Path) -> String {
    dir.display().to_string()
}

async fn output(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).output().await.ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}
